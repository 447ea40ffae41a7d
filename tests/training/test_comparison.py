"""Rows over seeds and their differences, against slow drawing and known cases."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from napari_hspnet.errors import InputError
from napari_hspnet.training.agreement import agreement, drawn_units, figures
from napari_hspnet.training.comparison import MAIN, difference, repeated, spread

PATIENTS = ("a", "a", "b", "c", "c", "d")
DRAWN = drawn_units(PATIENTS)


def answers(seed: int, skill: float = 200.0):
    """A confusion matrix for each image, its diagonal heavier with more skill."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(1, 100, (5, 5)) + np.diag(rng.integers(0, int(skill), 5)) for _ in PATIENTS
    ]


def test_one_seed_gives_the_figures_of_an_evaluation() -> None:
    counts = answers(0)
    ours, theirs = repeated([counts], DRAWN), agreement(counts, DRAWN).pooled
    for key in MAIN:
        assert ours[key].mean.value == pytest.approx(theirs[key].value)
        assert ours[key].mean.low == pytest.approx(theirs[key].low)
        assert ours[key].mean.high == pytest.approx(theirs[key].high)
        assert ours[key].each == (ours[key].mean.value,)


def test_several_seeds_are_averaged_and_drawn_alike() -> None:
    seeds = [answers(n) for n in range(3)]
    found = repeated(seeds, DRAWN, resamples=300)
    chosen = np.random.default_rng(0).integers(0, DRAWN.count, (300, DRAWN.count))
    for key in MAIN:
        each = [float(figures(np.sum(counts, axis=0))[key]) for counts in seeds]
        assert found[key].each == pytest.approx(each)
        assert found[key].mean.value == pytest.approx(np.mean(each))
        slow = []
        for units in chosen:
            images = [i for u in units for i, of in enumerate(DRAWN.of) if of == u]
            slow.append(
                np.mean([figures(np.sum([c[i] for i in images], axis=0))[key] for c in seeds])
            )
        low, high = np.quantile(slow, [0.025, 0.975])
        assert (found[key].mean.low, found[key].mean.high) == pytest.approx((low, high))


def test_a_difference_is_paired_and_changes_sign_with_its_sides() -> None:
    good, bad = [answers(n, 400) for n in range(2)], [answers(n, 100) for n in range(3)]
    one, other = difference(good, bad, DRAWN), difference(bad, good, DRAWN)
    better, worse = repeated(good, DRAWN), repeated(bad, DRAWN)
    for key in MAIN:
        assert one[key].value == pytest.approx(better[key].mean.value - worse[key].mean.value)
        assert one[key].value == pytest.approx(-other[key].value)
        assert (one[key].low, one[key].high) == pytest.approx((-other[key].high, -other[key].low))
        assert one[key].low > 0, "every patient is read better by the better one"
        same = difference(good, good, DRAWN)[key]
        assert (same.value, same.low, same.high) == (0, 0, 0)


def test_what_patients_have_in_common_cancels() -> None:
    """Hard and easy patients make both rows uncertain, their difference not."""
    easy = np.diag([0, 90, 90, 90, 90]) + 10
    hard = np.diag([0, 10, 10, 10, 10]) + 30
    gain = np.diag([0, 5, 5, 5, 5])
    base = [easy, easy, hard, easy, easy, hard]
    own = repeated([base], DRAWN)["mean_dice"].mean
    apart = difference([[c + gain for c in base]], [base], DRAWN)["mean_dice"]
    assert apart.low > 0
    assert apart.high - apart.low < (own.high - own.low) / 5


def test_one_region_alone_gives_no_interval() -> None:
    found = repeated([answers(0)[:1]], drawn_units(["a"]))["mean_dice"].mean
    assert math.isfinite(found.value)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_spread_is_that_of_a_sample() -> None:
    values = [0.5, 0.71, 0.42, 0.6]
    found = spread(values)
    assert found.mean == pytest.approx(statistics.mean(values))
    assert found.deviation == pytest.approx(statistics.stdev(values))
    assert spread([*values, math.nan]) == found
    assert spread([0.5]).mean == 0.5
    assert math.isnan(spread([0.5]).deviation)
    assert math.isnan(spread([]).mean)


@pytest.mark.parametrize("seeds", [[], [[]], [answers(0), answers(1)[:3]]])
def test_seeds_of_unequal_images_are_refused(seeds) -> None:
    with pytest.raises(InputError, match="the same images"):
        repeated(seeds, DRAWN)
