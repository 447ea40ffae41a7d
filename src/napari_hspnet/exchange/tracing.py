"""The borders of connected label pixels, followed from edge to edge over bands of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Traced", "Tracer"]

Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Check = Callable[[], None]
"""Raises where the user has cancelled."""

_STARTS, _ENDS = 0, 1
_STEPS = (1 << 17) - 1


@dataclass(frozen=True)
class Traced:
    """One connected region.

    Attributes
    ----------
    key : tuple of int
        Its last line, and its first pixel's (y, x): sorts regions in an order that
        does not depend on how the slide was cut into bands.
    polygon : shapely.Polygon
        (x, y) in label pixels, valid; it begins at its first pixel.
    """

    key: tuple[int, int, int]
    polygon: Any


@dataclass
class _Edges:
    """Level edges of borders, each followed by an upright one that leads to the next.

    A border runs with its region to the right, as seen with y downwards. `late` are
    (edge, next edge) found later on, `pinches` are (edge, edge, where) that start or
    end in one point where two pixels meet by their corners alone.
    """

    ids: list[Ints] = field(default_factory=list)
    y: list[npt.NDArray[np.int32]] = field(default_factory=list)
    x: list[npt.NDArray[np.int32]] = field(default_factory=list)
    following: list[Ints] = field(default_factory=list)
    late: list[Ints] = field(default_factory=list)
    pinches: list[Ints] = field(default_factory=list)

    def absorb(self, other: _Edges) -> None:
        for name in vars(self):
            getattr(self, name).extend(getattr(other, name))


class Tracer:
    """Follows the borders of one class from the top of the slide to its end.

    Written here: a vectoriser sees one band at a time, and joining its polygons
    again is a union of everything that is open at each border, which for a region
    with a million holes takes minutes that nobody can cancel. Here a band's edges
    are linked to those of the band before, so a region is built once, when it ends.

    Parameters
    ----------
    width : int
        Of the label grid.
    check : callable () -> None
        Asked every tenth of a second or so.
    """

    def __init__(self, width: int, check: Check) -> None:
        self._width, self._check = width, check
        self._line = 0
        self._edges = 0
        self._above = np.zeros(width, bool)
        # The open region of each pixel of the last row, from 1.
        self._above_node: Ints = np.zeros(width, np.int64)
        self._open: list[_Edges] = []
        # The edge whose upright neighbour is still to come, for each column.
        self._pending: Ints = np.full(width + 1, -1, np.int64)
        self._pending_end = np.zeros(width + 1, bool)

    def take(self, mask: Mask, last: bool) -> list[Traced]:
        """Go on by some rows; the regions that end in them.

        Parameters
        ----------
        mask : ndarray of bool, (rows, width)
            Which pixels have the class.
        last : bool
            Whether the slide ends there.
        """
        line = self._line
        self._line += mask.shape[0]
        if not self._open and not mask.any():
            return []
        from scipy import ndimage

        self._check()
        labels, count = ndimage.label(mask)
        self._check()
        group, groups = self._groups(labels[0], count)
        open_groups: Ints = np.zeros(0, np.int64)
        if not last:
            below = labels[-1]
            open_groups = np.unique(group[len(self._open) + below[below > 0] - 1])
        band = self._corners(mask, labels, last)
        self._check()
        owner = group[band.node]
        held: dict[int, _Edges] = {}
        for node, edges in enumerate(self._open):
            known = held.setdefault(int(group[node]), edges)
            if known is not edges:
                known.absorb(edges)
        special = np.zeros(groups, bool)
        special[open_groups] = True
        special[list(held)] = True
        ids = self._edges + np.arange(len(owner), dtype=np.int64)
        late = band.link(self._pending, self._pending_end, self._edges)
        pinches = band.pinches()
        y = (band.y + line).astype(np.int32)
        columns: dict[str, tuple[Ints, Any]] = {
            "ids": (owner, ids),
            "y": (owner, y),
            "x": (owner, band.x),
            "following": (owner, band.following),
            "late": (owner[late[:, 1] - self._edges], late),
            "pinches": (
                owner[pinches[:, 0]],
                pinches + np.array([self._edges, self._edges, 0]),
            ),
        }
        whole = _Edges()
        whole_owner = owner[~special[owner]]
        for name, (of, values) in columns.items():
            kept = special[of]
            getattr(whole, name).append(values[~kept])
            for number, part in _by_group(of[kept], values[kept]):
                getattr(held.setdefault(number, _Edges()), name).append(part)
        still = set(open_groups.tolist())
        closed = [(number, edges) for number, edges in held.items() if number not in still]
        self._edges += len(owner)
        self._go_on(mask, labels, group, open_groups, held)
        owners = [whole_owner]
        for number, edges in closed:
            owners += [np.full(len(ids), number, np.int64) for ids in edges.ids]
            whole.absorb(edges)
        return list(_polygons(whole, np.concatenate(owners), self._check))

    def _groups(self, first_row: Any, count: int) -> tuple[Ints, int]:
        """The region of each node: those that were open, then those of this band."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        known = len(self._open)
        meet = (self._above_node > 0) & (first_row > 0)
        above, below = self._above_node[meet] - 1, known + first_row[meet].astype(np.int64) - 1
        size = known + count
        links = coo_array((np.ones(len(above), bool), (above, below)), shape=(size, size))
        groups, group = connected_components(links, directed=False)
        return group.astype(np.int64), int(groups)

    def _corners(self, mask: Mask, labels: Any, last: bool) -> _Band:
        rows, width = mask.shape
        padded = np.zeros((rows + 1 + last, width + 2), bool)
        padded[0, 1:-1] = self._above
        padded[1 : rows + 1, 1:-1] = mask
        upright = padded[:, :-1] ^ padded[:, 1:]
        level = padded[:-1] ^ padded[1:]
        at = np.flatnonzero((upright[:-1] | upright[1:]) & (level[:, :-1] | level[:, 1:]))
        y, x = np.divmod(at, width + 1)
        code = padded[y, x] + 2 * padded[y, x + 1] + 4 * padded[y + 1, x] + 8 * padded[y + 1, x + 1]
        twice = 1 + ((code == 6) | (code == 9))
        y, x, code = np.repeat(y, twice), np.repeat(x, twice), np.repeat(code, twice)
        # Along a line two corners make an edge, so each line has an even number.
        top = (code[::2] & 8) > 0
        inside_y, inside_x = y[::2] - ~top, x[::2]
        node = labels[np.maximum(inside_y, 0), inside_x].astype(np.int64) + len(self._open) - 1
        above = inside_y < 0
        node[above] = self._above_node[inside_x[above]] - 1
        return _Band(y, x, code, top, node)

    def _go_on(
        self, mask: Mask, labels: Any, group: Ints, open_groups: Ints, held: dict[int, _Edges]
    ) -> None:
        number = np.zeros(len(group) + 1, np.int64)
        number[open_groups] = np.arange(1, len(open_groups) + 1)
        below = labels[-1].astype(np.int64)
        node = group[np.maximum(len(self._open) + below - 1, 0)]
        self._above_node = np.where(below > 0, number[node], 0)
        self._above = mask[-1].copy()
        self._open = [held[int(g)] for g in open_groups]


class _Band:
    """The corners of a band, line by line; two after each other are an edge."""

    def __init__(self, y: Ints, x: Ints, code: Any, top: Mask, node: Ints) -> None:
        self._corner_y, self._corner_x, self._code, self._top = y, x, code, top
        self.node = node
        self.y: Ints = y[::2]
        self.x = np.where(top, x[::2], x[1::2]).astype(np.int32)
        self.following: Ints = np.full(len(top), -1, np.int64)
        second = np.zeros(len(y), bool)
        second[1:] = (y[1:] == y[:-1]) & (x[1:] == x[:-1])
        self._second = second

    def link(self, pending: Ints, pending_end: Mask, base: int) -> Ints:
        """Link edges over the upright ones; those of earlier bands and what follows them.

        `pending` and `pending_end` are brought up to this band's end.
        """
        # Where SW and NE meet, what goes on to the left goes down.
        later = np.where(self._code == 6, ~self._second, self._second)
        lines = int(self._corner_y[-1]) + 1 if len(later) else 1
        order = np.argsort((self._corner_x * lines + self._corner_y) * 2 + later)
        column = self._corner_x[order]
        first = np.ones(len(order), bool)
        first[1:] = column[1:] != column[:-1]
        place = np.arange(len(order))
        place -= np.maximum.accumulate(np.where(first, place, 0)) if len(order) else 0
        lower = ((place + (pending[column] >= 0)) & 1).astype(bool)
        ends = (order & 1).astype(bool) == self._top[order >> 1]
        edge = order >> 1
        inner = np.flatnonzero(lower & ~first)
        upper_edge, lower_edge, upper_ends = edge[inner - 1], edge[inner], ends[inner - 1]
        self.following[np.where(upper_ends, upper_edge, lower_edge)] = base + np.where(
            upper_ends, lower_edge, upper_edge
        )
        carried = np.flatnonzero(lower & first)
        above, above_ends = pending[column[carried]], pending_end[column[carried]]
        self.following[edge[carried[~above_ends]]] = above[~above_ends]
        late = np.column_stack([above[above_ends], base + edge[carried[above_ends]]])
        final = np.ones(len(order), bool)
        final[:-1] = first[1:]
        pending[column] = -1
        waits = np.flatnonzero(final & ~lower)
        pending[column[waits]] = base + edge[waits]
        pending_end[column[waits]] = ends[waits]
        return late

    def pinches(self) -> Ints:
        """(left edge, right edge, where) for points where pixels meet by corners alone."""
        at = np.flatnonzero(self._second)
        where = np.where(self._code[at] == 9, _STARTS, _ENDS)
        return np.column_stack([(at - 1) >> 1, at >> 1, where]).astype(np.int64)


def _by_group(of: Ints, values: Any) -> Iterator[tuple[int, Any]]:
    order = np.argsort(of, kind="stable")
    of, values = of[order], values[order]
    starts = np.flatnonzero(np.diff(of, prepend=-1)).tolist()
    for start, stop in zip(starts, [*starts[1:], len(of)][: len(starts)], strict=True):
        # A view would keep the whole band's edges for as long as one region is open.
        yield int(of[start]), values[start:stop].copy()


def _polygons(edges: _Edges, owner: Ints, check: Check) -> Iterator[Traced]:
    """Whole regions as polygons."""
    ids = np.concatenate(edges.ids)
    if not len(ids):
        return
    order = np.argsort(ids)
    ids, owner = ids[order], owner[order]
    y = np.concatenate(edges.y)[order].astype(np.int64)
    x = np.concatenate(edges.x)[order].astype(np.int64)
    following = np.concatenate(edges.following)[order]
    late = np.concatenate(edges.late)
    following[np.searchsorted(ids, late[:, 0])] = late[:, 1]
    following = np.searchsorted(ids, following)
    following = _split_pinches(np.concatenate(edges.pinches), ids, owner, following)
    check()
    order, starts = _walk(following, check)
    yield from _assembled(y[order], x[order], starts, owner[order[starts]], check)


def _split_pinches(pinches: Ints, ids: Ints, owner: Ints, following: Ints) -> Ints:
    """Where a region meets itself in a point its border goes round either side apart.

    Otherwise one ring would touch itself there, which is no valid polygon.
    """
    at = np.minimum(np.searchsorted(ids, pinches[:, :2]), len(ids) - 1)
    own = (ids[at] == pinches[:, :2]).all(axis=1)
    own &= owner[at[:, 0]] == owner[at[:, 1]]
    swapped = []
    for where in (_STARTS, _ENDS):
        left, right = at[own & (pinches[:, 2] == where)].T
        swap = np.arange(len(ids))
        swap[left], swap[right] = right, left
        swapped.append(swap)
    result: Ints = swapped[_STARTS][following[swapped[_ENDS]]]
    return result


def _walk(following: Ints, check: Check) -> tuple[Ints, Ints]:
    """The edges ring by ring, each from its first one; where each ring starts."""
    # Through memoryviews, as lists of a hundred million numbers would fill the memory.
    follow = following.data
    order = np.empty(len(following), np.int64)
    out = order.data
    starts = []
    done = 0
    for first in range(len(following)):
        at = first
        if follow[at] < 0:
            continue
        starts.append(done)
        while (after := follow[at]) >= 0:
            out[done] = at
            follow[at] = -1
            at = after
            done += 1
            if not done & _STEPS:
                check()
    return order, np.asarray(starts, np.int64)


def _assembled(y: Ints, x: Ints, starts: Ints, owner: Ints, check: Check) -> Iterator[Traced]:
    import shapely

    x_next = np.empty_like(x)
    x_next[:-1] = x[1:]
    x_next[np.append(starts[1:], len(x)) - 1] = x[starts]
    shell = np.add.reduceat(y * (x_next - x), starts) < 0
    bottom = np.maximum.reduceat(y, starts)
    ring = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(x))))
    points = np.stack([x, y, x_next, y], axis=1).reshape(-1, 2).astype(float)
    rings = shapely.linearrings(points, indices=np.repeat(ring, 2))
    check()
    shells = np.flatnonzero(shell)
    rank = np.lexsort((x[starts[shells]], y[starts[shells]], bottom[shells]))
    shells = shells[rank]
    number = np.empty(int(owner.max()) + 1, np.int64)
    number[owner[shells]] = np.arange(len(shells))
    order = np.lexsort((np.arange(len(starts)), ~shell, number[owner]))
    polygons = shapely.polygons(rings[order], indices=number[owner][order])
    check()
    for at, polygon in zip(shells.tolist(), polygons, strict=True):
        yield Traced((int(bottom[at]), int(y[starts[at]]), int(x[starts[at]])), polygon)
