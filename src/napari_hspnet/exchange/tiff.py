"""Masks as OME-TIFF: pyramidal, tiled, compressed, µm per pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_hspnet.cases.sampling import level_shape
from napari_hspnet.exchange.about import ExportInfo, colour_table, value_names
from napari_hspnet.exchange.output import Cancel, Report, new_file
from napari_hspnet.exchange.pyramid import TILE, Pyramid
from napari_hspnet.exchange.sources import LabelSource

__all__ = ["TILE", "write_ome_tiff"]

# A classic TIFF ends at 4 GiB; the margin is for what is no pixel.
_CLASSIC_LIMIT = (1 << 32) - (1 << 26)


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
    pyramid = Pyramid(labels, progress, cancel)
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
