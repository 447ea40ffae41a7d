"""The inference engine: tissue, windows, blending, streaming."""

from napari_hspnet.inference.engine import (
    Sink,
    SlideLike,
    Summary,
    prepare,
    run_plan,
    segment,
)
from napari_hspnet.inference.plan import Plan, make_plan
from napari_hspnet.inference.progress import Progress
from napari_hspnet.inference.settings import Settings, choose_device, describe_device
from napari_hspnet.inference.tissue import TISSUE_MPP, TissueMap, tissue_pixels

__all__ = [
    "TISSUE_MPP",
    "Plan",
    "Progress",
    "Settings",
    "Sink",
    "SlideLike",
    "Summary",
    "TissueMap",
    "choose_device",
    "describe_device",
    "make_plan",
    "prepare",
    "run_plan",
    "segment",
    "tissue_pixels",
]
