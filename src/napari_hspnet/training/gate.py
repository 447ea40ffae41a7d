"""Whether a candidate is better than the current model, worse, or cannot be told.

Both models are judged on the same regions: those held back from fine-tuning, and a
reference set of the user's own that shows what was lost elsewhere. Everything rests
on paired differences: the same units are drawn again for both, so what units have in
common cancels.

What the rules guard against:

* Few units make a percentile interval too narrow. So a stated size is needed before
  anything is judged; where there are several patients but fewer than that size, the
  interval is the wider of drawing patients and of drawing regions; and "better" and
  "worse" ask more than the 95 % interval that is shown, by what Student's t asks more
  of so few (Hesterberg, "What teachers should know about the bootstrap", 2015, section
  4.2.3). Made-up models that differ by chance alone, region by region and class by class,
  were so called better in 6 % of 200 trials on four regions and in 2 to 4 % on six or
  more; worse, which any of five measures can be, in 23 % and in 9 to 14 %. By the plain
  interval it had been 26 % and 32 % on four.
* "Better" rests on two measures, the mean Dice and agreement at CIN2+; "worse" on each
  class, too. Where the shown interval of one lies below 0, and no more, it is a doubt:
  such a candidate is not recommended, but not refused either.
* A class of which too little is there is not judged, but a fall beyond `alarm` on
  the little there is refuses all the same: a lost class is never waved through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import CIN2, CLASSES
from napari_hspnet.errors import InputError
from napari_hspnet.training.agreement import Drawn, drawn_units, figures
from napari_hspnet.training.intervals import Estimate
from napari_hspnet.training.verdict import (
    AGREEMENT,
    BETTER,
    GUARDED,
    MEAN,
    MEASURES,
    SAME,
    TOO_FEW,
    WORSE,
    Change,
    Decision,
    SetVerdict,
    Verdict,
)

__all__ = ["GateOptions", "Judged", "UnitCounts", "judge"]

Counts = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

_SIDE = len(CLASSES) + 1


@dataclass(frozen=True, eq=False)
class UnitCounts:
    """How a model did on one region.

    Attributes
    ----------
    name, patient : str
    counts : ndarray of int64, (5, 5)
        See `metrics.confusion`.
    mpp : float
        µm per pixel that was counted.
    """

    name: str
    patient: str
    counts: Counts
    mpp: float = 1.0

    def areas(self) -> _Floats:
        """mm² by true value, (5,)."""
        square = (self.mpp / 1000) ** 2
        mm2: _Floats = np.asarray(self.counts, np.float64).sum(axis=1) * square
        return mm2

    @property
    def mm2(self) -> float:
        """Annotated as one of the four classes."""
        return float(self.areas()[1:].sum())


@dataclass(frozen=True, eq=False)
class Judged:
    """How a model did on all regions.

    Attributes
    ----------
    held : tuple of UnitCounts
        The regions held back from fine-tuning.
    reference : tuple of UnitCounts
        The fixed reference set; empty where there is none.
    """

    held: tuple[UnitCounts, ...]
    reference: tuple[UnitCounts, ...] = ()


@dataclass(frozen=True)
class GateOptions:
    """From which size on something is judged, and what counts as a difference.

    Attributes
    ----------
    least_units : int
        Regions, of the held-back and of the reference set alike.
    least_mm2 : float
        Annotated area, likewise.
    least_class_mm2, least_class_units : float, int
        Of one class (of each side for agreement at CIN2+), and regions that have it.
    margin : float
        Differences up to this are none, however certain.
    alarm : float
        A fall by this much refuses where there is too little of a class to judge, too,
        from a tenth of `least_class_mm2` on.
    synthetic_held, synthetic_reference : bool
        Whether these regions are phantoms.
    resamples, level, seed
        See `intervals.bootstrap`.

    Raises
    ------
    InputError
        If a number makes no sense.
    """

    least_units: int = 4
    least_mm2: float = 1.0
    least_class_mm2: float = 0.05
    least_class_units: int = 2
    margin: float = 0.01
    alarm: float = 0.2
    synthetic_held: bool = False
    synthetic_reference: bool = False
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = self.least_mm2, self.least_class_mm2, self.margin, self.alarm, self.seed
        counts = self.least_units, self.least_class_units, self.resamples
        if min(sizes) < 0 or min(counts) < 1 or not 0 < self.level < 1:
            raise InputError(
                "The options of the gate cannot be",
                advice="Give sizes of 0 or more, counts of 1 or more, a level between 0 and 1",
            )


def judge(candidate: Judged, current: Judged, options: GateOptions | None = None) -> Verdict:
    """Say whether a candidate should take the current model's place.

    "worse", and refused by default, where a class or agreement at CIN2+ is
    significantly worse on either set; else "too few to judge" where too little was held
    back; else "better" where one of these, or their mean Dice, is significantly better
    on what was held back and the mean Dice did not fall; else "no difference".

    Parameters
    ----------
    candidate, current : Judged
        On the same regions in the same order.
    options : GateOptions, optional

    Raises
    ------
    InputError
        If nothing was held back, or the two were not judged on the same pixels.
    """
    options = options or GateOptions()
    if not candidate.held:
        raise InputError(
            "Nothing was held back to judge the new model by", advice="Hold back some regions"
        )
    held = _judged_set(candidate.held, current.held, options, options.synthetic_held)
    reference = None
    if candidate.reference or current.reference:
        reference = _judged_set(
            candidate.reference, current.reference, options, options.synthetic_reference
        )
    return Verdict(_overall(held, reference), held, reference, options.level)


def _overall(held: SetVerdict, reference: SetVerdict | None) -> Decision:
    sets = [held] if reference is None else [held, reference]
    # What is too small to judge by does not refuse; on the reference it is all there is.
    if any(one.losses for one in sets if one is not held or not held.too_small):
        return WORSE
    if held.too_small:
        return TOO_FEW
    overall = [held.changes[key] for key in (MEAN, AGREEMENT)]
    gain = any(c.decision == BETTER for c in overall)
    fell = any(c.difference.value < 0 for c in overall)
    if gain and not fell and not any(one.doubts for one in sets):
        return BETTER
    if all(held.changes[key].decision == TOO_FEW for key in GUARDED):
        return TOO_FEW
    return SAME


def _judged_set(
    candidate: Sequence[UnitCounts],
    current: Sequence[UnitCounts],
    options: GateOptions,
    synthetic: bool,
) -> SetVerdict:
    _refuse_unlike(candidate, current)
    drawn = drawn_units([unit.patient for unit in current])
    after, before = (
        np.stack([np.asarray(unit.counts, np.float64) for unit in units])
        for units in (candidate, current)
    )
    areas = np.stack([unit.areas() for unit in current])
    enough = _enough(areas, options.least_class_mm2, options.least_class_units)
    # A sliver of a brush stroke raises no alarm.
    some = _enough(areas, options.least_class_mm2 / 10, 1)
    there = np.array([enough[f"dice_{c.name}"] for c in CLASSES])
    if not there.any():
        there = areas.sum(axis=0)[1:] > 0
    old, new = (_figures(counts.sum(axis=0), there) for counts in (before, after))
    wide = drawn.kind == "patient" and drawn.count < options.least_units <= len(current)
    units = [drawn.of] + ([tuple(range(len(current)))] if wide else [])
    differences = [_differences(before, after, there, of, options) for of in units]
    small = _too_small(areas, options)
    changes = {}
    for key in MEASURES:
        value = float(new[key] - old[key])
        known = drawn.kind != "none"
        ends = [found(key) for found in differences] if known else [(float("nan"),) * 4]
        lows, highs, sure_lows, sure_highs = zip(*ends, strict=True)
        estimate = Estimate(value, min(lows), max(highs))
        decision = TOO_FEW
        if not small and enough[key]:
            sure = min(sure_lows), max(sure_highs)
            decision = _decision(value, sure, options.margin)
        alarm = decision == TOO_FEW and some[key] and value <= -options.alarm
        doubt = decision == SAME and estimate.high < 0 and value < -options.margin
        changes[key] = Change(float(old[key]), float(new[key]), estimate, decision, alarm, doubt)
    return SetVerdict(
        changes,
        len(current),
        len({unit.patient for unit in current}),
        float(areas[:, 1:].sum()),
        small,
        _words(drawn, wide),
        synthetic,
    )


def _decision(value: float, sure: tuple[float, float], margin: float) -> Decision:
    if np.isnan(sure[0]):
        return TOO_FEW
    if sure[0] > 0 and value > margin:
        return BETTER
    if sure[1] < 0 and value < -margin:
        return WORSE
    return SAME


def _figures(counts: _Floats, there: npt.NDArray[np.bool_]) -> Mapping[str, _Floats]:
    """Of confusion matrices, (…, 5, 5); the mean Dice over some classes.

    Those of which there is enough: else one stray pixel of an absent class would cost
    the mean a quarter.
    """
    found = figures(counts)
    dice = np.stack([found[f"dice_{c.name}"] for c in CLASSES], axis=-1)[..., there]
    finite = np.isfinite(dice)
    with np.errstate(invalid="ignore"):
        mean = np.where(finite, dice, 0).sum(axis=-1) / finite.sum(axis=-1)
    return {**found, MEAN: mean}


def _differences(
    before: _Floats,
    after: _Floats,
    there: npt.NDArray[np.bool_],
    of: Sequence[int],
    options: GateOptions,
) -> Callable[[str], tuple[float, float, float, float]]:
    """Of each measure the ends of the interval, and of the wider one that is decided by.

    Drawn as `intervals.paired_difference` does.
    """
    count = max(of) + 1
    member = np.zeros((count, len(of)))
    member[np.asarray(of), np.arange(len(of))] = 1
    chosen = np.random.default_rng(options.seed).integers(0, count, (options.resamples, count))
    times = np.zeros((options.resamples, count))
    np.add.at(times, (np.arange(options.resamples)[:, None], chosen), 1)
    weights = times @ member
    old, new = (
        _figures((weights @ c.reshape(len(of), -1)).reshape(-1, _SIDE, _SIDE), there)
        for c in (before, after)
    )

    tail = (1 - options.level) / 2
    sure = _sure_tail(tail, count)

    def ends(key: str) -> tuple[float, float, float, float]:
        again = new[key] - old[key]
        # A drawing may miss every unit of a class.
        again = again[np.isfinite(again)]
        if not again.size:
            return (float("nan"),) * 4
        a, b, c, d = map(float, np.quantile(again, [tail, 1 - tail, sure, 1 - sure]))
        return a, b, c, d

    return ends


def _sure_tail(tail: float, count: int) -> float:
    """The percentile of a bootstrap over few units that errs as rarely as `tail` says."""
    from scipy.special import ndtr, stdtrit

    if count < 2:
        return tail
    return float(ndtr(stdtrit(count - 1, tail) * np.sqrt(count / (count - 1))))


def _too_small(areas: _Floats, options: GateOptions) -> str:
    """Why a set is too small, or empty; (units, 5)."""
    units, mm2 = len(areas), float(areas[:, 1:].sum())
    said = []
    if units < options.least_units:
        said.append(f"{units} region{'s' * (units != 1)}, where {options.least_units} are needed")
    if mm2 < options.least_mm2:
        said.append(f"{mm2:.2f} mm², where {options.least_mm2:g} are needed")
    return " and ".join(said)


def _enough(areas: _Floats, least_mm2: float, least_units: int) -> dict[str, bool]:
    """Whether there is enough of what each measure is about."""

    def both(mm2: _Floats) -> bool:
        return bool(mm2.sum() >= least_mm2 and np.count_nonzero(mm2) >= least_units)

    low, high = both(areas[:, 1:CIN2].sum(axis=1)), both(areas[:, CIN2:].sum(axis=1))
    return {
        **{f"dice_{c.name}": both(areas[:, c.value]) for c in CLASSES},
        MEAN: True,
        AGREEMENT: low and high,
        "cin2_sensitivity": high,
        "cin2_specificity": low,
    }


def _words(drawn: Drawn, wide: bool) -> str:
    if wide:
        return (
            f"intervals by patient ({drawn.count}) or by region, whichever is wider: so few "
            "patients alone would make them too narrow"
        )
    return drawn.words()


def _refuse_unlike(candidate: Sequence[UnitCounts], current: Sequence[UnitCounts]) -> None:
    alike = [(u.name, u.patient, u.mpp) for u in candidate] == [
        (u.name, u.patient, u.mpp) for u in current
    ]
    if not alike or any(
        np.shape(a.counts) != (_SIDE, _SIDE)
        or np.shape(b.counts) != (_SIDE, _SIDE)
        or np.any(np.sum(a.counts, axis=1) != np.sum(b.counts, axis=1))
        for a, b in zip(candidate, current, strict=True)
    ):
        raise InputError(
            "The two models were not judged on the same pixels",
            advice="Judge both on the same regions, with the same truth, in the same order",
        )
