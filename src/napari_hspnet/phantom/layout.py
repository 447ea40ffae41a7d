"""What lies where on a phantom slide: fragments on glass, and the truth."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError
from napari_hspnet.phantom.geometry import (
    GLASS,
    STROMA,
    Band,
    Floats,
    pixel_centres,
)
from napari_hspnet.phantom.growth import field_band, fragment_band
from napari_hspnet.phantom.tissue import check_grades
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

PHANTOM_VERSION = "0"
"""Names the generator; version 1 will be the first that is frozen."""

TILE = 256
MAX_SIDE = 200_000

_CANVAS = (1280.0, 2048.0)
_TYPICAL = (1100.0, 1600.0)
_CLOSE_UP = 500.0


@dataclass(frozen=True)
class PhantomSpec:
    """A phantom slide, fully determined.

    Attributes
    ----------
    height, width : int
        Level-0 pixels, 1 to `MAX_SIDE`.
    seed : int
        0 or more.
    mpp : float
        µm per level-0 pixel, 0.1 to 2.
    style : str
        ``"he"``: haematoxylin and eosin, JPEG. ``"oracle"``: flat colours of
        the truth, lossless; the geometry is that of "he".
    grades : tuple of int, optional
        Class values 1..4 along every fragment; None gives one fragment
        all four and the others random ones.
    bank : int
        How many different fragments at most; more pieces are mirror images.
    quality : int
        JPEG quality of "he", 30 to 100.

    Raises
    ------
    InputError
        If a value is outside what is said above.
    """

    height: int
    width: int
    seed: int
    mpp: float = 0.25
    style: str = "he"
    grades: tuple[int, ...] | None = None
    bank: int = 6
    quality: int = 85

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("height", self.height, 1, MAX_SIDE),
            ("width", self.width, 1, MAX_SIDE),
            ("seed", self.seed, 0, 2**63 - 1),
            ("µm per pixel", self.mpp, 0.1, 2.0),
            ("bank", self.bank, 1, 64),
            ("quality", self.quality, 30, 100),
        ):
            if not low <= value <= high:
                raise InputError(
                    f"a phantom's {name} cannot be {value}", advice=f"Give {low} to {high}"
                )
        if self.style not in ("he", "oracle"):
            raise InputError(
                f"there is no phantom style {self.style!r}", advice='Give "he" or "oracle"'
            )
        check_grades(self.grades)

    @property
    def label_shape(self) -> tuple[int, int]:
        """(height, width) of the label grid at 1 µm per pixel, rounded up."""
        rounding = 1e-6
        return (
            max(1, math.ceil(self.height * self.mpp / LABEL_MPP - rounding)),
            max(1, math.ceil(self.width * self.mpp / LABEL_MPP - rounding)),
        )


@dataclass(frozen=True)
class Placement:
    """A fragment on the slide.

    Attributes
    ----------
    section : int
        Index of its band.
    y, x : int
        Corner of its canvas in level-0 tiles; may be negative.
    flip_y, flip_x : bool
        Whether it is mirrored.
    """

    section: int
    y: int
    x: int
    flip_y: bool
    flip_x: bool


@dataclass(frozen=True)
class Layout:
    """Where the fragments of a slide lie; holds no pixels.

    Attributes
    ----------
    spec : PhantomSpec
    canvas : tuple of int
        (height, width) of every fragment's canvas in level-0 tiles.
    bands : tuple of Band
        The different fragments.
    placements : tuple of Placement
        They do not overlap.
    """

    spec: PhantomSpec
    canvas: tuple[int, int]
    bands: tuple[Band, ...]
    placements: tuple[Placement, ...]

    def within(self, y0: float, x0: float, y1: float, x1: float) -> Iterator[Placement]:
        """Placements whose canvas meets a box in level-0 pixels."""
        height, width = self.canvas[0] * TILE, self.canvas[1] * TILE
        for p in self.placements:
            y, x = p.y * TILE, p.x * TILE
            if y < y1 and y + height > y0 and x < x1 and x + width > x0:
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
        tall, wide = (n * TILE * spec.mpp for n in self.canvas)
        inside_y = (y >= 0) & (y < spec.height * spec.mpp)
        inside_x = (x >= 0) & (x < spec.width * spec.mpp)
        box = (y[0] / spec.mpp - 1, x[0] / spec.mpp - 1, y[-1] / spec.mpp + 1, x[-1] / spec.mpp + 1)
        for p in self.within(*box):
            top, left = p.y * TILE * spec.mpp, p.x * TILE * spec.mpp
            rows = np.flatnonzero(inside_y & (y >= top) & (y < top + tall))
            cols = np.flatnonzero(inside_x & (x >= left) & (x < left + wide))
            if not rows.size or not cols.size:
                continue
            py, px = y[rows] - top, x[cols] - left
            py = tall - py if p.flip_y else py
            px = wide - px if p.flip_x else px
            piece = self.bands[p.section].codes(py[:, None], px[None, :])
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
    """The generator from which a fragment's band, and then its nuclei, are drawn."""
    return np.random.default_rng([spec.seed, 3, section])


def make_layout(spec: PhantomSpec) -> Layout:
    """Plan a slide; takes milliseconds whatever its size."""
    rng = np.random.default_rng([spec.seed, 2])
    tile_um = TILE * spec.mpp
    high, wide = spec.height * spec.mpp, spec.width * spec.mpp
    tiles = math.ceil(spec.height / TILE), math.ceil(spec.width / TILE)
    close_up = max(high, wide) < _CLOSE_UP
    canvas = tiles if close_up else (_piece(high, tile_um, 0), _piece(wide, tile_um, 1))
    cells = [
        (y, x) for y in _starts(rng, tiles[0], canvas[0]) for x in _starts(rng, tiles[1], canvas[1])
    ]
    if len(cells) > 4:
        kept = max(4, round(len(cells) * float(rng.uniform(0.5, 0.75))))
        chosen = np.sort(rng.permutation(len(cells))[:kept])
        cells = [cells[i] for i in chosen]
    count = min(spec.bank, len(cells))
    which = np.concatenate([np.arange(count), rng.integers(0, count, len(cells) - count)])
    which = rng.permutation(which)
    flips = rng.integers(0, 2, (len(cells), 2)).astype(bool)
    placements = tuple(
        Placement(int(s), y, x, bool(f[0]), bool(f[1]))
        for (y, x), s, f in zip(cells, which, flips, strict=True)
    )
    size = math.ceil(canvas[0] * tile_um), math.ceil(canvas[1] * tile_um)
    bands = []
    for s in range(count):
        grades = spec.grades
        if grades is None and s == 0 and not close_up:
            grades = (1, 2, 3, 4)
        source = section_rng(spec, s)
        if close_up:
            bands.append(field_band(source, *size, grades, whole=True))
        else:
            bands.append(fragment_band(source, *size, grades))
    return Layout(spec, canvas, tuple(bands), placements)


def _piece(size: float, tile_um: float, axis: int) -> int:
    """A canvas's side in tiles: several share a side where it is long enough."""
    share = size / max(1, round(size / _TYPICAL[axis]))
    gap = 0 if share == size else tile_um
    return max(1, int(min(max(share - gap, 256.0), _CANVAS[axis]) / tile_um))


def _starts(rng: np.random.Generator, tiles: int, canvas: int) -> list[int]:
    """Where canvases begin along one axis, in tiles, with random gaps."""
    count = max(1, tiles // (canvas + 1))
    slack = tiles - count * canvas
    if slack <= 0:
        return [slack // 2]
    cuts = np.sort(rng.integers(0, slack + 1, count))
    return [int(c) + i * canvas for i, c in enumerate(cuts)]


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


def sample_spec() -> PhantomSpec:
    """A small slide (12,000 x 8,000 px, 3 x 2 mm) for File > Open Sample."""
    return PhantomSpec(height=8000, width=12000, seed=11)
