"""A running mean of a network's weights, steadier than any one step."""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["WeightAverage"]


class WeightAverage:
    """Exponential moving average of weights and of batch normalisation's statistics.

    Parameters
    ----------
    network : nn.Module
        What is trained; its present weights are the first mean.
    decay : float
        How much of the mean a step leaves, 0 to below 1. The first steps leave
        less, so that the random start is soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        """The averaged network."""
        self._decay = decay
        self._steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        self._steps += 1
        share = 1 - min(self._decay, (1 + self._steps) / (10 + self._steps))
        means, values = self.network.state_dict(), network.state_dict()
        floats = [key for key, mean in means.items() if mean.is_floating_point()]
        torch._foreach_lerp_([means[k] for k in floats], [values[k] for k in floats], share)
        for key in means.keys() - set(floats):
            means[key].copy_(values[key])

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        """Give a network the averaged weights."""
        for key, value in network.state_dict().items():
            value.copy_(self.network.state_dict()[key])
