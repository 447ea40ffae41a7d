"""A second reading: a case of its own, in which nothing of the first reader's is."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable
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
from napari_hspnet.cases.places import MARK, SUFFIX, refuse_network
from napari_hspnet.cases.readers import Reading, same_reader
from napari_hspnet.cases.record import FINISHED, active_runs
from napari_hspnet.cases.review import ReviewRegion, project
from napari_hspnet.errors import CaseError, InputError, OutputError

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
    name = " ".join(reader.split())
    if not name:
        raise InputError("Nobody is named as reader", advice="Say who reads (--reader)")
    short = re.sub(r"[^\w.+-]+", "_", name).strip("._")[:40] or "reader"
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
    """
    first = Path(first).absolute()
    with Case.open(first) as case:
        if case.journal.reading is not None:
            raise CaseError(
                f"This is a second reading itself, by {case.journal.reading.reader}",
                advice="Begin from the first reader's case",
                path=first,
            )
        target = Path(folder or reading_folder(first, reader)).absolute()
        name = " ".join(reader.split())
        if not name:
            raise InputError("Nobody is named as reader", advice="Say who reads (--reader)")
        refuse_network(target.parent)
        if target.exists():
            raise OutputError(
                "There is a reading already",
                advice="Go on with it, or choose another folder",
                path=target,
            )
        beside = target.with_name(f".{target.name}.{secrets.token_hex(3)}.part")
        try:
            with case_failures(target.parent):
                (beside / RUN_FOLDERS).mkdir(parents=True)
            _build(case, beside, name, model, regions, clock)
            with case_failures(target.parent):
                beside.rename(target)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    return target


def _build(
    case: Case,
    folder: Path,
    reader: str,
    model: bool,
    regions: bool,
    clock: Callable[[], str],
) -> None:
    known = {run.id: run for run in case.runs if run.state == FINISHED}
    runs = [known[run_id] for run_id in case.active] if model else []
    with case_failures(folder):
        for run in runs:
            source = case.folder / RUN_FOLDERS / run.id
            shutil.copytree(source, folder / RUN_FOLDERS / run.id, copy_function=_shared)
    facts = case.slide_facts
    info = facts.info()
    said: dict[str, Any] = {
        "fingerprint": facts.fingerprint,
        "name": facts.name,
        "grid": [*case.grid.shape, case.grid.mpp],
        **(said_bounds(info) if facts.bounds_known else {}),
        "reading": _reading(case, reader, model).body(),
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
                _take_over(case, journal, region, reader)


def _reading(case: Case, reader: str, model: bool) -> Reading:
    last = case.journal.last
    return Reading(reader, model, last, case.journal.entry(last).hash if last else "")


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
