"""Which seeds of phantoms are learnt from, chosen by, and judged on.

A phantom is its seed, so apart means: other seeds. Three ranges of 1e9 each,
fixed for good; whoever trains, tunes or reports takes seeds from here.

=============  ==============================  ================================
split          seeds                           what for
=============  ==============================  ================================
"train"        0 to 999,999,999                fields that a model learns from
"validation"   1,000,000,000 to 1,999,999,999  choosing: snapshots, settings
"test"         2,000,000,000 to 2,999,999,999  figures that are reported
=============  ==============================  ================================
"""

from __future__ import annotations

from types import MappingProxyType

from napari_hspnet.errors import InputError

__all__ = ["SPLITS", "SPLIT_SIZE", "seeds_of", "split_of"]

SPLIT_SIZE = 1_000_000_000
"""Seeds of a split."""

SPLITS = MappingProxyType({"train": 0, "validation": SPLIT_SIZE, "test": 2 * SPLIT_SIZE})
"""The first seed of each split."""


def split_of(seed: int) -> str:
    """The split of a seed: "train", "validation" or "test".

    Raises
    ------
    InputError
        If the seed is in none.
    """
    for name, first in SPLITS.items():
        if first <= seed < first + SPLIT_SIZE:
            return name
    raise InputError(
        f"the seed {seed} is in no split",
        advice=f"Give 0 to {len(SPLITS) * SPLIT_SIZE - 1}: see phantom/splits.py",
    )


def seeds_of(split: str, start: int, count: int) -> range:
    """Seeds of a split, one after another.

    Parameters
    ----------
    split : str
        "train", "validation" or "test".
    start : int
        How many of the split's seeds come before; 0 begins with its first.
    count : int
        How many seeds.

    Raises
    ------
    InputError
        If there is no such split, or the seeds would leave it.
    """
    if split not in SPLITS:
        raise InputError(
            f"there is no split {split!r}", advice=f"Choose one of {', '.join(SPLITS)}"
        )
    if start < 0 or count < 0 or start + count > SPLIT_SIZE:
        raise InputError(
            f"{count} seeds from number {start} on leave the split {split!r}",
            advice=f"Stay within 0 to {SPLIT_SIZE - 1}",
        )
    first = SPLITS[split] + start
    return range(first, first + count)
