"""``napari-hspnet case verify|rescue``: whether a case is whole, and what to do if not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hspnet.cli.case_parts import AsJson, CaseFolder, Reader, named, working
from napari_hspnet.cli.screen import print_json
from napari_hspnet.errors import CaseError

if TYPE_CHECKING:
    from napari_hspnet.cases.verify import Finding, Verification

__all__ = ["rescue", "verify"]


def verify(
    folder: CaseFolder,
    repair: Annotated[
        bool, typer.Option("--repair", help="Write anew what follows from the journal.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every entry, chunk and run of a case; exit code 2 where one is damaged."""
    from napari_hspnet.cases.verify import verify_case

    with working(as_json) as work:
        found = verify_case(folder, repair, work.say("Checking"), work.cancel)
    if as_json:
        print_json(_facts(folder, found))
    else:
        for damage in found.mended:
            typer.echo(f"Mended: {_line(damage)}")
        for damage in found.damages:
            typer.echo(f"Damaged: {_line(damage)}")
    if not found.ok:
        count = len(found.damages)
        raise CaseError(
            f"The case has {count} damage{'' if count == 1 else 's'}",
            advice=_advice(found, repair),
            path=folder,
        )
    if not as_json:
        typer.echo(f"The case is whole: {found.entries:,} entries, {found.chunks:,} chunks")


def rescue(
    folder: CaseFolder,
    reader: Reader = "",
    slide: Annotated[
        Path | None,
        typer.Option("--slide", help="Its slide, where the case cannot say any more which it is."),
    ] = None,
    mpp: Annotated[
        float | None, typer.Option("--mpp", help="The slide's µm per pixel, where not stated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Begin a damaged journal anew from all that can be read; the old one is kept."""
    from napari_hspnet.cases.rescue import rescue_case
    from napari_hspnet.slides import LabelGrid, open_slide

    name = named(reader)
    info = grid = None
    if slide is not None:
        with open_slide(slide, mpp) as opened:
            info = opened.info
        grid = LabelGrid.of(info)
    done = rescue_case(folder, name, info, grid)
    if as_json:
        print_json(
            {
                "case": str(folder),
                "kept": [str(path) for path in done.kept],
                "corrected_pixels": done.pixels,
                "runs": done.runs,
                "regions": done.regions,
                "entries_read": done.entries_read,
                "lost": list(done.lost),
            }
        )
        return
    typer.echo(
        f"Saved: {done.runs:,} runs, {done.pixels:,} corrected pixels, {done.regions:,} regions; "
        f"{done.entries_read:,} entries of the old journal can be read"
    )
    for lost in done.lost:
        typer.echo(f"Lost: {lost}")
    for kept in done.kept:
        typer.echo(f"Kept: {kept}")


def _facts(folder: Path, found: Verification) -> dict[str, Any]:
    def listed(findings: tuple[Finding, ...]) -> list[dict[str, Any]]:
        return [{"entry": f.seq or None, "what": f.what, "where": f.where} for f in findings]

    return {
        "case": str(folder),
        "ok": found.ok,
        "entries": found.entries,
        "chunks": found.chunks,
        "damages": listed(found.damages),
        "mended": listed(found.mended),
        "rescue": found.rescue,
    }


def _line(finding: Finding) -> str:
    entry = f"entry {finding.seq} " if finding.seq else ""
    # SQLite's own words can run over several lines.
    return f"{entry}{' '.join(finding.what.split())} [{finding.where}]"


def _advice(found: Verification, repair: bool) -> str:
    if found.rescue:
        return (
            "Restore the folder from a backup, or save what can be read with "
            "`napari-hspnet case rescue`"
        )
    if repair:
        return "Restore what is named from a backup, or segment those regions again"
    return "Write anew what the journal gives with --repair"
