"""What is shown and exported: the correction where there is one, else the topmost run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.record import RunInfo
from napari_hspnet.cases.sampling import level_count, level_shape, padded_shape
from napari_hspnet.cases.store import CHUNK, FILL, Key
from napari_hspnet.classes import NOT_RUN
from napari_hspnet.errors import InputError
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.lazy import LazyLabels
from napari_hspnet.slides.region import PixelBox

__all__ = ["Areas", "Composite", "CompositeLevel", "CorrectionSource", "Source"]

Array = npt.NDArray[np.uint8]
What = Literal["classes", "prediction", "correction", "score", "high"]

_MAP = {
    "classes": "class",
    "prediction": "class",
    "correction": "class",
    "score": "score",
    "high": "high",
}
Changes = dict[tuple[int, int], int]
"""Label pixels by (prediction, correction)."""

_EXACT_PIXELS = 2 << 20
"""Counted exactly up to here; beyond, on a coarser level."""


@dataclass(frozen=True)
class Source:
    """One run as the composite sees it.

    Attributes
    ----------
    info : callable () -> RunInfo
        The run as it is now.
    chunk : callable (Key) -> ndarray or None
        A chunk, None where it is empty.
    pixels : callable () -> Mapping of int to int
        Label pixels per class value, 255 left out.
    live : bool
        Whether it is being written.
    """

    info: Callable[[], RunInfo]
    chunk: Callable[[Key], Array | None]
    pixels: Callable[[], Mapping[int, int]]
    live: bool = False


class CorrectionSource(Protocol):
    """Corrections as the composite sees them."""

    @property
    def chunks(self) -> tuple[tuple[int, int], ...]:
        """(row, column) of the chunks of level 0 that hold some."""

    def chunk(self, key: Key) -> Array | None:
        """A chunk, None where nothing was said."""

    def version(self, row: int, col: int) -> int:
        """Grows with every change of a chunk of level 0."""


@dataclass(frozen=True)
class Areas:
    """mm² per class value (253 skipped, 254 unreadable and 255 not run included).

    Attributes
    ----------
    mm2 : Mapping of int to float
        Values that do not occur are absent.
    exact : bool
        False where counted on a coarser level, which is good to about a per cent
        for anything that one would put a figure to.
    """

    mm2: Mapping[int, float]
    exact: bool


class Composite:
    """A snapshot of which runs are on top of which; pixels are read when asked for.

    What readers correct, and what a live run among them has written, shows at the
    next read.

    Parameters
    ----------
    grid : LabelGrid
        The case's label grid.
    sources : sequence of Source
        The topmost first.
    correction : CorrectionSource, optional
        On top of all of them.
    """

    def __init__(
        self,
        grid: LabelGrid,
        sources: Sequence[Source],
        correction: CorrectionSource | None = None,
    ) -> None:
        self.grid = grid
        self._sources = tuple(sources)
        self._correction = correction
        self._counted: dict[tuple[int, int], tuple[int, Changes]] = {}
        self._levels = tuple(CompositeLevel(self, k) for k in range(level_count(grid.shape)))

    @property
    def levels(self) -> list[CompositeLevel]:
        """Class values as array-likes, finest first, shapes exactly a factor of 2 apart."""
        return list(self._levels)

    def read(
        self, y: int, x: int, height: int, width: int, level: int = 0, what: What = "classes"
    ) -> Array:
        """Any box of a level.

        Parameters
        ----------
        y, x, height, width : int
            In that level's pixels; may reach beyond the grid.
        level : int
            0 is the label grid, each next one half of it, sampled at pixel centres.
        what : {"classes", "prediction", "correction", "score", "high"}
            Class values as shown, as the runs alone or as the readers alone gave
            them; the highest softmax value, or p(CIN2) + p(CIN3), both times 255,
            of the topmost run, whatever was corrected.

        Returns
        -------
        ndarray of uint8, (height, width)
            255 (classes) or 0 (others) outside the grid and where nothing was run.
        """
        if what not in _MAP:
            raise InputError(f"There is no map {what!r}", advice=f"Choose one of {', '.join(_MAP)}")
        out = np.full((height, width), FILL[_MAP[what]], np.uint8)
        for place, row, column, inside in self._pieces(y, x, height, width, level):
            if _MAP[what] == "class":
                layers = self._layers(what)
                _stacked(layers, out[place], ("class", level, row, column), inside)
            else:
                self._values(out[place], _MAP[what], level, row, column, inside)
        return out

    def run_at(self, y: int, x: int) -> RunInfo | None:
        """The run that predicts label pixel (y, x); None where none does."""
        for _, row, column, inside in self._pieces(y, x, 1, 1, 0):
            for source in self._sources:
                chunk = source.chunk(("class", 0, row, column))
                if chunk is not None and chunk[inside][0, 0] != NOT_RUN:
                    return source.info()
        return None

    def owners(self, y: int, x: int, mask: npt.NDArray[np.bool_]) -> set[str]:
        """Ids of the runs that predict the marked pixels of a box at (y, x)."""
        found: set[str] = set()
        for place, row, column, inside in self._pieces(y, x, mask.shape[0], mask.shape[1], 0):
            wanted = mask[place].copy()
            for source in self._sources:
                if not wanted.any():
                    break
                chunk = source.chunk(("class", 0, row, column))
                if chunk is None:
                    continue
                own = wanted & (chunk[inside] != NOT_RUN)
                if own.any():
                    found.add(source.info().id)
                    wanted &= ~own
        return found

    @property
    def runs(self) -> tuple[RunInfo, ...]:
        """The runs it is made of, the topmost first."""
        return tuple(source.info() for source in self._sources)

    def areas(self, box: PixelBox | None = None) -> Areas:
        """mm² per class value, of the slide or of a box of label pixels.

        Exact for one run on the whole slide (kept while it is written), with all
        that was corrected, and for boxes up to 2 Mpx; counted on a coarser level
        otherwise.
        """
        square = (self.grid.mpp / 1000) ** 2
        whole = PixelBox(0, 0, *self.grid.shape)
        box = whole if box is None else box.intersect(whole)
        if box != whole:
            return self._counted_areas(box, "classes")
        if len(self._sources) <= 1:
            pixels = dict(self._sources[0].pixels()) if self._sources else {}
            pixels[NOT_RUN] = box.height * box.width - sum(pixels.values())
            found, exact = {v: n * square for v, n in pixels.items()}, True
        else:
            counted = self._counted_areas(box, "prediction")
            found, exact = dict(counted.mm2), counted.exact
        for (predicted, said), count in self.changes().items():
            found[predicted] = found.get(predicted, 0.0) - count * square
            found[said] = found.get(said, 0.0) + count * square
        least = square / 2
        return Areas({v: mm2 for v, mm2 in sorted(found.items()) if mm2 > least}, exact)

    def changes(self) -> Changes:
        """Label pixels by (prediction, correction), wherever a reader said something."""
        total: Counter[tuple[int, int]] = Counter()
        for place in () if self._correction is None else self._correction.chunks:
            total.update(self._changes_in(place))
        return dict(total)

    def _changes_in(self, place: tuple[int, int]) -> Changes:
        assert self._correction is not None
        version = self._correction.version(*place)
        known = self._counted.get(place)
        if known is not None and known[0] == version:
            return known[1]
        said = self._correction.chunk(("class", 0, *place))
        if said is None:
            return {}
        height, width = said.shape
        y, x = place[0] * CHUNK, place[1] * CHUNK
        predicted = self.read(y, x, height, width, what="prediction")
        there = said != NOT_RUN
        pairs = np.bincount(predicted[there].astype(np.intp) * 256 + said[there])
        found = {(int(n) // 256, int(n) % 256): int(pairs[n]) for n in np.flatnonzero(pairs)}
        if not any(source.live for source in self._sources):
            self._counted[place] = version, found
        return found

    def _counted_areas(self, box: PixelBox, what: What) -> Areas:
        level, last, total = 0, len(self._levels) - 1, box.height * box.width
        while level < last and (box.height >> level) * (box.width >> level) > _EXACT_PIXELS:
            level += 1
        step = 1 << level
        y, x = box.y0 // step, box.x0 // step
        values = self.read(y, x, -(-box.y1 // step) - y, -(-box.x1 // step) - x, level, what)
        counts = np.bincount(values.ravel(), minlength=256)
        scale = (self.grid.mpp / 1000) ** 2
        scale *= 1.0 if level == 0 else total / max(1, values.size)
        return Areas({int(v): float(counts[v]) * scale for v in np.flatnonzero(counts)}, level == 0)

    def _layers(self, what: What) -> list[Callable[[Key], Array | None]]:
        """Whose class values count, the topmost first."""
        layers = [] if what == "correction" else [source.chunk for source in self._sources]
        if what != "prediction" and self._correction is not None:
            layers.insert(0, self._correction.chunk)
        return layers

    def _pieces(
        self, y: int, x: int, height: int, width: int, level: int
    ) -> Iterator[tuple[tuple[slice, slice], int, int, tuple[slice, slice]]]:
        """The chunks that a box meets: where in the box, which, where in the chunk."""
        rows, columns = level_shape(self.grid.shape, level)
        y0, y1 = max(0, y), min(rows, y + height)
        x0, x1 = max(0, x), min(columns, x + width)
        if y1 <= y0 or x1 <= x0:
            return
        for row in range(y0 // CHUNK, -(-y1 // CHUNK)):
            top, bottom = max(y0, row * CHUNK), min(y1, (row + 1) * CHUNK)
            for column in range(x0 // CHUNK, -(-x1 // CHUNK)):
                left, right = max(x0, column * CHUNK), min(x1, (column + 1) * CHUNK)
                yield (
                    (slice(top - y, bottom - y), slice(left - x, right - x)),
                    row,
                    column,
                    (
                        slice(top - row * CHUNK, bottom - row * CHUNK),
                        slice(left - column * CHUNK, right - column * CHUNK),
                    ),
                )

    def _values(
        self, out: Array, name: str, level: int, row: int, column: int, inside: tuple[slice, slice]
    ) -> None:
        open_pixels = np.ones(out.shape, bool)
        for source in self._sources:
            classes = source.chunk(("class", level, row, column))
            if classes is None:
                continue
            own = (classes[inside] != NOT_RUN) & open_pixels
            chunk = source.chunk((name, level, row, column))
            if chunk is not None:
                np.copyto(out, chunk[inside], where=own)
            open_pixels &= ~own
            if not open_pixels.any():
                return


def _stacked(
    layers: Sequence[Callable[[Key], Array | None]],
    out: Array,
    key: Key,
    inside: tuple[slice, slice],
) -> None:
    """Fill `out` with the first value of the layers that is not 255."""
    touched = False
    for layer in layers:
        chunk = layer(key)
        if chunk is None:
            continue
        if not touched:
            out[...] = chunk[inside]
            touched = True
            continue
        open_pixels = out == NOT_RUN
        if not open_pixels.any():
            return
        np.copyto(out, chunk[inside], where=open_pixels)


class CompositeLevel(LazyLabels):
    """One level's class values, padded with 255 so that shapes are powers of two apart."""

    def __init__(self, composite: Composite, level: int) -> None:
        super().__init__(padded_shape(composite.grid.shape, level))
        self._composite = composite
        self._level = level

    def _read(self, y: int, x: int, height: int, width: int) -> Array:
        return self._composite.read(y, x, height, width, self._level)
