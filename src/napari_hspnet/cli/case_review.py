"""``napari-hspnet case regions|region-add|region-set|disagreements``: the review."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from napari_hspnet.cli.case_parts import (
    AsJson,
    AtPlace,
    CaseFolder,
    Change,
    InPolygon,
    InRegion,
    Reader,
    box_um,
    changing,
    one_of,
    parse_place,
    working,
)
from napari_hspnet.cli.screen import note, print_json
from napari_hspnet.errors import InputError

if TYPE_CHECKING:
    from napari_hspnet.cases import Case, Composite, ReviewRegion, Selection

__all__ = ["add_regions", "list_disagreements", "list_regions", "set_regions"]


LeastUm2 = Annotated[
    float, typer.Option("--least-um2", metavar="N", help="Smaller ones are left out, in µm².")
]


def list_regions(folder: CaseFolder, as_json: AsJson = False) -> None:
    """List the review regions: place, grades, state, tag and comments."""
    from napari_hspnet.cases import Case

    with Case.open(folder) as case:
        composite = case.composite()
        said = [_region(case, composite, region) for region in case.review.regions]
    if as_json:
        print_json(said)
        return
    for region in said:
        for line in _region_lines(region):
            typer.echo(line)
    if not said:
        typer.echo("The case has no regions")


def add_regions(
    folder: CaseFolder,
    region: InRegion = None,
    polygon: InPolygon = None,
    place: AtPlace = None,
    components: Annotated[
        bool, typer.Option("--components", help="Every connected part of the overlay of CIN.")
    ] = False,
    least_um2: LeastUm2 = 10_000.0,
    grid: Annotated[
        float | None, typer.Option("--grid", metavar="UM", help="Square tiles over the tissue.")
    ] = None,
    tissue_share: Annotated[
        float, typer.Option("--tissue-share", help="Of a tile, 0 to 1: fewer tissue is left out.")
    ] = 0.05,
    reader: Reader = "",
    as_json: AsJson = False,
) -> None:
    """Add regions to be reviewed; their pixels stay, whatever the overlay becomes."""
    one_of(
        {
            "--region": region,
            "--polygon": polygon,
            "--at": place,
            "--components": components,
            "--grid": grid,
        }
    )
    area = parse_place(region, polygon)
    from napari_hspnet.cases import Selection
    from napari_hspnet.cases.review import not_listed
    from napari_hspnet.cases.tiles import MOST_REGIONS

    with changing(folder, reader, as_json) as act:
        kind = "component"
        if area is not None:
            chosen, kind = [Selection.of_region(area, act.case.grid)], "drawn"
        elif place is not None:
            chosen = [act.part(place)[0]]
        elif grid is not None:
            chosen, kind = _tiles(act, grid, tissue_share), "tile"
        else:
            chosen = _components(act, least_um2)
        if not chosen:
            raise InputError(
                "There is nothing to be made a region of",
                advice="Segment the slide first, or choose a smaller size",
            )
        if len(chosen) > MOST_REGIONS:
            raise InputError(
                f"There would be {len(chosen):,} regions", advice="Choose a larger size"
            )
        # As in the window: asking twice does not list the same place twice.
        fresh = not_listed(chosen, kind, act.case.review.regions)
        made = act.case.review.add(fresh, kind, act.reader) if fresh else ()
        composite = act.case.composite()
        said = [_region(act.case, composite, each) for each in made]
    if len(fresh) < len(chosen):
        note(f"{len(chosen) - len(fresh):,} of {len(chosen):,} are in the list already")
    _tell(said, as_json)


def set_regions(
    folder: CaseFolder,
    numbers: Annotated[list[int], typer.Argument(metavar="ID…", help="Numbers of regions.")],
    state: Annotated[
        str | None,
        typer.Option("--state", help="to do, in progress, reviewed, signed off (which locks it)."),
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(
            "--tag",
            help="uncertain, invasion, AIS, metaplasia, artefact, other; none takes it off.",
        ),
    ] = None,
    comment: Annotated[str | None, typer.Option("--comment", help="Something to say.")] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take them off the list; corrections stay.")
    ] = False,
    reader: Reader = "",
    as_json: AsJson = False,
) -> None:
    """Change regions: state, tag, comment; or take them off the list."""
    changes = (state, tag, comment)
    if remove == any(change is not None for change in changes):
        raise InputError(
            "Removing excludes the rest" if remove else "It is not said what to change",
            advice="Give --state, --tag or --comment, or --remove alone",
        )
    from napari_hspnet.cases import SIGNED_OFF

    with changing(folder, reader, as_json) as act:
        review = act.case.review
        for number in numbers:
            review.region(number)
        if remove:
            review.remove(numbers, act.reader)
            said = []
        else:
            # What is signed off takes no tag: it is unlocked first, and locked last.
            unlocks = state is not None and state != SIGNED_OFF
            if state is not None and unlocks:
                review.set_state(numbers, state, act.reader)
            if tag is not None:
                review.set_tag(numbers, "" if tag == "none" else tag, act.reader)
            for number in numbers if comment is not None else ():
                review.comment(number, comment or "", act.reader)
            if state is not None and not unlocks:
                review.set_state(numbers, state, act.reader)
            composite = act.case.composite()
            said = [_region(act.case, composite, review.region(number)) for number in numbers]
    if remove and not as_json:
        typer.echo(f"Taken off the list: {', '.join(map(str, numbers))}")
        return
    _tell(said, as_json)


def list_disagreements(
    folder: CaseFolder, least_um2: LeastUm2 = 1_000.0, as_json: AsJson = False
) -> None:
    """List where a reader said something else than the run on top."""
    from napari_hspnet.cases import Case
    from napari_hspnet.cases.disagreements import disagreements
    from napari_hspnet.cases.words import area_text, grade_name, place_text

    with Case.open(folder) as case, working(as_json) as work:
        found = disagreements(
            case.composite(),
            least_um2,
            case.corrections.chunks,
            progress=work.say("Comparing"),
            cancel=work.cancel,
        )
        mpp = case.grid.mpp
    if as_json:
        print_json(
            [
                {
                    "said": each.said,
                    "predicted": each.predicted,
                    "mm2": each.pixels * (mpp / 1000) ** 2,
                    "box_um": box_um(each.box, mpp),
                }
                for each in found
            ]
        )
        return
    for each in found:
        box = (each.box.y0, each.box.x0, each.box.y1, each.box.x1)
        typer.echo(
            f"{area_text(each.pixels, mpp):>12}  reader {grade_name(each.said)}, "
            f"run {grade_name(each.predicted)}, at {place_text(box, mpp)}"
        )
    if not found:
        typer.echo("Readers and runs agree, or nothing was corrected")


def _components(act: Change, least_um2: float) -> list[Selection]:
    from napari_hspnet.cases.components import components
    from napari_hspnet.classes import CIN1, CIN2, CIN3

    found = components(
        act.case.composite(),
        least_um2,
        (CIN1, CIN2, CIN3),
        progress=act.work.say("Finding parts"),
        cancel=act.work.cancel,
    )
    return [each.selection for each in found]


def _tiles(act: Change, side: float, share: float) -> list[Selection]:
    from napari_hspnet.cases.tiles import analysed_share, grid_tiles

    say = act.work.say("Finding tissue")
    analysed = partial(analysed_share, act.case.composite())
    return list(grid_tiles(act.case.grid, side, analysed, share, say, act.work.cancel))


def _tell(said: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(said)
        return
    for region in said:
        for line in _region_lines(region):
            typer.echo(line)


def _region(case: Case, composite: Composite, region: ReviewRegion) -> dict[str, Any]:
    from napari_hspnet.cases.store import CHUNK

    square = (case.grid.mpp / 1000) ** 2
    counts = np.zeros(256, np.int64)
    for (row, col), mask in case.review.selection(region.id).masks.items():
        values = composite.read(row * CHUNK, col * CHUNK, *mask.shape)
        counts += np.bincount(values[mask], minlength=256)
    return {
        "id": region.id,
        "kind": region.kind,
        "state": region.state,
        "state_reader": region.state_reader,
        "state_time": region.state_time,
        "tag": region.tag,
        "mm2": region.pixels * square,
        "areas_mm2": {str(v): float(counts[v]) * square for v in np.flatnonzero(counts)},
        "box_um": box_um(region.box, case.grid.mpp),
        "comments": [
            {"reader": said.reader, "time": said.time, "text": said.text}
            for said in region.comments
        ],
    }


def _region_lines(region: dict[str, Any]) -> list[str]:
    from napari_hspnet.cases.words import (
        REGION_KINDS,
        area_text,
        grade_name,
        local_time,
        place_text,
    )

    box = region["box_um"]
    middle = (box["y"], box["x"], box["y"] + box["height"], box["x"] + box["width"])
    grades = ", ".join(
        f"{grade_name(int(value))} {area_text(mm2 * 1e6, 1.0)}"
        for value, mm2 in sorted(region["areas_mm2"].items(), key=lambda item: -item[1])
    )
    tag = f", tagged {region['tag']}" if region["tag"] else ""
    lines = [
        f"{region['id']:>5}  {region['state']}{tag}, by {region['state_reader']}, "
        f"{local_time(region['state_time'])}",
        f"       {REGION_KINDS[region['kind']]} at {place_text(middle, 1.0)}: {grades}",
    ]
    for said in region["comments"]:
        text = " ".join(said["text"].split())
        lines.append(f"       {said['reader']}, {local_time(said['time'])}: {text}")
    return lines
