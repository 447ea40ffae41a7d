"""The network on a device: uint8 windows in, softmax values out."""

from __future__ import annotations

import threading
from types import TracebackType

import torch
from torch import nn

from napari_hspnet.errors import CancelledError, OutOfMemoryError

__all__ = ["Forward"]

_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class Forward:
    """A network made ready for one run; a context manager that undoes it.

    Parameters
    ----------
    network : Module
        (n, 3, h, w) float32 normalised -> logits (n, c, h, w).
    mean, std : tuple of float
        Of the model card, for RGB in 0 to 1.
    device : torch.device
        Where to run.
    precision : str
        See `Settings`.
    cancel : threading.Event
        Looked at before every layer, since one window of a large network can
        take a CPU longer than a user should wait.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        precision: str,
        cancel: threading.Event,
    ) -> None:
        self._network = network
        self._device = device
        self._dtype = _PRECISIONS.get(precision)
        self._cancel = cancel
        scale = 1.0 / (255.0 * torch.tensor(std, dtype=torch.float32))
        self._scale = scale.to(device).view(1, 3, 1, 1)
        shift = -torch.tensor(mean, dtype=torch.float32) / torch.tensor(std, dtype=torch.float32)
        self._shift = shift.to(device).view(1, 3, 1, 1)
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Forward:
        def stop_if_cancelled(*_: object) -> None:
            if self._cancel.is_set():
                raise CancelledError

        self._network.eval().to(self._device)
        # Made in inference mode, they could never be trained again.
        with torch.inference_mode(False), torch.no_grad():
            for parameter in self._network.parameters():
                if parameter.dim() == 4:
                    parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self._hooks = [
            module.register_forward_pre_hook(stop_if_cancelled)
            for module in self._network.modules()
            if not any(True for _ in module.children())
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def __call__(self, windows: torch.Tensor) -> torch.Tensor:
        """Softmax values of a batch.

        Parameters
        ----------
        windows : Tensor (n, h, w, 3), uint8
            RGB, on the host.

        Returns
        -------
        Tensor (n, c, h, w), float32
            On the device.

        Raises
        ------
        OutOfMemoryError
            If the batch does not fit; the caller tries a smaller one.
        CancelledError
            If the run was cancelled meanwhile.
        """
        try:
            # A permuted (n, h, w, 3) tensor is channels_last already: no copy.
            batch = windows.to(self._device, non_blocking=True).permute(0, 3, 1, 2)
            inputs = batch.float().mul_(self._scale).add_(self._shift)
            logits = self._logits(inputs)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemoryError(
                f"The model does not fit the memory of {self._device}",
                advice="Close other programs, or run on another device",
            ) from error
        return logits.softmax(dim=1)

    def _logits(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._dtype is None:
            return _tensor(self._network(inputs)).float()
        with torch.autocast(self._device.type, dtype=self._dtype):
            logits = _tensor(self._network(inputs)).float()
        # Half precision overflows on some stains: such windows are run again.
        finite = torch.isfinite(logits).flatten(1).all(dim=1)
        if not bool(finite.all()):
            logits[~finite] = _tensor(self._network(inputs[~finite])).float()
        return logits


def _tensor(value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"a network must return a tensor of logits, not {type(value).__name__}")
    return value


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower()
    )
