"""A slide of JPEG tiles in one file, for machines without OpenSlide or tifffile.

The tiles are of phantom tissue where SciPy is there to paint it, of seeded texture
otherwise. A few fields are painted and repeated in turns, each tile written anew, so
that the file has the size, and reading it the cost, of a slide.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from napari_hspnet.slides import Level, SlideInfo

TILE = 512
MPP = 0.5
QUALITY = 90


def fields(count: int, side: int) -> tuple[list[np.ndarray], str]:
    """Pictures of `side` px of `MPP` µm, and what they are of."""
    try:
        from napari_hspnet.phantom import domain_field

        return [domain_field(seed, side, side, MPP).rgb for seed in range(count)], "phantom tissue"
    except ImportError:
        return [_texture(seed, side) for seed in range(count)], "texture (SciPy is not installed)"


def _texture(seed: int, side: int) -> np.ndarray:
    """Blobs of two stains on a pale ground."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((side // 16 + 1, side // 16 + 1, 1)).repeat(16, 0).repeat(16, 1)
    fine = rng.random((side // 4 + 1, side // 4 + 1, 1)).repeat(4, 0).repeat(4, 1)
    blue = (fine[:side, :side] > 0.8) * (coarse[:side, :side] > 0.4)
    pink = np.array([225, 170, 205]) - 40 * coarse[:side, :side]
    rgb = np.where(blue, np.array([110, 80, 150]), pink) + rng.normal(0, 6, (side, side, 3))
    return rgb.clip(0, 255).astype(np.uint8)


class JpegSlide:
    """What the engine needs of a slide (`SlideLike`), from tiles in a file.

    Parameters
    ----------
    path : Path
        Is written.
    tiles : int
        Along each side, of `TILE` px of `MPP` µm.
    count : int
        Fields to paint, of two tiles along each side.
    """

    def __init__(self, path: Path, tiles: int, count: int) -> None:
        painted, self.what = fields(count, 2 * TILE)
        turns = [np.rot90(field, turn) for field in painted for turn in range(4)]
        encoded = [
            [_encode(field[y : y + TILE, x : x + TILE]) for y in (0, TILE) for x in (0, TILE)]
            for field in turns
        ]
        rng = np.random.default_rng(0)
        chosen = rng.integers(len(turns), size=(tiles // 2 + 1, tiles // 2 + 1))
        self.painted = painted
        self._index: dict[tuple[int, int], tuple[int, int]] = {}
        with path.open("wb") as file:
            for ty in range(tiles):
                for tx in range(tiles):
                    data = encoded[chosen[ty // 2, tx // 2]][ty % 2 * 2 + tx % 2]
                    self._index[ty, tx] = (file.tell(), len(data))
                    file.write(data)
        self._tiles = tiles
        self._path = path
        self._file = os.open(path, os.O_RDONLY)
        side = tiles * TILE
        self.info = SlideInfo(
            path=path,
            backend="jpeg",
            vendor="benchmark",
            levels=(Level((side, side), (1.0, 1.0), (TILE, TILE)),),
            mpp=(MPP, MPP),
            mpp_source="file",
            mpp_problem=None,
            objective=20.0,
            bounds=None,
            fingerprint="0" * 64,
            phantom=True,
        )

    @property
    def megabytes(self) -> float:
        """Size of the file."""
        return self._path.stat().st_size / 1e6

    def close(self) -> None:
        os.close(self._file)

    def read_grid(self, y: int, x: int, height: int, width: int, mpp: float) -> np.ndarray:
        """Pixels of the grid of `mpp` µm, a multiple of `MPP`; white beyond the slide."""
        factor = round(mpp / MPP)
        y, x, height, width = (value * factor for value in (y, x, height, width))
        out = np.full((height, width, 3), 255, dtype=np.uint8)
        for ty in range(max(0, y // TILE), min(self._tiles, -(-(y + height) // TILE))):
            for tx in range(max(0, x // TILE), min(self._tiles, -(-(x + width) // TILE))):
                tile = self._decode(ty, tx)
                y0, x0 = max(y, ty * TILE), max(x, tx * TILE)
                y1, x1 = min(y + height, (ty + 1) * TILE), min(x + width, (tx + 1) * TILE)
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[
                    y0 - ty * TILE : y1 - ty * TILE, x0 - tx * TILE : x1 - tx * TILE
                ]
        return out if factor == 1 else np.asarray(Image.fromarray(out).reduce(factor))

    def _decode(self, ty: int, tx: int) -> np.ndarray:
        offset, size = self._index[ty, tx]
        with Image.open(io.BytesIO(os.pread(self._file, size, offset))) as image:
            return np.asarray(image.convert("RGB"))


def _encode(rgb: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
