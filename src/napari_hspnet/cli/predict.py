"""``napari-hspnet predict``: slides in, masks out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hspnet.classes import CLASS_BY_VALUE, DEMO_BANNER, RESEARCH_USE_ONLY
from napari_hspnet.cli.options import Where, parse_formats, parse_region
from napari_hspnet.cli.predict_many import AREA_NAMES, predict_with_crew
from napari_hspnet.cli.screen import duration, note, print_json, progress_bar, stop_signals, warn
from napari_hspnet.errors import HspnetError, InputError

if TYPE_CHECKING:
    from napari_hspnet.inference import Progress
    from napari_hspnet.jobs.predict import PredictOptions, PredictResult
    from napari_hspnet.networks import LoadedModel

__all__ = ["predict_all", "predict_slides"]


class Mode(StrEnum):
    """Named ways to run, see `inference.modes`."""

    exact = "exact"
    balanced = "balanced"
    preview = "preview"


class Blend(StrEnum):
    """How windows are put together."""

    gaussian = "gaussian"
    plain = "plain"


def predict_slides(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")],
    slides: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SLIDE…", help="Slide files, and folders of them."),
    ] = None,
    listed: Annotated[
        Path | None, typer.Option("--list", help="A text file that names a slide on each line.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="The model; the demo model without it.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option("--region", metavar="X,Y,W,H", help="In µm; the whole slide without it."),
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option("--mode", help="How carefully: exact (as without it), balanced, preview."),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option("--stride", help="Between windows, in label pixels; a quarter of one."),
    ] = None,
    blend: Annotated[
        Blend | None,
        typer.Option("--blend", help="Overlapping windows averaged (as without), or side by side."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps …")
    ] = "auto",
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            help="What runs the model: eager, folded, openvino, …; auto: the fastest here.",
        ),
    ] = "eager",
    mpp: Annotated[
        float | None, typer.Option("--mpp", help="The slides' µm per pixel, where not stated.")
    ] = None,
    no_tissue_mask: Annotated[
        bool, typer.Option("--no-tissue-mask", help="Run where there seems to be no tissue too.")
    ] = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Mark unreadable tiles 254 and go on.")
    ] = False,
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="Some of ome-tiff,ome-zarr,png,geojson,csv,parquet,json,picture,report.",
        ),
    ] = "ome-tiff,geojson",
    png_mpp: Annotated[
        float | None, typer.Option("--png-mpp", help="µm per pixel of the PNG.")
    ] = None,
    origin: Annotated[
        Where, typer.Option("--origin", help="(0, 0) of GeoJSON: as in QuPath, or level 0's.")
    ] = Where.bounds,
    cases: Annotated[
        Path | None, typer.Option("--cases", help="Folder of the cases; --out without it.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace mask files that exist.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin anew where a run was broken off.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Slides at a time, each in its own process.")
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler", metavar="ADDRESS", help="A dask scheduler that hands them out."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Segment slides and write masks, outlines for QuPath, tables, pictures, reports."""
    area = parse_region(region)
    wanted = parse_formats(formats)
    if mode is not None and (stride is not None or blend is not None):
        raise InputError(
            "A mode says stride and blending itself",
            advice="Leave out either --mode, or --stride and --blend",
        )
    from napari_hspnet.jobs.predict import PredictOptions

    options = PredictOptions(
        out=out,
        formats=wanted,
        cases=cases,
        region=area,
        stride=stride,
        blend=(blend or Blend.gaussian).value,
        mode="" if mode is None else mode.value,
        tissue_mask=not no_tissue_mask,
        skip_unreadable=skip_unreadable,
        device=device,
        mpp=mpp,
        png_mpp=png_mpp,
        origin=origin.value,
        overwrite=overwrite,
        backend=backend,
        fresh=fresh,
    )
    from napari_hspnet.jobs.slide_files import listed_slides, slides_of

    named = [*(slides or ()), *(() if listed is None else listed_slides(listed))]
    if not named:
        raise InputError("No slide is named", advice="Name slides, folders of them, or a --list")
    found = slides_of(named, lambda slide: options.outputs(slide).values())
    with stop_signals() as cancel:
        if workers is None and scheduler is None:
            predict_all(found, checkpoint, options, as_json, cancel)
            return
        from napari_hspnet.jobs.crew import Crew

        crew = Crew(workers, scheduler)
        predict_with_crew(found, _model(checkpoint), options, crew, as_json, cancel)


def predict_all(
    slides: Sequence[Path],
    checkpoint: Path | None,
    options: PredictOptions,
    as_json: bool,
    cancel: threading.Event,
) -> None:
    """Segment one slide after another; one that fails does not stop the next.

    Raises
    ------
    typer.Exit
        With code 2 where a slide failed.
    HspnetError
        Where it fails before the first slide, or there is only one.
    """
    from napari_hspnet.jobs.predict import check_outputs

    created = [f for f in {options.out, options.cases or options.out} if not f.exists()]
    results: list[PredictResult] = []
    errors: list[tuple[Path, HspnetError]] = []
    try:
        model = _model(checkpoint)
        check_outputs(slides, options)
        for slide in slides:
            try:
                result = _one(slide, model, options, as_json, cancel)
            except HspnetError as error:
                errors.append((slide, error))
                if len(slides) > 1:
                    note(f"Error: {slide}: {error}")
                continue
            results.append(result)
            _say(result, as_json)
    finally:
        for folder in created:
            _remove_if_empty(folder)
    if as_json:
        print_json(_document(model, results, errors))
    if errors and len(slides) == 1:
        raise errors[0][1]
    if errors:
        note(f"{len(errors)} of {len(slides)} slides failed.")
        raise typer.Exit(2)


def _one(
    slide: Path,
    model: LoadedModel,
    options: PredictOptions,
    as_json: bool,
    cancel: threading.Event,
) -> PredictResult:
    from napari_hspnet.jobs.predict import predict

    with progress_bar(not as_json) as advance:

        def tell(report: Progress) -> None:
            part = report.done / report.total if report.total else None
            advance(f"{slide.name}: {report.stage}", part, report.remaining)

        def said(text: str) -> None:
            note(f"{slide.name}: {text}.")

        return predict(slide, model, options, tell, cancel, said)


def _model(checkpoint: Path | None) -> LoadedModel:
    from napari_hspnet.networks import demo_model_path, load_checkpoint

    if checkpoint is None:
        note("No --checkpoint is given: using the demo model of this package.")
    model = load_checkpoint(demo_model_path() if checkpoint is None else checkpoint)
    if model.card.synthetic:
        warn(DEMO_BANNER)
    return model


def _say(result: PredictResult, as_json: bool) -> None:
    for text in result.warnings:
        warn(f"{result.slide.name}: {text}.")
    if as_json:
        return
    seconds = result.run.seconds or 0.0
    typer.echo(f"{result.slide.name}: {result.windows:,} windows in {duration(seconds)}")
    for value, area in sorted(result.run.areas.items()):
        kind = CLASS_BY_VALUE.get(value)
        title = AREA_NAMES[value] if kind is None else kind.name
        typer.echo(f"  {title:<18}{area:10.3f} mm²")
    for name, path in result.outputs.items():
        typer.echo(f"  {name:<18}{path}")
    typer.echo(f"  {'case':<18}{result.case}")


def _document(
    model: LoadedModel,
    results: Sequence[PredictResult],
    errors: Sequence[tuple[Path, HspnetError]],
) -> dict[str, Any]:
    return {
        "notice": RESEARCH_USE_ONLY,
        "demo": DEMO_BANNER if model.card.synthetic else None,
        "model": {"name": model.card.name, "sha256": model.sha256},
        "results": [
            {
                "slide": str(result.slide),
                "fingerprint": result.run.record.slide_fingerprint,
                "case": str(result.case),
                "run": result.run.id,
                "width": result.grid.shape[1],
                "height": result.grid.shape[0],
                "mpp": result.grid.mpp,
                "windows": result.windows,
                "seconds": result.run.seconds,
                "device": result.run.record.device,
                "mode": result.run.record.mode,
                "backend": result.run.record.backend,
                "notes": list(result.run.record.notes),
                "areas_mm2": {str(value): area for value, area in result.run.areas.items()},
                "outputs": {name: str(path) for name, path in result.outputs.items()},
                "warnings": list(result.warnings),
            }
            for result in results
        ],
        "errors": [
            {
                "slide": str(slide),
                "kind": type(error).__name__,
                "what": error.what,
                "advice": error.advice,
            }
            for slide, error in errors
        ],
    }


def _remove_if_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
