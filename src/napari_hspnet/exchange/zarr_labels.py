"""Masks as OME-Zarr 0.5: a label image with its levels, names and colours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from napari_hspnet.cases.codec import LEVEL
from napari_hspnet.cases.ome import RGBA, VERSION, image_label, multiscale
from napari_hspnet.cases.sampling import level_shape
from napari_hspnet.classes import BACKGROUND, NOT_RUN
from napari_hspnet.exchange.about import ExportInfo, colour_table, value_names
from napari_hspnet.exchange.output import Cancel, Report, new_folder
from napari_hspnet.exchange.pyramid import TILE, Pyramid
from napari_hspnet.exchange.sources import LabelSource
from napari_hspnet.slides.importing import import_zarr

__all__ = ["LABELS", "is_label_zarr", "write_ome_zarr"]

LABELS = "labels/classes"
"""Where the label image lies in the folder; its levels are ``0``, ``1``, …"""

_MARK = "hspnet"


def write_ome_zarr(
    path: Path,
    labels: LabelSource,
    about: ExportInfo,
    *,
    overwrite: bool = False,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Path:
    """Write class values as they are (uint8, see `value_names`), streamed block by block.

    ``labels/classes`` is the label image: levels as in `write_ome_tiff`, chunks of
    512 pixels, zstd, empty ones left out. The format has labels belong to an image,
    so the root says that it is one, whose levels are the very same arrays, and that
    it need not be shown. What the export is about stands under ``"hspnet"``.

    Parameters
    ----------
    path : Path
        A folder; ends in ``.ome.zarr`` by custom.
    labels : LabelSource
        What to export, the whole label grid.
    about : ExportInfo
        What the folder says of itself.
    overwrite : bool
        Whether an earlier export may be replaced; anything else never is.
    progress, cancel
        Called with the part done; stops the writing, leaving nothing.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputError
        The folder exists, the disk is full, or writing is not permitted.
    CancelledError
        If `cancel` was set.
    """
    path = Path(path)
    zarr = import_zarr()
    pyramid = Pyramid(labels, progress, cancel)
    with new_folder(path, is_label_zarr, overwrite, cancel) as beside:
        levels = _make(zarr, beside, labels, about, pyramid.levels)
        for part in pyramid.parts():
            height, width = part.values.shape
            # One chunk at a time: where one fails, Zarr goes on with the others of the
            # same call in threads, and would write into a folder that is being removed.
            for y in range(0, height, TILE):
                for x in range(0, width, TILE):
                    chunk = part.values[y : y + TILE, x : x + TILE]
                    top, left = part.y + y, part.x + x
                    at = np.s_[top : top + chunk.shape[0], left : left + chunk.shape[1]]
                    levels[part.level][at] = chunk
    return path


def is_label_zarr(path: Path) -> bool:
    """Whether a folder was written by `write_ome_zarr`."""
    try:
        said = json.loads((path / "zarr.json").read_bytes())
        return _MARK in said["attributes"] and LABELS in _paths(said["attributes"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return False


def _paths(attributes: Any) -> str:
    return str(attributes["ome"]["multiscales"][0]["datasets"][0]["path"])


def _make(zarr: Any, folder: Path, labels: LabelSource, about: ExportInfo, count: int) -> list[Any]:
    """The folder without its pixels; returns the levels' arrays.

    A label image at the root would do for most readers. napari-ome-zarr 0.10 however
    then looks for its image two folders further up, and makes a Zarr group there
    where there is none: in the user's folder, or not at all where that is not
    permitted. With an image at the root it opens the labels and looks nowhere else.
    """
    grid = labels.grid
    facts = about.facts()
    title = f"HSP-Net labels of {about.slide_title}"
    root = zarr.create_group(
        folder,
        zarr_format=3,
        attributes={
            "ome": {
                "version": VERSION,
                "multiscales": [multiscale(title, grid, f"{LABELS}/")],
                "omero": _unseen("class values"),
            },
            _MARK: facts,
        },
    )
    group, name = LABELS.split("/")
    root.create_group(group, attributes={"ome": {"version": VERSION, "labels": [name]}})
    image = root.create_group(
        LABELS,
        attributes={
            "ome": {
                "version": VERSION,
                "multiscales": [multiscale(title, grid)],
                "image-label": {
                    **image_label(value_names(about.what), _colours(about)),
                    "source": {"image": "../../"},
                },
            },
            _MARK: facts,
        },
    )
    return [
        image.create_array(
            str(level),
            shape=level_shape(grid.shape, level),
            chunks=(TILE, TILE),
            dtype="uint8",
            fill_value=NOT_RUN,
            compressors=zarr.codecs.ZstdCodec(level=LEVEL, checksum=True),
            dimension_names=("y", "x"),
            config={"write_empty_chunks": False},
        )
        for level in range(count)
    ]


def _colours(about: ExportInfo) -> dict[int, RGBA]:
    """Clear where nothing is to be seen: no class found, or nothing said."""
    nothing = NOT_RUN if about.what in ("correction", "difference") else BACKGROUND
    return {
        value: (*colour, 0 if value == nothing else 255)
        for value, colour in colour_table(about.palette).items()
    }


def _unseen(name: str) -> dict[str, Any]:
    """A grey channel that viewers hide until it is asked for."""
    window = {"min": 0, "start": 0, "end": 255, "max": 255}
    channel = {"label": name, "color": "FFFFFF", "active": False, "window": window}
    return {"channels": [channel], "rdefs": {"model": "greyscale"}}
