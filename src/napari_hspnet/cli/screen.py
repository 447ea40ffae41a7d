"""What the command line says, and where: results on stdout, all else on stderr."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

__all__ = ["duration", "note", "print_json", "progress_bar", "stop_signals", "warn"]

Advance = Callable[[str, float | None, float | None], None]
"""Called with what is being done, the part done (None: not known), seconds left."""


_LINE_EVERY = 30.0


def _stderr() -> Console:
    return Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """A line for people, on stderr."""
    _stderr().print(text, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """A line for people that matters, on stderr."""
    _stderr().print(f"Warning: {text}", style="yellow", markup=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """The one document on stdout."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


def duration(seconds: float) -> str:
    """About how long, for people: "12 s", "3 min", "2 h 05 min"."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


@contextmanager
def progress_bar(shown: bool = True) -> Iterator[Advance]:
    """A bar on stderr with the time left; a line now and then where stderr is no terminal.

    Parameters
    ----------
    shown : bool
        False keeps it off on a terminal too.
    """
    console = _stderr()
    if not shown:
        yield lambda doing, part, left: None
        return
    if not console.is_terminal:
        yield _Lines(time.monotonic())
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=True,
        # Results on stdout may go to a file: rich would send them to stderr.
        redirect_stdout=False,
    ) as bar:
        task: TaskID = bar.add_task("", total=None, left="")

        def advance(doing: str, part: float | None, left: float | None) -> None:
            bar.update(
                task,
                # A stage that is over before the next frame is seen all the same.
                refresh=doing != bar.tasks[0].description,
                description=doing,
                total=None if part is None else 1.0,
                completed=part or 0.0,
                left="" if left is None else f"{duration(left)} left",
            )

        yield advance


@dataclass
class _Lines:
    """Progress for a log: a line every half minute, none for what is over before."""

    last: float

    def __call__(self, doing: str, part: float | None, left: float | None) -> None:
        now = time.monotonic()
        if now - self.last < _LINE_EVERY:
            return
        self.last = now
        done = "" if part is None else f", {part:.0%}".replace("%", " %")
        note(f"{doing}{done}" + ("" if left is None else f", {duration(left)} left"))


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl+C sets, so that jobs end cleanly; a second Ctrl+C ends at once."""
    cancel = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        note("Stopping …")

    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
