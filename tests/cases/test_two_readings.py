"""Two readings side by side, checked against counting pixel by pixel and scikit-learn."""

import math
import threading

import numpy as np
import pytest
from case_tools import slide_info
from damage_tools import ANN, SHAPE, make_case, open_case, paint, shown
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_hspnet.cases import Case, Selection, begin_reading
from napari_hspnet.cases.grades import worst_grade
from napari_hspnet.cases.kappa import agreement
from napari_hspnet.cases.two_readings import BASES, compare
from napari_hspnet.errors import CancelledError, CaseMismatchError
from napari_hspnet.slides import LabelGrid, PixelBox

EVE = "Dr. Eve"


@given(arrays(np.int64, (5, 5), elements=st.integers(0, 30)))
@settings(max_examples=60, deadline=None)
def test_figures_are_those_of_scikit_learn(table):
    metrics = pytest.importorskip("sklearn.metrics")
    found = agreement(table)
    pairs = [(a, b) for a in range(1, 5) for b in range(1, 5) for _ in range(table[a, b])]
    assert found.graded == len(pairs)
    assert found.one_alone == table[0, 1:].sum() + table[1:, 0].sum()
    if not pairs:
        assert math.isnan(found.same)
        assert math.isnan(found.kappa)
        return
    one, other = map(list, zip(*pairs, strict=True))
    assert found.same == pytest.approx(metrics.accuracy_score(one, other))

    def check(ours, one, other, **how):
        # It divides by zero there, too.
        if len(set(one) | set(other)) == 1:
            assert math.isnan(ours)
        else:
            wanted = metrics.cohen_kappa_score(one, other, **how)
            assert ours == pytest.approx(wanted, abs=1e-9)

    check(found.kappa, one, other)
    check(found.weighted, one, other, weights="quadratic", labels=[1, 2, 3, 4])
    high = [g >= 3 for g in one], [g >= 3 for g in other]
    assert found.same_high == pytest.approx(np.mean(np.equal(*high)))
    check(found.kappa_high, *high)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two readings with corrections that meet and miss each other, and regions in all states."""
    root = tmp_path_factory.mktemp("two")
    first = root / "a.hspnet"
    make_case(first)
    with Case.open(first, read_only=False) as one:
        one.review.set_state([1], "reviewed", ANN)
    second = begin_reading(first, EVE, regions=True)
    rng = np.random.default_rng(5)
    with Case.open(second, read_only=False) as other:
        for number in range(14):
            y, x = int(rng.integers(0, 1100)), int(rng.integers(0, 900))
            paint(other, y, x, 160, 210, number % 5, EVE)
        other.review.set_state([1, 2], "signed off", EVE)
        other.review.add([Selection.of_box(PixelBox(9, 9, 30, 30), SHAPE)], "drawn", EVE)
    return first, second


def slow_table(one, other, where):
    table = np.zeros((5, 5), np.int64)
    for a, b in zip(one[where], other[where], strict=True):
        table[a, b] += 1
    return table


def test_tables_are_what_counting_pixel_by_pixel_gives(folders):
    with Case.open(folders[0]) as first, Case.open(folders[1]) as second:
        found = compare(first, second)
        one, other = shown(first), shown(second)
        both = (one <= 4) & (other <= 4)
        said = (shown(first, "correction") != 255) & (shown(second, "correction") != 255)
        done = np.zeros(SHAPE, bool)
        # 1 and 2 are done by both, 3 by the first alone, 4 is on one list alone.
        done[0:40, 0:50] = done[500:600, 500:600] = True
    np.testing.assert_array_equal(found.tables["analysed"], slow_table(one, other, both))
    np.testing.assert_array_equal(found.tables["said"], slow_table(one, other, both & said))
    np.testing.assert_array_equal(found.tables["reviewed"], slow_table(one, other, both & done))
    assert list(found.tables) == list(BASES)
    assert 0 < found.tables["said"].sum() < found.tables["analysed"].sum()


def test_places_are_where_both_graded_and_not_the_same(folders):
    from scipy import ndimage

    with Case.open(folders[0]) as first, Case.open(folders[1]) as second:
        found = compare(first, second, least_um2=400).differences
        one, other = shown(first).astype(int), shown(second).astype(int)
    codes = np.where((one <= 4) & (other <= 4) & (one != other), one * 8 + other, -1)
    wanted = []
    for code in np.unique(codes[codes >= 0]):
        parts, _ = ndimage.label(codes == code)
        sizes = np.bincount(parts.ravel())[1:]
        wanted += [(int(n), *divmod(int(code), 8)) for n in sizes if n >= 400]
    assert sorted((d.pixels, d.first, d.second) for d in found) == sorted(wanted)
    assert [d.pixels for d in found] == sorted((d.pixels for d in found), reverse=True)
    for each in found[:5]:
        box = np.s_[each.box.y0 : each.box.y1, each.box.x0 : each.box.x1]
        there = codes[box] == each.first * 8 + each.second
        assert there.sum() >= each.pixels
        assert all(edge.any() for edge in (there[0], there[-1], there[:, 0], there[:, -1]))


def test_regions_on_both_lists_are_paired(folders):
    with Case.open(folders[0]) as first, Case.open(folders[1]) as second:
        found = compare(first, second)
        one, other = shown(first), shown(second)
    assert [(p.region.id, p.number, p.done) for p in found.regions] == [
        (1, 1, True),
        (2, 2, True),
        (3, 3, False),
    ]
    for pair in found.regions:
        box = pair.region.box
        at = np.s_[box.y0 : box.y1, box.x0 : box.x1]
        for labels, worst in ((one, pair.first), (other, pair.second)):
            counts = np.bincount(labels[at].ravel(), minlength=256)
            assert worst == worst_grade({g: counts[g] / 1e6 for g in range(5)})
    done = [(p.first, p.second) for p in found.regions if p.done]
    # The other has no grade at all in one of the two.
    (both,) = [pair for pair in done if None not in pair]
    assert found.worst_grades[both] == found.worst_grades.sum() == 1


def test_it_says_who_read_what(folders):
    with Case.open(folders[0]) as first, Case.open(folders[1]) as second:
        found = compare(first, second)
        assert found.made_from
        assert found.first.who == "Dr. Ann, Dr. Bob"
        assert (found.second.who, found.second.second, found.second.model) == (EVE, True, True)
        assert (found.first.entry, found.second.entry) == (first.journal.last, second.journal.last)
        # The other way round neither is made from the other.
        turned = compare(second, first)
        assert not turned.made_from
        np.testing.assert_array_equal(turned.tables["said"], found.tables["said"].T)


def test_what_neither_touched_agrees_by_itself(tmp_path):
    """Why the strictest basis comes first."""
    first = tmp_path / "a.hspnet"
    make_case(first)
    second = begin_reading(first, EVE)
    with Case.open(first) as one, Case.open(second) as other:
        tables = compare(one, other).tables
    assert tables["said"].sum() == tables["reviewed"].sum() == 0
    assert tables["analysed"].sum() > 0
    assert agreement(tables["analysed"]).same > 0.5
    assert math.isnan(agreement(tables["said"]).kappa)


def test_two_slides_are_refused(folders, tmp_path):
    info = slide_info(*SHAPE, fingerprint="cd" * 32)
    other = Case.open_or_create(tmp_path / "b.hspnet", info, LabelGrid.of(info))
    with (
        other,
        Case.open(folders[0]) as first,
        pytest.raises(CaseMismatchError, match="two slides"),
    ):
        compare(first, other)


def test_another_grid_is_refused(folders, tmp_path):
    info = slide_info(*SHAPE)
    grid = LabelGrid.of(info, mpp=2.0)
    other = Case.open_or_create(tmp_path / "b.hspnet", info, grid)
    with other, Case.open(folders[0]) as first, pytest.raises(CaseMismatchError, match="2 µm"):
        compare(first, other)


def test_it_can_be_stopped_and_says_how_far_it_is(folders):
    told, stop = [], threading.Event()
    with Case.open(folders[0]) as first, Case.open(folders[1]) as second:
        compare(first, second, progress=told.append)
        assert told == sorted(told)
        assert told[-1] == 1.0
        stop.set()
        with pytest.raises(CancelledError):
            compare(first, second, cancel=stop)


def test_a_case_that_is_open_elsewhere_can_be_compared(folders):
    with open_case(folders[0]), Case.open(folders[1]) as second, Case.open(folders[0]) as first:
        assert compare(first, second).made_from
