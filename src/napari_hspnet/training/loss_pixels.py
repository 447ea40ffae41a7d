"""Which pixels a loss sees, and how their values become one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_hspnet.errors import InputError
from napari_hspnet.training.losses import IGNORE

__all__ = ["counted_pixels", "log_not", "pixel_mean", "require_grades"]


def require_grades(channels: int) -> None:
    """Fail unless the channels are the four grades, with background or without.

    Raises
    ------
    InputError
        If there are neither 4 nor 5.
    """
    if channels not in (4, 5):
        raise InputError(
            f"an ordinal loss got {channels} channels",
            advice="Use a network with 5 classes (with background) or 4 (without)",
        )


def counted_pixels(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels that are not ignored, in rows.

    So nothing that stands at an ignored pixel, not even NaN, can reach a loss.

    Parameters
    ----------
    logits : Tensor
        (N, C, h, w), any float dtype.
    target : Tensor
        (N, h, w) of int64: output channels, `IGNORE` where a pixel does not count.

    Returns
    -------
    rows : Tensor
        (n, C); float64 stays, everything else becomes float32.
    labels : Tensor
        (n,) of int64. n may be 0.
    """
    # Not by the mask itself: index_select is twice as fast, backwards above all.
    places = (target != IGNORE).flatten().nonzero()[:, 0]
    rows = logits.movedim(1, -1).reshape(-1, logits.shape[1]).index_select(0, places)
    labels = target.flatten().index_select(0, places)
    return rows if rows.dtype == torch.float64 else rows.float(), labels


def pixel_mean(values: Tensor, labels: Tensor, channels: int, background: float = 1.0) -> Tensor:
    """Mean of pixel values; 0, with a gradient of 0, where there is none.

    Parameters
    ----------
    values : Tensor
        (n,).
    labels : Tensor
        (n,) of int64.
    channels : int
        With 5, label 0 is background.
    background : float
        How much a background pixel counts in the mean; without effect with four
        channels.

    Returns
    -------
    Tensor
        Scalar.
    """
    if background == 1 or channels != 5:
        return values.sum() / max(len(values), 1)
    weights = torch.where(labels == 0, background, 1.0).to(values.dtype)
    size = weights.sum()
    return (weights * values).sum() / torch.where(size > 0, size, 1)


def log_not(rows: Tensor, channel: Tensor | int) -> Tensor:
    """log(1 - p) of one channel of each row, p being the softmax.

    It loses no digits near p = 1 and is finite where the logits are.

    Parameters
    ----------
    rows : Tensor
        (n, C) logits, C of 2 or more.
    channel : Tensor or int
        (n,) of int64, or the same for all.

    Returns
    -------
    Tensor
        (n,).
    """
    if isinstance(channel, int):
        mine = rows[:, channel]
        others = torch.cat([rows[:, :channel], rows[:, channel + 1 :]], 1)
    else:
        mine = rows.gather(1, channel[:, None])[:, 0]
        others = rows.scatter(1, channel[:, None], -torch.inf)
    # 1 - p cancels near 1; as odds against all others nothing is subtracted.
    return F.logsigmoid(others.logsumexp(1) - mine)
