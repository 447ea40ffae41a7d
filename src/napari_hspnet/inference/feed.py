"""Batches of windows, made ready ahead of the device."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from napari_hspnet.errors import CancelledError
from napari_hspnet.inference.plan import Band, Plan
from napari_hspnet.inference.tiles import TileReader, tiles_of_window
from napari_hspnet.slides import GRID_TILE

__all__ = ["Feed", "Window", "row_by_row"]


@dataclass(frozen=True)
class Window:
    """One network input: its place in the plan and on the label grid."""

    row: int
    column: int
    y: int
    x: int


def row_by_row(plan: Plan, band: Band, reader: TileReader) -> Iterator[Window]:
    """A band's active windows; tiles are asked for a row ahead, and forgotten when passed."""

    def tiles(row: int) -> list[tuple[int, int]]:
        """Those that a row of windows needs, in the order in which it needs them."""
        y, window = int(plan.ys[row]), plan.settings.window
        xs: npt.NDArray[np.intp] = band.xs[band.active[row]]
        return list(dict.fromkeys(key for x in xs for key in tiles_of_window(y, int(x), window)))

    for row in range(plan.ys.size):
        y = int(plan.ys[row])
        columns = np.flatnonzero(band.active[row])
        if columns.size:
            reader.forget(above=y // GRID_TILE)
            reader.want(tiles(row))
            if row + 1 < plan.ys.size:
                reader.want(tiles(row + 1))
        for column in columns:
            yield Window(row, int(column), y, int(band.xs[column]))


class Feed:
    """Batches of windows, assembled in a thread two ahead of the device.

    Parameters
    ----------
    places : iterator of Window
        Gone through in that thread.
    window : int
        Side in label pixels.
    reader : TileReader
        Used by that thread alone.
    cancel : threading.Event
    """

    def __init__(
        self, places: Iterator[Window], window: int, reader: TileReader, cancel: threading.Event
    ) -> None:
        self._places = places
        self._window = window
        self._reader = reader
        self._cancel = cancel
        self._stop = threading.Event()
        self._queue: queue.Queue[tuple[list[Window], torch.Tensor] | BaseException | None] = (
            queue.Queue(maxsize=2)
        )
        self._thread = threading.Thread(target=self._work, name="hspnet-feed", daemon=True)
        self._size: Callable[[], int] = lambda: 1

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.02)

    def batches(self, size: Callable[[], int]) -> Iterator[tuple[list[Window], torch.Tensor]]:
        """The windows with their pixels, uint8 (n, window, window, 3), in order."""
        self._size = size
        self._thread.start()
        while True:
            try:
                item = self._queue.get(timeout=0.1)
            except queue.Empty:
                if self._cancel.is_set():
                    raise CancelledError from None
                continue
            if self._cancel.is_set():
                raise CancelledError
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _work(self) -> None:
        try:
            pending: list[Window] = []
            for place in self._places:
                pending.append(place)
                if len(pending) >= self._size():
                    self._put((pending, self._assemble(pending)))
                    pending = []
                if self._stop.is_set() or self._cancel.is_set():
                    return
            if pending:
                self._put((pending, self._assemble(pending)))
            self._put(None)
        except BaseException as error:  # handed to the thread that waits for batches
            self._put(error)

    def _put(self, item: tuple[list[Window], torch.Tensor] | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def _assemble(self, places: list[Window]) -> torch.Tensor:
        window = self._window
        pixels = np.empty((len(places), window, window, 3), dtype=np.uint8)
        for place, out in zip(places, pixels, strict=True):
            self._reader.cut(place.y, place.x, window, out)
        return torch.from_numpy(pixels)
