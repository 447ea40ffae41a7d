"""Patches: where they come from, and what augmentation does to them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_hspnet.errors import InputError
from napari_hspnet.training import FieldPatches
from napari_hspnet.training.augment import orient, stain_jitter


@dataclasses.dataclass(frozen=True)
class Field:
    rgb: np.ndarray
    truth: np.ndarray


def test_the_eight_orientations_are_eight_and_truth_goes_along() -> None:
    truth = np.arange(9, dtype=np.uint8).reshape(3, 3)
    rgb = np.repeat(truth[..., None], 3, axis=2)
    seen = set()
    for which in range(8):
        image, label = orient(rgb, truth, which)
        np.testing.assert_array_equal(image[..., 1], label)
        seen.add(label.tobytes())
    assert len(seen) == 8
    np.testing.assert_array_equal(orient(rgb, truth, 0)[1], truth)


@given(st.integers(0, 2**32 - 1))
def test_stain_jitter_keeps_glass_and_the_order_of_darkness(seed) -> None:
    rng = np.random.default_rng(seed)
    grey = np.repeat(np.array([[20, 90, 180, 255]], np.uint8)[..., None], 3, axis=2)
    out = stain_jitter(grey, rng, 0.08).astype(int)
    assert (out[0, 3] >= 253).all()
    assert (np.diff(out.sum(axis=2)[0]) > 0).all()


def test_stain_jitter_of_no_strength_changes_nothing() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(stain_jitter(rgb, np.random.default_rng(1), 0.0), rgb)
    assert (stain_jitter(rgb, np.random.default_rng(1), 0.2) != rgb).any()


def test_patches_come_from_the_field_with_their_truth() -> None:
    """Colour says the truth at each pixel, so a patch can be checked against itself."""
    rng = np.random.default_rng(0)
    truth = rng.integers(1, 5, (120, 90)).astype(np.uint8)
    field = Field(np.repeat(truth[..., None] * 50, 3, axis=2).astype(np.uint8), truth)
    rgb, label = FieldPatches([field], stain=0).batch(rng, 64, 5)
    assert rgb.shape == (5, 64, 64, 3)
    np.testing.assert_array_equal(rgb[..., 0], label * 50)


def test_rare_classes_come_as_often() -> None:
    common = Field(np.zeros((64, 64, 3), np.uint8), np.full((64, 64), 1, np.uint8))
    rare = Field(np.full((64, 64, 3), 9, np.uint8), np.full((64, 64), 4, np.uint8))
    source = FieldPatches([common] * 9 + [rare])
    _, truth = source.batch(np.random.default_rng(0), 64, 300)
    assert 110 < np.count_nonzero(truth[:, 0, 0] == 4) < 190


def test_patches_hold_enough_foreground_where_there_is_some() -> None:
    truth = np.zeros((400, 400), np.uint8)
    truth[:, :200] = 2
    source = FieldPatches([Field(np.zeros((400, 400, 3), np.uint8), truth)])
    _, labels = source.batch(np.random.default_rng(0), 64, 60)
    assert (np.mean(labels > 0, axis=(1, 2)) >= 0.2).all()


def test_a_field_with_little_foreground_still_gives_patches() -> None:
    truth = np.zeros((200, 200), np.uint8)
    truth[100, 100] = 3
    source = FieldPatches([Field(np.zeros((200, 200, 3), np.uint8), truth)])
    assert source.batch(np.random.default_rng(0), 64, 2)[1].shape == (2, 64, 64)


def test_small_fields_are_padded_with_glass() -> None:
    field = Field(np.zeros((30, 200, 3), np.uint8), np.ones((30, 200), np.uint8))
    rgb, truth = FieldPatches([field], stain=0).batch(np.random.default_rng(0), 64, 3)
    np.testing.assert_array_equal(rgb[..., 0] == 255, truth == 0)
    assert (truth > 0).sum() == 3 * 30 * 64


@pytest.mark.parametrize(
    "fields", [[], [Field(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8))]]
)
def test_nothing_to_train_on_is_named(fields) -> None:
    with pytest.raises(InputError, match="nothing to train on"):
        FieldPatches(fields)
