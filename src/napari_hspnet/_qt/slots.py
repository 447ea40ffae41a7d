"""How long our slots hold the GUI thread, napari's own work counted apart."""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

__all__ = ["SlotRecorder", "SlotTime", "into_napari", "slot"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class SlotTime:
    """One call of one slot.

    Attributes
    ----------
    name : str
        The slot.
    ours : float
        Seconds without what was spent inside napari.
    napari : float
        Seconds inside napari (its slicing and drawing).
    """

    name: str
    ours: float
    napari: float


class SlotRecorder:
    """Keeps the latest calls; off until a benchmark or test switches it on."""

    def __init__(self, keep: int = 20_000) -> None:
        self.on = False
        self._times: deque[SlotTime] = deque(maxlen=keep)
        self._here = threading.local()

    @property
    def times(self) -> tuple[SlotTime, ...]:
        """What was recorded, oldest first."""
        return tuple(self._times)

    def clear(self) -> None:
        """Forget what was recorded."""
        self._times.clear()

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Time a slot; one that is called by another counts within that one."""
        if not self.on or getattr(self._here, "depth", None):
            yield
            return
        self._here.depth, self._here.napari = 1, 0.0
        begun = time.perf_counter()
        try:
            yield
        finally:
            napari = self._here.napari
            self._here.depth = 0
            self._times.append(SlotTime(name, time.perf_counter() - begun - napari, napari))

    @contextmanager
    def into_napari(self) -> Iterator[None]:
        """Count what happens inside as napari's."""
        if not getattr(self._here, "depth", None) or getattr(self._here, "inside", False):
            yield
            return
        self._here.inside = True
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._here.inside = False
            self._here.napari += time.perf_counter() - begun


# One per process, as Qt's event loop is: slots of several windows share a thread.
RECORDER = SlotRecorder()
into_napari = RECORDER.into_napari


def slot(function: F) -> F:
    """Mark a function that Qt or napari calls on the GUI thread.

    As with a plain slot, arguments that it does not take are left away (a button
    says whether it is checked, to whoever listens).
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = sum(p.kind in kinds for p in inspect.signature(function).parameters.values())

    @functools.wraps(function)
    def timed(*args: Any) -> Any:
        with RECORDER.timing(function.__qualname__):
            return function(*args[:takes])

    return cast(F, timed)
