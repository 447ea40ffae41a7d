"""How well labels agree with the truth: all figures, pooled and per image, with intervals.

Beside the paper's Dice, mIoU and AP (section 4.2, see `metrics`) stand what a
reader of grades asks for: the quadratic-weighted kappa, and whether a pixel is
on the right side of CIN2. Intervals come from drawing whole patients again, as
`intervals` does with slides: what belongs to one patient errs together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import BACKGROUND, CIN2, CLASSES
from napari_hspnet.errors import InputError
from napari_hspnet.training.intervals import Estimate

__all__ = [
    "GRADED",
    "PROTOCOL",
    "Agreement",
    "Drawn",
    "agreement",
    "drawings",
    "drawn_units",
    "estimate",
    "figures",
    "high_grade_counts",
]

Counts = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

Kind = Literal["patient", "region", "none"]

GRADED = (
    "kappa",
    "graded",
    "cin2_sensitivity",
    "cin2_specificity",
    "cin2_agreement",
)
"""Keys of `figures` that only the masked protocol has."""

PROTOCOL = (
    "masked: pixels whose truth is background are left out, whatever is predicted there; "
    "a predicted background on an annotated pixel is an error",
    "unmasked: they count too, and a grade that is predicted there is a false positive",
    "ignored pixels (255) count nowhere",
    "pooled: pixels of all images are counted together, then classes are averaged "
    "(classes that are neither there nor predicted are left out)",
    "per_image: the mean over images of each image's own figure",
    "accuracy: share of counted pixels that are right (the paper's AP)",
    "kappa: quadratic weights over the four grades, of annotated pixels that got a grade; "
    "graded is their share of the annotated ones",
    "cin2_sensitivity, cin2_specificity: CIN2 or worse against less, a predicted background "
    "being negative",
    "cin2_agreement: share of annotated pixels on the right side of CIN2, a predicted "
    "background being on neither",
)
"""What the figures mean, for records."""


@dataclass(frozen=True)
class Drawn:
    """What is drawn again for the intervals.

    Attributes
    ----------
    kind : {"patient", "region", "none"}
        "none" where there is one region alone, which leaves nothing to draw.
    of : tuple of int
        Number of the unit of each image.
    count : int
        Units.
    """

    kind: Kind
    of: tuple[int, ...]
    count: int

    def words(self) -> str:
        """What it is, for people."""
        if self.kind == "none":
            return "no intervals: there is one region only"
        if self.kind == "region":
            return (
                f"intervals by region ({self.count}): all are of one patient, so they say "
                "nothing of how patients differ"
            )
        rough = "; so few make them rough" if self.count < 10 else ""
        return f"intervals by patient ({self.count}){rough}"


@dataclass(frozen=True)
class Agreement:
    """Figures of several images under one protocol.

    Attributes
    ----------
    pooled, per_image : Mapping of str to Estimate
        By the keys of `figures`; NaN where a figure cannot be told.
    """

    pooled: Mapping[str, Estimate]
    per_image: Mapping[str, Estimate]


def drawn_units(patients: Sequence[str]) -> Drawn:
    """Patients where there are several, else regions.

    Parameters
    ----------
    patients : sequence of str
        Of each image.
    """
    number = {patient: i for i, patient in enumerate(dict.fromkeys(patients))}
    if len(number) > 1:
        return Drawn("patient", tuple(number[p] for p in patients), len(number))
    kind: Kind = "region" if len(patients) > 1 else "none"
    return Drawn(kind, tuple(range(len(patients))), len(patients))


def figures(counts: npt.ArrayLike, masked: bool = True) -> dict[str, _Floats]:
    """All figures of confusion matrices.

    Parameters
    ----------
    counts : array_like, (…, 5, 5)
        See `metrics.confusion`.
    masked : bool
        As for `metrics.scores`.

    Returns
    -------
    dict of str to ndarray of float64, (…)
        ``mean_dice``, ``mean_iou``, ``accuracy``, ``dice_<class>`` and
        ``iou_<class>``; masked also those of `GRADED`. NaN where there is nothing
        to tell it from. See `PROTOCOL`.
    """
    table = np.array(counts, np.float64)
    if masked:
        table[..., BACKGROUND, :] = 0
    hit = np.diagonal(table, axis1=-2, axis2=-1)
    both = table.sum(axis=-1) + table.sum(axis=-2)
    there = both[..., 1:] > 0
    found: dict[str, _Floats] = {}
    with np.errstate(invalid="ignore", divide="ignore"):
        dice, iou = 2 * hit / both, hit / (both - hit)
        for key, values in (("dice", dice), ("iou", iou)):
            total = np.where(there, values[..., 1:], 0).sum(axis=-1)
            found[f"mean_{key}"] = total / there.sum(axis=-1)
        found["accuracy"] = hit.sum(axis=-1) / table.sum(axis=(-2, -1))
        for key, values in (("dice", dice), ("iou", iou)):
            found |= {f"{key}_{c.name}": values[..., c.value] for c in CLASSES}
        if masked:
            found |= _graded(table)
    return found


def high_grade_counts(counts: npt.ArrayLike) -> dict[str, int]:
    """Annotated pixels by side of CIN2, a predicted background being negative.

    Parameters
    ----------
    counts : array_like, (5, 5)

    Returns
    -------
    dict of str to int
        ``true_positive``, ``false_negative``, ``false_positive``, ``true_negative``.
    """
    table = np.asarray(counts)
    return {
        "true_positive": int(table[CIN2:, CIN2:].sum()),
        "false_negative": int(table[CIN2:, :CIN2].sum()),
        "false_positive": int(table[1:CIN2, CIN2:].sum()),
        "true_negative": int(table[1:CIN2, :CIN2].sum()),
    }


def agreement(
    counts: Sequence[Counts],
    drawn: Drawn,
    masked: bool = True,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Figures of several images with percentile intervals.

    Parameters
    ----------
    counts : sequence of ndarray of int64, (5, 5)
        One confusion matrix an image.
    drawn : Drawn
        See `drawn_units`.
    masked : bool
        As for `figures`.
    resamples : int
        How often units are drawn again.
    level : float
        Probability of the interval.
    seed : int
        Of the drawing.

    Raises
    ------
    InputError
        If there is no image, or a number makes no sense.
    """
    if not counts or len(counts) != len(drawn.of) or resamples < 1 or not 0 < level < 1:
        raise InputError(
            f"{len(counts)} images drawn {resamples} times give no {level} interval",
            advice="Give one image or more, one drawing or more, a level between 0 and 1",
        )
    stack = np.stack([np.asarray(c, np.float64) for c in counts])
    times = drawings(drawn.count, resamples, seed)
    member = np.zeros((drawn.count, len(counts)))
    member[np.asarray(drawn.of), np.arange(len(counts))] = 1

    by_unit = member @ stack.reshape(len(counts), -1)
    pooled = figures(stack.sum(axis=0), masked)
    again = figures((times @ by_unit).reshape(-1, *stack.shape[1:]), masked)

    single = figures(stack, masked)
    image: dict[str, Estimate] = {}
    for key, values in single.items():
        finite = np.isfinite(values)
        sums, numbers = member @ np.where(finite, values, 0), member @ finite
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = sums.sum() / numbers.sum() if finite.any() else float("nan")
            image[key] = estimate(mean, (times @ sums) / (times @ numbers), drawn, level)
    return Agreement(
        {key: estimate(float(pooled[key]), again[key], drawn, level) for key in pooled}, image
    )


def _graded(table: _Floats) -> dict[str, _Floats]:
    """See `GRADED`; truth 0 is left out already."""
    pixels = table.sum(axis=(-2, -1))
    grades = table[..., 1:, 1:]
    answered = grades.sum(axis=(-2, -1))
    order = np.arange(len(CLASSES))
    weights = (order[:, None] - order[None, :]) ** 2
    truth, predicted = grades.sum(axis=-1), grades.sum(axis=-2)
    expected = truth[..., :, None] * predicted[..., None, :] / answered[..., None, None]
    low, high = table[..., 1:CIN2, :], table[..., CIN2:, :]
    right = low[..., 1:CIN2].sum(axis=(-2, -1)) + high[..., CIN2:].sum(axis=(-2, -1))
    return {
        "kappa": 1
        - (weights * grades).sum(axis=(-2, -1)) / (weights * expected).sum(axis=(-2, -1)),
        "graded": answered / pixels,
        "cin2_sensitivity": high[..., CIN2:].sum(axis=(-2, -1)) / high.sum(axis=(-2, -1)),
        "cin2_specificity": low[..., :CIN2].sum(axis=(-2, -1)) / low.sum(axis=(-2, -1)),
        "cin2_agreement": right / pixels,
    }


def drawings(units: int, resamples: int, seed: int) -> _Floats:
    """How often each unit is drawn; as `intervals.bootstrap` draws.

    Parameters
    ----------
    units, resamples, seed : int
        As for `agreement`.

    Returns
    -------
    ndarray of float64, (resamples, units)
    """
    chosen = np.random.default_rng(seed).integers(0, units, (resamples, units))
    times = np.zeros((resamples, units))
    np.add.at(times, (np.arange(resamples)[:, None], chosen), 1)
    return times


def estimate(value: float, again: _Floats, drawn: Drawn, level: float) -> Estimate:
    """A figure with the percentiles of what it is when units are drawn again.

    Parameters
    ----------
    value : float
    again : ndarray of float64, (resamples,)
        NaN where a drawing missed what it needs.
    drawn : Drawn
    level : float
    """
    # A drawing may miss every image of a class.
    again = again[np.isfinite(again)]
    if drawn.kind == "none" or not again.size:
        return Estimate(float(value), float("nan"), float("nan"))
    low, high = np.quantile(again, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high))
