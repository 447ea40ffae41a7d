"""What every back end is: uint8 windows in, logits out."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from napari_hspnet.errors import OutOfMemoryError

__all__ = [
    "Predictor",
    "Subject",
    "as_logits",
    "is_out_of_memory",
    "out_of_memory",
    "without_tf32",
]


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
    ahead : bool
        Whether `begin` comes back before the work is done.
    """

    name: ClassVar[str]
    patience: ClassVar[float] = 1.0
    ahead: bool = False

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
            with without_tf32(self.device):
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
        with self._guarded():
            return self._run(windows)

    def begin(self, windows: Tensor) -> Callable[[], Tensor]:
        """Begin with a batch, and have its logits later.

        On a GPU the next batch can then be begun before the last one's logits are
        looked at, so that the GPU need not wait for the host.

        Parameters
        ----------
        windows : Tensor (n, h, w, 3), uint8
            As for a call; to be left as it is until the logits were had.

        Returns
        -------
        callable
            Gives what a call gives, and raises what it raises. To be called once,
            in the order of the batches, with one other batch begun at most.
        """
        with self._guarded():
            finish = self._begin(windows)

        def result() -> Tensor:
            with self._guarded():
                return finish()

        return result

    def _begin(self, windows: Tensor) -> Callable[[], Tensor]:
        """As `begin`, with errors as they come."""
        logits = self._run(windows)
        return lambda: logits

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with torch.no_grad(), without_tf32(self.device):
                yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise out_of_memory(self.device) from error


@contextmanager
def without_tf32(device: torch.device) -> Iterator[None]:
    """Float32 as such on CUDA, where convolutions else have 10 bits of mantissa, not 23.

    Their labels would be further from float32's than float16's overflow check and
    the 1e-4 that exact mode promises allow.
    """
    if device.type != "cuda":
        yield
        return
    parts: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [part.allow_tf32 for part in parts]
    try:
        for part in parts:
            part.allow_tf32 = False
        yield
    finally:
        for part, allowed in zip(parts, before, strict=True):
            part.allow_tf32 = allowed


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
