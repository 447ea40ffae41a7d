"""The engine: a slide, a model and a region in, labels out as they are finished.

Every pixel's value depends on the slide, the model and the settings alone: the view, a
shape and the whole slide agree. `napari_hspnet.inference.run` does the work.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from napari_hspnet.classes import NOT_RUN
from napari_hspnet.errors import CancelledError, ResolutionError
from napari_hspnet.inference.forward import Forward
from napari_hspnet.inference.plan import Plan, make_plan
from napari_hspnet.inference.predictors import check_backend, predictor_for
from napari_hspnet.inference.progress import Progress
from napari_hspnet.inference.run import CHUNK, Run
from napari_hspnet.inference.settings import (
    Settings,
    choose_device,
    default_batch,
    describe_device,
)
from napari_hspnet.inference.stream import Sink
from napari_hspnet.inference.tiles import GridReader, TileReader
from napari_hspnet.inference.tissue import TissueMap
from napari_hspnet.networks import LoadedModel
from napari_hspnet.slides import LabelGrid, Region, SlideInfo

__all__ = ["CHUNK", "COARSEST", "Sink", "SlideLike", "Summary", "prepare", "run_plan", "segment"]

COARSEST = 2.0
"""A slide may be this many times coarser than the model, no more."""


class SlideLike(GridReader, Protocol):
    """What the engine needs of a slide."""

    @property
    def info(self) -> SlideInfo: ...


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes
    ----------
    windows : int
        Network inputs that were run.
    seconds : float
        Wall time, planning included.
    device : str
        As in `describe_device`.
    batch : int
        Windows at a time at the end (halved when memory ran out).
    area_mm2 : dict of int to float
        By class value 0 to 4, and 253, 254: what was asked for and is not 255.
    backend : str
        What ran the network at the end, see `napari_hspnet.inference.predictors`.
    notes : tuple of str
        How that was chosen, and what failed.
    """

    windows: int
    seconds: float
    device: str
    batch: int
    area_mm2: dict[int, float]
    backend: str = "eager"
    notes: tuple[str, ...] = ()


def prepare(
    slide: SlideLike,
    model_mpp: float,
    region: Region,
    settings: Settings,
    tissue: TissueMap | None = None,
    cancel: threading.Event | None = None,
) -> Plan:
    """Plan a run on a slide, tissue included (reads the slide at low resolution).

    Parameters
    ----------
    slide : Slide
        An open slide.
    model_mpp : float
        µm per pixel that the model was made for, hence of the label grid.
    region : Region
        What to segment.
    settings : Settings
        With ``tissue_mask`` windows without tissue are left out.
    tissue : TissueMap, optional
        Of this slide, to save reading it again.
    cancel : threading.Event, optional
        Ends the planning when set.

    Raises
    ------
    CancelledError
        If cancelled.
    ResolutionError
        If the slide's resolution is unknown, or over twice as coarse as the model's.
    RegionError
        If the region lies outside the slide.
    """
    info = slide.info
    coarsest = max(info.require_mpp())
    if coarsest > COARSEST * model_mpp:
        raise ResolutionError(
            f"The slide has {coarsest:.3g} µm per pixel, too coarse for a model made for "
            f"{model_mpp:.3g}",
            advice=f"Use a slide of {COARSEST * model_mpp:.3g} µm per pixel or finer; "
            "if its resolution is misstated, say the right one",
            path=info.path,
        )
    grid = LabelGrid.of(info, model_mpp)
    if not settings.tissue_mask:
        return make_plan(grid, region, settings)
    tissue = tissue or TissueMap(slide.read_grid, grid)

    def gate(y: int, window: int, xs: npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        if cancel is not None and cancel.is_set():
            raise CancelledError
        return tissue.gate(y, window, xs)

    return make_plan(grid, region, settings, gate)


def segment(
    slide: SlideLike,
    model: LoadedModel,
    region: Region,
    sink: Sink,
    *,
    settings: Settings | None = None,
    device: str = "auto",
    batch: int | None = None,
    backend: str = "eager",
    backend_cache: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Summary:
    """Segment a region of a slide (paper, section 4.5).

    Parameters
    ----------
    slide : Slide
        Read from several threads.
    model : LoadedModel
        Network and card.
    region : Region
        What to segment; its halo is read and run as needed.
    sink : Sink
        Takes finished blocks as they are finished.
    settings : Settings, optional
        Default: the card's window, stride 100, Gauss-like blending.
    device : str
        "auto", "cpu", "cuda", "mps", …
    batch : int, optional
        Windows at a time; halved, and halved again, when memory runs out.
    backend : str
        What runs the network: "eager", another of
        `napari_hspnet.inference.predictors.BACKENDS`, or "auto", the one that is
        measured to be fastest here. All give the same labels.
    backend_cache : Path, optional
        Folder in which "auto" keeps what it measured.
    progress : callable, optional
        Called from this thread about ten times a second at most.
    cancel : threading.Event, optional
        Ends the run within a second when set.

    Raises
    ------
    CancelledError
        If cancelled. What the sink has got is then incomplete.
    SlideReadError
        If a tile cannot be read and ``settings.skip_unreadable`` is not set.
    ResolutionError, RegionError, DeviceError, OutOfMemoryError
        As their names say.
    InputError
        If there is no back end of this name.
    """
    check_backend(backend)
    settings = settings or Settings(window=model.card.window)
    begun = time.monotonic()
    if progress is not None:
        progress(Progress("Finding tissue", 0, 0, 0.0, None))
    plan = prepare(slide, model.card.mpp, region, settings, cancel=cancel)
    summary = run_plan(
        slide,
        model,
        plan,
        sink,
        device=device,
        batch=batch,
        backend=backend,
        backend_cache=backend_cache,
        progress=progress,
        cancel=cancel,
    )
    return replace(summary, seconds=time.monotonic() - begun)


def run_plan(
    slide: SlideLike,
    model: LoadedModel,
    plan: Plan,
    sink: Sink,
    *,
    device: str = "auto",
    batch: int | None = None,
    threads: int | None = None,
    preview: bool = False,
    backend: str = "eager",
    backend_cache: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    reached: Callable[[int, int], None] | None = None,
    scratch: Path | None = None,
) -> Summary:
    """Carry out a plan; see `segment`.

    Parameters
    ----------
    preview : bool
        Whether labels are also streamed before they are final, for someone who
        watches: a first look over all of it from the centre outwards, then each row of
        windows as it is run, beginning near the centre. The final labels, which are
        the same, replace them.
    threads : int, optional
        That read the slide; by default one less than the processors, four at most.
    reached : callable (first column of a band, row), optional
        Called from the sink's thread when it has been given all of a band above a row:
        a multiple of `CHUNK`, or the plan's end. `Plan.rest` goes on from there.
    scratch : Path, optional
        Folder for a file, gone when the run ends or is killed, of up to 1 GiB, where the
        slide is wider than a band; without, where the system has such files.
    """
    target = choose_device(device)
    begun = time.monotonic()
    run = Run(
        plan,
        channels=model.card.num_classes,
        batch=batch or default_batch(target),
        sink=sink,
        progress=progress,
        cancel=cancel or threading.Event(),
        device=target,
        preview=preview,
        reached=reached,
        scratch=scratch,
    )
    count = threads or max(1, min(4, (os.cpu_count() or 2) - 1))
    if backend == "auto" and progress is not None:
        progress(Progress("Choosing what runs the model", 0, 0, 0.0, None))
    predictor = predictor_for(
        backend,
        model.network,
        model.card,
        target,
        window=plan.settings.window,
        precision=plan.settings.precision,
        cancel=run.cancel,
        batch=run.batch,
        cache_folder=backend_cache,
    )
    with (
        torch.inference_mode(),
        TileReader(slide, plan.grid.mpp, count, plan.settings.skip_unreadable) as reader,
        Forward.of(predictor) as forward,
    ):
        run.carry_out(reader, forward)
    pixel = (plan.grid.mpp / 1000.0) ** 2
    return Summary(
        run.done,
        time.monotonic() - begun,
        describe_device(target),
        run.batch,
        {int(v): int(n) * pixel for v, n in enumerate(run.histogram) if n and v != NOT_RUN},
        predictor.used,
        predictor.notes,
    )
