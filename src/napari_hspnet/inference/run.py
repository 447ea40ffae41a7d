"""One run: windows read ahead, run, blended in strips, streamed out as labels.

Memory is bounded by the strip (one window high, one band wide), the tiles that it
meets and, for someone who watches, some logits; never by the slide.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_hspnet.classes import NOT_RUN, SKIPPED, UNREADABLE
from napari_hspnet.errors import OutOfMemoryError
from napari_hspnet.inference.accumulate import Strip, StripRows, labelled
from napari_hspnet.inference.blend import gaussian_weights
from napari_hspnet.inference.feed import Feed, Window, row_by_row
from napari_hspnet.inference.first import Look, Part, first_looks, keepable, parts_of
from napari_hspnet.inference.forward import Forward
from napari_hspnet.inference.plan import Band, Plan, shared
from napari_hspnet.inference.progress import Progress, RateMeter
from napari_hspnet.inference.shelf import Shelf
from napari_hspnet.inference.stream import Sink, Writer
from napari_hspnet.inference.tiles import TileReader, tiles_of_window
from napari_hspnet.slides import GRID_TILE, LabelBlock, PixelBox

__all__ = ["CHUNK", "Run"]

CHUNK = 512
"""Blocks never cross multiples of this many label pixels."""

_TILES_AHEAD = 128
"""Tiles that the first look may hold."""


@dataclass(frozen=True)
class _Border:
    """What a band has from its left neighbour, and what it keeps for its right one.

    Attributes
    ----------
    behind, ahead : Shelf
    given, needed : ndarray of bool
        Which windows the left one has run, and the right one needs; as `Band.active`.
    """

    behind: Shelf
    ahead: Shelf
    given: npt.NDArray[np.bool_]
    needed: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Going:
    """A part of a band that is being worked through, and where its labels go."""

    strip: Strip
    part: Part
    reader: TileReader
    writer: Writer
    reached: Callable[[int, int], None] | None


class Run:
    """One run's moving parts, band after band.

    Parameters
    ----------
    plan : Plan
    channels : int
        Of the logits.
    batch : int
        Windows at a time; halved when memory runs out.
    sink, progress, cancel, preview, reached, scratch
        See `napari_hspnet.inference.run_plan`.
    device : torch.device
        Where the strip lies.
    """

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
        scratch: Path | None,
    ) -> None:
        self.plan = plan
        self._scratch = scratch
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
        self._total = plan.windows
        self._kept: dict[tuple[int, int], Tensor] = {}
        window = plan.settings.window
        weights = (
            gaussian_weights(window, plan.settings.effective_sigma)
            if plan.settings.blend == "gaussian"
            else np.ones((window, window), dtype=np.float32)
        )
        self._weights = torch.from_numpy(weights).to(device)

    def carry_out(self, reader: TileReader, forward: Forward) -> None:
        """Run all windows and hand on all labels.

        Raises
        ------
        CancelledError, SlideReadError, OutOfMemoryError
            See `napari_hspnet.inference.run_plan`.
        """
        plan = self.plan
        with Writer(self._sink) as writer, closing(self._bands()) as bands:
            if not self._preview:
                for band, border in bands:
                    rows = Part(band, max(plan.box.y0, band.finished), plan.box.y1)
                    self._part(rows, border, reader, forward, writer, self._reached)
            else:
                most = keepable(self._channels, plan.settings.window)
                self._look(first_looks(plan, most), most, reader, forward, writer)
                for band, border in bands:
                    for part in parts_of(plan, band, most):
                        self._part(part, border, reader, forward, writer)
                    if self._reached is not None:
                        writer.then(partial(self._reached, band.x0, plan.box.y1))
        self._report(final=True)

    def _bands(self) -> Generator[tuple[Band, _Border], None, None]:
        """The bands, each with what it shares with its neighbours."""
        bands = self.plan.bands
        with ExitStack() as shelves:
            behind = shelves.enter_context(Shelf(self._scratch))
            for left, band, right in zip((None, *bands), bands, (*bands[1:], None), strict=False):
                ahead = shelves.enter_context(Shelf(self._scratch))
                none = np.zeros_like(band.active)
                given = none if left is None else shared(band, left)
                needed = none if right is None else shared(band, right)
                yield band, _Border(behind, ahead, given, needed)
                behind.close()
                behind = ahead

    def _look(
        self, looks: list[Look], most: int, reader: TileReader, forward: Forward, writer: Writer
    ) -> None:
        """Show all of it roughly; the logits of `most` windows are put by."""
        window = self.plan.settings.window
        self._total += max(0, len(looks) - most)

        def places() -> Iterator[Window]:
            for number, look in enumerate(looks):
                if reader.held > _TILES_AHEAD:
                    reader.forget()
                for near in looks[number : number + 3]:
                    reader.want(list(tiles_of_window(near.window.y, near.window.x, window)))
                yield look.window

        with closing(self._ran(places(), reader, forward)) as ran:
            for look, (place, logits) in zip(looks, ran, strict=True):
                if len(self._kept) < most:
                    self._kept[place.y, place.x] = logits.clone()
                box = look.box
                ys = slice(box.y0 - place.y, box.y1 - place.y)
                xs = slice(box.x0 - place.x, box.x1 - place.x)
                rows = labelled(logits.softmax(0)[:, ys, xs])
                self._stream(rows, box.y0, box.x0, reader, writer, final=False)

    def _part(
        self,
        part: Part,
        border: _Border,
        reader: TileReader,
        forward: Forward,
        writer: Writer,
        reached: Callable[[int, int], None] | None = None,
    ) -> None:
        """Finish some rows of a band, from top to bottom."""
        band = part.band
        strip = Strip(self._channels, self.plan.settings.window, band.x1 - band.x0, self._weights)
        going = _Going(strip, part, reader, writer, reached)
        finished, row = part.y0, -1
        with closing(self._logits(band, border, reader, forward)) as windows:
            for place, logits in windows:
                if place.row != row:
                    finished = self._finish(going, finished, place.y)
                    if self._preview and row >= 0:
                        self._show(going, row, finished)
                    row = place.row
                strip.begin(place.y)
                strip.add(logits, place.y, place.x - band.x0, *self._counted(band, place))
                if border.needed[place.row, place.column]:
                    border.ahead.put((place.y, place.x), logits, band.x1 - place.x)
                if place.row in part.keep:
                    self._kept[place.y, place.x] = logits.clone()
        self._finish(going, finished, part.y1)
        reader.forget()

    def _logits(
        self, band: Band, border: _Border, reader: TileReader, forward: Forward
    ) -> Generator[tuple[Window, Tensor], None, None]:
        """Each window of a band in order, run now or before."""
        kept, missing = {}, band.active.copy()
        for place in self._places(band) if self._kept or border.given.any() else ():
            key = place.y, place.x
            if key in self._kept:
                kept[key] = self._kept.pop(key)
            elif key not in border.behind:
                continue
            missing[place.row, place.column] = False
        self._total += int((border.given & missing).sum())
        left = replace(band, active=missing)
        with closing(self._ran(row_by_row(self.plan, left, reader), reader, forward)) as ran:
            for place in self._places(band):
                key = place.y, place.x
                if missing[place.row, place.column]:
                    yield next(ran)
                else:
                    yield place, kept.pop(key) if key in kept else border.behind.take(key)

    def _places(self, band: Band) -> Iterator[Window]:
        """A band's active windows, in order."""
        for row, y in enumerate(self.plan.ys):
            for column in np.flatnonzero(band.active[row]):
                yield Window(row, int(column), int(y), int(band.xs[column]))

    def _ran(
        self, places: Iterator[Window], reader: TileReader, forward: Forward
    ) -> Generator[tuple[Window, Tensor], None, None]:
        """Windows with their logits, (c, window, window), as they are run.

        Where the device works by itself it has the next batch before one is looked at.
        """
        begun: deque[tuple[list[Window], Callable[[], Tensor]]] = deque()
        ahead = 1 if forward.ahead else 0

        def oldest() -> Iterator[tuple[Window, Tensor]]:
            windows, logits = begun.popleft()
            found = logits()
            self.done += len(windows)
            self._report()
            return zip(windows, found, strict=True)

        with Feed(places, self.plan.settings.window, reader, self.cancel) as feed:
            for windows, pixels in feed.batches(lambda: self.batch):
                begun.append((windows, self._begin(forward, pixels)))
                if len(begun) > ahead:
                    yield from oldest()
            while begun:
                yield from oldest()

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

    def _begin(self, forward: Forward, pixels: Tensor) -> Callable[[], Tensor]:
        """Have a batch's logits later; all that does not fit at once is left until then."""
        later = partial(self._forward, forward, pixels)
        if not forward.ahead or len(pixels) > self.batch:
            return later
        try:
            finish = forward.begin(pixels)
        except OutOfMemoryError:
            return later

        def logits() -> Tensor:
            try:
                return finish()
            except OutOfMemoryError:
                return later()

        return logits

    def _forward(self, forward: Forward, pixels: Tensor) -> Tensor:
        """Logits of a batch, in halves where it does not fit."""
        while True:
            try:
                parts = [forward.logits(part) for part in torch.split(pixels, self.batch)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except OutOfMemoryError:
                # What was put by is had again by running it again.
                if self._kept:
                    self._total += len(self._kept)
                    self._kept.clear()
                elif self.batch == 1:
                    raise
                self.batch = max(1, self.batch // 2)

    def _show(self, going: _Going, row: int, finished: int) -> None:
        """Stream out what a row of windows has reached and is not finished yet."""
        plan, band = self.plan, going.part.band
        window, y0 = plan.settings.window, max(finished, int(plan.ys[row]))
        y1 = min(int(plan.ys[row]) + window, going.part.y1)
        if y0 >= y1:
            return
        rows = going.strip.finish(y0, y1)
        # Only there: beside it a first look may be shown.
        for first, last in _spans(band.xs[band.active[row]], window):
            x0, x1 = max(first, band.x0), min(last, band.x1)
            columns = slice(x0 - band.x0, x1 - band.x0)
            seen = StripRows(*(m[:, columns] for m in (rows.classes, rows.score, rows.high)))
            self._stream(seen, y0, x0, going.reader, going.writer, final=False)

    def _finish(self, going: _Going, y0: int, y1: int) -> int:
        """Stream out the rows [y0, y1), cut at chunk borders; returns where to go on."""
        band, y_end = going.part.band, going.part.y1
        y1 = min(y1, y_end)
        while y0 < y1:
            stop = min(y1, (y0 // CHUNK + 1) * CHUNK)
            rows = going.strip.finish(y0, stop)
            self._stream(rows, y0, band.x0, going.reader, going.writer, final=True)
            y0 = stop
            if going.reached is not None and y0 in (y0 // CHUNK * CHUNK, y_end):
                going.writer.then(partial(going.reached, band.x0, y0))
        return y0

    def _stream(
        self, rows: StripRows, y0: int, x0: int, reader: TileReader, writer: Writer, final: bool
    ) -> None:
        """Hand on labels from (y0, x0) on, cut at chunk borders."""
        height, width = rows.classes.shape
        _mark_unreadable(rows, y0, x0, reader)
        mask = self.plan.region.mask(PixelBox(y0, x0, y0 + height, x0 + width), self.plan.grid)
        if mask is not None:
            rows.classes[~mask] = NOT_RUN
            rows.score[~mask] = 0
            rows.high[~mask] = 0
        if final:
            self.histogram += np.bincount(rows.classes.ravel(), minlength=256)
        else:
            rows.classes[rows.classes == SKIPPED] = NOT_RUN
        for ys in _chunks(y0, y0 + height):
            for xs in _chunks(x0, x0 + width):
                part = slice(ys.start - y0, ys.stop - y0), slice(xs.start - x0, xs.stop - x0)
                classes = rows.classes[part]
                if (classes != NOT_RUN).any():
                    writer.put(
                        LabelBlock(ys.start, xs.start, classes, rows.score[part], rows.high[part])
                    )

    def _report(self, final: bool = False) -> None:
        now = time.monotonic()
        if self._progress is not None and (final or now - self._reported > 0.1):
            self._reported = now
            self._progress(self._meter.report("Segmenting", self.done, self._total))


def _spans(starts: npt.NDArray[np.intp], window: int) -> list[tuple[int, int]]:
    """What windows along an axis, in order, cover together."""
    gaps = np.flatnonzero(np.diff(starts) > window)
    firsts, lasts = np.append(0, gaps + 1), np.append(gaps, starts.size - 1)
    return [(int(starts[a]), int(starts[b]) + window) for a, b in zip(firsts, lasts, strict=True)]


def _chunks(first: int, last: int) -> Iterator[range]:
    """[first, last), cut at multiples of `CHUNK`."""
    while first < last:
        stop = min(last, (first // CHUNK + 1) * CHUNK)
        yield range(first, stop)
        first = stop


def _mark_unreadable(rows: StripRows, y0: int, x0: int, reader: TileReader) -> None:
    height, width = rows.classes.shape
    for ty, tx in reader.unreadable:
        ys = slice(max(0, ty * GRID_TILE - y0), max(0, min(height, (ty + 1) * GRID_TILE - y0)))
        xs = slice(max(0, tx * GRID_TILE - x0), max(0, min(width, (tx + 1) * GRID_TILE - x0)))
        rows.classes[ys, xs] = UNREADABLE
        rows.score[ys, xs] = 0
        rows.high[ys, xs] = 0
