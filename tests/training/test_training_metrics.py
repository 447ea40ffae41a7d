"""Loss and metrics against slow, obvious references."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_hspnet.classes import CLASSES
from napari_hspnet.training import confusion, cross_entropy, scores

labels = arrays(np.uint8, (6, 7), elements=st.integers(0, 4))


@given(labels, labels)
def test_confusion_counts_pairs(truth, predicted) -> None:
    counts = confusion(truth, predicted)
    for t in range(5):
        for p in range(5):
            assert counts[t, p] == np.sum((truth == t) & (predicted == p))


@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=3), st.booleans())
def test_scores_pool_pixels_over_images(images, masked) -> None:
    counts = sum(confusion(t, p) for t, p in images)
    truth = np.concatenate([t.ravel() for t, _ in images])
    predicted = np.concatenate([p.ravel() for _, p in images])
    if masked:
        predicted, truth = predicted[truth > 0], truth[truth > 0]
    result = scores(counts, masked)
    dice, iou = [], []
    for c in CLASSES:
        a, b = truth == c.value, predicted == c.value
        if not (a | b).any():
            assert c.name not in result.dice
            continue
        dice.append(2 * (a & b).sum() / (a.sum() + b.sum()))
        iou.append((a & b).sum() / (a | b).sum())
        assert result.dice[c.name] == pytest.approx(dice[-1])
    assert result.pixels == truth.size
    if dice:
        assert result.mean_dice == pytest.approx(np.mean(dice))
        assert result.mean_iou == pytest.approx(np.mean(iou))
    else:
        assert math.isnan(result.mean_dice)
    if truth.size:
        assert result.accuracy == pytest.approx(np.mean(truth == predicted))
    else:
        assert math.isnan(result.accuracy)


def test_background_predicted_on_annotated_pixels_is_an_error() -> None:
    truth = np.array([[1, 1, 2, 0]], np.uint8)
    predicted = np.array([[1, 0, 2, 3]], np.uint8)
    masked, whole = scores(confusion(truth, predicted)), scores(confusion(truth, predicted), False)
    assert masked.dice == {"normal": pytest.approx(2 / 3), "CIN1": 1.0}
    assert masked.accuracy == pytest.approx(2 / 3)
    assert whole.dice["CIN2"] == 0.0


def test_cross_entropy_is_the_mean_of_minus_log_p_where_it_counts() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 3, 4))
    target[0, 0] = 255
    p = logits.softmax(1)
    terms = [
        -math.log(p[n, target[n, i, j], i, j])
        for n in range(2)
        for i in range(3)
        for j in range(4)
        if target[n, i, j] != 255
    ]
    assert len(terms) == 20
    assert float(cross_entropy(logits, target)) == pytest.approx(sum(terms) / 20, rel=1e-5)


def test_cross_entropy_of_nothing_is_zero_and_moves_nothing() -> None:
    logits = torch.randn(1, 5, 2, 2, requires_grad=True)
    loss = cross_entropy(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_weighted_cross_entropy_is_a_weighted_mean() -> None:
    torch.manual_seed(1)
    logits = torch.randn(2, 5, 3, 4)
    target = torch.randint(0, 5, (2, 3, 4))
    target[1, 2] = 255
    weights = torch.tensor([0.25, 1.0, 2.0, 1.0, 1.0])
    expected = torch.nn.functional.cross_entropy(logits, target, weights, ignore_index=255)
    assert float(cross_entropy(logits, target, weights=weights)) == pytest.approx(float(expected))


def test_weighted_cross_entropy_of_what_weighs_nothing_is_zero() -> None:
    logits = torch.randn(1, 5, 2, 2, requires_grad=True)
    weights = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0])
    loss = cross_entropy(logits, torch.zeros((1, 2, 2), dtype=torch.int64), weights=weights)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()
