"""How sure a score is: bootstrap intervals over whole slides.

Pixels of one slide err together, so slides are what is drawn again: N of the N
slides, with replacement, their confusion matrices pooled as always (`metrics`),
many times; the interval runs between percentiles of what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import BACKGROUND, CIN2, CLASSES
from napari_hspnet.errors import InputError

__all__ = ["Estimate", "Estimates", "bootstrap", "paired_difference"]

Counts = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval; NaN where it cannot be told.

    Attributes
    ----------
    value : float
        Of all slides.
    low, high : float
        Ends of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimates:
    """What several slides come to, masked protocol (truth 0 left out).

    Attributes
    ----------
    mean_dice : Estimate
        Over the classes that are there or predicted.
    dice : Mapping of str to Estimate
        By class name; NaN for a class that is neither there nor predicted.
    accuracy : Estimate
        Share of annotated pixels that are right.
    high_grade : Estimate
        Share of annotated pixels on the right side of CIN2; a predicted 0 is on
        neither side, so it counts as wrong.
    """

    mean_dice: Estimate
    dice: Mapping[str, Estimate]
    accuracy: Estimate
    high_grade: Estimate


def bootstrap(
    counts: Sequence[Counts], resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> Estimates:
    """Scores of slides with percentile intervals.

    Parameters
    ----------
    counts : sequence of ndarray of int64, (5, 5)
        One confusion matrix a slide; see `metrics.confusion`.
    resamples : int
        How often slides are drawn again.
    level : float
        Probability of the interval.
    seed : int
        Of the drawing: the same slides and seed give the same intervals, and
        two answers on the same slides are drawn alike.

    Raises
    ------
    InputError
        If there is no slide, or a number makes no sense.
    """
    drawn = _draw(len(counts), resamples, level, seed)
    figures = _figures(_pooled(counts, np.ones((1, len(counts)))))
    again = _figures(_pooled(counts, drawn))
    return _estimates(lambda key: (figures[key], again[key]), level)


def paired_difference(
    first: Sequence[Counts],
    second: Sequence[Counts],
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimates:
    """How much better the first answer is than the second on the same slides.

    Both are pooled over the same drawn slides each time, so what slides have in
    common cancels. Parameters as for `bootstrap`; a value above 0 says that the
    first is better, an interval without 0 that slides agree on it.

    Raises
    ------
    InputError
        If the answers are not of equally many slides, or as `bootstrap`.
    """
    if len(first) != len(second):
        raise InputError(
            f"{len(first)} slides cannot be compared with {len(second)}",
            advice="Give both answers on the same slides, in the same order",
        )
    drawn = _draw(len(first), resamples, level, seed)
    once = np.ones((1, len(first)))
    a, b = (_figures(_pooled(c, once)) for c in (first, second))
    more, less = (_figures(_pooled(c, drawn)) for c in (first, second))
    return _estimates(lambda key: (a[key] - b[key], more[key] - less[key]), level)


def _draw(slides: int, resamples: int, level: float, seed: int) -> _Floats:
    """How often each slide is drawn, (resamples, slides)."""
    if slides < 1 or resamples < 1 or not 0 < level < 1:
        raise InputError(
            f"{slides} slides drawn {resamples} times give no {level} interval",
            advice="Give one slide or more, one drawing or more, a level between 0 and 1",
        )
    chosen = np.random.default_rng(seed).integers(0, slides, (resamples, slides))
    times = np.zeros((resamples, slides))
    np.add.at(times, (np.arange(resamples)[:, None], chosen), 1)
    return times


def _pooled(counts: Sequence[Counts], times: _Floats) -> _Floats:
    """Sums of confusion matrices, (resamples, 5, 5), background rows left out."""
    size = len(CLASSES) + 1
    stack = np.stack([np.asarray(c, np.float64) for c in counts])
    pooled = (times @ stack.reshape(len(counts), -1)).reshape(-1, size, size)
    pooled[:, BACKGROUND] = 0
    return pooled


def _figures(pooled: _Floats) -> dict[str, _Floats]:
    """Each figure of each pooled matrix, (resamples,)."""
    hit = np.diagonal(pooled, axis1=1, axis2=2)
    both = pooled.sum(axis=1) + pooled.sum(axis=2)
    pixels = pooled.sum(axis=(1, 2))
    side = CIN2
    agreed = pooled[:, 1:side, 1:side].sum(axis=(1, 2)) + pooled[:, side:, side:].sum(axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        dice = 2 * hit / both
        there = both[:, 1:] > 0
        total = np.where(there, dice[:, 1:], 0).sum(axis=1)
        figures = {"mean_dice": total / there.sum(axis=1)}
        figures |= {c.name: dice[:, c.value] for c in CLASSES}
        figures["accuracy"] = hit[:, 1:].sum(axis=1) / pixels
        figures["high_grade"] = agreed / pixels
    return figures


def _estimates(of: Callable[[str], tuple[_Floats, _Floats]], level: float) -> Estimates:
    def one(key: str) -> Estimate:
        value, again = of(key)
        # A drawing may miss every slide of a class.
        again = again[np.isfinite(again)]
        if not again.size:
            return Estimate(float(value[0]), float("nan"), float("nan"))
        low, high = np.quantile(again, [(1 - level) / 2, (1 + level) / 2])
        return Estimate(float(value[0]), float(low), float(high))

    return Estimates(
        one("mean_dice"),
        {c.name: one(c.name) for c in CLASSES},
        one("accuracy"),
        one("high_grade"),
    )
