"""GeoJSON outlines, read back with json and shapely, burned again with rasterio."""

import json

import numpy as np
import pytest
import shapely
from export_tools import ArrayLabels, about, blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.features import rasterize
from scipy.ndimage import label

from napari_hspnet.classes import CIN2, CIN3, ORDINAL, PAPER
from napari_hspnet.exchange import write_geojson
from napari_hspnet.exchange.geojson import outlines
from napari_hspnet.slides import Bounds

masks = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16),
    elements=st.sampled_from([0, 1, 1, 2, 4, 255]),
)


def count_regions(values):
    return sum(label(values == v)[1] for v in (1, 2, 3, 4))


@settings(max_examples=150, deadline=None)
@given(masks, st.integers(1, 6))
def test_outlines_burn_back_to_the_mask_whatever_the_bands(values, rows):
    labels = ArrayLabels(values)
    whole = list(outlines(labels))
    banded = list(outlines(labels, band_pixels=rows * values.shape[1]))
    for found in (whole, banded):
        assert len(found) == count_regions(values)
        assert all(p.geom_type == "Polygon" and p.is_valid for _, p in found)
        burned = np.zeros(values.shape, np.uint8)
        if found:
            burned = rasterize([(p, v) for v, p in found], out_shape=values.shape, fill=0)
        np.testing.assert_array_equal(burned, np.where((values >= 1) & (values <= 4), values, 0))

    assert sum(p.area for _, p in whole) == ((values >= 1) & (values <= 4)).sum()
    for value, polygon in banded:
        same = [q for w, q in whole if w == value and q.equals(polygon)]
        assert len(same) == 1
        assert shapely.get_num_coordinates(polygon) <= shapely.get_num_coordinates(same[0]) + 2


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("palette", [PAPER, ORDINAL])
def test_feature_has_what_qupath_reads(tmp_path, palette):
    values = np.zeros((40, 60))
    values[10:20, 20:40] = CIN2
    values[12:14, 22:24] = CIN3
    labels = ArrayLabels(values, mpp=1.0)
    said = about(labels, palette=palette)
    data = read(write_geojson(tmp_path / "a.geojson", labels, said))
    assert data["type"] == "FeatureCollection"
    assert data["hspnet"]["model"] == "demo"
    by_name = {f["properties"]["classification"]["name"]: f for f in data["features"]}
    assert set(by_name) == {"CIN2", "CIN3"}
    feature = by_name["CIN2"]
    assert feature["type"] == "Feature"
    assert feature["properties"]["objectType"] == "annotation"
    assert feature["properties"]["classification"]["color"] == list(palette.colours[CIN2])
    assert feature["properties"]["measurements"] == {"Area µm^2": 196}
    assert len(feature["geometry"]["coordinates"]) == 2
    # 0.25 µm per pixel across, 0.5 down: 4 and 2 level-0 pixels a label pixel.
    assert shapely.from_geojson(json.dumps(feature["geometry"])).bounds == (80, 20, 160, 40)
    again = read(write_geojson(tmp_path / "b.geojson", labels, said))
    assert [f["id"] for f in again["features"]] == [f["id"] for f in data["features"]]
    assert len({f["id"] for f in data["features"]}) == 2


def test_bounds_are_subtracted_unless_level0_is_asked_for(tmp_path):
    values = np.zeros((40, 60))
    values[10:20, 20:40] = CIN2
    labels = ArrayLabels(values)
    said = about(labels, bounds=Bounds(y=7, x=13, height=70, width=200))
    boxes = {}
    for origin in ("bounds", "level0"):
        data = read(write_geojson(tmp_path / f"{origin}.geojson", labels, said, origin=origin))
        assert data["hspnet"]["origin"] == origin
        boxes[origin] = shapely.from_geojson(json.dumps(data["features"][0]["geometry"])).bounds
    assert boxes["level0"] == (80, 20, 160, 40)
    assert boxes["bounds"] == (67, 13, 147, 33)


def test_odd_resolution_stays_valid_and_true(tmp_path):
    labels = ArrayLabels(blobs(np.random.default_rng(1), (400, 300)))
    data = read(
        write_geojson(tmp_path / "a.geojson", labels, about(labels, slide_mpp=(0.499, 0.499)))
    )
    polygons = [shapely.from_geojson(json.dumps(f["geometry"])) for f in data["features"]]
    assert all(p.is_valid for p in polygons)
    assert len(polygons) == count_regions(labels.values)
    for feature, polygon in zip(data["features"], polygons, strict=True):
        area = feature["properties"]["measurements"]["Area µm^2"]
        assert polygon.area * 0.499**2 == pytest.approx(area, rel=0.01)
        assert area == int(area)


def test_nothing_found_is_still_a_collection(tmp_path):
    labels = ArrayLabels(np.full((30, 30), 253))
    data = read(write_geojson(tmp_path / "a.geojson", labels, about(labels)))
    assert data["features"] == []
