"""Which grades a region of the overlay holds, and which of them counts as the worst."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from napari_hspnet.cases.composite import Composite
from napari_hspnet.cases.selection import Place, Selection, chunk_box
from napari_hspnet.classes import BACKGROUND, CIN3, NORMAL
from napari_hspnet.errors import CancelledError

__all__ = ["LEAST_MM2", "Counts", "Grades", "counts_of", "grades_of", "worst_grade"]

Counts = Mapping[Place, Mapping[int, int]]
"""Label pixels by chunk and value of the overlay."""

LEAST_MM2 = 0.001
"""From which area on a grade counts as the worst one; smaller ones may be noise."""


@dataclass(frozen=True)
class Grades:
    """What the overlay shows in a region or in view.

    Attributes
    ----------
    mm2 : Mapping of int to float
        By value of the overlay, those of what was not analysed with them.
    """

    mm2: Mapping[int, float]

    @property
    def worst(self) -> int | None:
        """The worst grade of `LEAST_MM2` or more, else the most common one."""
        return worst_grade(self.mm2)

    @property
    def most(self) -> int | None:
        """The value that covers most; None where there is nothing at all."""
        return max(self.mm2, key=lambda v: self.mm2[v]) if self.mm2 else None

    @property
    def severity(self) -> tuple[int, float]:
        """Sorts regions: by the worst grade, then by how much there is of it."""
        worst = self.worst
        if worst is None:
            return (BACKGROUND if self.mm2.get(BACKGROUND) else -1), 0.0
        return worst, self.mm2[worst]


def worst_grade(mm2: Mapping[int, float]) -> int | None:
    """The worst grade of `LEAST_MM2` or more, else the most common one; None without any.

    Parameters
    ----------
    mm2 : Mapping of int to float
        By value of the overlay.
    """
    graded = {v: area for v, area in mm2.items() if NORMAL <= v <= CIN3 and area > 0}
    counting = [v for v, area in graded.items() if area >= LEAST_MM2]
    if counting:
        return max(counting)
    return max(graded, key=lambda v: graded[v]) if graded else None


def counts_of(
    composite: Composite,
    selection: Selection,
    places: Iterable[Place] | None = None,
    cancel: threading.Event | None = None,
) -> Counts:
    """What is shown in a region now, chunk by chunk.

    Parameters
    ----------
    composite : Composite
        What is shown.
    selection : Selection
        The region.
    places : iterable of (int, int), optional
        Only these chunks; of those that hold nothing of the region nothing is said.
    cancel : threading.Event, optional
        Stops it.

    Raises
    ------
    CancelledError
        If cancelled.
    """
    found: dict[Place, dict[int, int]] = {}
    wanted = selection.masks if places is None else [p for p in places if p in selection.masks]
    for place in wanted:
        if cancel is not None and cancel.is_set():
            raise CancelledError
        mask = selection.masks[place]
        ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not ys.size:
            continue
        box = chunk_box(place, selection.shape)
        part = mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
        values = composite.read(box.y0 + int(ys[0]), box.x0 + int(xs[0]), *part.shape)
        counts = np.bincount(values[part], minlength=256)
        found[place] = {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    return found


def grades_of(counts: Counts, mpp: float) -> Grades:
    """All of a region, in mm²; `mpp` is µm per label pixel."""
    total: Counter[int] = Counter()
    for each in counts.values():
        total.update(each)
    square = (mpp / 1000) ** 2
    return Grades({value: total[value] * square for value in sorted(total)})
