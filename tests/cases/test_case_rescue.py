"""Where the journal itself is damaged: what readers said, runs and regions come through."""

import random
import shutil
import sqlite3

import numpy as np
import pytest
from case_tools import slide_info
from damage_tools import (
    ANN,
    BOB,
    SHAPE,
    change,
    chunk_file,
    copied,
    files,
    make_case,
    open_case,
    paint,
    shown,
)

from napari_hspnet.cases import Case
from napari_hspnet.cases.rescue import rescue_case
from napari_hspnet.cases.verify import verify_case
from napari_hspnet.errors import (
    CaseError,
    CaseInUseError,
    CaseMismatchError,
    InputError,
    OutputError,
)
from napari_hspnet.slides import LabelGrid

EVE = "Dr. Eve"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "a.hspnet"
    make_case(folder)
    return folder


@pytest.fixture
def case(good, tmp_path):
    return copied(good, tmp_path / "a.hspnet")


def root_page(folder, name):
    db = sqlite3.connect(folder / "case.sqlite")
    page, size = db.execute(
        "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master "
        "WHERE name = ?",
        (name,),
    ).fetchone()
    db.close()
    return (page - 1) * size, size


def spoil(folder, *tables):
    """Overwrite the first page of some tables, so that nothing in them can be found."""
    content = bytearray((folder / "case.sqlite").read_bytes())
    for table in tables:
        at, size = root_page(folder, table)
        content[at : at + size] = b"rubbish!" * (size // 8)
    (folder / "case.sqlite").write_bytes(content)
    return bytes(content)


def compare(case, good, regions=True):
    with Case.open(case, read_only=False) as one, Case.open(good) as two:
        for what in ("classes", "correction", "prediction"):
            np.testing.assert_array_equal(shown(one, what), shown(two, what))
        for a, b in zip(one.composite().levels, two.composite().levels, strict=True):
            np.testing.assert_array_equal(a[:], b[:])
        assert one.active == two.active
        assert [(r.id, r.record, r.pixels) for r in one.runs] == [
            (r.id, r.record, r.pixels) for r in two.runs
        ]
        if regions:
            assert one.review.regions == two.review.regions
            for region in two.review.regions:
                box = region.box
                a, b = (c.review.selection(region.id).read(box) for c in (one, two))
                np.testing.assert_array_equal(a, b)
    assert verify_case(case).damages == ()


def test_a_spoilt_journal_is_begun_anew_with_all_labels(case, good):
    damaged = spoil(case, "entry")
    with pytest.raises(CaseError, match="damaged"):
        Case.open(case)
    assert verify_case(case, repair=True).rescue
    found = rescue_case(case, EVE)
    assert found.lost
    assert (found.runs, found.regions, found.entries_read) == (2, 3, 0)
    assert (case / found.kept[0].name).read_bytes() == damaged
    compare(case, good)
    with Case.open(case, read_only=False) as opened:
        begin, runs, edit, *_ = opened.journal.entries()
        assert begin.body["rescued_from"] == found.kept[0].name
        assert any("entr" in text for text in begin.body["lost"])
        assert (begin.kind, runs.kind, edit.kind) == ("begin", "runs", "edit")
        assert (edit.body["tool"], edit.reader) == ("rescue", EVE)
        assert found.pixels == (shown(opened, "correction") != 255).sum()
        signed = opened.review.region(2)
        assert (signed.state, signed.state_reader) == ("signed off", BOB)
        assert signed.comments[0].reader == BOB
        # Work goes on, and numbers of regions are not given twice.
        paint(opened, 1000, 900, 30, 40, 3)
        opened.editing.undo(ANN)
    compare(case, good)


@pytest.mark.parametrize(
    "tables",
    [("run",), ("region",), ("tile",), ("seen",), ("tile_place",), ("run", "entry", "region")],
)
def test_whatever_table_is_spoilt_the_labels_come_through(case, good, tables):
    spoil(case, *tables)
    found = rescue_case(case, EVE)
    assert found.runs == 2
    lost_regions = {"region", "tile"} & set(tables)
    assert found.regions == (0 if lost_regions else 3)
    compare(case, good, regions=not lost_regions)


def test_a_damaged_header_needs_the_slide(case, good):
    content = bytearray((case / "case.sqlite").read_bytes())
    content[:100] = b"x" * 100
    (case / "case.sqlite").write_bytes(content)
    before = set(files(case))
    with pytest.raises(CaseError, match="which slide"):
        rescue_case(case, EVE)
    assert before <= set(files(case))
    info = slide_info(*SHAPE)
    found = rescue_case(case, EVE, info, LabelGrid.of(info))
    assert (found.runs, found.regions) == (2, 0)
    compare(case, good, regions=False)


def test_a_lost_database_is_begun_anew_from_the_folders(case, good):
    (case / "case.sqlite").unlink()
    info = slide_info(*SHAPE)
    with pytest.raises(CaseError, match="rescue"):
        open_case(case)
    (case / "case.sqlite").touch()
    with pytest.raises(CaseError, match="rescue"):
        open_case(case)
    assert rescue_case(case, EVE, info, LabelGrid.of(info)).runs == 2
    compare(case, good, regions=False)


def test_another_slide_is_refused(case):
    spoil(case, "entry")
    info = slide_info(*SHAPE, fingerprint="cd" * 32)
    with pytest.raises(CaseMismatchError):
        rescue_case(case, EVE, info, LabelGrid.of(info))


def test_what_only_the_journal_had_comes_through(case, good, tmp_path):
    shutil.rmtree(case / "correction.zarr")
    change(case, "UPDATE entry SET reader = 'Dr. Mallory' WHERE seq = 5")
    found = rescue_case(case, EVE)
    assert any("entry 5 is not as it was entered" in text for text in found.lost)
    assert found.entries_read == 24
    compare(case, good)


def test_a_damaged_chunk_is_named_and_the_others_come_through(case, good):
    spoil(case, "entry")
    chunk_file(case, 1, 1).write_bytes(b"gone")
    kept = chunk_file(case, 0, 0).read_bytes()
    found = rescue_case(case, EVE)
    assert any("correction.zarr/class/0/c/1/1" in text for text in found.lost)
    with Case.open(case, read_only=False) as one, Case.open(good) as two:
        a, b = shown(one, "correction"), shown(two, "correction")
        a[512:1024, 512:1024] = b[512:1024, 512:1024]
        np.testing.assert_array_equal(a, b)
    assert verify_case(case).ok
    aside = next(path for path in found.kept if path.name.startswith("correction.zarr"))
    assert (aside / "class" / "0" / "c" / "0" / "0").read_bytes() == kept


def test_a_run_that_nobody_knows_any_more_is_kept_aside(case):
    spoil(case, "run")
    run = min((case / "runs").iterdir())
    (run / "zarr.json").write_text("{")
    found = rescue_case(case, EVE)
    assert found.runs == 1
    assert any(run.name in text and "kept aside" in text for text in found.lost)
    (aside,) = case.glob("runs.damaged-*")
    assert [path.name for path in aside.iterdir()] == [run.name]
    Case.open(case, read_only=False).close()
    assert (aside / run.name / "class" / "0").is_dir()


def test_whole_cases_come_through_whole_and_twice(case, good):
    for _ in range(2):
        found = rescue_case(case, EVE)
        assert found.lost == ()
        compare(case, good)


def test_rescue_needs_a_name_a_case_and_the_lock(case, tmp_path):
    with pytest.raises(InputError, match="Nobody"):
        rescue_case(case, " ")
    with pytest.raises(CaseError, match="no case"):
        rescue_case(tmp_path, EVE)
    with open_case(case), pytest.raises(CaseInUseError):
        rescue_case(case, EVE)


def test_a_full_disk_leaves_the_case_as_it_was(case, monkeypatch):
    from napari_hspnet.cases.database import CaseDatabase

    spoil(case, "entry")
    before = files(case)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CaseDatabase, "_commit", full)
    with pytest.raises(OutputError, match="full"):
        rescue_case(case, EVE)
    after = files(case)
    assert {name: after[name] for name in before if name != "case.lock"} == {
        name: content for name, content in before.items() if name != "case.lock"
    }
    monkeypatch.undo()
    rescue_case(case, EVE)


def test_a_rescue_that_was_cut_off_is_finished(case, good, monkeypatch):
    from pathlib import Path

    spoil(case, "entry")
    replace = Path.replace

    def cut(self, target):
        if self.name == ".case.sqlite.rescued":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        rescue_case(case, EVE)
    monkeypatch.undo()
    assert not (case / "case.sqlite").exists()
    found = rescue_case(case, BOB)
    assert (found.runs, found.regions) == (2, 3)
    assert found.pixels
    compare(case, good)


def test_whatever_bytes_are_hit_rescue_works_or_says_why(good, tmp_path):
    info = slide_info(*SHAPE)
    rng = random.Random(11)
    with Case.open(good) as opened:
        wanted = shown(opened, "correction")
    content = (good / "case.sqlite").read_bytes()
    for number in range(20):
        case = copied(good, tmp_path / str(number))
        damaged = bytearray(content)
        length = rng.choice([1, 64, 4096])
        at = rng.randrange(len(content) // length) * length
        damaged[at : at + length] = rng.randbytes(length)
        (case / "case.sqlite").write_bytes(damaged)
        try:
            rescue_case(case, EVE, info, LabelGrid.of(info))
        except CaseMismatchError:
            # The slide's fingerprint was hit.
            continue
        with Case.open(case, read_only=False) as opened:
            np.testing.assert_array_equal(shown(opened, "correction"), wanted)
        assert verify_case(case).ok
        shutil.rmtree(case)
