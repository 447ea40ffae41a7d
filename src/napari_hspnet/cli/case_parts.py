"""What the `case` commands share: their options, and how an entry is told."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hspnet.classes import BACKGROUND, CLASSES, NOT_RUN
from napari_hspnet.cli.options import parse_point, parse_polygon, parse_region
from napari_hspnet.cli.screen import print_json, progress_bar, stop_signals, warn
from napari_hspnet.errors import InputError, RegionError

if TYPE_CHECKING:
    from napari_hspnet.cases import Case, EditResult, Entry, Patch, Selection
    from napari_hspnet.slides import LabelGrid, PixelBox, Region

__all__ = [
    "AsAfter",
    "AsJson",
    "AtPlace",
    "CaseFolder",
    "Change",
    "InPolygon",
    "InRegion",
    "PartAt",
    "Reader",
    "Until",
    "Work",
    "box_um",
    "changing",
    "entry_facts",
    "label_pixel",
    "named",
    "one_of",
    "parse_grade",
    "parse_place",
    "parse_time",
    "require_journal",
    "result_facts",
    "result_lines",
    "sequence_at",
    "working",
]

CaseFolder = Annotated[Path, typer.Argument(metavar="CASE", help="The case folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Reader = Annotated[
    str, typer.Option("--reader", metavar="NAME", help="Who does it, as the journal will say.")
]
PartAt = Annotated[
    str, typer.Option("--at", metavar="X,Y", help="The part of the overlay there, in µm.")
]
AtPlace = Annotated[
    str | None, typer.Option("--at", metavar="X,Y", help="The part of the overlay there, in µm.")
]
InRegion = Annotated[
    str | None, typer.Option("--region", metavar="X,Y,W,H", help="A rectangle in µm.")
]
InPolygon = Annotated[
    str | None, typer.Option("--polygon", metavar='"X,Y X,Y …"', help="An outline in µm.")
]

AsAfter = Annotated[
    int | None, typer.Option("--at", metavar="SEQ", help="As it was after this entry.")
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="TIME",
        help="As it was then (ISO 8601; a second, minute or day counts to its end).",
    ),
]

_GRADES: Mapping[str, int] = {
    "none": BACKGROUND,
    **{c.name.lower(): c.value for c in CLASSES},
    "prediction": NOT_RUN,
}


def parse_grade(text: str) -> int:
    """The value of a correction that a grade's name stands for.

    Raises
    ------
    InputError
        If there is no such grade.
    """
    try:
        return _GRADES[text.strip().lower()]
    except KeyError:
        names = ["none", *(c.name for c in CLASSES), "prediction"]
        raise InputError(
            f"There is no grade {text!r}", advice=f"Choose among {', '.join(names)}"
        ) from None


def named(reader: str) -> str:
    """The reader's name, asked for before any work is done.

    Raises
    ------
    InputError
        If it is empty.
    """
    from napari_hspnet.cases.readers import reader_name

    return reader_name(reader)


def one_of(given: Mapping[str, object]) -> str:
    """Which one of several options is there.

    Raises
    ------
    InputError
        If it is none, or more than one.
    """
    there = [name for name, value in given.items() if value is not None and value is not False]
    if len(there) == 1:
        return there[0]
    if there:
        raise InputError(f"{' and '.join(there)} exclude each other", advice="Give one of them")
    raise InputError("It is not said where", advice=f"Give one of {', '.join(given)}")


def parse_place(region: str | None, polygon: str | None) -> Region | None:
    """The region of --region or --polygon; None where neither is given."""
    if region is not None:
        return parse_region(region)
    return None if polygon is None else parse_polygon(polygon)


def label_pixel(text: str, grid: LabelGrid) -> tuple[int, int]:
    """The label pixel (y, x) that "X,Y" in µm lies in.

    Raises
    ------
    InputError
        If it is not two numbers.
    RegionError
        If it lies outside the slide.
    """
    y, x = (value / grid.mpp for value in parse_point(text))
    height, width = grid.shape
    if not (0 <= y < height and 0 <= x < width):
        raise RegionError(
            f"The place {text} lies outside the slide, which is {width * grid.mpp:,.0f} x "
            f"{height * grid.mpp:,.0f} µm",
            advice="Choose a place on the slide",
        )
    return math.floor(y), math.floor(x)


def parse_time(text: str, end: bool) -> str:
    """A time as the journal has it: UTC, ISO 8601 to the millisecond.

    Parameters
    ----------
    text : str
        ISO 8601; without an offset it is this computer's time.
    end : bool
        Whether the last moment of the second, minute or day that is named is
        meant, not the first: what a log shows to the second is then within it.

    Raises
    ------
    InputError
        If it is no time.
    """
    try:
        time = datetime.fromisoformat(text.strip())
        if end:
            time += _span(text.strip()) - timedelta(milliseconds=1)
        return time.astimezone(UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError) as error:
        raise InputError(
            f"{text!r} is no time", advice="Give one such as 2026-11-25T14:30:00+01:00"
        ) from error


def _span(text: str) -> timedelta:
    """How long what is named lasts: a day, a minute, a second, a millisecond."""
    clock = text[10:].lstrip("T ").split("+")[0].split("-")[0].rstrip("Z")
    if not clock:
        return timedelta(days=1)
    if "." in clock or "," in clock:
        return timedelta(milliseconds=1)
    return timedelta(seconds=1) if clock.count(":") == 2 else timedelta(minutes=1)


def require_journal(case: Case) -> None:
    """Raise where a case of an old format is looked at that has none.

    Raises
    ------
    InputError
        If so.
    """
    if not case.journal.there:
        raise InputError(
            "The case is of an older format and has no journal yet",
            advice="Open it in the window once, which brings it up to date",
        )


def sequence_at(case: Case, at: int | None, until: str | None) -> int | None:
    """The entry that --at or --until names; None where neither is given.

    Raises
    ------
    InputError
        Both are given, or the time is none or before the first entry.
    CaseError
        There is no such entry.
    """
    if at is None and until is None:
        return None
    if at is not None and until is not None:
        raise InputError("--at and --until exclude each other", advice="Give one of them")
    require_journal(case)
    if at is not None:
        return case.journal.entry(at).seq
    assert until is not None
    seq = case.journal.at(parse_time(until, end=True))
    if not seq:
        raise InputError(
            f"There was no case yet at {until}",
            advice=f"Its journal begins at {case.journal.entry(1).time}",
        )
    return seq


@dataclass(frozen=True)
class Work:
    """A piece of work on the screen.

    Attributes
    ----------
    say : callable (str) -> callable (float) -> None
        For a step's name, what to tell the part that is done.
    cancel : threading.Event
        Set by Ctrl+C.
    """

    say: Callable[[str], Callable[[float], None]]
    cancel: threading.Event


@contextmanager
def working(as_json: bool) -> Iterator[Work]:
    """A progress bar, and Ctrl+C as a wish to stop."""
    with stop_signals() as cancel, progress_bar(not as_json) as advance:
        yield Work(lambda doing: lambda part: advance(doing, part, None), cancel)


@dataclass(frozen=True)
class Change:
    """A change to a case on its way.

    Attributes
    ----------
    case : Case
        Open for writing.
    reader : str
        Who changes it.
    work : Work
        Progress and Ctrl+C.
    as_json : bool
        Whether it is told as JSON.
    """

    case: Case
    reader: str
    work: Work
    as_json: bool

    def part(self, place: str) -> tuple[Selection, list[int]]:
        """The connected part of the overlay at "X,Y" in µm, and that label pixel."""
        from napari_hspnet.cases.components import component_at

        y, x = label_pixel(place, self.case.grid)
        found = component_at(
            self.case.composite(),
            y,
            x,
            progress=self.work.say("Finding the part"),
            cancel=self.work.cancel,
        )
        return found, [y, x]

    def correct(
        self, patches: Iterable[Patch], tool: str, said: Mapping[str, Any], total: int
    ) -> None:
        """Write corrections as one act, and tell what became of it."""
        result = self.case.editing.correct(
            patches,
            self.reader,
            tool,
            said,
            total=total,
            progress=self.work.say("Correcting"),
            cancel=self.work.cancel,
        )
        facts = result_facts(self.case, result)
        if self.as_json:
            print_json(facts)
            return
        for line in result_lines(facts):
            typer.echo(line)


@contextmanager
def changing(folder: Path, reader: str, as_json: bool) -> Iterator[Change]:
    """Open a case for writing, for a reader who has a name.

    Raises
    ------
    InputError
        Nobody is named.
    CaseInUseError
        Another process works on it.
    """
    from napari_hspnet.cases import Case

    name = named(reader)
    with working(as_json) as work, Case.open(folder, read_only=False) as case:
        yield Change(case, name, work, as_json)


def result_facts(case: Case, result: EditResult) -> dict[str, Any]:
    """What became of an act, for JSON; a warning goes to stderr too."""
    if result.warning:
        warn(result.warning)
    mpp = case.grid.mpp
    return {
        "entry": None if result.entry is None else entry_facts(result.entry, mpp),
        "box_um": box_um(result.box, mpp),
        "left_locked": list(result.locked),
        "warning": result.warning,
    }


def result_lines(facts: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    entry = facts["entry"]
    if entry is None:
        return ["Nothing changed: it is so already"]
    return [f"Entry {entry['seq']}: {entry['what']}"]


def box_um(box: PixelBox | tuple[int, int, int, int] | None, mpp: float) -> dict[str, float] | None:
    """A box of label pixels in µm, for JSON; None where it is empty."""
    if box is None:
        return None
    y0, x0, y1, x1 = box if isinstance(box, tuple) else (box.y0, box.x0, box.y1, box.x1)
    if y1 <= y0 or x1 <= x0:
        return None
    return {"x": x0 * mpp, "y": y0 * mpp, "width": (x1 - x0) * mpp, "height": (y1 - y0) * mpp}


def entry_facts(entry: Entry, mpp: float, undone: bool = False) -> dict[str, Any]:
    """An entry for JSON, its words with it."""
    from napari_hspnet.cases.words import describe

    return {
        "seq": entry.seq,
        "time": entry.time,
        "reader": entry.reader,
        "kind": entry.kind,
        "what": describe(entry, mpp),
        "undone": undone,
        "box_um": box_um(entry.box, mpp),
    }
