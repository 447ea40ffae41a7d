"""Regions and the label grid, against shapely and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.errors import RegionError, ResolutionError
from napari_hspnet.slides import LabelGrid, PixelBox, Region, open_slide

from slide_files import noise, write_generic_tiff

GRID = LabelGrid((120, 150), 1.0)
coordinate = st.integers(-40, 190).map(lambda n: n + 0.137)
triangles = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=3)


def area(outline) -> float:
    return shapely.Polygon(outline).area


@given(outlines=st.lists(triangles.filter(lambda t: area(t) > 1), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_mask_is_the_pixels_whose_centre_lies_inside(outlines) -> None:
    region = Region.shapes(outlines)
    ys, xs = np.mgrid[0:120, 0:150] + 0.5
    polygons = [shapely.Polygon(o) for o in outlines]
    want = np.any([shapely.contains_xy(p, ys, xs) for p in polygons], axis=0)
    mask = region.mask(PixelBox(0, 0, 120, 150), GRID)
    mask = np.ones((120, 150), bool) if mask is None else mask
    # A centre on an edge may fall to either side.
    edges = shapely.union_all([p.boundary for p in polygons])
    clear = shapely.distance(shapely.points(ys, xs), edges) > 1e-9
    np.testing.assert_array_equal(mask[clear], want[clear])


@given(outline=triangles.filter(lambda t: area(t) > 1), y=st.integers(0, 90), x=st.integers(0, 90))
@settings(max_examples=40, deadline=None)
def test_a_pixel_belongs_whatever_the_block(outline, y, x) -> None:
    region = Region.shapes([outline])
    whole = region.mask(PixelBox(0, 0, 120, 150), GRID)
    part = region.mask(PixelBox(y, x, y + 30, x + 30), GRID)
    whole = np.ones((120, 150), bool) if whole is None else whole
    part = np.ones((30, 30), bool) if part is None else part
    np.testing.assert_array_equal(part, whole[y : y + 30, x : x + 30])


def test_neighbours_share_no_pixel_and_leave_none_out() -> None:
    """Edges through pixel centres: each centre falls to exactly one side."""
    box = PixelBox(0, 0, 20, 20)
    left = Region.rectangle(0, 0, 20, 10.5).mask(box, GRID)
    right = Region.rectangle(0, 10.5, 20, 9.5).mask(box, GRID)
    assert left is not None
    assert right is not None
    assert (left ^ right).all()


def test_box_is_clipped_to_the_slide() -> None:
    assert Region.slide().box(GRID) == PixelBox(0, 0, 120, 150)
    assert Region.rectangle(-5, 10.2, 20, 5, "view").box(GRID) == PixelBox(0, 10, 15, 16)
    assert Region.slide().mask(PixelBox(0, 0, 5, 5), GRID) is None
    with pytest.raises(RegionError, match="outside the slide"):
        Region.rectangle(500, 500, 10, 10).box(GRID)


@pytest.mark.parametrize(
    "outlines",
    [[], [[(0.0, 0.0), (0.0, 5.0), (0.0, 9.0)]], [[(0.0, 0.0), (0.0, np.nan), (5.0, 5.0)]]],
)
def test_regions_of_no_area_are_refused(outlines) -> None:
    with pytest.raises(RegionError, match="region"):
        Region.shapes(outlines)


def test_region_survives_json() -> None:
    region = Region.shapes([[(0.1, 0.2), (3.7, 1e-9), (5.0, 1 / 3)]])
    assert Region.from_dict(json.loads(json.dumps(region.to_dict()))) == region


def test_label_grid_of_a_slide_is_rounded_up(tmp_path: Path) -> None:
    path = write_generic_tiff(tmp_path / "a.tif", [noise(101, 200)], 0.25)
    with open_slide(path) as slide:
        assert LabelGrid.of(slide.info).shape == (26, 50)
        assert LabelGrid.of(slide.info, 2.0).shape == (13, 25)
    with (
        open_slide(write_generic_tiff(tmp_path / "b.tif", [noise(90, 90)], None)) as slide,
        pytest.raises(ResolutionError),
    ):
        LabelGrid.of(slide.info)
