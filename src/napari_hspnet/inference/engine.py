"""The engine: windows read ahead, run, blended in strips, streamed out as labels.

Memory is bounded by the strip (one window high, one band wide) and the tiles
that it meets, never by the slide. Every pixel's value depends on the slide, the
model and the settings alone: the view, a shape and the whole slide agree.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from napari_hspnet.classes import NOT_RUN, SKIPPED, UNREADABLE
from napari_hspnet.errors import CancelledError, OutOfMemoryError, ResolutionError
from napari_hspnet.inference.accumulate import Strip, StripRows
from napari_hspnet.inference.blend import gaussian_weights
from napari_hspnet.inference.feed import Feed, Window
from napari_hspnet.inference.forward import Forward
from napari_hspnet.inference.plan import Band, Plan, make_plan
from napari_hspnet.inference.predictors import check_backend, predictor_for
from napari_hspnet.inference.progress import Progress, RateMeter
from napari_hspnet.inference.settings import (
    Settings,
    choose_device,
    default_batch,
    describe_device,
)
from napari_hspnet.inference.stream import Sink, Writer
from napari_hspnet.inference.tiles import GridReader, TileReader
from napari_hspnet.inference.tissue import TissueMap
from napari_hspnet.networks import LoadedModel
from napari_hspnet.slides import GRID_TILE, LabelBlock, LabelGrid, PixelBox, Region, SlideInfo

__all__ = ["CHUNK", "COARSEST", "Sink", "SlideLike", "Summary", "prepare", "run_plan", "segment"]

CHUNK = 512
"""Blocks never cross multiples of this many label pixels."""

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
) -> Summary:
    """Carry out a plan; see `segment`.

    Parameters
    ----------
    preview : bool
        Whether rows are also streamed before all windows that cover them have
        been run, so that something is seen after the first row of windows; the
        final rows replace them.
    threads : int, optional
        That read the slide; by default one less than the processors, four at most.
    reached : callable (first column of a band, row), optional
        Called from the sink's thread when it has been given all of a band above a row:
        a multiple of `CHUNK`, or the plan's end. `Plan.rest` goes on from there.
    """
    target = choose_device(device)
    begun = time.monotonic()
    run = _Run(
        plan,
        channels=model.card.num_classes,
        batch=batch or default_batch(target),
        sink=sink,
        progress=progress,
        cancel=cancel or threading.Event(),
        device=target,
        preview=preview,
        reached=reached,
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


class _Run:
    """One run's moving parts, band after band."""

    def __init__(
        self,
        plan: Plan,
        *,
        channels: int,
        batch: int,
        sink: Sink,
        progress: Callable[[Progress], None] | None,
        cancel: threading.Event,
        device: torch.device,
        preview: bool,
        reached: Callable[[int, int], None] | None,
    ) -> None:
        self.plan = plan
        self._preview = preview
        self._reached = reached
        self.batch = batch
        self.cancel = cancel
        self.done = 0
        self.histogram = np.zeros(256, dtype=np.int64)
        self._channels = channels
        self._sink = sink
        self._progress = progress
        self._meter = RateMeter()
        self._reported = 0.0
        window = plan.settings.window
        weights = (
            gaussian_weights(window, plan.settings.effective_sigma)
            if plan.settings.blend == "gaussian"
            else np.ones((window, window), dtype=np.float32)
        )
        self._weights = torch.from_numpy(weights).to(device)

    def carry_out(self, reader: TileReader, forward: Forward) -> None:
        with Writer(self._sink) as writer:
            for band in self.plan.bands:
                reader.forget()
                self._band(band, reader, forward, writer)
        self._report(final=True)

    def _band(self, band: Band, reader: TileReader, forward: Forward, writer: Writer) -> None:
        plan = self.plan
        window = plan.settings.window
        strip = Strip(self._channels, window, band.x1 - band.x0, self._weights)
        finished = max(plan.box.y0, band.finished)
        row, reached = 0, 0
        with Feed(plan, band, reader, self.cancel) as feed:
            for windows, pixels in feed.batches(lambda: self.batch):
                logits = self._forward(forward, pixels)
                for index, place in enumerate(windows):
                    if place.row != row:
                        finished = self._finish(strip, band, finished, place.y, reader, writer)
                        if self._preview:
                            self._finish(strip, band, finished, reached, reader, writer, False)
                        row = place.row
                    strip.begin(place.y)
                    reached = place.y + window
                    strip.add(
                        logits[index],
                        place.y,
                        place.x - band.x0,
                        *self._counted(band, place),
                    )
                self.done += len(windows)
                self._report()
        self._finish(strip, band, finished, plan.box.y1, reader, writer)

    def _counted(self, band: Band, place: Window) -> tuple[slice, slice]:
        """What of a window counts, in its own pixels."""
        window, height = self.plan.settings.window, self.plan.grid.shape[0]
        if self.plan.settings.blend == "gaussian":
            return slice(0, min(window, height - place.y)), slice(0, window)
        rows = self.plan.own[place.row] - place.y
        columns = band.own[place.column] - place.x
        return (
            slice(int(rows[0]), min(int(rows[1]), height - place.y)),
            slice(int(columns[0]), int(columns[1])),
        )

    def _forward(self, forward: Forward, pixels: torch.Tensor) -> torch.Tensor:
        """Logits of a batch, in halves where it does not fit."""
        while True:
            try:
                parts = [forward.logits(part) for part in torch.split(pixels, self.batch)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except OutOfMemoryError:
                if self.batch == 1:
                    raise
                self.batch = max(1, self.batch // 2)

    def _finish(
        self,
        strip: Strip,
        band: Band,
        y0: int,
        y1: int,
        reader: TileReader,
        writer: Writer,
        final: bool = True,
    ) -> int:
        """Stream out the rows [y0, y1), cut at chunk borders; returns where to go on."""
        y_end = self.plan.box.y1
        y1 = min(y1, y_end)
        while y0 < y1:
            stop = min(y1, (y0 // CHUNK + 1) * CHUNK)
            rows = strip.finish(y0, stop)
            self._stream(rows, band, y0, stop, reader, writer, final)
            y0 = stop
            if final and self._reached is not None and y0 in (y0 // CHUNK * CHUNK, y_end):
                writer.then(partial(self._reached, band.x0, y0))
        return y0

    def _stream(
        self,
        rows: StripRows,
        band: Band,
        y0: int,
        y1: int,
        reader: TileReader,
        writer: Writer,
        final: bool,
    ) -> None:
        _mark_unreadable(rows, y0, band.x0, reader)
        mask = self.plan.region.mask(PixelBox(y0, band.x0, y1, band.x1), self.plan.grid)
        if mask is not None:
            rows.classes[~mask] = NOT_RUN
            rows.score[~mask] = 0
            rows.high[~mask] = 0
        if final:
            self.histogram += np.bincount(rows.classes.ravel(), minlength=256)
        else:
            rows.classes[rows.classes == SKIPPED] = NOT_RUN
        x0 = band.x0
        while x0 < band.x1:
            x1 = min(band.x1, (x0 // CHUNK + 1) * CHUNK)
            columns = slice(x0 - band.x0, x1 - band.x0)
            classes = rows.classes[:, columns]
            if (classes != NOT_RUN).any():
                writer.put(
                    LabelBlock(y0, x0, classes, rows.score[:, columns], rows.high[:, columns])
                )
            x0 = x1

    def _report(self, final: bool = False) -> None:
        now = time.monotonic()
        if self._progress is not None and (final or now - self._reported > 0.1):
            self._reported = now
            self._progress(self._meter.report("Segmenting", self.done, self.plan.windows))


def _mark_unreadable(rows: StripRows, y0: int, x0: int, reader: TileReader) -> None:
    height, width = rows.classes.shape
    for ty, tx in reader.unreadable:
        ys = slice(max(0, ty * GRID_TILE - y0), max(0, min(height, (ty + 1) * GRID_TILE - y0)))
        xs = slice(max(0, tx * GRID_TILE - x0), max(0, min(width, (tx + 1) * GRID_TILE - x0)))
        rows.classes[ys, xs] = UNREADABLE
        rows.score[ys, xs] = 0
        rows.high[ys, xs] = 0
