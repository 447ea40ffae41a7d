"""What two readings of one slide say, side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.case import Case
from napari_hspnet.cases.disagreements import differing, paired
from napari_hspnet.cases.grades import counts_of, grades_of
from napari_hspnet.cases.parts import Report, check
from napari_hspnet.cases.review import REVIEWED, SIGNED_OFF, Review, ReviewRegion, not_listed
from napari_hspnet.cases.selection import Place, Selection, chunks_of
from napari_hspnet.cases.snapshot import CaseSnapshot
from napari_hspnet.cases.words import grade_name
from napari_hspnet.classes import CIN3, NOT_RUN
from napari_hspnet.errors import CaseMismatchError
from napari_hspnet.slides.region import PixelBox

__all__ = [
    "BASES",
    "Basis",
    "Difference",
    "RegionPair",
    "Side",
    "TwoReadings",
    "compare",
    "list_differences",
]

Array = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Table = npt.NDArray[np.int64]
Basis = Literal["said", "reviewed", "analysed"]

BASES: Mapping[Basis, str] = {
    "said": "Corrected or accepted by both",
    "reviewed": "In regions that both reviewed",
    "analysed": "All that is analysed",
}
"""What counts, the strictest first. What neither touched is the model's word: two who
began with the same model agree there without having looked."""

_SIDE = CIN3 + 1
_DONE = (REVIEWED, SIGNED_OFF)


@dataclass(frozen=True)
class Side:
    """One of the two.

    Attributes
    ----------
    readers : tuple of str
        Whose corrections count, or whose reading it is.
    entry : int
        The last entry of its journal that counts.
    second : bool
        Whether it is a second reading.
    model : bool
        Whether it was begun with what the model said.
    """

    readers: tuple[str, ...]
    entry: int
    second: bool
    model: bool

    @property
    def who(self) -> str:
        """The names, or that nobody has corrected yet."""
        return ", ".join(self.readers) or "nobody yet"


@dataclass(frozen=True)
class Difference:
    """A 4-connected place that both graded, each in one way, and not the same.

    Attributes
    ----------
    where : Selection
        Its pixels.
    pixels : int
        How many.
    first, second : int
        What each said, 0 to 4.
    """

    where: Selection
    pixels: int
    first: int
    second: int

    @property
    def box(self) -> PixelBox:
        """The smallest that holds it."""
        return self.where.box


@dataclass(frozen=True)
class RegionPair:
    """A region that is on both lists, with the worst grade of each reading.

    Attributes
    ----------
    region : ReviewRegion
        As in the first.
    number : int
        Its number in the second.
    done : bool
        Whether both have reviewed it or signed it off.
    first, second : int or None
        As `grades.worst_grade` gives it.
    """

    region: ReviewRegion
    number: int
    done: bool
    first: int | None
    second: int | None


@dataclass(frozen=True)
class TwoReadings:
    """How two readings of one slide compare.

    Attributes
    ----------
    first, second : Side
        The two.
    made_from : bool
        Whether the second was begun from the first.
    tables : Mapping of Basis to ndarray of int64, (5, 5)
        Label pixels by what the first (row) and the second (column) say, 0 to 4.
    regions : tuple of RegionPair
        Those on both lists.
    differences : tuple of Difference
        The largest first.
    mpp : float
        µm per label pixel.
    """

    first: Side
    second: Side
    made_from: bool
    tables: Mapping[Basis, Table]
    regions: tuple[RegionPair, ...]
    differences: tuple[Difference, ...]
    mpp: float

    @property
    def worst_grades(self) -> Table:
        """Regions that both have done, by the worst grade of each, (5, 5)."""
        table = np.zeros((_SIDE, _SIDE), np.int64)
        for pair in self.regions:
            if pair.done and pair.first is not None and pair.second is not None:
                table[pair.first, pair.second] += 1
        return table


def compare(
    first: Case,
    second: Case,
    least_um2: float = 1_000.0,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> TwoReadings:
    """Compare two readings of a slide, as they are now.

    Parameters
    ----------
    first, second : Case
        Open; others may be writing to them.
    least_um2 : float
        From which size on a place where they differ is listed, µm².
    progress : callable (float) -> None, optional
        Told the share that is done, 0 to 1.
    cancel : threading.Event, optional
        Stops it within a chunk.

    Raises
    ------
    CaseMismatchError
        If they are not of one slide and one label grid.
    InputError
        If the area is negative or no number.
    CancelledError
        If cancelled.
    """
    _refuse_different(first, second)
    one, other = CaseSnapshot.of(first), CaseSnapshot.of(second)
    counting = _Counting(one, other)
    found = differing(
        one.grid,
        counting.take,
        least_um2,
        progress=None if progress is None else lambda part: progress(part * 0.95),
        cancel=cancel,
    )
    differences = tuple(Difference(*place) for place in found)
    regions = tuple(_region_pairs(one, other, cancel))
    if progress is not None:
        progress(1.0)
    reading = second.journal.reading
    return TwoReadings(
        _side(first, one),
        _side(second, other),
        reading is not None and reading.entry > 0 and _holds(first, reading.entry, reading.hash),
        counting.tables,
        regions,
        differences,
        one.grid.mpp,
    )


def list_differences(
    review: Review, found: TwoReadings, reader: str, most: int = 200
) -> tuple[ReviewRegion, ...]:
    """Take the places where two readings differ into a list of review regions.

    Each gets a comment that says who said what; those that are on the list already
    are left out.

    Parameters
    ----------
    review : Review
        Of one of the two, or of a third case of the slide.
    found : TwoReadings
        What comparing gave.
    reader : str
        Who does so.
    most : int
        How many, the largest first.

    Raises
    ------
    As `Review.add`.
    """
    there = found.differences[:most]
    unknown = not_listed([each.where for each in there], "component", review.regions)
    fresh = {id(where) for where in unknown}
    new = [each for each in there if id(each.where) in fresh]
    if not new:
        return ()
    said = [
        f"{found.first.who}: {grade_name(each.first)}. "
        f"{found.second.who}: {grade_name(each.second)}."
        for each in new
    ]
    return review.add([each.where for each in new], "component", reader, said)


def _refuse_different(first: Case, second: Case) -> None:
    (one, name), (other, other_name) = first.slide, second.slide
    if one != other:
        raise CaseMismatchError(
            f"The cases are of two slides: {name} ({one[:12]}…) and {other_name} ({other[:12]}…)",
            advice="Compare two readings of the same slide",
            path=second.folder,
        )
    if first.grid != second.grid:
        raise CaseMismatchError(
            f"The cases have label pixels of {first.grid.mpp:g} and {second.grid.mpp:g} µm",
            advice="Compare two readings that were begun at the same µm per pixel",
            path=second.folder,
        )


def _side(case: Case, snapshot: CaseSnapshot) -> Side:
    reading = case.journal.reading
    if reading is None:
        return Side(snapshot.readers, snapshot.seq, False, bool(snapshot.runs))
    return Side((reading.reader,), snapshot.seq, True, reading.model)


def _holds(case: Case, entry: int, digest: str) -> bool:
    return entry <= case.journal.last and case.journal.entry(entry).hash == digest


class _Counting:
    """Counts while `differing` goes over the slide: every chunk is read once."""

    def __init__(self, one: CaseSnapshot, other: CaseSnapshot) -> None:
        self._sides = (one, other)
        self._done = tuple(_by_place(each) for each in self._sides)
        self.tables: dict[Basis, Table] = {
            basis: np.zeros((_SIDE, _SIDE), np.int64) for basis in BASES
        }

    def take(self, box: PixelBox) -> Array:
        """Count a chunk; what both say there, as `paired` gives it."""
        at = (box.y0, box.x0, box.height, box.width)
        first, second = (each.composite.read(*at) for each in self._sides)
        both = (first <= CIN3) & (second <= CIN3)
        if not both.any():
            return np.full(first.shape, NOT_RUN, np.uint8)
        self._count("analysed", first, second, both)
        place = next(chunks_of(box))
        done = [_union(regions.get(place, ()), place) for regions in self._done]
        if done[0] is not None and done[1] is not None:
            self._count("reviewed", first, second, both & done[0] & done[1])
        for each in self._sides:
            both &= each.composite.read(*at, what="correction") != NOT_RUN
        self._count("said", first, second, both)
        return paired(first, second)

    def _count(self, basis: Basis, first: Array, second: Array, where: Mask) -> None:
        pairs = first[where].astype(np.intp) * _SIDE + second[where]
        self.tables[basis] += np.bincount(pairs, minlength=_SIDE**2).reshape(_SIDE, _SIDE)


def _by_place(snapshot: CaseSnapshot) -> dict[Place, list[Selection]]:
    """The regions that are done, by the chunks that they meet."""
    found: dict[Place, list[Selection]] = {}
    for region in snapshot.regions:
        if region.state in _DONE:
            selection = snapshot.selection(region.id)
            for place in selection.masks:
                found.setdefault(place, []).append(selection)
    return found


def _union(regions: Iterable[Selection], place: Place) -> Mask | None:
    out: Mask | None = None
    for region in regions:
        mask = region.masks[place]
        out = mask if out is None else out | mask
    return out


def _region_pairs(
    one: CaseSnapshot, other: CaseSnapshot, cancel: threading.Event | None
) -> Iterable[RegionPair]:
    known = {(r.kind, r.box, r.pixels): r for r in other.regions}
    for region in one.regions:
        twin = known.get((region.kind, region.box, region.pixels))
        if twin is None:
            continue
        check(cancel)
        selection = one.selection(region.id)
        worst = [
            grades_of(counts_of(each.composite, selection, cancel=cancel), one.grid.mpp).worst
            for each in (one, other)
        ]
        done = region.state in _DONE and twin.state in _DONE
        yield RegionPair(region, twin.id, done, worst[0], worst[1])
