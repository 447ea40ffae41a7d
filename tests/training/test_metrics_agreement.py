"""All figures of agreement against scikit-learn, and intervals against slow drawing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_hspnet.classes import CLASSES
from napari_hspnet.errors import InputError
from napari_hspnet.training import bootstrap, confusion, scores
from napari_hspnet.training.agreement import (
    GRADED,
    agreement,
    drawn_units,
    figures,
    high_grade_counts,
)

sklearn = pytest.importorskip("sklearn.metrics")

labels = arrays(np.uint8, (5, 8), elements=st.integers(0, 4))
GRADES = [1, 2, 3, 4]


def images(count, seed=0, side=30):
    """Images with truth and answers that mostly agree."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        truth = rng.integers(0, 5, (side, side)).astype(np.uint8)
        wrong = rng.random((side, side)) < rng.uniform(0.1, 0.6)
        answer = np.where(wrong, rng.integers(0, 5, (side, side)), truth).astype(np.uint8)
        made.append((truth, answer))
    return made


@settings(max_examples=40, deadline=None)
@given(labels, labels, st.booleans())
def test_figures_are_those_of_scikit_learn(truth, predicted, masked) -> None:
    found = figures(confusion(truth, predicted), masked)
    t, p = truth.ravel(), predicted.ravel()
    if masked:
        t, p = t[t > 0], p[t > 0]
    there = [v for v in GRADES if ((t == v) | (p == v)).any()]
    if not there:
        assert math.isnan(found["mean_dice"])
        return
    average = {"labels": there, "average": None, "zero_division": 0}
    dice, iou = sklearn.f1_score(t, p, **average), sklearn.jaccard_score(t, p, **average)
    assert found["mean_dice"] == pytest.approx(dice.mean())
    assert found["mean_iou"] == pytest.approx(iou.mean())
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(t, p))
    for c in CLASSES:
        if c.value in there:
            assert found[f"dice_{c.name}"] == pytest.approx(dice[there.index(c.value)])
            assert found[f"iou_{c.name}"] == pytest.approx(iou[there.index(c.value)])
        else:
            assert math.isnan(found[f"dice_{c.name}"])


@pytest.mark.parametrize("seed", range(5))
def test_grades_are_judged_as_scikit_learn_does(seed) -> None:
    ((truth, answer),) = images(1, seed)
    t, p = truth[truth > 0], answer[truth > 0]
    found = figures(confusion(truth, answer))
    graded = p > 0
    kappa = sklearn.cohen_kappa_score(t[graded], p[graded], labels=GRADES, weights="quadratic")
    assert found["kappa"] == pytest.approx(kappa)
    assert found["graded"] == pytest.approx(graded.mean())
    high, said = t >= 3, p >= 3
    assert found["cin2_sensitivity"] == pytest.approx(sklearn.recall_score(high, said))
    assert found["cin2_specificity"] == pytest.approx(sklearn.recall_score(~high, ~said))
    assert found["cin2_agreement"] == pytest.approx(np.mean((high == said) & (p > 0)))
    tn, fp, fn, tp = sklearn.confusion_matrix(high, said).ravel()
    assert high_grade_counts(confusion(truth, answer)) == {
        "true_positive": tp,
        "false_negative": fn,
        "false_positive": fp,
        "true_negative": tn,
    }


def test_background_on_annotated_pixels_is_an_error_and_negative() -> None:
    truth = np.array([[4, 4, 1, 1, 0]], np.uint8)
    answer = np.array([[4, 0, 1, 0, 4]], np.uint8)
    found = figures(confusion(truth, answer))
    assert found["accuracy"] == 0.5
    assert found["cin2_sensitivity"] == 0.5
    assert found["cin2_specificity"] == 1.0
    assert found["cin2_agreement"] == 0.5
    assert found["kappa"] == 1.0
    assert found["graded"] == 0.5


def test_grades_are_judged_under_the_masked_protocol_alone() -> None:
    counts = confusion(*images(1)[0])
    assert set(figures(counts)) - set(figures(counts, masked=False)) == set(GRADED)


@given(st.integers(0, 100), st.booleans())
@settings(max_examples=20, deadline=None)
def test_figures_of_many_matrices_are_the_scores_of_each(seed, masked) -> None:
    counts = [confusion(t, p) for t, p in images(3, seed, side=4)]
    many = figures(np.stack(counts), masked)
    for i, one in enumerate(counts):
        wanted = scores(one, masked)
        assert many["mean_dice"][i] == pytest.approx(wanted.mean_dice)
        assert many["mean_iou"][i] == pytest.approx(wanted.mean_iou)
        assert many["accuracy"][i] == pytest.approx(wanted.accuracy)


def test_pooled_and_per_image_are_two_things() -> None:
    """A large image that is right, a small one that is wrong."""
    counts = [np.diag([0, 90, 90, 90, 90]), np.zeros((5, 5), int)]
    counts[1][1, 2] = 10
    found = agreement(counts, drawn_units(["a", "b"]))
    assert found.pooled["accuracy"].value == pytest.approx(360 / 370)
    assert found.per_image["accuracy"].value == pytest.approx(0.5)
    assert found.per_image["mean_dice"].value == pytest.approx(0.5)
    assert found.per_image["dice_CIN3"].value == 1.0, "an image without the class says nothing"


def test_intervals_are_those_of_the_slides_bootstrap_where_each_image_is_a_patient() -> None:
    counts = [confusion(t, p) for t, p in images(6)]
    found = agreement(counts, drawn_units([f"p{i}" for i in range(6)]), seed=3)
    wanted = bootstrap(counts, seed=3)
    for key, one in (
        ("mean_dice", wanted.mean_dice),
        ("accuracy", wanted.accuracy),
        ("cin2_agreement", wanted.high_grade),
        ("dice_CIN2", wanted.dice["CIN2"]),
    ):
        mine = found.pooled[key]
        assert (mine.value, mine.low, mine.high) == pytest.approx((one.value, one.low, one.high))


def test_whole_patients_are_drawn_again() -> None:
    counts = [confusion(t, p) for t, p in images(5)]
    patients = ["b", "a", "b", "c", "a"]
    found = agreement(counts, drawn_units(patients), resamples=300, seed=7)
    order = ["b", "a", "c"]
    drawings = np.random.default_rng(7).integers(0, 3, (300, 3))
    pooled, single = [], []
    for drawing in drawings:
        chosen = [
            c for unit in drawing for c, p in zip(counts, patients, strict=True) if p == order[unit]
        ]
        pooled.append(scores(sum(chosen)).mean_iou)
        single.append(np.mean([scores(c).accuracy for c in chosen]))
    for mine, again in (
        (found.pooled["mean_iou"], pooled),
        (found.per_image["accuracy"], single),
    ):
        assert (mine.low, mine.high) == pytest.approx(tuple(np.quantile(again, [0.025, 0.975])))


def test_regions_are_drawn_where_there_is_one_patient_and_it_is_said() -> None:
    drawn = drawn_units(["a", "a", "a"])
    assert (drawn.kind, drawn.count) == ("region", 3)
    assert "one patient" in drawn.words()
    assert drawn_units(["a", "b", "a"]).kind == "patient"
    assert "patient (2)" in drawn_units(["a", "b", "a"]).words()


def test_one_region_has_no_interval() -> None:
    drawn = drawn_units(["a"])
    assert drawn.kind == "none"
    assert "no intervals" in drawn.words()
    one = agreement([confusion(*images(1)[0])], drawn).pooled["mean_dice"]
    assert math.isfinite(one.value)
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_a_class_that_is_nowhere_is_told_by_no_figure() -> None:
    counts = np.zeros((5, 5), np.int64)
    counts[1, 1] = counts[2, 1] = 5
    found = agreement([counts, counts], drawn_units(["a", "b"]))
    for key in ("dice_CIN3", "cin2_sensitivity"):
        assert math.isnan(found.pooled[key].value)
        assert math.isnan(found.per_image[key].value)
        assert math.isnan(found.per_image[key].low)
    assert found.pooled["mean_dice"].value == pytest.approx((2 * 5 / 15 + 0) / 2)


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(InputError, match="0 images"):
        agreement([], drawn_units([]))
    with pytest.raises(InputError, match="interval"):
        agreement([np.eye(5, dtype=int)], drawn_units(["a"]), level=1.5)
