"""Snapshots: all that a training needs to go on at the very step, in one file.

A safetensors file whose metadata hold the rest as JSON, so that both take their place
in one step and no pickle is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.errors import CheckpointError
from napari_hspnet.networks.checkpoint import write_atomically
from napari_hspnet.training.loop import DivergedError

__all__ = [
    "SNAPSHOT",
    "Position",
    "Snapshot",
    "read_position",
    "read_snapshot",
    "write_snapshot",
]

SNAPSHOT = "snapshot.safetensors"
"""Its name in the folder of a training."""

SNAPSHOT_VERSION = 1
_KEY = "napari_hspnet_snapshot"
_NETWORK, _OPTIMIZER, _RANDOM = "network.", "optimizer.", "random."


@dataclass(frozen=True)
class Position:
    """Where a training stands.

    Attributes
    ----------
    config, data : str
        SHA-256 of the config and of what is learned from.
    step : int
        Steps done, counted through all epochs.
    steps : int
        Of the whole training.
    epoch : int
        Epochs done.
    loss : float or None
        Running mean.
    seconds : float
        Spent in training so far, breaks left out.
    micro_batch : int
        As it was in the end.
    precision, device, torch : str
        With what it was computed.
    scaler : mapping
        State of the gradient scaler; empty without one.
    version : int
    notice : str
    """

    config: str
    data: str
    step: int
    steps: int
    epoch: int
    loss: float | None
    seconds: float
    micro_batch: int
    precision: str
    device: str
    torch: str
    scaler: Mapping[str, float]
    version: int = SNAPSHOT_VERSION
    notice: str = RESEARCH_USE_ONLY


@dataclass(frozen=True)
class Snapshot:
    """A snapshot read back.

    Attributes
    ----------
    position : Position
    tensors : dict of str to Tensor
    path : Path
    """

    position: Position
    tensors: dict[str, Tensor]
    path: Path

    def restore(self, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Give network, optimiser and random numbers their state back.

        Raises
        ------
        CheckpointError
            If they are not of this training.
        """
        state = _under(self.tensors, _NETWORK)
        try:
            network.load_state_dict(state)
            optimizer.load_state_dict(
                {
                    "state": self._optimizer_state(optimizer),
                    "param_groups": optimizer.state_dict()["param_groups"],
                }
            )
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            raise _damaged(f"it does not fit this training: {error}", self.path) from error
        random = _under(self.tensors, _RANDOM)
        torch.set_rng_state(random["cpu"])
        place = next(network.parameters()).device
        if place.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], place)

    def _optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        found: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(self.tensors, _OPTIMIZER).items():
            number, name = key.split(".", 1)
            like = parameters[int(number)]
            if value.shape == like.shape and value.ndim > 0:
                # In the weights' own order in memory: sums may be taken in another
                # way where the two differ, and then the last digit does.
                value = torch.empty_like(like, device="cpu").copy_(value)
            found.setdefault(int(number), {})[name] = value
        return found


def write_snapshot(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> None:
    """Write a snapshot; the file of before stays until the new one is complete.

    Raises
    ------
    DivergedError
        If weights are not finite: a good snapshot is not replaced by a ruined one.
    OutputError
        If the disk does not take it.
    """
    tensors = {_NETWORK + k: v for k, v in network.state_dict().items()}
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise DivergedError(
                f"the training diverged: {key.removeprefix(_NETWORK)} is no longer finite after "
                f"step {position.step}",
                advice="Lower the learning rate, or set a clip; the last snapshot was kept",
                path=path,
            )
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{_OPTIMIZER}{number}.{name}"] = value
    tensors[_RANDOM + "cpu"] = torch.get_rng_state()
    place = next(network.parameters()).device
    if place.type == "cuda":
        tensors[_RANDOM + "cuda"] = torch.cuda.get_rng_state(place)
    from safetensors.torch import save

    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    about = json.dumps(asdict(position), allow_nan=False)
    write_atomically(path, save(plain, metadata={"format": "pt", _KEY: about}))


def read_position(path: Path) -> Position | None:
    """Where the training of a snapshot stood, without its tensors; None where there is none.

    Raises
    ------
    CheckpointError
        If the file cannot be read, or is of another version.
    """
    if not path.exists():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = (file.metadata() or {}).get(_KEY, "null")
        values = json.loads(about)
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(str(error), path) from error
    if not isinstance(values, dict):
        raise _damaged("it was not written by a training", path)
    if values.get("version") != SNAPSHOT_VERSION:
        raise CheckpointError(
            f"the snapshot is of version {values.get('version')!r}, which is not known here",
            advice="Go on with the napari-hspnet that wrote it, or train into another folder",
            path=path,
        )
    if set(values) != {f.name for f in fields(Position)}:
        raise _damaged("its description is not whole", path)
    return Position(**values)


def read_snapshot(path: Path) -> Snapshot | None:
    """A snapshot; None where there is none.

    Raises
    ------
    CheckpointError
        As `read_position`.
    """
    position = read_position(path)
    if position is None:
        return None
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # From bytes: a mapped file could not be replaced on Windows.
        return Snapshot(position, load(path.read_bytes()), path)
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(str(error), path) from error


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _damaged(why: str, path: Path) -> CheckpointError:
    return CheckpointError(
        f"the snapshot cannot be used: {why}",
        advice="Remove it to begin anew, or train into another folder",
        path=path,
    )
