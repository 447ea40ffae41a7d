"""What every back end is: uint8 windows in, logits out."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar

import torch
from torch import Tensor, nn

from napari_hspnet.errors import OutOfMemoryError

__all__ = ["Predictor", "Subject", "as_logits", "is_out_of_memory", "out_of_memory"]


@dataclass(frozen=True)
class Subject:
    """What is to be run, and where.

    Attributes
    ----------
    network : Module
        (n, 3, h, w) float32 normalised -> logits (n, c, h, w).
    mean, std : tuple of float
        Of the model card, for RGB in 0 to 1.
    window : int or None
        Side in pixels of all windows to come; None if it is not known, which
        only `Eager` can do without.
    device : torch.device
        Where to run.
    precision : str
        See `Settings`.
    cancel : threading.Event
        Ends a call with `CancelledError` when set.
    """

    network: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    window: int | None
    device: torch.device
    precision: str
    cancel: threading.Event


class Predictor(ABC):
    """A network made ready for one run; a context manager that undoes it.

    Not for several threads at once. Every predictor of a subject gives the same
    logits but for rounding.

    Attributes
    ----------
    name : str
        As users and records write it.
    patience : float
        Seconds that getting ready may take, about, on a slow machine.
    """

    name: ClassVar[str]
    patience: ClassVar[float] = 1.0

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @classmethod
    @abstractmethod
    def available(cls, subject: Subject) -> str | None:
        """Why this back end cannot run the subject here; None if nothing speaks against it."""

    @abstractmethod
    def _open(self) -> None:
        """Get ready."""

    @abstractmethod
    def _close(self) -> None:
        """Undo what `_open` did, however far it came."""

    @abstractmethod
    def _run(self, windows: Tensor) -> Tensor:
        """Logits, as `__call__`, with errors as they come."""

    @property
    def device(self) -> torch.device:
        """Where it runs, and where logits lie."""
        return self.subject.device

    @property
    def precision(self) -> str:
        """As in `Settings`."""
        return self.subject.precision

    @property
    def used(self) -> str:
        """The name of the back end that gives the logits."""
        return self.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What a run's record should say of how the back end came to be used."""
        return ()

    def __enter__(self) -> Predictor:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __call__(self, windows: Tensor) -> Tensor:
        """Logits of a batch.

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
            with torch.no_grad():
                return self._run(windows)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(self.device) from error


def as_logits(value: object) -> Tensor:
    """What a network returned, as float32.

    Raises
    ------
    TypeError
        If it is no tensor.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"a network must return a tensor of logits, not {type(value).__name__}")
    return value.float()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch's says that memory ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower()
    )


def out_of_memory(device: torch.device) -> OutOfMemoryError:
    """The error to raise; frees what PyTorch keeps in reserve."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return OutOfMemoryError(
        f"The model does not fit the memory of {device}",
        advice="Close other programs, or run on another device",
    )
