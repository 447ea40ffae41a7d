"""Back ends that nobody can interrupt from within, run in a thread of their own."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import TypeVar

import torch
from torch import Tensor

from napari_hspnet.errors import CancelledError
from napari_hspnet.inference.predictors.base import Predictor, Subject
from napari_hspnet.inference.predictors.eager import mean_of, why_not_folded

__all__ = ["Apart"]

T = TypeVar("T")

_LOOK = 0.05


class Apart(Predictor):
    """A folded network as one piece of compiled work.

    When the run is cancelled, the caller gets `CancelledError` at once; what
    cannot be stopped ends by itself, its result thrown away: a batch, or, where
    it was still getting ready, a compilation.
    """

    _halves = False

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._mean = mean_of(subject)
        self._pool: ThreadPoolExecutor | None = None

    @classmethod
    def available(cls, subject: Subject) -> str | None:
        """Where the network can be folded and what is needed is installed."""
        return why_not_folded(subject, cls._halves) or cls._lacks(subject)

    @classmethod
    @abstractmethod
    def _lacks(cls, subject: Subject) -> str | None:
        """What this machine lacks for it."""

    @abstractmethod
    def _prepare(self) -> None:
        """Get ready; called in the thread, without gradients."""

    @abstractmethod
    def _work(self, windows: Tensor) -> Tensor:
        """Logits; called in the thread, without gradients."""

    def _stop(self) -> None:
        """Ask the work that is going on to end early, where it can; from another thread."""

    def _forget(self) -> None:
        """Let go of what `_prepare` made."""

    def _open(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"hspnet-{self.name}")
        self._wait(self._prepare_quietly)

    def _close(self) -> None:
        if self._pool is not None:
            # Not waited for: a cancelled run is over for the user.
            self._pool.submit(self._forget)
            self._pool.shutdown(wait=False)
            self._pool = None

    def _run(self, windows: Tensor) -> Tensor:
        return self._wait(lambda: self._work(windows))

    def _prepare_quietly(self) -> None:
        with warnings.catch_warnings():
            # Of tracing, and of deprecated ways that are still among the fastest.
            warnings.simplefilter("ignore")
            self._prepare()

    def _wait(self, work: Callable[[], T]) -> T:
        def without_gradients() -> T:
            # The mode is a thread's own: this one begins with gradients.
            with torch.no_grad():
                return work()

        if self.subject.cancel.is_set():
            raise CancelledError
        assert self._pool is not None
        future: Future[T] = self._pool.submit(without_gradients)
        while True:
            try:
                return future.result(timeout=_LOOK)
            except NotYet:
                # TimeoutError is also what the work itself may have raised.
                if future.done():
                    raise
                if self.subject.cancel.is_set():
                    self._stop()
                    raise CancelledError from None
