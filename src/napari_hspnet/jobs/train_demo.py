"""Train the demo model on synthetic fields, judge it on synthetic slides, save it.

The command is ``napari-hspnet train-demo --out FILE --minutes 45``. What comes
out knows phantoms only: it shows the program at work and reads no real slide.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_hspnet.classes import CLASSES
from napari_hspnet.errors import InputError
from napari_hspnet.jobs.demo_card import demo_card, field_figures, slide_figures
from napari_hspnet.jobs.judge_phantom import Judgement, JudgeOptions, judge_phantom
from napari_hspnet.jobs.outputs import check_output
from napari_hspnet.jobs.phantom_fields import FieldJob, draw_fields
from napari_hspnet.jobs.phantom_slides import SLIDE_SHAPE, ways_of
from napari_hspnet.networks import LoadedModel, ModelCard, build, load_checkpoint, save_checkpoint
from napari_hspnet.phantom import Field
from napari_hspnet.phantom.splits import seeds_of
from napari_hspnet.training import (
    DEMO_RECIPE,
    FieldPatches,
    Recipe,
    TrainProgress,
    WeightAverage,
    evaluate,
    train,
)
from napari_hspnet.training.loop import fast_bfloat16

__all__ = ["DemoOptions", "DemoProgress", "DemoResult", "train_demo"]

# Every ordered pair of two different classes: each class in as many fields.
PAIRS = tuple(itertools.permutations([c.value for c in CLASSES], 2))
# Data seeds see fields of their own: so many seeds each.
FIELDS_OF_A_SEED = 1_000_000
FEWEST_FIELDS = 8


@dataclass(frozen=True)
class DemoProgress:
    """Where the job stands.

    Attributes
    ----------
    doing : str
        "drawing fields", "training" or "judging".
    fraction : float
        Of the whole job, 0 to 1.
    loss : float or None
        While training.
    remaining : float
        Seconds, about.
    """

    doing: str
    fraction: float
    loss: float | None
    remaining: float


@dataclass(frozen=True)
class DemoResult:
    """What came out: the file, its SHA-256, its card."""

    path: Path
    sha256: str
    card: ModelCard


@dataclass(frozen=True)
class DemoOptions:
    """How the demo model is trained.

    Attributes
    ----------
    minutes : float
        For all: drawing fields, training, judging.
    init_seed : int
        Of the network's start and the order of patches.
    data_seed : int
        Of the training fields, and of nothing else: validation fields and test
        slides are always the same.
    domain : str
        Stain and scanner of fields and slides.
    fields : int or None
        Training fields; None is ten a minute, or as many as a fifth of the time
        allows where that is less.
    field_side : int
        Pixels of a field, at 1 µm each.
    validation : int
        Fields that snapshots are judged on.
    slides : int
        Test slides that the figures in the card come from.
    slide_shape : tuple of int
        (height, width) of these in level-0 pixels of 0.5 µm.
    recipe : Recipe
    snapshot_minutes : float
        How often the network so far is judged (without overlap) and saved, so
        that an interruption leaves a real checkpoint.

    Raises
    ------
    InputError
        If a number makes no sense.
    """

    minutes: float = 45.0
    init_seed: int = 0
    data_seed: int = 0
    domain: str = "A"
    fields: int | None = None
    field_side: int = 800
    validation: int = len(PAIRS)
    slides: int = 24
    slide_shape: tuple[int, int] = SLIDE_SHAPE
    recipe: Recipe = field(default_factory=lambda: DEMO_RECIPE)
    snapshot_minutes: float = 5.0

    def __post_init__(self) -> None:
        if not (self.minutes > 0 and math.isfinite(self.minutes)):
            raise InputError(
                f"{self.minutes} minutes make no training", advice="Give a number above 0"
            )
        if min(self.validation, self.slides, self.field_side) < 1 or self.fields == 0:
            raise InputError(
                "a training needs fields to learn from and slides to be judged on",
                advice="Give numbers above 0",
            )
        if not 0 <= self.data_seed < 1000 or self.init_seed < 0:
            raise InputError(
                f"the seeds {self.init_seed} and {self.data_seed} cannot be used",
                advice="Give 0 or more, and less than 1000 for data",
            )

    def train_seeds(self, count: int) -> range:
        """Seeds of the training fields."""
        return seeds_of("train", self.data_seed * FIELDS_OF_A_SEED, count)


def train_demo(
    out: Path | str,
    options: DemoOptions | None = None,
    progress: Callable[[DemoProgress], None] | None = None,
    cancel: threading.Event | None = None,
) -> DemoResult:
    """Train the demo model.

    Parameters
    ----------
    out : path
        The safetensors file to write, float16 weights, about 6.4 MB.
    options : DemoOptions, optional
    progress : callable, optional
        Called about once a second.
    cancel : threading.Event, optional
        Ends the job; the last snapshot stays.

    Returns
    -------
    DemoResult

    Raises
    ------
    CancelledError
        If `cancel` was set.
    InputError
        If there is no such domain.
    OutputError
        If `out` cannot be written; found out before the training.
    """
    options = options or DemoOptions()
    path = Path(out)
    check_output(path)
    clock = _Clock(60 * options.minutes, progress)
    card = demo_card(options.recipe, options.init_seed, options.data_seed, options.domain)
    with torch.random.fork_rng():
        torch.manual_seed(options.init_seed)
        network = build(card.architecture)
    validation, learn = _fields(options, clock, cancel)
    seeds = options.train_seeds(len(learn))
    card = replace(
        card,
        recipe={
            **card.recipe,
            "fields": len(learn),
            "field_side": options.field_side,
            "train_seeds": [seeds[0], seeds[-1]],
            "drawing_seconds": round(clock.elapsed),
        },
    )
    job = _Job(path, card, options, validation, cancel)
    seconds = max(clock.total - clock.elapsed - job.judging_seconds(network), 0.25 * clock.total)
    average = WeightAverage(network, options.recipe.average)
    last = time.monotonic()

    def on_step(state: TrainProgress) -> None:
        nonlocal last
        clock.tell("training", state.loss)
        if time.monotonic() - last > 60 * options.snapshot_minutes and state.fraction < 0.95:
            job.snapshot(average.network, state)
            last = time.monotonic()

    state = train(
        network,
        FieldPatches(learn),
        options.recipe,
        num_classes=card.num_classes,
        seconds=seconds,
        seed=options.init_seed,
        bfloat16=fast_bfloat16(),
        average=average,
        progress=on_step,
        cancel=cancel,
    )
    return job.finish(network, state, clock)


class _Clock:
    """Tells about once a second how far the job is, by the time it was given."""

    def __init__(self, total: float, listener: Callable[[DemoProgress], None] | None) -> None:
        self.total = total
        self._listener = listener
        self._start = time.monotonic()
        self._told = -math.inf

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def tell(self, doing: str, loss: float | None, force: bool = False) -> None:
        now = self.elapsed
        if self._listener is None or (now - self._told < 1 and not force):
            return
        self._told = now
        left = max(0.0, self.total - now)
        self._listener(DemoProgress(doing, min(1.0, now / self.total), loss, left))


def _fields(
    options: DemoOptions, clock: _Clock, cancel: threading.Event | None
) -> tuple[list[Field], list[Field]]:
    """Validation fields, and as many to learn from as asked for or as the time allows."""
    validation = [
        FieldJob(seed, options.field_side, PAIRS[i % len(PAIRS)], options.domain)
        for i, seed in enumerate(seeds_of("validation", 0, options.validation))
    ]
    count = options.fields or max(FEWEST_FIELDS, round(10 * options.minutes))
    learn = [
        FieldJob(seed, options.field_side, None, options.domain)
        for seed in options.train_seeds(count)
    ]
    enough = len(validation) + FEWEST_FIELDS
    drawn: list[Field] = []
    source = draw_fields([*validation, *learn], torch.get_num_threads(), cancel)
    with contextlib.closing(source):
        for one in source:
            drawn.append(one)
            clock.tell("drawing fields", None)
            late = clock.elapsed > clock.total / 5
            if options.fields is None and late and len(drawn) >= enough:
                break
    return drawn[: len(validation)], drawn[len(validation) :]


class _Job:
    """Saves the network, judged, while it is trained and in the end."""

    def __init__(
        self,
        path: Path,
        card: ModelCard,
        options: DemoOptions,
        validation: Sequence[Field],
        cancel: threading.Event | None,
    ) -> None:
        self._path = path
        self._card = card
        self._options = options
        self._validation = validation
        self._cancel = cancel
        # The default stride takes four times as long as half a window.
        self._ways = tuple(way.key for way in ways_of(card)[:2])

    def judging_seconds(self, network: nn.Module) -> float:
        """What the last judging will take, from one slide that is none of the test's."""
        evaluated = network.training
        network.eval()
        begin = time.monotonic()
        self._judge(LoadedModel(network, self._card, "", self._path), "validation", 1)
        network.train(evaluated)
        return 1.15 * (time.monotonic() - begin) * self._options.slides

    def snapshot(self, network: nn.Module, state: TrainProgress) -> None:
        """Save what there is, judged on validation fields."""
        card = self._with_state(state, finished=False)
        with self._stored(network, card) as stored:
            counts = evaluate(stored.network, card, self._validation, None, self._cancel)
        seeds = seeds_of("validation", 0, len(self._validation))
        figures = field_figures(counts, seeds)
        save_checkpoint(self._path, network, replace(card, metrics=figures), torch.float16)

    def finish(self, network: nn.Module, state: TrainProgress, clock: _Clock) -> DemoResult:
        """Save it with the figures of the test slides."""
        clock.tell("judging", None, force=True)
        # Judging takes minutes: what was trained is not lost with it.
        self.snapshot(network, state)
        card = self._with_state(state, finished=True)
        with self._stored(network, card) as stored:
            judgement = self._judge(
                stored, "test", self._options.slides, lambda: clock.tell("judging", None)
            )
        card = replace(card, metrics=slide_figures(judgement))
        sha256 = save_checkpoint(self._path, network, card, torch.float16)
        return DemoResult(self._path, sha256, card)

    def _judge(
        self, model: LoadedModel, split: str, slides: int, tell: Callable[[], None] | None = None
    ) -> Judgement:
        options = JudgeOptions(
            slides=slides,
            domain=self._options.domain,
            baselines=False,
            shape=self._options.slide_shape,
            device="cpu",
        )
        return judge_phantom(
            model, options, lambda _: tell() if tell else None, self._cancel, split, self._ways
        )

    @contextlib.contextmanager
    def _stored(self, network: nn.Module, card: ModelCard) -> Iterator[LoadedModel]:
        """The network as it will be used: after rounding to half precision."""
        beside = self._path.with_name(f".{self._path.name}.judged")
        try:
            save_checkpoint(beside, network, card, torch.float16)
            yield load_checkpoint(beside)
        finally:
            beside.unlink(missing_ok=True)

    def _with_state(self, state: TrainProgress, finished: bool) -> ModelCard:
        more: dict[str, Any] = {
            "steps": state.step,
            "training_seconds": round(state.elapsed),
            "finished": finished,
            "last_loss": round(state.loss, 4),
        }
        return replace(self._card, recipe={**self._card.recipe, **more})
