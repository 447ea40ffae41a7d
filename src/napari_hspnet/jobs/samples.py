"""The real slide that the package carries."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from napari_hspnet.errors import SlideError

__all__ = ["sample_slide_path"]


def sample_slide_path() -> Path:
    """CMU-1-Small-Region.svs, CC0: H&E of skin, x20, 2220 x 2967 px.

    Raises
    ------
    SlideError
        If this copy of the package has none.
    """
    path = Path(str(resources.files("napari_hspnet") / "data" / "CMU-1-Small-Region.svs"))
    if not path.is_file():
        raise SlideError(
            "This copy of napari-hspnet has no sample slide",
            advice="Install it again, or open a slide of your own",
            path=path,
        )
    return path
