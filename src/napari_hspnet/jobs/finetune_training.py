"""The learning of a fine-tuning: steps that keep old knowledge, resumed after a kill."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.jobs.finetune_config import FinetuneConfig
from napari_hspnet.networks import ModelCard
from napari_hspnet.networks.checkpoint import clean_up
from napari_hspnet.training.curves import Curves, Row
from napari_hspnet.training.data import Batch, PatchReader
from napari_hspnet.training.data.images import Array
from napari_hspnet.training.keeping import Keeping, distillation, padding_of
from napari_hspnet.training.loop import DivergedError
from napari_hspnet.training.loss_terms import Loss, make_loss
from napari_hspnet.training.recipe import Recipe, make_optimizer, rate_factor
from napari_hspnet.training.resume import SNAPSHOT, Position, read_snapshot, write_snapshot
from napari_hspnet.training.steps import (
    HALF_TYPES,
    Precision,
    Stepper,
    choose_precision,
    parts,
    watched,
)

__all__ = ["KeepingStepper", "LearnProgress", "learn"]

_LISTEN = 0.1
_MEAN_OVER = 20


class KeepingStepper(Stepper):
    """Takes steps that also draw the network towards what its parent says.

    Parameters
    ----------
    network, optimizer, loss, precision, mean, std, clip, micro_batch, cancel
        See `Stepper`.
    parent : nn.Module
        As `keeping.parent_of` makes it, on the network's device.
    keeping : Keeping
        Weight and temperature of the distillation.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        precision: Precision,
        *,
        parent: nn.Module,
        keeping: Keeping,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        clip: float | None = None,
        micro_batch: int = 0,
        cancel: threading.Event | None = None,
    ) -> None:
        super().__init__(
            network,
            optimizer,
            loss,
            precision,
            mean=mean,
            std=std,
            clip=clip,
            micro_batch=micro_batch,
            cancel=cancel,
        )
        self._parent, self._keeping = parent, keeping

    def _accumulate(self, rgb: Array, labels: Array) -> float:
        if self._keeping.weight == 0:
            return super()._accumulate(rgb, labels)
        self._optimizer.zero_grad(set_to_none=True)
        target = self._target(labels)
        padding = torch.from_numpy(padding_of(rgb)).to(self._device)
        # A part counts by its pixels, so that parts add up to the whole batch.
        seen = (~padding).sum().clamp(min=1)
        wholes = [
            self._size(target, term.options.get("background", 1.0)) for term, _ in self._terms
        ]
        total = torch.zeros((), device=self._device)
        kind = HALF_TYPES.get(self._precision, torch.bfloat16)
        on = self._precision != "float32"
        with watched(self._network, self._stop), watched(self._parent, self._stop):
            for part in parts(len(rgb), self.micro_batch):
                inputs = self._inputs(rgb[part])
                with torch.autocast(self._device.type, kind, enabled=on):
                    with torch.no_grad():
                        old = self._parent(inputs)
                    logits = self._network(inputs)
                logits, own = logits.float(), target[part]
                share = (~padding[part]).sum() / seen
                loss = (
                    self._keeping.weight
                    * share
                    * distillation(logits, old.float(), padding[part], self._keeping.temperature)
                )
                for (term, one), whole in zip(self._terms, wholes, strict=True):
                    size = self._size(own, term.options.get("background", 1.0))
                    loss = loss + size / whole * one(logits, own)
                self.scaler.scale(loss).backward()
                total += loss.detach()
        return float(total)


@dataclass(frozen=True)
class LearnProgress:
    """Where the learning stands; see `finetune_events.Step`."""

    step: int
    steps: int
    epoch: int
    loss: float
    rate: float
    remaining: float | None


def learn(
    network: nn.Module,
    parent: nn.Module,
    reader: PatchReader,
    config: FinetuneConfig,
    keeping: Keeping,
    card: ModelCard,
    folder: Path,
    digests: tuple[str, str],
    *,
    progress: Callable[[LearnProgress], None],
    epoch_done: Callable[[int], None],
    cancel: threading.Event | None = None,
) -> Position:
    """Train a network in place, or go on with what a snapshot in the folder says.

    The last epoch's weights are kept: to choose among epochs by what is held back would
    make the verdict on it worth nothing.

    Parameters
    ----------
    network : nn.Module
        With a child ``encoder``, on its device; frozen as `keeping` says.
    parent : nn.Module
        As `keeping.parent_of` makes it.
    reader : PatchReader
    config : FinetuneConfig
    keeping : Keeping
    card : ModelCard
        Of the parent: classes and normalisation.
    folder : Path
        Gets ``snapshot.safetensors``, ``curves.csv`` and ``curves.png``.
    digests : tuple of str
        Of what was asked for and of the data; a snapshot of others is refused.
    progress : callable
        Called ten times a second at most, and after the last step.
    epoch_done : callable
        Called with the number of epochs done; may change the network's mode.
    cancel : threading.Event, optional
        Ends it within a layer's time; a snapshot is written.

    Returns
    -------
    Position
        Of the end.

    Raises
    ------
    CancelledError, DivergedError, InputError, CheckpointError, OutOfMemoryError, OutputError
        As `run_session`.
    """
    place = next(network.parameters()).device
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        torch.manual_seed(config.seeds.init)
        learning = _Learning(
            network, parent, reader, config, keeping, card, folder, digests, cancel
        )
        return learning.run(progress, epoch_done)


class _Learning:
    def __init__(
        self,
        network: nn.Module,
        parent: nn.Module,
        reader: PatchReader,
        config: FinetuneConfig,
        keeping: Keeping,
        card: ModelCard,
        folder: Path,
        digests: tuple[str, str],
        cancel: threading.Event | None,
    ) -> None:
        self._network, self._reader, self._config = network, reader, config
        self._path, self._digests, self._cancel = folder / SNAPSHOT, digests, cancel
        self._device = next(network.parameters()).device
        for one in (network, parent):
            one.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.train()
        self._recipe: Recipe = config.optimisation
        self._optimizer = make_optimizer(network, self._recipe)
        self._precision = choose_precision(config.recipe.precision, self._device)
        self._stepper = KeepingStepper(
            network,
            self._optimizer,
            make_loss(config.loss, card.num_classes),
            self._precision,
            parent=parent,
            keeping=keeping,
            mean=card.mean,
            std=card.std,
            clip=self._recipe.clip,
            micro_batch=config.recipe.micro_batch,
            cancel=cancel,
        )
        self._each = reader.steps_per_epoch
        self._steps = self._each * config.recipe.epochs
        self._step, self._spent = 0, 0.0
        self._loss: float | None = None
        clean_up(self._path)
        self._go_on()
        self._first = self._step
        self._curves = Curves(folder, self._step)
        self._begun = self._saved = time.monotonic()

    def run(
        self, progress: Callable[[LearnProgress], None], epoch_done: Callable[[int], None]
    ) -> Position:
        if self._step == 0:
            # A disk without room for it is found out now, not after an epoch.
            self._save()
        machine = self._config.machine
        batches = self._reader.stream(
            self._step, self._steps, workers=machine.workers, ahead=machine.ahead
        )
        told = float("-inf")
        with closing(batches):  # type: ignore[type-var]
            try:
                while self._step < self._steps:
                    self._stop_if()
                    factor = rate_factor(self._recipe, self._step / self._steps)
                    rate = self._recipe.learning_rate * factor
                    self._take(next(batches), factor, rate)
                    now = time.monotonic()
                    if now - told >= _LISTEN or self._step == self._steps:
                        told = now
                        progress(self._report(rate, now))
                    if self._step % self._each == 0:
                        self._save(picture=True)
                        epoch_done(self._step // self._each)
                        self._network.train()
                    elif now - self._saved >= machine.snapshot_seconds:
                        self._save()
            except CancelledError:
                self._save(picture=True)
                raise
        return self._position()

    def _take(self, batch: Batch, factor: float, rate: float) -> None:
        """Learn from a batch and take note of it."""
        try:
            value = self._stepper.step(batch.rgb, batch.labels, factor)
        except DivergedError as error:
            what = f"{error.what} in step {self._step + 1}"
            raise DivergedError(what, advice=error.advice, path=self._path) from error
        self._step += 1
        last = value if self._loss is None else self._loss
        self._loss = last + (value - last) / min(self._step, _MEAN_OVER)
        seconds = self._elapsed(time.monotonic())
        self._curves.add(Row(self._step, self._step / self._each, value, rate, seconds))

    def _go_on(self) -> None:
        snapshot = read_snapshot(self._path)
        if snapshot is None:
            return
        position = snapshot.position
        for own, theirs, what in zip(
            self._digests, (position.config, position.data), ("settings", "regions"), strict=True
        ):
            if own != theirs:
                raise InputError(
                    f"The folder holds a fine-tuning that was broken off, with other {what}: "
                    f"hash {theirs[:16]}…, now {own[:16]}…",
                    advice="Fine-tune into another folder, or remove that snapshot to begin anew",
                    path=self._path,
                )
        snapshot.restore(self._network, self._optimizer)
        if position.scaler and self._precision == "float16":
            self._stepper.scaler.load_state_dict(dict(position.scaler))
        self._stepper.micro_batch = position.micro_batch
        self._step, self._spent, self._loss = position.step, position.seconds, position.loss

    def _save(self, picture: bool = False) -> None:
        # Rows first: those beyond a snapshot are dropped, but missing ones would be lost.
        self._curves.flush()
        write_snapshot(self._path, self._network, self._optimizer, self._position())
        if picture:
            self._curves.flush(picture=True)
        self._saved = time.monotonic()

    def _stop_if(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise CancelledError

    def _elapsed(self, now: float) -> float:
        return self._spent + now - self._begun

    def _position(self) -> Position:
        scaler = self._stepper.scaler.state_dict() if self._precision == "float16" else {}
        return Position(
            config=self._digests[0],
            data=self._digests[1],
            step=self._step,
            steps=self._steps,
            epoch=self._step // self._each,
            loss=self._loss,
            seconds=self._elapsed(time.monotonic()),
            micro_batch=self._stepper.micro_batch,
            precision=self._precision,
            device=str(self._device),
            torch=str(torch.__version__),
            scaler=scaler,
        )

    def _report(self, rate: float, now: float) -> LearnProgress:
        done = self._step - self._first
        left = (now - self._begun) / done * (self._steps - self._step) if done else None
        epoch = (self._step - 1) // self._each + 1
        return LearnProgress(self._step, self._steps, epoch, self._loss or 0.0, rate, left)
