"""ImageNet weights for the encoders, through torchvision's weights enums."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_hspnet.errors import CheckpointError, InputError

__all__ = ["WEIGHTS", "imagenet_weights", "load_encoder_weights"]

# Weights enum and member of each encoder; the older recipe (V1) is what was
# there when the paper was written.
WEIGHTS: Mapping[str, tuple[str, str]] = {
    "resnet18": ("ResNet18_Weights", "IMAGENET1K_V1"),
    "resnet34": ("ResNet34_Weights", "IMAGENET1K_V1"),
    "resnet50": ("ResNet50_Weights", "IMAGENET1K_V1"),
    "resnet101": ("ResNet101_Weights", "IMAGENET1K_V1"),
    "vgg16": ("VGG16_Weights", "IMAGENET1K_V1"),
}


def imagenet_weights(
    encoder: str,
    path: Path | str | None = None,
    *,
    cache: Path | str | None = None,
    download: bool = False,
) -> dict[str, Tensor]:
    """The official ImageNet state dict of an encoder.

    Parameters
    ----------
    encoder : str
        ``"resnet18"`` … ``"resnet101"``, ``"vgg16"``.
    path : path, optional
        A file with these weights, as torchvision publishes it.
    cache : path, optional
        Folder of downloaded weights; torch's own (``TORCH_HOME``) by default.
    download : bool
        Whether the network may be used for what the cache lacks. Off by
        default: nothing here goes online unasked.

    Returns
    -------
    dict of str to Tensor
        With torchvision's names, the classifier included.

    Raises
    ------
    InputError
        If there are no ImageNet weights for the encoder.
    CheckpointError
        If the file is absent, damaged, or cannot be downloaded.
    """
    if encoder not in WEIGHTS:
        raise InputError(
            f"there are no ImageNet weights for the encoder {encoder!r}",
            advice=f"Choose one of {', '.join(WEIGHTS)}, or train from random weights",
        )
    from napari_hspnet.networks.torchvision_compat import torchvision_module

    enum, member = WEIGHTS[encoder]
    family = "vgg" if encoder.startswith("vgg") else "resnet"
    weights = getattr(torchvision_module(f"torchvision.models.{family}"), enum)[member]
    file_name = weights.url.rsplit("/", 1)[-1]
    if path is not None:
        return _read(Path(path))
    folder = Path(cache) if cache is not None else Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / file_name
    if file.is_file():
        return _read(file)
    if not download:
        raise CheckpointError(
            f"the ImageNet weights of {encoder} are not on this machine",
            advice=f"Allow the download, or get {file_name} elsewhere and give its path",
            path=file,
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # check_hash compares with the digits in the file's name.
        state: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            weights.url, str(folder), progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"the ImageNet weights of {encoder} cannot be downloaded ({error})",
            advice=f"Check the connection, or get {file_name} elsewhere and give its path",
            path=file,
        ) from error
    return state


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(
            "there is no such weights file", advice="Check the path", path=path
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            "the weights file cannot be read, it is damaged or holds more than weights",
            advice="Get the file again from torchvision",
            path=path,
        ) from error
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(
            "the weights file holds no state dict",
            advice="Give the file as torchvision publishes it",
            path=path,
        )
    return state


def load_encoder_weights(encoder: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Copy ImageNet weights into an encoder, every tensor or none.

    Parameters
    ----------
    encoder : nn.Module
        A network's child `encoder`.
    weights : Mapping of str to Tensor
        With torchvision's names; the classifier, ``fc`` of a ResNet and
        ``classifier`` of VGG, is left out.
    name : str
        The encoder's name, for messages.

    Raises
    ------
    CheckpointError
        If a tensor is missing, unexpected, or of another shape.
    """
    body = {
        k.removeprefix("features."): v
        for k, v in weights.items()
        if not k.startswith(("fc.", "classifier."))
    }
    own = encoder.state_dict()
    # The oldest published files have no counters.
    missing = sorted(k for k in set(own) - set(body) if not k.endswith("num_batches_tracked"))
    unexpected = sorted(set(body) - set(own))
    wrong = sorted(k for k in set(body) & set(own) if body[k].shape != own[k].shape)
    for kind, keys in (
        ("lack", missing),
        ("have the unexpected", unexpected),
        ("have another shape at", wrong),
    ):
        if keys:
            shown = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
            raise CheckpointError(
                f"the ImageNet weights do not fit {name}: they {kind} {shown}",
                advice=f"Give the weights of {name} as torchvision publishes them",
            )
    encoder.load_state_dict(body, strict=False)
