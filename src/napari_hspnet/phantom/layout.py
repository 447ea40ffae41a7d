"""What lies where on a phantom slide: fragments on glass, and the truth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.geometry import (
    GLASS,
    STROMA,
    Band,
    Floats,
    pixel_centres,
)
from napari_hspnet.phantom.growth import field_band, fragment_band
from napari_hspnet.phantom.spec import MAX_SIDE, PhantomSpec, sample_spec
from napari_hspnet.phantom.version import PHANTOM_VERSION
from napari_hspnet.slides.grid import LABEL_MPP

__all__ = [
    "MAX_SIDE",
    "PHANTOM_VERSION",
    "TILE",
    "Layout",
    "PhantomSpec",
    "Placement",
    "make_layout",
    "sample_spec",
    "section_rng",
    "truth_block",
]

TILE = 256

Size = tuple[int, int]
Pixels = TypeVar("Pixels", bound=np.generic)

_CANVAS = (1280.0, 2304.0)
_TYPICAL = (1100.0, 1600.0)
_CLOSE_UP = 500.0
_SMALLEST = 600.0
_ORDERLY = 9
_TRIES = 300


@dataclass(frozen=True)
class Placement:
    """A fragment on the slide, in one of eight orientations.

    Attributes
    ----------
    section : int
        Index of its band.
    y, x : int
        Corner of its canvas in level-0 tiles; may be negative.
    height, width : int
        Of its canvas in level-0 tiles, as it lies.
    turned : bool
        Whether the canvas's rows lie along x.
    flip_y, flip_x : bool
        Whether it is then mirrored.
    """

    section: int
    y: int
    x: int
    height: int
    width: int
    turned: bool = False
    flip_y: bool = False
    flip_x: bool = False

    @property
    def way(self) -> tuple[bool, bool, bool]:
        """(turned, flip_y, flip_x): its orientation."""
        return self.turned, self.flip_y, self.flip_x

    def lay(self, canvas: npt.NDArray[Pixels]) -> npt.NDArray[Pixels]:
        """Pixels of a canvas, or of a square part, as they lie; a view."""
        turned = canvas.swapaxes(0, 1) if self.turned else canvas
        return turned[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]

    def tile(self, row: int, col: int) -> Size:
        """Where on the slide, in tiles, a tile of the canvas lies."""
        i, j = (col, row) if self.turned else (row, col)
        i = self.height - 1 - i if self.flip_y else i
        j = self.width - 1 - j if self.flip_x else j
        return self.y + i, self.x + j

    def to_slide(self, y: Floats, x: Floats, tile_um: float) -> tuple[Floats, Floats]:
        """Slide points (y, x) in µm of canvas points, for tiles of `tile_um`."""
        y, x = (x, y) if self.turned else (y, x)
        y = self.height * tile_um - y if self.flip_y else y
        x = self.width * tile_um - x if self.flip_x else x
        return y + self.y * tile_um, x + self.x * tile_um


@dataclass(frozen=True)
class Layout:
    """Where the fragments of a slide lie; holds no pixels.

    Attributes
    ----------
    spec : PhantomSpec
    canvases : tuple of (int, int)
        (height, width) of each different fragment's canvas in level-0 tiles.
    bands : tuple of Band
        The different fragments.
    placements : tuple of Placement
        They do not overlap.
    """

    spec: PhantomSpec
    canvases: tuple[Size, ...]
    bands: tuple[Band, ...]
    placements: tuple[Placement, ...]

    def within(self, y0: float, x0: float, y1: float, x1: float) -> Iterator[Placement]:
        """Placements whose canvas meets a box in level-0 pixels."""
        for p in self.placements:
            y, x = p.y * TILE, p.x * TILE
            if y < y1 and y + p.height * TILE > y0 and x < x1 and x + p.width * TILE > x0:
                yield p

    def codes(self, y: Floats, x: Floats) -> npt.NDArray[np.uint8]:
        """What lies at the crossings of two axes.

        Parameters
        ----------
        y, x : ndarray of float64, (h,) and (w,)
            Ascending, µm from the slide's origin.

        Returns
        -------
        ndarray of uint8, (h, w)
            See `Band.codes`; glass outside the slide.
        """
        spec = self.spec
        out = np.full((y.size, x.size), GLASS, np.uint8)
        if not out.size:
            return out
        tile_um = TILE * spec.mpp
        inside_y = (y >= 0) & (y < spec.height * spec.mpp)
        inside_x = (x >= 0) & (x < spec.width * spec.mpp)
        box = (y[0] / spec.mpp - 1, x[0] / spec.mpp - 1, y[-1] / spec.mpp + 1, x[-1] / spec.mpp + 1)
        for p in self.within(*box):
            top, left = p.y * tile_um, p.x * tile_um
            tall, wide = p.height * tile_um, p.width * tile_um
            rows = np.flatnonzero(inside_y & (y >= top) & (y < top + tall))
            cols = np.flatnonzero(inside_x & (x >= left) & (x < left + wide))
            if not rows.size or not cols.size:
                continue
            py, px = y[rows, None] - top, x[None, cols] - left
            py = tall - py if p.flip_y else py
            px = wide - px if p.flip_x else px
            piece = self.bands[p.section].codes(*((px, py) if p.turned else (py, px)))
            out[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] = piece
        return out

    def label_codes(self, y: int, x: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Codes at the centres of label pixels (1 µm), a box of them."""
        return self.codes(pixel_centres(y, height, LABEL_MPP), pixel_centres(x, width, LABEL_MPP))

    def truth(self, y: int, x: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """See `truth_block`."""
        codes = self.label_codes(y, x, height, width)
        codes[codes >= STROMA] = 0
        return codes


def section_rng(spec: PhantomSpec, section: int) -> np.random.Generator:
    """The generator from which a fragment's band is drawn."""
    return np.random.default_rng([spec.seed, 3, section])


def make_layout(spec: PhantomSpec) -> Layout:
    """Plan a slide; takes well under a second or two whatever its size.

    Up to nine pieces lie in cells of their own, each somewhere within it; more
    are strewn, as from forceps, and none lies over another.
    """
    rng = np.random.default_rng([spec.seed, 2])
    tile_um = TILE * spec.mpp
    high, wide = spec.height * spec.mpp, spec.width * spec.mpp
    tiles = math.ceil(spec.height / TILE), math.ceil(spec.width / TILE)
    close_up = max(high, wide) < _CLOSE_UP
    canvas = tiles if close_up else (_piece(high, tile_um, 0), _piece(wide, tile_um, 1))
    cells = [
        (y, x) for y in _starts(rng, tiles[0], canvas[0]) for x in _starts(rng, tiles[1], canvas[1])
    ]
    count = min(spec.bank, len(cells))
    alone = len(cells) == 1
    smallest = math.ceil(_SMALLEST / tile_um)
    canvases = [canvas]
    for _ in range(count - 1):
        share = rng.uniform(0.6, 1.0), rng.uniform(0.45, 1.0)
        low = (min(smallest, side) for side in canvas)
        canvases.append(
            tuple(max(n, round(f * side)) for n, f, side in zip(low, share, canvas, strict=True))  # type: ignore[arg-type]
        )
    if len(cells) <= _ORDERLY:
        placements = _in_cells(rng, cells, canvas, canvases, alone)
    else:
        placements = _strewn(rng, tiles, canvases, 2 * len(cells))
    bands = []
    for s in range(count):
        grades = spec.grades
        if grades is None and s == 0 and not close_up:
            grades = (1, 2, 3, 4)
        source = section_rng(spec, s)
        size = math.ceil(canvases[s][0] * tile_um), math.ceil(canvases[s][1] * tile_um)
        if close_up:
            bands.append(field_band(source, *size, grades, whole=True))
        else:
            bands.append(fragment_band(source, *size, grades))
    return Layout(spec, tuple(canvases), tuple(bands), tuple(placements))


def _piece(size: float, tile_um: float, axis: int) -> int:
    """A canvas's side in tiles: several share a side where it is long enough."""
    share = size / max(1, round(size / _TYPICAL[axis]))
    gap = 0 if share == size else tile_um
    return max(1, int(min(max(share - gap, 256.0), _CANVAS[axis]) / tile_um))


def _starts(rng: np.random.Generator, tiles: int, canvas: int) -> list[int]:
    """Where cells begin along one axis, in tiles, with random gaps."""
    count = max(1, tiles // (canvas + 1))
    slack = tiles - count * canvas
    if slack <= 0:
        return [slack // 2]
    cuts = np.sort(rng.integers(0, slack + 1, count))
    return [int(c) + i * canvas for i, c in enumerate(cuts)]


def _in_cells(
    rng: np.random.Generator, cells: list[Size], cell: Size, canvases: list[Size], alone: bool
) -> list[Placement]:
    """A piece in each cell, turned where the cell has room for it."""
    out = []
    order = rng.permutation(len(cells))
    for n, (y, x) in zip(order, cells, strict=True):
        section = int(n) % len(canvases)
        height, width = canvases[section]
        turn, flip_y, flip_x = (bool(b) for b in rng.integers(0, 2, 3))
        turn = turn and not alone and width <= cell[0] and height <= cell[1]
        if turn:
            height, width = width, height
        dy = int(rng.integers(0, cell[0] - height + 1))
        dx = int(rng.integers(0, cell[1] - width + 1))
        out.append(Placement(section, y + dy, x + dx, height, width, turn, flip_y, flip_x))
    return out


def _strewn(
    rng: np.random.Generator, tiles: Size, canvases: list[Size], most: int
) -> list[Placement]:
    """Pieces at random where there is room, until half of the slide is taken."""
    out: list[Placement] = []
    boxes = np.zeros((0, 4), np.int64)
    share = float(rng.uniform(0.44, 0.56))
    taken, missed = 0, 0
    while taken < share * tiles[0] * tiles[1] and missed < 8 and len(out) < most:
        section = len(out) if len(out) < len(canvases) else int(rng.integers(len(canvases)))
        height, width = canvases[section]
        turn, flip_y, flip_x = (bool(b) for b in rng.integers(0, 2, 3))
        if turn:
            height, width = width, height
        if height > tiles[0] or width > tiles[1]:
            turn, height, width = not turn, width, height
        y = rng.integers(0, tiles[0] - height + 1, _TRIES)[:, None]
        x = rng.integers(0, tiles[1] - width + 1, _TRIES)[:, None]
        hit = (y < boxes[:, 2]) & (boxes[:, 0] < y + height)
        hit &= (x < boxes[:, 3]) & (boxes[:, 1] < x + width)
        free = np.flatnonzero(~hit.any(axis=1))
        if not free.size:
            missed += 1
            continue
        top, left = int(y[free[0], 0]), int(x[free[0], 0])
        out.append(Placement(section, top, left, height, width, turn, flip_y, flip_x))
        boxes = np.vstack([boxes, [[top, left, top + height, left + width]]])
        taken += height * width
    return out


def truth_block(
    spec: PhantomSpec, y: int, x: int, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """The truth on the label grid, without drawing the slide.

    Parameters
    ----------
    spec : PhantomSpec
    y, x, height, width : int
        A box in label pixels (1 µm from the slide's origin). A label pixel has
        the class of its centre; 0 outside the slide.

    Returns
    -------
    ndarray of uint8, (height, width)
        0 to 4.
    """
    return make_layout(spec).truth(y, x, height, width)
