"""A case as it was after one entry, whatever is done to it meanwhile: what exports read."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from napari_hspnet.cases.case import Case
from napari_hspnet.cases.composite import Composite
from napari_hspnet.cases.facts import SlideFacts
from napari_hspnet.cases.history import History
from napari_hspnet.cases.journal import REGIONS, Journal
from napari_hspnet.cases.record import FINISHED, RunInfo
from napari_hspnet.cases.review import COLUMNS, ReviewRegion, as_region, project, selection_of
from napari_hspnet.cases.schema import REGION_TABLE
from napari_hspnet.cases.selection import Selection
from napari_hspnet.errors import InputError
from napari_hspnet.slides.grid import LabelGrid

__all__ = ["CaseSnapshot"]


@dataclass(frozen=True)
class CaseSnapshot:
    """What a case held after an entry of its journal; the case must stay open.

    Attributes
    ----------
    slide : SlideFacts
        The slide, as known now.
    grid : LabelGrid
        The label grid.
    seq : int
        The last entry that counts; 0 where the case has no journal yet.
    time : str
        That entry's, UTC, ISO 8601; empty where there is none.
    composite : Composite
        Runs and corrections as they were then.
    journal : Journal
        The case's; entries after `seq` do not count.
    standing : frozenset of int
        Numbers of the edits that stood then.
    readers : tuple of str
        Whose corrections these are, in the order of their first ones.
    regions : tuple of ReviewRegion
        The review regions as they were then.
    """

    slide: SlideFacts
    grid: LabelGrid
    seq: int
    time: str
    composite: Composite
    journal: Journal
    standing: frozenset[int] = frozenset()
    readers: tuple[str, ...] = ()
    regions: tuple[ReviewRegion, ...] = ()
    _places: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, case: Case, seq: int | None = None, only: Iterable[str] | None = None
    ) -> CaseSnapshot:
        """Of an open case.

        Parameters
        ----------
        case : Case
            Read-only or not; another process may be writing to it.
        seq : int, optional
            The last entry that counts; all that there are now without.
        only : iterable of str, optional
            Ids of finished runs, the topmost last, to take instead of the active
            ones; corrections are then left out.

        Raises
        ------
        InputError
            One of `only` is no finished run of the case.
        CaseError
            If the journal is damaged.
        """
        slide, grid, journal = case.slide_facts, case.grid, case.journal
        past = None if only is None else case.composite(only=_finished(case, only))
        if not journal.there:
            return cls(slide, grid, 0, "", past or case.composite(), journal)
        # Asked once: what is entered from now on does not count.
        last = journal.last if seq is None else seq
        entries = list(journal.entries(until=last))
        if past is not None:
            return cls(slide, grid, last, entries[-1].time, past, journal)
        standing = History.of(entries).standing()
        readers = dict.fromkeys(entry.reader for entry in entries if entry.seq in standing)
        scratch = sqlite3.connect(":memory:")
        try:
            scratch.execute(REGION_TABLE)
            for entry in entries:
                if entry.kind == REGIONS:
                    project(scratch, entry)
            rows = scratch.execute(f"SELECT {COLUMNS} FROM region ORDER BY id").fetchall()
            places = scratch.execute("SELECT id, entry, part FROM region").fetchall()
        finally:
            scratch.close()
        return cls(
            slide,
            grid,
            last,
            entries[-1].time if entries else "",
            case.at(last),
            journal,
            standing,
            tuple(readers),
            tuple(as_region(row) for row in rows),
            {number: (entry, part) for number, entry, part in places},
        )

    @property
    def runs(self) -> tuple[RunInfo, ...]:
        """The runs that count, the topmost first."""
        return self.composite.runs

    def named(self, numbers: Iterable[int]) -> tuple[ReviewRegion, ...]:
        """Review regions by their numbers, each once.

        Raises
        ------
        InputError
            If there was none of such a number.
        """
        known = {region.id: region for region in self.regions}
        wanted = list(dict.fromkeys(numbers))
        for number in wanted:
            if number not in known:
                raise InputError(
                    f"The case has no region {number}",
                    advice=f"Those it has: {', '.join(map(str, known)) or 'none'}",
                )
        return tuple(known[number] for number in wanted)

    def selection(self, region_id: int) -> Selection:
        """The pixels of one of `regions`.

        Raises
        ------
        KeyError
            If there was none of that number.
        """
        return selection_of(self.journal, self.grid.shape, *self._places[region_id])


def _finished(case: Case, run_ids: Iterable[str]) -> list[str]:
    wanted = list(run_ids)
    known = [run.id for run in case.runs if run.state == FINISHED]
    unknown = [run_id for run_id in wanted if run_id not in known]
    if unknown:
        raise InputError(
            f"The case has no finished run {unknown[0]}",
            advice=f"Those it has: {', '.join(known) or 'none'}",
            path=case.folder,
        )
    return wanted
