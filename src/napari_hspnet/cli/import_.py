"""``napari-hspnet import``: outlines and masks of others as corrections."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from napari_hspnet.cli.case_parts import (
    AsJson,
    CaseFolder,
    Reader,
    box_um,
    named,
    parse_grade,
    result_facts,
    result_lines,
    working,
)
from napari_hspnet.cli.options import parse_point
from napari_hspnet.cli.screen import note, print_json
from napari_hspnet.errors import CancelledError, InputError

if TYPE_CHECKING:
    from napari_hspnet.cases import Case, EditResult
    from napari_hspnet.exchange.importing import ImportPlan
    from napari_hspnet.exchange.incoming import FoundName, Incoming

__all__ = ["import_file"]

_LEFT = 255
_GRADES = "none, normal, CIN1, CIN2, CIN3 or leave"


def import_file(
    folder: CaseFolder,
    path: Annotated[
        Path, typer.Argument(metavar="FILE", help="Outlines as GeoJSON, or a mask as PNG or TIFF.")
    ],
    reader: Reader = "",
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="NAME=GRADE",
            help=f"What a class or a mask's value stands for: {_GRADES}. For each one.",
        ),
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--origin",
            metavar="bounds|level0",
            help="Where outlines count from: the scanned area, as QuPath does, or the whole image.",
        ),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option("--mpp", help="µm per pixel of the mask, whatever it says.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="X,Y", help="Where the mask's first pixel lies, in µm."),
    ] = None,
    rest: Annotated[
        str | None,
        typer.Option(
            "--rest",
            metavar="leave|none",
            help="What no outline covers, or a mask's 0: as it is, or none of the four.",
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Accept what is shown so already, too.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Say what would change, and change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import outlines (GeoJSON) or a mask (PNG, TIFF) as corrections; `case undo` takes it back."""
    from napari_hspnet.cases import Case
    from napari_hspnet.exchange.importing import ImportOptions, import_plan, plan_import
    from napari_hspnet.exchange.incoming import open_incoming

    given = dict(_mapped(text) for text in mapping or ())
    origin = _one_of("--origin", origin, ("bounds", "level0"))
    rest = _one_of("--rest", rest, ("leave", "none"))
    place = None if at is None else parse_point(at)
    name = "" if preview else named(reader)
    with ExitStack() as stack:
        case = stack.enter_context(Case.open(folder, read_only=preview))
        with working(as_json) as work:
            incoming = stack.enter_context(
                open_incoming(
                    path,
                    case.slide_facts,
                    case.grid,
                    origin=cast(Literal["bounds", "level0"] | None, origin),
                    mpp=mpp,
                    at=place,
                    progress=work.say("Reading the file"),
                    cancel=work.cancel,
                )
            )
        # Asked for without a bar on the screen, and where Ctrl+C ends at once.
        options = ImportOptions(
            {**given, **_asked(incoming, given, as_json)},
            cast(Literal["leave", "none"] | None, rest),
            "accept" if accept else "leave",
        )
        with working(as_json) as work:
            plan = plan_import(
                incoming,
                case.composite(),
                options,
                progress=work.say("Comparing"),
                cancel=work.cancel,
                locks=case.review.locks,
            )
            result = None
            if not preview and plan.locked and not plan.pixels:
                raise case.review.locked_error(plan.locked)
            if not preview:
                said = work.say("Correcting")
                result = import_plan(case, plan, name, said, work.cancel)
        _tell(case, incoming, plan, result, as_json)


def _one_of(option: str, given: str | None, words: Sequence[str]) -> str | None:
    if given is not None and given not in words:
        raise InputError(
            f"{option} {given!r} is not understood", advice=f"Choose {' or '.join(words)}"
        )
    return given


def _mapped(text: str) -> tuple[str, int]:
    name, there, grade = text.rpartition("=")
    if not there:
        raise InputError(
            f"--map {text!r} is not understood",
            advice='Give NAME=GRADE, as in --map "Low grade=CIN1"',
        )
    return " ".join(name.split()), _grade(grade)


def _grade(text: str) -> int:
    word = text.strip().lower()
    if word == "leave":
        return _LEFT
    if word == "prediction":
        raise InputError("An import cannot go back to the prediction", advice=f"Choose {_GRADES}")
    try:
        return parse_grade(word)
    except InputError as error:
        raise InputError(f"There is no grade {text!r}", advice=f"Choose {_GRADES}") from error


def _asked(incoming: Incoming, given: Mapping[str, int], as_json: bool) -> dict[str, int]:
    """What the user answers for names that nobody knows; an error where nobody can be asked."""
    unknown = [n for n in incoming.names if n.grade is None and n.key not in given]
    if not unknown:
        return {}
    if as_json or not _at_terminal():
        options = " ".join(f'--map "{found.key}=GRADE"' for found in unknown)
        raise InputError(
            "It is not known which grade is meant by "
            + ", ".join(_called(incoming, found) for found in unknown),
            advice=f"Say it, as in {options}, where GRADE is {_GRADES}",
            path=incoming.path,
        )
    return {found.key: _answer(_called(incoming, found)) for found in unknown}


def _at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _answer(what: str) -> int:
    while True:
        try:
            text = typer.prompt(f"Which grade is {what}? ({_GRADES})", err=True)
        except typer.Abort as error:
            raise CancelledError from error
        try:
            return _grade(text)
        except InputError as error:
            note(str(error))


def _called(incoming: Incoming, found: FoundName) -> str:
    if incoming.kind != "geojson":
        return f"value {found.key} ({found.count:,} pixels)"
    outlines = f"{found.count:,} outline{'' if found.count == 1 else 's'}"
    return f"'{found.key}' ({outlines})" if found.key else f"{outlines} without a class ('')"


def _tell(
    case: Case, incoming: Incoming, plan: ImportPlan, result: EditResult | None, as_json: bool
) -> None:
    from napari_hspnet.cases.words import area_text

    mpp = case.grid.mpp
    became = None if result is None else result_facts(case, result)
    if became is not None:
        # The plan has left them out already.
        became["left_locked"] = sorted({*became["left_locked"], *plan.locked})
    if as_json:
        square = (mpp / 1000) ** 2
        pairs = sorted(plan.changes.items())
        said: dict[str, Any] = {
            "case": str(case.folder),
            "file": str(incoming.path),
            "format": incoming.kind,
            "sha256": incoming.sha256,
            "names": [
                {"name": n.key, "count": n.count, "grade": plan.said["grades"][n.key]}
                for n in incoming.names
            ],
            "rest": plan.said["rest"],
            "notes": list(plan.warnings),
            "pixels": plan.pixels,
            "changes": [
                {"from": shown, "to": becomes, "mm2": pixels * square}
                for (shown, becomes), pixels in pairs
            ],
            "box_um": box_um(plan.box, mpp),
            "left_locked": sorted(plan.locked),
            "imported": became,
        }
        print_json(said)
        return
    for text in plan.warnings:
        note(f"{text}.")
    if plan.locked:
        regions = ", ".join(map(str, sorted(plan.locked)))
        held = area_text(sum(plan.locked.values()), mpp)
        note(f"Signed off and left as they are: {held} in region {regions}.")
    for line in result_lines(became) if became is not None else _would_change(plan):
        typer.echo(line)


def _would_change(plan: ImportPlan) -> Iterator[str]:
    from napari_hspnet.cases.words import area_text, grade_name, place_text

    if not plan.pixels:
        yield "Nothing would change: it is so already"
        return
    mpp, box = plan.grid.mpp, plan.box
    where = place_text((box.y0, box.x0, box.y1, box.x1), mpp)
    yield f"Would change {area_text(plan.pixels, mpp)} around {where}:"
    for (shown, becomes), pixels in sorted(plan.changes.items(), key=lambda item: -item[1]):
        if shown == becomes:
            change = f"{grade_name(shown)} accepted"
        else:
            change = f"{grade_name(shown)} → {grade_name(becomes)}"
        yield f"  {change}  {area_text(pixels, mpp)}"
