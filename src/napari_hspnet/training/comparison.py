"""Answers trained from several seeds, and how much one beats another, with intervals.

A row of a table is a training repeated from several seeds on the same images. Its
figure is the mean over seeds of the pooled figure; its interval comes from drawing
patients again, the same patients for all seeds: seeds say how training varies,
patients how far the figure can be trusted, and both are reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError
from napari_hspnet.training.agreement import Drawn, drawings, estimate, figures
from napari_hspnet.training.intervals import Estimate

__all__ = ["MAIN", "Repeated", "Spread", "difference", "repeated", "spread"]

Counts = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

MAIN = ("mean_dice", "mean_iou", "accuracy")
"""Dice, mIoU and AP of the paper's tables."""


@dataclass(frozen=True)
class Repeated:
    """One figure of several trainings.

    Attributes
    ----------
    mean : Estimate
        Over seeds, with its interval over patients.
    each : tuple of float
        Of each seed.
    """

    mean: Estimate
    each: tuple[float, ...]


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1), as of folds; NaN for one alone.

    Attributes
    ----------
    mean, deviation : float
    """

    mean: float
    deviation: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and spread of the figures that are finite."""
    finite = np.asarray([v for v in values if np.isfinite(v)], np.float64)
    if not finite.size:
        return Spread(float("nan"), float("nan"))
    deviation = float(finite.std(ddof=1)) if finite.size > 1 else float("nan")
    return Spread(float(finite.mean()), deviation)


def repeated(
    seeds: Sequence[Sequence[Counts]],
    drawn: Drawn,
    *,
    resamples: int = 2000,
    level: float = 0.95,
) -> dict[str, Repeated]:
    """The figures of `MAIN`, pooled and masked, over seeds.

    Parameters
    ----------
    seeds : sequence of sequences of ndarray of int64, (5, 5)
        For each seed one confusion matrix an image, images in one order.
    drawn : Drawn
        See `agreement.drawn_units`.
    resamples : int
    level : float
        As for `agreement.agreement`.

    Raises
    ------
    InputError
        If there is none, or seeds have not equally many images.
    """
    once, again = _over_drawings(seeds, drawn, resamples)
    return {
        key: Repeated(
            estimate(float(once[key].mean()), again[key].mean(axis=0), drawn, level),
            tuple(map(float, once[key])),
        )
        for key in MAIN
    }


def difference(
    first: Sequence[Sequence[Counts]],
    second: Sequence[Sequence[Counts]],
    drawn: Drawn,
    *,
    resamples: int = 2000,
    level: float = 0.95,
) -> dict[str, Estimate]:
    """How much better the first answer is than the second on the same images.

    The same patients are drawn for both, so what they have in common cancels. An
    interval without 0 says that patients agree on it, not that other seeds would.

    Parameters
    ----------
    first, second : as for `repeated`
        Images in the same order; the numbers of seeds may differ.
    drawn, resamples, level : as for `repeated`

    Raises
    ------
    InputError
        As `repeated`.
    """
    (a, more), (b, less) = (_over_drawings(s, drawn, resamples) for s in (first, second))
    return {
        key: estimate(
            float(a[key].mean() - b[key].mean()),
            more[key].mean(axis=0) - less[key].mean(axis=0),
            drawn,
            level,
        )
        for key in MAIN
    }


def _over_drawings(
    seeds: Sequence[Sequence[Counts]], drawn: Drawn, resamples: int
) -> tuple[dict[str, _Floats], dict[str, _Floats]]:
    """Pooled figures of each seed, (seeds,), and of each drawing, (seeds, resamples)."""
    if not seeds or any(len(one) != len(drawn.of) or not one for one in seeds):
        raise InputError(
            f"Seeds have {[len(one) for one in seeds]} images, {len(drawn.of)} were to be drawn",
            advice="Give each seed the same images, one or more",
        )
    stack = np.asarray(seeds, np.float64)
    member = np.zeros((drawn.count, len(drawn.of)))
    member[np.asarray(drawn.of), np.arange(len(drawn.of))] = 1
    by_unit = member @ stack.reshape(len(stack), len(drawn.of), -1)
    times = drawings(drawn.count, resamples, 0)
    again = figures((times @ by_unit).reshape(len(stack), resamples, *stack.shape[2:]))
    return figures(stack.sum(axis=1)), again
