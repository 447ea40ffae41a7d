"""Taps that only meet padding, and dilations that avoid them.

A tap of an atrous 3x3 convolution of dilation d reads d cells away. On a map of s
cells it is inside the map for s - d of s positions along an axis, and for none if
d >= s: its weights then get no gradient. With the paper's window of 400 px that
is so for dilation 18 in DS-Block 4 (13 cells: 4.2 M parameters with ResNet-101).
Dilation 12 there is nearly as idle, inside for 1 of 13 positions along an axis;
dilation 18 in DS-Block 3 (25 cells) is inside for 7 of 25, and its corner taps
for 8 % of positions. The paper does not mention it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from napari_hspnet.errors import InputError
from napari_hspnet.networks.architecture import Architecture
from napari_hspnet.networks.base import MIN_SIDE
from napari_hspnet.networks.hspnet import encoder_channels

__all__ = ["TapRow", "dead_taps", "map_sides", "window_aware"]


@dataclass(frozen=True)
class TapRow:
    """The taps of one atrous convolution at one window.

    Attributes
    ----------
    block : int
        DS-Block, 1 to 5.
    side : int
        Cells along a side of its map.
    dilation : int
        Cells between taps.
    weights : int
        Parameters of one of its nine taps, c times c'.
    """

    block: int
    side: int
    dilation: int
    weights: int

    @property
    def shares(self) -> tuple[tuple[float, ...], ...]:
        """For what share of positions each of the 3 x 3 taps meets the map, 0 to 1."""
        off = max(0, self.side - self.dilation) / self.side
        axis = (off, 1.0, off)
        return tuple(tuple(y * x for x in axis) for y in axis)

    @property
    def dead(self) -> int:
        """How many of the nine taps never meet anything but padding: none or eight."""
        return sum(share == 0 for row in self.shares for share in row)

    @property
    def dead_weights(self) -> int:
        """Parameters that cannot learn at this window."""
        return self.dead * self.weights

    def rarely(self, share: float) -> int:
        """Parameters of taps that meet the map for less than a share of positions.

        Dead ones are among them.
        """
        return self.weights * sum(s < share for row in self.shares for s in row)


def map_sides(window: int) -> tuple[int, int, int, int, int]:
    """Cells along a side of the maps that DS-Blocks 1 to 5 see.

    Parameters
    ----------
    window : int
        Side of the input in pixels.

    Raises
    ------
    InputError
        If the window is smaller than the network takes.
    """
    if isinstance(window, bool) or not isinstance(window, int) or window < MIN_SIDE:
        raise InputError(
            f"the window is {window!r}", advice=f"Give a whole number of {MIN_SIDE} or more"
        )
    e1, e2, e3, e4 = (-(-window // step) for step in (4, 8, 16, 32))
    return e1, e2, e3, e4, e1


def dead_taps(architecture: Architecture, window: int = 400) -> tuple[TapRow, ...]:
    """How often the atrous taps of each DS-Block meet anything but padding.

    Parameters
    ----------
    architecture : Architecture
        Of HSP-Net.
    window : int
        Side of the input in pixels.

    Returns
    -------
    tuple of TapRow
        One for each dilation of each DS-Block, in their order; none for blocks
        that an ablation replaced by a 1x1 convolution.

    Raises
    ------
    InputError
        If the architecture has no DS-Blocks or the window is too small.
    """
    _must_be_hspnet(architecture)
    *outer, _ = architecture.ds_widths
    c_ins = (*encoder_channels(architecture.encoder, architecture.encoder_widths), sum(outer))
    return tuple(
        TapRow(number, side, dilation, c_in * c_out)
        for number, (side, present, dilations, c_in, c_out) in enumerate(
            zip(
                map_sides(window),
                architecture.ds_blocks,
                architecture.ds_dilations,
                c_ins,
                architecture.ds_widths,
                strict=True,
            ),
            start=1,
        )
        if present
        for dilation in dilations
    )


def window_aware(architecture: Architecture, window: int = 400) -> Architecture:
    """The same network with dilations that fit the maps of a window.

    The rule: a tap one dilation away along an axis must be inside the map for at
    least half of the positions (then a corner tap is for at least a quarter), so
    the largest dilation is half the map's side, rounded down. A DS-Block whose
    dilations go beyond it has them scaled to that largest one in their old
    proportions, rounded, at least 1; the others keep theirs. At 400 px the
    paper's become (4, 8, 12) in DS-Block 3 and (2, 4, 6) in DS-Block 4.

    Weights keep their shapes and mean something else: a checkpoint of the one
    network is none of the other, and its architecture says which it is.

    Parameters
    ----------
    architecture : Architecture
        Of HSP-Net.
    window : int
        Side of the input in pixels that it will be trained on.

    Raises
    ------
    InputError
        If the architecture has no DS-Blocks or the window is too small.
    """
    _must_be_hspnet(architecture)
    return replace(
        architecture,
        ds_dilations=tuple(
            _fitted(dilations, side // 2)
            for dilations, side in zip(architecture.ds_dilations, map_sides(window), strict=True)
        ),
    )


def _fitted(dilations: tuple[int, ...], largest: int) -> tuple[int, ...]:
    if max(dilations) <= largest:
        return dilations
    return tuple(max(1, round(d * largest / max(dilations))) for d in dilations)


def _must_be_hspnet(architecture: Architecture) -> None:
    if architecture.name != "hspnet":
        raise InputError(
            f"the architecture {architecture.name} has no DS-Blocks",
            advice="Choose one of hspnet",
        )
