"""PyTorch layer by layer: the network as it is, and the folded one."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from napari_hspnet.errors import CancelledError
from napari_hspnet.inference.folding import FoldedHSPNet, Savings, fold, fold_scale
from napari_hspnet.inference.predictors.base import Predictor, Subject, as_logits
from napari_hspnet.inference.predictors.precision import dtype_of
from napari_hspnet.networks import HSPNet

__all__ = [
    "Again",
    "Eager",
    "Folded",
    "FoldedChannelsLast",
    "FoldedWinograd",
    "centred",
    "finite_windows",
    "folded_network",
    "lay_out",
    "mean_of",
    "why_not_folded",
]


class Eager(Predictor):
    """The network as it is: what all others are measured by and fall back to.

    It is cancelled before every layer, since one window of a large network can
    take a CPU longer than a user should wait.
    """

    name = "eager"

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._dtype = dtype_of(subject.precision)
        std = torch.tensor(subject.std, dtype=torch.float32)
        scale = 1.0 / (255.0 * std)
        self._scale = scale.to(subject.device)
        shift = -torch.tensor(subject.mean, dtype=torch.float32) / std
        self._shift = shift.to(subject.device)
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
            lay_out(network, torch.channels_last)
        self._hooks = _stops(network, self.subject)

    def _close(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _run(self, windows: Tensor) -> Tensor:
        rows = in_rows(windows, self.device)
        width = windows.shape[2]
        rows.mul_(self._scale.repeat(width)).add_(self._shift.repeat(width))
        inputs = from_rows(rows)
        network = self.subject.network
        if self._dtype is torch.float32:
            return as_logits(network(inputs))
        with torch.autocast(self.device.type, dtype=self._dtype):
            logits = as_logits(network(inputs))
        # Half precision overflows on some stains: such windows are run again.
        finite = finite_windows(logits)
        if not bool(finite.all()):
            logits[~finite] = as_logits(network(inputs[~finite]))
        return logits


class Folded(Predictor):
    """The folded network, layer by layer; cancelled before every layer.

    In 16 bits, as there weights and all between layers are, its values differ from
    the plain network's of that precision, about as much as those do from float32.
    """

    name = "folded"
    _format: torch.memory_format = torch.contiguous_format
    _savings = Savings()
    _halves = True

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._network: FoldedHSPNet | None = None
        self._mean = mean_of(subject)
        self._dtype = dtype_of(subject.precision)
        self._again = Again(subject)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    @classmethod
    def available(cls, subject: Subject) -> str | None:
        """For HSP-Net."""
        return why_not_folded(subject, cls._halves)

    def _open(self) -> None:
        self._network = folded_network(self.subject, self._savings)
        with torch.inference_mode(False), torch.no_grad():
            lay_out(self._network, self._format)
        self._hooks = _stops(self._network, self.subject)

    def _close(self) -> None:
        self._hooks = []
        self._network = None
        self._again.close()

    def _run(self, windows: Tensor) -> Tensor:
        assert self._network is not None
        inputs = centred(windows, self._mean).to(self._dtype)
        logits = as_logits(self._network(inputs.contiguous(memory_format=self._format)))
        if self._dtype is torch.float32:
            return logits
        return self._again.mended(logits, finite_windows(logits), windows)


class FoldedChannelsLast(Folded):
    """`Folded`, with the channels of a pixel side by side in memory."""

    name = "folded-channels-last"
    _format = torch.channels_last


class FoldedWinograd(FoldedChannelsLast):
    """`FoldedChannelsLast`, with fewer multiplications and more memory moved."""

    name = "folded-winograd"
    _savings = Savings(winograd=True)
    # Its transforms add and subtract large values: 11 bits are too few.
    _halves = False


class Again:
    """Windows that overflowed in 16 bits, run again in float32 by the plain network.

    Parameters
    ----------
    subject : Subject
        Whose network is made ready when the first such window is met.
    """

    def __init__(self, subject: Subject) -> None:
        self._subject = replace(subject, precision="float32")
        self._plain: Eager | None = None

    def mended(self, logits: Tensor, finite: Tensor, windows: Tensor) -> Tensor:
        """The same logits, those of windows that are not `finite` had anew.

        Parameters
        ----------
        logits : Tensor (n, c, h, w), float32
            Is changed.
        finite : Tensor (n,), bool
            See `finite_windows`.
        windows : Tensor (n, h, w, 3), uint8
        """
        if bool(finite.all()):
            return logits
        if self._plain is None:
            plain = Eager(self._subject)
            plain.__enter__()
            self._plain = plain
        logits[~finite] = self._plain(windows[~finite.to(windows.device)])
        return logits

    def close(self) -> None:
        """Leave the network as it was."""
        if self._plain is not None:
            self._plain.__exit__(None, None, None)
            self._plain = None


def finite_windows(logits: Tensor) -> Tensor:
    """Of which windows all logits are finite, (n,) bool, from (n, c, h, w)."""
    return torch.isfinite(logits).flatten(1).all(dim=1)


def why_not_folded(subject: Subject, halves: bool = False) -> str | None:
    """Why the folded network cannot stand in for the subject's; None if it can.

    Parameters
    ----------
    subject : Subject
        What is to be run.
    halves : bool
        Whether the back end knows what to do with 16 bits.
    """
    if subject.precision != "float32" and not halves:
        return "only for float32"
    if not isinstance(subject.network, HSPNet):
        return "folding knows HSP-Net alone"
    if subject.window is None:
        return "the size of the windows is not known"
    return None


def folded_network(subject: Subject, savings: Savings | None = None) -> FoldedHSPNet:
    """The folded network on the subject's device; takes RGB from which `mean_of` was taken.

    Folded in float64, rounded to the dtype of the subject's precision.
    """
    # Laid out anew, parameters made in inference mode are neither one kind nor the other:
    # in 16 bits some processors' convolutions refuse them.
    with torch.inference_mode(False), torch.no_grad():
        network = fold(subject.network, subject.window, savings).to(subject.device)
        fold_scale(network, 1.0 / (255.0 * torch.tensor(subject.std, dtype=torch.float64)))
        return network.to(dtype_of(subject.precision))


def mean_of(subject: Subject) -> Tensor:
    """(3,), mean RGB in 0 to 255, on the device."""
    mean = 255.0 * torch.tensor(subject.mean, dtype=torch.float32)
    return mean.to(subject.device)


def centred(windows: Tensor, mean: Tensor) -> Tensor:
    """uint8 (n, h, w, 3) as float32 (n, 3, h, w) less `mean`, on its device, channels last."""
    rows = in_rows(windows, mean.device)
    return from_rows(rows.sub_(mean.repeat(windows.shape[2])))


def in_rows(windows: Tensor, device: torch.device) -> Tensor:
    """uint8 (n, h, w, 3) as float32 (n, h, 3 w), on the device.

    A value for each channel, repeated along a row, is taken from these in less than half
    the time that it takes where the last axis has three entries.
    """
    return windows.to(device, non_blocking=True).flatten(2).float()


def from_rows(rows: Tensor) -> Tensor:
    """(n, h, 3 w) as (n, 3, h, w): channels last already, no copy."""
    return rows.view(*rows.shape[:2], -1, 3).permute(0, 3, 1, 2)


def lay_out(network: nn.Module, memory_format: torch.memory_format) -> None:
    """Have a network's weights in a memory format; buffers stay as they are."""
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
