"""Writing a stained slide: tiles from the bank, placed; lower levels from them."""

from __future__ import annotations

import contextlib

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.bank import (
    BLANKS,
    STEP,
    Block,
    Plan,
    blank_tiles,
    glass_tiles,
    make_plan,
    section_blocks,
)
from napari_hspnet.phantom.bigtiff import Page, Ref, TiledTiff
from napari_hspnet.phantom.crew import Job, run_jobs
from napari_hspnet.phantom.job import Work
from napari_hspnet.phantom.layout import TILE
from napari_hspnet.phantom.pyramid import build_levels
from napari_hspnet.phantom.scanner import encode
from napari_hspnet.phantom.tissue import shrink

__all__ = ["stained_steps", "write_stained"]

Image = npt.NDArray[np.uint8]

_GLASS_CHUNK = 64


def stained_steps(plan: Plan) -> int:
    """Tiles to be painted, for progress."""
    return sum(h * w for h, w in plan.layout.canvases) + len(plan.on_bare_glass())


class _Bank:
    """Where the bytes of tiles lie, and the second level of every fragment."""

    def __init__(self, plan: Plan, tiff: TiledTiff, glass: Image) -> None:
        self.glass = glass
        self._plan = plan
        self._tiff = tiff
        self._refs: dict[tuple[int, tuple[bool, bool, bool]], dict[tuple[int, int], Ref]] = {}
        side = TILE // STEP
        self._small = [np.zeros((h * side, w * side, 3), np.uint8) for h, w in plan.layout.canvases]
        self._special: dict[tuple[int, int], tuple[Ref, Image]] = {}

    def take(self, section: int | None, block: Block) -> None:
        """Keep what came of a fragment's job, or (None) of one on bare glass."""
        for special in block.special:
            ref = self._tiff.add(special.data)
            self._special[special.row, special.col] = ref, special.small
        if section is None:
            return
        for tile in block.tiles:
            refs = self._refs.setdefault((section, tile.way), {})
            refs[tile.row, tile.col] = self._tiff.add(tile.data)
        side = TILE // STEP
        y, x = block.row * side, block.col * side
        height, width = block.small.shape[:2]
        self._small[section][y : y + height, x : x + width] = block.small

    def place(self, page: Page, blanks: list[Ref]) -> None:
        """Fill the first page."""
        rows, cols = page.grid
        which = np.asarray([[_variety(i, j) for j in range(cols)] for i in range(rows)])
        page.offsets[:] = np.asarray([b[0] for b in blanks], np.uint64)[which]
        page.lengths[:] = np.asarray([b[1] for b in blanks], np.uint64)[which]
        for p in self._plan.layout.placements:
            for place, ref in self._refs.get((p.section, p.way), {}).items():
                row, col = p.tile(*place)
                if 0 <= row < rows and 0 <= col < cols:
                    page.put(row, col, ref)
        for (row, col), (ref, _) in self._special.items():
            page.put(row, col, ref)

    def second(self, row: int, col: int) -> Image | None:
        """A tile of the second level, or None where it is glass alone."""
        side = TILE // STEP
        box = tuple(n * TILE * STEP for n in (row, col, row + 1, col + 1))
        out = self.glass.copy()
        touched = False
        for p in self._plan.layout.within(*box):
            touched = True
            source = p.lay(self._small[p.section])
            y, x = p.y * side - row * TILE, p.x * side - col * TILE
            y0, x0 = max(y, 0), max(x, 0)
            y1, x1 = min(y + source.shape[0], TILE), min(x + source.shape[1], TILE)
            out[y0:y1, x0:x1] = source[y0 - y : y1 - y, x0 - x : x1 - x]
        for i in range(STEP):
            for j in range(STEP):
                special = self._special.get((row * STEP + i, col * STEP + j))
                if special is not None:
                    touched = True
                    out[i * side : (i + 1) * side, j * side : (j + 1) * side] = special[1]
        return out if touched else None


def _second_blank(blanks: list[Image]) -> Image:
    """Glass alone at the second level, with the little noise that is left there.

    Flat colour instead would show where the fragments' canvases end.
    """
    small = [shrink(blank, STEP) for blank in blanks]
    return np.vstack([np.hstack([small[_variety(i, j)] for j in range(STEP)]) for i in range(STEP)])


def _variety(row: int, col: int) -> int:
    """Which tile of empty glass lies where; neighbours differ, above and beside."""
    return (row * 3 + col) % BLANKS


def write_stained(plan: Plan, tiff: TiledTiff, pages: list[Page], work: Work, workers: int) -> None:
    """Paint fragments in `workers` processes, and put the tiles of all pages."""
    spec, scanner = plan.layout.spec, plan.look.scanner
    empty = blank_tiles(plan)
    blanks = [tiff.add(encode(tile, scanner, spec.quality)) for tile in empty]
    bare = plan.on_bare_glass()
    jobs: list[Job] = [(section_blocks, (s,)) for s in range(len(plan.layout.bands))]
    jobs += [
        (glass_tiles, (bare[start : start + _GLASS_CHUNK],))
        for start in range(0, len(bare), _GLASS_CHUNK)
    ]
    bank = _Bank(plan, tiff, _second_blank(empty))
    work.what = "tissue"
    results = run_jobs(
        (make_plan, (spec,)), jobs, workers, work.check, lambda block: work.step(block.count)
    )
    with contextlib.closing(results):
        for index, block in results:
            bank.take(index if index < len(plan.layout.bands) else None, block)
    work.what = "slide"
    bank.place(pages[0], blanks)
    work.step(pages[0].offsets.size)
    build_levels(
        tiff,
        pages[1:],
        bank.second,
        bank.glass,
        lambda tile: encode(tile, scanner, spec.quality),
        work.step,
    )
