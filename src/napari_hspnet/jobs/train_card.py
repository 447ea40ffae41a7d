"""What the card of a trained network says, and its figures on images set aside."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_hspnet import __version__
from napari_hspnet.classes import BACKGROUND, RESEARCH_USE_ONLY
from napari_hspnet.errors import CancelledError
from napari_hspnet.inference.settings import describe_device
from napari_hspnet.jobs.train_data import TrainData, data_facts
from napari_hspnet.networks import ModelCard
from napari_hspnet.training import confusion, predict_field, scores
from napari_hspnet.training.config import TrainConfig
from napari_hspnet.training.data import LabelledImage, PatchIndex
from napari_hspnet.training.losses import IGNORE
from napari_hspnet.training.resume import Position

__all__ = ["CONFIG_HASH", "trained_card", "validation_figures"]

CONFIG_HASH = "config_sha256"
"""Where a card's recipe has the hash of its config."""


def validation_figures(
    network: nn.Module,
    config: TrainConfig,
    images: Sequence[LabelledImage],
    device: torch.device,
    tell: Callable[[str, float | None], None],
    cancel: threading.Event | None,
) -> dict[str, Any]:
    """Figures of the images set aside: pooled and masked (paper, section 4.2).

    Parameters
    ----------
    network : nn.Module
        On the device; left in evaluation mode.
    config : TrainConfig
    images : sequence of LabelledImage
        None gives no figures.
    device : torch.device
    tell : callable
        Called with what is done and the part of it.
    cancel : threading.Event or None

    Raises
    ------
    CancelledError
        If `cancel` was set.
    """
    if not images:
        return {}
    # Only what predicting looks at.
    card = ModelCard(
        config.name,
        config.architecture,
        window=config.patches.side,
        mean=config.network.mean,
        std=config.network.std,
    )
    network.eval()
    placed = _Placed(network, device)
    stride = config.validation.stride or None
    counts = np.zeros((5, 5), np.int64)
    for number, image in enumerate(images):
        if cancel is not None and cancel.is_set():
            raise CancelledError
        tell("judging", number / len(images))
        rgb, truth = image.read(0, 0, image.height, image.width)
        # Neither is counted under the mask, and there is no row for 255.
        truth[truth == IGNORE] = BACKGROUND
        counts += confusion(truth, predict_field(placed, card, rgb, stride))
    found = scores(counts)
    return {
        "protocol": "truth 0 and ignored left out, pixels pooled over the images, mean over "
        "the classes that are there",
        "split": "validation, set aside by the config",
        "images": len(images),
        "blend": "plain" if stride is None else f"Gauss-like, stride {stride}",
        "dice": {name: round(value, 4) for name, value in found.dice.items()},
        # JSON has no NaN.
        "mean_dice": _figure(found.mean_dice),
        "mean_iou": _figure(found.mean_iou),
        "accuracy": _figure(found.accuracy),
        "pixels": found.pixels,
    }


def trained_card(
    config: TrainConfig,
    data: TrainData,
    index: PatchIndex,
    end: Position,
    parent: tuple[str, ModelCard] | None,
    metrics: dict[str, Any],
    device: torch.device,
) -> ModelCard:
    """The card of a network that was trained as a config says.

    Parameters
    ----------
    config : TrainConfig
    data : TrainData
    index : PatchIndex
        Of its training images.
    end : Position
        Of the training.
    parent : tuple of str and ModelCard, or None
        SHA-256 and card of the checkpoint that it started from.
    metrics : dict
        See `validation_figures`.
    device : torch.device
    """
    synthetic = data.synthetic and (parent is None or parent[1].synthetic)
    recipe = {
        "config": _public(config),
        CONFIG_HASH: config.digest,
        "data": data_facts(data, index),
        "data_sha256": end.data,
        "steps": end.step,
        "epochs": end.epoch,
        "training_seconds": round(end.seconds),
        "last_loss": None if end.loss is None else round(end.loss, 5),
        "precision": end.precision,
        "micro_batch": end.micro_batch or config.recipe.batch,
        "device": describe_device(device),
        "machine": platform.machine(),
        "napari_hspnet": __version__,
        "torch": str(torch.__version__),
        "notice": RESEARCH_USE_ONLY,
    }
    return ModelCard(
        name=config.name,
        architecture=config.architecture,
        mpp=float(data.train[0].mpp),
        window=config.patches.side,
        mean=config.network.mean,
        std=config.network.std,
        trained_on=data.words if parent is None else f"{data.words}; before, {_before(parent)}",
        recipe=recipe,
        metrics=metrics,
        parent=None if parent is None else parent[0],
        intended_use=RESEARCH_USE_ONLY,
        synthetic=synthetic,
        limitations=(
            "It has never seen a real slide: what it draws on one means nothing"
            if synthetic
            else "Known only for slides like those that it was trained on"
        ),
    )


class _Placed(nn.Module):
    """A network on a device, for those whose arrays are in the host's memory."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        super().__init__()
        self._network, self._device = network, device

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self._network(x.to(self._device)).float().cpu()
        return answer


def _figure(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _before(parent: tuple[str, ModelCard]) -> str:
    return f"{parent[1].trained_on} ({parent[1].name})"


def _public(config: TrainConfig) -> dict[str, Any]:
    """The config without paths and patients: a card goes where the data may not."""
    values = config.to_json()
    data, network = values["data"], values["network"]
    data["cases"] = len(data["cases"])
    values["validation"]["patients"] = len(values["validation"]["patients"])
    data["folder"] = Path(data["folder"]).name
    network["start"] = Path(network["start"]).name
    network["encoder_weights"] = Path(network["encoder_weights"]).name
    return values
