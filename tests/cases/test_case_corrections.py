"""Correcting, undoing, replaying: against plain arrays that do the same."""

import numpy as np
import pytest
import zarr
from case_tools import block, random_classes, run_record, slide_info
from hypothesis import given, settings
from hypothesis import strategies as st
from test_case_sampling import whole_level

from napari_hspnet.cases import Case, Patch, Selection, accepted, filled
from napari_hspnet.errors import CancelledError, CaseError, InputError, RegionLockedError
from napari_hspnet.slides import LabelGrid, PixelBox, Region

SHAPE = (1300, 1157)
ANN = "Dr. Ann"


def open_case(folder, shape=SHAPE, **options):
    info = slide_info(*shape)
    return Case.open_or_create(folder / "a.hspnet", info, LabelGrid.of(info), **options)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def predict(case, classes, y=0, x=0, hour=10):
    run = case.start_run(run_record(started=f"2026-11-23T{hour}:00:00+00:00"))
    run.write(block(y, x, classes))
    return run.finish(1.0)


def patch(y, x, values, where=None):
    values = np.asarray(values, np.uint8)
    return Patch(y, x, values, np.ones(values.shape, bool) if where is None else where)


def whole(case, what="classes", level=0):
    height, width = case.composite().levels[level].shape
    rows, columns = -(-SHAPE[0] >> level), -(-SHAPE[1] >> level)
    assert height >= rows
    assert width >= columns
    return case.composite().read(0, 0, *whole_level(np.zeros(SHAPE), level).shape, level, what)


def shown(prediction, correction):
    return np.where(correction == 255, prediction, correction)


def replayed(case):
    return case.at(case.journal.last).read(0, 0, *SHAPE)


def test_a_correction_lies_on_the_prediction_at_every_level(tmp_path, rng):
    prediction = random_classes(rng, SHAPE)
    said = np.full(SHAPE, 255, np.uint8)
    with open_case(tmp_path) as case:
        predict(case, prediction)
        for y, x, h, w in ((3, 5, 200, 300), (490, 500, 60, 40), (1100, 900, 200, 257)):
            values = rng.integers(0, 5, (h, w)).astype(np.uint8)
            where = rng.random((h, w)) < 0.4
            case.editing.correct([patch(y, x, values, where)], ANN, "brush")
            said[y : y + h, x : x + w][where] = values[where]
        for level in range(2):
            np.testing.assert_array_equal(
                whole(case, level=level), whole_level(shown(prediction, said), level)
            )
            np.testing.assert_array_equal(
                whole(case, "correction", level), whole_level(said, level)
            )
        np.testing.assert_array_equal(whole(case, "prediction"), prediction)
        # Prediction alone: a run never hears of corrections.
        only = case.composite(only=case.active).read(0, 0, *SHAPE)
        np.testing.assert_array_equal(only, prediction)
    root = zarr.open_group(tmp_path / "a.hspnet" / "correction.zarr", mode="r")
    for level in range(2):
        np.testing.assert_array_equal(root["class"][str(level)][:], whole_level(said, level))


def test_undo_and_redo_cross_a_restart(tmp_path, rng):
    prediction = random_classes(rng, SHAPE)
    states = [prediction]
    with open_case(tmp_path) as case:
        predict(case, prediction)
        for n in range(6):
            y, x = int(rng.integers(0, 1200)), int(rng.integers(0, 1000))
            case.editing.correct([patch(y, x, np.full((90, 120), n % 5, np.uint8))], ANN, "brush")
            states.append(whole(case))
        assert case.editing.undo(ANN).box.height <= 90
        np.testing.assert_array_equal(whole(case), states[5])
    with open_case(tmp_path) as case:
        np.testing.assert_array_equal(whole(case), states[5])
        for n in (4, 3, 2, 1, 0):
            assert case.editing.can_undo
            case.editing.undo(ANN)
            np.testing.assert_array_equal(whole(case), states[n])
        assert case.editing.undo(ANN) is None
        assert not case.corrections.chunks
    with open_case(tmp_path) as case:
        for n in range(1, 7):
            case.editing.redo(ANN)
            np.testing.assert_array_equal(whole(case), states[n])
            np.testing.assert_array_equal(replayed(case), states[n])
        assert case.editing.redo(ANN) is None
        case.editing.undo(ANN)
        case.editing.correct([patch(0, 0, [[1]])], ANN, "brush")
        assert not case.editing.can_redo
        assert not list(case.journal.verify())


def test_a_stroke_in_parts_is_one_act(tmp_path):
    with open_case(tmp_path) as case:
        for n in range(3):
            case.editing.correct([patch(10, 10 * n, [[2] * 10])], ANN, "brush", continues=n > 0)
        assert case.composite().read(10, 0, 1, 30).tolist() == [[2] * 30]
        result = case.editing.undo(ANN)
        assert result.box == PixelBox(10, 0, 11, 30)
        assert (whole(case) == 255).all()
        case.editing.redo(ANN)
        assert case.composite().read(10, 0, 1, 30).tolist() == [[2] * 30]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("eeeeurc"), st.integers(0, 10**6)), max_size=14))
def test_whatever_is_done_replay_and_reopening_agree(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("case")
    info = slide_info(600, 700)
    grid = LabelGrid.of(info)
    said = np.full((600, 700), 255, np.uint8)
    done, undone, past = [], [], []

    def opened():
        return Case.open_or_create(folder / "a.hspnet", info, grid)

    case = opened()
    try:
        for kind, seed in steps:
            rng = np.random.default_rng(seed)
            if kind == "e":
                y, x = int(rng.integers(-20, 590)), int(rng.integers(-20, 690))
                values = rng.choice(np.array([0, 1, 4, 255], np.uint8), size=(50, 60))
                where = rng.random((50, 60)) < 0.5
                before = said.copy()
                cut = np.s_[max(0, y) : y + 50, max(0, x) : x + 60]
                inside = np.s_[max(0, -y) :, max(0, -x) :]
                part = said[cut]
                own = inside[0].start, inside[1].start
                box = np.s_[own[0] : own[0] + part.shape[0], own[1] : own[1] + part.shape[1]]
                part[where[box]] = values[box][where[box]]
                result = case.editing.correct([patch(y, x, values, where)], ANN, "brush")
                assert (result.entry is None) == (before == said).all()
                if result.entry is not None:
                    done.append((before, said.copy()))
                    undone.clear()
            elif kind == "u":
                assert (case.editing.undo(ANN) is not None) == bool(done)
                if done:
                    undone.append(done.pop())
                    said = undone[-1][0].copy()
            elif kind == "r":
                assert (case.editing.redo(ANN) is not None) == bool(undone)
                if undone:
                    done.append(undone.pop())
                    said = done[-1][1].copy()
            else:
                case.close()
                case = opened()
            past.append((case.journal.last, said.copy()))
            np.testing.assert_array_equal(
                case.composite().read(0, 0, 600, 700, what="correction"), said
            )
        for seq, state in past:
            np.testing.assert_array_equal(case.at(seq).read(0, 0, 600, 700), state)
        assert not list(case.journal.verify())
    finally:
        case.close()


def test_areas_count_what_was_corrected(tmp_path, rng):
    prediction = random_classes(rng, SHAPE)
    with open_case(tmp_path) as case:
        predict(case, prediction)
        case.editing.correct([patch(500, 500, np.full((40, 50), 3, np.uint8))], ANN, "brush")
        values, counts = np.unique(whole(case), return_counts=True)
        areas = case.composite().areas()
        assert areas.exact
        assert areas.mm2 == pytest.approx(
            {int(v): n / 1e6 for v, n in zip(values, counts, strict=True)}
        )
        changes = case.composite().changes()
        assert sum(changes.values()) == 2000
        assert {said for _, said in changes} == {3}
        case.editing.undo(ANN)
        assert case.composite().changes() == {}


def test_accepting_says_what_is_shown_and_outlives_a_new_run(tmp_path, rng):
    first, second = random_classes(rng, SHAPE), random_classes(rng, SHAPE)
    with open_case(tmp_path) as case:
        predict(case, first)
        selection = Selection.of_box(PixelBox(400, 400, 700, 800), SHAPE)
        result = case.editing.correct(accepted(selection, case.composite()), ANN, "accept")
        assert all(a == b for a, b in (pair.split(">") for pair in result.entry.body["changes"]))
        np.testing.assert_array_equal(whole(case), first)
        predict(case, second, hour=11)
        expected = second.copy()
        kept = first[400:700, 400:800] <= 4
        expected[400:700, 400:800][kept] = first[400:700, 400:800][kept]
        np.testing.assert_array_equal(whole(case), expected)


def test_entries_say_who_when_what_and_which_run(tmp_path):
    times = iter(f"2026-11-25T10:00:{n:02d}.000+00:00" for n in range(60))
    with open_case(tmp_path, clock=lambda: next(times)) as case:
        run = predict(case, np.full((100, 100), 2))
        case.editing.correct([patch(90, 90, np.full((20, 20), 3))], " Dr.  Ann ", "brush")
        begin, runs, edit = case.journal.entries()
        assert (begin.kind, runs.kind, edit.kind) == ("begin", "runs", "edit")
        assert [active["id"] for active in runs.body["active"]] == [run.id]
        assert runs.body["active"][0]["region"] == run.record.region
        assert edit.reader == ANN
        assert edit.time == "2026-11-25T10:00:02.000+00:00"
        assert edit.body["changes"] == {"2>3": 100, "255>3": 300}
        assert edit.body["runs"] == [run.id]
        assert edit.body["box"] == [90, 90, 110, 110]
        assert edit.previous == runs.hash
        assert case.journal.at("2026-11-25T11:00:01.500+01:00") == 2
        with pytest.raises(InputError, match="no time"):
            case.journal.at("yesterday")


def test_a_clock_set_back_is_told_and_time_still_runs_on(tmp_path):
    times = iter(["2026-11-25T10:00:00.000+00:00", "2026-11-25T12:00:00.000+00:00"])
    back = iter(["2026-11-24T09:00:00.000+00:00", "2026-11-24T09:01:00.000+00:00"])
    with open_case(tmp_path, clock=lambda: next(times)) as case:
        case.editing.correct([patch(0, 0, [[1]])], ANN, "brush")
    with open_case(tmp_path, clock=lambda: next(back)) as case:
        case.editing.correct([patch(0, 1, [[2]])], ANN, "brush")
        last = case.journal.entry(3)
        assert last.time == "2026-11-25T12:00:00.000+00:00"
        assert last.body["clock"] == "2026-11-24T09:00:00.000+00:00"
        assert not list(case.journal.verify())


@pytest.mark.parametrize("reader", ["", "   "])
def test_a_reader_without_a_name_is_refused(tmp_path, reader):
    with open_case(tmp_path) as case:
        with pytest.raises(InputError, match="Nobody is named"):
            case.editing.correct([patch(0, 0, [[1]])], reader, "brush")
        with pytest.raises(InputError, match="Nobody is named"):
            case.review.add([Selection.of_box(PixelBox(0, 0, 9, 9), SHAPE)], "drawn", reader)
        assert (whole(case) == 255).all()


@pytest.mark.parametrize("value", [5, 253, 254])
def test_values_that_no_correction_has_are_refused(tmp_path, value):
    with open_case(tmp_path) as case:
        with pytest.raises(InputError, match=f"value {value}"):
            case.editing.correct([patch(0, 0, [[1, value]])], ANN, "brush")
        assert case.journal.last == 1


def test_cancelling_an_act_changes_nothing(tmp_path):
    import threading

    cancel = threading.Event()
    cancel.set()
    selection = Selection.of_region(Region.rectangle(0, 0, 900, 900), LabelGrid(SHAPE))
    with open_case(tmp_path) as case:
        with pytest.raises(CancelledError):
            case.editing.correct(filled(selection, 2), ANN, "shape", cancel=cancel)
        assert case.journal.last == 1


def test_signing_off_locks_until_unlocked(tmp_path):
    with open_case(tmp_path) as case:
        predict(case, np.full((200, 200), 2))
        case.editing.correct([patch(10, 10, np.full((5, 5), 3))], ANN, "brush")
        (region,) = case.review.add(
            [Selection.of_box(PixelBox(0, 0, 100, 100), SHAPE)], "drawn", ANN
        )
        case.review.set_state([region.id], "signed off", "Dr. Bob")
        result = case.editing.correct([patch(90, 90, np.full((20, 20), 4))], ANN, "brush")
        assert result.locked == (region.id,)
        values = case.composite().read(90, 90, 20, 20)
        assert (values[:10, :10] == 2).all()
        assert (values == 4).sum() == 300
        with pytest.raises(RegionLockedError, match=r"Region 1 \(by Dr. Bob\) is signed off"):
            case.editing.correct([patch(0, 0, np.full((9, 9), 4))], ANN, "brush")
        case.editing.undo(ANN)
        with pytest.raises(RegionLockedError):
            case.editing.undo(ANN)
        for refused in (
            lambda: case.review.set_tag([region.id], "uncertain", ANN),
            lambda: case.review.remove([region.id], ANN),
        ):
            with pytest.raises(RegionLockedError):
                refused()
        case.review.set_state([region.id], "reviewed", "Dr. Bob")
        case.editing.undo(ANN)
        assert (case.composite().read(0, 0, 200, 200) == 2).all()


def test_regions_are_what_the_journal_adds_up_to(tmp_path):
    grid = LabelGrid(SHAPE)
    circle = [(500 + 90 * np.sin(t), 520 + 90 * np.cos(t)) for t in np.linspace(0, 6.2, 40)]
    with open_case(tmp_path) as case:
        drawn = Selection.of_region(Region.shapes([circle]), grid)
        one, two = case.review.add(
            [drawn, Selection.of_box(PixelBox(0, 0, 50, 60), SHAPE)], "drawn", ANN
        )
        assert (one.id, two.id, two.pixels, two.state) == (1, 2, 3000, "to do")
        assert case.review.at(500, 520) == (1,)
        assert case.review.at(500, 640) == ()
        case.review.set_tag([1, 2], "metaplasia", ANN)
        case.review.comment(1, "ask again", "Dr. Bob")
        case.review.remove([2], ANN)
        (three,) = case.review.add([Selection.of_box(PixelBox(7, 7, 9, 9), SHAPE)], "tile", ANN)
        assert three.id == 3
        case.review.remove([3], ANN)
        (four,) = case.review.add([Selection.of_box(PixelBox(7, 7, 9, 9), SHAPE)], "tile", ANN)
        assert four.id == 4
        for wrong in ("nice", "SIGNED OFF"):
            with pytest.raises(InputError):
                case.review.set_state([1], wrong, ANN)
        with pytest.raises(InputError, match="no region 2"):
            case.review.set_state([2], "reviewed", ANN)
    with open_case(tmp_path) as case:
        found = case.review.region(1)
        assert found.tag == "metaplasia"
        assert [(c.reader, c.text) for c in found.comments] == [("Dr. Bob", "ask again")]
        box = found.box
        np.testing.assert_array_equal(case.review.selection(1).read(box), drawn.read(box))
        assert case.review.selection(1).pixels == found.pixels == drawn.pixels
        assert not case.review.differs_from_journal()
        assert not list(case.journal.verify())


def test_read_only_sees_what_only_the_journal_has(tmp_path, monkeypatch):
    from napari_hspnet.cases.store import CorrectionStore

    case = open_case(tmp_path)
    monkeypatch.setattr(CorrectionStore, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "")))
    result = case.editing.correct([patch(5, 5, [[3]])], ANN, "brush")
    assert "journal" in result.warning
    assert case.composite().read(5, 5, 1, 1) == 3
    monkeypatch.undo()
    looked = open_case(tmp_path, read_only=True)
    assert looked.composite().read(5, 5, 1, 1) == 3
    with pytest.raises(CaseError):
        looked.editing.correct([patch(0, 0, [[1]])], ANN, "brush")
    looked.close()
    case.close()
    with open_case(tmp_path) as again:
        assert again.composite().read(5, 5, 1, 1) == 3
