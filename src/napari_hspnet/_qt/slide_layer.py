"""A slide as napari layer data, and how its layer is known again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from napari_hspnet.errors import SlideReadError
from napari_hspnet.slides import Slide, display_pyramid

__all__ = ["KEY", "MICROMETRES", "PIXELS", "mark", "placement", "slide_layer_data", "slide_of"]

KEY = "napari_hspnet"
"""Key in a layer's metadata that marks the layers of this plugin."""

MICROMETRES = ("micrometer", "micrometer")
PIXELS = ("pixel", "pixel")


def mark(kind: str, fingerprint: str, case: Path | None) -> dict[str, Any]:
    """Metadata of a layer that shows labels of a case.

    Parameters
    ----------
    kind : {"overlay", "veil", "changes", "edit"}
        What it shows.
    fingerprint : str
        Its slide's.
    case : Path or None
        The case's folder: saving the layer saves what the case holds.
    """
    return {KEY: {"kind": kind, "of": fingerprint, "case": "" if case is None else str(case)}}


class _OnceTeller:
    """One notification for a slide, however many of its tiles cannot be read."""

    def __init__(self) -> None:
        self._told = False
        self._lock = threading.Lock()

    def __call__(self, error: SlideReadError) -> None:
        with self._lock:
            if self._told:
                return
            self._told = True
        from napari.utils.notifications import show_warning

        from napari_hspnet._qt.tell import sentence

        show_warning(f"{sentence(error)} The gap is hatched; the rest is shown.")


def placement(slide: Slide) -> dict[str, Any]:
    """Scale, translation and units of the slide's image layer."""
    mpp = slide.info.mpp
    y, x = mpp or (1.0, 1.0)
    return {
        "scale": (y, x),
        "translate": (y / 2, x / 2),
        "units": PIXELS if mpp is None else MICROMETRES,
    }


def slide_layer_data(slide: Slide) -> tuple[list[Any], dict[str, Any], str]:
    """What napari adds as the slide's layer; no pixels are read."""
    pyramid = display_pyramid(slide, on_error=_OnceTeller())
    about = {
        "name": slide.info.name,
        "rgb": True,
        "multiscale": True,
        "metadata": {KEY: {"kind": "slide", "slide": slide, "computed": pyramid.computed}},
        **placement(slide),
    }
    return pyramid.levels, about, "image"


def slide_of(layer: Any) -> Slide | None:
    """The open slide behind a layer; None for any other layer."""
    marks = layer.metadata.get(KEY)
    if not isinstance(marks, dict) or marks.get("kind") != "slide":
        return None
    slide = marks.get("slide")
    return slide if isinstance(slide, Slide) else None
