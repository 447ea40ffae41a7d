"""What a job tells of itself while it runs."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

__all__ = ["Progress", "RateMeter"]


@dataclass(frozen=True)
class Progress:
    """One report.

    Attributes
    ----------
    stage : str
        What is being done, for people: "Finding tissue", "Segmenting".
    done, total : int
        Windows; total is 0 while it is not known.
    elapsed : float
        Seconds since the job began.
    remaining : float or None
        Seconds, about; None while it cannot be told.
    """

    stage: str
    done: int
    total: int
    elapsed: float
    remaining: float | None


class RateMeter:
    """Remaining time from the rate of the last minute, so that it follows a slowdown."""

    def __init__(self, span: float = 60.0) -> None:
        self._span = span
        self._start = time.monotonic()
        self._marks: deque[tuple[float, int]] = deque([(self._start, 0)])

    def report(self, stage: str, done: int, total: int) -> Progress:
        """A report for `done` of `total`, with the remaining time where it can be told."""
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] > self._span:
            self._marks.popleft()
        then, before = self._marks[0]
        rate = (done - before) / (now - then) if now > then else 0.0
        remaining = (total - done) / rate if rate > 0 and total else None
        return Progress(stage, done, total, now - self._start, remaining)
