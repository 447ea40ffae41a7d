"""A second reader's case: nothing of the first reader's in it, and nobody else's acts."""

import shutil
import threading

import numpy as np
import pytest
from case_tools import slide_info
from damage_tools import ANN, BOB, SHAPE, make_case, open_case, paint, shown

from napari_hspnet.cases import (
    Case,
    Selection,
    begin_reading,
    find_cases,
    find_readings,
    places,
    reading_folder,
)
from napari_hspnet.cases.rescue import rescue_case
from napari_hspnet.cases.verify import verify_case
from napari_hspnet.cases.words import describe
from napari_hspnet.errors import CancelledError, CaseError, InputError, OutputError
from napari_hspnet.slides import LabelGrid, PixelBox

EVE = "Dr. Eve"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "a.hspnet"
    make_case(folder)
    return folder


@pytest.fixture
def first(made, tmp_path):
    return shutil.copytree(made, tmp_path / "a.hspnet")


def text_of(folder):
    """All that a folder says, as bytes."""
    return b"".join(p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file())


def test_it_has_the_model_and_nothing_of_a_reader(first):
    folder = begin_reading(first, f"  {EVE} ")
    assert folder == first.with_name("a~Dr._Eve.hspnet")
    with Case.open(folder, read_only=False) as second, Case.open(first) as one:
        np.testing.assert_array_equal(shown(second), shown(one, "prediction"))
        assert second.active == one.active
        assert [r.record for r in second.runs] == [r.record for r in one.runs]
        assert second.slide_facts == one.slide_facts
        assert not second.corrections.chunks
        assert second.review.regions == ()
        reading = second.journal.reading
        assert (reading.reader, reading.model) == (EVE, True)
        assert (reading.entry, reading.hash) == (
            one.journal.last,
            one.journal.entry(one.journal.last).hash,
        )
        assert one.journal.reading is None
    said = text_of(folder)
    for name in (ANN, BOB, "Ask again"):
        assert name.encode() not in said
    assert verify_case(folder).ok


def test_the_first_case_stays_as_it_is_while_it_is_open(first):
    with Case.open(first, read_only=False) as one:
        before = one.journal.last, shown(one)
        folder = begin_reading(first, EVE)
        paint(one, 5, 5, 30, 30, 4)
        assert one.journal.last == before[0] + 1
    with Case.open(folder) as second:
        assert second.journal.reading.entry == before[0]
        assert not second.corrections.chunks


def test_without_the_model_there_is_nothing_to_see(first):
    folder = begin_reading(first, EVE, model=False)
    with Case.open(folder, read_only=False) as second:
        assert second.runs == ()
        assert (shown(second) == 255).all()
        assert not second.journal.reading.model
        assert not paint(second, 5, 5, 30, 30, 4, reader=EVE).locked


def test_regions_come_without_what_was_said_of_them(first):
    with Case.open(first, read_only=False) as one:
        part = Selection.of_box(PixelBox(1000, 300, 1100, 420), SHAPE)
        one.review.add([part], "component", ANN)
        wanted = [(r.id, r.kind, r.box, r.pixels) for r in one.review.regions[:3]]
        pixels = [one.review.selection(i).masks for i, *_ in wanted]
    folder = begin_reading(first, EVE, regions=True)
    with Case.open(folder, read_only=False) as second:
        regions = second.review.regions
        assert [(r.id, r.kind, r.box, r.pixels) for r in regions] == wanted
        assert {(r.state, r.tag, r.comments, r.state_reader) for r in regions} == {
            ("to do", "", (), EVE)
        }
        for number, masks in enumerate(pixels, start=1):
            own = second.review.selection(number).masks
            assert own.keys() == masks.keys()
            for place, mask in masks.items():
                np.testing.assert_array_equal(own[place], mask)
        second.review.set_state([2], "signed off", EVE)
        (new,) = second.review.add([part], "component", EVE)
        assert new.id == 4
        assert not second.review.differs_from_journal()
    assert verify_case(folder).ok
    assert ANN.encode() not in text_of(folder)


def test_nobody_else_acts_in_it(first):
    folder = begin_reading(first, EVE)
    with Case.open(folder, read_only=False) as second:
        before = second.journal.last
        with pytest.raises(InputError, match=r"second reading of Dr\. Eve, and Dr\. Ann"):
            paint(second, 5, 5, 30, 30, 4, reader=ANN)
        with pytest.raises(InputError, match="second reading"):
            second.review.add([Selection.of_box(PixelBox(0, 0, 9, 9), SHAPE)], "drawn", ANN)
        assert second.journal.last == before
        assert (shown(second, "correction") == 255).all()
        paint(second, 5, 5, 30, 30, 4, reader="dr. eve ")
        with pytest.raises(InputError, match="second reading"):
            second.editing.undo(BOB)
        second.editing.undo(EVE)
    with Case.open(folder, read_only=False) as again, pytest.raises(InputError):
        paint(again, 5, 5, 30, 30, 3, reader=ANN)


def test_the_journal_says_what_it_is(first):
    with Case.open(begin_reading(first, EVE, regions=True)) as second:
        told = [describe(entry, 1.0) for entry in second.journal.entries()]
    assert told[0].startswith("second reading by Dr. Eve begun for biopsy.svs")
    assert "with what the model said" in told[0]
    assert "region 1 taken over from the first reading" in told[2]


def test_it_is_refused_where_it_makes_no_sense(first, tmp_path):
    with pytest.raises(InputError, match="Nobody"):
        begin_reading(first, "  ")
    with pytest.raises(CaseError, match="no case"):
        begin_reading(tmp_path / "none.hspnet", EVE)
    folder = begin_reading(first, EVE)
    with pytest.raises(OutputError, match="a reading already"):
        begin_reading(first, EVE)
    with pytest.raises(CaseError, match=r"itself, by Dr\. Eve"):
        begin_reading(folder, BOB)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.hspnet", "a~Dr._Eve.hspnet"]


def test_nothing_is_left_where_it_cannot_be_made(first, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(OutputError):
        begin_reading(first, EVE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.hspnet"]


def test_it_says_how_far_it_is_and_can_be_stopped(first, tmp_path):
    told, stop = [], threading.Event()

    def progress(part):
        told.append(part)
        if part > 0.5:
            stop.set()

    with pytest.raises(CancelledError):
        begin_reading(first, EVE, progress=progress, cancel=stop)
    assert 0.5 < told[-1] < 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.hspnet"]
    begin_reading(first, EVE, progress=told.append)
    assert told[-1] == 1.0


def test_what_a_kill_left_of_an_earlier_try_is_no_hindrance(first, tmp_path):
    left = tmp_path / ".a~Dr._Eve.hspnet.part" / "runs"
    left.mkdir(parents=True)
    begin_reading(first, EVE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.hspnet", "a~Dr._Eve.hspnet"]


def test_runs_are_copied_where_one_file_cannot_have_two_names(first, monkeypatch):
    def never(*args):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("napari_hspnet.cases.reading.os.link", never)
    folder = begin_reading(first, EVE)
    with Case.open(first) as one, Case.open(folder) as second:
        np.testing.assert_array_equal(shown(second), shown(one, "prediction"))


def test_removing_one_leaves_the_other(first):
    folder = begin_reading(first, EVE)
    with Case.open(folder) as second:
        before = shown(second)
    shutil.rmtree(first)
    with Case.open(folder) as second:
        np.testing.assert_array_equal(shown(second), before)


def test_a_slides_case_and_its_readings_are_told_apart(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "_cases", lambda: tmp_path / "cases")
    info = slide_info(*SHAPE)
    own = places.default_case_folder(info)
    make_case(own)
    for reader in ("Dr. B", "Dr. A"):
        begin_reading(own, reader)
    assert find_cases(info).own == own
    found = find_readings(own)
    assert [(r.reader, r.folder) for r in found] == [
        ("Dr. A", reading_folder(own, "Dr. A")),
        ("Dr. B", reading_folder(own, "Dr. B")),
    ]
    # On the second reader's machine there is nothing else.
    shutil.rmtree(own)
    assert find_cases(info).own is None
    assert len(find_readings(own)) == 2
    (found[0].folder / "case.sqlite").write_bytes(b"rubbish" * 100)
    assert [r.reader for r in find_readings(own)] == ["Dr. B"]
    assert find_readings(tmp_path / "elsewhere" / "x.hspnet") == ()


def test_a_rescued_reading_stays_one(first):
    folder = begin_reading(first, EVE)
    with Case.open(folder, read_only=False) as second:
        paint(second, 5, 5, 30, 30, 4, reader=EVE)
        before = shown(second)
    with pytest.raises(InputError, match="second reading"):
        rescue_case(folder, ANN)
    rescue_case(folder, EVE)
    with Case.open(folder, read_only=False) as second:
        np.testing.assert_array_equal(shown(second), before)
        assert second.journal.reading.reader == EVE
        with pytest.raises(InputError):
            paint(second, 5, 5, 30, 30, 3, reader=ANN)


def test_a_case_of_another_slide_is_refused_as_ever(first):
    folder = begin_reading(first, EVE)
    other = slide_info(*SHAPE, fingerprint="cd" * 32)
    with pytest.raises(CaseError, match="belongs to"):
        Case.open_or_create(folder, other, LabelGrid.of(other))
    with open_case(folder) as second:
        assert second.journal.reading.reader == EVE
