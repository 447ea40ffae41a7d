"""``napari-hspnet case undo|redo|regrade|grade|accept|…``: corrections without a window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hspnet.classes import NOT_RUN
from napari_hspnet.cli.case_parts import (
    AsJson,
    AtPlace,
    CaseFolder,
    InPolygon,
    InRegion,
    PartAt,
    Reader,
    changing,
    named,
    one_of,
    parse_grade,
    parse_place,
    result_facts,
    result_lines,
)
from napari_hspnet.cli.screen import note, print_json
from napari_hspnet.errors import CancelledError

if TYPE_CHECKING:
    from napari_hspnet.cases import Case, Patch

__all__ = [
    "accept_as_is",
    "attach_case",
    "grade_inside",
    "redo_acts",
    "regrade_part",
    "undo_acts",
]

ToGrade = Annotated[
    str,
    typer.Option("--to", metavar="GRADE", help="none, normal, CIN1, CIN2, CIN3 or prediction."),
]
Times = Annotated[int, typer.Option("--times", metavar="N", min=1, help="How many acts.")]


def attach_case(
    folder: CaseFolder,
    slide: Annotated[Path, typer.Argument(metavar="SLIDE", help="The slide file.")],
    reader: Reader = "",
    mpp: Annotated[
        float | None, typer.Option("--mpp", help="µm per pixel, where the file does not say it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a case belong to another file of the same picture, as after saving it anew."""
    from napari_hspnet.cases import Case
    from napari_hspnet.slides import open_slide

    name = named(reader)
    with Case.open(folder, read_only=False) as case:
        with open_slide(slide, mpp) as opened:
            info = opened.info
        before = case.slide_facts
        note(f"The case belongs to {before.name} ({before.fingerprint})")
        note(f"This slide is {info.name} ({info.fingerprint})")
        same = (before.name, before.fingerprint) == (info.name, info.fingerprint)
        if not same:
            case.attach(info, name)
        said = {
            "case": str(case.folder),
            "attached": not same,
            "from": {"name": before.name, "fingerprint": before.fingerprint},
            "to": {"name": info.name, "fingerprint": info.fingerprint},
        }
    if as_json:
        print_json(said)
    else:
        typer.echo(
            f"The case belongs to {info.name} already" if same else f"Attached to {info.name}"
        )


def undo_acts(
    folder: CaseFolder, reader: Reader = "", times: Times = 1, as_json: AsJson = False
) -> None:
    """Take back the last acts that stand, whoever did them and wherever."""
    _again(folder, reader, times, as_json, "undo")


def redo_acts(
    folder: CaseFolder, reader: Reader = "", times: Times = 1, as_json: AsJson = False
) -> None:
    """Do the acts again that were undone last."""
    _again(folder, reader, times, as_json, "redo")


def regrade_part(
    folder: CaseFolder,
    place: PartAt,
    to: ToGrade,
    reader: Reader = "",
    as_json: AsJson = False,
) -> None:
    """Give a connected part of the overlay, over the whole slide, another grade."""
    from napari_hspnet.cases import filled

    value = parse_grade(to)
    with changing(folder, reader, as_json) as act:
        part, at = act.part(place)
        tool = "back to prediction" if value == NOT_RUN else "regrade"
        act.correct(filled(part, value), tool, {"to": value, "at": at}, len(part.masks))


def grade_inside(
    folder: CaseFolder,
    to: ToGrade,
    region: InRegion = None,
    polygon: InPolygon = None,
    reader: Reader = "",
    as_json: AsJson = False,
) -> None:
    """Set the grade of all that lies inside a rectangle or an outline."""
    from napari_hspnet.cases import Selection, filled

    value = parse_grade(to)
    one_of({"--region": region, "--polygon": polygon})
    area = parse_place(region, polygon)
    assert area is not None
    with changing(folder, reader, as_json) as act:
        inside = Selection.of_region(area, act.case.grid)
        tool = "back to prediction" if value == NOT_RUN else "shape"
        said = {"to": value, "region": area.to_dict()}
        act.correct(filled(inside, value), tool, said, len(inside.masks))


def accept_as_is(
    folder: CaseFolder,
    place: AtPlace = None,
    region: InRegion = None,
    polygon: InPolygon = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole slide.")] = False,
    reader: Reader = "",
    as_json: AsJson = False,
) -> None:
    """Say that what is shown is right: reviewed, and unchanged."""
    from napari_hspnet.cases import Selection, accepted
    from napari_hspnet.cases.selection import chunks_of
    from napari_hspnet.slides import PixelBox

    one_of({"--at": place, "--region": region, "--polygon": polygon, "--all": everything})
    area = parse_place(region, polygon)
    with changing(folder, reader, as_json) as act:
        if everything:
            chunks = list(chunks_of(PixelBox(0, 0, *act.case.grid.shape)))
            # Chunk by chunk: a mask of the whole slide would fill the memory.
            patches = _accepted_chunks(act.case, chunks)
            act.correct(patches, "accept", {"what": "slide"}, len(chunks))
            return
        said: dict[str, Any]
        if place is not None:
            chosen, at = act.part(place)
            said = {"at": at}
        else:
            assert area is not None
            chosen, said = Selection.of_region(area, act.case.grid), {"region": area.to_dict()}
        patches = accepted(chosen, act.case.composite())
        act.correct(patches, "accept", said, len(chosen.masks))


def _accepted_chunks(case: Case, chunks: Iterable[tuple[int, int]]) -> Iterator[Patch]:
    from napari_hspnet.cases import Selection, accepted
    from napari_hspnet.cases.selection import chunk_box

    composite, shape = case.composite(), case.grid.shape
    for place in chunks:
        yield from accepted(Selection.of_box(chunk_box(place, shape), shape), composite)


def _again(folder: Path, reader: str, times: int, as_json: bool, what: str) -> None:
    done: list[dict[str, Any]] = []
    with changing(folder, reader, as_json) as act:
        editing = act.case.editing
        do = editing.undo if what == "undo" else editing.redo
        try:
            for number in range(times):
                if act.work.cancel.is_set():
                    raise CancelledError
                act.work.say(what.capitalize())(number / times)
                result = do(act.reader)
                if result is None:
                    break
                done.append(result_facts(act.case, result))
        finally:
            # What was undone before one act failed has been undone.
            if as_json:
                print_json(done)
            for line in [] if as_json else [text for each in done for text in result_lines(each)]:
                typer.echo(line)
    if not done and not as_json:
        typer.echo(f"There is nothing to {what}")
