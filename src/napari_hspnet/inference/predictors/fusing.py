"""Convolution, bias, sum and ReLU of the folded network as one call of cuDNN's.

PyTorch launches a kernel for each, which moves the whole map through memory each
time. Off CUDA the modules here do the same with PyTorch's own functions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hspnet.inference.folding import FoldedDSBlock, FoldedHSPNet

__all__ = ["FusedBlock", "FusedConv", "fuse"]


class FusedConv(nn.Module):
    """A convolution and what follows it: ReLU, or a sum and ReLU.

    Parameters
    ----------
    conv : Conv2d
        Zero padding.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """(N, c, h, w) to (N, c', h', w'), the size of `other`."""
        conv = self.conv
        found: Tensor
        if not _on_cuda(x):
            found = conv(x)
            return F.relu_(found if other is None else found + other)
        how = (conv.stride, conv.padding, conv.dilation, conv.groups)
        ops: Any = torch
        if other is None:
            found = ops.cudnn_convolution_relu(x, conv.weight, conv.bias, *how)
        else:
            found = ops.cudnn_convolution_add_relu(x, conv.weight, other, 1.0, conv.bias, *how)
        return found


class FusedBlock(nn.Module):
    """A ResNet's block whose normalisations are folded.

    Parameters
    ----------
    block : BasicBlock or Bottleneck
        With `conv1`, `conv2`, perhaps `conv3`, and perhaps `downsample`.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        names = [name for name in ("conv1", "conv2", "conv3") if hasattr(block, name)]
        self.convs = nn.ModuleList(FusedConv(block.get_submodule(name)) for name in names)  # type: ignore[arg-type]
        shortcut = getattr(block, "downsample", None)
        self.shortcut = nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, h, w) to (N, c', h', w')."""
        *first, last = self.convs
        y = x
        for conv in first:
            y = conv(y)
        found: Tensor = last(y, self.shortcut(x))
        return found


def fuse(network: FoldedHSPNet) -> FoldedHSPNet:
    """Have a folded network do its convolutions with what follows them; returns it.

    The network is changed. Left alone are the atrous convolutions of DS-Block 5
    whose sums with others come before the ReLU.
    """
    encoder = network.encoder
    for name, stage in list(encoder.named_children()):
        if name.startswith("layer"):
            assert isinstance(stage, nn.Sequential)
            for index, block in enumerate(stage):
                stage[index] = FusedBlock(block)
    assert isinstance(encoder.conv1, nn.Conv2d)
    encoder.conv1 = FusedConv(encoder.conv1)
    encoder.relu = nn.Identity()
    joint = network.joint
    summed = joint.atrous if isinstance(joint, FoldedDSBlock) and joint.far is not None else ()
    apart = {id(branch) for branch in summed}
    parts = [
        part
        for root in (network.ds, network.joint, network.head)
        if root is not None
        for part in root.modules()
    ]
    for part in parts:
        if (
            isinstance(part, nn.Sequential)
            and id(part) not in apart
            and len(part) == 2
            and isinstance(part[0], nn.Conv2d)
            and isinstance(part[1], nn.ReLU)
        ):
            part[0], part[1] = FusedConv(part[0]), nn.Identity()
    return network.requires_grad_(False)


def _on_cuda(x: Tensor) -> bool:
    return x.is_cuda
