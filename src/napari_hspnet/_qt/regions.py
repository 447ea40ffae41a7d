"""Drawn shapes of any kind as regions in µm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import RegionError
from napari_hspnet.slides import Region

__all__ = ["chosen_shapes", "outline", "region_from_shapes"]

_ELLIPSE_POINTS = 128


def outline(kind: str, vertices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A shape's outline as polygon vertices.

    Parameters
    ----------
    kind : str
        napari's type: rectangle, ellipse, polygon, path or line; a path is
        closed from its last point to its first.
    vertices : ndarray, (n, 2)
        As the layer keeps them; the four corners of its box for an ellipse,
        rotated with it.

    Returns
    -------
    ndarray, (m, 2)
    """
    points = np.asarray(vertices, float)[:, -2:]
    if kind != "ellipse":
        return points
    centre = points.mean(axis=0)
    first, second = (points[1] - points[0]) / 2, (points[3] - points[0]) / 2
    turn = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)[:, None]
    return np.asarray(centre + np.cos(turn) * first + np.sin(turn) * second)


def chosen_shapes(count: int, selected: Iterable[int]) -> tuple[int, ...]:
    """The selected shapes where some are selected, otherwise all."""
    return tuple(sorted(i for i in selected if i < count)) or tuple(range(count))


def region_from_shapes(layer: Any) -> Region:
    """The region that a Shapes layer means, in µm.

    Raises
    ------
    RegionError
        If nothing is drawn, or a shape has no area.
    """
    if layer is None or len(layer.data) == 0:
        raise RegionError(
            "No region is drawn", advice="Press Draw and outline a region on the slide"
        )
    outlines = []
    for index in chosen_shapes(len(layer.data), layer.selected_data):
        shape = np.asarray(layer.data[index], float)
        world = np.asarray([layer.data_to_world(vertex) for vertex in shape])
        outlines.append([(y, x) for y, x in outline(layer.shape_type[index], world)])
    return Region.shapes(outlines)
