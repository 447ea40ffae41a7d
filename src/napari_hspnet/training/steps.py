"""One step of a training: micro-batches, precision, memory that runs out, cancelling.

A batch is cut into parts whose gradients are added up. Losses that average over
pixels then have the whole batch's gradient: each part counts as many pixels as it
has. Batch normalisation takes its statistics from a part alone, and so do losses of
overlap their pool; that is what parts change about a training.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_hspnet.errors import CancelledError, InputError, OutOfMemoryError
from napari_hspnet.training.loop import DivergedError, fast_bfloat16
from napari_hspnet.training.loss_terms import Loss, make_loss
from napari_hspnet.training.losses import IGNORE

__all__ = ["HALF_TYPES", "Precision", "Stepper", "choose_precision", "parts", "watched"]

Precision = Literal["float32", "bfloat16", "float16"]
Array = npt.NDArray[np.uint8]

HALF_TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""Torch's types of the precisions that are not float32."""


def choose_precision(name: str, device: torch.device) -> Precision:
    """The precision that a name comes to on a device.

    Parameters
    ----------
    name : str
        "auto", or one of `Precision`. "auto" is bfloat16 where the device computes in
        it, else float16 on CUDA, else float32.
    device : torch.device

    Raises
    ------
    InputError
        If there is no such precision.
    """
    if name in ("float32", "bfloat16", "float16"):
        return name  # type: ignore[return-value]
    if name != "auto":
        raise InputError(
            f"there is no precision {name!r}",
            advice="Choose auto, float32, bfloat16 or float16",
        )
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bfloat16" if native else "float16"
    return "bfloat16" if device.type == "cpu" and fast_bfloat16() else "float32"


class Stepper:
    """Takes the steps of a training.

    Parameters
    ----------
    network : nn.Module
        On its device, in training mode.
    optimizer : torch.optim.Optimizer
        Over its parameters; each group has its highest rate under ``"peak"``.
    loss : Loss
    precision : Precision
    mean, std : tuple of float
        Normalisation of RGB in 0 to 1.
    clip : float or None
        Largest norm of the gradient.
    micro_batch : int
        Patches in memory at once; 0 is the whole batch.
    cancel : threading.Event, optional
        Looked at in every layer.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Loss,
        precision: Precision,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        clip: float | None = None,
        micro_batch: int = 0,
        cancel: threading.Event | None = None,
    ) -> None:
        self.micro_batch = micro_batch
        """Patches in memory at once; smaller once memory ran out."""
        self._network = network
        self._optimizer = optimizer
        self._channels = loss.num_classes
        self._terms = [(t, make_loss([t], loss.num_classes)) for t in loss.terms]
        self._precision = precision
        self._clip = clip
        self._cancel = cancel
        self._device = next(network.parameters()).device
        divisor = torch.tensor(std, dtype=torch.float32)
        self._scale = (1 / (255 * divisor)).to(self._device)
        self._shift = (torch.tensor(mean, dtype=torch.float32) / divisor).to(self._device)
        self.scaler: Any = torch.amp.GradScaler(self._device.type, enabled=precision == "float16")
        """Of float16's gradients; does nothing otherwise."""

    def step(self, rgb: Array, labels: Array, factor: float) -> float:
        """Learn from a batch.

        Where it is cancelled or diverges, weights, batch normalisation and random
        numbers are as they were before.

        Parameters
        ----------
        rgb : ndarray of uint8, (N, side, side, 3)
        labels : ndarray of uint8, (N, side, side)
            0 to 4, 255 ignored.
        factor : float
            What rates are of their highest.

        Returns
        -------
        float
            The loss.

        Raises
        ------
        CancelledError
            If `cancel` was set.
        DivergedError
            If the loss is not finite.
        OutOfMemoryError
            If not even two patches fit.
        """
        value = self.gradient(rgb, labels)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        if self._clip is not None:
            self.scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._network.parameters(), self._clip)
        try:
            self.scaler.step(self._optimizer)
        except Exception as error:
            if not _out_of_memory(error):
                raise
            raise _too_large("Weights and optimiser do not") from error
        self.scaler.update()
        return value

    def gradient(self, rgb: Array, labels: Array) -> float:
        """Compute the gradient of a batch, and its loss; weights stay.

        Raises
        ------
        CancelledError, DivergedError, OutOfMemoryError
            As `step`.
        """
        before = _State(self._network, self._device)
        while True:
            try:
                value = self._accumulate(rgb, labels)
            except Exception as error:
                before.restore()
                if not _out_of_memory(error):
                    raise
                self._halve(len(rgb), error)
            else:
                break
        if not np.isfinite(value):
            before.restore()
            raise DivergedError(
                f"the training diverged: the loss is {value}",
                advice="Lower the learning rate, or set a clip; the last snapshot was kept",
            )
        return value

    def _accumulate(self, rgb: Array, labels: Array) -> float:
        self._optimizer.zero_grad(set_to_none=True)
        target = self._target(labels)
        wholes = [
            self._size(target, term.options.get("background", 1.0)) for term, _ in self._terms
        ]
        total = torch.zeros((), device=self._device)
        kind = HALF_TYPES.get(self._precision, torch.bfloat16)
        on = self._precision != "float32"
        with watched(self._network, self._stop):
            for part in parts(len(rgb), self.micro_batch):
                inputs = self._inputs(rgb[part])
                with torch.autocast(self._device.type, kind, enabled=on):
                    logits = self._network(inputs)
                logits, own = logits.float(), target[part]
                loss = torch.zeros((), device=self._device)
                for (term, one), whole in zip(self._terms, wholes, strict=True):
                    share = self._size(own, term.options.get("background", 1.0)) / whole
                    loss = loss + share * one(logits, own)
                self.scaler.scale(loss).backward()
                total += loss.detach()
        return float(total)

    def _inputs(self, rgb: Array) -> Tensor:
        """As `to_input`, but bytes cross to the device and are normalised there."""
        pixels = torch.from_numpy(rgb).to(self._device).float()
        return (pixels * self._scale - self._shift).permute(0, 3, 1, 2)

    def _target(self, labels: Array) -> Tensor:
        """As `to_target`, on the device."""
        target = torch.from_numpy(labels).to(self._device).long()
        if self._channels == 4:
            target = torch.where((target > 0) & (target != IGNORE), target - 1, IGNORE)
        return target

    def _size(self, target: Tensor, background: float) -> Tensor:
        """How much pixels count together, at least a little: nothing is divided by 0."""
        counted = target != IGNORE
        if background == 1 or self._channels != 5:
            return counted.sum().clamp(min=1).float()
        weight = (counted & (target > 0)).sum() + background * (target == 0).sum()
        return torch.where(weight > 0, weight, torch.ones_like(weight))

    def _halve(self, batch: int, error: Exception) -> None:
        now = len(parts(batch, self.micro_batch))
        smaller = -(-batch // min(2 * now, max(1, batch // 2)))
        if len(parts(batch, smaller)) <= now:
            raise _too_large(f"Not even {-(-batch // now)} patches at a time") from error
        # A traceback would keep the step's tensors alive.
        error.__traceback__ = None
        self.micro_batch = smaller
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _stop(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise CancelledError


def parts(batch: int, micro_batch: int) -> list[slice]:
    """A batch in parts of about equal size, none above `micro_batch`, none of one patch.

    Two patches are needed for batch normalisation: where `micro_batch` would leave one
    alone, parts are a little larger.
    """
    count = 1 if micro_batch < 1 else -(-batch // micro_batch)
    count = min(count, max(1, batch // 2))
    edges = [round(i * batch / count) for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in said or "can't allocate memory" in said
    )


def _too_large(what: str) -> OutOfMemoryError:
    return OutOfMemoryError(
        f"{what} fit into the device's memory",
        advice="Use a smaller network, smaller patches, or another device",
    )


class _State:
    """What a forward pass changes beside gradients: statistics and random numbers."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self._network = network
        self._device = device
        self._buffers = [b.detach().clone() for b in network.buffers()]
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @torch.no_grad()
    def restore(self) -> None:
        for own, kept in zip(self._network.buffers(), self._buffers, strict=True):
            own.copy_(kept)
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)
        for parameter in self._network.parameters():
            parameter.grad = None


@contextmanager
def watched(network: nn.Module, look: Callable[[], None]) -> Iterator[None]:
    """Look in every convolution, on the way there and back: a step can take a minute."""

    def hook(module: nn.Module, inputs: Sequence[Tensor], output: Tensor) -> None:
        look()
        if output.requires_grad:
            output.register_hook(lambda gradient: look())  # type: ignore[no-untyped-call]

    handles = [
        module.register_forward_hook(hook)
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        look()
        yield
    finally:
        for handle in handles:
            handle.remove()
