"""PyTorch layer by layer: the network as it is, and the folded one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_hspnet.errors import CancelledError
from napari_hspnet.inference.folding import FoldedHSPNet, Savings, fold, fold_scale
from napari_hspnet.inference.predictors.base import Predictor, Subject, as_logits
from napari_hspnet.networks import HSPNet

__all__ = [
    "Eager",
    "Folded",
    "FoldedChannelsLast",
    "FoldedWinograd",
    "centred",
    "folded_network",
    "mean_of",
    "why_not_folded",
]

_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class Eager(Predictor):
    """The network as it is: what all others are measured by and fall back to.

    It is cancelled before every layer, since one window of a large network can
    take a CPU longer than a user should wait.
    """

    name = "eager"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._dtype = _PRECISIONS.get(subject.precision)
        std = torch.tensor(subject.std, dtype=torch.float32)
        scale = 1.0 / (255.0 * std)
        self._scale = scale.to(subject.device).view(1, 3, 1, 1)
        shift = -torch.tensor(subject.mean, dtype=torch.float32) / std
        self._shift = shift.to(subject.device).view(1, 3, 1, 1)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    @classmethod
    def available(cls, subject: Subject) -> str | None:
        """Always."""
        return None

    def _open(self) -> None:
        network = self.subject.network.eval()
        # Made in inference mode, its tensors could never be trained again.
        with torch.inference_mode(False), torch.no_grad():
            network.to(self.device)
            _lay_out(network, torch.channels_last)
        self._hooks = _stops(network, self.subject)

    def _close(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _run(self, windows: Tensor) -> Tensor:
        # A permuted (n, h, w, 3) tensor is channels_last already: no copy.
        batch = windows.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        inputs = batch.float().mul_(self._scale).add_(self._shift)
        network = self.subject.network
        if self._dtype is None:
            return as_logits(network(inputs))
        with torch.autocast(self.device.type, dtype=self._dtype):
            logits = as_logits(network(inputs))
        # Half precision overflows on some stains: such windows are run again.
        finite = torch.isfinite(logits).flatten(1).all(dim=1)
        if not bool(finite.all()):
            logits[~finite] = as_logits(network(inputs[~finite]))
        return logits


class Folded(Predictor):
    """The folded network, layer by layer; cancelled before every layer."""

    name = "folded"
    _format: torch.memory_format = torch.contiguous_format
    _savings = Savings()

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._network: FoldedHSPNet | None = None
        self._mean = mean_of(subject)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    @classmethod
    def available(cls, subject: Subject) -> str | None:
        """For HSP-Net, in float32."""
        return why_not_folded(subject)

    def _open(self) -> None:
        self._network = folded_network(self.subject, self._savings)
        with torch.inference_mode(False), torch.no_grad():
            _lay_out(self._network, self._format)
        self._hooks = _stops(self._network, self.subject)

    def _close(self) -> None:
        self._hooks = []
        self._network = None

    def _run(self, windows: Tensor) -> Tensor:
        assert self._network is not None
        inputs = centred(windows, self._mean)
        return as_logits(self._network(inputs.contiguous(memory_format=self._format)))


class FoldedChannelsLast(Folded):
    """`Folded`, with the channels of a pixel side by side in memory."""

    name = "folded-channels-last"
    _format = torch.channels_last


class FoldedWinograd(FoldedChannelsLast):
    """`FoldedChannelsLast`, with fewer multiplications and more memory moved."""

    name = "folded-winograd"
    _savings = Savings(winograd=True)


def why_not_folded(subject: Subject) -> str | None:
    """Why the folded network cannot stand in for the subject's; None if it can."""
    if subject.precision != "float32":
        return "only float32 is the same function"
    if not isinstance(subject.network, HSPNet):
        return "folding knows HSP-Net alone"
    if subject.window is None:
        return "the size of the windows is not known"
    return None


def folded_network(subject: Subject, savings: Savings | None = None) -> FoldedHSPNet:
    """The folded network on the subject's device; takes RGB from which `mean_of` was taken."""
    network = fold(subject.network, subject.window, savings).to(subject.device)
    fold_scale(network, 1.0 / (255.0 * torch.tensor(subject.std, dtype=torch.float64)))
    return network


def mean_of(subject: Subject) -> Tensor:
    """(1, 3, 1, 1), mean RGB in 0 to 255, on the device."""
    mean = 255.0 * torch.tensor(subject.mean, dtype=torch.float32)
    return mean.to(subject.device).view(1, 3, 1, 1)


def centred(windows: Tensor, mean: Tensor) -> Tensor:
    """uint8 (n, h, w, 3) as float32 (n, 3, h, w) less `mean`, on its device, channels last."""
    return windows.to(mean.device, non_blocking=True).permute(0, 3, 1, 2).float().sub_(mean)


def _lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory_format)


def _stops(network: nn.Module, subject: Subject) -> list[torch.utils.hooks.RemovableHandle]:
    def stop_if_cancelled(*_: object) -> None:
        if subject.cancel.is_set():
            raise CancelledError

    return [
        module.register_forward_pre_hook(stop_if_cancelled)
        for module in network.modules()
        if not any(True for _ in module.children())
    ]
