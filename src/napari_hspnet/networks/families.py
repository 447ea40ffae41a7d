"""One way to build every network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from napari_hspnet.networks.architecture import Architecture
from napari_hspnet.networks.base import Network
from napari_hspnet.networks.baselines import LIBRARY_FAMILIES, LibraryNetwork
from napari_hspnet.networks.fcn import FCN
from napari_hspnet.networks.hspnet import HSPNet

__all__ = ["build"]


def build(architecture: Architecture, weights: Mapping[str, Tensor] | None = None) -> Network:
    """A network of this architecture, in training mode.

    Parameters
    ----------
    architecture : Architecture
        Of any family.
    weights : mapping of str to Tensor, optional
        ImageNet weights for the encoder
        (see `napari_hspnet.networks.weights.imagenet_weights`); random numbers
        without.

    Returns
    -------
    Network
        On the default device, float32.

    Raises
    ------
    DependencyError
        If a library that has the network or its encoder cannot be imported.
    CheckpointError
        If `weights` do not fit the encoder.
    """
    network = _build(architecture)
    if weights is not None:
        from napari_hspnet.networks.weights import load_encoder_weights

        load_encoder_weights(network.encoder, weights, architecture.encoder)
    return network


def _build(architecture: Architecture) -> Network:
    if architecture.name in LIBRARY_FAMILIES:
        return LibraryNetwork(architecture)
    if architecture.name in ("fcn32s", "fcn16s"):
        return FCN(architecture)
    return HSPNet(
        encoder=architecture.encoder,
        num_classes=architecture.num_classes,
        ds_blocks=architecture.ds_blocks,
        ds_widths=architecture.ds_widths,
        head_widths=architecture.head_widths,
        encoder_widths=architecture.encoder_widths,
        ds_dilations=architecture.ds_dilations,
    )
