"""What one open slide has: its file, its case, its runs. Knows no window."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from napari_hspnet.cases import (
    Case,
    Composite,
    FoundReading,
    Reading,
    RunInfo,
    codec,
    default_case_folder,
    find_cases,
    find_readings,
)
from napari_hspnet.classes import NOT_RUN, SKIPPED, UNREADABLE
from napari_hspnet.errors import CaseInUseError, OutputError
from napari_hspnet.slides import LabelGrid, Slide, with_mpp

if TYPE_CHECKING:
    from napari_hspnet.cases import RunWriter
    from napari_hspnet.inference import TissueMap

__all__ = [
    "AreaTable",
    "CaseState",
    "SlideSession",
    "count_areas",
    "count_changes",
    "describe_runs",
]


@dataclass(frozen=True)
class CaseState:
    """A case as found on opening.

    Attributes
    ----------
    case : Case
        Open.
    read_only_because : str or None
        Why, where it could be opened to look only: who holds it, or that its folder
        cannot be written.
    """

    case: Case
    read_only_because: str | None = None


@dataclass(frozen=True)
class AreaTable:
    """mm² per class value of what is shown, and what was not analysed."""

    mm2: dict[int, float]

    @property
    def analysed(self) -> float:
        """mm² with a class or with "none of the four"."""
        return sum(v for k, v in self.mm2.items() if k not in (SKIPPED, UNREADABLE, NOT_RUN))

    def share(self, value: int) -> float:
        """Part of the whole slide with this value, 0 to 1."""
        total = sum(self.mm2.values())
        return self.mm2.get(value, 0.0) / total if total else 0.0

    def of(self, values: tuple[int, ...]) -> float:
        """mm² of several classes together."""
        return sum(self.mm2.get(v, 0.0) for v in values)


class SlideSession:
    """One slide that is open in the window.

    Parameters
    ----------
    slide : Slide
        Open; closed with the session.
    reader : str
        Who opened it: that reader's own reading is taken where there is one.
    folder : Path, optional
        The case that is wanted instead.
    """

    def __init__(self, slide: Slide, reader: str = "", folder: Path | None = None) -> None:
        self.slide = slide
        self.case: Case | None = None
        self.read_only_because: str | None = None
        self.reopened = False
        self.live: RunWriter | None = None
        self.composite: Composite | None = None
        self.areas: AreaTable | None = None
        self.changes: dict[tuple[int, int], float] = {}
        self._tissue: TissueMap | None = None
        self._former: list[Slide] = []
        self._opening = threading.Lock()
        self._opened: CaseState | None = None
        self._reader = reader
        self._folder = folder
        self.namesakes: tuple[Path, ...] = ()
        self.first: Path | None = None
        self.second: tuple[FoundReading, ...] = ()
        self.closed = False

    @property
    def grid(self) -> LabelGrid | None:
        """The label grid; None while the resolution is unknown."""
        return None if self.slide.info.mpp is None else LabelGrid.of(self.slide.info)

    @property
    def runs(self) -> tuple[RunInfo, ...]:
        """The runs that are shown, the topmost first."""
        return () if self.composite is None else self.composite.runs

    @property
    def has_results(self) -> bool:
        """Whether there is something to show: a run, or a correction."""
        return bool(self.runs) or (self.case is not None and bool(self.case.corrections.chunks))

    @property
    def reading(self) -> Reading | None:
        """What makes the open case a second reading; None where it is none."""
        return None if self.case is None else self.case.journal.reading

    @property
    def folder(self) -> Path | None:
        """Where the case is, or would be; None before it has been looked for."""
        return self._folder or self.first

    @property
    def synthetic_shown(self) -> bool:
        """Whether a run of a model trained on synthetic slides is on screen."""
        return any(run.record.synthetic for run in self.runs)

    def tissue(self) -> TissueMap | None:
        """The tissue mask, kept so that estimating and segmenting read it once."""
        from napari_hspnet.inference import TissueMap

        if self._tissue is None and self.grid is not None:
            self._tissue = TissueMap(self.slide.read_grid, self.grid)
        return self._tissue

    def set_mpp(self, mpp: tuple[float, float]) -> None:
        """Take the user's µm per pixel; the case of the former one is closed.

        Raises
        ------
        InputError
            If it cannot be right.
        """
        changed = with_mpp(self.slide, mpp)
        self.close_case()
        # What is on screen reads through the former one still.
        self._former.append(self.slide)
        self.slide = changed
        self._tissue, self._folder, self.namesakes = None, None, ()
        self.first, self.second = None, ()

    def existing_case(self) -> CaseState | None:
        """Open the slide's case if there is one; a worker calls it.

        Raises
        ------
        CaseError
            If there is one that cannot be used.
        """
        info = self.slide.info
        with self._opening:
            if info.mpp is None:
                return None
            if self.case is not None:
                # A run or a correction was quicker.
                return CaseState(self.case, self.read_only_because)
            folder = self._meant()
            if not (folder / "case.sqlite").is_file():
                # A reading that has gone must not be made anew: it would be a plain case
                # where nobody looks for one.
                if folder != self.first:
                    self._folder = None
                return None
            self._folder = folder
            # Two workers can want it before the window has taken it.
            if self._opened is None:
                self._opened = self._open(create=False)
            return self._opened

    def _meant(self) -> Path:
        """Look which cases there are; which of them is meant, or would be."""
        info = self.slide.info
        found = find_cases(info)
        self.namesakes = found.namesakes
        self.first = found.own or default_case_folder(info)
        self.second = find_readings(self.first)
        own = (each.folder for each in self.second if each.is_of(self._reader))
        return self._folder or next(own, self.first)

    def look_again(self) -> None:
        """Look which second readings there are now; a worker calls it."""
        if self.first is not None:
            self.second = find_readings(self.first)

    def attach(self, folder: Path, reader: str) -> CaseState:
        """Take a case that was made for an earlier file of this slide; a worker calls it.

        Raises
        ------
        CaseMismatchError
            If that slide had another size or µm per pixel.
        CaseError, OutputError
            If it cannot be used or written.
        """
        info = self.slide.info
        with Case.open(folder, read_only=False) as case:
            case.attach(info, reader)
        with self._opening:
            self.first, self._folder, self.namesakes = folder, folder, ()
            self._opened = self._open(create=True)
            return self._opened

    def writable_case(self) -> CaseState:
        """The slide's case, made where there is none; a worker calls it.

        Raises
        ------
        CaseInUseError
            Another process holds it.
        CaseError, OutputError
            It cannot be used or written.
        """
        with self._opening:
            known = self._opened
            if self.case is not None and not self.case.read_only:
                return CaseState(self.case)
            if known is None or known.case.read_only:
                self._opened = self._open(create=True)
            assert self._opened is not None
            return self._opened

    def _open(self, create: bool) -> CaseState:
        # Before the window reads the first chunk.
        codec.load()
        info = self.slide.info
        grid = LabelGrid.of(info)
        folder = self._folder or self._meant()
        try:
            state = CaseState(Case.open_or_create(folder, info, grid))
        except (CaseInUseError, OutputError) as error:
            if create:
                raise
            case = Case.open_or_create(folder, info, grid, read_only=True)
            state = CaseState(case, error.what)
        try:
            state.case.editing.prepare()
            # Asked here, so that the window need not wait for the database.
            _ = state.case.journal.reading
        except BaseException:
            state.case.close()
            raise
        return state

    def take_case(self, state: CaseState, reopened: bool) -> None:
        """Keep an opened case and show its runs."""
        if self.closed:
            state.case.close()
            return
        if self.case is not None and self.case is not state.case:
            self.case.close()
        with self._opening:
            self.case, self.read_only_because = state.case, state.read_only_because
            if self._opened is state:
                self._opened = None
        self.reopened = reopened and bool(state.case.active)
        self.show_runs()

    def show_runs(self, live: RunWriter | None = None) -> None:
        """Take a new composite, with a run that is being written on top."""
        self.live = live
        if self.case is not None:
            self.composite = self.case.composite(live=live)

    def close_case(self) -> None:
        """Close the case; what is being written is discarded."""
        with self._opening:
            case, self.case = self.case, None
            opened, self._opened = self._opened, None
        self.composite, self.live, self.areas, self.changes = None, None, None, {}
        if case is not None:
            case.close()
        if opened is not None:
            opened.case.close()

    def close(self) -> None:
        """Close the case and the slide."""
        self.closed = True
        self.close_case()
        for slide in (*self._former, self.slide):
            slide.close()


def count_areas(composite: Composite) -> AreaTable:
    """mm² per class of the whole slide; a worker calls it."""
    return AreaTable(dict(composite.areas().mm2))


def count_changes(composite: Composite) -> dict[tuple[int, int], float]:
    """mm² by (prediction, correction); a worker calls it."""
    square = (composite.grid.mpp / 1000) ** 2
    return {pair: count * square for pair, count in composite.changes().items()}


def describe_runs(runs: tuple[RunInfo, ...]) -> str:
    """ "3 runs, the last 24 Nov 2026 10:31 (demo)"."""
    if not runs:
        return ""
    latest = max(runs, key=lambda run: run.record.started)
    when = datetime.fromisoformat(latest.record.started).astimezone()
    count = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    return f"{count}, the last {when:%d %b %Y %H:%M} ({latest.record.title})"
