"""What is run first for someone who watches: all of it roughly, then from the middle.

Nothing here changes what comes out, only when. No window is run twice as long as its
logits are few enough to be put by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_hspnet.inference.feed import Window
from napari_hspnet.inference.plan import Band, Plan
from napari_hspnet.slides import PixelBox

__all__ = ["Look", "Part", "first_looks", "keepable", "parts_of"]

_KEPT_BYTES = 256 * 2**20

_TOO_MANY = 8
"""First looks that cannot all be put by may be one in so many windows of the run."""

_ABOVE = 0.35
"""Where the first rows are finished: a little above the middle, for they go down."""


@dataclass(frozen=True)
class Look:
    """One window of the first look.

    Attributes
    ----------
    window : Window
        One of the plan's.
    box : PixelBox
        The label pixels that are shown of it, within the window and the plan's box.
    """

    window: Window
    box: PixelBox


@dataclass(frozen=True)
class Part:
    """Rows of a band that are finished in one go.

    Attributes
    ----------
    band : Band
        Its active windows reach these rows.
    y0, y1 : int
        The label rows.
    keep : range
        Rows of windows that a later part needs, too.
    """

    band: Band
    y0: int
    y1: int
    keep: range = range(0)


def keepable(channels: int, window: int) -> int:
    """Of how many windows the logits may be put by, float32 of (channels, window, window).

    As many again may be put by for windows that two parts need.
    """
    return _KEPT_BYTES // (channels * window * window * 4)


def first_looks(plan: Plan, keepable: int) -> list[Look]:
    """As few windows as cover the plan's box side by side, from its centre outwards.

    Parameters
    ----------
    plan : Plan
    keepable : int
        How many need not be run again; where all would be too dear, there are no more.

    Returns
    -------
    list of Look
        Windows without tissue are left out; none where the plan's own do not overlap.
    """
    box, window = plan.box, plan.settings.window
    if plan.settings.effective_stride >= window:
        return []
    looks: dict[tuple[int, int], Look] = {}
    for band in plan.bands:
        rows = list(_cover(plan.ys, window, max(box.y0, band.finished), box.y1))
        columns = list(_cover(band.xs, window, band.x0, band.x1))
        for row, y0, y1 in rows:
            for column, x0, x1 in columns:
                if not band.active[row, column]:
                    continue
                place = Window(row, column, int(plan.ys[row]), int(band.xs[column]))
                before = looks.get((place.y, place.x))
                if before is not None and (before.box.y0, before.box.y1) == (y0, y1):
                    # Of a window that two bands need, both parts are shown at once.
                    x0 = before.box.x0
                looks[place.y, place.x] = Look(place, PixelBox(y0, x0, y1, x1))
    found = list(looks.values())

    def distance(look: Look) -> float:
        shown = look.box
        dy = shown.y0 + shown.y1 - box.y0 - box.y1
        dx = shown.x0 + shown.x1 - box.x0 - box.x1
        return float(dy * dy + dx * dx)

    found.sort(key=distance)
    too_many = len(found) * _TOO_MANY > plan.windows
    return found[:keepable] if too_many else found


def _cover(
    starts: npt.NDArray[np.intp], window: int, first: int, last: int
) -> Iterable[tuple[int, int, int]]:
    """(index, from, to) of few windows that cover [first, last) of an axis."""
    while first < last:
        index = int(np.searchsorted(starts, first, side="right")) - 1
        stop = min(last, int(starts[index]) + window)
        yield index, first, stop
        first = stop


def parts_of(plan: Plan, band: Band, keepable: int) -> tuple[Part, ...]:
    """A band in two parts: from a little above its middle down, then what lies above.

    Parameters
    ----------
    plan : Plan
    band : Band
        One of its bands.
    keepable : int
        Of how many windows the logits may be put by.

    Returns
    -------
    tuple of Part
        One, the whole, where it is no higher than a few windows, or so wide that the
        windows that both parts need could not be put by.
    """
    top = max(plan.box.y0, band.finished)
    begin = int(np.searchsorted(plan.ys, top + _ABOVE * (plan.box.y1 - top), side="right")) - 1
    at = int(plan.ys[begin])
    first = int(np.searchsorted(plan.ys, at - plan.settings.window, side="right"))
    shared = range(first, begin)
    both = int(band.active[first:begin].sum())
    if at <= top or both > keepable or not band.active[:first].any():
        return (Part(band, top, plan.box.y1),)
    lower, upper = band.active.copy(), band.active.copy()
    lower[:first] = False
    upper[begin:] = False
    return (
        Part(replace(band, active=lower), at, plan.box.y1, keep=shared),
        Part(replace(band, active=upper), top, at),
    )
