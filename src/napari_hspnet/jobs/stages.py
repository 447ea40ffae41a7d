"""How far a long job is, stage by stage, with the time that is left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Passes", "Stage", "StageReport", "Tell"]


@dataclass(frozen=True)
class StageReport:
    """Where a job stands.

    Attributes
    ----------
    doing : str
        The stage, for people.
    fraction : float
        Of this stage, 0 to 1.
    remaining : float or None
        Seconds of this stage, about; None while it cannot be told.
    """

    doing: str
    fraction: float
    remaining: float | None


Tell = Callable[[StageReport], None]


class Stage:
    """Tells how far a stage is, ten times a second at most.

    Parameters
    ----------
    doing : str
        For people.
    total : int
        Parts that are alike, such as slides.
    listener : callable, optional
        Gets the reports.
    """

    def __init__(self, doing: str, total: int, listener: Tell | None) -> None:
        self._doing = doing
        self._total = total
        self._listener = listener
        self._begun = time.monotonic()
        self._told = -math.inf

    def tell(self, done: float) -> None:
        """So many parts are done; fractions count."""
        now = time.monotonic()
        if self._listener is None or (now - self._told < 0.1 and done < self._total):
            return
        self._told = now
        part = min(1.0, done / self._total)
        left = (now - self._begun) * (1 - part) / part if part > 0 else None
        self._listener(StageReport(self._doing, part, left))


class Passes:
    """What is done to one part of a stage, in its order.

    Parameters
    ----------
    stage : Stage
    number : int
        How many parts of the stage come before.
    costs : sequence of float
        How long each pass takes, relative to the others.
    """

    def __init__(self, stage: Stage, number: int, costs: Sequence[float]) -> None:
        self._stage = stage
        self._number = number
        self._ends = [0.0, *(np.cumsum(costs) / sum(costs)).tolist()]
        self._at = 0

    def tell(self, part: float) -> None:
        """So much (0 to 1) of the pass is done."""
        begin, end = self._ends[self._at : self._at + 2]
        self._stage.tell(self._number + begin + (end - begin) * part)

    def next(self) -> None:
        """The pass is over."""
        self.tell(1.0)
        self._at = min(self._at + 1, len(self._ends) - 2)
