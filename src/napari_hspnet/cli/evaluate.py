"""``napari-hspnet evaluate``: what a model, or predictions made elsewhere, are worth."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_hspnet.classes import DEMO_BANNER, RESEARCH_USE_ONLY
from napari_hspnet.cli.screen import print_json, progress_bar, stop_signals, warn
from napari_hspnet.cli.tables import print_table
from napari_hspnet.errors import InputError

if TYPE_CHECKING:
    from napari_hspnet.jobs.evaluation_data import Source
    from napari_hspnet.jobs.evaluation_result import Evaluation
    from napari_hspnet.networks import LoadedModel

__all__ = ["evaluate"]


class PartName(StrEnum):
    """A part of MTCHI."""

    training = "Training"
    test = "Test"


class BackgroundName(StrEnum):
    """What truth 0 is."""

    counted = "class"
    ignored = "ignore"


def evaluate(
    model: Annotated[Path | None, typer.Option("--model", help="The checkpoint.")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", help="Instead: index PNGs, called as the images are."),
    ] = None,
    mtchi: Annotated[
        Path | None, typer.Option("--mtchi", help="The folder that holds MTCHI's Task2.")
    ] = None,
    part: Annotated[PartName, typer.Option("--part", help="Of MTCHI.")] = PartName.test,
    pairs: Annotated[
        Path | None, typer.Option("--pairs", help="A folder of pictures and masks.")
    ] = None,
    case: Annotated[
        list[Path] | None,
        typer.Option("--case", help="A case with reviewed regions; may be given several times."),
    ] = None,
    slide: Annotated[
        list[Path] | None, typer.Option("--slide", help="Its slide, in the same order.")
    ] = None,
    patient: Annotated[
        list[str] | None, typer.Option("--patient", help="Its patient, in the same order.")
    ] = None,
    mpp: Annotated[
        float | None, typer.Option("--mpp", help="µm per pixel of MTCHI or pairs; else 1.0.")
    ] = None,
    background: Annotated[
        BackgroundName,
        typer.Option("--background", help="Whether truth 0 counts in unmasked figures."),
    ] = BackgroundName.counted,
    stride: Annotated[
        int | None,
        typer.Option("--stride", help="Between windows; a quarter of one without it."),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option("--sigma", help="Of the Gaussian in px; an eighth of a window without it."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Windows side by side, no post-processing.")
    ] = False,
    tissue_mask: Annotated[
        bool, typer.Option("--tissue-mask", help="Leave windows without tissue out.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for all figures.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier evaluation there.")
    ] = False,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps …")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Judge a model or predictions by images with known truth: the paper's figures and more."""
    if (model is None) == (predictions is None):
        raise InputError(
            "Exactly one of --model and --predictions is needed",
            advice="Name a checkpoint, or a folder of predictions",
        )
    source = _source(mtchi, part, pairs, case or [], slide or [], patient or [], mpp)
    from napari_hspnet.jobs.evaluate import EvaluateOptions, evaluate_source

    options = EvaluateOptions(
        background=background.value,
        stride=stride,
        sigma=sigma,
        plain=plain,
        tissue_mask=tissue_mask,
        device=device,
        out=out,
        overwrite=overwrite,
    )
    answer = predictions if model is None else _model(model)
    assert answer is not None
    with stop_signals() as cancel, progress_bar(not as_json) as advance:
        found = evaluate_source(
            source,
            answer,
            options,
            lambda report: advance(report.doing, report.fraction, report.remaining),
            cancel,
        )
    if as_json:
        print_json(found.to_json())
        return
    _say(found)
    if out is not None:
        typer.echo(f"\n{out}")


def _source(
    mtchi: Path | None,
    part: PartName,
    pairs: Path | None,
    cases: list[Path],
    slides: list[Path],
    patients: list[str],
    mpp: float | None,
) -> Source:
    from napari_hspnet.jobs.evaluation_data import CasesSource, MtchiSource, PairsSource

    if sum((mtchi is not None, pairs is not None, bool(cases or slides))) != 1:
        raise InputError(
            "Exactly one of --mtchi, --pairs and --case is needed",
            advice="Name the images to evaluate on",
        )
    if mpp is not None and not mpp > 0:
        raise InputError(f"{mpp} µm per pixel is no resolution", advice="Give a number above zero")
    if mtchi is not None:
        return MtchiSource(mtchi, part.value, 1.0 if mpp is None else mpp)
    if pairs is not None:
        return PairsSource(pairs, mpp)
    if mpp is not None:
        raise InputError("--mpp says nothing of cases", advice="Leave it out: a case knows its own")
    return CasesSource(tuple(cases), tuple(slides), tuple(patients))


def _model(path: Path) -> LoadedModel:
    from napari_hspnet.networks import load_checkpoint

    model = load_checkpoint(path)
    if model.card.synthetic:
        warn(DEMO_BANNER)
    return model


def _say(found: Evaluation) -> None:
    model, data, settings = (found.about[key] for key in ("model", "data", "settings"))
    typer.echo(f"{RESEARCH_USE_ONLY}. {data['images']} images of {data['patients']} patients")
    if model is not None:
        typer.echo(
            f"Model {model['name']}, {model['parameters'] / 1e6:.2f} M parameters, "
            f"SHA-256 {model['sha256']}"
        )
    if settings is not None:
        how = (
            "side by side"
            if settings["sigma"] is None
            else f"Gauss-like, stride {settings['stride']}, sigma {settings['sigma']:g}"
        )
        typer.echo(f"Windows of {settings['window']} px, {how}; {found.about['device']}")
    level, draws = (found.about["intervals"][key] for key in ("level", "resamples"))
    typer.echo(f"In brackets {level:.0%} bootstrap intervals of {draws} drawings")
    for note in found.notes:
        typer.echo(f"Note: {note}")
    for table in found.tables():
        typer.echo("")
        print_table(table)
