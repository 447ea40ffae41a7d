"""Losses on logits and label images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["IGNORE", "cross_entropy"]

IGNORE = 255


def cross_entropy(logits: Tensor, target: Tensor, ignore: int = IGNORE) -> Tensor:
    """Cross-entropy, averaged over the pixels that count.

    Parameters
    ----------
    logits : Tensor
        (N, C, h, w).
    target : Tensor
        (N, h, w) of int64: output channels, not label values.
    ignore : int
        Target value that does not count.

    Returns
    -------
    Tensor
        Scalar; 0, with a gradient of 0, where no pixel counts.
    """
    total = F.cross_entropy(logits.float(), target, ignore_index=ignore, reduction="sum")
    # torch's own mean is 0 / 0 for a batch without a counting pixel.
    return total / (target != ignore).sum().clamp(min=1)
