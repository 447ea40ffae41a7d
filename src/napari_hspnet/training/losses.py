"""Losses on logits and label images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["IGNORE", "cross_entropy"]

IGNORE = 255


def cross_entropy(
    logits: Tensor, target: Tensor, ignore: int = IGNORE, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy, averaged over the pixels that count.

    Parameters
    ----------
    logits : Tensor
        (N, C, h, w).
    target : Tensor
        (N, h, w) of int64: output channels, not label values.
    ignore : int
        Target value that does not count.
    weights : Tensor, optional
        (C,): how much a pixel of each channel counts; 1 each without it.

    Returns
    -------
    Tensor
        Scalar; 0, with a gradient of 0, where no pixel counts.
    """
    total = F.cross_entropy(
        logits.float(), target, weight=weights, ignore_index=ignore, reduction="sum"
    )
    # torch's own mean is 0 / 0 for a batch without a counting pixel.
    counts = target != ignore
    if weights is None:
        return total / counts.sum().clamp(min=1)
    size = (weights[torch.where(counts, target, 0)] * counts).sum()
    return total / torch.where(size > 0, size, 1)
