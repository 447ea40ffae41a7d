"""How well two readers agree on grades, of whom neither is the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import BACKGROUND, CIN2, CLASSES

__all__ = ["Agreement", "agreement"]

Table = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """Figures of a table of what one reader said against what another said.

    All but `one_alone` are of what both gave a grade to, normal to CIN3.

    Attributes
    ----------
    graded : int
        How much that is, in the table's units.
    same : float
        Share with the same grade.
    kappa : float
        Cohen's, unweighted: 1 for always the same, 0 for as often as chance has it.
    weighted : float
        The same with quadratic weights: two steps apart count four times one step.
    same_high : float
        Share on the same side of CIN2.
    kappa_high : float
        Cohen's at that threshold.
    one_alone : int
        What only one of them gave a grade to; the other said "none of the four".

    A figure is NaN where there is nothing to tell it from: nothing graded, or for the
    kappas all of it the same by both.
    """

    graded: int
    same: float
    kappa: float
    weighted: float
    same_high: float
    kappa_high: float
    one_alone: int


def agreement(table: Table) -> Agreement:
    """The figures of a table.

    Parameters
    ----------
    table : ndarray of int, (5, 5)
        How much one reader called the row's and the other the column's value, 0 to 4.
    """
    grades = np.asarray(table, np.int64)[1:, 1:]
    high = CIN2 - 1
    sides = np.array(
        [
            [grades[:high, :high].sum(), grades[:high, high:].sum()],
            [grades[high:, :high].sum(), grades[high:, high:].sum()],
        ]
    )
    order = np.arange(len(CLASSES))
    apart = (order[:, None] != order).astype(np.float64)
    total = int(grades.sum())
    one_alone = int(table[BACKGROUND, 1:].sum() + table[1:, BACKGROUND].sum())
    return Agreement(
        total,
        _share(np.trace(grades), total),
        _kappa(grades, apart),
        _kappa(grades, ((order[:, None] - order) ** 2).astype(np.float64)),
        _share(np.trace(sides), total),
        _kappa(sides, apart[:2, :2]),
        one_alone,
    )


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _kappa(table: Table, weights: npt.NDArray[np.float64]) -> float:
    """Cohen 1968: one less the weighted disagreement over the one that chance has."""
    total = float(table.sum())
    by_chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / max(total, 1.0)
    expected = float((weights * by_chance).sum())
    return 1.0 - float((weights * table).sum()) / expected if expected else float("nan")
