"""Train a network as a config says, into a folder; run again, it goes on.

The folder gets ``config.used.toml``, ``curves.csv``, ``curves.png``, while it lasts
``snapshot.safetensors``, and in the end ``model.safetensors``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from napari_hspnet.errors import CheckpointError, OutputError
from napari_hspnet.inference.settings import choose_device
from napari_hspnet.jobs.train_card import CONFIG_HASH, trained_card, validation_figures
from napari_hspnet.jobs.train_data import TrainData, data_digest, open_data
from napari_hspnet.jobs.working_folder import working_folder
from napari_hspnet.networks import (
    ModelCard,
    Network,
    build,
    imagenet_weights,
    load_checkpoint,
    parameter_count,
    read_card,
    save_checkpoint,
)
from napari_hspnet.networks.checkpoint import write_atomically
from napari_hspnet.training.config import TrainConfig
from napari_hspnet.training.data import (
    PatchIndex,
    PatchReader,
    class_balance,
    images_that_fit,
    patch_index,
)
from napari_hspnet.training.loss_terms import make_loss
from napari_hspnet.training.resume import SNAPSHOT, Position, read_position
from napari_hspnet.training.session import (
    SessionProgress,
    SessionSettings,
    refuse_other,
    run_session,
)

__all__ = ["CONFIG", "MODEL", "TrainReport", "TrainResult", "train_model"]

MODEL, CONFIG, LOCK = "model.safetensors", "config.used.toml", "train.lock"


@dataclass(frozen=True)
class TrainReport:
    """Where the job stands.

    Attributes
    ----------
    doing : str
        For people.
    fraction : float or None
        Of this stage, 0 to 1; None while it cannot be told.
    remaining : float or None
        Seconds of this stage, about.
    training : SessionProgress or None
        While training.
    """

    doing: str
    fraction: float | None
    remaining: float | None = None
    training: SessionProgress | None = None


@dataclass(frozen=True)
class TrainResult:
    """What came out.

    Attributes
    ----------
    path : Path
        The model.
    sha256 : str or None
        Of it; None where the folder held it already.
    card : ModelCard
    """

    path: Path
    sha256: str | None
    card: ModelCard


def train_model(
    config: TrainConfig,
    out: Path | str,
    *,
    base: Path | str = ".",
    progress: Callable[[TrainReport], None] | None = None,
    say: Callable[[str], None] | None = None,
    cancel: threading.Event | None = None,
) -> TrainResult:
    """Train, or go on with the training that lies in the folder.

    Parameters
    ----------
    config : TrainConfig
    out : path-like
        The folder; made where it is missing. A finished model of this config is
        returned as it is.
    base : path-like
        The folder that the config's relative paths begin at.
    progress : callable, optional
        Called ten times a second at most.
    say : callable, optional
        Gets lines for people: what the data are, what was assumed.
    cancel : threading.Event, optional
        Ends it; a snapshot of the very step stays.

    Returns
    -------
    TrainResult

    Raises
    ------
    InputError
        If the folder holds a training with another config, or the data do not do.
    CheckpointError
        If weights to start from do not fit.
    CancelledError, DivergedError, OutOfMemoryError, OutputError
        See `run_session`; a snapshot of before stays.
    """
    folder, base = Path(out), Path(base)
    with working_folder(folder, LOCK):
        return _Job(config, folder, base, progress, say, cancel).run()


class _Job:
    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        base: Path,
        progress: Callable[[TrainReport], None] | None,
        say: Callable[[str], None] | None,
        cancel: threading.Event | None,
    ) -> None:
        self._config, self._folder, self._base = config, folder, base
        self._progress, self._say, self._cancel = progress, say, cancel
        self._digest = config.digest

    def run(self) -> TrainResult:
        done = self._finished()
        if done is not None:
            return done
        position = read_position(self._folder / SNAPSHOT)
        if position is not None:
            refuse_other(position, self._digest, self._folder / SNAPSHOT)
        config = self._config
        device = choose_device(config.machine.device)
        begin = f"# Relative paths begin at {self._base.resolve()}\n"
        write_atomically(self._folder / CONFIG, (begin + config.to_toml()).encode())
        network, parent = self._network()
        with open_data(config, self._base, self._tell, self._cancel) as data:
            self._tell("finding patches", None)
            index = patch_index(
                data.train,
                config.patches.side,
                config.patches.stride,
                config.patches.min_foreground,
            )
            reader = PatchReader(
                data.train,
                index,
                config.changes,
                config.seeds.patches,
                batch=config.recipe.batch,
                images_at_once=config.patches.images_at_once or images_that_fit(data.train),
            )
            self._introduce(network, data, index, reader, position)
            network.to(device)
            end = run_session(
                network,
                reader,
                self._settings(data, index),
                self._folder,
                progress=self._report,
                cancel=self._cancel,
            )
            metrics = validation_figures(
                network, config, data.validation, device, self._tell, self._cancel
            )
            card = trained_card(config, data, index, end, parent, metrics, device)
        path = self._folder / MODEL
        sha256 = save_checkpoint(path, network, card)
        # The model says all that it did, but how to go on, and there is nowhere to go.
        (self._folder / SNAPSHOT).unlink(missing_ok=True)
        return TrainResult(path, sha256, card)

    def _finished(self) -> TrainResult | None:
        """The model of an earlier run of this config."""
        path = self._folder / MODEL
        if not path.exists():
            return None
        card = read_card(path)
        theirs = card.recipe.get(CONFIG_HASH)
        if theirs != self._digest:
            said = f"{str(theirs)[:16]}…" if theirs else "not stated"
            raise OutputError(
                f"The folder holds a model of another config: its hash is {said}, that of this "
                f"config {self._digest[:16]}…",
                advice="Train into another folder, or move that model away",
                path=path,
            )
        (self._folder / SNAPSHOT).unlink(missing_ok=True)
        return TrainResult(path, None, card)

    def _network(self) -> tuple[Network, tuple[str, ModelCard] | None]:
        """The network at its start, and what it comes from."""
        config, chosen = self._config.network, self._config.architecture
        if config.start:
            return self._started(self._base / config.start)
        weights = None
        if config.encoder_weights != "none":
            file = config.encoder_weights
            weights = imagenet_weights(
                chosen.encoder,
                None if file == "imagenet" else self._base / file,
                download=config.download,
            )
        with torch.random.fork_rng():
            torch.manual_seed(self._config.seeds.init)
            return build(chosen, weights), None

    def _started(self, path: Path) -> tuple[Network, tuple[str, ModelCard]]:
        config, chosen = self._config.network, self._config.architecture
        loaded = load_checkpoint(path)
        own = loaded.card
        if own.num_classes != chosen.num_classes:
            raise CheckpointError(
                f"The checkpoint to start from has {own.num_classes} classes "
                f"({', '.join(own.classes)}), the config's network {chosen.num_classes}",
                advice="Set num_classes in [network.architecture], or start from another one",
                path=path,
            )
        if own.architecture != chosen:
            theirs, ours = own.architecture.to_json(), chosen.to_json()
            other = [k for k in {**theirs, **ours} if theirs.get(k) != ours.get(k)]
            raise CheckpointError(
                f"The checkpoint to start from has another architecture than the config: "
                f"{', '.join(f'{k} is {theirs.get(k)}, not {ours.get(k)}' for k in other)}",
                advice="Set these in [network.architecture], or start from another one",
                path=path,
            )
        if (own.mean, own.std) != (config.mean, config.std):
            raise CheckpointError(
                f"The checkpoint to start from was trained with mean {list(own.mean)} and std "
                f"{list(own.std)}, the config has others",
                advice="Set mean and std in [network] to these",
                path=path,
            )
        network = loaded.network
        assert isinstance(network, Network)
        return network, (loaded.sha256, own)

    def _settings(self, data: TrainData, index: PatchIndex) -> SessionSettings:
        config = self._config
        return SessionSettings(
            recipe=config.optimisation,
            loss=make_loss(config.loss, config.architecture.num_classes),
            epochs=config.recipe.epochs,
            config=self._digest,
            data=data_digest(data, index),
            seed=config.seeds.init,
            precision=config.recipe.precision,
            micro_batch=config.recipe.micro_batch,
            mean=config.network.mean,
            std=config.network.std,
            workers=config.machine.workers,
            ahead=config.machine.ahead,
            snapshot_seconds=config.machine.snapshot_seconds,
        )

    def _introduce(
        self,
        network: Network,
        data: TrainData,
        index: PatchIndex,
        reader: PatchReader,
        position: Position | None,
    ) -> None:
        if self._say is None:
            return
        for note in data.notes:
            self._say(note)
        for line in class_balance(data.train, index).lines():
            self._say(line)
        config = self._config
        self._say(
            f"{len(index):,} of {index.windows:,} patches from {len(data.train)} images, "
            f"{reader.steps_per_epoch} steps an epoch, {config.recipe.epochs} epochs, "
            f"{parameter_count(network) / 1e6:.2f} M parameters"
        )
        if position is not None:
            steps = reader.steps_per_epoch * config.recipe.epochs
            self._say(f"Goes on at step {position.step} of {steps}")

    def _report(self, state: SessionProgress) -> None:
        if self._progress is not None:
            text = f"training, epoch {state.epoch}/{state.epochs}"
            if state.loss is not None:
                text += f", loss {state.loss:.3f}"
            fraction = state.step / state.steps
            self._progress(TrainReport(text, fraction, state.remaining, state))

    def _tell(self, doing: str, fraction: float | None) -> None:
        if self._progress is not None:
            self._progress(TrainReport(doing, fraction))
