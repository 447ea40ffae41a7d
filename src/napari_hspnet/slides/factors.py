"""True level factors, told from sizes that were rounded."""

from __future__ import annotations

import numpy as np

__all__ = ["padded_shapes", "true_factors"]

Pair = tuple[float, float]


def true_factors(base: tuple[int, int], shape: tuple[int, int]) -> Pair:
    """The factors (y, x) between level 0 and another level.

    A scanner that halves 2967 px twice stores 741 or 742, whose ratio to 2967
    is 4.004 or 3.999, yet pixel j still covers ``[4 j, 4 j + 4)``. Where one
    integer explains both sizes under rounding down, up or to nearest, it is the
    factor; else where one ratio explains both, the ratio of the longer side;
    else each axis has its own.

    Parameters
    ----------
    base, shape : tuple of int
        (height, width) of level 0 and of the level.
    """
    ratios = (base[0] / shape[0], base[1] / shape[1])
    common = sorted(set(_integers(base[0], shape[0])) & set(_integers(base[1], shape[1])))
    if common:
        # Small levels admit several; scanners use powers of two.
        powers = [n for n in common if n & (n - 1) == 0]
        best = float(min(powers or common, key=lambda n: abs(n - _longer(base, ratios))))
        return best, best
    low = max(base[0] / (shape[0] + 1), base[1] / (shape[1] + 1))
    high = min(_over(base[0], shape[0]), _over(base[1], shape[1]))
    ratio = _longer(base, ratios)
    if low < ratio < high:
        return ratio, ratio
    alone = [_integers(base[axis], shape[axis]) for axis in (0, 1)]
    return (
        float(alone[0][0]) if len(alone[0]) == 1 else ratios[0],
        float(alone[1][0]) if len(alone[1]) == 1 else ratios[1],
    )


def _longer(base: tuple[int, int], ratios: Pair) -> float:
    return ratios[0] if base[0] >= base[1] else ratios[1]


def _over(size: int, reduced: int) -> float:
    return size / (reduced - 1) if reduced > 1 else float("inf")


def _integers(size: int, reduced: int) -> list[int]:
    """Integers n with ``|size / n - reduced| < 1``: any rounding, one or many steps."""
    first = max(1, int(size / (reduced + 1)))
    last = size if reduced <= 1 else int(size / (reduced - 1)) + 1
    return [n for n in range(first, last + 1) if abs(size / n - reduced) < 1]


def padded_shapes(
    shapes: list[tuple[int, int]], factors: list[Pair], search: int = 4096
) -> list[tuple[int, int]]:
    """Sizes to which levels are padded so that their ratios are the true factors.

    napari takes a level's scale from the ratio of array shapes. With integer
    factors the ratios become exact. With others the least padding of level 0,
    up to `search` px, is taken for which the far end of every level lies within
    0.02 of its own pixels, or the best there is, which is never over half one.

    Parameters
    ----------
    shapes : list of (height, width)
        Stored sizes, finest first.
    factors : list of (y, x)
        True factors, the first being (1, 1).
    search : int
        How much padding of level 0 is tried, in px.
    """
    columns = []
    for axis in (0, 1):
        base = np.arange(shapes[0][axis], shapes[0][axis] + search, dtype=np.float64)
        worst = np.zeros_like(base)
        for shape, factor in zip(shapes[1:], factors[1:], strict=True):
            size = np.maximum(np.round(base / factor[axis]), shape[axis])
            worst = np.maximum(worst, np.abs(base / factor[axis] - size))
        good = np.flatnonzero(worst <= max(1e-9, float(worst.min())))
        near = np.flatnonzero(worst <= 0.02)
        exact = np.flatnonzero(worst <= 1e-9)
        chosen = base[exact[0] if exact.size else near[0] if near.size else good[0]]
        columns.append(
            [
                max(round(float(chosen) / factor[axis]), shape[axis])
                for shape, factor in zip(shapes, factors, strict=True)
            ]
        )
    return list(zip(columns[0], columns[1], strict=True))
