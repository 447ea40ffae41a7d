"""Checkpoints: safetensors with a model card inside, or a plain state dict.

The SHA-256 of the file is a checkpoint's identity everywhere. No pickle is run
unless the caller says that the file is trusted.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_hspnet.errors import CheckpointError, DependencyError, InputError, OutputError
from napari_hspnet.networks.architecture import Architecture
from napari_hspnet.networks.card import ModelCard
from napari_hspnet.networks.families import build
from napari_hspnet.networks.state import fill, infer_architecture, plain_state

__all__ = [
    "LoadedModel",
    "clean_up",
    "load_checkpoint",
    "read_card",
    "save_checkpoint",
    "write_atomically",
]

CARD_KEY = "napari_hspnet_card"
_MAX_HEADER = 100_000_000


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to run, and where it comes from.

    Attributes
    ----------
    network : nn.Module
        In evaluation mode, float32, on the CPU. (N, 3, h, w) normalised by the
        card's mean and std to logits (N, num_classes, h, w).
    card : ModelCard
        What it is.
    sha256 : str
        Of the file, in hex; of the weights where there is no file.
    path : Path or None
        The file.
    """

    network: nn.Module
    card: ModelCard
    sha256: str
    path: Path | None = None


def save_checkpoint(
    path: Path | str, network: nn.Module, card: ModelCard, dtype: torch.dtype | None = None
) -> str:
    """Write a network and its card to a safetensors file.

    Parameters
    ----------
    path : path
        Replaced only once the new file is complete.
    network : nn.Module
        Of the card's architecture.
    card : ModelCard
        Goes into the file's metadata.
    dtype : torch.dtype, optional
        Of the stored floating point weights, e.g. ``torch.float16``; unchanged
        by default.

    Returns
    -------
    str
        SHA-256 of the file, in hex.

    Raises
    ------
    CheckpointError
        If weights are not finite, also where only `dtype` makes them so, or do
        not fit the card's architecture.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    state: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        tensor = value.detach().cpu()
        if dtype is not None and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        state[key] = tensor.contiguous()
    expected = _shapes(card.architecture)
    if {k: tuple(v.shape) for k, v in state.items()} != expected:
        raise CheckpointError(
            "the network is not of the architecture that its card states",
            advice="Save it with the card of its own architecture",
            path=path,
        )
    _check_finite(state, path, "Do not save it; if only half precision overflows, save as float32")
    safetensors = _safetensors()
    data: bytes = safetensors.save(state, metadata={"format": "pt", CARD_KEY: card.to_json()})
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def load_checkpoint(
    path: Path | str,
    trust_pickle: bool = False,
    architecture: Architecture | None = None,
) -> LoadedModel:
    """Read a checkpoint.

    Parameters
    ----------
    path : path
        A safetensors file with a card, or a PyTorch state dict (.pt, .pth).
    trust_pickle : bool
        Whether a file that holds more than tensors may run its pickled code.
    architecture : Architecture, optional
        What the file must hold; inferred for a state dict where it is not said.

    Returns
    -------
    LoadedModel
        In evaluation mode, float32, on the CPU.

    Raises
    ------
    CheckpointError
        If the file is absent, empty, damaged, of another architecture, not
        trusted, lacks a tensor, has one too many, or one that is not finite.
    DependencyError
        If the package that reads it, or has its network, is not installed.
    """
    path = Path(path)
    data = _read_bytes(path)
    if _looks_like_torch(data):
        state, card = _from_torch(data, path, trust_pickle, architecture)
    else:
        card = _card_of(_header(data, len(data), path), path)
        state = _from_safetensors(data, path)
    if architecture is not None and card.architecture != architecture:
        raise CheckpointError(
            f"the checkpoint is of another architecture: {card.architecture} "
            f"instead of {architecture}",
            advice="Choose a checkpoint of that architecture",
            path=path,
        )
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    _check_finite(state, path, "The training may have diverged, choose an earlier checkpoint")
    # No time is lost on random numbers that are thrown away.
    with torch.device("meta"):
        network = build(card.architecture)
    fill(network, state, path)
    return LoadedModel(network.eval(), card, hashlib.sha256(data).hexdigest(), path)


def read_card(path: Path | str) -> ModelCard:
    """The card of a safetensors file, without reading its weights.

    Raises
    ------
    CheckpointError
        If the file cannot be read or has no card.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(8)
            length = int.from_bytes(start, "little")
            header = file.read(min(length, _MAX_HEADER))
    except OSError as error:
        raise _unreadable(error, path) from error
    return _card_of(_header(start + header, size, path), path)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file beside its place, then move it there.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it; nothing is left behind.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp's 0600 would keep a shared model folder from being shared.
        os.chmod(temporary, 0o644)  # noqa: PTH101
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise OutputError(
            f"the file cannot be written ({error.strerror or error})",
            advice="Choose a folder that you may write to, with enough space",
            path=path,
        ) from error


def clean_up(path: Path) -> None:
    """Remove what a kill within `write_atomically` left beside a file."""
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink(missing_ok=True)


def _safetensors() -> Any:
    try:
        import safetensors.torch as library
    except ImportError as error:
        raise DependencyError(
            f"the package safetensors cannot be imported ({error})",
            advice="Install it: pip install safetensors",
        ) from error
    return library


def _unreadable(error: OSError, path: Path) -> CheckpointError:
    if isinstance(error, FileNotFoundError):
        return CheckpointError("there is no such checkpoint", advice="Check the path", path=path)
    return CheckpointError(
        f"the checkpoint cannot be read ({error.strerror or error})",
        advice="Choose a file that you may read",
        path=path,
    )


def _damaged(why: str, path: Path) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint cannot be read: {why}",
        advice="Get the file again, or choose a safetensors file written by napari-hspnet",
        path=path,
    )


def _read_bytes(path: Path) -> bytes:
    # Once, so that what is hashed is what is loaded.
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(error, path) from error
    if not data:
        raise _damaged("the file is empty", path)
    return data


def _looks_like_torch(data: bytes) -> bool:
    return data.startswith(b"PK\x03\x04") or (data[:1] == b"\x80" and data[1:2] <= b"\x05")


def _header(data: bytes, size: int, path: Path) -> dict[str, Any]:
    length = int.from_bytes(data[:8], "little")
    if data[8:9] != b"{":
        raise _damaged("it is neither safetensors nor a PyTorch file", path)
    if length > size - 8:
        raise _damaged("it is cut off", path)
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError as error:
        raise _damaged("its header is damaged", path) from error
    if not isinstance(header, dict):
        raise _damaged("its header is damaged", path)
    return header


def _card_of(header: Mapping[str, Any], path: Path) -> ModelCard:
    metadata = header.get("__metadata__")
    text = metadata.get(CARD_KEY) if isinstance(metadata, dict) else None
    if text is None:
        raise CheckpointError(
            "the checkpoint has no napari-hspnet model card",
            advice="Choose a file written by napari-hspnet",
            path=path,
        )
    try:
        return ModelCard.from_json(text)
    except InputError as error:
        raise CheckpointError(error.what, advice=error.advice, path=path) from error


def _from_safetensors(data: bytes, path: Path) -> dict[str, Tensor]:
    library = _safetensors()
    try:
        state: dict[str, Tensor] = library.load(data)
    except Exception as error:
        # SafetensorError derives from Exception itself, and shape errors of
        # torch and numpy come through as they are.
        raise _damaged(f"it is cut off or damaged ({error})", path) from error
    return state


def _from_torch(
    data: bytes, path: Path, trust_pickle: bool, architecture: Architecture | None
) -> tuple[dict[str, Tensor], ModelCard]:
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        if trust_pickle:
            raise _damaged("it is damaged", path) from error
        raise CheckpointError(
            "the checkpoint is damaged, or holds pickled code or objects, which are not run",
            advice="Save its state dict alone, or say that you trust the file",
            path=path,
        ) from error
    except Exception as error:
        # A trusted pickle can raise anything, a damaged archive nearly so.
        raise _damaged(f"it is damaged ({type(error).__name__}: {error})", path) from error
    state = plain_state(content, path)
    if architecture is None:
        architecture = infer_architecture(state)
    if architecture is None:
        raise CheckpointError(
            "the architecture of this state dict cannot be told from its tensors",
            advice="Say it (architecture=…), or choose a safetensors file with a model card",
            path=path,
        )
    return state, ModelCard(name=path.stem, architecture=architecture)


def _check_finite(state: Mapping[str, Tensor], path: Path, advice: str) -> None:
    for key, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"the weights {key} hold values that are not finite", advice=advice, path=path
            )


def _shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = build(architecture)
    return {k: tuple(v.shape) for k, v in network.state_dict().items()}
