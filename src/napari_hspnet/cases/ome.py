"""OME-Zarr 0.5 metadata of label images: what runs, corrections and exports say alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_hspnet.cases.sampling import level_count
from napari_hspnet.classes import Colour
from napari_hspnet.slides.grid import LabelGrid

__all__ = ["VERSION", "image_label", "multiscale"]

VERSION = "0.5"

RGBA = tuple[int, int, int, int]


def multiscale(name: str, grid: LabelGrid, within: str = "") -> dict[str, Any]:
    """The levels of a map on the label grid, as `sampling` makes them.

    Parameters
    ----------
    name : str
        The map's.
    grid : LabelGrid
        Its level 0.
    within : str
        What the paths of the levels (``0``, ``1``, …) begin with.

    Returns
    -------
    dict
        An element of ``multiscales``: (y, x) in µm, the origin at the corner of
        pixel 0.
    """
    return {
        "name": name,
        "type": "sampled at pixel centres",
        "axes": [
            {"name": "y", "type": "space", "unit": "micrometer"},
            {"name": "x", "type": "space", "unit": "micrometer"},
        ],
        "datasets": [
            {
                "path": f"{within}{level}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [scale, scale]},
                    {"type": "translation", "translation": [scale / 2, scale / 2]},
                ],
            }
            for level in range(level_count(grid.shape))
            for scale in [grid.mpp * (1 << level)]
        ],
    }


def image_label(names: Mapping[int, str], colours: Mapping[int, Colour | RGBA]) -> dict[str, Any]:
    """What the values of a label image are called, and how they are drawn.

    Parameters
    ----------
    names : Mapping of int to str
        Class names by value.
    colours : Mapping of int to tuple of int
        8-bit RGB, or RGBA, of the same values: readers that check want both for all.
    """
    return {
        "version": VERSION,
        "colors": [
            {"label-value": value, "rgba": [*colours[value], 255][:4]} for value in sorted(names)
        ],
        "properties": [{"label-value": value, "class": names[value]} for value in sorted(names)],
    }
