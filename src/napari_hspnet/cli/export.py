"""``napari-hspnet export``: a case as files for other tools."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hspnet.classes import DEMO_BANNER, PALETTES, RESEARCH_USE_ONLY
from napari_hspnet.cli.case_parts import AsAfter, AsJson, CaseFolder, Until, sequence_at
from napari_hspnet.cli.options import Where, parse_formats, parse_region
from napari_hspnet.cli.screen import note, print_json, progress_bar, stop_signals, warn
from napari_hspnet.errors import InputError

if TYPE_CHECKING:
    from napari_hspnet.jobs.export import ExportResult
    from napari_hspnet.slides import Slide

__all__ = ["export_files"]


class Kind(StrEnum):
    """Which labels."""

    composite = "composite"
    correction = "correction"
    prediction = "prediction"
    difference = "difference"


class Colours(StrEnum):
    """Colours of the four classes."""

    paper = "paper"
    ordinal = "ordinal"


def export_files(
    folder: CaseFolder,
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")],
    what: Annotated[
        Kind,
        typer.Option(
            "--what",
            help="What is shown, what readers said, what the runs said, or where readers "
            "changed what the runs said.",
        ),
    ] = Kind.composite,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="Some of ome-tiff,ome-zarr,png,geojson,csv,parquet,json,picture,report,training.",
        ),
    ] = "ome-tiff,geojson",
    name: Annotated[
        str | None, typer.Option("--name", help="What the files are named; the slide's name.")
    ] = None,
    slide: Annotated[
        Path | None, typer.Option("--slide", help="The slide's file: for pictures and crops.")
    ] = None,
    mpp: Annotated[
        float | None, typer.Option("--mpp", help="The slide's µm per pixel, where not stated.")
    ] = None,
    at: AsAfter = None,
    until: Until = None,
    run: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="ID", help="A run alone, without corrections; repeatable."),
    ] = None,
    region: Annotated[
        list[int] | None,
        typer.Option("--region-id", metavar="N", help="Review regions to picture or crop."),
    ] = None,
    png_mpp: Annotated[
        float | None, typer.Option("--png-mpp", help="µm per pixel of the PNG.")
    ] = None,
    picture_mpp: Annotated[
        float | None, typer.Option("--picture-mpp", help="µm per pixel of the picture.")
    ] = None,
    training_mpp: Annotated[
        float | None, typer.Option("--training-mpp", help="µm per pixel of training crops.")
    ] = None,
    origin: Annotated[
        Where, typer.Option("--origin", help="(0, 0) of GeoJSON: as in QuPath, or level 0's.")
    ] = Where.bounds,
    simplify: Annotated[
        float, typer.Option("--simplify", metavar="UM", min=0, help="Simplify GeoJSON outlines.")
    ] = 0.0,
    review_regions: Annotated[
        bool, typer.Option("--review-regions", help="Review regions as outlines in GeoJSON too.")
    ] = False,
    picture_region: Annotated[
        str | None,
        typer.Option("--picture-region", metavar="X,Y,W,H", help="What the picture shows, in µm."),
    ] = None,
    picture_fill: Annotated[
        bool, typer.Option("--picture-fill", help="Fill areas in the picture.")
    ] = False,
    training_tile: Annotated[
        float | None,
        typer.Option("--training-tile", metavar="UM", help="Cut training crops into squares."),
    ] = None,
    palette: Annotated[Colours, typer.Option("--palette", help="Colours.")] = Colours.paper,
    slide_name: Annotated[
        bool, typer.Option("--slide-name", help="Say the slide's file name in the files.")
    ] = False,
    comments: Annotated[
        bool, typer.Option("--comments", help="Hand on the comments on regions.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace earlier exports.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a case's labels for QuPath, OME-Zarr readers, tables, training, or to look at.

    Neither the slide's file name nor comments are in the files unless asked for; what the
    files themselves are named is --name.
    """
    wanted = parse_formats(formats)
    from napari_hspnet.cases import Case
    from napari_hspnet.jobs.export import ExportOptions, export_case

    if run and (at is not None or until is not None):
        raise InputError(
            "--run gives a run as it was written, whatever the time",
            advice="Leave out --at and --until",
        )
    with Case.open(folder) as case, _opened(slide, mpp) as opened:
        options = ExportOptions(
            out=out,
            formats=wanted,
            what=what.value,
            name=name,
            palette=PALETTES[palette.value],
            png_mpp=png_mpp,
            picture_mpp=picture_mpp,
            training_mpp=training_mpp,
            origin=origin.value,
            simplify_um=simplify,
            review_regions=review_regions,
            picture_region=None if picture_region is None else parse_region(picture_region),
            picture_fill=picture_fill,
            training_tile_um=training_tile,
            name_slide=slide_name,
            comments=comments,
            overwrite=overwrite,
            entry=sequence_at(case, at, until),
            runs=tuple(run) if run else None,
            regions=tuple(region) if region else None,
        )
        with stop_signals() as cancel, _telling(not as_json) as tell:
            result = export_case(case, options, opened, tell, cancel)
    _say(result, as_json)


@contextmanager
def _opened(path: Path | None, mpp: float | None) -> Iterator[Slide | None]:
    from napari_hspnet.slides import open_slide

    if path is None:
        yield None
        return
    with open_slide(path, mpp) as slide:
        yield slide


@contextmanager
def _telling(shown: bool) -> Iterator[Callable[[str, float], None]]:
    """A bar with the time left, told from the part of all that is done."""
    begun = time.monotonic()
    with progress_bar(shown) as advance:

        def tell(doing: str, part: float) -> None:
            gone = time.monotonic() - begun
            advance(doing, part, gone * (1 - part) / part if part > 0 and gone > 1 else None)

        yield tell


def _say(result: ExportResult, as_json: bool) -> None:
    about = result.about
    if about.synthetic:
        warn(DEMO_BANNER)
    for text in result.warnings:
        warn(f"{text}.")
    if as_json:
        document: dict[str, Any] = {
            "notice": RESEARCH_USE_ONLY,
            "demo": DEMO_BANNER if about.synthetic else None,
            "what": about.what,
            "entry": about.entry,
            "model": {"name": about.model_name, "sha256": about.model_sha256},
            "runs": list(about.run_ids),
            "readers": list(about.readers),
            "outputs": {key: str(path) for key, path in result.outputs.items()},
            "warnings": list(result.warnings),
        }
        print_json(document)
        return
    for key, path in result.outputs.items():
        typer.echo(f"  {key:<10}{path}")
    note(f"As after entry {about.entry}; readers: {', '.join(about.readers) or 'none'}.")
