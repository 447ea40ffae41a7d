"""What the canvas shows in µm, and going to a place or a magnification."""

from __future__ import annotations

import math
from typing import Any

from napari_hspnet._qt.slots import into_napari
from napari_hspnet.slides import PixelBox, SlideInfo

__all__ = [
    "View",
    "clipped",
    "go_to",
    "label_box",
    "set_objective",
    "show_box",
    "slide_extent",
    "view_of",
]

View = tuple[float, float, float, float]
"""(y0, x0, y1, x1) in world units, µm where the resolution is known."""


def view_of(viewer: Any) -> View:
    """What is on the canvas; napari's `corner_pixels` is grown to chunk borders."""
    y, x = viewer.scene.camera.center[-2:]
    height, width = viewer.canvas.size
    zoom = max(viewer.scene.camera.zoom, 1e-12)
    half_y, half_x = height / (2 * zoom), width / (2 * zoom)
    return (y - half_y, x - half_x, y + half_y, x + half_x)


def set_objective(viewer: Any, power: float) -> None:
    """Zoom so that the screen shows what an objective of this power would."""
    with into_napari():
        viewer.scene.camera.zoom = power / 10.0


def go_to(viewer: Any, y: float, x: float) -> None:
    """Bring a place to the middle of the canvas."""
    with into_napari():
        viewer.scene.camera.center = (*viewer.scene.camera.center[:-2], y, x)


def show_box(viewer: Any, view: View, margin: float = 1.05) -> None:
    """Fit a box into the canvas."""
    height, width = viewer.canvas.size
    y0, x0, y1, x1 = view
    with into_napari():
        viewer.scene.camera.zoom = min(height / (y1 - y0), width / (x1 - x0)) / margin
    go_to(viewer, (y0 + y1) / 2, (x0 + x1) / 2)


def slide_extent(info: SlideInfo) -> tuple[float, float]:
    """(height, width) of a slide in world units."""
    mpp_y, mpp_x = info.mpp or (1.0, 1.0)
    return info.shape[0] * mpp_y, info.shape[1] * mpp_x


def clipped(view: View, info: SlideInfo) -> View | None:
    """The part of a view that lies on the slide; None where there is none."""
    height, width = slide_extent(info)
    y0, x0 = max(0.0, view[0]), max(0.0, view[1])
    y1, x1 = min(height, view[2]), min(width, view[3])
    return (y0, x0, y1, x1) if y1 > y0 and x1 > x0 else None


def label_box(view: View, mpp: float) -> PixelBox:
    """The label pixels that a view touches."""
    y0, x0, y1, x1 = view
    return PixelBox(
        math.floor(y0 / mpp), math.floor(x0 / mpp), math.ceil(y1 / mpp), math.ceil(x1 / mpp)
    )
