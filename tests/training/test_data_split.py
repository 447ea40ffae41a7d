"""Splits by patient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import in_memory, one_class

from napari_hspnet.errors import InputError
from napari_hspnet.training.data import Split, check_split, folds, split_by_patient


def images_of(*patients):
    return [in_memory(f"{p}-{i}", 12, 12, i, p) for i, p in enumerate(patients)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=30),
    st.integers(2, 5),
    st.integers(0, 99),
    st.booleans(),
)
def test_folds_hold_each_patient_once_and_none_is_empty(numbers, k, seed, sized) -> None:
    patients = [f"p{n}" for n in numbers]
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 50, (len(patients), 4)) if sized else None
    if len(set(patients)) < k:
        with pytest.raises(InputError, match=f"fewer than {k} parts"):
            folds(patients, k, seed, sizes)
        return
    made = folds(patients, k, seed, sizes)
    assert len(made) == k
    assert all(made)
    assert sorted(p for fold in made for p in fold) == sorted(set(patients))
    # The order in which images come changes nothing.
    turn = rng.permutation(len(patients))
    again = folds([patients[i] for i in turn], k, seed, None if sizes is None else sizes[turn])
    assert again == made


def test_folds_have_about_as_many_pixels_of_each_class() -> None:
    rng = np.random.default_rng(0)
    patients = [f"p{i:02d}" for i in range(40)]
    sizes = rng.gamma(1.0, 1000, (40, 4)) * (rng.random((40, 4)) < 0.5)
    made = folds(patients, 4, 0, sizes)
    place = {p: i for i, fold in enumerate(made) for p in fold}
    sums = np.zeros((4, 4))
    np.add.at(sums, [place[p] for p in patients], sizes)
    shares = sums / sums.sum(axis=0)
    assert np.abs(shares - 0.25).max() < 0.08
    assert folds(patients, 4, 1, sizes) != made


def test_the_papers_test_set_can_be_one_fold() -> None:
    patients = [f"p{i}" for i in range(10)]
    made = folds(patients, 4, 0, first=["p3", "p7"])
    assert made[0] == ("p3", "p7")
    assert len(made) == 4
    assert sorted(p for fold in made for p in fold) == patients
    assert sorted(len(fold) for fold in made[1:]) == [2, 3, 3]
    for wrong in (["x"], []):
        with pytest.raises(InputError, match="no image of"):
            folds(patients, 4, 0, first=wrong)


def test_impossible_folds_are_refused() -> None:
    with pytest.raises(InputError, match="1 folds"):
        folds(["a", "b"], 1)
    with pytest.raises(InputError, match="shape"):
        folds(["a", "b"], 2, 0, np.ones((3, 4)))


def test_a_split_by_share_keeps_patients_together() -> None:
    images = images_of(*"aabbccddeeffgghh")
    split = split_by_patient(images, 0.25, seed=1)
    assert {i.patient for i in split.train}.isdisjoint({i.patient for i in split.test})
    assert len(split.train) + len(split.test) == 16
    assert len(split.test) == 4
    assert split_by_patient(images, 0.25, seed=1) == split


def test_a_split_by_share_looks_at_the_classes() -> None:
    """Two patients of each class: one of each is to be judged by."""
    images = [one_class(f"{v}{i}", f"p{v}{i}", v) for v in (1, 2, 3, 4) for i in range(2)]
    split = split_by_patient(images, 0.5)
    assert sorted(image.labels[0, 0] for image in split.test) == [1, 2, 3, 4]


def test_a_split_by_name_takes_these_patients() -> None:
    images = images_of("a", "b", "a", "c")
    split = split_by_patient(images, ["a"])
    assert [image.patient for image in split.test] == ["a", "a"]
    assert [image.patient for image in split.train] == ["b", "c"]
    with pytest.raises(InputError, match="no image of z"):
        split_by_patient(images, ["z"])
    with pytest.raises(InputError, match="no image to learn from"):
        split_by_patient(images, ["a", "b", "c"])
    with pytest.raises(InputError, match="no image to judge by"):
        split_by_patient(images, [])


@pytest.mark.parametrize("share", [0.0, 1.0, -1, 2])
def test_a_share_that_leaves_a_side_empty_is_refused(share) -> None:
    with pytest.raises(InputError, match="no share"):
        split_by_patient(images_of("a", "b"), share)


def test_one_patient_cannot_be_split() -> None:
    with pytest.raises(InputError, match="1 patients, fewer than 2 parts"):
        split_by_patient(images_of("a", "a"), 0.5)


def test_patients_on_both_sides_are_named() -> None:
    train, test = images_of("a", "b", "c"), images_of("c", "d", "b")
    with pytest.raises(InputError, match="both sides of the split: b, c"):
        check_split(train, test)
    with pytest.raises(InputError, match="both sides"):
        Split(tuple(train), tuple(test))
    check_split(train, images_of("d"))
    with pytest.raises(InputError, match="to judge by"):
        check_split(train, [])
