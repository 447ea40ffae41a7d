"""What exports read: a case as it was, whatever is done to it meanwhile."""

from dataclasses import replace

import numpy as np
import pytest
from case_tools import block, run_record, slide_info

from napari_hspnet.cases import Case, CaseSnapshot, Patch, Selection
from napari_hspnet.errors import InputError
from napari_hspnet.exchange import CaseLabels
from napari_hspnet.slides import Bounds, LabelGrid, PixelBox

SHAPE = (900, 700)


def info(**changes):
    return replace(slide_info(*SHAPE), **changes)


@pytest.fixture
def case(tmp_path):
    slide = info()
    with Case.open_or_create(tmp_path / "a.hspnet", slide, LabelGrid.of(slide)) as opened:
        writer = opened.start_run(run_record())
        writer.write(block(0, 0, np.full((600, 650), 2, np.uint8)))
        writer.finish(1.0)
        yield opened


def paint(case, y, x, side, value, reader="A"):
    values = np.full((side, side), value, np.uint8)
    return case.editing.correct([Patch(y, x, values, values < 255)], reader, "brush")


def test_it_stays_as_it_was(case):
    paint(case, 10, 10, 50, 4)
    (region,) = case.review.add([Selection.of_box(PixelBox(0, 0, 80, 80), SHAPE)], "drawn", "A")
    case.review.set_state([region.id], "reviewed", "A")
    then = CaseSnapshot.of(case)
    before = then.composite.read(0, 0, *SHAPE)
    paint(case, 20, 20, 300, 1, "B")
    case.review.set_state([region.id], "to do", "B")
    case.review.remove([region.id], "B")
    np.testing.assert_array_equal(then.composite.read(0, 0, *SHAPE), before)
    np.testing.assert_array_equal(
        CaseSnapshot.of(case, then.seq).composite.read(0, 0, *SHAPE), before
    )
    for past in (then, CaseSnapshot.of(case, then.seq)):
        assert past.readers == ("A",)
        (known,) = past.regions
        assert (known.id, known.state, known.state_reader) == (region.id, "reviewed", "A")
        assert past.selection(known.id).pixels == 6400
    now = CaseSnapshot.of(case)
    assert now.readers == ("A", "B")
    assert now.regions == ()
    assert now.seq == case.journal.last > then.seq
    assert now.time == case.journal.entry(now.seq).time


def test_undone_readers_are_not_named(case):
    paint(case, 10, 10, 50, 4, "A")
    paint(case, 90, 10, 50, 4, "B")
    case.editing.undo("C")
    assert CaseSnapshot.of(case).readers == ("A",)


def test_a_run_alone_has_no_corrections(case):
    paint(case, 10, 10, 50, 4)
    alone = CaseSnapshot.of(case, only=[case.active[0]])
    assert set(np.unique(alone.composite.read(0, 0, *SHAPE))) == {2, 255}
    assert alone.readers == ()


def test_each_kind_of_labels(case):
    paint(case, 0, 0, 40, 4)
    paint(case, 100, 0, 40, 2)
    composite = CaseSnapshot.of(case).composite
    read = {w: CaseLabels(composite, w).read(0, 0, *SHAPE) for w in ("composite", "prediction")}
    said = CaseLabels(composite, "correction").read(0, 0, *SHAPE)
    changed = CaseLabels(composite, "difference").read(0, 0, *SHAPE)
    assert (read["prediction"][:600, :650] == 2).all()
    assert (read["composite"][:40, :40] == 4).all()
    assert (np.count_nonzero(said == 4), np.count_nonzero(said == 2)) == (1600, 1600)
    assert (changed[:40, :40] == 4).all()
    assert np.count_nonzero(changed != 255) == 1600
    with pytest.raises(InputError, match="composite, prediction"):
        CaseLabels(composite, "all")


def test_the_scanned_area_is_known_once_the_slide_was_open(tmp_path):
    bounds = Bounds(7, 13, 400, 300)
    for name, slide in (("with", info(bounds=bounds)), ("without", info(bounds=None))):
        folder = tmp_path / f"{name}.hspnet"
        Case.open_or_create(folder, slide, LabelGrid.of(slide)).close()
        with Case.open(folder) as case:
            assert (case.slide_facts.bounds, case.slide_facts.bounds_known) == (slide.bounds, True)
    folder = tmp_path / "without.hspnet"
    with Case.open(folder, read_only=False) as case:
        case.attach(info(bounds=bounds, fingerprint="cd" * 32), "A")
        assert case.slide_facts.bounds == bounds
