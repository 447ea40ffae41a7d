"""Slides: opening, reading, the label grid and regions."""

from napari_hspnet.slides.grid import LABEL_MPP, LabelBlock, LabelGrid
from napari_hspnet.slides.lazy import LazyLabels
from napari_hspnet.slides.pyramid import DisplayPyramid, display_pyramid
from napari_hspnet.slides.region import PixelBox, Region
from napari_hspnet.slides.resample import GRID_TILE, LEVEL_TOLERANCE
from napari_hspnet.slides.slide import PHANTOM_MARKER, Slide, open_slide, with_mpp
from napari_hspnet.slides.types import MPP_MAX, MPP_MIN, Bounds, Level, SlideInfo

__all__ = [
    "GRID_TILE",
    "LABEL_MPP",
    "LEVEL_TOLERANCE",
    "MPP_MAX",
    "MPP_MIN",
    "PHANTOM_MARKER",
    "Bounds",
    "DisplayPyramid",
    "LabelBlock",
    "LabelGrid",
    "LazyLabels",
    "Level",
    "PixelBox",
    "Region",
    "Slide",
    "SlideInfo",
    "display_pyramid",
    "open_slide",
    "with_mpp",
]
