"""``napari-hspnet case second-reading|compare``: two readers, and how they agree."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.cli.case_parts import AsJson, CaseFolder, Reader, box_um, named, working
from napari_hspnet.cli.screen import print_json
from napari_hspnet.cli.tables import print_table

if TYPE_CHECKING:
    from napari_hspnet.cases.kappa import Agreement
    from napari_hspnet.cases.two_readings import Side, TwoReadings

__all__ = ["compare_readings", "second_reading"]

_HEADINGS = ("", "area", "same grade", "kappa", "weighted", "same side of CIN2", "kappa at CIN2")
_REGIONS = ("", "regions", *_HEADINGS[2:])


def second_reading(
    folder: CaseFolder,
    reader: Reader = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="CASE", help="The new case; beside the first by default."),
    ] = None,
    without_model: Annotated[
        bool, typer.Option("--without-model", help="Show the second reader no model's answer.")
    ] = False,
    regions: Annotated[
        bool,
        typer.Option("--regions", help="Take over drawn regions and tiles, all of them to do."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Begin a case for a second reader, with nothing in it of what the first one did."""
    from napari_hspnet.cases import Case, begin_reading

    name = named(reader)
    with working(as_json) as work:
        made = begin_reading(
            folder,
            name,
            out,
            not without_model,
            regions,
            progress=work.say("Taking over runs"),
            cancel=work.cancel,
        )
    with Case.open(made) as case:
        said = {
            "notice": RESEARCH_USE_ONLY,
            "case": str(made),
            "reader": name,
            "runs": list(case.active),
            "regions": [region.id for region in case.review.regions],
        }
    if as_json:
        print_json(said)
        return
    typer.echo(f"{made}")
    runs = "no model's answer" if without_model else _count(len(said["runs"]), "run")
    typer.echo(f"  for {said['reader']} alone: {runs}, {_count(len(said['regions']), 'region')}")


def compare_readings(
    first: CaseFolder,
    second: Annotated[Path, typer.Argument(metavar="OTHER", help="The other reader's case.")],
    places: Annotated[
        bool, typer.Option("--places", help="List where they differ, too; that ends blindness.")
    ] = False,
    least_um2: Annotated[
        float, typer.Option("--least-um2", metavar="N", help="Places from this size on.")
    ] = 1_000.0,
    add: Annotated[
        bool,
        typer.Option("--add", help="Take these places into CASE's review regions, by --reader."),
    ] = False,
    reader: Reader = "",
    as_json: AsJson = False,
) -> None:
    """Say how well two readings of a slide agree: in grades, and at CIN2."""
    from napari_hspnet.cases import Case
    from napari_hspnet.cases.two_readings import compare, list_differences

    name = named(reader) if add else ""
    with (
        Case.open(first, read_only=not add) as one,
        Case.open(second) as other,
        working(as_json) as work,
    ):
        found = compare(one, other, least_um2, work.say("Comparing"), work.cancel)
        added = [r.id for r in list_differences(one.review, found, name)] if add else None
    if as_json:
        said = _facts(found, places)
        print_json(said if added is None else {**said, "added": added})
        return
    for line in _who(found):
        typer.echo(line)
    _print_figures(found)
    if places:
        _print_places(found)
    if added is not None:
        typer.echo(f"Added to the list: {', '.join(map(str, added)) or 'none'}")


def _facts(found: TwoReadings, places: bool) -> dict[str, Any]:
    from napari_hspnet.cases.kappa import agreement
    from napari_hspnet.cases.two_readings import BASES

    square = (found.mpp / 1000) ** 2
    said = {
        "notice": RESEARCH_USE_ONLY,
        "first": _side_facts(found.first),
        "second": _side_facts(found.second),
        "second_made_from_first": found.made_from,
        "bases": {
            basis: {
                "what": words,
                **_figures(agreement(found.tables[basis]), square),
                "mm2_by_grade": [[n * square for n in row] for row in found.tables[basis].tolist()],
            }
            for basis, words in BASES.items()
        },
        "regions": {
            **_figures(agreement(found.worst_grades), None),
            "each": [
                {
                    "first_id": pair.region.id,
                    "second_id": pair.number,
                    "done_by_both": pair.done,
                    "worst_first": pair.first,
                    "worst_second": pair.second,
                    "box_um": box_um(pair.region.box, found.mpp),
                }
                for pair in found.regions
            ],
        },
    }
    if places:
        said["places"] = [
            {
                "first": each.first,
                "second": each.second,
                "mm2": each.pixels * square,
                "box_um": box_um(each.box, found.mpp),
            }
            for each in found.differences
        ]
    return said


def _side_facts(side: Side) -> dict[str, Any]:
    return {
        "readers": list(side.readers),
        "entry": side.entry,
        "second_reading": side.second,
        "model_shown": side.model,
    }


def _figures(found: Agreement, square: float | None) -> dict[str, Any]:
    """For JSON; in mm², or as a count of regions where `square` is None."""

    def size(count: int) -> float:
        return count if square is None else count * square

    unit = "regions" if square is None else "mm2"
    return {
        f"graded_{unit}": size(found.graded),
        f"one_alone_{unit}": size(found.one_alone),
        "same": _known(found.same),
        "kappa": _known(found.kappa),
        "kappa_weighted": _known(found.weighted),
        "same_side_of_cin2": _known(found.same_high),
        "kappa_at_cin2": _known(found.kappa_high),
    }


def _known(figure: float) -> float | None:
    return None if math.isnan(figure) else figure


def _who(found: TwoReadings) -> list[str]:
    def line(name: str, side: Side) -> str:
        kind = ""
        if side.second:
            made = "begun from the first" if found.made_from else "not begun from this first one"
            model = "" if side.model else ", without the model"
            kind = f", a second reading{model}, {made}"
        return f"{name:<7} {side.who} (up to entry {side.entry}{kind})"

    return [line("First", found.first), line("Second", found.second)]


def _print_figures(found: TwoReadings) -> None:
    from napari_hspnet.cases.kappa import agreement
    from napari_hspnet.cases.two_readings import BASES
    from napari_hspnet.cases.words import area_text

    rows = []
    for basis, words in BASES.items():
        figures = agreement(found.tables[basis])
        rows.append((words, area_text(figures.graded, found.mpp), *_cells(figures)))
    print_table((_HEADINGS, *rows))
    if found.second.model and found.first.model:
        typer.echo(
            "What neither of them touched is the model's word: there they agree by themselves."
        )
    if found.regions:
        figures = agreement(found.worst_grades)
        row = ("Worst grade, done by both", str(figures.graded), *_cells(figures))
        print_table((_REGIONS, row))


def _cells(figures: Agreement) -> tuple[str, ...]:
    shares = (figures.same, figures.kappa, figures.weighted, figures.same_high, figures.kappa_high)
    return tuple("-" if math.isnan(share) else f"{share:.2f}" for share in shares)


def _print_places(found: TwoReadings) -> None:
    from napari_hspnet.cases.words import area_text, grade_name, place_text

    for each in found.differences:
        box = (each.box.y0, each.box.x0, each.box.y1, each.box.x1)
        typer.echo(
            f"{area_text(each.pixels, found.mpp):>12}  first {grade_name(each.first)}, "
            f"second {grade_name(each.second)}, at {place_text(box, found.mpp)}"
        )
    if not found.differences:
        typer.echo("There is no place of that size where they differ")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
