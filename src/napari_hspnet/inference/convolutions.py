"""Convolutions rewritten: another's arithmetic taken in, taps and inputs split off.

All work on weights in evaluation mode and give new modules; what they are given
stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from napari_hspnet.errors import InputError

__all__ = ["drop_dead_taps", "fold_norm", "like", "split_input"]


def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """A convolution that does what `conv` and then `norm` do in evaluation mode.

    Computed in float64 and rounded once, to the dtype of `conv`.
    """
    mean, variance = norm.running_mean, norm.running_var
    if not norm.track_running_stats or mean is None or variance is None:
        raise InputError(
            "a batch normalisation without running statistics cannot be folded",
            advice="Run the network as it is",
        )
    with torch.no_grad():
        scale = torch.rsqrt(variance.double() + norm.eps)
        if norm.affine:
            scale = scale * norm.weight.double()
        shift = -mean.double() * scale
        if norm.affine:
            shift = shift + norm.bias.double()
        if conv.bias is not None:
            shift = shift + conv.bias.double() * scale
        weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
        return like(conv, weight.to(conv.weight.dtype), shift.to(conv.weight.dtype))


def split_input(conv: nn.Conv2d, widths: Sequence[int]) -> list[nn.Conv2d]:
    """Convolutions whose sum is `conv` of the concatenation of their inputs.

    Parameters
    ----------
    conv : Conv2d
        One group, zero padding.
    widths : sequence of int
        Channels of each input; they add up to those of `conv`.

    Returns
    -------
    list of Conv2d
        The first of them has the bias.
    """
    pieces = torch.split(conv.weight.detach(), list(widths), 1)
    return [like(conv, w.clone(), conv.bias if i == 0 else None) for i, w in enumerate(pieces)]


def drop_dead_taps(conv: nn.Conv2d, height: int, width: int) -> nn.Conv2d:
    """The same function of maps of this size, without taps that only meet padding.

    Parameters
    ----------
    conv : Conv2d
        With 3x3 taps, stride 1, and as much padding as its dilation.
    height, width : int
        Of its map, in cells.

    Returns
    -------
    Conv2d
        1x1, 1x3 or 3x1 where taps went; `conv` itself where none did.
    """
    rows, columns = (
        slice(1, 2) if d >= n else slice(None)
        for d, n in zip(conv.dilation, (height, width), strict=True)
    )
    weight = conv.weight.detach()[:, :, rows, columns]
    if weight.shape == conv.weight.shape:
        return conv
    dilation = tuple(
        d if k == 3 else 1 for d, k in zip(conv.dilation, weight.shape[2:], strict=True)
    )
    padding = tuple(d if k == 3 else 0 for d, k in zip(dilation, weight.shape[2:], strict=True))
    return like(conv, weight.clone(), conv.bias, padding, dilation)


def like(
    conv: nn.Conv2d,
    weight: Tensor,
    bias: Tensor | None,
    padding: tuple[int, ...] | None = None,
    dilation: tuple[int, ...] | None = None,
) -> nn.Conv2d:
    """A convolution with other weights; strides and what is not said are those of `conv`."""
    assert conv.groups == 1
    assert conv.padding_mode == "zeros"
    made = nn.Conv2d(
        weight.shape[1],
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        stride=conv.stride,  # type: ignore[arg-type]
        padding=conv.padding if padding is None else padding,  # type: ignore[arg-type]
        dilation=conv.dilation if dilation is None else dilation,  # type: ignore[arg-type]
        bias=bias is not None,
        device="meta",
    )
    made.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return made
