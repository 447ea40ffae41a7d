"""Window grid, regions and weights against plain enumeration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.errors import InputError, RegionError
from napari_hspnet.inference import Settings, make_plan
from napari_hspnet.inference.blend import gaussian_weights
from napari_hspnet.inference.plan import axis_starts
from napari_hspnet.slides import LabelGrid, PixelBox, Region


@given(length=st.integers(1, 2000), window=st.integers(64, 400), stride=st.integers(1, 400))
def test_windows_cover_the_axis_and_stay_inside(length, window, stride):
    stride = min(stride, window)
    starts = axis_starts(length, window, stride)
    covered = np.zeros(max(length, window), dtype=bool)
    for start in starts:
        covered[start : start + window] = True
    assert covered.all()
    assert (np.diff(starts) > 0).all()
    assert starts[-1] + window <= max(length, window)
    assert (starts[:-1] % stride == 0).all()


@settings(max_examples=60)
@given(
    points=st.lists(
        st.tuples(st.floats(-20, 120), st.floats(-20, 120)), min_size=3, max_size=6, unique=True
    ),
    split=st.integers(1, 99),
)
def test_region_mask_is_the_same_in_pieces(points, split):
    grid = LabelGrid((100, 100))
    try:
        region = Region.shapes([points])
        region.box(grid)
    except RegionError:
        return

    def mask(box):
        found = region.mask(box, grid)
        return np.ones((box.height, box.width), bool) if found is None else found

    whole = mask(PixelBox(0, 0, 100, 100))
    pieces = np.concatenate([mask(PixelBox(0, 0, split, 100)), mask(PixelBox(split, 0, 100, 100))])
    assert np.array_equal(whole, pieces)


def test_region_mask_equals_shapely_on_a_rotated_shape():
    shapely = pytest.importorskip("shapely")
    points = [(10.2, 30.7), (50.9, 5.1), (90.3, 60.6), (45.5, 88.8)]
    grid = LabelGrid((100, 100))
    mask = Region.shapes([points]).mask(PixelBox(0, 0, 100, 100), grid)
    polygon = shapely.Polygon([(x, y) for y, x in points])
    centre = np.arange(100) + 0.5
    xs, ys = np.meshgrid(centre, centre)
    assert np.array_equal(mask, shapely.contains_xy(polygon, xs, ys))


def test_overlapping_shapes_unite():
    squares = [
        [(0, 0), (0, 60), (60, 60), (60, 0)],
        [(30, 30), (30, 90), (90, 90), (90, 30)],
    ]
    mask = Region.shapes(squares).mask(PixelBox(0, 0, 100, 100), LabelGrid((100, 100)))
    assert mask.sum() == 60 * 60 * 2 - 30 * 30


@settings(max_examples=40)
@given(
    points=st.lists(
        st.tuples(st.floats(0, 300), st.floats(0, 300)), min_size=3, max_size=5, unique=True
    )
)
def test_windows_that_touch_no_pixel_of_the_region_are_left_out(points):
    grid, how = LabelGrid((300, 300)), Settings(window=64, stride=32)
    try:
        region = Region.shapes([points])
        plan = make_plan(grid, region, how)
    except RegionError:
        return
    inside = region.mask(PixelBox(0, 0, 300, 300), grid)
    inside = np.ones((300, 300), bool) if inside is None else inside
    expected = {
        (y, x)
        for y in axis_starts(300, 64, 32)
        for x in axis_starts(300, 64, 32)
        if inside[y : y + 64, x : x + 64].any()
    }
    (band,) = plan.bands
    rows, columns = np.nonzero(band.active)
    assert set(zip(plan.ys[rows], band.xs[columns], strict=True)) == expected
    assert plan.windows == len(expected)


def test_weights_equal_the_formula():
    weights = gaussian_weights(400, 50.0)
    assert weights[0, 0] == pytest.approx(np.exp(-(199.5**2 * 2) / (2 * 50**2)), rel=1e-5)
    assert weights[150, 230] == pytest.approx(np.exp(-(49.5**2 + 30.5**2) / (2 * 50**2)), rel=1e-5)
    assert (gaussian_weights(4000, 20.0) > 0).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"window": 10},
        {"stride": 0},
        {"stride": 500},
        {"blend": "mean"},
        {"precision": "int8"},
        {"sigma": 0.0},
    ],
)
def test_settings_that_cannot_be_used_are_refused(wrong):
    with pytest.raises(InputError):
        Settings(**wrong)


@pytest.mark.parametrize(
    "outline", [[(0, 0), (0, 10), (0, 20)], [(5, 5)], [(0, 0), (0, float("nan")), (9, 9)], []]
)
def test_a_region_of_no_area_is_refused(outline):
    with pytest.raises(RegionError):
        Region.shapes([outline])


@given(
    x0=st.integers(0, 3000),
    width=st.integers(1, 3000),
    band_width=st.integers(100, 1500),
)
def test_bands_tile_the_region_and_end_at_multiples(x0, width, band_width):
    region = Region.rectangle(10, x0, 50, width)
    plan = make_plan(
        LabelGrid((200, 6000)), region, Settings(window=64, stride=32), None, band_width
    )
    ends = [(band.x0, band.x1) for band in plan.bands]
    assert [x1 for _, x1 in ends[:-1]] == [x0 for x0, _ in ends[1:]]
    assert (ends[0][0], ends[-1][1]) == (plan.box.x0, plan.box.x1)
    assert all(x1 % band_width == 0 for _, x1 in ends[:-1])
    assert all(0 < x1 - x0 <= band_width for x0, x1 in ends)
