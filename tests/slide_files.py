"""Tiny slides that OpenSlide and tifffile read, for the tests of every room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

Pixels = npt.NDArray[np.uint8]

SHARED_DATA = Path(__file__).resolve().parents[1] / "../shared/data"
"""Real slides beside the checkout; tests that need one skip where it is absent."""


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    """Smooth coloured noise, (height, width, 3): every place looks different."""
    from scipy.ndimage import gaussian_filter

    field = np.random.default_rng(seed).normal(size=(height, width, 3))
    field = gaussian_filter(field, (1.5, 1.5, 0))
    return np.clip(150 + 200 * field, 0, 255).astype(np.uint8)


def write_generic_tiff(
    path: Path,
    levels: Sequence[Pixels],
    mpp: float | tuple[float, float] | None = 0.25,
    *,
    tile: int = 64,
    compression: str | None = "zlib",
    description: str | None = None,
) -> Path:
    """A generic tiled pyramidal TIFF; `mpp` is (y, x) µm/px or one number for both.

    Lossless by default, so that what is read can be compared exactly.
    """
    pair = mpp if isinstance(mpp, tuple) or mpp is None else (mpp, mpp)
    with tifffile.TiffWriter(path) as file:
        for index, level in enumerate(levels):
            file.write(
                level,
                tile=(tile, tile),
                photometric="rgb",
                compression=compression,
                metadata=None,
                subfiletype=1 if index else 0,
                description=description if index == 0 else None,
                resolution=None if pair is None else (1e4 / pair[1], 1e4 / pair[0]),
                resolutionunit=None if pair is None else "CENTIMETER",
            )
    return path


def write_aperio(
    path: Path,
    levels: Sequence[Pixels],
    mpp: float | None = 0.25,
    *,
    objective: float | None = 40,
    tile: int = 256,
    extra: str = "",
) -> Path:
    """An Aperio-like SVS (JPEG tiles), its second page an untiled thumbnail.

    `extra` is appended to the first page's description, such as ``|User = x``.
    """
    height, width = levels[0].shape[:2]
    about = f"Aperio Image Library v12.0.15\r\n{width}x{height} [0,0 {width}x{height}]"
    about += f" ({tile}x{tile}) JPEG/RGB Q=90"
    about += "" if objective is None else f"|AppMag = {objective:g}"
    about += "" if mpp is None else f"|MPP = {mpp:g}"
    about += extra
    with tifffile.TiffWriter(path) as file:
        for index, level in enumerate(levels):
            file.write(
                level,
                tile=(tile, tile),
                photometric="rgb",
                compression="jpeg",
                metadata=None,
                description=about,
            )
            if index == 0:
                file.write(
                    np.ascontiguousarray(level[:: max(1, height // 64), :: max(1, width // 64)]),
                    photometric="rgb",
                    compression="jpeg",
                    metadata=None,
                    description=f"{about}\r\n{width}x{height} -> 64x64",
                )
    return path


def write_ome_tiff(
    path: Path,
    levels: Sequence[Pixels],
    mpp: tuple[float, float] = (0.25, 0.25),
    *,
    unit: str = "µm",
    planar: bool = False,
    tile: int = 64,
) -> Path:
    """An RGB OME-TIFF with its lower levels as SubIFDs; `mpp` is (y, x) in `unit`."""
    about = {
        "axes": "SYX" if planar else "YXS",
        "PhysicalSizeY": mpp[0],
        "PhysicalSizeX": mpp[1],
        "PhysicalSizeYUnit": unit,
        "PhysicalSizeXUnit": unit,
    }
    how = {"tile": (tile, tile), "photometric": "rgb", "compression": "zlib"}
    how["planarconfig"] = "separate" if planar else "contig"
    with tifffile.TiffWriter(path, ome=True) as file:
        for index, level in enumerate(levels):
            data = np.moveaxis(level, -1, 0) if planar else level
            if index == 0:
                file.write(data, subifds=len(levels) - 1, metadata=about, **how)
            else:
                file.write(data, subfiletype=1, **how)
    return path


def spoil_tile(path: Path, index: int, page: int = 0) -> None:
    """Overwrite a stored tile's bytes, so that the file opens and that tile fails."""
    with tifffile.TiffFile(path) as file:
        offset = file.pages[page].dataoffsets[index]
        count = file.pages[page].databytecounts[index]
    with path.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\x00" * count)
