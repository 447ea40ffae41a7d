"""What a network is worth on fields with known truth."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from napari_hspnet.errors import CancelledError
from napari_hspnet.inference.blend import gaussian_weights
from napari_hspnet.networks.card import ModelCard
from napari_hspnet.training.loop import to_input
from napari_hspnet.training.metrics import confusion
from napari_hspnet.training.patches import Image, LabelledField

__all__ = ["evaluate", "predict_field"]


def _starts(length: int, window: int, stride: int) -> list[int]:
    if length <= window:
        return [0]
    return [*range(0, length - window, stride), length - window]


@torch.inference_mode()
def predict_field(network: nn.Module, card: ModelCard, rgb: Image, stride: int | None) -> Image:
    """Label values of an image held in memory (paper, section 4.5).

    Parameters
    ----------
    network : nn.Module
        In evaluation mode.
    card : ModelCard
        Says window and normalisation.
    rgb : ndarray of uint8, (h, w, 3)
        Padded with white where it is smaller than a window.
    stride : int or None
        None: windows side by side, the last row and column shifted inwards.
        Else overlapping windows, softmax values averaged with Gaussian weights
        of sigma = window / 8.

    Returns
    -------
    ndarray of uint8, (h, w)
    """
    window = card.window
    height, width = rgb.shape[:2]
    pad = [(0, max(0, window - height)), (0, max(0, window - width)), (0, 0)]
    full = np.pad(rgb, pad, constant_values=255)
    total = np.zeros((card.num_classes, *full.shape[:2]), np.float32)
    weights = gaussian_weights(window, window / 8)
    for y in _starts(full.shape[0], window, stride or window):
        for x in _starts(full.shape[1], window, stride or window):
            part = to_input(full[None, y : y + window, x : x + window], card.mean, card.std)
            values = network(part)[0].float().softmax(0).numpy()
            here = (slice(None), slice(y, y + window), slice(x, x + window))
            if stride is None:
                total[here] = values
            else:
                total[here] += values * weights
    channels = total[:, :height, :width].argmax(axis=0)
    return np.asarray(np.asarray(card.values)[channels], dtype=np.uint8)


def evaluate(
    network: nn.Module,
    card: ModelCard,
    fields: Sequence[LabelledField],
    stride: int | None = None,
    cancel: threading.Event | None = None,
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Confusion matrices (5, 5) of several fields, summed; see `metrics.scores`.

    Raises
    ------
    CancelledError
        If `cancel` was set.
    """
    training = network.training
    network.eval()
    counts = np.zeros((5, 5), np.int64)
    for field in fields:
        if cancel is not None and cancel.is_set():
            raise CancelledError
        counts += confusion(field.truth, predict_field(network, card, field.rgb, stride))
    network.train(training)
    return counts
