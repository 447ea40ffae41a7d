"""HSP-Net made cheaper without changing its function.

`fold` gives a network that computes what the given one computes in evaluation
mode, but for rounding. Its savings, each a function or a class of its own:

* a batch normalisation behind a convolution becomes part of it (`fold_norm`);
* what the pooling branch of a DS-Block says is the same all over the map, so it
  enters the reducing 1x1 convolution as a bias of each picture (`FoldedDSBlock`);
* that 1x1 convolution of a concatenation is the sum of one for each branch
  (`split_input`), so the concatenation need not be made;
* taps of atrous convolutions that only meet padding go (`drop_dead_taps`);
* a 1x1 convolution commutes with bilinear interpolation, whose weights add up to
  one: where DS-Block 5 begins with one, it works on the small maps (`SpreadPoint`);
* so do its atrous convolutions, tap by tap, on maps that are much smaller
  (`napari_hspnet.inference.spreading`);
* the division by the standard deviation becomes part of the first convolution
  (`fold_scale`). The mean cannot: the network pads normalised values with zeros,
  which are the mean, so it is still subtracted before.

On demand 3x3 convolutions of DS-Blocks and head are done with fewer multiplications
(`napari_hspnet.inference.winograd`).

What is not done: what the atrous convolutions of DS-Block 5 make of its finer maps
keeps their concatenation, because each partial sum would be as large as what it
saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hspnet.errors import InputError
from napari_hspnet.inference.convolutions import drop_dead_taps, fold_norm, like, split_input
from napari_hspnet.inference.spreading import FarLevels, spread_share
from napari_hspnet.inference.winograd import WinogradConv, arithmetic
from napari_hspnet.networks import DSBlock, HSPNet, build
from napari_hspnet.networks.dilations import map_sides

__all__ = [
    "FoldedDSBlock",
    "FoldedHSPNet",
    "Savings",
    "SpreadPoint",
    "drop_dead_taps",
    "fold",
    "fold_norm",
    "fold_scale",
    "split_input",
]


WORTH = 0.6
"""Share of arithmetic below which minimal filtering is used: it moves more memory."""

SPREAD_WORTH = 0.5
"""The same for convolutions before the interpolation."""


@dataclass(frozen=True)
class Savings:
    """Which of the savings that cost something too are made.

    Folded normalisation, the pooling branch as a bias and dead taps dropped are
    always cheaper, so they are no question.

    Attributes
    ----------
    partial_sums : bool
        Sums instead of the concatenation of a DS-Block's branches.
    spread_points : bool
        1x1 convolutions before the interpolation instead of behind it.
    winograd : bool
        Minimal filtering where it does less than `WORTH` of the arithmetic. Needs
        more memory, and rounds more. Without `side` there is none.
    spread_atrous : bool
        Atrous convolutions of DS-Block 5 before the interpolation, for maps where
        that does less than `SPREAD_WORTH` of the arithmetic. Without `side` or
        `spread_points` there are none.
    """

    partial_sums: bool = True
    spread_points: bool = True
    winograd: bool = False
    spread_atrous: bool = True


def fold(
    network: nn.Module,
    side: int | tuple[int, int] | None = None,
    savings: Savings | None = None,
) -> FoldedHSPNet:
    """A network of the same function, cheaper.

    Parameters
    ----------
    network : HSPNet
        Is left as it is; what it does in evaluation mode is meant.
    side : int or tuple of int, optional
        Height and width in pixels of the pictures to come: the network that is
        returned takes no others. Without it taps that only meet padding stay,
        and pictures of any size are taken.
    savings : Savings, optional
        All of them by default.

    Returns
    -------
    FoldedHSPNet
        In evaluation mode, without gradients, on the device and of the dtype of
        `network`.

    Raises
    ------
    InputError
        If the network is no HSP-Net, or `side` is smaller than it takes.
    """
    if not isinstance(network, HSPNet):
        raise InputError(
            f"{type(network).__name__} cannot be folded",
            advice="Folding knows HSP-Net alone: run the network as it is",
        )
    sides = (side, side) if isinstance(side, int) else side
    # Tensors made in inference mode could not be traced or compiled later.
    with torch.inference_mode(False), torch.no_grad():
        with torch.device("meta"):
            twin = build(network.architecture)
        # Built anew rather than copied: a copy has the hooks of whoever runs it.
        state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        twin.load_state_dict(state, assign=True)
        assert isinstance(twin, HSPNet)
        folded = FoldedHSPNet(twin.eval(), sides, savings or Savings())
    return folded.eval().requires_grad_(False)


class FoldedHSPNet(nn.Module):
    """HSP-Net with the savings of this module; made by `fold`.

    Parameters
    ----------
    network : HSPNet
        In evaluation mode; is taken apart.
    sides : tuple of int or None
        Height and width that it will be fed.
    savings : Savings
        Which are made.
    """

    def __init__(self, network: HSPNet, sides: tuple[int, int] | None, savings: Savings) -> None:
        super().__init__()
        self.sides = sides
        heights, widths = (
            (None, None) if sides is None else (map_sides(sides[0]), map_sides(sides[1]))
        )
        self.encoder = network.encoder
        _fold_norms_inside(self.encoder)
        *outer, last = network.ds

        def folded(index: int, block: nn.Module) -> nn.Module:
            if not isinstance(block, DSBlock):
                return _plain(block)
            size = None if heights is None or widths is None else (heights[index], widths[index])
            return FoldedDSBlock(block, size, savings)

        self.ds = nn.ModuleList(folded(index, block) for index, block in enumerate(outer))
        *middle, final = network.head
        self.head = nn.Sequential(*(_plain(part) for part in middle), final)

        level_widths = network.architecture.ds_widths[:-1]
        self.joint: nn.Module | None = folded(4, last)
        self.near = len(level_widths)
        if heights is not None and widths is not None and isinstance(self.joint, FoldedDSBlock):
            sizes = list(zip(heights, widths, strict=True))
            if savings.spread_atrous and savings.spread_points:
                self.near = self.joint.spread(level_widths, sizes[:-1], sizes[-1])
        if savings.winograd and heights is not None and widths is not None:
            for index, block in enumerate([*self.ds, self.joint]):
                for branch in block.atrous if isinstance(block, FoldedDSBlock) else ():
                    _filter(branch, heights[index], widths[index])
            for part in list(self.head)[:-1]:
                _filter(part, heights[0], widths[0])
        self.spread: SpreadPoint | None = None
        if savings.spread_points:
            if isinstance(self.joint, FoldedDSBlock):
                point, self.joint.point = self.joint.point, None
            else:
                point, self.joint = self.joint, None
            assert isinstance(point, nn.Sequential)
            self.spread = SpreadPoint(_convolution(point[0]), level_widths)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, (N, 3, h, w) to (N, num_classes, h, w), as `HSPNet.forward`.

        Raises
        ------
        ValueError
            If the network was folded for pictures of another size.
        """
        logits = self.coarse(x)
        if logits.dtype in (torch.float16, torch.bfloat16):
            # Interpolated values would be rounded once more.
            logits = logits.float().contiguous()
        return _resize(logits, [int(side) for side in x.shape[2:]])

    def coarse(self, x: Tensor) -> Tensor:
        """Logits before their interpolation: at a quarter of the size, rounded up."""
        sides = [int(side) for side in x.shape[2:]]
        # With another size, taps that were dropped might meet something.
        if self.sides is not None and sides != list(self.sides):
            raise ValueError(f"folded for {self.sides} px, not {sides}")
        maps = self.encoder(x)
        levels = [block(level) for block, level in zip(self.ds, maps, strict=True)]
        size = [-(-side // 4) for side in sides]
        point = None if self.spread is None else self.spread(levels, size)
        if self.joint is None:
            joined = point
        else:
            near, far = levels[1 : self.near], levels[self.near :]
            whole = torch.cat([levels[0], *(_resize(level, size) for level in near)], 1)
            joined = self.joint(whole) if point is None else self.joint(whole, point, far)
        logits: Tensor = self.head(joined)
        return logits


class FoldedDSBlock(nn.Module):
    """A DS-Block whose pooling branch is a bias and whose branches are summed.

    Parameters
    ----------
    block : DSBlock
        In evaluation mode.
    size : tuple of int or None
        Height and width of its map, where known.
    savings : Savings
        Which are made.
    """

    def __init__(
        self, block: DSBlock, size: tuple[int, int] | None, savings: Savings | None = None
    ) -> None:
        super().__init__()
        savings = savings or Savings()
        self.pool = _plain(block.pool)
        self.point: nn.Module | None = _plain(block.point)
        atrous = [_plain(branch) for branch in block.atrous]
        if size is not None:
            for branch in atrous:
                branch[0] = drop_dead_taps(_convolution(branch[0]), *size)
        self.atrous = nn.ModuleList(atrous)
        reduce = _convolution(_plain(block.reduce)[0])
        width = reduce.out_channels
        first, *others = split_input(reduce, [width] * (2 + len(atrous)))
        # The one that pooling meets has the bias: it is added once.
        self.constant = first
        self.far: FarLevels | None = None
        self.parts: nn.ModuleList | None = None
        self.reduce: nn.Conv2d | None = None
        if savings.partial_sums:
            self.parts = nn.ModuleList(others)
        else:
            self.reduce = like(reduce, torch.cat([part.weight for part in others], 1), None)

    def spread(
        self, widths: Sequence[int], sizes: Sequence[Sequence[int]], fine: Sequence[int]
    ) -> int:
        """Have the atrous convolutions work on maps before their interpolation.

        Parameters
        ----------
        widths : sequence of int
            Channels of each of the maps that make up this block's.
        sizes : sequence of sequence of int
            Their heights and widths, the finest first.
        fine : sequence of int
            The size of this block's map.

        Returns
        -------
        int
            How many of the maps must still be interpolated: the others are `far`
            of `forward`.
        """
        convs = [_convolution(_first(branch)) for branch in self.atrous]
        near = len(sizes)
        while (
            near > 1
            and max(spread_share(conv, widths[near - 1], sizes[near - 1], fine) for conv in convs)
            < SPREAD_WORTH
        ):
            near -= 1
        if near == len(sizes):
            return near
        pieces = [split_input(conv, [sum(widths[:near]), *widths[near:]]) for conv in convs]
        for branch, (first, *_) in zip(self.atrous, pieces, strict=True):
            assert isinstance(branch, nn.Sequential)
            branch[0] = first
        self.far = FarLevels([others for _, *others in pieces], sizes[near:], fine)
        return near

    def forward(self, x: Tensor, point: Tensor | None = None, far: Sequence[Tensor] = ()) -> Tensor:
        """(N, c, h, w) to (N, c', h, w).

        Parameters
        ----------
        x : Tensor
            The map.
        point : Tensor, optional
            (N, c', h, w), what the branch of the 1x1 convolution gives, where it
            was had more cheaply.
        far : sequence of Tensor
            The rest of the map before its interpolation, as `spread` left it.
        """
        mean = x.mean((2, 3), keepdim=True)
        if self.far is not None:
            mean = torch.cat([mean, *self.far.means(far)], 1)
        pooled = self.constant(self.pool(mean))
        branches = (self._branch(index, x, far) for index in range(len(self.atrous)))
        if point is None:
            assert self.point is not None
            point = self.point(x)
        if self.parts is None:
            assert self.reduce is not None
            total = self.reduce(torch.cat([point, *branches], 1))
        else:
            first, *others = self.parts
            total = first(point)
            for branch, part in zip(branches, others, strict=True):
                total = total + part(branch)
        return F.relu_(total + pooled)

    def _branch(self, index: int, x: Tensor, far: Sequence[Tensor]) -> Tensor:
        branch = self.atrous[index]
        if self.far is None:
            found: Tensor = branch(x)
            return found
        return F.relu_(self.far.add(index, _first(branch)(x), far))


class SpreadPoint(nn.Module):
    """A 1x1 convolution and ReLU of maps brought to one size, done before that.

    Parameters
    ----------
    conv : Conv2d
        1x1, on the concatenation of the maps.
    widths : sequence of int
        Channels of each map.
    """

    def __init__(self, conv: nn.Conv2d, widths: Sequence[int]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(split_input(conv, widths))

    def forward(self, levels: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """(N, c_i, h_i, w_i) each, the first of which has `size`, to (N, c', *size)."""
        first, *others = self.parts
        total: Tensor = first(levels[0])
        for part, level in zip(others, levels[1:], strict=True):
            total = total + _resize(part(level), size)
        return F.relu_(total)


def fold_scale(network: FoldedHSPNet, scale: Tensor) -> None:
    """Have a network multiply its input by `scale`, (3,), in its first convolution.

    Zeros stay zeros, so that the padding means what it meant. The network is
    changed.
    """
    conv = network.encoder.conv1
    assert isinstance(conv, nn.Conv2d)
    with torch.no_grad():
        weight = conv.weight.double() * scale.double().to(conv.weight.device).view(1, -1, 1, 1)
        network.encoder.conv1 = like(conv, weight.to(conv.weight.dtype), conv.bias)
    network.requires_grad_(False)


def _filter(part: nn.Module, height: int, width: int) -> None:
    """Put minimal filtering in the place of a part's convolution where that is worth it."""
    assert isinstance(part, nn.Sequential)
    conv = _convolution(part[0])
    if conv.kernel_size == (3, 3) and arithmetic(conv, height, width) < WORTH:
        part[0] = WinogradConv(conv)


def _plain(part: nn.Module) -> nn.Sequential:
    """Convolution, normalisation and ReLU as convolution and ReLU."""
    assert isinstance(part, nn.Sequential)
    conv, norm, relu = part
    assert isinstance(norm, nn.BatchNorm2d)
    return nn.Sequential(fold_norm(_convolution(conv), norm), relu)


def _fold_norms_inside(module: nn.Module) -> None:
    """Fold the normalisations of a ResNet, which follow their convolutions by name or place."""
    children = list(module.named_children())
    for (name, child), (other, follower) in pairwise(children):
        if isinstance(child, nn.Conv2d) and _norm_of(name) == other:
            assert isinstance(follower, nn.BatchNorm2d)
            setattr(module, name, fold_norm(child, follower))
            setattr(module, other, nn.Identity())
    for _, child in children:
        _fold_norms_inside(child)


def _norm_of(name: str) -> str:
    """conv1 has bn1; the first of a shortcut has the second."""
    return "1" if name == "0" else name.replace("conv", "bn")


def _first(part: nn.Module) -> nn.Module:
    assert isinstance(part, nn.Sequential)
    first: nn.Module = part[0]
    return first


def _convolution(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=False)
