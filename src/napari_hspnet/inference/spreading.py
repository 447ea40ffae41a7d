"""Convolutions of interpolated maps, done before the interpolation.

DS-Block 5 sees the other blocks' maps brought to one size: at 400 px 25 x 25 and
13 x 13 cells are spread over 100 x 100. What an atrous convolution makes of such a
map is still linear in the few cells: a tap is a 1x1 convolution of the small map,
then bilinear interpolation, shifted by the tap's offset, with zeros where that
reads beyond the border. Interpolation and shift along an axis are one matrix, so

    out = sum over taps (i, j) of  D_i (W_ij x) A_j'

with D_i, H x h, and A_j, W x w: interpolation, then rows of the tap's offset. This
is the same function to the border, for any sizes. With the paper's widths at 400 px
it does 18 % of the direct arithmetic for the map of 25 cells and 4 % for that of 13.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["FarLevels", "SpreadConv", "spread_share"]


def spread_share(conv: nn.Conv2d, channels: int, size: Sequence[int], fine: Sequence[int]) -> float:
    """What share of a direct convolution's arithmetic `SpreadConv` does.

    Parameters
    ----------
    conv : Conv2d
        Of the interpolated maps.
    channels : int
        How many of its inputs are of this map.
    size, fine : sequence of int
        Height and width of the map before and after its interpolation.

    Returns
    -------
    float
        Above 1 where it does more, as for maps hardly smaller.
    """
    (down, across), (h, w), (height, width) = conv.kernel_size, size, fine
    products = down * across * channels * h * w
    spread = down * h * across * w * width + down * h * height * width
    return (products + spread) / (down * across * channels * height * width)


class SpreadConv(nn.Module):
    """A convolution of a bilinearly interpolated map, without bias.

    Parameters
    ----------
    conv : Conv2d
        Of stride 1, padded so that it keeps the size. Its bias is left out.
    size, fine : sequence of int
        Height and width of the map before and after its interpolation.
    """

    def __init__(self, conv: nn.Conv2d, size: Sequence[int], fine: Sequence[int]) -> None:
        super().__init__()
        weight = conv.weight.detach()
        self.width, channels, *self.taps = weight.shape
        self.size = (int(size[0]), int(size[1]))
        self.fine = (int(fine[0]), int(fine[1]))
        # One 1x1 convolution gives what all taps make of a cell.
        each = weight.permute(2, 3, 0, 1).reshape(-1, channels, 1, 1)
        self.register_buffer("weight", each.contiguous())
        down, across = (
            _spread(self.size[axis], self.fine[axis], self.taps[axis], conv.dilation[axis])
            for axis in (0, 1)
        )
        self.register_buffer("down", down.to(weight)[None])
        self.register_buffer("across", across.to(weight)[None])
        self.weight: Tensor
        self.down: Tensor
        self.across: Tensor

    def forward(self, x: Tensor, total: Tensor) -> Tensor:
        """Add to a sum.

        Parameters
        ----------
        x : Tensor (n, c, h, w)
            The map before its interpolation.
        total : Tensor (n, H, W * c')
            What others gave, channels last.

        Returns
        -------
        Tensor (n, H, W * c')
        """
        count = x.shape[0]
        (h, w), (down, across) = self.size, self.taps
        products = F.conv2d(x, self.weight).reshape(count, down, across, self.width, h, w)
        columns = products.permute(0, 1, 4, 2, 5, 3).reshape(-1, across * w, self.width)
        rows = torch.bmm(self.across.expand(columns.shape[0], -1, -1), columns)
        rows = rows.reshape(count, down * h, self.fine[1] * self.width)
        return torch.baddbmm(total, self.down.expand(count, -1, -1), rows)


class FarLevels(nn.Module):
    """Those of DS-Block 5's maps that it never sees at its own size.

    Parameters
    ----------
    branches : sequence of sequence of Conv2d
        For each atrous branch one convolution for each map.
    sizes : sequence of sequence of int
        Height and width of each map.
    fine : sequence of int
        The size to which they would be interpolated.
    """

    def __init__(
        self,
        branches: Sequence[Sequence[nn.Conv2d]],
        sizes: Sequence[Sequence[int]],
        fine: Sequence[int],
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.ModuleList(
                SpreadConv(conv, size, fine) for conv, size in zip(convs, sizes, strict=True)
            )
            for convs in branches
        )
        like = branches[0][0].weight
        for index, size in enumerate(sizes):
            rows, columns = (_spread(size[axis], fine[axis], 1, 1).mean(0) for axis in (0, 1))
            # Of the mean, so that none is too small for 16 bits.
            shares = torch.outer(rows * size[0], columns * size[1])
            self.register_buffer(f"shares{index}", shares.to(like)[None, None])

    def means(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Means of the interpolated maps, (n, c, 1, 1) each."""
        return [
            (level * getattr(self, f"shares{index}")).mean((2, 3), keepdim=True)
            for index, level in enumerate(levels)
        ]

    def add(self, branch: int, near: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """What a branch makes of all maps.

        Parameters
        ----------
        branch : int
            Which.
        near : Tensor (n, c', H, W)
            What it makes of the others, bias included.
        levels : sequence of Tensor
            The maps before their interpolation.

        Returns
        -------
        Tensor (n, c', H, W)
            Channels last in memory.
        """
        count, width, height, across = near.shape
        total = near.permute(0, 2, 3, 1).reshape(count, height, across * width)
        convs = self.branches[branch]
        assert isinstance(convs, nn.ModuleList)
        for conv, level in zip(convs, levels, strict=True):
            total = conv(level, total)
        return total.view(count, height, across, width).permute(0, 3, 1, 2)


def _spread(cells: int, fine: int, taps: int, dilation: int) -> Tensor:
    """Interpolation along an axis as each tap reads it: (fine, taps * cells), float64."""
    unit = torch.eye(cells, dtype=torch.float64)[None]
    whole = F.interpolate(unit, size=fine, mode="linear", align_corners=False)[0].T
    shifted = torch.zeros(fine, taps, cells, dtype=torch.float64)
    for tap in range(taps):
        offset = (tap - taps // 2) * dilation
        first, last = max(0, -offset), min(fine, fine - offset)
        if first < last:
            shifted[first:last, tap] = whole[first + offset : last + offset]
    return shifted.flatten(1)
