"""Writing a phantom as a pyramidal slide that OpenSlide reads."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError, OutputError
from napari_hspnet.phantom.bigtiff import DEFLATE, JPEG, Page, Ref, TiledTiff
from napari_hspnet.phantom.layout import (
    PHANTOM_VERSION,
    TILE,
    Layout,
    PhantomSpec,
    make_layout,
)
from napari_hspnet.phantom.oracle import ORACLE_GLASS, oracle_paint
from napari_hspnet.phantom.stain import Stain
from napari_hspnet.phantom.tissue import GLASS_COLOUR, Section, glass, shrink
from napari_hspnet.slides.grid import LABEL_MPP

__all__ = ["PHANTOM_MARK", "PhantomResult", "write_phantom"]

PHANTOM_MARK = "napari-hspnet phantom"
"""Text in the image description by which a phantom is known."""

Image = npt.NDArray[np.uint8]
Report = Callable[[float, str], None]

_STEP = 4
_TOP_SIDE = 1024
_MAX_LEVELS = 5
_BLOCK = 4


@dataclass(frozen=True)
class PhantomResult:
    """What became of a call of `write_phantom`.

    Attributes
    ----------
    path : Path
        The slide.
    truth_path : Path or None
        The truth, where it was asked for.
    bytes_written : int
        Both files together; 0 where it was cancelled.
    cancelled : bool
        If so, neither file exists because of this call.
    """

    path: Path
    truth_path: Path | None
    bytes_written: int
    cancelled: bool = False


class _CancelledError(Exception):
    """The caller's event was set."""


@dataclass
class _Work:
    """Passes on progress, and stops when told to."""

    progress: Report | None
    cancel: threading.Event | None
    total: int
    what: str = ""
    done: int = 0

    def check(self) -> None:
        if self.cancel is not None and self.cancel.is_set():
            raise _CancelledError

    def step(self, count: int = 1) -> None:
        self.check()
        self.done += count
        if self.progress is not None:
            self.progress(min(1.0, self.done / max(1, self.total)), self.what)


def write_phantom(
    path: str | os.PathLike[str],
    spec: PhantomSpec,
    truth_path: str | os.PathLike[str] | None = None,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
    overwrite: bool = False,
) -> PhantomResult:
    """Write a phantom slide as a pyramidal BigTIFF, and its truth beside it.

    Levels are true area averages, 4 apart. Memory does not grow with the slide
    beyond the tile tables. Files appear under their names when complete.

    Parameters
    ----------
    path : path
        The slide, usually ``.tiff``.
    spec : PhantomSpec
        What to write; the same on one platform gives the same bytes.
    truth_path : path, optional
        A tiled, deflated uint8 TIFF at 1 µm per pixel: the label grid, pixel
        by pixel, values 0 to 4 (see `truth_block`).
    progress : callable, optional
        Called with a share 0..1 and what is being done, from this thread.
    cancel : threading.Event, optional
        Stops within a second when set; nothing is left behind.
    overwrite : bool
        Whether existing files may be replaced.

    Returns
    -------
    PhantomResult

    Raises
    ------
    OutputError
        If the folder is missing or not writable, a file exists already, or the
        disk is or gets full.
    InputError
        If both paths are the same.
    """
    target = Path(path)
    truth_target = None if truth_path is None else Path(truth_path)
    if truth_target is not None and truth_target.resolve() == target.resolve():
        raise InputError(
            "slide and truth cannot be the same file", advice="Give them different names"
        )
    targets = [t for t in (target, truth_target) if t is not None]
    for t in targets:
        _check_target(t, overwrite)
    layout = make_layout(spec)
    pages = _pages(spec)
    _check_space(target.parent, layout)
    parts = [t.with_name(f".{t.name}.{os.getpid()}.part") for t in targets]
    total = sum(p.offsets.size for p in pages)
    work = _Work(progress, cancel, total + _bank_tiles(layout))
    try:
        work.check()
        with parts[0].open("wb") as file:
            tiff = TiledTiff(file)
            _STYLES[spec.style](layout, tiff, pages, work)
            size = tiff.finish(pages)
        if truth_target is not None:
            work.what = "truth"
            with parts[1].open("wb") as file:
                size += _write_truth(layout, TiledTiff(file), work)
        work.check()
        for part, t in zip(parts, targets, strict=True):
            part.replace(t)
    except _CancelledError:
        return PhantomResult(target, truth_target, 0, cancelled=True)
    except OSError as error:
        raise OutputError(
            f"the phantom cannot be written: {error.strerror or error}",
            advice="Choose a folder that can be written and has room",
            path=target,
        ) from error
    finally:
        for part in parts:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    return PhantomResult(target, truth_target, size)


def _check_target(path: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(
            f"the folder {path.parent} does not exist",
            advice="Create it or choose another",
            path=path,
        )
    if path.is_dir() or (path.exists() and not overwrite):
        raise OutputError(
            f"{path} exists already", advice="Choose another name or remove it", path=path
        )


def _check_space(folder: Path, layout: Layout) -> None:
    """Refuse before an hour's work what the disk cannot hold; generous by a half."""
    per_tile = 40_000 if layout.spec.style == "he" else 3_000
    tissue = len(layout.placements) * layout.canvas[0] * layout.canvas[1]
    drawn = _bank_tiles(layout) * 4 if layout.spec.style == "he" else tissue
    tables = 16 * -(-layout.spec.height // TILE) * -(-layout.spec.width // TILE)
    need = per_tile * (min(drawn, tissue) + tissue // 12) + 2 * tables + 4_000_000
    free = shutil.disk_usage(folder).free
    if free < need:
        raise OutputError(
            f"the phantom may need {need / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB free",
            advice="Make room, choose another folder or a smaller phantom",
            path=folder,
        )


def _bank_tiles(layout: Layout) -> int:
    if layout.spec.style != "he":
        return 0
    return len(layout.bands) * layout.canvas[0] * layout.canvas[1]


def _pages(spec: PhantomSpec) -> list[Page]:
    """One page a level, sizes rounded up."""
    compression = JPEG if spec.style == "he" else DEFLATE
    text = (
        f"{PHANTOM_MARK} version={PHANTOM_VERSION} seed={spec.seed} style={spec.style} "
        f"mpp={spec.mpp} size={spec.width}x{spec.height} SYNTHETIC, not from a patient"
    )
    pages = [Page((spec.height, spec.width), 3, compression, TILE, spec.mpp, text)]
    while max(pages[-1].shape) > _TOP_SIDE and len(pages) < _MAX_LEVELS:
        factor = _STEP ** len(pages)
        shape = -(-spec.height // factor), -(-spec.width // factor)
        pages.append(Page(shape, 3, compression, TILE, spec.mpp * factor, reduced=True))
    return pages


def _jpeg(tile: Image, quality: int) -> bytes:
    from PIL import Image as Pillow

    out = io.BytesIO()
    Pillow.fromarray(tile).save(out, "JPEG", quality=quality, subsampling=2)
    return out.getvalue()


def _deflate(tile: Image) -> bytes:
    return zlib.compress(tile.tobytes(), 3)


# Haematoxylin and eosin: every fragment is painted once, its tiles are encoded
# once a mirror image, and placed by pointing to them.


@dataclass(frozen=True)
class _Fragment:
    """Tiles of a fragment by flips (y, x), and its lower levels."""

    tiles: dict[tuple[bool, bool], list[list[Ref | None]]]
    levels: tuple[Image, ...]


def _write_he(layout: Layout, tiff: TiledTiff, pages: list[Page], work: _Work) -> None:
    spec = layout.spec
    empty = glass(np.random.default_rng([spec.seed, 4]), TILE, TILE)
    blank = tiff.add(_jpeg(empty, spec.quality))
    plain = np.empty((TILE, TILE, 3), np.uint8)
    plain[:] = GLASS_COLOUR
    low_blank = tiff.add(_jpeg(plain, spec.quality))
    work.what = "tissue"
    bank = [_paint_fragment(layout, s, tiff, len(pages), work) for s in range(len(layout.bands))]
    work.what = "slide"
    _place_full(layout, bank, pages[0], blank)
    work.step(pages[0].offsets.size)
    for level, page in enumerate(pages[1:], start=1):
        for row in range(page.grid[0]):
            for col in range(page.grid[1]):
                tile = _compose(layout, bank, level, row, col)
                ref = low_blank if tile is None else tiff.add(_jpeg(tile, spec.quality))
                page.put(row, col, ref)
                work.step()


def _paint_fragment(
    layout: Layout, index: int, tiff: TiledTiff, levels: int, work: _Work
) -> _Fragment:
    spec, canvas = layout.spec, layout.canvas
    # Not the band's own generator: its state after the band is not kept.
    section = Section(
        layout.bands[index],
        np.random.default_rng([spec.seed, 6, index]),
        Stain.draw(np.random.default_rng([spec.seed, 5])),
        work.check,
    )
    used = {(p.flip_y, p.flip_x) for p in layout.placements if p.section == index}
    tiles: dict[tuple[bool, bool], list[list[Ref | None]]] = {
        flips: [[None] * canvas[1] for _ in range(canvas[0])] for flips in sorted(used)
    }
    small = np.empty((canvas[0] * TILE // _STEP, canvas[1] * TILE // _STEP, 3), np.uint8)
    for top, left, height, width in _blocks(canvas):
        work.check()
        block = section.paint(top * TILE, left * TILE, height * TILE, width * TILE, spec.mpp)
        y, x = top * TILE // _STEP, left * TILE // _STEP
        reduced = shrink(block, _STEP)
        small[y : y + reduced.shape[0], x : x + reduced.shape[1]] = reduced
        for i in range(height):
            for j in range(width):
                tile = block[i * TILE : (i + 1) * TILE, j * TILE : (j + 1) * TILE]
                # Noise alone does not reach so far down.
                if int(tile.min()) < min(GLASS_COLOUR) - 14:
                    for (fy, fx), grid in tiles.items():
                        turned = tile[:: -1 if fy else 1, :: -1 if fx else 1]
                        data = _jpeg(np.ascontiguousarray(turned), spec.quality)
                        row = canvas[0] - 1 - top - i if fy else top + i
                        col = canvas[1] - 1 - left - j if fx else left + j
                        grid[row][col] = tiff.add(data)
                work.step()
    pyramid = [small]
    for _ in range(levels - 2):
        pyramid.append(shrink(pyramid[-1], _STEP))
    return _Fragment(tiles, tuple(pyramid))


def _blocks(canvas: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    for top in range(0, canvas[0], _BLOCK):
        for left in range(0, canvas[1], _BLOCK):
            yield top, left, min(_BLOCK, canvas[0] - top), min(_BLOCK, canvas[1] - left)


def _place_full(layout: Layout, bank: list[_Fragment], page: Page, blank: Ref) -> None:
    page.offsets[:], page.lengths[:] = blank
    for p in layout.placements:
        for i, line in enumerate(bank[p.section].tiles[p.flip_y, p.flip_x]):
            for j, ref in enumerate(line):
                row, col = p.y + i, p.x + j
                inside = 0 <= row < page.grid[0] and 0 <= col < page.grid[1]
                if ref is not None and inside:
                    page.put(row, col, ref)


def _compose(layout: Layout, bank: list[_Fragment], level: int, row: int, col: int) -> Image | None:
    """A tile of a lower level, or None where it is glass alone."""
    factor = _STEP**level
    side = TILE * factor
    out = None
    for p in layout.within(row * side, col * side, (row + 1) * side, (col + 1) * side):
        if out is None:
            out = np.empty((TILE, TILE, 3), np.uint8)
            out[:] = GLASS_COLOUR
        source = bank[p.section].levels[level - 1]
        source = source[:: -1 if p.flip_y else 1, :: -1 if p.flip_x else 1]
        y = p.y * TILE // factor - row * TILE
        x = p.x * TILE // factor - col * TILE
        y0, x0 = max(y, 0), max(x, 0)
        y1, x1 = min(y + source.shape[0], TILE), min(x + source.shape[1], TILE)
        out[y0:y1, x0:x1] = source[y0 - y : y1 - y, x0 - x : x1 - x]
    return out


# Oracle: flat colours of the label pixel in which a pixel's centre lies.


def _write_oracle(layout: Layout, tiff: TiledTiff, pages: list[Page], work: _Work) -> None:
    work.what = "slide"
    plain = np.empty((TILE, TILE, 3), np.uint8)
    plain[:] = ORACLE_GLASS
    blank = tiff.add(_deflate(plain))

    def visit(level: int, row: int, col: int) -> Image | None:
        """Write a tile and all below it; None where that is glass alone."""
        page = pages[level]
        if row >= page.grid[0] or col >= page.grid[1]:
            return None
        tile = None
        side = TILE * _STEP**level
        box = row * side, col * side, (row + 1) * side, (col + 1) * side
        if next(layout.within(*box), None) is not None and level == 0:
            tile = _oracle_tile(layout, row, col)
        elif level > 0:
            below = [
                [visit(level - 1, row * _STEP + i, col * _STEP + j) for j in range(_STEP)]
                for i in range(_STEP)
            ]
            if any(t is not None for line in below for t in line):
                lines = [np.hstack([plain if t is None else t for t in ln]) for ln in below]
                tile = shrink(np.vstack(lines), _STEP)
        ref = blank if tile is None else tiff.add(_deflate(tile))
        page.put(row, col, ref)
        work.step()
        return tile

    top = pages[-1]
    for row in range(top.grid[0]):
        for col in range(top.grid[1]):
            visit(len(pages) - 1, row, col)


def _oracle_tile(layout: Layout, row: int, col: int) -> Image:
    step = layout.spec.mpp / LABEL_MPP
    y = np.floor((np.arange(row * TILE, (row + 1) * TILE) + 0.5) * step).astype(np.intp)
    x = np.floor((np.arange(col * TILE, (col + 1) * TILE) + 0.5) * step).astype(np.intp)
    codes = layout.label_codes(int(y[0]), int(x[0]), int(y[-1] - y[0]) + 1, int(x[-1] - x[0]) + 1)
    return np.asarray(oracle_paint(codes)[(y - y[0])[:, None], x - x[0]])


def _write_truth(layout: Layout, tiff: TiledTiff, work: _Work) -> int:
    text = f"{PHANTOM_MARK} truth version={PHANTOM_VERSION} seed={layout.spec.seed}"
    page = Page(layout.spec.label_shape, 1, DEFLATE, TILE, LABEL_MPP, text)
    for row in range(page.grid[0]):
        for col in range(page.grid[1]):
            work.check()
            block = layout.truth(row * TILE, col * TILE, TILE, TILE)
            page.put(row, col, tiff.add(_deflate(block)))
    return tiff.finish([page])


_STYLES = {"he": _write_he, "oracle": _write_oracle}
