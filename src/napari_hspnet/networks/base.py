"""What every network here is, and the parts that several share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from napari_hspnet.networks.architecture import Architecture

__all__ = ["MIN_SIDE", "Network", "PooledNorm", "parameter_count"]

MIN_SIDE = 64


class Network(nn.Module):
    """A network of this package: normalised RGB in, logits of the same size out.

    Attributes
    ----------
    architecture : Architecture
        How to build it again.
    encoder : nn.Module
        What ImageNet weights fit, and what learns at a rate of its own.
    """

    architecture: Architecture
    encoder: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Logits at the input's size.

        Parameters
        ----------
        x : Tensor
            (N, 3, h, w) float, normalised RGB; h and w 64 or more, no multiple
            of 32 needed.

        Returns
        -------
        Tensor
            (N, num_classes, h, w).
        """
        raise NotImplementedError


class PooledNorm(nn.BatchNorm2d):
    """Batch normalisation behind global pooling, where a batch of one has no variance.

    In training a single value a channel cannot be normalised by itself (torch
    raises); the running statistics stand in, so that fine-tuning on one large
    window at a time works.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(x)


def parameter_count(network: nn.Module) -> int:
    """How many numbers of a network are learned."""
    return sum(p.numel() for p in network.parameters())
