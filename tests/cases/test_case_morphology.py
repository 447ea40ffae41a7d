"""Regions grown, shrunk, filled and cleaned, against the same on the whole array."""

import threading

import numpy as np
import pytest
from case_tools import block, run_record, slide_info
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from test_case_components import Picture, dense, drawn

from napari_hspnet.cases import Case, Selection
from napari_hspnet.cases.components import component_at
from napari_hspnet.cases.morphology import (
    REACH,
    grown,
    holes_filled,
    shrunk,
    specks_dropped,
)
from napari_hspnet.cases.selection import chunk_box, chunks_of
from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.slides import LabelGrid, PixelBox

SHAPE = (1300, 1157)
ANN = "Dr. Ann"

slow = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
shapes = st.sampled_from([(513, 1025), (1030, 520), (512, 512), (1, 1300), (700, 1)])
kinds = st.sampled_from(["noise", "blobs", "stripes", "dots", "pixels"])


def selected(mask):
    masks = {}
    for row, col in chunks_of(PixelBox(0, 0, *mask.shape)):
        own = chunk_box((row, col), mask.shape)
        part = mask[own.y0 : own.y1, own.x0 : own.x1].copy()
        if part.any():
            masks[row, col] = part
    return Selection(mask.shape, masks)


def region(seed, shape, kind):
    """A mask with holes, diagonals, single pixels, along borders of chunks and slide."""
    rng = np.random.default_rng(seed)
    if kind == "pixels":
        mask = np.zeros(shape, bool)
        for _ in range(5):
            mask[rng.integers(shape[0]), rng.integers(shape[1])] = True
        return mask
    return drawn(seed, shape, kind, (0, 1)) == 1


def applied(picture, patches):
    """What is shown after the patches; no pixel twice, no more patches than promised."""
    out = picture.read(0, 0, *picture.grid.shape)
    seen = np.zeros(out.shape, bool)
    count = 0
    for patch in patches:
        count += 1
        height, width = patch.values.shape
        cut = np.s_[patch.y : patch.y + height, patch.x : patch.x + width]
        assert patch.where.any()
        assert not (seen[cut] & patch.where).any()
        seen[cut] |= patch.where
        assert (patch.values[patch.where] <= 4).all()
        out[cut][patch.where] = patch.values[patch.where]
    assert count <= len(patches)
    return out


@slow
@given(shapes, kinds, st.integers(0, 10**6), st.sampled_from([0.4, 1, 1.5, 7.3, 40]))
def test_growing_reaches_what_is_near_the_region_on_the_whole_slide(shape, kind, seed, um):
    mpp = 0.5
    mask = region(seed, shape, kind)
    values = drawn(seed + 1, shape, "blobs")
    expected = values.copy()
    if mask.any():
        near = ndimage.distance_transform_edt(~mask, sampling=mpp) <= um + 1e-9
        expected[near & ~mask & (values != 254)] = 3
    picture = Picture(values, mpp)
    np.testing.assert_array_equal(applied(picture, grown(picture, selected(mask), um, 3)), expected)


@slow
@given(shapes, kinds, st.integers(0, 10**6), st.sampled_from([0.4, 1, 1.5, 7.3, 40]))
def test_shrinking_gives_the_rim_to_what_lies_beyond(shape, kind, seed, um):
    mpp = 0.5
    mask = region(seed, shape, kind)
    values = drawn(seed + 1, shape, "blobs")
    expected = values.copy()
    if not mask.all():
        distance, (rows, columns) = ndimage.distance_transform_edt(
            mask, sampling=mpp, return_indices=True
        )
        beyond = values[rows, columns]
        rim = mask & (distance <= um + 1e-9) & (values != 254)
        expected[rim] = np.where(beyond <= 4, beyond, 0)[rim]
    picture = Picture(values, mpp)
    np.testing.assert_array_equal(applied(picture, shrunk(picture, selected(mask), um)), expected)


def test_each_pixel_of_a_rim_gets_a_class_that_is_nearest_by_definition():
    rng = np.random.default_rng(4)
    values = rng.choice(np.array([0, 1, 2, 3, 4, 253, 254, 255], np.uint8), (30, 1040))
    mask = rng.random((30, 1040)) < 0.9
    picture = Picture(values)
    after = applied(picture, shrunk(picture, selected(mask), 2))
    outside = np.argwhere(~mask)
    for y, x in np.argwhere(mask)[::17]:
        square = ((outside - (y, x)) ** 2).sum(axis=1)
        nearest = outside[square == square.min()]
        allowed = {int(v) if v <= 4 else 0 for v in values[tuple(nearest.T)]}
        if square.min() <= 4 and values[y, x] != 254:
            assert int(after[y, x]) in allowed
        else:
            assert after[y, x] == values[y, x]


def test_the_slides_border_is_no_border_of_a_region():
    values = np.full((600, 700), 3)
    picture = Picture(values)
    assert not list(shrunk(picture, selected(values == 3), 50))
    values[:, 350:] = 1
    picture = Picture(values)
    after = applied(picture, shrunk(picture, selected(values == 3), 50))
    assert (after == np.where(np.arange(700) < 300, 3, 1)).all()


def test_a_border_moves_by_its_distance_in_um_and_back():
    ys, xs = np.indices((900, 900))
    disc = np.hypot(ys - 500, xs - 510) * 0.5 <= 100
    picture = Picture(np.where(disc, 3, 1), 0.5)
    after = applied(picture, grown(picture, selected(disc), 20, 3))
    radius = np.sqrt((after == 3).sum() * 0.25 / np.pi)
    assert radius == pytest.approx(120, abs=0.3)
    larger = Picture(after, 0.5)
    back = applied(larger, shrunk(larger, selected(after == 3), 20))
    assert (back == 3).sum() * 0.25 == pytest.approx(np.pi * 100**2, rel=0.02)


@pytest.mark.parametrize("um", [0, -1, float("nan"), float("inf"), REACH])
def test_distances_that_make_no_sense_are_refused(um):
    picture = Picture(np.ones((5, 5)))
    for change in (
        lambda: grown(picture, selected(np.eye(5, dtype=bool)), um, 3),
        lambda: shrunk(picture, selected(np.eye(5, dtype=bool)), um),
    ):
        with pytest.raises(InputError, match="cannot be moved"):
            change()


def test_values_and_areas_that_make_no_sense_are_refused():
    picture, ring = Picture(np.ones((5, 5))), selected(np.eye(5, dtype=bool))
    with pytest.raises(InputError, match="no class 255"):
        grown(picture, ring, 1, 255)
    with pytest.raises(InputError, match="no class 9"):
        holes_filled(picture, ring, 1, 9)
    with pytest.raises(InputError, match="no area"):
        holes_filled(picture, ring, -1, 1)
    with pytest.raises(InputError, match="no area"):
        specks_dropped(picture, PixelBox(0, 0, 5, 5), float("nan"))


def whole_holes(mask, most):
    """Pixels of the holes, by labelling what is not in the region at once."""
    labels, count = ndimage.label(~mask, np.ones((3, 3)))
    out = np.zeros(mask.shape, bool)
    at_border = {*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]}
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    holes = [n for n in range(1, count + 1) if n not in at_border and sizes[n] <= most]
    out[np.isin(labels, holes)] = True
    return out


@slow
@given(shapes, kinds, st.integers(0, 10**6), st.sampled_from([0, 0.25, 5, 800, 10**6]))
def test_holes_are_those_of_the_whole_region(shape, kind, seed, most):
    mask = region(seed, shape, kind)
    values = drawn(seed + 1, shape, "blobs")
    expected = values.copy()
    expected[whole_holes(mask, most / 0.25) & (values != 254)] = 2
    picture = Picture(values, 0.5)
    patches = holes_filled(picture, selected(mask), most, 2)
    np.testing.assert_array_equal(applied(picture, patches), expected)


@pytest.mark.parametrize(("y", "x"), [(512, 512), (512, 300), (300, 512), (100, 100)])
def test_a_hole_that_leaks_at_a_corner_is_none(y, x):
    ys, xs = np.indices((1030, 1030))
    far = np.maximum(abs(ys - y), abs(xs - x))
    ring = far == 8
    picture = Picture(np.where(ring, 3, 1))
    filled_in = applied(picture, holes_filled(picture, selected(ring), 1000, 3))
    np.testing.assert_array_equal(filled_in == 3, far <= 8)
    assert not list(holes_filled(picture, selected(ring), 15**2 - 1, 3))
    # Four thin sides that meet at corners enclose; one corner less opens it.
    ring[y - 8, x - 8] = False
    assert not list(holes_filled(Picture(np.where(ring, 3, 1)), selected(ring), 1000, 3))


@pytest.mark.parametrize("falling", [True, False])
def test_a_way_out_over_the_corner_of_four_chunks_is_one(falling):
    mask = np.ones((1024, 1024), bool)
    inner, outer = ((511, 511), (512, 512)) if falling else ((511, 512), (512, 511))
    mask[inner] = mask[outer] = False
    assert holes_filled(Picture(np.ones(mask.shape)), selected(mask), 1, 3).chunks == ()
    assert len(holes_filled(Picture(np.ones(mask.shape)), selected(mask), 2, 3)) == 2
    mask[outer[0]] = False
    assert not list(holes_filled(Picture(np.ones(mask.shape)), selected(mask), 10**6, 3))


def whole_specks(values, inside, most, wanted):
    """What is shown without specks: pixel by pixel, round by round."""
    number = np.zeros(values.shape, int)
    for value in wanted:
        labels, count = ndimage.label(values == value)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        for n in range(1, count + 1):
            if sizes[n] <= most and inside[labels == n].all():
                number[labels == n] = number.max() + 1
    out, waiting = values.copy(), number > 0
    while True:
        lengths = {}
        for y, x in np.argwhere(waiting):
            for other in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if not (0 <= other[0] < values.shape[0] and 0 <= other[1] < values.shape[1]):
                    continue
                if out[other] <= 4 and not waiting[other]:
                    of = lengths.setdefault(number[y, x], [0] * 5)
                    of[out[other]] += 1
        if not lengths:
            out[waiting] = 0
            return out
        for n, of in lengths.items():
            out[number == n] = max(v for v in range(5) if of[v] == max(of))
            waiting[number == n] = False


@slow
@given(
    st.sampled_from([(518, 16), (16, 518), (517, 517)]),
    st.sampled_from(["noise", "blobs", "stripes"]),
    st.integers(0, 10**6),
    st.sampled_from([0, 0.25, 1, 3]),
    st.sampled_from([(1, 2, 3, 4), (0, 2), (3,)]),
    st.booleans(),
)
def test_specks_go_to_what_surrounds_them(shape, kind, seed, most, wanted, drawn_region):
    rng = np.random.default_rng(seed)
    values = np.full(shape, 255, np.uint8)
    part = np.s_[max(0, shape[0] - 40) :, max(0, shape[1] - 40) :]
    fine = drawn(seed, (160, 160), kind)[::4, ::4]
    values[part] = fine[: values[part].shape[0], : values[part].shape[1]]
    inside = np.ones(shape, bool)
    if drawn_region:
        inside = drawn(seed + 1, shape, "blobs", (0, 1, 1)) == 1
        within = selected(inside)
    else:
        y, x = int(rng.integers(0, shape[0])), int(rng.integers(0, shape[1]))
        within = PixelBox(y // 2, x // 2, shape[0] - 2, shape[1] + 5)
        inside[: y // 2] = inside[:, : x // 2] = inside[-2:] = False
    picture = Picture(values, 0.5)
    after = applied(picture, specks_dropped(picture, within, most, wanted))
    np.testing.assert_array_equal(after, whole_specks(values, inside, most / 0.25, wanted))
    if 0 not in wanted:
        # None is left, nor made.
        again = Picture(after, 0.5)
        assert not list(specks_dropped(again, within, most, wanted))


def test_a_speck_within_a_speck_goes_with_it():
    values = np.full((1000, 1000), 1)
    values[505:520, 505:520] = 2
    values[510:514, 510:514] = 4
    values[900, 900] = 3
    picture = Picture(values)
    after = applied(picture, specks_dropped(picture, PixelBox(0, 0, 1000, 1000), 230))
    assert (after == 1).all()
    after = applied(picture, specks_dropped(picture, PixelBox(0, 0, 1000, 1000), 50))
    assert ((after == 2) == (np.isin(values, (2, 4)))).all()
    # One that goes on outside the box stays, with what it encloses.
    after = applied(picture, specks_dropped(picture, PixelBox(506, 0, 1000, 1000), 230))
    assert (after == 2).sum() == 225
    assert after[900, 900] == 1


def test_a_speck_with_nothing_around_it_becomes_none_of_the_four():
    values = np.full((100, 600), 253)
    values[50, 510:514] = [4, 4, 2, 2]
    picture = Picture(values)
    after = applied(picture, specks_dropped(picture, PixelBox(0, 0, 100, 600), 2))
    assert after[50, 510:514].tolist() == [0] * 4
    assert (np.delete(after.ravel(), np.s_[50 * 600 + 510 : 50 * 600 + 514]) == 253).all()


def test_a_tie_goes_to_the_higher_grade():
    values = np.full((10, 600), 1)
    values[:, 512:] = 3
    values[5, 511:513] = 2
    picture = Picture(values)
    after = applied(picture, specks_dropped(picture, PixelBox(0, 0, 10, 600), 2))
    assert after[5, 511:513].tolist() == [3, 3]


def test_borders_count_across_chunks():
    values = np.full((1024, 1024), 253)
    for y, x in ((100, 511), (511, 100)):
        values[y, x] = 2
        values[y, x - 1] = values[y - 1, x] = 1
        values[y, x + 1] = values[y + 1, x] = 3
    picture = Picture(values)
    after = applied(picture, specks_dropped(picture, PixelBox(0, 0, 1024, 1024), 1, [2]))
    assert after[100, 511] == after[511, 100] == 3
    values[100, 512] = values[512, 100] = 253
    picture = Picture(values)
    after = applied(picture, specks_dropped(picture, PixelBox(0, 0, 1024, 1024), 1, [2]))
    assert after[100, 511] == after[511, 100] == 1


def test_all_of_them_are_acts_of_a_case_that_can_be_undone(tmp_path):
    values = drawn(8, SHAPE, "blobs", (1, 2, 3, 4, 253))
    values[700:900, 400:700] = 2
    values[760:763, 500:520] = 4
    values[800, 600] = 3
    whole = PixelBox(0, 0, *SHAPE)
    info = slide_info(*SHAPE)
    with Case.open_or_create(tmp_path / "a.hspnet", info, LabelGrid.of(info)) as case:
        run = case.start_run(run_record())
        run.write(block(0, 0, values))
        run.finish(1.0)
        for make in (
            lambda c, s: grown(c, s, 12, 2),
            lambda c, s: shrunk(c, s, 12),
            lambda c, s: holes_filled(c, s, 100, 2),
            lambda c, s: specks_dropped(c, whole, 100),
        ):
            composite = case.composite()
            patches = make(composite, component_at(composite, 720, 600))
            expected = applied(
                Picture(values), make(Picture(values), component_at(composite, 720, 600))
            )
            told = []
            result = case.editing.correct(
                patches, ANN, "tool", total=len(patches), progress=told.append
            )
            assert result.entry is not None
            assert told[-1] == 1.0
            np.testing.assert_array_equal(case.composite().read(0, 0, *SHAPE), expected)
            case.editing.undo(ANN)
            np.testing.assert_array_equal(case.composite().read(0, 0, *SHAPE), values)


def test_an_empty_region_changes_nothing():
    picture, none = Picture(np.ones((600, 600))), Selection((600, 600), {})
    assert not list(grown(picture, none, 5, 2))
    assert not list(shrunk(picture, none, 5))
    assert not list(holes_filled(picture, none, 5, 2))
    assert not list(specks_dropped(picture, none, 5))
    assert not list(specks_dropped(picture, PixelBox(700, 0, 800, 50), 5))


def test_they_stop_when_told():
    values = drawn(3, SHAPE, "noise", (1, 2))
    picture, mask = Picture(values), selected(values == 1)
    cancel = threading.Event()
    for patches in (grown(picture, mask, 3, 1, cancel=cancel), shrunk(picture, mask, 3, cancel)):
        cancel.clear()
        steps = iter(patches)
        next(steps)
        cancel.set()
        with pytest.raises(CancelledError):
            next(steps)
    told = []
    for search in (
        lambda **how: holes_filled(picture, mask, 9, 1, **how),
        lambda **how: specks_dropped(picture, PixelBox(0, 0, *SHAPE), 9, **how),
    ):
        cancel.set()
        with pytest.raises(CancelledError):
            search(cancel=cancel)
        told.clear()
        search(progress=told.append)
        assert told == sorted(told)
        assert told[-1] == 1.0


def test_a_region_of_the_picture_reads_as_it_was_made():
    mask = region(1, (1030, 520), "noise")
    np.testing.assert_array_equal(dense(selected(mask)), mask)
