"""Which units, patients or regions, are held back to judge by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError

__all__ = ["Needs", "hold_back"]

Sizes = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]

_ALL_SUBSETS = 12
_TRIES = 4096
_IMPOSSIBLE = 1000.0
_UNTAUGHT = 100.0
# One region of the four that lack weighs more than a half held back instead of a quarter.
_LACKS = 3.0


@dataclass(frozen=True, eq=False)
class Needs:
    """How much must be held back for a verdict.

    Attributes
    ----------
    have : ndarray of int64, (units, k)
        How much of each kind a unit has; the first is its regions, and where there are
        too few of them for a verdict, nothing else is asked for.
    least : ndarray of int64, (k,)
        Of each, over all that is held back.
    """

    have: Sizes
    least: Sizes


def hold_back(
    sizes: Sizes,
    taught: Sizes,
    share: float = 0.25,
    seed: int = 0,
    needs: Needs | None = None,
) -> _Mask:
    """Choose what is held back, at least one unit, and never all.

    Up to 12 units every choice is looked at; beyond, the best of many is bettered one
    unit at a time. A class that could be judged is, where two units have it; one that
    can be taught is taught, even where it then cannot be judged.

    More than `share` is held back where a verdict needs it and there is at least twice
    as much of it, as with four regions out of eight; but no more than half of the
    regions, unless whole patients leave no other choice.

    Parameters
    ----------
    sizes : ndarray of int64, (units, k)
        What is to be divided evenly, such as pixels of each class.
    taught : ndarray of int64, (units, classes)
        Pixels of each class that a unit would teach; two classes must be left.
    share : float
        Of each column of `sizes`, about.
    seed : int
        Of the choice among equally good ones.
    needs : Needs, optional
        Nothing beside the share without.

    Returns
    -------
    ndarray of bool, (units,)

    Raises
    ------
    InputError
        If none can be held back.
    """
    units = len(sizes)
    if units < 2:
        raise InputError(
            "There are too few regions to hold any back: what is judged by must not be learned "
            "from, and regions that overlap count as one",
            advice="Review and correct more regions, best of another patient",
        )
    rng = np.random.default_rng(seed)
    if units <= _ALL_SUBSETS:
        order = rng.permutation(units)
        numbers = np.arange(1, 2**units - 1)
        chosen = ((numbers[:, None] >> order[None, :]) & 1).astype(bool)
    else:
        chosen = rng.random((_TRIES, units)) < share
    cost = _costs(chosen, sizes, taught, share, needs)
    best: _Mask = chosen[int(np.argmin(cost))]
    least = float(cost.min())
    while units > _ALL_SUBSETS:
        flipped = best[None, :] ^ np.eye(units, dtype=bool)
        cost = _costs(flipped, sizes, taught, share, needs)
        if cost.min() >= least - 1e-12:
            break
        best, least = flipped[int(np.argmin(cost))], float(cost.min())
    if least >= _IMPOSSIBLE:
        raise InputError(
            "There are too few regions to hold any back: without some, the rest gives no patch, "
            "or shows one class only",
            advice="Review and correct larger regions, or more of them",
        )
    return best


def _costs(
    held: _Mask, sizes: Sizes, taught: Sizes, share: float, needs: Needs | None
) -> npt.NDArray[np.float64]:
    """How bad divisions are, (tries,), each a row of `held`."""
    some = sizes[:, sizes.sum(axis=0) > 0]
    part = held @ (some / some.sum(axis=0))
    cost: npt.NDArray[np.float64] = ((part - share) ** 2).sum(axis=1)
    cost += 0.1 * (held.mean(axis=1) - share) ** 2
    cost += 0.1 * ((part == 0) & ((some > 0).sum(axis=0) > 1)).sum(axis=1)
    if needs is not None:
        cost += _lacking(held, needs, share)
    left = (~held).astype(np.int64) @ taught
    cost += _UNTAUGHT * ((left == 0) & (taught.sum(axis=0) > 0)).sum(axis=1)
    none = held.all(axis=1) | ~held.any(axis=1)
    cost[none | ((left > 0).sum(axis=1) < 2)] += _IMPOSSIBLE
    return cost


def _lacking(held: _Mask, needs: Needs, share: float) -> npt.NDArray[np.float64]:
    """What a verdict lacks in divisions, and what they hold back beyond half, (tries,)."""
    total = needs.have.sum(axis=0)
    asked = (needs.least > 0) & (total >= 2 * needs.least)
    asked &= asked[0]
    if not asked.any():
        return np.zeros(len(held))
    back = held.astype(np.int64) @ needs.have
    missing = 1 - back[:, asked] / needs.least[asked]
    cost: npt.NDArray[np.float64] = np.maximum(missing, 0).sum(axis=1)
    # Beyond half weighs more than all that can be missing.
    cost += (asked.sum() + 1) * (back[:, 0] > max(0.5, share) * total[0])
    return _LACKS * cost
