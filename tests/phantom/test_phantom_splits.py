"""Seeds that are learnt from, chosen by and judged on are apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_hspnet.errors import InputError
from napari_hspnet.phantom.splits import SPLIT_SIZE, SPLITS, seeds_of, split_of


def test_the_borders_of_the_splits() -> None:
    """Written down in the module and in every card: they never move."""
    assert split_of(0) == split_of(999_999_999) == "train"
    assert split_of(1_000_000_000) == split_of(1_999_999_999) == "validation"
    assert split_of(2_000_000_000) == split_of(2_999_999_999) == "test"


@given(st.sampled_from(sorted(SPLITS)), st.integers(0, SPLIT_SIZE - 5), st.integers(0, 5))
def test_seeds_of_a_split_are_in_it(split, start, count) -> None:
    seeds = seeds_of(split, start, count)
    assert len(set(seeds)) == count
    assert {split_of(seed) for seed in seeds} <= {split}


@pytest.mark.parametrize("seed", [-1, 3_000_000_000])
def test_a_seed_beyond_all_splits_is_refused(seed) -> None:
    with pytest.raises(InputError, match="no split"):
        split_of(seed)


@pytest.mark.parametrize(
    ("split", "start", "count"),
    [("train", -1, 1), ("train", SPLIT_SIZE - 1, 2), ("test", 0, -1), ("holdout", 0, 1)],
)
def test_no_seeds_from_outside_a_split(split, start, count) -> None:
    with pytest.raises(InputError):
        seeds_of(split, start, count)
