"""Levels sampled at pixel centres, against the definition pixel by pixel."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_hspnet.cases.sampling import (
    COARSEST,
    level_count,
    level_shape,
    padded_shape,
    sample,
)

sides = st.integers(1, 70)


def whole_level(values, level):
    """The definition, written out."""
    if level == 0:
        return values
    height, width = values.shape
    step, half = 2**level, 2 ** (level - 1)
    return np.array(
        [
            [
                values[min(i * step + half, height - 1), min(j * step + half, width - 1)]
                for j in range(-(-width // step))
            ]
            for i in range(-(-height // step))
        ],
        dtype=values.dtype,
    )


@given(sides, sides, st.integers(0, 5), st.data())
def test_blocks_make_the_same_level_as_the_whole(height, width, level, data):
    values = np.arange(height * width).reshape(height, width)
    expected = whole_level(values, level)
    assert level_shape(values.shape, level) == expected.shape
    built = np.full(expected.shape, -1)
    step_y = data.draw(st.integers(1, height))
    step_x = data.draw(st.integers(1, width))
    for y in range(0, height, step_y):
        for x in range(0, width, step_x):
            block = values[y : y + step_y, x : x + step_x]
            top, left, part = sample(block, y, x, values.shape, level)
            place = built[top : top + part.shape[0], left : left + part.shape[1]]
            assert place.shape == part.shape
            assert (place == -1).all()
            place[...] = part
    np.testing.assert_array_equal(built, expected)


@given(st.integers(1, 200_000), st.integers(1, 200_000))
def test_padded_levels_are_exact_powers_of_two_apart(height, width):
    count = level_count((height, width))
    shapes = [padded_shape((height, width), k) for k in range(count)]
    assert max(level_shape((height, width), count - 1)) <= COARSEST
    for finer, coarser in itertools.pairwise(shapes):
        assert (finer[0], finer[1]) == (coarser[0] * 2, coarser[1] * 2)
    for k, shape in enumerate(shapes):
        real = level_shape((height, width), k)
        assert shape[0] >= real[0]
        assert shape[1] >= real[1]
        assert shape[0] - real[0] < 2**count
