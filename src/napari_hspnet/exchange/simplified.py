"""Outlines with fewer corners that still fit each other."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError
from napari_hspnet.exchange.output import Cancel, stop_if

__all__ = ["MOST_POINTS", "refuse_too_many", "simplified"]

MOST_POINTS = 4_300_000
"""Simplified at once: about 1.5 GB."""

_WAIT_S = 0.2


def simplified(
    polygons: npt.NDArray[Any], tolerance: float, cancel: Cancel | None = None
) -> npt.NDArray[Any]:
    """Leave out corners where that changes outlines little.

    A border that two outlines share stays shared: they neither overlap nor come
    apart. None vanishes, and all stay valid (Visvalingam and Whyatt, in GEOS as
    "coverage simplify").

    Parameters
    ----------
    polygons : ndarray of shapely.Polygon
        As `outlines` gives them, all of a slide: those left out are not respected.
    tolerance : float
        In the polygons' units: a corner goes where the triangle that it makes with
        its neighbours is smaller than this, squared.
    cancel : threading.Event, optional
        Stops waiting for it.

    Returns
    -------
    ndarray of shapely.Polygon

    Raises
    ------
    InputError
        They have more corners than can be simplified at once.
    CancelledError
        If cancelled.
    """
    import shapely

    if not len(polygons):
        return polygons
    refuse_too_many(int(shapely.get_num_coordinates(polygons).sum()))
    matched = _matched(polygons)
    stop_if(cancel)
    result: list[Any] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            result.append(shapely.coverage_simplify(matched, tolerance))
        except BaseException as error:
            failure.append(error)

    # GEOS cannot be stopped; what it still does after a cancel nobody waits for.
    worker = threading.Thread(target=work, name="simplify outlines", daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(_WAIT_S)
        stop_if(cancel)
    if failure:
        raise failure[0]
    return np.asarray(result[0], dtype=object)


def refuse_too_many(corners: int) -> None:
    """Raise where outlines have more corners than can be simplified at once.

    Raises
    ------
    InputError
        If so.
    """
    if corners > MOST_POINTS:
        raise InputError(
            "The outlines have too many corners to be simplified",
            advice="Export them as they are, without simplifying",
        )


def _matched(polygons: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """With a corner also where a neighbour has one, in the middle of a straight edge."""
    import shapely

    rings, of_polygon = shapely.get_rings(polygons, return_index=True)
    points, of_ring = shapely.get_coordinates(rings, return_index=True)
    points = points.astype(np.int64)
    side = int(points.max()) + 1
    kept = of_ring[:-1] == of_ring[1:]
    start, stop, owner = points[:-1][kept], points[1:][kept], of_ring[:-1][kept]
    level = start[:, 1] == stop[:, 1]
    counts = np.zeros(len(start), np.int64)
    # Points along rows, then along columns, each line's one after the other.
    keys = [np.unique(points[:, 1] * side + points[:, 0])]
    keys.append(np.unique(points[:, 0] * side + points[:, 1]))
    first = np.zeros(len(start), np.int64)
    for lines, chosen, axis in ((keys[0], level, 1), (keys[1], ~level, 0)):
        a = start[chosen, axis] * side + start[chosen, 1 - axis]
        b = stop[chosen, axis] * side + stop[chosen, 1 - axis]
        first[chosen] = np.searchsorted(lines, a)
        counts[chosen] = np.searchsorted(lines, b) - first[chosen]
    steps = np.abs(counts)
    segment = np.repeat(np.arange(len(start)), steps)
    step = np.arange(len(segment)) - np.repeat(np.cumsum(steps) - steps, steps)
    at = first[segment] + np.sign(counts)[segment] * step
    out = np.empty((len(segment), 2), np.int64)
    for lines, chosen, axis in ((keys[0], level[segment], 1), (keys[1], ~level[segment], 0)):
        out[chosen, axis], out[chosen, 1 - axis] = np.divmod(lines[at[chosen]], side)
    made = shapely.linearrings(out.astype(float), indices=owner[segment])
    return np.asarray(shapely.polygons(made, indices=of_polygon), dtype=object)
