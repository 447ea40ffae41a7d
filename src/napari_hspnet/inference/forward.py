"""The network on a device: uint8 windows in, logits or softmax values out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

import torch
from torch import nn

from napari_hspnet.inference.predictors import Eager, Predictor, Subject

__all__ = ["Forward"]


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
        self._predictor: Predictor = Eager(
            Subject(network, mean, std, None, device, precision, cancel)
        )

    @classmethod
    def of(cls, predictor: Predictor) -> Forward:
        """Softmax values of any back end's logits; enters and leaves it."""
        made = cls.__new__(cls)
        made._predictor = predictor
        return made

    def __enter__(self) -> Forward:
        self._predictor.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._predictor.__exit__(kind, error, trace)

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
        return self.logits(windows).softmax(dim=1)

    def logits(self, windows: torch.Tensor) -> torch.Tensor:
        """What the softmax values are of; otherwise as calling it."""
        return self._predictor(windows)

    @property
    def ahead(self) -> bool:
        """Whether `begin` comes back before the work is done."""
        return self._predictor.ahead

    def begin(self, windows: torch.Tensor) -> Callable[[], torch.Tensor]:
        """As `logits`, had later; see `Predictor.begin`."""
        return self._predictor.begin(windows)
