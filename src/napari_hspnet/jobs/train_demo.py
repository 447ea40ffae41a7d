"""Train the demo model on synthetic fields, judge it on others, save it.

The command is ``napari-hspnet train-demo --out FILE --minutes 25``. What comes
out knows phantoms only: it shows the program at work and reads no real slide.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from napari_hspnet import __version__
from napari_hspnet.classes import CLASSES, RESEARCH_USE_ONLY
from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.networks import DEMO_ARCHITECTURE, ModelCard, build, save_checkpoint
from napari_hspnet.networks.checkpoint import load_checkpoint
from napari_hspnet.phantom import Field, phantom_field
from napari_hspnet.training import DEMO_RECIPE, FieldPatches, Recipe, evaluate, scores, train
from napari_hspnet.training.loop import TrainProgress, fast_bfloat16

__all__ = ["DemoProgress", "DemoResult", "train_demo"]

FIELD_SIDE = 800
# Seeds of fields: training from 0, held-out ones far from them.
HELD_OUT_SEED = 1_000_000_000
# Every ordered pair of two different classes twice: each class in as many fields.
_PAIRS = tuple(itertools.permutations([c.value for c in CLASSES], 2))
HELD_OUT = 2 * len(_PAIRS)
# Seed, side in pixels, grades along the band.
_Job = tuple[int, int, Sequence[int] | None]


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


def train_demo(
    out: Path | str,
    minutes: float = 25.0,
    seed: int = 0,
    progress: Callable[[DemoProgress], None] | None = None,
    cancel: threading.Event | None = None,
    *,
    fields: int | None = None,
    held_out: int = HELD_OUT,
    field_side: int = FIELD_SIDE,
    recipe: Recipe = DEMO_RECIPE,
    snapshot_minutes: float = 5.0,
) -> DemoResult:
    """Train the demo model.

    Parameters
    ----------
    out : path
        The safetensors file to write, float16 weights, about 6.4 MB.
    minutes : float
        Time for all: drawing fields, training, judging.
    seed : int
        Of the network's start, the patches and the training fields. Held-out
        fields are the same whatever the seed.
    progress : callable, optional
        Called about once a second.
    cancel : threading.Event, optional
        Ends the job; the last snapshot stays.
    fields : int, optional
        How many training fields; by default as many as about an eighth of the
        time allows.
    held_out : int
        How many fields to judge on.
    field_side : int
        Pixels of a field, at 1 µm each.
    recipe : Recipe
    snapshot_minutes : float
        How often the network so far is judged on a third of the held-out fields
        (without overlap) and saved to `out`, so that an interruption leaves a real checkpoint.

    Returns
    -------
    DemoResult

    Raises
    ------
    CancelledError
        If `cancel` was set.
    InputError
        If an argument makes no sense.
    OutputError
        If `out` cannot be written; found out before the training.
    """
    if not (minutes > 0 and math.isfinite(minutes)) or held_out < 1 or field_side < 1:
        raise InputError(
            f"{minutes} minutes, {held_out} held-out fields of {field_side} px make no training",
            advice="Give numbers above 0",
        )
    path = Path(out)
    clock = _Clock(60 * minutes, progress)
    card = _card(seed, recipe, bfloat16=fast_bfloat16())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(card.architecture)
    _refuse_early(path)

    train_fields = fields if fields is not None else max(8, round(9.5 * minutes))
    jobs: list[_Job] = [(_training_seed(seed, i), field_side, None) for i in range(train_fields)]
    jobs += [(HELD_OUT_SEED + i, field_side, _PAIRS[i % len(_PAIRS)]) for i in range(held_out)]
    drawn = []
    for field in _draw(jobs, cancel):
        drawn.append(field)
        clock.tell("drawing fields", None)
    learn, judge = drawn[:train_fields], drawn[train_fields:]
    card = replace(
        card,
        recipe={
            **card.recipe,
            "fields": train_fields,
            "field_side": field_side,
            "drawing_seconds": round(clock.elapsed),
        },
    )

    # Judging plainly besides takes less than half as long again.
    # The first pass is slow by what torch sets up in it.
    evaluate(network, card, judge[:1], None, cancel)
    begin = time.monotonic()
    evaluate(network, card, judge[:1], 200, cancel)
    one_field = time.monotonic() - begin
    reserve = 1.4 * one_field * held_out
    seconds = max(clock.total - clock.elapsed - reserve, 0.25 * clock.total)
    last_snapshot = time.monotonic()

    def on_step(state: TrainProgress) -> None:
        nonlocal last_snapshot
        clock.tell("training", state.loss)
        if time.monotonic() - last_snapshot > 60 * snapshot_minutes and state.fraction < 0.95:
            partly = judge[: max(1, held_out // 3)]
            _judge_and_save(path, network, card, partly, state, finished=False, cancel=cancel)
            last_snapshot = time.monotonic()

    state = train(
        network,
        FieldPatches(learn),
        recipe,
        num_classes=card.num_classes,
        seconds=seconds,
        seed=seed,
        bfloat16=fast_bfloat16(),
        progress=on_step,
        cancel=cancel,
    )
    clock.tell("judging", None, force=True)
    return _judge_and_save(path, network, card, judge, state, finished=True, cancel=cancel)


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


def _training_seed(seed: int, index: int) -> int:
    # Other seeds see other fields; none reaches the held-out ones.
    return (seed % 1000) * 100_000 + index


def _draw_one(job: _Job) -> Field:
    seed, side, grades = job
    return phantom_field(seed, side, side, 1.0, grades)


def _draw(jobs: Sequence[_Job], cancel: threading.Event | None) -> Iterator[Field]:
    workers = min(torch.get_num_threads(), 8)
    if len(jobs) < 16 or workers < 2:
        for job in jobs:
            if cancel is not None and cancel.is_set():
                raise CancelledError
            yield _draw_one(job)
        return
    # Never a fork: torch's threads do not survive one.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            for field in pool.map(_draw_one, jobs, chunksize=2):
                if cancel is not None and cancel.is_set():
                    raise CancelledError
                yield field
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _refuse_early(path: Path) -> None:
    """Find out now, not after half an hour, that `path` cannot be written."""
    from napari_hspnet.networks.checkpoint import write_atomically

    probe = path.with_name(f".{path.name}.probe")
    write_atomically(probe, b"")
    probe.unlink()


def _card(seed: int, recipe: Recipe, bfloat16: bool) -> ModelCard:
    return ModelCard(
        name="demo",
        architecture=DEMO_ARCHITECTURE,
        mpp=1.0,
        window=recipe.stages[-1].side,
        trained_on="phantom fields (synthetic)",
        recipe={
            **recipe.to_json(),
            "loss": "cross-entropy, background as a class",
            "augmentation": "flips, right-angle turns, light stain jitter",
            "seed": seed,
            "bfloat16": bfloat16,
            "napari_hspnet": __version__,
            "torch": str(torch.__version__),
            "processor": f"{platform.machine()}, {torch.get_num_threads()} threads",
        },
        licence="BSD-3-Clause",
        intended_use=f"{RESEARCH_USE_ONLY}. Demo only: shows the program at work on phantoms",
        synthetic=True,
        limitations=(
            "It has never seen a real slide: what it draws on one means nothing. "
            "Trained for minutes; it confuses neighbouring grades, most near changes of grade"
        ),
    )


def _judge_and_save(
    path: Path,
    network: nn.Module,
    card: ModelCard,
    fields: Sequence[Field],
    state: TrainProgress,
    *,
    finished: bool,
    cancel: threading.Event | None,
) -> DemoResult:
    """Save as float16, judge what was saved, save again with the figures."""
    recipe = {
        **card.recipe,
        "steps": state.step,
        "training_seconds": round(state.elapsed),
        "finished": finished,
        "last_loss": round(state.loss, 4),
    }
    card = replace(card, recipe=recipe)
    beside = path.with_name(f".{path.name}.judged")
    try:
        save_checkpoint(beside, network, card, torch.float16)
        # Judged as it will be used: after rounding to half precision.
        stored = load_checkpoint(beside).network
    finally:
        beside.unlink(missing_ok=True)
    figures: dict[str, object] = {
        "protocol": "truth 0 left out, pixels pooled over the fields, mean over four classes",
        "held_out_fields": len(fields),
        "held_out_seeds": [HELD_OUT_SEED, HELD_OUT_SEED + len(fields) - 1],
    }
    ways: list[tuple[str, int | None]] = [("plain", None)]
    if finished:
        ways.append(("gaussian_stride_200", 200))
    for name, stride in ways:
        counts = evaluate(stored, card, fields, stride, cancel)
        masked, whole = scores(counts), scores(counts, masked=False)
        figures[name] = {
            "dice": {k: round(v, 4) for k, v in masked.dice.items()},
            "mean_dice": round(masked.mean_dice, 4),
            "mean_iou": round(masked.mean_iou, 4),
            "accuracy": round(masked.accuracy, 4),
            "mean_dice_unmasked": round(whole.mean_dice, 4),
            "pixels": masked.pixels,
        }
    card = replace(card, metrics=figures)
    sha256 = save_checkpoint(path, network, card, torch.float16)
    return DemoResult(path, sha256, card)
