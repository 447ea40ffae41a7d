"""Masks as OME-TIFF: pyramidal, tiled, compressed, µm per pixel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.sampling import level_count, level_shape, sample
from napari_hspnet.classes import NOT_RUN
from napari_hspnet.exchange.about import ExportInfo, colour_table, value_names
from napari_hspnet.exchange.output import Cancel, Report, new_file, stop_if
from napari_hspnet.exchange.sources import LabelSource

__all__ = ["TILE", "write_ome_tiff"]

TILE = 512

_KEPT_FROM = 3
# A classic TIFF ends at 4 GiB; the margin is for what is no pixel.
_CLASSIC_LIMIT = (1 << 32) - (1 << 26)

Array = npt.NDArray[np.uint8]


def write_ome_tiff(
    path: Path,
    labels: LabelSource,
    about: ExportInfo,
    *,
    overwrite: bool = False,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Path:
    """Write class values as they are (uint8, see `value_names`), streamed tile by tile.

    Lower levels (SubIFDs, factor 2, sampled at pixel centres) reach down to 1024
    pixels. Deflate without a predictor and grey values, which every TIFF reader
    opens and none recolours; names and colours stand in the OME-XML.

    Parameters
    ----------
    path : Path
        Ends in ``.ome.tif`` or ``.ome.tiff`` by custom.
    labels : LabelSource
        What to export, the whole label grid.
    about : ExportInfo
        What the file says of itself.
    overwrite : bool
        Whether an existing file may be replaced.
    progress, cancel
        Called with the part done; stops the writing, leaving nothing.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputError
        The file exists, the disk is full, or writing is not permitted.
    CancelledError
        If `cancel` was set.
    """
    import tifffile

    path = Path(path)
    pyramid = _Pyramid(labels, progress, cancel)
    mpp = labels.grid.mpp
    height, width = labels.grid.shape
    with (
        new_file(path, overwrite) as beside,
        tifffile.TiffWriter(
            beside, ome=True, bigtiff=height * width * 4 // 3 > _CLASSIC_LIMIT
        ) as writer,
    ):
        for level in range(pyramid.levels):
            per_cm = 1e4 / (mpp * (1 << level))
            first: dict[str, Any] = {
                "subifds": pyramid.levels - 1,
                "metadata": _ome(about, mpp),
                "software": about.tool,
            }
            writer.write(
                pyramid.tiles(level),
                shape=level_shape(labels.grid.shape, level),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="minisblack",
                compression="zlib",
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                # Otherwise tifffile reads up to 256 MB ahead of its compressors.
                buffersize=16 << 20,
                **(first if level == 0 else {"subfiletype": 1, "metadata": None}),
            )
    return path


class _Pyramid:
    """Tiles of all levels; level 0 is read once, and again for levels 1 and 2."""

    def __init__(self, labels: LabelSource, progress: Report | None, cancel: Cancel | None) -> None:
        self._labels = labels
        self._progress = progress
        self._cancel = cancel
        self._shape = labels.grid.shape
        self.levels = level_count(self._shape)
        # From level 3 on they are a 64th of the slide together and may be held.
        self._kept = {
            level: np.full(level_shape(self._shape, level), NOT_RUN, np.uint8)
            for level in range(_KEPT_FROM, self.levels)
        }
        self._done = 0
        self._total = sum(
            -(-h // TILE) * -(-w // TILE)
            for h, w in (level_shape(self._shape, k) for k in range(self.levels))
        )

    def tiles(self, level: int) -> Iterator[Array]:
        """The level's tiles in row order, 255 beyond its end."""
        height, width = level_shape(self._shape, level)
        for y in range(0, height, TILE):
            for x in range(0, width, TILE):
                stop_if(self._cancel)
                tile = np.full((TILE, TILE), NOT_RUN, np.uint8)
                part = self._read(level, y, x, min(TILE, height - y), min(TILE, width - x))
                tile[: part.shape[0], : part.shape[1]] = part
                self._done += 1
                if self._progress is not None:
                    self._progress(self._done / self._total)
                yield tile

    def _read(self, level: int, y: int, x: int, height: int, width: int) -> Array:
        if level >= _KEPT_FROM:
            return self._kept[level][y : y + height, x : x + width]
        step = 1 << level
        top, left = y * step, x * step
        rows = min(height * step, self._shape[0] - top)
        columns = min(width * step, self._shape[1] - left)
        values = self._labels.read(top, left, rows, columns)
        if level == 0:
            for kept_level, kept in self._kept.items():
                at_y, at_x, part = sample(values, top, left, self._shape, kept_level)
                kept[at_y : at_y + part.shape[0], at_x : at_x + part.shape[1]] = part
        # A level's pixels lie within the part of level 0 that they stand for, the
        # clipped last ones too, so the box read is all that decides the tile.
        part = sample(values, top, left, self._shape, level)[2]
        return np.ascontiguousarray(part)


def _ome(about: ExportInfo, mpp: float) -> dict[str, Any]:
    names = value_names(about.what)
    colours = {
        names[value]: "#{:02x}{:02x}{:02x}".format(*colour)
        for value, colour in colour_table(about.palette).items()
    }
    return {
        "axes": "YX",
        "Name": f"HSP-Net labels of {about.slide_title}",
        "Description": f"{about.notice}. Class values: {about.facts()['values']}",
        "PhysicalSizeX": mpp,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": mpp,
        "PhysicalSizeYUnit": "µm",
        "MapAnnotation": {
            "Namespace": "napari-hspnet",
            **about.facts(),
            **{f"colour of {name}": colour for name, colour in colours.items()},
        },
    }
