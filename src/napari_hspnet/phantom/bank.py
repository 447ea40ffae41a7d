"""Stained tiles: every fragment painted once, and what lies under slide artefacts.

A fragment's tiles are encoded once for each of its orientations on the slide and
placed by pointing to them. Tiles under what lies on the cover glass (pen, dust,
bubbles) are unlike all others and made for their place.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.artefacts import (
    Artefact,
    apply_all,
    draw_on_glass,
    draw_on_tissue,
    reading,
)
from napari_hspnet.phantom.domains import Domain, domain
from napari_hspnet.phantom.layout import TILE, Layout, Placement, make_layout
from napari_hspnet.phantom.scanner import encode, expose, margin, transmission
from napari_hspnet.phantom.spec import PhantomSpec
from napari_hspnet.phantom.tissue import Section, shrink

__all__ = [
    "STEP",
    "BankTile",
    "Block",
    "Plan",
    "SlideTile",
    "blank_tiles",
    "deflate",
    "glass_tiles",
    "make_plan",
    "section_blocks",
    "truth_row",
]

Image = npt.NDArray[np.uint8]
Light = npt.NDArray[np.float32]
Way = tuple[bool, bool, bool]

STEP = 4
"""From a level to the next."""

BLANKS = 8
"""Different tiles of empty glass, so that no pattern shows."""

_BLOCK = 4
# Light below this share is more than what the scanner's noise hides.
_EMPTY = 0.985


@dataclass(frozen=True)
class BankTile:
    """A tile of a fragment in one orientation.

    Attributes
    ----------
    way : tuple of bool
        See `Placement.way`.
    row, col : int
        Of the canvas, not turned, in tiles.
    data : bytes
        JPEG.
    """

    way: Way
    row: int
    col: int
    data: bytes


@dataclass(frozen=True)
class SlideTile:
    """A tile of the slide that is unlike all others.

    Attributes
    ----------
    row, col : int
        Of the slide, in tiles.
    data : bytes
        JPEG.
    small : ndarray of uint8, (TILE / STEP, TILE / STEP, 3)
        Its area average.
    """

    row: int
    col: int
    data: bytes
    small: Image


@dataclass(frozen=True)
class Block:
    """What came of painting a block of a fragment, or some tiles of glass.

    Attributes
    ----------
    tiles : tuple of BankTile
    special : tuple of SlideTile
    row, col : int
        Of the block's first tile on the canvas.
    small : ndarray of uint8, (h, w, 3)
        The area average of the block; (0, 0, 3) of glass.
    count : int
        Tiles done, for progress.
    """

    tiles: tuple[BankTile, ...]
    special: tuple[SlideTile, ...]
    row: int
    col: int
    small: Image
    count: int


@dataclass(frozen=True)
class Plan:
    """A slide before it is painted.

    Attributes
    ----------
    layout : Layout
    look : Domain
    on_glass : tuple of Artefact
        On the slide.
    special : dict
        Tiles of the slide (row, col) that artefacts on glass may touch, with
        their indices.
    check : callable
        Called between steps; may raise to give up.
    """

    layout: Layout
    look: Domain
    on_glass: tuple[Artefact, ...]
    special: dict[tuple[int, int], tuple[int, ...]]
    check: Callable[[], None]

    def on_bare_glass(self) -> list[tuple[int, int]]:
        """Special tiles on which no fragment's canvas lies."""
        covered = np.zeros(_grid(self.layout.spec), bool)
        for p in self.layout.placements:
            covered[max(p.y, 0) : p.y + p.height, max(p.x, 0) : p.x + p.width] = True
        return [place for place in sorted(self.special) if not covered[place]]


def _grid(spec: PhantomSpec) -> tuple[int, int]:
    return -(-spec.height // TILE), -(-spec.width // TILE)


def make_plan(spec: PhantomSpec, check: Callable[[], None]) -> Plan:
    """Plan a slide and what lies on its cover glass."""
    look = domain(spec.domain)
    found: tuple[Artefact, ...] = ()
    if spec.artefacts and spec.style == "he":
        rng = np.random.default_rng([spec.seed, 9])
        found = draw_on_glass(rng, look.rates, spec.height * spec.mpp, spec.width * spec.mpp)
    return Plan(make_layout(spec), look, found, _touched(spec, look, found), check)


def _touched(
    spec: PhantomSpec, look: Domain, found: tuple[Artefact, ...]
) -> dict[tuple[int, int], tuple[int, ...]]:
    """Which tiles of the slide which artefacts may change."""
    tile_um = TILE * spec.mpp
    # Blur carries them a little further, and those that look around further yet.
    far = (margin(look.scanner, spec.mpp) + 1) * spec.mpp
    far += 2 * max((a.reads for a in found), default=0.0)
    rows, cols = _grid(spec)
    touched: dict[tuple[int, int], list[int]] = {}
    for index, artefact in enumerate(found):
        y0, x0, y1, x1 = artefact.box
        for row in range(
            max(0, math.floor((y0 - far) / tile_um)), min(rows, math.ceil((y1 + far) / tile_um))
        ):
            for col in range(
                max(0, math.floor((x0 - far) / tile_um)), min(cols, math.ceil((x1 + far) / tile_um))
            ):
                top, left = row * tile_um, col * tile_um
                if artefact.meets(
                    (top - far, left - far, top + tile_um + far, left + tile_um + far)
                ):
                    touched.setdefault((row, col), []).append(index)
    return {place: tuple(indices) for place, indices in touched.items()}


def _noise_seed(spec: PhantomSpec, place: int) -> int:
    """Of a fragment's noise, or of the slide's (-1)."""
    return int(np.random.default_rng([spec.seed, 8, place + 1]).integers(2**62))


def blank_tiles(plan: Plan) -> list[Image]:
    """Some tiles of empty glass."""
    spec, scanner = plan.layout.spec, plan.look.scanner
    need = margin(scanner, spec.mpp)
    side = TILE + 2 * need
    light = np.ones((side, side, 3), np.float32)
    seed = _noise_seed(spec, -1)
    return [expose(light, need, spec.mpp, scanner, seed, -TILE, i * TILE) for i in range(BLANKS)]


def section_blocks(plan: Plan, index: int) -> Iterator[Block]:
    """Paint a fragment, block by block, and encode its tiles."""
    spec, look = plan.layout.spec, plan.look
    rows, cols = plan.layout.canvases[index]
    tile_um = TILE * spec.mpp
    section = Section(
        plan.layout.bands[index],
        np.random.default_rng([spec.seed, 6, index]),
        look.stain.draw(np.random.default_rng([spec.seed, 5])),
        plan.check,
    )
    found: tuple[Artefact, ...] = ()
    if spec.artefacts:
        rng = np.random.default_rng([spec.seed, 10, index])
        found = draw_on_tissue(rng, look.rates, rows * tile_um, cols * tile_um)
    placed = [p for p in plan.layout.placements if p.section == index]
    ways = {p.way: p for p in reversed(placed)}
    seed = _noise_seed(spec, index)
    need = margin(look.scanner, spec.mpp)
    for top in range(0, rows, _BLOCK):
        for left in range(0, cols, _BLOCK):
            plan.check()
            height, width = min(_BLOCK, rows - top), min(_BLOCK, cols - left)
            inner = [(top + i, left + j) for i in range(height) for j in range(width)]
            special = [
                (p, place) for p in placed for place in inner if p.tile(*place) in plan.special
            ]
            over = 0.0
            for p, place in special:
                over = max(over, reading(plan.on_glass[n] for n in plan.special[p.tile(*place)]))
            border = need + math.ceil(over / spec.mpp)
            box = top * TILE, left * TILE, height * TILE, width * TILE
            light = _light(section, found, box, border, spec.mpp)
            image = expose(light, border, spec.mpp, look.scanner, seed, box[0], box[1])
            yield Block(
                tuple(_bank_tiles(plan, ways, light, border, image, top, left)),
                tuple(
                    _under_glass(plan, p, place, _part(light, border, top, left, place))
                    for p, place in special
                ),
                top,
                left,
                shrink(image, STEP),
                height * width,
            )


def _light(
    section: Section,
    found: tuple[Artefact, ...],
    box: tuple[int, int, int, int],
    border: int,
    mpp: float,
) -> Light:
    """Light of a block with a border, after what is in the tissue has changed it."""
    top, left, height, width = box
    wide = border + math.ceil(reading(found) / mpp)
    y0, x0 = (top - wide) * mpp, (left - wide) * mpp
    y1, x1 = (top + height + wide) * mpp, (left + width + wide) * mpp
    here = [a for a in found if a.meets((y0, x0, y1, x1))]
    wide = border + math.ceil(reading(here) / mpp)
    y, x = top - wide, left - wide
    light = transmission(section.paint(y, x, height + 2 * wide, width + 2 * wide, mpp))
    light = apply_all(light, here, y, x, mpp)
    extra = wide - border
    return light[extra : light.shape[0] - extra, extra : light.shape[1] - extra]


def _part(light: Light, border: int, top: int, left: int, place: tuple[int, int]) -> Light:
    """A tile of a block, with the block's border around it."""
    y, x = (place[0] - top) * TILE, (place[1] - left) * TILE
    return light[y : y + TILE + 2 * border, x : x + TILE + 2 * border]


def _bank_tiles(
    plan: Plan,
    ways: dict[Way, Placement],
    light: Light,
    border: int,
    image: Image,
    top: int,
    left: int,
) -> Iterator[BankTile]:
    scanner, quality = plan.look.scanner, plan.layout.spec.quality
    need = margin(scanner, plan.layout.spec.mpp)
    for i in range(image.shape[0] // TILE):
        for j in range(image.shape[1] // TILE):
            part = _part(light, border, 0, 0, (i, j))
            cut = slice(border - need, border + TILE + need)
            if float(part[cut, cut].min()) >= _EMPTY:
                continue
            tile = image[i * TILE : (i + 1) * TILE, j * TILE : (j + 1) * TILE]
            for way, placement in sorted(ways.items()):
                data = encode(placement.lay(tile), scanner, quality)
                yield BankTile(way, top + i, left + j, data)


def _under_glass(
    plan: Plan, placement: Placement, place: tuple[int, int], part: Light
) -> SlideTile:
    """A tile with what lies on the slide above it."""
    row, col = placement.tile(*place)
    return _slide_tile(plan, row, col, np.ascontiguousarray(placement.lay(part)))


def _slide_tile(plan: Plan, row: int, col: int, light: Light) -> SlideTile:
    spec, scanner = plan.layout.spec, plan.look.scanner
    border = (light.shape[0] - TILE) // 2
    here = [plan.on_glass[n] for n in plan.special[row, col]]
    light = apply_all(light, here, row * TILE - border, col * TILE - border, spec.mpp)
    seed = _noise_seed(spec, -1)
    image = expose(light, border, spec.mpp, scanner, seed, row * TILE, col * TILE)
    return SlideTile(row, col, encode(image, scanner, spec.quality), shrink(image, STEP))


def glass_tiles(plan: Plan, places: list[tuple[int, int]]) -> Iterator[Block]:
    """Tiles of bare glass with what lies on it."""
    need = margin(plan.look.scanner, plan.layout.spec.mpp)
    for row, col in places:
        plan.check()
        reads = reading(plan.on_glass[n] for n in plan.special[row, col])
        border = need + math.ceil(reads / plan.layout.spec.mpp)
        side = TILE + 2 * border
        light = np.ones((side, side, 3), np.float32)
        tile = _slide_tile(plan, row, col, light)
        yield Block((), (tile,), 0, 0, np.zeros((0, 0, 3), np.uint8), 1)


def deflate(tile: Image) -> bytes:
    """A tile without loss."""
    return zlib.compress(tile.tobytes(), 3)


def truth_row(plan: Plan, row: int) -> Iterator[list[bytes]]:
    """The truth's tiles of a row."""
    tiles = []
    for col in range(-(-plan.layout.spec.label_shape[1] // TILE)):
        plan.check()
        tiles.append(deflate(plan.layout.truth(row * TILE, col * TILE, TILE, TILE)))
    yield tiles
