"""Writing an oracle slide: flat colours of the label pixel under a pixel's centre."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.bank import Plan, deflate
from napari_hspnet.phantom.bigtiff import Page, TiledTiff
from napari_hspnet.phantom.job import Work
from napari_hspnet.phantom.layout import TILE, Layout
from napari_hspnet.phantom.oracle import ORACLE_GLASS, oracle_paint
from napari_hspnet.phantom.pyramid import build_levels
from napari_hspnet.slides.grid import LABEL_MPP

__all__ = ["write_oracle"]

Image = npt.NDArray[np.uint8]


def write_oracle(plan: Plan, tiff: TiledTiff, pages: list[Page], work: Work, workers: int) -> None:
    """Put the tiles of all pages; in this process, whatever the workers."""
    work.what = "slide"
    plain = np.empty((TILE, TILE, 3), np.uint8)
    plain[:] = ORACLE_GLASS

    def leaf(row: int, col: int) -> Image | None:
        box = tuple(n * TILE for n in (row, col, row + 1, col + 1))
        if next(plan.layout.within(*box), None) is None:
            return None
        return _tile(plan.layout, row, col)

    build_levels(tiff, pages, leaf, plain, deflate, work.step)


def _tile(layout: Layout, row: int, col: int) -> Image:
    step = layout.spec.mpp / LABEL_MPP
    y = np.floor((np.arange(row * TILE, (row + 1) * TILE) + 0.5) * step).astype(np.intp)
    x = np.floor((np.arange(col * TILE, (col + 1) * TILE) + 0.5) * step).astype(np.intp)
    codes = layout.label_codes(int(y[0]), int(x[0]), int(y[-1] - y[0]) + 1, int(x[-1] - x[0]) + 1)
    return np.asarray(oracle_paint(codes)[(y - y[0])[:, None], x - x[0]])
