"""Connected parts of the overlay, against labelling the whole array at once."""

import threading
from collections import Counter

import numpy as np
import pytest
from case_tools import block, run_record, slide_info
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_hspnet.cases import Case, Patch, Selection, filled
from napari_hspnet.cases.components import component_at, components
from napari_hspnet.cases.disagreements import disagreements
from napari_hspnet.cases.sampling import sample
from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.slides import LabelGrid, PixelBox

SHAPE = (1300, 1157)
ANN = "Dr. Ann"


class Picture:
    """What a composite is to these functions: a grid, and boxes of it."""

    def __init__(self, values, mpp=1.0, correction=None):
        self.prediction = np.asarray(values, np.uint8)
        self.correction = np.full_like(self.prediction, 255) if correction is None else correction
        self.grid = LabelGrid(self.prediction.shape, mpp)
        self.asked = []

    def read(self, y, x, height, width, level=0, what="classes"):
        shown = np.where(self.correction == 255, self.prediction, self.correction)
        values = {"classes": shown, "prediction": self.prediction, "correction": self.correction}
        self.asked.append((y, x, height, width, level, what))
        _, _, values = sample(values[what], 0, 0, self.grid.shape, level)
        assert y >= 0
        assert x >= 0
        assert y + height <= values.shape[0]
        assert x + width <= values.shape[1]
        return values[y : y + height, x : x + width].copy()


def pictures(values=(0, 1, 2, 3, 4, 253, 254, 255)):
    """Grids a bit over two chunks wide, of blobs, stripes or noise near chunk borders."""
    return st.builds(
        drawn,
        st.integers(0, 10**6),
        st.sampled_from([(513, 1025), (1030, 520), (512, 512), (1, 1300), (700, 1)]),
        st.sampled_from(["noise", "blobs", "stripes", "dots"]),
        st.just(values),
    )


def drawn(seed, shape, kind, values=(0, 1, 2, 3, 4, 253, 254, 255)):
    rng = np.random.default_rng(seed)
    values = np.asarray(values, np.uint8)
    if kind == "noise":
        return rng.choice(values[rng.permutation(len(values))[:2]], shape, p=[0.6, 0.4])
    if kind == "dots":
        out = np.full(shape, rng.choice(values), np.uint8)
        for at in (0, 510, 511, 512, 513, 1023, 1024):
            for other in (0, 511, 512, 1023, 1024):
                if at < shape[0] and other < shape[1]:
                    out[at, other] = rng.choice(values)
        return out
    if kind == "stripes":
        ys, xs = np.indices(shape)
        return values[((ys + rng.integers(-1, 2) * xs) // rng.integers(1, 40)) % len(values)]
    rough = rng.standard_normal((shape[0] // 8 + 2, shape[1] // 8 + 2))
    smooth = ndimage.zoom(ndimage.gaussian_filter(rough, 1), 8, order=1)[: shape[0], : shape[1]]
    ranks = np.digitize(smooth, np.quantile(smooth, np.arange(1, len(values)) / len(values)))
    return values[ranks]


def whole_components(values, least, wanted):
    """(value, pixels, box, mask) by labelling everything at once."""
    found = []
    for value in wanted if values.size else ():
        labels, _ = ndimage.label(values == value)
        for number, at in enumerate(ndimage.find_objects(labels), start=1):
            mask = labels[at] == number
            if mask.sum() >= least:
                box = (at[0].start, at[1].start, at[0].stop, at[1].stop)
                found.append((value, int(mask.sum()), box, mask))
    return found


def sides(box):
    return box.y0, box.x0, box.y1, box.x1


def dense(selection):
    return selection.read(PixelBox(0, 0, *selection.shape))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pictures(), st.integers(0, 10**6))
def test_a_part_is_what_labelling_the_whole_gives(values, seed):
    rng = np.random.default_rng(seed)
    picture = Picture(values)
    graded = np.argwhere(values <= 4)
    if len(graded) == 0:
        return
    y, x = (int(i) for i in graded[rng.integers(len(graded))])
    found = component_at(picture, y, x, background=True)
    labels, _ = ndimage.label(values == values[y, x])
    np.testing.assert_array_equal(dense(found), labels == labels[y, x])
    assert all(mask.any() for mask in found.masks.values())
    assert list(found.masks) == sorted(found.masks)


def test_a_part_may_leave_a_chunk_and_come_back(tmp_path):
    values = np.full(SHAPE, 1)
    # A snake over the border between chunks, once per ten pixels.
    for n in range(20):
        values[10 * n, 480:540] = 3
        values[10 * n : 10 * n + 10, 539 if n % 2 else 480] = 3
    info = slide_info(*SHAPE)
    with Case.open_or_create(tmp_path / "a.hspnet", info, LabelGrid.of(info)) as case:
        run = case.start_run(run_record())
        run.write(block(0, 0, values))
        run.finish(1.0)
        found = component_at(case.composite(), 0, 500)
        np.testing.assert_array_equal(dense(found), values == 3)
        # What a reader said belongs to it, and cuts it.
        case.editing.correct(
            [Patch(10, 480, np.full((1, 60), 2, np.uint8), np.ones((1, 60), bool))], ANN, "brush"
        )
        assert component_at(case.composite(), 0, 500).box == PixelBox(0, 480, 10, 540)
        whole = component_at(case.composite(), 1299, 0)
        result = case.editing.correct(filled(whole, 4), ANN, "region", total=len(whole.masks))
        assert result.entry.body["changes"] == {"1>4": whole.pixels}


@pytest.mark.parametrize(
    ("value", "said"),
    [(253, "no tissue"), (254, "could not be read"), (255, "no run"), (0, "none of the four")],
)
def test_what_has_no_grade_is_no_region(value, said):
    with pytest.raises(InputError, match=said):
        component_at(Picture(np.full((20, 30), value)), 3, 4)


@pytest.mark.parametrize(("y", "x"), [(-1, 0), (0, -1), (20, 0), (0, 30)])
def test_outside_the_slide_there_is_no_region(y, x):
    with pytest.raises(InputError, match="outside"):
        component_at(Picture(np.full((20, 30), 2)), y, x)


def test_background_is_a_region_where_it_is_asked_for():
    assert component_at(Picture(np.zeros((20, 30))), 3, 4, background=True).pixels == 600


def test_full_chunks_of_a_part_take_no_memory():
    found = component_at(Picture(np.full((1024, 1600), 2)), 3, 4)
    assert found.pixels == 1024 * 1600
    assert sum(mask.strides == (0, 0) for mask in found.masks.values()) == 8


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    pictures(),
    st.sampled_from([1, 2, 30, 3000]),
    st.sampled_from([1.0, 0.5]),
    st.sampled_from([(1, 2, 3, 4), (0,), (4, 2)]),
    st.one_of(st.none(), st.tuples(*[st.integers(0, 600)] * 4)),
)
def test_parts_are_what_labelling_the_whole_gives(values, least, mpp, wanted, corner):
    within, seen, off = None, values, (0, 0)
    if corner is not None:
        y, x, height, width = corner
        within = PixelBox(y, x, y + height, x + width)
        seen, off = values[y : y + height, x : x + width], (y, x)
    found = components(Picture(values, mpp), least, wanted, within)
    expected = [
        ((value, pixels, tuple(np.add(box, off * 2).tolist())), mask)
        for value, pixels, box, mask in whole_components(seen, least / mpp**2, wanted)
    ]
    got = [(c.value, c.pixels, sides(c.box)) for c in found]
    assert [key[:2] for key in got] == sorted((key[:2] for key in got), reverse=True)
    assert sorted(got) == sorted(key for key, _ in expected)
    # Only parts that wind through each other share box and size.
    masks = dict(expected)
    seen_once = Counter(got)
    once = [c for c, key in zip(found, got, strict=True) if seen_once[key] == 1][:100]
    for part in once:
        mask = masks[part.value, part.pixels, sides(part.box)]
        np.testing.assert_array_equal(part.selection.read(part.box), mask)
        assert part.selection.pixels == part.pixels


def test_parts_come_worst_first_then_largest_and_can_be_reviewed(tmp_path):
    values = np.full(SHAPE, 253)
    values[0:10, 0:10] = 4
    values[505:530, 500:540] = 4
    values[600:900, 100:900] = 2
    values[1290:1300, 1150:1157] = 3
    info = slide_info(*SHAPE)
    with Case.open_or_create(tmp_path / "a.hspnet", info, LabelGrid.of(info)) as case:
        run = case.start_run(run_record())
        run.write(block(0, 0, values))
        run.finish(1.0)
        found = components(case.composite(), 80)
        assert [(c.value, c.pixels) for c in found] == [(4, 1000), (4, 100), (2, 240_000)]
        regions = case.review.add([c.selection for c in found], "component", ANN)
        assert [r.pixels for r in regions] == [1000, 100, 240_000]
        for region, part in zip(regions, found, strict=True):
            assert region.box == part.box
            np.testing.assert_array_equal(
                dense(case.review.selection(region.id)), dense(part.selection)
            )


def test_small_parts_of_a_large_slide_are_kept_small():
    values = np.ones((1024, 1024), np.uint8)
    values[::4, ::4] = 3
    found = components(Picture(values), 0, [3])
    assert len(found) == 256 * 256
    packed = sum(bits.nbytes for c in found for _, bits in c.selection.masks._packed.values())
    assert packed == len(found)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(pictures(), st.integers(0, 10**6), st.sampled_from([0, 20, 500]))
def test_disagreements_are_parts_of_one_difference(prediction, seed, least):
    said = drawn(seed, prediction.shape, "blobs", (0, 2, 4, 255, 255, 255))
    found = disagreements(Picture(prediction, 0.5, said), least)
    pairs = np.where(
        (said != 255) & (prediction <= 4) & (said != prediction), said * 8.0 + prediction, -1
    )
    expected = [
        (box, pixels, int(code) // 8, int(code) % 8)
        for code in np.unique(pairs[pairs >= 0])
        for _, pixels, box, _ in whole_components(pairs, least / 0.25, [code])
    ]
    got = [(sides(d.box), d.pixels, d.said, d.predicted) for d in found]
    assert sorted(got) == sorted(expected)
    assert [d.pixels for d in found] == sorted((d.pixels for d in found), reverse=True)


def test_disagreements_ask_only_for_chunks_that_hold_corrections(tmp_path):
    info = slide_info(*SHAPE)
    with Case.open_or_create(tmp_path / "a.hspnet", info, LabelGrid.of(info)) as case:
        run = case.start_run(run_record())
        run.write(block(0, 0, np.full(SHAPE, 2)))
        run.finish(1.0)
        box = Selection.of_box(PixelBox(500, 500, 530, 540), SHAPE)
        case.editing.correct(filled(box, 4), ANN, "shape")
        case.editing.correct(filled(Selection.of_box(PixelBox(0, 0, 9, 9), SHAPE), 2), ANN, "shape")
        composite = case.composite()
        asked = []
        read = composite.read
        composite.read = lambda *at, **more: (asked.append(at[:2]), read(*at, **more))[1]
        found = disagreements(composite, 1, case.corrections.chunks)
        assert [(d.box, d.pixels) for d in found] == [(PixelBox(500, 500, 530, 540), 1200)]
        assert (found[0].said, found[0].predicted) == (4, 2)
        assert set(asked) == {(0, 0), (0, 512), (512, 0), (512, 512)}


@pytest.mark.parametrize("area", [-1, float("nan"), float("inf")])
def test_an_area_that_is_none_is_refused(area):
    with pytest.raises(InputError, match="no area"):
        components(Picture(np.ones((5, 5))), area)


def test_a_class_that_there_is_not_is_refused():
    with pytest.raises(InputError, match="no class 253"):
        components(Picture(np.ones((5, 5))), 1, [1, 253])


@pytest.mark.parametrize(
    "search",
    [
        lambda p, **how: component_at(p, 700, 900, **how),
        lambda p, **how: components(p, 10, **how),
        lambda p, **how: disagreements(p, 10, **how),
    ],
)
def test_searches_tell_how_far_they_are_and_stop_when_told(search):
    values = drawn(3, SHAPE, "blobs", (1, 2, 3))
    picture = Picture(values, correction=np.full(SHAPE, 2, np.uint8))
    told = []
    search(picture, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) >= 9
    cancel = threading.Event()
    picture.asked.clear()

    def stop(_):
        cancel.set()

    with pytest.raises(CancelledError):
        search(picture, progress=stop, cancel=cancel)
    assert len(picture.asked) <= 8
