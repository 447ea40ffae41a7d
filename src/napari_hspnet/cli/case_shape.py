"""``napari-hspnet case grow|shrink|fill-holes|drop-specks``: borders moved, parts mended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from napari_hspnet.cli.case_parts import (
    AsJson,
    CaseFolder,
    Change,
    InPolygon,
    InRegion,
    PartAt,
    Reader,
    changing,
    one_of,
    parse_place,
)

if TYPE_CHECKING:
    from napari_hspnet.cases import Selection

__all__ = ["drop_specks", "fill_holes", "grow_part", "shrink_part"]

Distance = Annotated[float, typer.Option("--um", metavar="UM", help="How far, in µm.")]
LargestUm2 = Annotated[
    float, typer.Option("--um2", metavar="N", help="The largest that is meant, in µm².")
]


def grow_part(
    folder: CaseFolder, place: PartAt, um: Distance, reader: Reader = "", as_json: AsJson = False
) -> None:
    """Move the border of a part of the overlay outwards."""
    from napari_hspnet.cases.morphology import grown

    with changing(folder, reader, as_json) as act:
        part, value, at = _part(act, place)
        patches = grown(act.case.composite(), part, um, value, act.work.cancel)
        act.correct(patches, "grow", {"at": at, "um": um}, len(patches))


def shrink_part(
    folder: CaseFolder, place: PartAt, um: Distance, reader: Reader = "", as_json: AsJson = False
) -> None:
    """Move the border of a part of the overlay inwards; its rim takes what is beyond."""
    from napari_hspnet.cases.morphology import shrunk

    with changing(folder, reader, as_json) as act:
        part, _, at = _part(act, place)
        patches = shrunk(act.case.composite(), part, um, act.work.cancel)
        act.correct(patches, "shrink", {"at": at, "um": um}, len(patches))


def fill_holes(
    folder: CaseFolder,
    place: PartAt,
    um2: LargestUm2,
    reader: Reader = "",
    as_json: AsJson = False,
) -> None:
    """Give the holes of a part of the overlay its own grade."""
    from napari_hspnet.cases.morphology import holes_filled

    with changing(folder, reader, as_json) as act:
        part, value, at = _part(act, place)
        patches = holes_filled(
            act.case.composite(),
            part,
            um2,
            value,
            progress=act.work.say("Finding holes"),
            cancel=act.work.cancel,
        )
        act.correct(patches, "fill holes", {"at": at, "up_to_um2": um2}, len(patches))


def drop_specks(
    folder: CaseFolder,
    um2: LargestUm2,
    region: InRegion = None,
    polygon: InPolygon = None,
    everything: Annotated[bool, typer.Option("--all", help="On the whole slide.")] = False,
    reader: Reader = "",
    as_json: AsJson = False,
) -> None:
    """Give small parts of the overlay the grade of what surrounds them."""
    from napari_hspnet.cases import Selection
    from napari_hspnet.cases.morphology import specks_dropped
    from napari_hspnet.slides import PixelBox

    one_of({"--region": region, "--polygon": polygon, "--all": everything})
    area = parse_place(region, polygon)
    with changing(folder, reader, as_json) as act:
        grid = act.case.grid
        whole = PixelBox(0, 0, *grid.shape)
        patches = specks_dropped(
            act.case.composite(),
            whole if area is None else Selection.of_region(area, grid),
            um2,
            progress=act.work.say("Finding specks"),
            cancel=act.work.cancel,
        )
        said = {"what": "slide"} if area is None else {"region": area.to_dict()}
        act.correct(patches, "drop specks", {**said, "up_to_um2": um2}, len(patches))


def _part(act: Change, place: str) -> tuple[Selection, int, list[int]]:
    """The part at "X,Y" in µm, its class, and that label pixel."""
    part, (y, x) = act.part(place)
    return part, int(act.case.composite().read(y, x, 1, 1)[0, 0]), [y, x]
