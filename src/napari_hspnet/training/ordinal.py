"""Losses that know the order normal < CIN1 < CIN2 < CIN3.

All take logits (N, C, h, w) of any float dtype and targets (N, h, w) of int64 that
are output channels, 255 ignored. C is 5 (channel = label value, 0 background) or 4
(channel = label value - 1). Background has no place in the order: a background
pixel takes plain cross-entropy, and what a graded pixel pays for the probability of
background is set by ``d0``, not by a difference of channel numbers.

They compute in float32, or in float64 if given it, and return the mean over the
pixels that count; 0, with a gradient of 0, where none does.
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

__all__ = ["ae_r", "cdw_ce", "squared_emd"]


def ae_r(
    logits: Tensor,
    target: Tensor,
    *,
    lam: float = 1.0,
    d0: float = 1.0,
    background: float = 1.0,
) -> Tensor:
    """A reconstruction of the adaptive elastic loss; not the paper's loss.

    AE-Loss (ICASSP 2020) is published in a paper that could not be obtained. What
    is known of it: it replaces cross-entropy pixel by pixel and uses the order of
    the grades. This does the same, with p the softmax over all channels, t the true
    grade, a = stop_gradient(1 - p_t)::

        -log p_t + lam a sum_k ((k - t) / 3)^2 p_k + lam a d0 p_0

    so the pull towards neighbouring grades fades as a pixel becomes right. With
    four channels there is no p_0.

    Parameters
    ----------
    logits : Tensor
        (N, C, h, w), C of 4 or 5.
    target : Tensor
        (N, h, w) of int64.
    lam : float
        Weight of the order; with 0 this is cross-entropy.
    d0 : float
        Price of p_0 on a graded pixel; 1 is that of the farthest grade.
    background : float
        How much a background pixel counts in the mean.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    InputError
        If C is neither 4 nor 5.
    """
    channels = logits.shape[1]
    require_grades(channels)
    rows, labels = counted_pixels(logits, target)
    log_p = F.log_softmax(rows, 1)
    log_true = log_p.gather(1, labels[:, None])[:, 0]
    prices = rows.new_zeros(channels, channels)
    prices[-4:, -4:] = (_steps(rows) / 3) ** 2
    if channels == 5:
        prices[1:, 0] = d0
    elastic = (prices[labels] * log_p.exp()).sum(1)
    wrong = 1 - log_true.detach().exp()
    return pixel_mean(-log_true + lam * wrong * elastic, labels, channels, background)


def cdw_ce(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 5.0,
    d0: float = 1.0,
    background: float = 1.0,
) -> Tensor:
    """Class distance weighted cross-entropy (Polat et al. 2022, arXiv:2202.05167).

    ``-sum_k |k - t|^alpha log(1 - p_k)``, without the later margin. Its authors find
    alpha of 5 to 7 best, by network, on four ordered classes (arXiv:2412.01246); 5
    is the default here.

    The formula knows only classes of one order. So with five channels it is taken
    on the grades alone, renormalised: on the softmax of channels 1 to 4. For p_0,
    which has left that term, a graded pixel pays ``-d0 log(1 - p_0)``; with d0 = 1
    that and the cross-entropy of background pixels are the two halves of a binary
    cross-entropy between tissue and background. Over all five channels background
    would be the cheap answer wherever grades are in doubt, unless it costs as much
    as the farthest grade, and then tissue would grow far over its border.

    Values are large beside cross-entropy (the farthest grade counts 3^5 = 243
    times): clip gradients, mind it in weighted sums, and expect neighbouring grades
    to be learnt after distant ones. An alpha of 2 or 3 is milder.

    Parameters
    ----------
    logits : Tensor
        (N, C, h, w), C of 4 or 5.
    target : Tensor
        (N, h, w) of int64.
    alpha : float
        How fast the price grows with the distance.
    d0 : float
        Price of background on a graded pixel.
    background : float
        How much a background pixel counts in the mean.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    InputError
        If C is neither 4 nor 5.
    """
    channels = logits.shape[1]
    require_grades(channels)
    rows, labels = counted_pixels(logits, target)
    first = channels - 4
    steps = _steps(rows)
    # A power of 0 must not give the true class a price.
    prices = torch.where(steps > 0, steps**alpha, 0)
    # Background takes any row of them: its value is replaced.
    paid = prices[(labels - first).clamp(min=0)]
    grades = rows[:, first:]
    values = -sum((paid[:, k] * log_not(grades, k) for k in range(4)), rows.new_zeros(()))
    values = _with_background(values, rows, labels, d0)
    return pixel_mean(values, labels, channels, background)


def squared_emd(
    logits: Tensor, target: Tensor, *, d0: float = 1.0, background: float = 1.0
) -> Tensor:
    """Squared earth mover's distance (Hou et al. 2016, arXiv:1611.05916).

    The sum over the grades of the squared difference between the cumulative
    distributions of prediction and truth, not divided by the number of classes.

    The closed form holds between distributions of equal mass in one order. So with
    five channels it is taken on the grades alone, renormalised: on the softmax of
    channels 1 to 4. p_0 has left that term, so a graded pixel pays
    ``-d0 log(1 - p_0)`` for it, as in `cdw_ce`.

    Its gradient vanishes where a wrong grade is predicted with certainty: start it
    from nearly equal scores, or add cross-entropy.

    Parameters
    ----------
    logits : Tensor
        (N, C, h, w), C of 4 or 5.
    target : Tensor
        (N, h, w) of int64.
    d0 : float
        Price of background on a graded pixel.
    background : float
        How much a background pixel counts in the mean.

    Returns
    -------
    Tensor
        Scalar.

    Raises
    ------
    InputError
        If C is neither 4 nor 5.
    """
    channels = logits.shape[1]
    require_grades(channels)
    rows, labels = counted_pixels(logits, target)
    first = channels - 4
    reached = F.softmax(rows[:, first:], 1).cumsum(1)
    grades = torch.arange(4, device=rows.device)
    wanted = (grades >= (labels - first)[:, None]).to(rows.dtype)
    values = ((reached - wanted) ** 2).sum(1)
    values = _with_background(values, rows, labels, d0)
    return pixel_mean(values, labels, channels, background)


def _steps(like: Tensor) -> Tensor:
    """|k - t| by true (row) and predicted (column) grade, (4, 4)."""
    grades = torch.arange(4, dtype=like.dtype, device=like.device)
    return (grades[:, None] - grades).abs()


def _with_background(values: Tensor, rows: Tensor, labels: Tensor, d0: float) -> Tensor:
    """Values of graded pixels and their price of p_0; plain cross-entropy elsewhere."""
    if rows.shape[1] == 4:
        return values
    plain = -F.log_softmax(rows, 1)[:, 0]
    return torch.where(labels == 0, plain, values - d0 * log_not(rows, 0))
