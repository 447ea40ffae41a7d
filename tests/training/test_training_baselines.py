"""Opponents without structure: they find what colour tells, and nothing else."""

from __future__ import annotations

import dataclasses
import sys
import threading

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_hspnet.errors import CancelledError, DependencyError, InputError
from napari_hspnet.training import (
    FEATURE_SETS,
    best_constant,
    confusion,
    constant_answer,
    fit_forest,
    sample_pixels,
    scores,
)
from napari_hspnet.training.features import features_at


@dataclasses.dataclass(frozen=True)
class Field:
    rgb: np.ndarray
    truth: np.ndarray


SIDE = 192
COLOURS = np.array([[240] * 3, [210, 150, 190], [180, 110, 170], [150, 80, 150], [110, 50, 120]])


def quarters() -> np.ndarray:
    """A class a quarter, with background between."""
    truth = np.zeros((SIDE, SIDE), np.uint8)
    half = SIDE // 2
    for value, (y, x) in enumerate([(0, 0), (0, half), (half, 0), (half, half)], start=1):
        truth[y + 4 : y + half - 4, x + 4 : x + half - 4] = value
    return truth


def coloured(seed: int) -> Field:
    """Each class has a colour."""
    truth = quarters()
    noise = np.random.default_rng(seed).normal(0, 4, (*truth.shape, 3))
    return Field(np.clip(COLOURS[truth] + noise, 0, 255).astype(np.uint8), truth)


def grained(seed: int) -> Field:
    """Each class has a grain; every pixel's colour comes from one distribution."""
    truth = quarters()
    rng = np.random.default_rng(seed)
    value = np.zeros(truth.shape)
    for c, sigma in enumerate((0.3, 1.0, 2.5, 6.0), start=1):
        grain = gaussian_filter(rng.standard_normal(truth.shape), sigma)
        # Ranks: the same histogram whatever the grain.
        inside = truth == c
        value[inside] = grain[inside].argsort().argsort() / inside.sum()
    grey = np.repeat((80 + 120 * value)[..., None], 3, axis=2)
    return Field(grey.astype(np.uint8), truth)


def structured(seed: int) -> Field:
    """The class is said by one mark in a corner of the quarter, 50 px from most of it."""
    truth = quarters()
    rng = np.random.default_rng(seed)
    order = rng.permutation(4) + 1
    said = np.concatenate([[0], order])[truth].astype(np.uint8)
    rgb = rng.integers(150, 200, (*truth.shape, 3)).astype(np.uint8)
    for quarter, value in enumerate(order):
        y, x = divmod(quarter, 2)
        top, left = y * SIDE // 2 + 6, x * SIDE // 2 + 6
        rgb[top : top + 8, left : left + 8] = 30 * value
    return Field(rgb, said)


def mean_dice(make, key: str, trees: int = 24) -> float:
    kind = FEATURE_SETS[key]
    fields = [make(seed) for seed in range(6)]
    sample = sample_pixels(fields, len(fields), 600, kinds=[kind])
    forest = fit_forest(sample, kind, trees=trees)
    total = np.zeros((5, 5), np.int64)
    for seed in (100, 101, 102):
        held_out = make(seed)
        rows, columns = np.nonzero(held_out.truth)
        rows, columns = rows[::7], columns[::7]
        answer = forest.predict(held_out.rgb, rows, columns)
        total += confusion(held_out.truth[rows, columns], answer)
    return scores(total).mean_dice


@pytest.mark.parametrize("key", sorted(FEATURE_SETS))
def test_colour_is_found_by_all(key) -> None:
    assert mean_dice(coloured, key) > 0.85


def test_grain_is_found_by_texture_alone() -> None:
    assert mean_dice(grained, "texture") > 0.8
    assert mean_dice(grained, "pixel_colour") < 0.35
    assert mean_dice(grained, "wide_colour") < 0.5


@pytest.mark.parametrize("key", sorted(FEATURE_SETS))
def test_structure_is_found_by_none(key) -> None:
    assert mean_dice(structured, key) < 0.42


@pytest.mark.parametrize("kind", FEATURE_SETS.values(), ids=lambda kind: kind.key)
def test_features_of_a_pixel_reach_no_further_than_they_say(kind) -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (150, 150, 3), dtype=np.uint8)
    far = rgb.copy()
    # 65 px reach 32 to each side; texture 16 and the radius of its gradients.
    far[:, 75 + 36 :] = 0
    here = np.array([75])
    np.testing.assert_allclose(
        features_at(kind, rgb, here, here), features_at(kind, far, here, here), atol=2e-3
    )
    far[75, 75] = 255 - far[75, 75]
    assert (features_at(kind, rgb, here, here) != features_at(kind, far, here, here)).any()


def test_samples_hold_each_class_as_often() -> None:
    fields = [coloured(0), Field(coloured(1).rgb, np.where(quarters() == 4, 4, 1).astype(np.uint8))]
    sample = sample_pixels(fields, 2, 500, kinds=[FEATURE_SETS["pixel_colour"]])
    assert np.bincount(sample.labels).tolist() == [0, 500, 500, 500, 500]
    assert sample.features["pixel_colour"].shape == (2000, 6)


def test_the_same_seed_gives_the_same_forest(monkeypatch) -> None:
    kind = FEATURE_SETS["pixel_colour"]
    place = (np.arange(SIDE), np.arange(SIDE))

    def answer(seed: int, threads: int) -> bytes:
        monkeypatch.setattr("torch.get_num_threads", lambda: threads)
        sample = sample_pixels([grained(0)], 1, 200, seed, [kind])
        return fit_forest(sample, kind, seed, trees=9).predict(grained(1).rgb, *place).tobytes()

    assert answer(3, 1) == answer(3, 2)
    assert answer(3, 1) != answer(4, 1)


def test_fields_of_one_class_teach_nothing() -> None:
    field = Field(coloured(0).rgb, np.full((SIDE, SIDE), 2, np.uint8))
    with pytest.raises(InputError, match="two classes"):
        sample_pixels([field], 1, 10)
    with pytest.raises(InputError, match="two classes"):
        sample_pixels([], 0, 10)


def test_cancelling_stops_sampling_growing_and_answering() -> None:
    kind = FEATURE_SETS["pixel_colour"]
    cancel = threading.Event()
    sample = sample_pixels([coloured(0)], 1, 50, kinds=[kind], cancel=cancel)
    forest = fit_forest(sample, kind, trees=4, cancel=cancel)
    cancel.set()
    here = np.array([50])
    for call in (
        lambda: sample_pixels([coloured(0)], 1, 50, kinds=[kind], cancel=cancel),
        lambda: fit_forest(sample, kind, trees=4, cancel=cancel),
        lambda: forest.predict(coloured(0).rgb, here, here, cancel),
    ):
        with pytest.raises(CancelledError):
            call()


def test_growing_stops_on_the_way_and_tells_how_far_it_is() -> None:
    kind = FEATURE_SETS["pixel_colour"]
    sample = sample_pixels([coloured(0)], 1, 50, kinds=[kind])
    cancel = threading.Event()
    told = []

    def progress(part: float) -> None:
        told.append(part)
        if part > 0.4:
            cancel.set()

    with pytest.raises(CancelledError):
        fit_forest(sample, kind, trees=40, progress=progress, cancel=cancel)
    assert told[-1] == pytest.approx(0.5)
    assert told == sorted(told)


def test_a_missing_scikit_learn_says_how_to_install_it(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    kind = FEATURE_SETS["pixel_colour"]
    sample = sample_pixels([coloured(0)], 1, 50, kinds=[kind])
    with pytest.raises(DependencyError, match=r"napari-hspnet\[learn\]"):
        fit_forest(sample, kind)


# ---- constant answers ----


def test_a_constant_answer_is_what_answering_it_everywhere_gives() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, (40, 40)).astype(np.uint8)
    any_answer = confusion(truth, rng.integers(0, 5, (40, 40)).astype(np.uint8))
    for value in (1, 2, 3, 4):
        expected = confusion(truth, np.full_like(truth, value))
        np.testing.assert_array_equal(constant_answer(any_answer, value), expected)


def test_the_best_constant_is_the_commonest_class() -> None:
    first = np.diag([999, 10, 5, 2, 1])
    second = np.diag([0, 1, 5, 30, 1])
    assert best_constant([first]) == 1
    assert best_constant([first, second]) == 3
