"""A second reading: a case of its own, in which nothing of the first reader's is."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_hspnet.cases.case import Case
from napari_hspnet.cases.checks import DATABASE, RUN_FOLDERS
from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.facts import said_bounds
from napari_hspnet.cases.failures import case_failures
from napari_hspnet.cases.journal import BEGIN, REGIONS, RUNS, Journal, moment
from napari_hspnet.cases.parts import Report, check
from napari_hspnet.cases.places import MARK, SUFFIX, refuse_network
from napari_hspnet.cases.readers import Reading, reader_name, same_reader
from napari_hspnet.cases.record import FINISHED, RunInfo, active_runs
from napari_hspnet.cases.review import ReviewRegion, project
from napari_hspnet.cases.store import RunStore
from napari_hspnet.errors import CaseError, OutputError

__all__ = ["FoundReading", "begin_reading", "find_readings", "reading_folder"]

_OPEN_KINDS = ("drawn", "tile")
"""Parts of the overlay have the shape that the first reader gave them."""


@dataclass(frozen=True)
class FoundReading:
    """A second reading beside a case.

    Attributes
    ----------
    folder : Path
        Its case.
    reader : str
        Who alone corrects there.
    """

    folder: Path
    reader: str

    def is_of(self, reader: str) -> bool:
        """Whether this reader alone corrects there."""
        return same_reader(self.reader, reader)


def reading_folder(first: Path, reader: str) -> Path:
    """Where the second reading of a case lies unless the user says otherwise.

    Raises
    ------
    InputError
        If the reader has no name.
    """
    short = re.sub(r"[^\w.+-]+", "_", reader_name(reader)).strip("._")[:40] or "reader"
    return first.with_name(f"{first.name.removesuffix(SUFFIX)}{MARK}{short}{SUFFIX}")


def find_readings(first: Path) -> tuple[FoundReading, ...]:
    """The second readings that lie beside a case, by name.

    Parameters
    ----------
    first : Path
        The case; it need not be there itself.

    Raises
    ------
    OutputError
        If the folder cannot be read.
    """
    found = []
    start = f"{first.name.removesuffix(SUFFIX)}{MARK}"
    with case_failures(first.parent):
        beside = sorted(p for p in first.parent.glob(f"*{SUFFIX}") if p.name.startswith(start))
    for folder in beside:
        if not (folder / DATABASE).is_file():
            continue
        try:
            path = folder / DATABASE
            with closing(CaseDatabase(path, read_only=True, check=False)) as database:
                reading = Journal(database).reading
        except CaseError:
            # Whose it was cannot be told; `case verify` says what it has.
            continue
        if reading is not None:
            found.append(FoundReading(folder, reading.reader))
    return tuple(found)


def begin_reading(
    first: Path,
    reader: str,
    folder: Path | None = None,
    model: bool = True,
    regions: bool = False,
    clock: Callable[[], str] = moment,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> Path:
    """Begin a case for a second reader, who is to read blind.

    It has nothing that a reader did: no correction, no state, no tag, no comment, no
    name. Its journal takes the acts of that reader alone, and begins with what it was
    made from. The first case stays as it is, and may be open elsewhere.

    Parameters
    ----------
    first : Path
        The first reader's case.
    reader : str
        Who reads.
    folder : Path, optional
        The new case; `reading_folder` by default.
    model : bool
        Whether what the model said is taken over: the active runs, as they are.
    regions : bool
        Whether the review regions are: outlines that were drawn and tiles, all to do.
        Parts of the overlay would show what the first reader made of them.
    clock : callable () -> str
        As for `Case.open`.
    progress : callable (float) -> None, optional
        Told the share that is done, 0 to 1: long only where runs have to be copied.
    cancel : threading.Event, optional
        Stops it within a file.

    Returns
    -------
    Path
        The new case.

    Raises
    ------
    InputError
        The reader has no name.
    CaseError
        There is no case, it is a second reading itself, or it is damaged.
    OutputError
        The folder is there already, the disk is full, or writing is not permitted;
        nothing was written.
    CancelledError
        If cancelled; likewise.
    """
    first, name = Path(first).absolute(), reader_name(reader)
    with Case.open(first) as case:
        if case.journal.reading is not None:
            raise CaseError(
                f"This is a second reading itself, by {case.journal.reading.reader}",
                advice="Begin from the first reader's case",
                path=first,
            )
        target = Path(folder or reading_folder(first, reader)).absolute()
        refuse_network(target.parent)
        if target.exists():
            raise OutputError(
                "There is a reading already",
                advice="Go on with it, or choose another folder",
                path=target,
            )
        beside = target.with_name(f".{target.name}.part")
        # What a kill left of an earlier try.
        shutil.rmtree(beside, ignore_errors=True)
        try:
            with case_failures(target.parent):
                (beside / RUN_FOLDERS).mkdir(parents=True)
            runs = _take_runs(case, beside, progress, cancel) if model else []
            _enter(case, beside, Reading(name, model, *_end(case)), runs, regions, clock)
            with case_failures(target.parent):
                beside.rename(target)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    return target


def _take_runs(
    case: Case, folder: Path, progress: Report | None, cancel: threading.Event | None
) -> list[RunInfo]:
    """The active runs, the topmost last, and their maps."""
    known = {run.id: run for run in case.runs if run.state == FINISHED}
    runs = [known[run_id] for run_id in case.active]
    sources = [case.folder / RUN_FOLDERS / run.id for run in runs]
    with case_failures(folder):
        total = sum(len(names) for source in sources for *_, names in os.walk(source))
        count = itertools.count(1)

        def share(source: str, target: str) -> None:
            check(cancel)
            _shared(source, target)
            if progress is not None:
                progress(next(count) / total)

        for source in sources:
            target = folder / RUN_FOLDERS / source.name
            shutil.copytree(source, target, copy_function=share)
            RunStore(target, case.grid).sync()
    return runs


def _enter(
    case: Case,
    folder: Path,
    reading: Reading,
    runs: Sequence[RunInfo],
    regions: bool,
    clock: Callable[[], str],
) -> None:
    """Write the database: what the case is, its runs, its regions."""
    facts = case.slide_facts
    info = facts.info()
    said: dict[str, Any] = {
        "fingerprint": facts.fingerprint,
        "name": facts.name,
        "grid": [*case.grid.shape, case.grid.mpp],
        **(said_bounds(info) if facts.bounds_known else {}),
        "reading": reading.body(),
    }
    database = CaseDatabase(folder / DATABASE, False, info, case.grid)
    with closing(database), database.transaction():
        journal = Journal(database, clock)
        journal.append(BEGIN, "", said)
        for run in runs:
            database.put_run(run)
        if runs:
            active = [run.id for run in runs]
            database.set_active(active)
            journal.append(RUNS, "", active_runs(runs, active))
        for region in case.review.regions if regions else ():
            if region.kind in _OPEN_KINDS:
                _take_over(case, journal, region, reading.reader)


def _end(case: Case) -> tuple[int, str]:
    """Number and hash of the journal's last entry."""
    last = case.journal.last
    return last, case.journal.entry(last).hash if last else ""


def _take_over(case: Case, journal: Journal, region: ReviewRegion, reader: str) -> None:
    box = [region.box.y0, region.box.x0, region.box.y1, region.box.x1]
    one = {"id": region.id, "pixels": region.pixels, "box": box}
    said = {"do": "add", "kind": region.kind, "regions": [one], "taken_over": True}
    journal.append(REGIONS, reader, said, case.review.tiles(region.id), also=project)


def _shared(source: str, target: str) -> None:
    """The same file under both names, as no run's ever changes; a copy where that fails."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
