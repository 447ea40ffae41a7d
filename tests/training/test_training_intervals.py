"""Bootstrap intervals against a slow loop, and what they mean."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_hspnet.classes import CLASSES
from napari_hspnet.errors import InputError
from napari_hspnet.training import bootstrap, paired_difference, scores

matrices = st.lists(arrays(np.int64, (5, 5), elements=st.integers(0, 40)), min_size=1, max_size=4)
KEYS = ("mean_dice", *(c.name for c in CLASSES), "accuracy", "high_grade")


def slow_figures(counts) -> dict[str, float]:
    """One pooled matrix's figures, spelled out pixel group by pixel group."""
    found = scores(counts)
    figures = {c.name: found.dice.get(c.name, math.nan) for c in CLASSES}
    right = sum(counts[t, p] for t in range(1, 5) for p in range(1, 5) if (t >= 3) == (p >= 3))
    total = counts[1:].sum()
    figures["high_grade"] = right / total if total else math.nan
    return figures | {"mean_dice": found.mean_dice, "accuracy": found.accuracy}


def slow_resamples(answers, resamples, seed) -> list[list[dict[str, float]]]:
    slides = len(answers[0])
    chosen = np.random.default_rng(seed).integers(0, slides, (resamples, slides))
    return [[slow_figures(sum(counts[i] for i in drawn)) for counts in answers] for drawn in chosen]


def flat(estimates) -> dict:
    return {
        "mean_dice": estimates.mean_dice,
        "accuracy": estimates.accuracy,
        "high_grade": estimates.high_grade,
        **estimates.dice,
    }


def check(found, value, again) -> None:
    """`found` is `value` with the 95 % percentiles of what is finite in `again`."""
    again = [v for v in again if math.isfinite(v)]
    expected = [value, *(np.quantile(again, [0.025, 0.975]) if again else (math.nan,) * 2)]
    assert [found.value, found.low, found.high] == pytest.approx(expected, nan_ok=True)


@settings(max_examples=25, deadline=None)
@given(matrices, st.integers(0, 9))
def test_intervals_are_those_of_a_slow_loop(counts, seed) -> None:
    found = flat(bootstrap(counts, resamples=40, seed=seed))
    value = slow_figures(sum(counts))
    again = slow_resamples([counts], 40, seed)
    for key in KEYS:
        check(found[key], value[key], [one[0][key] for one in again])


@settings(max_examples=25, deadline=None)
@given(matrices, st.data())
def test_differences_are_drawn_in_pairs(first, data) -> None:
    size = len(first)
    second = data.draw(
        st.lists(
            arrays(np.int64, (5, 5), elements=st.integers(0, 40)), min_size=size, max_size=size
        )
    )
    found = flat(paired_difference(first, second, resamples=40, seed=3))
    a, b = slow_figures(sum(first)), slow_figures(sum(second))
    again = slow_resamples([first, second], 40, 3)
    for key in KEYS:
        check(found[key], a[key] - b[key], [one[0][key] - one[1][key] for one in again])


def test_pixels_of_background_change_nothing() -> None:
    counts = [np.arange(25).reshape(5, 5) + i for i in range(3)]
    other = [c.copy() for c in counts]
    for c in other:
        c[0] *= 100
    assert bootstrap(counts) == bootstrap(other)


def test_a_predicted_zero_agrees_with_no_grade() -> None:
    counts = np.zeros((5, 5), np.int64)
    counts[1, 0] = counts[1, 2] = counts[4, 0] = counts[4, 3] = 10
    assert bootstrap([counts]).high_grade.value == 0.5


def test_slides_that_differ_give_wide_intervals_and_pairs_narrow_ones() -> None:
    """What slides have in common cancels in pairs: that is what pairs are for."""
    rng = np.random.default_rng(0)
    first, second = [], []
    for _ in range(20):
        skill = rng.uniform(0.2, 0.9)
        for answers, right in ((first, skill + 0.05), (second, skill)):
            counts = np.full((5, 5), round(1000 * (1 - right) / 3))
            np.fill_diagonal(counts, round(1000 * right))
            counts[:, 0] = 0
            answers.append(counts)
    one = bootstrap(first).mean_dice
    gain = paired_difference(first, second).mean_dice
    assert one.low < one.value < one.high
    assert one.high - one.low > 0.1
    assert 0.04 < gain.low <= gain.value <= gain.high < 0.06


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(1)
    counts = list(rng.integers(0, 100, (6, 5, 5)))
    assert bootstrap(counts, seed=4) == bootstrap(counts, seed=4)
    assert bootstrap(counts, seed=4) != bootstrap(counts, seed=5)


@pytest.mark.parametrize(
    "call",
    [
        lambda: bootstrap([]),
        lambda: bootstrap([np.eye(5)], resamples=0),
        lambda: bootstrap([np.eye(5)], level=1.0),
        lambda: paired_difference([np.eye(5)], [np.eye(5)] * 2),
    ],
)
def test_what_makes_no_interval_is_refused(call) -> None:
    with pytest.raises(InputError):
        call()
