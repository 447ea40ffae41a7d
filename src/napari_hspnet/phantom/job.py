"""Progress of writing a phantom, and stopping it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Report", "StoppedError", "Work"]

Report = Callable[[float, str], None]


class StoppedError(Exception):
    """The caller's event was set."""


@dataclass
class Work:
    """Passes on progress, and stops when told to.

    Attributes
    ----------
    progress : callable or None
        Called with a share 0..1 and what is being done.
    cancel : threading.Event or None
    total : int
        Steps in all.
    what : str
        What is being done.
    done : int
        Steps so far.
    """

    progress: Report | None
    cancel: threading.Event | None
    total: int
    what: str = ""
    done: int = 0

    def check(self) -> None:
        """Raise StoppedError if the caller wants no more."""
        if self.cancel is not None and self.cancel.is_set():
            raise StoppedError

    def step(self, count: int = 1) -> None:
        """So many steps more are done."""
        self.check()
        self.done += count
        if self.progress is not None:
            self.progress(min(1.0, self.done / max(1, self.total)), self.what)
