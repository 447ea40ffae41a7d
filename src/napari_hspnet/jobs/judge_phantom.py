"""Judge a model on phantom slides, beside opponents that know no structure.

The protocol is the public scorer's (paper, section 4.2): pixels whose truth is
0 are left out, the rest is pooled over all slides before classes are averaged.
Forests answer on every fourth pixel in y and x, the model on all.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from napari_hspnet import __version__
from napari_hspnet.classes import CLASSES, RESEARCH_USE_ONLY
from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.inference import choose_device
from napari_hspnet.jobs.phantom_fields import FieldJob, draw_fields
from napari_hspnet.jobs.phantom_slides import (
    SLIDE_SHAPE,
    Counts,
    JudgedSlide,
    check_model,
    judge_slide,
    slide_spec,
    ways_of,
    with_slide,
)
from napari_hspnet.jobs.stages import Passes, Stage, Tell
from napari_hspnet.networks import LoadedModel
from napari_hspnet.phantom import PHANTOM_VERSION, Field, generator_hash
from napari_hspnet.phantom.splits import seeds_of
from napari_hspnet.training import (
    FEATURE_SETS,
    Estimate,
    Estimates,
    Forest,
    best_constant,
    bootstrap,
    confusion,
    constant_answer,
    fit_forest,
    paired_difference,
    require_forests,
    sample_pixels,
    scores,
)
from napari_hspnet.training.baselines import TREES

__all__ = ["JudgeOptions", "Judgement", "Row", "generator", "judge_phantom"]

EVERY = 4
"""Forests answer on every so many pixels in y and x."""


@dataclass(frozen=True)
class JudgeOptions:
    """What to judge on, and beside what.

    Attributes
    ----------
    slides : int
        Test slides, from the first test seed on.
    domain : str
        Of slides and training fields.
    baselines : bool
        Whether to grow forests.
    train_fields, field_side : int
        Fields that forests learn from, from the first train seed on; their side in px.
    per_class, trees : int
        Pixels of each class a forest learns from; its trees.
    shape : tuple of int
        (height, width) of a slide in level-0 pixels of 0.5 µm.
    seed : int
        Of the forests and of the intervals.
    device : str
        As in `inference.choose_device`.
    """

    slides: int = 24
    domain: str = "A"
    baselines: bool = True
    train_fields: int = 120
    field_side: int = 800
    per_class: int = 10_000
    trees: int = TREES
    shape: tuple[int, int] = SLIDE_SHAPE
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, value in (
            ("slides", self.slides),
            ("training fields", self.train_fields),
            ("pixels a class", self.per_class),
            ("trees", self.trees),
            ("side of a field", self.field_side),
        ):
            if value < 1:
                raise InputError(f"{value} {name} are too few", advice="Give 1 or more")


@dataclass(frozen=True)
class Row:
    """One answer to all slides.

    Attributes
    ----------
    key, title : str
        For records and for people.
    counts : tuple of ndarray of int64, (5, 5)
        One confusion matrix a slide.
    estimates : Estimates
        What they come to.
    """

    key: str
    title: str
    counts: tuple[Counts, ...]
    estimates: Estimates

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values; what cannot be told is null."""
        whole = scores(np.sum(np.stack(self.counts), axis=0), masked=False)
        masked = scores(np.sum(np.stack(self.counts), axis=0))
        of = self.estimates
        return {
            "title": self.title,
            "mean_dice": _json(of.mean_dice),
            "dice": {name: _json(one) for name, one in of.dice.items()},
            "accuracy": _json(of.accuracy),
            "high_grade_agreement": _json(of.high_grade),
            "mean_iou": _number(masked.mean_iou),
            "mean_dice_unmasked": _number(whole.mean_dice),
            "pixels": masked.pixels,
            "per_slide": [c.tolist() for c in self.counts],
        }


@dataclass(frozen=True)
class Judgement:
    """What came out.

    Attributes
    ----------
    about : Mapping
        What was judged and on what, JSON values.
    rows : tuple of Row
        In the order of the table.
    """

    about: Mapping[str, Any]
    rows: tuple[Row, ...]

    def row(self, key: str) -> Row:
        """The row of a key."""
        return next(row for row in self.rows if row.key == key)

    def to_json(self) -> dict[str, Any]:
        """All figures, with what the last row gains over each other one."""
        last = self.rows[-1]
        gains = {
            row.key: _json(paired_difference(last.counts, row.counts).mean_dice)
            for row in self.rows[:-1]
        }
        return {
            **self.about,
            "rows": {row.key: row.to_json() for row in self.rows},
            "mean_dice_gained_by_last_row_over": gains,
        }


def generator() -> dict[str, str]:
    """Version and hash of what paints phantoms, as cards and tables name it."""
    return {"phantom_version": PHANTOM_VERSION, "generator_hash": generator_hash()}


def judge_phantom(
    model: LoadedModel | None,
    options: JudgeOptions | None = None,
    progress: Tell | None = None,
    cancel: threading.Event | None = None,
    split: str = "test",
    keys: Sequence[str] | None = None,
) -> Judgement:
    """Judge a model and its opponents on phantom slides.

    Parameters
    ----------
    model : LoadedModel or None
        None judges the opponents alone.
    options : JudgeOptions, optional
    progress : callable, optional
        Called from this thread.
    cancel : threading.Event, optional
        Ends the job within about a second.
    split : str
        Whose seeds the slides have; figures that are reported come from "test".
    keys : sequence of str, optional
        Of `ways_of` that are wanted; all without it.

    Raises
    ------
    CancelledError
        If cancelled; nothing is left behind.
    DependencyError
        If scikit-learn is missing and forests are wanted; before any work.
    HspnetError
        As drawing, opening and segmenting do.
    """
    options = options or JudgeOptions()
    if options.baselines:
        require_forests()
    if model is not None:
        check_model(model)
        choose_device(options.device)
    seeds = seeds_of(split, 0, options.slides)
    # A wrong domain is found out before the forests grow.
    slide_spec(seeds[0], options.domain, options.shape)
    forests = _forests(options, progress, cancel) if options.baselines else []
    ways = [w for w in (ways_of(model.card) if model else ()) if keys is None or w.key in keys]

    # What the passes take, relative to each other: half the stride, four times the windows.
    costs = [0.5, *(0.3 for _ in forests), *(4 ** min(i, 2) / 2 for i, _ in enumerate(ways))]
    stage = Stage("judging", options.slides, progress)
    found: dict[str, list[Counts]] = {}
    for number, seed in enumerate(seeds):
        spec = slide_spec(seed, options.domain, options.shape)
        pass_ = Passes(stage, number, costs)
        with with_slide(spec, pass_.tell, cancel) as judged:
            pass_.next()
            truth = np.bincount(judged.truth.ravel(), minlength=5)
            found.setdefault("truth", []).append(np.diag(truth).astype(np.int64))
            for forest in forests:
                counts = _answer(forest, judged, cancel)
                found.setdefault(forest.kind.key, []).append(counts)
                pass_.next()
            for way in ways:
                assert model is not None
                counts = judge_slide(
                    judged, model, way.settings, options.device, pass_.tell, cancel
                )
                found.setdefault(way.key, []).append(counts)
                pass_.next()
        if cancel is not None and cancel.is_set():
            raise CancelledError
    rows = list(_constant_rows(found["truth"], options.seed))
    titles = {f.kind.key: f.kind.title for f in forests} | {w.key: w.title for w in ways}
    rows += [_row(key, title, found[key], options.seed) for key, title in titles.items()]
    return Judgement(_about(model, options, split, seeds, found["truth"]), tuple(rows))


def _row(key: str, title: str, counts: Sequence[Counts], seed: int) -> Row:
    return Row(key, title, tuple(counts), bootstrap(counts, seed=seed))


def _constant_rows(truth: Sequence[Counts], seed: int) -> Iterator[Row]:
    value = best_constant(truth)
    name = next(c.name for c in CLASSES if c.value == value)
    answers = [constant_answer(counts, value) for counts in truth]
    yield _row("constant", f"best constant ({name})", answers, seed)


def _about(
    model: LoadedModel | None,
    options: JudgeOptions,
    split: str,
    seeds: range,
    truth: Sequence[Counts],
) -> dict[str, Any]:
    pixels = np.stack([np.diag(c)[1:] for c in truth])
    named = [c.name for c in CLASSES]
    enough = pixels >= np.maximum(1, 0.01 * pixels.sum(axis=1, keepdims=True))
    constants = {
        c.name: _number(
            scores(
                sum((constant_answer(t, c.value) for t in truth), np.zeros((5, 5), np.int64))
            ).mean_dice
        )
        for c in CLASSES
    }
    return {
        "notice": RESEARCH_USE_ONLY,
        "napari_hspnet": __version__,
        **generator(),
        "domain": options.domain,
        "split": split,
        "seeds": [seeds[0], seeds[-1]],
        "slides": len(seeds),
        "slide_shape": list(options.shape),
        "slide_mpp": 0.5,
        "truth_mpp": 1.0,
        "slides_with_class": dict(zip(named, enough.sum(axis=0).tolist(), strict=True)),
        "pixels_of_class": dict(zip(named, pixels.sum(axis=0).tolist(), strict=True)),
        "protocol": "truth 0 left out, pixels pooled over slides, mean over four classes",
        "intervals": "95 % percentile bootstrap, 2000 drawings of whole slides",
        "mean_dice_of_constants": constants,
        "model": None if model is None else {"name": model.card.name, "sha256": model.sha256},
        "forests": {
            "fields": options.train_fields,
            "field_side": options.field_side,
            "seeds": [0, options.train_fields - 1],
            "pixels_of_each_class": options.per_class,
            "trees": options.trees,
            "answered": f"every {EVERY}th pixel in y and x",
        }
        if options.baselines
        else None,
    }


def _forests(
    options: JudgeOptions, progress: Tell | None, cancel: threading.Event | None
) -> list[Forest]:
    seeds = seeds_of("train", 0, options.train_fields)
    jobs = [FieldJob(seed, options.field_side, None, options.domain) for seed in seeds]
    drawing = Stage("drawing training fields", len(jobs), progress)

    def told() -> Iterator[Field]:
        for number, one in enumerate(draw_fields(jobs, torch.get_num_threads(), cancel)):
            yield one
            drawing.tell(number + 1)

    sample = sample_pixels(told(), len(jobs), options.per_class, options.seed, cancel=cancel)
    growing = Stage("growing forests", len(FEATURE_SETS), progress)
    forests = []
    for number, kind in enumerate(FEATURE_SETS.values()):
        tree = Passes(growing, number, [1.0])
        forests.append(fit_forest(sample, kind, options.seed, options.trees, tree.tell, cancel))
    return forests


def _answer(forest: Forest, judged: JudgedSlide, cancel: threading.Event | None) -> Counts:
    rows, columns = np.nonzero(judged.truth[::EVERY, ::EVERY])
    rows, columns = rows * EVERY, columns * EVERY
    if not rows.size:
        return np.zeros((5, 5), np.int64)
    answer = forest.predict(judged.rgb(), rows, columns, cancel)
    return confusion(judged.truth[rows, columns], answer)


def _number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _json(one: Estimate) -> dict[str, float | None]:
    return {"value": _number(one.value), "low": _number(one.low), "high": _number(one.high)}
