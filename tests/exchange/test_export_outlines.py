"""Outlines of masks, burned again with rasterio; simplified ones checked with shapely."""

import threading

import numpy as np
import pytest
import shapely
from export_tools import ArrayLabels, about, blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rasterio.features import rasterize
from scipy.ndimage import label

from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.exchange import simplified as simplifying
from napari_hspnet.exchange.outlines import outline_id, outlines
from napari_hspnet.exchange.simplified import simplified
from napari_hspnet.slides import LabelGrid

masks = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16),
    elements=st.sampled_from([0, 1, 1, 2, 4, 255]),
)
full = arrays(
    np.uint8,
    array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=14),
    elements=st.sampled_from([1, 1, 1, 1, 0]),
)


def count_regions(values):
    return sum(label(values == v)[1] for v in (1, 2, 3, 4))


def graded(values):
    return np.where((values >= 1) & (values <= 4), values, 0)


def burned(found, shape):
    if not found:
        return np.zeros(shape, np.uint8)
    return rasterize([(p, v) for v, p in found], out_shape=shape, fill=0)


def turns(ring):
    """Whether each corner of a ring is one."""
    steps = np.diff(np.asarray(ring.coords), axis=0)
    across = steps[:, 0] != 0
    return (across != np.roll(across, 1)).all() and (steps[:, 0] * steps[:, 1] == 0).all()


@settings(max_examples=250, deadline=None)
@given(st.one_of(masks, full), st.integers(1, 6))
def test_outlines_burn_back_to_the_mask_whatever_the_bands(values, rows):
    labels = ArrayLabels(values)
    found = list(outlines(labels))
    assert len(found) == count_regions(values)
    for _, polygon in found:
        assert polygon.geom_type == "Polygon"
        assert polygon.is_valid
        assert polygon.exterior.is_ccw
        assert not any(hole.is_ccw for hole in polygon.interiors)
        assert all(turns(ring) for ring in (polygon.exterior, *polygon.interiors))
    np.testing.assert_array_equal(burned(found, values.shape), graded(values))
    assert sum(p.area for _, p in found) == np.count_nonzero(graded(values))
    # The same corners in the same order, not just the same areas.
    banded = list(outlines(labels, band_pixels=rows * values.shape[1]))
    assert [(v, p.wkb) for v, p in banded] == [(v, p.wkb) for v, p in found]


@settings(max_examples=100, deadline=None)
@given(masks)
def test_an_outline_begins_at_its_first_pixel(values):
    for value, polygon in outlines(ArrayLabels(values)):
        mask = burned([(value, polygon)], values.shape)
        y, x = np.argwhere(mask)[0]
        assert polygon.exterior.coords[0] == (x, y)


def test_large_patches_and_noise_over_many_bands():
    values = blobs(np.random.default_rng(3), (900, 700))
    labels = ArrayLabels(values)
    whole = list(outlines(labels))
    banded = list(outlines(labels, band_pixels=700 * 61))
    assert [(v, p.wkb) for v, p in banded] == [(v, p.wkb) for v, p in whole]
    assert len(whole) == count_regions(values)
    assert all(p.is_valid for _, p in whole)
    np.testing.assert_array_equal(burned(whole, values.shape), graded(values))


class Striped:
    """One region that holds all of a large slide but for a hole in every 64 x 64 pixels."""

    grid = LabelGrid((6000, 3000), 1.0)

    def __init__(self):
        self.pixels = 0

    def read(self, y, x, height, width):
        self.pixels += height * width
        rows, columns = np.arange(y, y + height) % 64, np.arange(x, x + width) % 64
        return np.where((rows[:, None] == 9) & (columns == 9), 0, 3).astype(np.uint8)


def test_a_region_over_all_bands_is_one_and_each_pixel_is_read_once():
    labels = Striped()
    ((value, polygon),) = outlines(labels, band_pixels=64 * 3000)
    holes = 94 * 47
    assert value == 3
    assert polygon.is_valid
    assert len(polygon.interiors) == holes
    assert polygon.area == 6000 * 3000 - holes
    assert labels.pixels == 6000 * 3000


def test_it_stops_when_cancelled():
    cancel = threading.Event()
    parts = []

    def progress(part):
        parts.append(part)
        cancel.set()

    with pytest.raises(CancelledError):
        list(outlines(Striped(), progress, cancel, band_pixels=64 * 3000))
    assert len(parts) == 1


# Ids


def ids_of(values, **changes):
    labels = ArrayLabels(values)
    said = about(labels, **changes)
    return {outline_id(said, v, p): (v, p.wkt) for v, p in outlines(labels)}


def test_an_outline_keeps_its_id_when_others_change():
    rng = np.random.default_rng(5)
    values = blobs(rng, (200, 150))
    before = ids_of(values)
    assert len(before) == count_regions(values)
    changed = values.copy()
    changed[:60, :60] = rng.choice(np.array([0, 1, 2], np.uint8), size=(60, 60))
    after = ids_of(changed)
    same = set(before.values()) & set(after.values())
    assert 100 < len(same) < len(before)
    for number, outline in before.items():
        assert (number in after) == (outline in same)
        if number in after:
            assert after[number] == outline


def test_ids_tell_slides_and_kinds_of_labels_apart():
    values = blobs(np.random.default_rng(5), (80, 90))
    sets = [
        set(ids_of(values, **changes))
        for changes in ({}, {"what": "correction"}, {"slide_fingerprint": "cd" * 32})
    ]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert set(ids_of(values, run_ids=("another",))) == sets[0]


# Simplified


@settings(max_examples=120, deadline=None)
@given(st.one_of(masks, full), st.sampled_from([0.6, 1.5, 4.0, 30.0]))
def test_simplified_outlines_are_valid_and_fit_each_other(values, tolerance):
    exact = np.array([p for _, p in outlines(ArrayLabels(values))], dtype=object)
    simple = simplified(exact, tolerance)
    assert len(simple) == len(exact)
    assert all(p.geom_type == "Polygon" and p.is_valid and p.area > 0 for p in simple)
    if len(simple):
        assert shapely.coverage_is_valid(simple)
        assert shapely.union_all(simple).area == pytest.approx(sum(p.area for p in simple))


def test_simplified_neighbours_share_their_border_and_lose_corners():
    y, x = np.mgrid[:300, :300]
    values = np.where(x + 8 * np.sin(y / 30) > 150, 2, 1)
    values[(x - 80) ** 2 + (y - 150) ** 2 < 50**2] = 3
    values[(x - 80) ** 2 + (y - 150) ** 2 < 20**2] = 4
    found = list(outlines(ArrayLabels(values)))
    exact = np.array([p for _, p in found], dtype=object)
    simple = simplified(exact, 3.0)
    assert shapely.get_num_coordinates(simple).sum() < shapely.get_num_coordinates(exact).sum() / 5
    for before, after in zip(exact, simple, strict=True):
        assert before.symmetric_difference(after).area < 0.06 * before.area
        assert len(before.interiors) == len(after.interiors)
    for i in range(len(simple)):
        for j in range(i):
            assert simple[i].intersection(simple[j]).area == 0
            apart = exact[i].intersection(exact[j]).length == 0
            assert (simple[i].intersection(simple[j]).length == 0) == apart
    # The slide's four corners are all that its edge needs, and no gap is left inside.
    assert shapely.union_all(simple).equals(shapely.union_all(exact))


def test_too_many_corners_are_refused_and_simplifying_can_be_cancelled(monkeypatch):
    exact = np.array([p for _, p in outlines(ArrayLabels(np.eye(40)))], dtype=object)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        simplified(exact, 2.0, cancel)
    monkeypatch.setattr(simplifying, "MOST_POINTS", 100)
    with pytest.raises(InputError, match="too many corners"):
        simplified(exact, 2.0)
