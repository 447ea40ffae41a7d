"""HSP-Net: hierarchical spatial pyramids on a ResNet encoder.

Meng, Zhao, Su, Guo, "Hierarchical Spatial Pyramid Network for cervical
precancerous segmentation by reconstructing deep segmentation networks",
sections 3.1 to 3.3. Two things in the paper do not add up:

* DS-Block 5 works on the concatenation of the other four (equation 1), which
  has 32 + 64 + 128 + 256 = 480 channels; the paper's table says 256. The formula
  is followed, because the text also demands c' < c, which 256 -> 256 breaks.
* The paper counts 69.70 M parameters with ResNet-101. This design, taken
  literally (no bias before batch normalisation, no ImageNet classifier), has
  68.22 M; what makes the difference is not said there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hspnet.errors import InputError
from napari_hspnet.networks.architecture import (
    PAPER_DILATIONS,
    PAPER_DS_WIDTHS,
    PAPER_HEAD_WIDTHS,
    SMALL_ENCODER_WIDTHS,
    Architecture,
)
from napari_hspnet.networks.base import Network, PooledNorm

__all__ = ["DSBlock", "Encoder", "HSPNet", "encoder_channels"]


def _conv(c_in: int, c_out: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class DSBlock(nn.Module):
    """Down-sampling block (section 3.2, Figure 3).

    Five branches in parallel: global average pooling, a 1x1 convolution and
    three atrous 3x3 convolutions, of dilation 6, 12 and 18 in the paper;
    concatenated and reduced by a 1x1 convolution.

    Parameters
    ----------
    c_in, c_out : int
        Channels in (c) and out (c'); each branch gives c' channels.
    dilations : sequence of int
        Of the atrous convolutions.

    Notes
    -----
    With windows of 400 px the fourth block sees 13 x 13 cells, where every
    off-centre tap of dilation 18 only meets padding. These weights never learn,
    and come alive if a larger window is fed: see
    `napari_hspnet.networks.dilations`.
    """

    def __init__(self, c_in: int, c_out: int, dilations: Sequence[int] = PAPER_DILATIONS) -> None:
        super().__init__()
        self.pool = nn.Sequential(
            nn.Conv2d(c_in, c_out, 1, bias=False), PooledNorm(c_out), nn.ReLU(inplace=True)
        )
        self.point = _conv(c_in, c_out)
        self.atrous = nn.ModuleList(_conv(c_in, c_out, 3, d) for d in dilations)
        self.reduce = _conv((2 + len(dilations)) * c_out, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, h, w) to (N, c', h, w)."""
        pooled: Tensor = self.pool(x.mean((2, 3), keepdim=True))
        branches = [pooled.expand(-1, -1, x.shape[2], x.shape[3]), self.point(x)]
        branches += [branch(x) for branch in self.atrous]
        reduced: Tensor = self.reduce(torch.cat(branches, 1))
        return reduced


class Encoder(nn.Module):
    """A ResNet without its last pooling and classifier (section 3.1).

    Its parameters keep torchvision's names, so that official weights load as
    they are.

    Parameters
    ----------
    name : str
        One of `napari_hspnet.networks.architecture.ENCODERS`.
    widths : sequence of int
        Channels of the four stages of ``"small"``; ignored by the others.
    """

    def __init__(self, name: str, widths: Sequence[int] = SMALL_ENCODER_WIDTHS) -> None:
        super().__init__()
        from napari_hspnet.networks.torchvision_compat import torchvision_resnet

        library = torchvision_resnet()
        if name == "small":
            self._build_small(library.BasicBlock, widths)
            return
        resnet = getattr(library, name)(weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = (
            resnet.conv1,
            resnet.bn1,
            resnet.relu,
            resnet.maxpool,
        )
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3, self.layer4 = resnet.layer3, resnet.layer4
        self.channels = tuple(encoder_channels(name))

    def _build_small(self, block: Any, widths: Sequence[int]) -> None:
        self.conv1 = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        c_in = widths[0]
        for stage, width in enumerate(widths, start=1):
            stride = 1 if stage == 1 else 2
            shortcut = None
            if stride != 1 or c_in != width:
                shortcut = nn.Sequential(
                    nn.Conv2d(c_in, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
                )
            setattr(self, f"layer{stage}", nn.Sequential(block(c_in, width, stride, shortcut)))
            c_in = width
        self.channels = tuple(widths)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, 3, h, w) to E1 … E4, sides h/4, h/8, h/16, h/32 rounded up."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        e1 = self.layer1(x)
        e2 = self.layer2(e1)
        e3 = self.layer3(e2)
        return e1, e2, e3, self.layer4(e3)


def encoder_channels(
    name: str, widths: Sequence[int] = SMALL_ENCODER_WIDTHS
) -> tuple[int, int, int, int]:
    """Channels of E1 to E4."""
    if name == "small":
        a, b, c, d = widths
        return a, b, c, d
    return (256, 512, 1024, 2048) if name in ("resnet50", "resnet101") else (64, 128, 256, 512)


class HSPNet(Network):
    """HSP-Net (sections 3.1 to 3.3).

    Parameters
    ----------
    encoder : str
        ``"resnet34"`` or ``"resnet101"`` in the paper; also ``"resnet18"``,
        ``"resnet50"`` and ``"small"``.
    num_classes : int
        5 with background, 4 without.
    ds_blocks : sequence of bool
        Which of DS-Blocks 1 to 5 there are; a single 1x1 convolution stands in
        for each of the others (Table 3).
    width : float
        Multiplies the paper's channels of DS-Blocks and head.
    ds_widths, head_widths, encoder_widths : sequence of int, optional
        Say them one by one instead.
    ds_dilations : sequence of sequence of int
        Three for each of DS-Blocks 1 to 5.
    weights : mapping of str to Tensor, optional
        ImageNet weights for the encoder
        (see `napari_hspnet.networks.weights.imagenet_weights`).

    Raises
    ------
    InputError
        If an option cannot make a network.
    CheckpointError
        If `weights` do not fit the encoder.
    """

    def __init__(
        self,
        encoder: str = "resnet34",
        num_classes: int = 5,
        ds_blocks: Sequence[bool] = (True,) * 5,
        width: float = 1.0,
        *,
        ds_widths: Sequence[int] | None = None,
        head_widths: Sequence[int] | None = None,
        encoder_widths: Sequence[int] = SMALL_ENCODER_WIDTHS,
        ds_dilations: Sequence[Sequence[int]] = (PAPER_DILATIONS,) * 5,
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if not 0 < width < 100:
            raise InputError(f"width is {width}", advice="Give a positive factor such as 0.5")

        def scaled(paper: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(max(1, round(c * width)) for c in paper)

        self.architecture = Architecture(
            encoder=encoder,
            num_classes=num_classes,
            ds_blocks=tuple(ds_blocks),
            ds_widths=tuple(ds_widths or scaled(PAPER_DS_WIDTHS)),
            head_widths=tuple(head_widths or scaled(PAPER_HEAD_WIDTHS)),
            encoder_widths=tuple(encoder_widths),
            ds_dilations=tuple(map(tuple, ds_dilations)),
        )
        arch = self.architecture
        self.encoder = Encoder(encoder, arch.encoder_widths)
        *outer, last = arch.ds_widths
        # Equation 1 gives DS-Block 5 the sum of the four others, 480 channels in
        # the paper's widths, where the paper's table says 256.
        c_ins = (*encoder_channels(encoder, arch.encoder_widths), sum(outer))
        self.ds = nn.ModuleList(
            DSBlock(c_in, c_out, dilations) if present else _conv(c_in, c_out)
            for c_in, c_out, present, dilations in zip(
                c_ins, arch.ds_widths, arch.ds_blocks, arch.ds_dilations, strict=True
            )
        )
        first, second = arch.head_widths
        final = nn.Conv2d(second, num_classes, 3, padding=1)
        self.head = nn.Sequential(_conv(last, first, 3), _conv(first, second, 3), final)
        for part in (self.ds, self.head):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # Training starts from nearly equal scores, not from confident nonsense.
        nn.init.normal_(final.weight, std=0.01)
        if final.bias is not None:
            nn.init.zeros_(final.bias)
        if weights is not None:
            from napari_hspnet.networks.weights import load_encoder_weights

            load_encoder_weights(self.encoder, weights, encoder)

    def forward(self, x: Tensor) -> Tensor:
        """Logits at the input's size, as `Network` says."""
        *deep, joint = self.ds
        maps = self.encoder(x)
        # E2 to E4 need not be 2, 4 and 8 times smaller than E1 (100, 50, 25, 13 at
        # 400 px): each is brought to E1's size, not multiplied by a factor.
        size = maps[0].shape[2:]
        levels = [deep[0](maps[0])]
        for block, level in zip(deep[1:], maps[1:], strict=True):
            levels.append(_resize(block(level), size))
        logits: Tensor = self.head(joint(torch.cat(levels, 1)))
        return _resize(logits, x.shape[2:])


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=False)
