"""FCN-32s and FCN-16s on VGG-16.

Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic
Segmentation" (2015), with up-sampling that is learned in five steps of two and
without VGG's fully connected layers. HSP-Net's Table 5 counts 18.64 M parameters
for both; this form has 18.64 M, the original with its 4096 channels had 134 M.
Which implementation was used is not said there. No library at hand has one.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from napari_hspnet.networks.architecture import Architecture
from napari_hspnet.networks.base import Network
from napari_hspnet.networks.baselines import padded
from napari_hspnet.networks.torchvision_compat import torchvision_module

__all__ = ["FCN"]

# Channels behind the fifth pooling, then after each doubling.
_WIDTHS = (512, 512, 256, 128, 64, 32)


class _Up(nn.Module):
    """Twice the side: a transposed convolution, ReLU, what is added, normalisation."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(c_in, c_out, 3, stride=2, padding=1, output_padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor, skipped: Tensor | None = None) -> Tensor:
        x = self.relu(self.conv(x))
        normalised: Tensor = self.norm(x if skipped is None else x + skipped)
        return normalised


class FCN(Network):
    """FCN-32s or FCN-16s.

    Parameters
    ----------
    architecture : Architecture
        ``"fcn32s"`` works on VGG's last map alone, ``"fcn16s"`` adds the one
        before it, of twice its side.

    Raises
    ------
    DependencyError
        If torchvision, which has VGG-16, cannot be imported.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        # Not all of VGG-16: its classifier is eight times as large, and not wanted.
        library = torchvision_module("torchvision.models.vgg")
        features = library.make_layers(library.cfgs["D"], batch_norm=False)
        for module in features:
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.encoder: nn.Module = features
        pools = [i for i, m in enumerate(features) if isinstance(m, nn.MaxPool2d)]
        self._fourth_pool = pools[3]
        self.up = nn.ModuleList(_Up(a, b) for a, b in pairwise(_WIDTHS))
        self.classify = nn.Conv2d(_WIDTHS[-1], architecture.num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits at the input's size, as `Network` says."""
        return padded(self._logits, x, 32)

    def _logits(self, x: Tensor) -> Tensor:
        skipped = None
        for index, layer in enumerate(self.encoder.children()):
            x = layer(x)
            if index == self._fourth_pool and self.architecture.name == "fcn16s":
                skipped = x
        first, *others = self.up
        x = first(x, skipped)
        for up in others:
            x = up(x)
        logits: Tensor = self.classify(x)
        return logits
