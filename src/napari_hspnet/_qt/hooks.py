"""What napari calls: the reader, the samples, the dock."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["get_reader", "open_phantom_sample", "open_slide_sample"]

LayerData = tuple[Any, dict[str, Any], str]

SLIDE_SUFFIXES = (
    ".svs",
    ".tif",
    ".tiff",
    ".ndpi",
    ".mrxs",
    ".scn",
    ".bif",
    ".svslide",
    ".vms",
    ".vmu",
    ".czi",
    ".dcm",
)

PHANTOM_NAME = "phantom"


def get_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """A reader where all the paths look like slides; None leaves them to others."""
    paths = [path] if isinstance(path, str) else list(path)
    known = all(str(p).lower().endswith(SLIDE_SUFFIXES) for p in paths)
    return read_slides if paths and known else None


def read_slides(path: str | Sequence[str]) -> list[LayerData]:
    """Layer data of one slide or several; no pixels are read.

    Raises
    ------
    SlideError
        If a file is no slide, or damaged.
    """
    from napari_hspnet._qt.slide_layer import slide_layer_data
    from napari_hspnet.slides import open_slide

    paths = [path] if isinstance(path, str) else list(path)
    return [slide_layer_data(open_slide(Path(p))) for p in paths]


def open_slide_sample() -> list[LayerData]:
    """The real slide that the package carries (CC0)."""
    from napari_hspnet.jobs.samples import sample_slide_path

    return read_slides(str(sample_slide_path()))


def phantom_path() -> Path:
    """Where the phantom sample lies in the user's cache; it need not exist yet."""
    import platformdirs

    from napari_hspnet.phantom import sample_spec

    cache = Path(platformdirs.user_cache_dir("napari-hspnet", appauthor=False))
    # What it looks like may change with the specification, and so its name.
    mark = re.sub(r"\W", "", f"{sample_spec().width}x{sample_spec().height}s{sample_spec().seed}")
    return cache / "samples" / f"{PHANTOM_NAME}-{mark}.tiff"


def open_phantom_sample() -> list[LayerData]:
    """A synthetic cervical slide, made in the user's cache the first time."""
    path = phantom_path()
    if not path.is_file():
        from napari_hspnet._qt.sample_maker import make_phantom_meanwhile

        make_phantom_meanwhile(path)
    return read_slides(str(path))
