"""Masks as indexed PNG, to look at and to paste."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import Palette
from napari_hspnet.errors import InputError
from napari_hspnet.exchange.about import ExportInfo, colour_table
from napari_hspnet.exchange.output import Cancel, Report, new_file, refuse_existing, stop_if
from napari_hspnet.exchange.sources import LabelSource
from napari_hspnet.slides.grid import LabelGrid

__all__ = ["PNG_PIXELS", "checked_mpp", "indexed", "png_shape", "write_png"]

PNG_PIXELS = 80_000_000
"""Larger PNGs make Pillow and others suspect a decompression bomb."""

_READ = 2048


def checked_mpp(mpp: float) -> float:
    """A resolution that can be asked for.

    Raises
    ------
    InputError
        If it is none.
    """
    if not (math.isfinite(mpp) and mpp > 0):
        raise InputError(f"{mpp} µm per pixel is no resolution", advice="Give a number above zero")
    return mpp


def indexed(values: npt.NDArray[np.uint8], palette: Palette) -> Any:
    """Class values as a picture of palette indices.

    Parameters
    ----------
    values : ndarray of uint8, (h, w)
        As in a mask.
    palette : Palette
        Colours of the four classes.
    """
    from PIL import Image

    flat = [(0, 0, 0)] * 256
    for value, colour in colour_table(palette).items():
        flat[value] = colour
    image = Image.fromarray(values)
    image.putpalette([part for colour in flat for part in colour])
    return image


def png_shape(grid: LabelGrid, mpp: float | None = None) -> tuple[int, int]:
    """(height, width) of the PNG at `mpp` µm per pixel (the grid's by default).

    Raises
    ------
    InputError
        If that is not a size that can be opened again.
    """
    mpp = grid.mpp if mpp is None else checked_mpp(mpp)
    height, width = (max(1, math.ceil(side * grid.mpp / mpp - 1e-6)) for side in grid.shape)
    if height * width > PNG_PIXELS:
        coarser = math.ceil(mpp * math.sqrt(height * width / PNG_PIXELS) * 10 + 0.1) / 10
        raise InputError(
            f"A PNG of {width:,} x {height:,} pixels is more than most programs open",
            advice=f"Choose {coarser:g} µm per pixel or more for the PNG, or OME-TIFF",
        )
    return height, width


def write_png(
    path: Path,
    labels: LabelSource,
    about: ExportInfo,
    mpp: float | None = None,
    *,
    overwrite: bool = False,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Path:
    """Write class values as palette indices, nearest label to each pixel's centre.

    Text chunks carry what `ExportInfo.facts` says, pHYs the µm per pixel.

    Parameters
    ----------
    path : Path
        The file.
    labels : LabelSource
        What to export, the whole label grid.
    about : ExportInfo
        What the file says of itself.
    mpp : float, optional
        µm per pixel; the label grid's by default.
    overwrite, progress, cancel
        As for `write_ome_tiff`.

    Raises
    ------
    InputError
        More than `PNG_PIXELS` pixels.
    OutputError
        The file exists, the disk is full, or writing is not permitted.
    CancelledError
        If `cancel` was set.
    """
    from PIL import PngImagePlugin

    path = Path(path)
    refuse_existing(path, overwrite)
    grid = labels.grid
    mpp = grid.mpp if mpp is None else mpp
    shape = png_shape(grid, mpp)
    values = _sampled(labels, shape, mpp, progress, cancel)
    image = indexed(values, about.palette)
    text = PngImagePlugin.PngInfo()
    for key, said in about.facts().items():
        text.add_itxt(key, said)
    text.add_itxt("um_per_pixel", repr(mpp))
    stop_if(cancel)
    with new_file(path, overwrite) as beside:
        image.save(beside, format="PNG", pnginfo=text, dpi=(25400 / mpp, 25400 / mpp))
        stop_if(cancel)
    return path


def _sampled(
    labels: LabelSource,
    shape: tuple[int, int],
    mpp: float,
    progress: Report | None,
    cancel: Cancel | None,
) -> npt.NDArray[np.uint8]:
    grid = labels.grid
    values = np.empty(shape, np.uint8)
    rows, columns = (
        np.minimum(((np.arange(side) + 0.5) * mpp / grid.mpp).astype(np.int64), limit - 1)
        for side, limit in zip(shape, grid.shape, strict=True)
    )
    step = max(1, int(_READ * grid.mpp / mpp))
    for top in range(0, shape[0], step):
        picked_rows = rows[top : top + step]
        for left in range(0, shape[1], step):
            stop_if(cancel)
            picked = columns[left : left + step]
            y, x = int(picked_rows[0]), int(picked[0])
            box = labels.read(y, x, int(picked_rows[-1]) - y + 1, int(picked[-1]) - x + 1)
            values[top : top + step, left : left + step] = box[picked_rows - y][:, picked - x]
        if progress is not None:
            progress(min(1.0, (top + step) / shape[0]))
    return values
