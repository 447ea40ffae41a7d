"""A mask of whole numbers, laid onto a slide's label grid."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import SlideFacts
from napari_hspnet.cases.store import CHUNK
from napari_hspnet.classes import BACKGROUND, CIN3, NOT_RUN, SKIPPED
from napari_hspnet.errors import InputError
from napari_hspnet.exchange.incoming import LEFT, REST, Closing, FoundName, other_slide_note
from napari_hspnet.exchange.output import Cancel, Report, stop_if, stretch
from napari_hspnet.exchange.reading_masks import MaskFile, open_pixels
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.region import PixelBox

__all__ = ["IncomingMask", "open_mask"]

Array = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
Pair = tuple[float, float]

_AT_ONCE = 16_000_000
_BLOCK = 512, 4096
_MOST_VALUES = 32
# Centres that fall on a mask pixel's border but for the last digit of a float.
_ROUNDING = 1e-9


@dataclass
class IncomingMask(Closing):
    """A mask on a label grid; see `Incoming`.

    Every label pixel has the value of the mask's pixel that its centre lies in.
    """

    path: Path
    kind: str
    sha256: str
    names: tuple[FoundName, ...]
    notes: tuple[str, ...]
    rest_is_none: bool
    box: PixelBox
    said: Mapping[str, object]
    _file: MaskFile = field(repr=False)
    _rows: Indices = field(repr=False)
    _columns: Indices = field(repr=False)
    _values: npt.NDArray[np.int64] = field(repr=False)
    _bands: dict[int, npt.NDArray[Any]] = field(default_factory=dict, repr=False)

    def read(self, y: int, x: int, height: int, width: int, grades: Mapping[str, int]) -> Array:
        """What it says in a box of label pixels, as `Incoming.read`."""
        out = np.full((height, width), LEFT, np.uint8)
        part = PixelBox(y, x, y + height, x + width).intersect(self.box)
        if part.height == 0 or part.width == 0:
            return out
        becomes = [REST if v == BACKGROUND else grades[str(v)] for v in self._values]
        table = np.asarray(becomes, np.uint8)
        if not self._wide:
            table = np.full(256, LEFT, np.uint8)
            table[self._values] = becomes
        for number in range(part.y0 // CHUNK, -(-part.y1 // CHUNK)):
            top, bottom = max(part.y0, number * CHUNK), min(part.y1, (number + 1) * CHUNK)
            first = max(self.box.y0, number * CHUNK)
            band = self._band(number)[
                top - first : bottom - first, part.x0 - self.box.x0 : part.x1 - self.box.x0
            ]
            known = table[np.searchsorted(self._values, band)] if self._wide else table[band]
            out[top - y : bottom - y, part.x0 - x : part.x1 - x] = known
        return out

    @property
    def _wide(self) -> bool:
        """Whether there are more values than a table of 256 has places."""
        return self._file.dtype != np.uint8

    def _band(self, number: int) -> npt.NDArray[Any]:
        """A row of chunks: strips go across the whole mask, and are decoded once for it."""
        known = self._bands.get(number)
        if known is not None:
            return known
        top, bottom = max(self.box.y0, number * CHUNK), min(self.box.y1, (number + 1) * CHUNK)
        rows = self._rows[top:bottom]
        columns = self._columns[self.box.x0 : self.box.x1]
        left, right = int(columns[0]), int(columns[-1]) + 1
        band = np.empty((rows.size, columns.size), self._file.dtype)
        most = max(1, _AT_ONCE // (right - left))
        start = 0
        while start < rows.size:
            stop = max(start + 1, int(np.searchsorted(rows, rows[start] + most)))
            low = int(rows[start])
            block = self._file.read(low, left, int(rows[stop - 1]) + 1, right)
            band[start:stop] = block[rows[start:stop] - low][:, columns - left]
            start = stop
        self._bands = {number: band}
        return band

    def close(self) -> None:
        """Let go of the file."""
        self._bands = {}
        self._file.close()


def open_mask(
    path: Path,
    kind: str,
    sha256: str,
    slide: SlideFacts,
    grid: LabelGrid,
    mpp: float | None = None,
    at: Pair | None = None,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> IncomingMask:
    """Open a PNG or TIFF; as `open_incoming`, which see.

    Values 0 to 4 are grades, 253 to 255 say nothing, as in our own masks; all others
    are asked for. So are 1 of a black-and-white picture, and 255 where it is all
    that there is beside 0.

    Raises
    ------
    InputError
        It is no mask, or its size does not fit the slide.
    """
    file = open_pixels(path, kind, stretch(progress, 0, 0.3), cancel)
    try:
        ours = "values" in file.said and "slide_sha256" in file.said
        scale, notes = _resolution(file, mpp, at, slide, grid)
        if at is None:
            _refuse_other_size(file, scale, slide, grid)
        place = at or (0.0, 0.0)
        rows, columns = (
            np.floor(((np.arange(side) + 0.5) * grid.mpp - start) / step + _ROUNDING).astype(int)
            for side, start, step in zip(grid.shape, place, scale, strict=True)
        )
        box = _covered(file, rows, columns, scale, grid)
        notes += other_slide_note(file.said.get("slide_sha256"), slide)
        notes += _place_notes(file, scale, place, slide, grid)
        counts = _counted(file, stretch(progress, 0.3, 1), cancel)
        names, more = _names(file, counts, ours)
        said: dict[str, object] = {"um_per_pixel": [scale[1], scale[0]]}
        if at is not None:
            said["at_um"] = [at[1], at[0]]
        return IncomingMask(
            path,
            kind,
            sha256,
            names,
            (*notes, *more),
            ours,
            box,
            said,
            file,
            rows,
            columns,
            np.asarray(sorted(counts), np.int64),
        )
    except BaseException:
        file.close()
        raise


def _um(slide: SlideFacts) -> Pair:
    return slide.shape[0] * slide.mpp[0], slide.shape[1] * slide.mpp[1]


def _resolution(
    file: MaskFile, asked: float | None, at: Pair | None, slide: SlideFacts, grid: LabelGrid
) -> tuple[Pair, list[str]]:
    """(y, x) µm per pixel, and what was assumed for it."""
    height, width = file.shape
    if asked is not None:
        other = file.mpp is not None and any(abs(own / asked - 1) > 1e-3 for own in file.mpp)
        said = f"The file says {file.mpp[1]:g} µm per pixel; " if other and file.mpp else ""
        return (asked, asked), [f"{said}{asked:g} are taken, as asked"] if said else []
    if file.mpp is not None:
        return file.mpp, []
    if at is not None:
        raise InputError(
            f"The mask of {width:,} x {height:,} pixels does not say its µm per pixel",
            advice="State it too: a place alone does not say how large the mask is",
            path=file.path,
        )
    found = _by_size(file, slide, grid)
    if found is None:
        raise InputError(
            f"The mask of {width:,} x {height:,} pixels does not say its µm per pixel, and has "
            f"neither the slide's size ({slide.shape[1]:,} x {slide.shape[0]:,}), nor the "
            f"overlay's ({grid.shape[1]:,} x {grid.shape[0]:,}), nor their proportions",
            advice="State its µm per pixel, and the place of its first pixel where it shows a part",
            path=file.path,
        )
    note = (
        f"The mask does not say its µm per pixel; it is taken to cover the whole slide, with "
        f"{found[1]:.4g} µm per pixel"
    )
    return found, [note]


def _by_size(file: MaskFile, slide: SlideFacts, grid: LabelGrid) -> Pair | None:
    if file.shape == slide.shape:
        return slide.mpp
    if file.shape == grid.shape:
        return grid.mpp, grid.mpp
    sides = list(zip(slide.shape, file.shape, strict=True))
    # Rounded up or down, a level of the slide has this many pixels or one less or more.
    least = max(side / (own + 1) for side, own in sides)
    most = min(side / (own - 1) if own > 1 else math.inf for side, own in sides)
    if least > most:
        return None
    power = 2.0 ** round(math.log2(slide.shape[0] / file.shape[0]))
    factor = power if least <= power <= most else None
    exact = [factor or side / own for side, own in sides]
    return exact[0] * slide.mpp[0], exact[1] * slide.mpp[1]


def _refuse_other_size(file: MaskFile, scale: Pair, slide: SlideFacts, grid: LabelGrid) -> None:
    own = file.shape[0] * scale[0], file.shape[1] * scale[1]
    whole = _um(slide)
    label = grid.mpp
    written = file.said.get("label_um_per_pixel", "")
    if written.replace(".", "", 1).isdecimal():
        label = max(label, float(written))
    # Grids are rounded up to a whole pixel, and a mask made of one once more.
    if all(abs(a - b) <= step + label for a, b, step in zip(own, whole, scale, strict=True)):
        return
    whole_mpp = whole[1] / file.shape[1]
    even = abs(whole_mpp * file.shape[0] / whole[0] - 1) < 0.01
    more = f", or {whole_mpp:.4g} µm per pixel if it shows the whole slide" if even else ""
    raise InputError(
        f"The mask of {file.shape[1]:,} x {file.shape[0]:,} pixels at {scale[1]:.4g} µm is "
        f"{own[1]:,.0f} x {own[0]:,.0f} µm, but the slide is {whole[1]:,.0f} x {whole[0]:,.0f} µm",
        advice=f"State the place of its first pixel if it shows a part of the slide{more}",
        path=file.path,
    )


def _covered(
    file: MaskFile, rows: Indices, columns: Indices, scale: Pair, grid: LabelGrid
) -> PixelBox:
    inside = [
        np.flatnonzero((picked >= 0) & (picked < side))
        for picked, side in zip((rows, columns), file.shape, strict=True)
    ]
    if not all(picked.size for picked in inside):
        raise InputError(
            f"At that place the mask, {file.shape[1] * scale[1]:,.0f} x "
            f"{file.shape[0] * scale[0]:,.0f} µm, lies outside the slide, which is "
            f"{grid.shape[1] * grid.mpp:,.0f} x {grid.shape[0] * grid.mpp:,.0f} µm",
            advice="State where its first pixel lies, x and y in µm from the slide's corner",
            path=file.path,
        )
    (y0, y1), (x0, x1) = ((int(p[0]), int(p[-1]) + 1) for p in inside)
    return PixelBox(y0, x0, y1, x1)


def _place_notes(
    file: MaskFile, scale: Pair, place: Pair, slide: SlideFacts, grid: LabelGrid
) -> list[str]:
    notes = []
    ends = [start + side * step for start, side, step in zip(place, file.shape, scale, strict=True)]
    beyond = any(start < 0 for start in place) or any(
        end > whole + grid.mpp + step
        for end, whole, step in zip(ends, _um(slide), scale, strict=True)
    )
    if beyond:
        notes.append("The mask reaches beyond the slide and is cut there")
    if max(scale) > 1.01 * grid.mpp:
        notes.append(
            f"The mask's pixels of {max(scale):.4g} µm are coarser than the overlay's of "
            f"{grid.mpp:g} µm, so borders become steps of that size"
        )
    return notes


def _counted(file: MaskFile, progress: Report | None, cancel: Cancel | None) -> Counter[int]:
    """Pixels of each value, over the whole mask."""
    counts: Counter[int] = Counter()
    for block, part in _blocks(file):
        stop_if(cancel)
        if block.dtype.itemsize == 1 and block.dtype.kind in "ub":
            found = np.bincount(block.ravel().view(np.uint8), minlength=256)
            counts.update({int(v): int(found[v]) for v in np.flatnonzero(found)})
        else:
            values, numbers = np.unique(block, return_counts=True)
            pairs = zip(values.tolist(), numbers.tolist(), strict=True)
            counts.update(dict(pairs))
        unknown = sum(1 for value in counts if not _ours(value))
        if unknown > _MOST_VALUES:
            raise InputError(
                f"The mask holds more than {_MOST_VALUES} values that are no grades, as a picture "
                "or a numbering of objects does",
                advice="Save a mask with one value for each class",
                path=file.path,
            )
        if progress is not None:
            progress(part)
    return counts


def _blocks(file: MaskFile) -> Iterator[tuple[npt.NDArray[Any], float]]:
    height, width = file.shape
    for y in range(0, height, _BLOCK[0]):
        bottom = min(height, y + _BLOCK[0])
        for x in range(0, width, _BLOCK[1]):
            block = file.read(y, x, bottom, min(width, x + _BLOCK[1]))
            yield np.ascontiguousarray(block), bottom / height


def _ours(value: int) -> bool:
    return BACKGROUND <= value <= CIN3 or SKIPPED <= value <= NOT_RUN


def _names(
    file: MaskFile, counts: Mapping[int, int], ours: bool
) -> tuple[tuple[FoundName, ...], list[str]]:
    values = sorted(value for value in counts if value != BACKGROUND)
    asked, notes = set(), []
    if not ours and file.dtype.kind == "b":
        asked = {1}
        notes.append("The mask is black and white: it does not say which grade white is")
    elif not ours and values == [NOT_RUN]:
        asked = {NOT_RUN}
        notes.append("The mask holds 0 and 255 alone: it does not say which grade 255 is")
    names = []
    for value in values:
        grade = (value if value <= CIN3 else LEFT) if _ours(value) and value not in asked else None
        names.append(FoundName(str(value), counts[value], grade))
    if not values and not ours:
        notes.append("The mask holds nothing but 0")
    return tuple(names), notes
