"""What reads slide files: one module a library, behind one small protocol."""

from napari_hspnet.slides.backends.base import Backend, Contents, Refusal, StoredLevel

__all__ = ["Backend", "Contents", "Refusal", "StoredLevel"]
