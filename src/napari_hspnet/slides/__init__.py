"""Slides: opening, reading, the label grid and regions."""

from napari_hspnet.slides.grid import LABEL_MPP, LabelBlock, LabelGrid
from napari_hspnet.slides.region import PixelBox, Region
from napari_hspnet.slides.types import Bounds, Level, SlideInfo

__all__ = [
    "LABEL_MPP",
    "Bounds",
    "LabelBlock",
    "LabelGrid",
    "Level",
    "PixelBox",
    "Region",
    "SlideInfo",
]
