"""Evaluate a network, or predictions made elsewhere, on images with known truth.

The protocol is the public scorer's (paper, section 4.2); unmasked and per-image
figures stand beside it. See `training.agreement.PROTOCOL`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_hspnet.cases.failures import output_failures
from napari_hspnet.classes import BACKGROUND, CIN3, PAPER
from napari_hspnet.errors import InputError
from napari_hspnet.exchange.output import Watched, new_folder, refuse_existing_folder, stop_if
from napari_hspnet.exchange.png import indexed
from napari_hspnet.inference import Settings, choose_device, describe_device
from napari_hspnet.jobs.evaluation_answers import Answer, FileAnswers, NetworkAnswers
from napari_hspnet.jobs.evaluation_data import Data, MtchiSource, Source, Subject, opened
from napari_hspnet.jobs.evaluation_result import (
    Evaluation,
    ImageResult,
    is_evaluation,
    write_evaluation,
)
from napari_hspnet.jobs.stages import Stage, StageReport, Tell
from napari_hspnet.networks import LoadedModel
from napari_hspnet.training import confusion
from napari_hspnet.training.agreement import (
    Agreement,
    Drawn,
    agreement,
    drawn_units,
)
from napari_hspnet.training.data.images import Array
from napari_hspnet.training.data.mtchi import Background
from napari_hspnet.training.losses import IGNORE
from napari_hspnet.training.paper_rows import TABLE_5

__all__ = ["EvaluateOptions", "evaluate_source"]


@dataclass(frozen=True)
class EvaluateOptions:
    """How to evaluate.

    Attributes
    ----------
    background : {"class", "ignore"}
        Whether truth 0 counts in unmasked figures, or these are left out.
    stride : int or None
        Between windows; None is a quarter of the window (the paper's 100 of 400).
    sigma : float or None
        Of the Gaussian; None is an eighth of the window.
    plain : bool
        Windows side by side, without post-processing.
    tissue_mask : bool
        Whether windows without tissue are left out, as on whole slides.
    device : str
        As in `inference.choose_device`.
    out : Path or None
        Folder for the results; None writes none.
    overwrite : bool
        Whether an earlier evaluation there may be replaced.
    resamples, level, seed
        Of the intervals, as for `training.agreement.agreement`.
    """

    background: Background = "class"
    stride: int | None = None
    sigma: float | None = None
    plain: bool = False
    tissue_mask: bool = False
    device: str = "auto"
    out: Path | None = None
    overwrite: bool = False
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def settings(self, window: int) -> Settings:
        """Of the engine, for a model's window.

        Raises
        ------
        InputError
            If stride or sigma cannot be used.
        """
        return Settings(
            window=window,
            stride=max(1, window // 4) if self.stride is None else self.stride,
            blend="plain" if self.plain else "gaussian",
            sigma=self.sigma,
            tissue_mask=self.tissue_mask,
        )


def evaluate_source(
    source: Source,
    answer: LoadedModel | Path,
    options: EvaluateOptions | None = None,
    progress: Tell | None = None,
    cancel: threading.Event | None = None,
) -> Evaluation:
    """Evaluate a model, or a folder of predictions, on all images of a source.

    One image and its prediction are held at a time. With ``options.out`` a folder
    is written: ``evaluation.json``, ``evaluation.md``, ``per-image.csv``,
    ``confusion.csv``, ``confusion.png``, and of a model its predictions as index
    PNGs in ``predictions/``. It takes its name only when complete.

    Parameters
    ----------
    source : MtchiSource, PairsSource or CasesSource
    answer : LoadedModel or Path
        A model, or a folder of index images called as the images are.
    options : EvaluateOptions, optional
    progress : callable, optional
        Called from this thread.
    cancel : threading.Event, optional
        Ends the job within about a second.

    Raises
    ------
    CancelledError
        If cancelled; nothing is left behind.
    OutputError
        If the folder exists and may not be replaced, or cannot be written.
    InputError
        If there is no image or no annotated pixel, labels hold unknown values,
        sizes differ, or a prediction is missing.
    HspnetError
        As opening and segmenting do.
    """
    options = options or EvaluateOptions()
    if isinstance(answer, LoadedModel):
        options.settings(answer.card.window)
        choose_device(options.device)
    if options.out is None:
        return _evaluate(source, answer, options, None, progress, cancel)
    refuse_existing_folder(options.out, options.overwrite, is_evaluation)
    with (
        _parents(options.out),
        new_folder(options.out, is_evaluation, options.overwrite, cancel) as to,
    ):
        found = _evaluate(source, answer, options, to, progress, cancel)
        write_evaluation(found, to)
        return found


def _evaluate(
    source: Source,
    given: LoadedModel | Path,
    options: EvaluateOptions,
    folder: Path | None,
    progress: Tell | None,
    cancel: threading.Event | None,
) -> Evaluation:
    with opened(source, options.background) as data:
        answer: Answer
        if isinstance(given, LoadedModel):
            settings = options.settings(given.card.window)
            answer = NetworkAnswers(given, settings, options.device)
            kept = None if folder is None else folder / "predictions"
        else:
            settings, kept = None, None
            answer = FileAnswers.find(given, data.subjects)
        _check_truth(data, progress, cancel)
        images = tuple(_images(data.subjects, answer, kept, progress, cancel))
        notes = (*data.notes, *_notes(data, given, answer))
        synthetic = data.synthetic
    drawn = drawn_units([image.patient for image in images])
    counts = [image.counts for image in images]

    def agree(masked: bool) -> Agreement:
        return agreement(
            counts,
            drawn,
            masked,
            resamples=options.resamples,
            level=options.level,
            seed=options.seed,
        )

    tested = isinstance(source, MtchiSource) and source.part == "Test"
    return Evaluation(
        given.card.name if isinstance(given, LoadedModel) else given.name,
        _about(source, given, settings, options, images, drawn),
        images,
        drawn,
        agree(True),
        agree(False) if options.background == "class" else None,
        TABLE_5 if tested and not synthetic else (),
        (*notes, drawn.words()),
    )


def _check_truth(data: Data, progress: Tell | None, cancel: threading.Event | None) -> None:
    """Find out before the network runs what is wrong with a mask."""
    stage = Stage("reading labels", sum(s.pixels for s in data.subjects), progress)
    annotated, done = 0, 0
    for subject in data.subjects:
        stop_if(cancel)
        truth = subject.truth()
        annotated += int(((truth != BACKGROUND) & (truth != IGNORE)).sum())
        done += subject.pixels
        stage.tell(done)
    if not annotated:
        raise InputError(
            "No pixel of any image is annotated as normal, CIN1, CIN2 or CIN3",
            advice="Choose images whose masks hold the values 1 to 4",
        )


def _images(
    subjects: Sequence[Subject],
    answer: Answer,
    kept: Path | None,
    progress: Tell | None,
    cancel: threading.Event | None,
) -> Iterator[ImageResult]:
    doing = ""

    def named(report: StageReport) -> None:
        if progress is not None:
            progress(replace(report, doing=doing))

    stage = Stage("evaluating", sum(s.pixels for s in subjects), named)
    done = 0
    if kept is not None:
        kept.mkdir()
    for number, subject in enumerate(subjects, start=1):
        stop_if(cancel)
        image, before = subject.image, done
        doing = f"evaluating {image.name} ({number} of {len(subjects)})"

        def part(share: float, before: int = before, pixels: int = subject.pixels) -> None:
            stage.tell(before + share * pixels)

        predicted = answer.predict(subject, part, cancel)
        if kept is not None:
            _keep(predicted, kept / f"{image.name}.png", cancel)
        yield _counted(subject, predicted)
        done += subject.pixels
        stage.tell(done)


def _counted(subject: Subject, predicted: Array) -> ImageResult:
    image, truth = subject.image, subject.truth()
    counted = truth != IGNORE
    values = np.where(predicted > CIN3, np.uint8(BACKGROUND), predicted)
    return ImageResult(
        image.name,
        image.patient,
        image.height,
        image.width,
        image.mpp,
        int(truth.size - counted.sum()),
        confusion(truth[counted], values[counted]),
    )


def _keep(predicted: Array, path: Path, cancel: threading.Event | None) -> None:
    picture = indexed(predicted, PAPER)
    with path.open("wb") as file:
        picture.save(Watched(file, cancel), format="PNG")


def _notes(data: Data, given: LoadedModel | Path, answer: Answer) -> Iterator[str]:
    if isinstance(given, LoadedModel):
        card = given.card
        if any(abs(s.image.mpp / card.mpp - 1) > 1e-9 for s in data.subjects):
            yield (
                f"The model works at {card.mpp:g} µm per pixel: images of another resolution are "
                "resampled for it, and its answer is taken at the centre of each of their pixels"
            )
        if card.num_classes == 4:
            yield "The model has no background class, so it never predicts none of the four"
        if card.synthetic:
            yield (
                "The model was trained on synthetic slides only: on real ones its figures say "
                "nothing of what it was made for"
            )
    if isinstance(answer, FileAnswers) and answer.unused:
        yield f"Predictions that belong to no image are left out: {answer.unused}"


def _about(
    source: Source,
    given: LoadedModel | Path,
    settings: Settings | None,
    options: EvaluateOptions,
    images: Sequence[ImageResult],
    drawn: Drawn,
) -> dict[str, Any]:
    model = None
    if isinstance(given, LoadedModel):
        card = given.card
        model = {
            "name": card.name,
            "sha256": given.sha256,
            "file": None if given.path is None else str(given.path),
            "classes": list(card.classes),
            "mpp": card.mpp,
            "window": card.window,
            "parameters": sum(p.numel() for p in given.network.parameters()),
            "synthetic": card.synthetic,
        }
    return {
        "data": {
            **source.to_json(),
            "background": options.background,
            "images": len(images),
            "patients": len({image.patient for image in images}),
        },
        "model": model,
        "predictions": None if isinstance(given, LoadedModel) else str(given),
        "settings": None if settings is None else settings.to_dict(),
        "device": None if settings is None else describe_device(choose_device(options.device)),
        "intervals": {
            "unit": drawn.kind,
            "units": drawn.count,
            "level": options.level,
            "resamples": options.resamples,
            "seed": options.seed,
        },
    }


@contextlib.contextmanager
def _parents(path: Path) -> Iterator[None]:
    """The folders above, made where missing; what was made goes again if all fails."""
    missing = [p for p in path.absolute().parents if not p.exists()]
    with output_failures(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
