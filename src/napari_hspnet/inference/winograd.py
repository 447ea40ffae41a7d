"""3x3 convolutions with fewer multiplications, of any dilation.

A convolution of dilation d works on d x d interleaved maps that do not meet, each
as a dense 3x3 convolution. Winograd's minimal filtering (Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks", 2016) makes 3 x 3 values of such a
map from a 5 x 5 tile with 25 multiplications a pair of channels instead of 81. It
is the same function; in float32 it rounds a little more.

The three atrous convolutions of DS-Block 5 are half of HSP-Net's arithmetic, and
its 100 cells at 400 px divide well: with 6, 12 and 18 alike 108 of them are
computed, so that 36 % of the multiplications are left.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["WinogradConv", "arithmetic"]

# F(3, 3) with the points 0, 1, -1, 2 and infinity; each row of _INPUT gives one of
# five transformed values of five, _WEIGHT of three taps, and _OUTPUT goes back.
_INPUT = (
    (2.0, -1.0, -2.0, 1.0, 0.0),
    (0.0, -2.0, -1.0, 1.0, 0.0),
    (0.0, 2.0, -3.0, 1.0, 0.0),
    (0.0, -1.0, 0.0, 1.0, 0.0),
    (0.0, 2.0, -1.0, -2.0, 1.0),
)
_WEIGHT = (
    (1 / 2, 0.0, 0.0),
    (-1 / 2, -1 / 2, -1 / 2),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 6, 1 / 3, 2 / 3),
    (0.0, 0.0, 1.0),
)
_OUTPUT = (
    (1.0, 1.0, 1.0, 1.0, 0.0),
    (0.0, 1.0, -1.0, 2.0, 0.0),
    (0.0, 1.0, 1.0, 4.0, 1.0),
)
_OUT, _IN = 3, 5


class WinogradConv(nn.Module):
    """What a 3x3 convolution of stride 1 does, padded by its dilation.

    Parameters
    ----------
    conv : Conv2d
        3x3, stride 1, one group, the same dilation both ways, as much padding.

    Raises
    ------
    ValueError
        If it is another.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        dilation = conv.dilation[0]
        same = (dilation, dilation)
        if (
            conv.kernel_size != (3, 3)
            or conv.stride != (1, 1)
            or conv.groups != 1
            or conv.dilation != same
            or conv.padding != same
            or conv.padding_mode != "zeros"
        ):
            raise ValueError(f"{conv} is no 3x3 convolution of stride 1 padded by its dilation")
        self.dilation = dilation
        weight = conv.weight.detach()
        there = weight.new_tensor
        axis = torch.tensor(_WEIGHT, dtype=torch.float64, device=weight.device)
        turned = torch.einsum("ai,bj,ocij->abco", axis, axis, weight.double())
        self.register_buffer("weight", turned.flatten(0, 1).to(weight.dtype).contiguous())
        # Both axes at once: a tile of 25 values is one product with a matrix.
        self.register_buffer("into", torch.kron(there(_INPUT), there(_INPUT)))
        self.register_buffer("back", torch.kron(there(_OUTPUT), there(_OUTPUT)))
        bias = None if conv.bias is None else conv.bias.detach().clone()
        self.register_buffer("bias", bias)
        self.weight: Tensor
        self.into: Tensor
        self.back: Tensor
        self.bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, h, w) to (N, c', h, w), channels last in memory."""
        count, channels, height, width = x.shape
        d = self.dilation
        down, across = _tiles(height, d), _tiles(width, d)
        # Cells i, i + d, i + 2d, … make one map; tiles of five overlap by two.
        extra_h, extra_w = d * (_OUT * down + 1) - height, d * (_OUT * across + 1) - width
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, d, extra_w, d, extra_h))
        maps = padded.reshape(count, _OUT * down + 2, d, _OUT * across + 2, d, channels)
        tiles = maps.unfold(1, _IN, _OUT).unfold(3, _IN, _OUT)
        # (5, 5, n, tiles down, d, tiles across, d, c): a place in a tile, then tiles.
        places = tiles.permute(6, 7, 0, 1, 2, 3, 4, 5).reshape(_IN * _IN, -1)
        turned = (self.into @ places).view(_IN * _IN, -1, channels)
        product = torch.bmm(turned, self.weight)
        out = (self.back @ product.flatten(1)).view(
            _OUT, _OUT, count, down, d, across, d, self.weight.shape[2]
        )
        # Row of a cell: (tile * 3 + place in it) * d + map.
        whole = out.permute(2, 3, 0, 4, 5, 1, 6, 7).reshape(
            count, down * _OUT * d, across * _OUT * d, -1
        )
        found = whole[:, :height, :width]
        if self.bias is not None:
            found = found + self.bias
        return found.permute(0, 3, 1, 2)


def arithmetic(conv: nn.Conv2d, height: int, width: int) -> float:
    """What share of a direct convolution's arithmetic `WinogradConv` does, transforms counted.

    Parameters
    ----------
    conv : Conv2d
        3x3.
    height, width : int
        Of its map, in cells.

    Returns
    -------
    float
        Above 1 where it does more, as with few channels.
    """
    step = conv.dilation[0]
    tiles = _tiles(height, step) * _tiles(width, step) * step**2
    c_in, c_out = conv.in_channels, conv.out_channels
    spent = tiles * (_IN**2 * c_in * c_out + _IN**4 * c_in + (_OUT * _IN) ** 2 * c_out)
    return spent / (9.0 * height * width * c_in * c_out)


def _tiles(side: int, dilation: int) -> int:
    """Tiles along a side of one of the interleaved maps."""
    return -(-side // (dilation * _OUT))
