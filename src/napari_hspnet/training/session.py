"""A training by epochs that can be stopped, or killed, and goes on at the very step."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.networks.card import IMAGENET_MEAN, IMAGENET_STD
from napari_hspnet.networks.checkpoint import clean_up
from napari_hspnet.training.curves import Curves, Row
from napari_hspnet.training.data import PatchReader
from napari_hspnet.training.loop import DivergedError
from napari_hspnet.training.loss_terms import Loss
from napari_hspnet.training.recipe import Recipe, make_optimizer, rate_factor
from napari_hspnet.training.resume import (
    SNAPSHOT,
    Position,
    Snapshot,
    read_snapshot,
    write_snapshot,
)
from napari_hspnet.training.steps import Stepper, choose_precision

__all__ = ["SessionProgress", "SessionSettings", "refuse_other", "run_session"]

_LISTEN = 0.1
_FLUSH = 5.0


@dataclass(frozen=True)
class SessionSettings:
    """How a training runs.

    Attributes
    ----------
    recipe : Recipe
        Optimiser, rates and their course; its stages are not looked at.
    loss : Loss
    epochs : int
    config, data : str
        What decides the result, as SHA-256 (see `TrainConfig.digest`) and what is
        learned from: a snapshot of others is refused.
    seed : int
        Of random numbers within the network.
    precision : str
        See `choose_precision`.
    micro_batch : int
        See `Stepper`.
    mean, std : tuple of float
        Normalisation.
    workers, ahead : int
        See `PatchReader.stream`.
    snapshot_seconds : float
        How often a snapshot is written beside that of each epoch.
    """

    recipe: Recipe
    loss: Loss
    epochs: int
    config: str
    data: str
    seed: int = 0
    precision: str = "auto"
    micro_batch: int = 0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    workers: int = 2
    ahead: int = 4
    snapshot_seconds: float = 600.0


@dataclass(frozen=True)
class SessionProgress:
    """Where a training stands.

    Attributes
    ----------
    step, steps : int
        Done, and in all.
    epoch, epochs : int
        The one it is in, from 1; all.
    loss : float or None
        Running mean over about 50 steps; None before the first.
    learning_rate : float
        Of everything but the encoder, in the last step.
    elapsed : float
        Seconds of training, breaks left out.
    remaining : float or None
        Seconds, about; None while it cannot be told.
    resumed : int
        The step at which this part began.
    micro_batch : int
        Patches in memory at once; 0 is the whole batch.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    loss: float | None
    learning_rate: float
    elapsed: float
    remaining: float | None
    resumed: int
    micro_batch: int


def refuse_other(position: Position, config: str, path: Path) -> None:
    """Refuse a snapshot of another config.

    Raises
    ------
    InputError
        With both hashes.
    """
    if position.config != config:
        raise InputError(
            f"The folder holds a training with another config: its hash is "
            f"{position.config[:16]}…, that of this config {config[:16]}…",
            advice="Train into another folder, or give the config of that training",
            path=path,
        )


def run_session(
    network: nn.Module,
    reader: PatchReader,
    settings: SessionSettings,
    folder: Path,
    *,
    progress: Callable[[SessionProgress], None] | None = None,
    cancel: threading.Event | None = None,
) -> Position:
    """Train a network in place, or go on with what a snapshot in the folder says.

    The same seeds give the same weights on one machine, device and number of threads,
    whether it was killed and went on or not; on a GPU only as far as its arithmetic
    is the same each time, which up-sampling's is not.

    Parameters
    ----------
    network : nn.Module
        With a child ``encoder``, on its device. Where there is a snapshot its weights
        are replaced. Left in training mode.
    reader : PatchReader
    settings : SessionSettings
    folder : Path
        Exists; gets ``snapshot.safetensors``, ``curves.csv`` and ``curves.png``.
    progress : callable, optional
        Called ten times a second at most, and after the last step.
    cancel : threading.Event, optional
        Ends it within a layer's time; a snapshot is written.

    Returns
    -------
    Position
        Of the end.

    Raises
    ------
    CancelledError
        If `cancel` was set.
    DivergedError
        If the loss or a weight is no longer finite; the last snapshot stays.
    InputError
        If the folder holds a snapshot of another config or other data.
    CheckpointError
        If its snapshot is damaged.
    OutOfMemoryError
        If not even two patches fit the device.
    OutputError
        If the disk is full; the last snapshot stays.
    """
    place = next(network.parameters()).device
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        torch.manual_seed(settings.seed)
        session = _Session(network, reader, settings, folder, progress, cancel)
        return session.run()


class _Session:
    def __init__(
        self,
        network: nn.Module,
        reader: PatchReader,
        settings: SessionSettings,
        folder: Path,
        progress: Callable[[SessionProgress], None] | None,
        cancel: threading.Event | None,
    ) -> None:
        self._network, self._reader, self._settings = network, reader, settings
        self._path = folder / SNAPSHOT
        self._listener, self._cancel = progress, cancel
        self._device = next(network.parameters()).device
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.train()
        self._optimizer = make_optimizer(network, settings.recipe)
        self._precision = choose_precision(settings.precision, self._device)
        self._stepper = Stepper(
            network,
            self._optimizer,
            settings.loss,
            self._precision,
            mean=settings.mean,
            std=settings.std,
            clip=settings.recipe.clip,
            micro_batch=settings.micro_batch,
            cancel=cancel,
        )
        self._each = reader.steps_per_epoch
        self._steps = self._each * settings.epochs
        self._step, self._spent = 0, 0.0
        self._loss: float | None = None
        clean_up(self._path)
        snapshot = read_snapshot(self._path)
        if snapshot is not None:
            self._go_on(snapshot)
        self._first = self._step
        self._curves = Curves(folder, self._step)
        self._begun = self._saved = self._flushed = time.monotonic()
        self._told = -math.inf

    def run(self) -> Position:
        settings = self._settings
        if self._step == 0:
            # A disk without room for it is found out now, not after an epoch.
            self._save()
        batches = self._reader.stream(
            self._step, self._steps, workers=settings.workers, ahead=settings.ahead
        )
        with closing(batches):  # type: ignore[type-var]
            try:
                while self._step < self._steps:
                    if self._cancel is not None and self._cancel.is_set():
                        raise CancelledError
                    batch = next(batches)
                    factor = rate_factor(settings.recipe, self._step / self._steps)
                    try:
                        value = self._stepper.step(batch.rgb, batch.labels, factor)
                    except DivergedError as error:
                        what = f"{error.what} in step {self._step + 1}"
                        raise DivergedError(what, advice=error.advice, path=self._path) from error
                    self._count(value, settings.recipe.learning_rate * factor)
            except CancelledError:
                self._save(picture=True)
                raise
        self._save(picture=True)
        return self._position()

    def _go_on(self, snapshot: Snapshot) -> None:
        position = snapshot.position
        refuse_other(position, self._settings.config, self._path)
        if position.data != self._settings.data or position.steps != self._steps:
            raise InputError(
                f"The data are not those that this training began with: their hash was "
                f"{position.data[:16]}…, and is {self._settings.data[:16]}…",
                advice="Bring the data back as they were, or train into another folder",
                path=self._path,
            )
        snapshot.restore(self._network, self._optimizer)
        if position.scaler and self._precision == "float16":
            self._stepper.scaler.load_state_dict(dict(position.scaler))
        self._stepper.micro_batch = position.micro_batch
        self._step, self._spent, self._loss = position.step, position.seconds, position.loss

    def _count(self, value: float, rate: float) -> None:
        """Take note of a step that is done."""
        self._step += 1
        now = time.monotonic()
        last = value if self._loss is None else self._loss
        self._loss = last + (value - last) / min(self._step, 50)
        seconds = self._elapsed(now)
        self._curves.add(Row(self._step, self._step / self._each, value, rate, seconds))
        end_of_epoch = self._step % self._each == 0
        late = now - self._saved >= self._settings.snapshot_seconds
        # The last snapshot is written by `run`.
        if (end_of_epoch or late) and self._step < self._steps:
            self._save(picture=True)
        elif now - self._flushed >= _FLUSH:
            self._curves.flush()
            self._flushed = now
        if self._listener is not None and (
            now - self._told >= _LISTEN or self._step == self._steps
        ):
            self._told = now
            self._listener(self._report(rate, now))

    def _save(self, picture: bool = False) -> None:
        # Rows first: those beyond a snapshot are dropped, but missing ones would be lost.
        self._curves.flush()
        write_snapshot(self._path, self._network, self._optimizer, self._position())
        if picture:
            self._curves.flush(picture=True)
        self._saved = self._flushed = time.monotonic()

    def _elapsed(self, now: float) -> float:
        return self._spent + now - self._begun

    def _position(self) -> Position:
        settings = self._settings
        scaler = self._stepper.scaler.state_dict() if self._precision == "float16" else {}
        return Position(
            config=settings.config,
            data=settings.data,
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

    def _report(self, rate: float, now: float) -> SessionProgress:
        done = self._step - self._first
        left = (now - self._begun) / done * (self._steps - self._step) if done else None
        return SessionProgress(
            step=self._step,
            steps=self._steps,
            epoch=min((self._step - 1) // self._each + 1, self._settings.epochs),
            epochs=self._settings.epochs,
            loss=self._loss,
            learning_rate=rate,
            elapsed=self._elapsed(now),
            remaining=left,
            resumed=self._first,
            micro_batch=self._stepper.micro_batch,
        )
