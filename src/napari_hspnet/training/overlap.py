"""Losses of overlap, and focal loss: what class imbalance is usually met with.

All take logits (N, C, h, w) of any float dtype and targets (N, h, w) of int64 that
are output channels, 255 ignored, and compute in float32, or in float64 if given it.
Without a pixel that counts they are 0, with a gradient of 0.

Overlaps are pooled over the batch, as the paper's scorer pools them over images: a
patch that holds few pixels of a class does not weigh as much as a full one. With
gradient accumulation the pool is one micro-batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_hspnet.training.loss_pixels import (
    counted_pixels,
    log_not,
    pixel_mean,
    require_grades,
)

__all__ = ["dice", "focal", "wasserstein_dice"]


def dice(logits: Tensor, target: Tensor, *, smooth: float = 0.0) -> Tensor:
    """Soft Dice loss: the mean of 1 - (2 I + smooth) / (P + T + smooth).

    I, P and T are a channel's sums of p where it is true, of p, and of the truth.
    The mean is over the channels, background among them, of which a counted pixel
    is true: one that is nowhere true has a Dice of 0 whatever is predicted.

    Parameters
    ----------
    logits : Tensor
        (N, C, h, w), any C.
    target : Tensor
        (N, h, w) of int64.
    smooth : float
        Pixels added to both sides of the fraction.

    Returns
    -------
    Tensor
        Scalar, 0 to 1.
    """
    channels = logits.shape[1]
    rows, labels = counted_pixels(logits, target)
    p = F.softmax(rows, 1)
    truth = F.one_hot(labels, channels).to(p.dtype)
    size = truth.sum(0)
    present = size > 0
    # An absent channel's fraction may be 0 / 0; it is left out below.
    both = torch.where(present, p.sum(0) + size, 1)
    overlap = (2 * (p * truth).sum(0) + smooth) / (both + smooth)
    return ((1 - overlap) * present).sum() / present.sum().clamp(min=1)


def wasserstein_dice(logits: Tensor, target: Tensor, *, smooth: float = 1e-5) -> Tensor:
    """Generalised Wasserstein Dice loss (Fidon et al. 2017, arXiv:1707.00478).

    With M the distances between classes, a pixel's error is the Wasserstein
    distance W between its probabilities and its class, sum_k M[t, k] p_k, and with
    b the background::

        1 - 2 S / (2 S + sum W),  S = sum over pixels of M[t, b] (M[t, b] - W)

    M is 1 between background and a grade and |j - k| / 4 between grades. Background
    pixels add errors but nothing to S; where a batch holds nothing else, the loss
    is 1 and hardly depends on the logits. Without a background channel every M[t, b]
    is still 1, and W ends at 3/4: distances are the same with four channels as with
    five, where MONAI would stretch them until the largest is 1. MONAI also takes a
    fraction per image and averages them; the mathematics is otherwise the same.

    Parameters
    ----------
    logits : Tensor
        (N, C, h, w), C of 4 or 5.
    target : Tensor
        (N, h, w) of int64.
    smooth : float
        Added to both sides of the fraction.

    Returns
    -------
    Tensor
        Scalar, 0 to 1.

    Raises
    ------
    InputError
        If C is neither 4 nor 5.
    """
    channels = logits.shape[1]
    require_grades(channels)
    rows, labels = counted_pixels(logits, target)
    numbers = torch.arange(channels, dtype=rows.dtype, device=rows.device)
    distances = (numbers[:, None] - numbers).abs() / 4
    graded = torch.ones_like(labels, dtype=torch.bool)
    if channels == 5:
        distances[0, 1:] = distances[1:, 0] = 1
        graded = labels > 0
    errors = (distances[labels] * F.softmax(rows, 1)).sum(1)
    right = ((1 - errors) * graded).sum()
    wrong = errors.sum()
    whole = 2 * right + wrong + smooth
    return wrong / torch.where(whole > 0, whole, 1)


def focal(logits: Tensor, target: Tensor, *, gamma: float = 2.0, background: float = 1.0) -> Tensor:
    """Focal loss (Lin et al. 2017, arXiv:1708.02002) on the softmax.

    ``-(1 - p_t)^gamma log p_t``, averaged over the pixels that count. torchvision
    and segmentation-models-pytorch have the sigmoid form, one class against the
    rest; with two classes the two are the same.

    Parameters
    ----------
    logits : Tensor
        (N, C, h, w), any C.
    target : Tensor
        (N, h, w) of int64.
    gamma : float
        How much less a pixel counts that is right; with 0 this is cross-entropy.
    background : float
        How much a background pixel counts in the mean (five channels only).

    Returns
    -------
    Tensor
        Scalar.
    """
    rows, labels = counted_pixels(logits, target)
    log_true = F.log_softmax(rows, 1).gather(1, labels[:, None])[:, 0]
    # A power of 1 - p_t itself has an infinite derivative at 0 for gamma below 1.
    values = -(gamma * log_not(rows, labels)).exp() * log_true
    return pixel_mean(values, labels, logits.shape[1], background)
