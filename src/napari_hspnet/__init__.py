"""HSP-Net in napari: segment, review and export cervical precancer on slides.

Research use only.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("napari-hspnet")
except PackageNotFoundError:  # a source tree that was never installed (the GPU machine)
    __version__ = "0.1.0+source"

__all__ = ["__version__"]
