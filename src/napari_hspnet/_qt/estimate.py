"""How many windows a run needs and about how long they take. Knows no window."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_hspnet._qt.words import about_seconds, windows_text
from napari_hspnet.slides import Region, Slide, SlideInfo

if TYPE_CHECKING:
    from napari_hspnet.inference import Plan, TissueMap
    from napari_hspnet.networks import LoadedModel

__all__ = ["COARSEST", "Estimate", "coarse_problem", "estimate", "estimate_text"]

COARSEST = 2.0
"""The engine refuses slides this many times coarser than the model."""


@dataclass(frozen=True)
class Estimate:
    """What a run will need.

    Attributes
    ----------
    windows : int
        Windows that hold tissue.
    region : Region
        For which region.
    plan : Plan
        The plan itself, which a run of the same region can use.
    model_sha256 : str
        For which model.
    mode : str
        In which mode.
    """

    windows: int
    region: Region
    plan: Plan
    model_sha256: str
    mode: str


def estimate(
    slide: Slide,
    model: LoadedModel,
    region: Region,
    tissue: TissueMap | None,
    cancel: threading.Event,
    mode: str = "exact",
) -> Estimate:
    """Plan a run without starting it; reads the slide at low resolution.

    Raises
    ------
    CancelledError
        If cancelled.
    RegionError
        If the region lies outside the slide.
    ResolutionError
        If the slide is too coarse for the model.
    """
    from napari_hspnet.inference import prepare
    from napari_hspnet.inference.modes import mode_settings

    settings = mode_settings(mode, model.card.window)
    plan = prepare(slide, model.card.mpp, region, settings, tissue=tissue, cancel=cancel)
    return Estimate(plan.windows, region, plan, model.sha256, mode)


def estimate_text(windows: int, rate: float | None) -> str:
    """ "1,482 windows · about 12 s"."""
    if windows == 0:
        return "No tissue found here"
    if rate is None:
        return windows_text(windows)
    # Opening the case, reading the first tiles and writing the last blocks.
    return f"{windows_text(windows)} · {about_seconds(0.5 + windows * rate)}"


def coarse_problem(info: SlideInfo, model_mpp: float) -> str:
    """Why a slide is too coarse for a model; empty where it is not."""
    if info.mpp is None or max(info.mpp) <= COARSEST * model_mpp:
        return ""
    return (
        f"This slide has {max(info.mpp):.3g} µm per pixel, too coarse for a model made for "
        f"{model_mpp:.3g}. It can be viewed, not segmented."
    )
