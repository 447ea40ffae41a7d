"""Networks of a library to compare with: U-Net, UNet++, DeepLab v3+.

They come from segmentation-models-pytorch (the extra ``baselines``), with our
calling convention around them. The library's encoders keep torchvision's names,
so that the ImageNet weights of HSP-Net's encoders fit them too; nothing is
downloaded.

The library's DeepLab v3+ has depthwise separable convolutions and, with
ResNet-101, 45.67 M parameters. The paper's Table 5 counts 59.34 M: that is what
full convolutions give, with two of them in the decoder and none behind the
pyramid. ``"deeplabv3plus_full"`` is that network; whether it is the paper's is
not said there.

Both take dilations 6, 12 and 18 on maps of a sixteenth, as DeepLab v3's authors
do. The library's default of 12, 24 and 36 is theirs for maps of an eighth: on the
25 cells of a 400 px window 36 would only meet padding, and 24 nearly so.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from napari_hspnet.errors import DependencyError
from napari_hspnet.networks.architecture import Architecture
from napari_hspnet.networks.base import Network, PooledNorm
from napari_hspnet.networks.torchvision_compat import torchvision_module

__all__ = ["LIBRARY_FAMILIES", "LibraryNetwork", "padded"]


class LibraryNetwork(Network):
    """A network of segmentation-models-pytorch that takes any side.

    Parameters
    ----------
    architecture : Architecture
        Of a family in `LIBRARY_FAMILIES`.

    Raises
    ------
    DependencyError
        If the library is not installed.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        model = LIBRARY_FAMILIES[architecture.name](_library(), architecture)
        self.architecture = architecture
        self.encoder: nn.Module = model.encoder
        self.decoder: nn.Module = model.decoder
        self.segmentation_head: nn.Module = model.segmentation_head
        self._multiple = int(model.encoder.output_stride)

    def forward(self, x: Tensor) -> Tensor:
        """Logits at the input's size, as `Network` says."""
        return padded(self._logits, x, self._multiple)

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.segmentation_head(self.decoder(self.encoder(x)))
        return logits


def padded(network: Callable[[Tensor], Tensor], x: Tensor, multiple: int) -> Tensor:
    """What a network that wants sides of a multiple says of a picture of any side.

    The picture is mirrored at its borders, as evenly on both sides as can be, and
    what was added is cut off the answer.

    Parameters
    ----------
    network : callable
        (N, 3, h, w) to (N, C, h, w) for sides that are multiples.
    x : Tensor
        (N, 3, h, w), h and w larger than half of `multiple`.
    multiple : int
        In pixels.

    Returns
    -------
    Tensor
        (N, C, h, w).
    """
    height, width = x.shape[2:]
    extra_h, extra_w = -height % multiple, -width % multiple
    if not extra_h and not extra_w:
        return network(x)
    top, left = extra_h // 2, extra_w // 2
    # Mirrored, since a border of one colour is a sharp edge that no tissue has.
    x = F.pad(x, (left, extra_w - left, top, extra_h - top), mode="reflect")
    return network(x)[:, :, top : top + height, left : left + width]


def _library() -> ModuleType:
    # First, because the library imports torchvision and would meet its error.
    torchvision_module("torchvision.models.resnet")
    try:
        return importlib.import_module("segmentation_models_pytorch")
    except ImportError as error:
        raise DependencyError(
            f"segmentation-models-pytorch cannot be imported ({error})",
            advice='Install it: pip install "napari-hspnet[baselines]"',
        ) from error


def _options(architecture: Architecture) -> dict[str, Any]:
    return {
        "encoder_name": architecture.encoder,
        "encoder_weights": None,
        "in_channels": 3,
        "classes": architecture.num_classes,
    }


def _deeplab_options(architecture: Architecture) -> dict[str, Any]:
    return {
        **_options(architecture),
        "encoder_output_stride": 16,
        "decoder_atrous_rates": (6, 12, 18),
    }


def _unet(library: Any, architecture: Architecture) -> Any:
    return library.Unet(**_options(architecture))


def _unetpp(library: Any, architecture: Architecture) -> Any:
    return library.UnetPlusPlus(**_options(architecture))


def _deeplabv3plus(library: Any, architecture: Architecture) -> Any:
    model = library.DeepLabV3Plus(**_deeplab_options(architecture))
    _mend_pooling(model.decoder.aspp[0])
    return model


def _deeplabv3plus_full(library: Any, architecture: Architecture) -> Any:
    model = library.DeepLabV3Plus(**_deeplab_options(architecture), decoder_aspp_separable=False)
    decoder = model.decoder
    pyramid = decoder.aspp[0]
    _mend_pooling(pyramid)
    # The library has one more separable convolution behind the pyramid.
    decoder.aspp = nn.Sequential(pyramid)
    separable, width = decoder.block2[0], decoder.block2[1].num_features
    decoder.block2 = nn.Sequential(*_full(separable[0].in_channels, width), *_full(width, width))
    for module in decoder.block2.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_uniform_(module.weight, mode="fan_in", nonlinearity="relu")
    return model


def _full(c_in: int, c_out: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()


def _mend_pooling(pyramid: Any) -> None:
    # A batch of one, as fine-tuning has it, cannot be normalised behind pooling.
    pooling = pyramid.convs[-1]
    for index, module in enumerate(pooling):
        if isinstance(module, nn.BatchNorm2d):
            pooling[index] = PooledNorm(module.num_features)


LIBRARY_FAMILIES: dict[str, Callable[[Any, Architecture], Any]] = {
    "unet": _unet,
    "unetpp": _unetpp,
    "deeplabv3plus": _deeplabv3plus,
    "deeplabv3plus_full": _deeplabv3plus_full,
}
