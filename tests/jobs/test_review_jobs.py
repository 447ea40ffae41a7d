"""Tiles, grades and progress of a review, against whole arrays that do the same."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.cases import Composite, Selection
from napari_hspnet.cases.composite import Source
from napari_hspnet.cases.grades import Grades, counts_of, grades_of
from napari_hspnet.cases.review import not_listed
from napari_hspnet.classes import CIN1, CIN2, CIN3, NORMAL, NOT_RUN
from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.inference import TissueMap
from napari_hspnet.jobs.review import Footprint, coverage, footprint, read_tissue, tissue_tiles
from napari_hspnet.slides import LabelGrid, PixelBox, Region

STAIN, GLASS = (225, 150, 190), (245, 245, 245)


def slide_of(tissue):
    """A slide with tissue where a mask of 8 µm pixels says so."""

    def read_grid(y, x, height, width, mpp):
        assert mpp == 8.0
        out = np.empty((height, width, 3), np.uint8)
        out[:] = GLASS
        part = tissue[y : y + height, x : x + width]
        out[: part.shape[0], : part.shape[1]][part] = STAIN
        return out

    return read_grid


def composite_of(values, mpp=1.0):
    """One run that said all of this."""

    def chunk(key):
        name, level, row, col = key
        assert (name, level) == ("class", 0)
        return values[row * 512 : (row + 1) * 512, col * 512 : (col + 1) * 512]

    info = SimpleNamespace(id="run")
    return Composite(LabelGrid(values.shape, mpp), [Source(lambda: info, chunk, dict)])


def selection_of(mask):
    masks = {}
    for row in range(-(-mask.shape[0] // 512)):
        for col in range(-(-mask.shape[1] // 512)):
            part = mask[row * 512 : (row + 1) * 512, col * 512 : (col + 1) * 512]
            if part.any():
                masks[row, col] = part.copy()
    return Selection(mask.shape, masks)


def blobs(rng, shape, count=4):
    mask = np.zeros(shape, bool)
    for _ in range(count):
        y, x = (int(rng.integers(0, size)) for size in shape)
        mask[y : y + int(rng.integers(1, 300)), x : x + int(rng.integers(1, 300))] = True
    return mask


def by_hand(tissue, masks, grid):
    """mm² covered and mm² of tissue, pixel of the tissue mask by pixel."""
    covered = 0
    for i, j in np.argwhere(tissue):
        y = min(int((i + 0.5) * 8 / grid.mpp), grid.shape[0] - 1)
        x = min(int((j + 0.5) * 8 / grid.mpp), grid.shape[1] - 1)
        covered += any(mask[y, x] for mask in masks)
    return covered * 64e-6, int(tissue.sum()) * 64e-6


@settings(max_examples=25, deadline=None)
@given(
    st.tuples(st.integers(20, 1300), st.integers(20, 900)),
    st.sampled_from([1.0, 0.5, 0.7, 2.0]),
    st.integers(0, 2**32 - 1),
)
def test_progress_equals_a_count_over_the_whole_array(shape, mpp, seed):
    rng = np.random.default_rng(seed)
    grid = LabelGrid(shape, mpp)
    tissue = rng.random([-(-int(side * mpp) // 8) + 2 for side in shape]) < 0.4
    whole = read_tissue(TissueMap(slide_of(tissue), grid), grid)
    assert np.array_equal(whole, tissue[: whole.shape[0], : whole.shape[1]])
    masks = [mask for mask in (blobs(rng, shape) for _ in range(3)) if mask.any()]
    found = coverage(whole, [footprint(selection_of(mask), grid) for mask in masks])
    covered, total = by_hand(whole, masks, grid)
    assert found.covered_mm2 == pytest.approx(covered)
    assert found.tissue_mm2 == pytest.approx(total)
    assert 0 <= found.share <= 1


def test_regions_over_the_whole_slide_make_it_all_reviewed():
    grid = LabelGrid((1301, 907), 1.0)
    tissue = np.ones((163, 114), bool)
    every = Selection.of_region(Region.slide(), grid)
    assert coverage(tissue, [footprint(every, grid)]).share == 1.0
    halves = [
        Selection.of_box(PixelBox(0, 0, 700, 907), grid.shape),
        Selection.of_box(PixelBox(600, 0, 1301, 907), grid.shape),
    ]
    assert coverage(tissue, [footprint(half, grid) for half in halves]).share == 1.0
    assert coverage(tissue, []).share == 0.0
    assert coverage(np.zeros_like(tissue), []).share == 0.0


def test_a_region_smaller_than_a_pixel_of_the_mask_has_an_empty_footprint():
    grid = LabelGrid((600, 600), 1.0)
    tiny = footprint(Selection.of_box(PixelBox(1, 1, 2, 2), grid.shape), grid)
    assert isinstance(tiny, Footprint)
    assert not tiny.mask().any()


def test_grades_are_counted_in_the_region_alone():
    rng = np.random.default_rng(3)
    values = rng.choice(np.array([0, 1, 2, 3, 4, 253, 255], np.uint8), (1200, 1100))
    mask = blobs(rng, values.shape)
    selection = selection_of(mask)
    counts = counts_of(composite_of(values, 0.5), selection)
    found = grades_of(counts, 0.5)
    for value in (0, 1, 2, 3, 4, 253, 255):
        wanted = np.count_nonzero(values[mask] == value) * 0.25e-6
        assert found.mm2.get(value, 0.0) == pytest.approx(wanted)
    # A chunk that changed is counted alone, with the same result.
    changed = values.copy()
    changed[:512, :512] = 4
    part = counts_of(composite_of(changed), selection, [(0, 0), (9, 9)])
    assert set(part) <= {(0, 0)}
    assert {**counts, **part} == counts_of(composite_of(changed), selection)
    with pytest.raises(CancelledError):
        counts_of(composite_of(values), selection, cancel=set_event())


def set_event():
    event = threading.Event()
    event.set()
    return event


def test_the_worst_grade_needs_an_area():
    assert Grades({NORMAL: 1.0, CIN3: 0.0009, CIN2: 0.001}).worst == CIN2
    assert Grades({NORMAL: 1.0, CIN3: 0.0011}).worst == CIN3
    # Where nothing is large enough, what there is most of.
    assert Grades({CIN1: 0.0002, CIN3: 0.0001}).worst == CIN1
    assert Grades({0: 1.0, NOT_RUN: 2.0}).worst is None
    assert Grades({0: 1.0, NOT_RUN: 2.0}).most == NOT_RUN
    assert Grades({}).most is None
    severities = [
        Grades({NOT_RUN: 1.0}),
        Grades({0: 1.0}),
        Grades({NORMAL: 9.0}),
        Grades({CIN3: 0.002, NORMAL: 5.0}),
        Grades({CIN3: 0.2}),
    ]
    assert sorted(severities, key=lambda each: each.severity) == severities


@pytest.mark.parametrize("mpp", [1.0, 0.5])
def test_tiles_are_those_with_tissue(mpp):
    grid = LabelGrid((2600, 1900), mpp)
    tissue = np.zeros((340, 250), bool)
    tissue[10:40, 20:90] = True
    tissue[60:150, 55:] = True
    tissue[200:, 100:] = True
    told = []
    found = tissue_tiles(TissueMap(slide_of(tissue), grid), grid, 400, 0.1, told.append)
    side = round(400 / mpp)
    wanted = []
    for y in range(0, 2600, side):
        for x in range(0, 1900, side):
            box = PixelBox(y, x, min(y + side, 2600), min(x + side, 1900))
            rows = [i for i in range(340) if box.y0 <= (i + 0.5) * 8 / mpp < box.y1]
            columns = [j for j in range(250) if box.x0 <= (j + 0.5) * 8 / mpp < box.x1]
            if rows and columns and tissue[np.ix_(rows, columns)].mean() >= 0.1:
                wanted.append(box)
    assert [each.box for each in found] == wanted
    assert 3 < len(found) < (2600 // side + 1) * (1900 // side + 1)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_tiles_that_make_no_sense_are_refused():
    grid = LabelGrid((900, 900), 1.0)
    tissue = TissueMap(slide_of(np.ones((113, 113), bool)), grid)
    for side in (0, -5, float("nan"), float("inf")):
        with pytest.raises(InputError):
            tissue_tiles(tissue, grid, side)
    for share in (0, 1.5, float("nan")):
        with pytest.raises(InputError):
            tissue_tiles(tissue, grid, 100, share)
    with pytest.raises(InputError, match="larger side"):
        tissue_tiles(tissue, LabelGrid((9000, 9000), 1.0), 8, 1e-9)
    with pytest.raises(CancelledError):
        tissue_tiles(tissue, grid, cancel=set_event())
    with pytest.raises(CancelledError):
        read_tissue(tissue, grid, cancel=set_event())


def test_what_is_listed_is_not_added_twice():
    shape = (900, 900)
    first = Selection.of_box(PixelBox(0, 0, 100, 100), shape)
    second = Selection.of_box(PixelBox(0, 100, 100, 200), shape)
    listed = [SimpleNamespace(kind="tile", box=first.box, pixels=first.pixels)]
    assert not_listed([first, second], "tile", listed) == (second,)
    assert not_listed([first, second], "drawn", listed) == (first, second)
