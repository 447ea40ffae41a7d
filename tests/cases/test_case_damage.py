"""Bad luck with a case: damaged chunks, full disks, foreign folders, other slides."""

import errno
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from case_tools import block, run_record, slide_info
from damage_tools import ANN, SHAPE, chunk_file, make_case, open_case, paint, shown

from napari_hspnet.cases import Case, Patch, Selection, default_case_folder, filled
from napari_hspnet.cases.corrections import Corrections
from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.store import CorrectionStore
from napari_hspnet.cases.verify import verify_case
from napari_hspnet.errors import CaseError, CaseInUseError, CaseMismatchError, OutputError
from napari_hspnet.slides import LabelGrid, PixelBox


@pytest.fixture
def case(tmp_path):
    return tmp_path / "a.hspnet"


@pytest.fixture
def made(case):
    """A case, and what it shows."""
    return case, make_case(case)


def levels(opened):
    return [level[:] for level in opened.composite().levels]


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def failing_commit(database):
    """As SQLite's own where the disk is full."""
    database._db.execute("ROLLBACK")
    no_space()


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("read_only", [True, False])
def test_a_damaged_chunk_is_made_anew_from_the_journal_when_it_is_read(made, level, read_only):
    case, expected = made
    with Case.open(case) as opened:
        before = levels(opened)
    path = chunk_file(case, 0, 0, level)
    good = path.read_bytes()
    path.write_bytes(good[:-9] + b"rubbish!!")
    with Case.open(case, read_only=read_only) as opened:
        for one, two in zip(levels(opened), before, strict=True):
            np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(shown(opened), expected)
        assert opened.corrections.repaired == 1
    assert (path.read_bytes() == good) == (not read_only)
    assert verify_case(case).ok == (not read_only)


def test_a_damaged_chunk_that_is_painted_on_is_made_anew_first(made):
    case, expected = made
    chunk_file(case, 1, 1).write_bytes(b"")
    with Case.open(case, read_only=False) as opened:
        paint(opened, 600, 600, 20, 30, 4)
        expected[600:620, 600:630] = 4
        np.testing.assert_array_equal(
            shown(opened)[512:1024, 512:1024], expected[512:1024, 512:1024]
        )
    assert verify_case(case).ok


def test_a_damaged_chunk_shows_also_where_the_disk_is_full(made, monkeypatch):
    case, expected = made
    chunk_file(case, 1, 1).write_bytes(b"")
    with Case.open(case, read_only=False) as opened:
        monkeypatch.setattr(CorrectionStore, "write", no_space)
        np.testing.assert_array_equal(shown(opened), expected)
        monkeypatch.undo()
        paint(opened, 0, 600, 5, 5, 1)
    assert verify_case(case).ok


def test_a_deleted_correction_folder_is_replayed(made):
    case, expected = made
    shutil.rmtree(case / "correction.zarr")
    with Case.open(case) as opened:
        np.testing.assert_array_equal(shown(opened), expected)
    assert not (case / "correction.zarr").exists()
    Case.open(case, read_only=False).close()
    assert verify_case(case).ok


def test_a_replay_that_is_cut_off_is_begun_again(made, monkeypatch):
    case, expected = made
    shutil.rmtree(case / "correction.zarr")
    take = Corrections.take
    monkeypatch.setattr(
        Corrections, "take", lambda self, e: no_space() if e.seq > 9 else take(self, e)
    )
    with pytest.raises(OSError, match="No space"):
        Case.open(case, read_only=False)
    assert (case / "correction.zarr").exists()
    monkeypatch.undo()
    with Case.open(case, read_only=False) as opened:
        np.testing.assert_array_equal(shown(opened), expected)
    assert verify_case(case).ok


def test_files_of_others_in_the_correction_folder_do_no_harm(made):
    case, expected = made
    base = case / "correction.zarr" / "class" / "0" / "c"
    (base / ".DS_Store").write_text("x")
    (base / "0" / "Thumbs.db").write_text("x")
    (base / "77").mkdir()
    (base / "77" / "77").write_text("x")
    with Case.open(case, read_only=False) as opened:
        np.testing.assert_array_equal(shown(opened), expected)
        opened.composite().areas()
    assert verify_case(case).ok


def test_a_full_disk_while_painting_loses_nothing(case, monkeypatch):
    with open_case(case) as opened:
        paint(opened, 0, 0, 600, 600, 1)
        monkeypatch.setattr(CorrectionStore, "write", no_space)
        result = paint(opened, 300, 300, 400, 400, 2)
        assert "disk is full" in result.warning
        assert "in the journal" in result.warning
        undone = opened.editing.undo(ANN)
        assert "disk is full" in undone.warning
        opened.editing.redo(ANN)
        expected = shown(opened)
        assert (expected[300:700, 300:700] == 2).all()
    with Case.open(case) as looker:
        np.testing.assert_array_equal(shown(looker), expected)
    monkeypatch.undo()
    with open_case(case) as opened:
        np.testing.assert_array_equal(shown(opened), expected)
    assert verify_case(case).ok


def test_a_large_act_on_a_full_disk_shows_whole_and_is_written_later(case, monkeypatch):
    # More than is held in memory at a time.
    monkeypatch.setattr("napari_hspnet.cases.corrections._HELD_BYTES", 300_000)
    whole = Selection.of_box(PixelBox(0, 0, *SHAPE), SHAPE)
    with open_case(case) as opened:
        monkeypatch.setattr(CorrectionStore, "write", no_space)
        assert opened.editing.correct(filled(whole, 3), ANN, "shape").warning
        assert (shown(opened) == 3).all()
        monkeypatch.undo()
        assert not paint(opened, 5, 5, 1, 1, 2).warning
    assert verify_case(case).ok
    with Case.open(case) as opened:
        assert (shown(opened) == 3).sum() == SHAPE[0] * SHAPE[1] - 1


@pytest.mark.parametrize("full", ["pages", "commit"])
def test_a_full_disk_for_the_journal_refuses_the_act(case, monkeypatch, full):
    with open_case(case) as opened:
        paint(opened, 0, 0, 10, 10, 1)
        expected = shown(opened)
        if full == "pages":
            pages = opened._database.query("PRAGMA page_count")[0][0]
            opened._database.query(f"PRAGMA max_page_count = {pages}")
        else:
            monkeypatch.setattr(CaseDatabase, "_commit", failing_commit)
        noise = np.random.default_rng(1).integers(0, 5, (900, 900)).astype(np.uint8)
        act = Patch(0, 0, noise, np.ones(noise.shape, bool))
        for _ in range(2):
            with pytest.raises(OutputError, match="disk is full"):
                opened.editing.correct([act], ANN, "other")
        np.testing.assert_array_equal(shown(opened), expected)
        if full == "pages":
            opened._database.query("PRAGMA max_page_count = 1000000")
        monkeypatch.undo()
        assert opened.journal.last == 2
        assert opened.editing.correct([act], ANN, "other").entry.seq == 3
        assert not list(opened.journal.verify())
    assert verify_case(case).ok


def test_a_run_that_cannot_be_journalled_leaves_the_journal_going_on(case, monkeypatch):
    with open_case(case) as opened:
        run = opened.start_run(run_record())
        run.write(block(0, 0, [[1]]))
        commit, fails = CaseDatabase._commit, iter([True])
        monkeypatch.setattr(
            CaseDatabase,
            "_commit",
            lambda database: (failing_commit if next(fails, False) else commit)(database),
        )
        with pytest.raises(OutputError, match="full"):
            run.finish(1.0)
        assert opened.runs == ()
        paint(opened, 0, 0, 3, 3, 1)
        assert [entry.seq for entry in opened.journal.entries()] == [1, 2]
        assert not list(opened.journal.verify())


def test_two_threads_may_write_the_journal(case):
    import threading

    with open_case(case) as opened:
        boxes = [Selection.of_box(PixelBox(n, n, n + 9, n + 9), SHAPE) for n in range(20)]

        def review():
            for box in boxes:
                opened.review.add([box], "drawn", ANN)

        def runs():
            for hour in range(5):
                with opened.start_run(run_record(started=f"2026-11-23T{hour}0:00:00")) as run:
                    run.write(block(0, 0, [[1]]))
                    run.finish(1.0)

        threads = [threading.Thread(target=work) for work in (review, runs, review)]
        for thread in threads:
            thread.start()
        for n in range(20):
            paint(opened, 10 * n, 5, 3, 3, 1 + n % 4)
        for thread in threads:
            thread.join()
        assert opened.journal.last == 1 + 20 + 40 + 5
        assert not list(opened.journal.verify())
        assert not opened.review.differs_from_journal()
    assert verify_case(case).ok


def test_several_patches_in_one_chunk_are_one_act(case):
    with open_case(case) as opened:
        paint(opened, 0, 0, 50, 50, 4)
        before = shown(opened)
        patches = [
            Patch(y, x, np.full((6, 7), value, np.uint8), np.ones((6, 7), bool))
            for y, x, value in ((3, 3, 1), (40, 20, 2), (20, 47, 0))
        ]
        expected = before.copy()
        for patch in patches:
            expected[patch.y : patch.y + 6, patch.x : patch.x + 7] = patch.values
        opened.editing.correct(patches, ANN, "other")
        np.testing.assert_array_equal(shown(opened), expected)
        np.testing.assert_array_equal(shown_at(opened), expected)
        opened.editing.undo(ANN)
        np.testing.assert_array_equal(shown(opened), before)


def shown_at(opened):
    return opened.at(opened.journal.last).read(0, 0, *SHAPE)


def test_a_folder_that_cannot_be_written_is_told_and_can_be_looked_at(made, monkeypatch):
    case, expected = made

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.open", denied)
    with pytest.raises(OutputError, match="not permitted"):
        Case.open(case, read_only=False)
    with Case.open(case) as opened:
        np.testing.assert_array_equal(shown(opened), expected)


def test_a_file_system_that_turns_read_only_keeps_what_is_there(made, monkeypatch):
    case, expected = made

    def frozen(*_, **__):
        raise sqlite3.OperationalError("attempt to write a readonly database")

    with Case.open(case, read_only=False) as opened:
        monkeypatch.setattr(CaseDatabase, "_commit", frozen)
        with pytest.raises(OutputError, match="not permitted"):
            paint(opened, 0, 600, 9, 9, 1)
        monkeypatch.undo()
        np.testing.assert_array_equal(shown(opened), expected)


def test_a_network_share_is_refused_for_writing(made, monkeypatch):
    case, expected = made
    monkeypatch.setattr("napari_hspnet.cases.places.network_filesystem", lambda _: "cifs")
    for opening in (lambda: open_case(case), lambda: Case.open(case, read_only=False)):
        with pytest.raises(CaseError, match=r"network share \(cifs\)"):
            opening()
    with pytest.raises(CaseError, match="network share"):
        verify_case(case, repair=True)
    with Case.open(case) as opened:
        np.testing.assert_array_equal(shown(opened), expected)


HOLDER = """
    import sys
    sys.path.insert(0, sys.argv[2])
    from pathlib import Path
    from damage_tools import open_case, paint
    case = open_case(Path(sys.argv[1]))
    paint(case, 0, 0, 20, 20, 3)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_holder_frees_the_case_and_till_then_is_named(case):
    here = str(Path(__file__).parent)
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(case), here],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(CaseInUseError, match=f"process {holder.pid}"):
            open_case(case)
        with open_case(case, read_only=True) as looker:
            assert (shown(looker)[:20, :20] == 3).all()
        assert verify_case(case).ok
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with open_case(case) as opened:
        assert (shown(opened)[:20, :20] == 3).all()
        opened.editing.undo(ANN)


def test_another_slide_is_refused_until_the_case_is_attached_to_it(made):
    case, expected = made
    moved = slide_info(*SHAPE, fingerprint="cd" * 32, name="moved.svs")
    grid = LabelGrid.of(moved)
    with pytest.raises(CaseMismatchError, match=r"biopsy.svs \(abab.*moved.svs \(cdcd"):
        Case.open_or_create(case, moved, grid)
    with Case.open(case, read_only=False) as opened:
        opened.attach(moved, ANN)
        assert opened.slide == (moved.fingerprint, "moved.svs")
        entry = opened.journal.entry(opened.journal.last)
        assert (entry.kind, entry.reader) == ("slide", ANN)
        assert entry.body["from"] == {"fingerprint": "ab" * 32, "name": "biopsy.svs"}
        to = {"fingerprint": "cd" * 32, "name": "moved.svs", "bounds": None}
        assert entry.body["to"] == to
    with Case.open_or_create(case, moved, grid) as opened:
        np.testing.assert_array_equal(shown(opened), expected)
    with pytest.raises(CaseMismatchError, match=r"moved.svs .*biopsy.svs"):
        open_case(case)
    assert verify_case(case).ok


@pytest.mark.parametrize("other", [{"height": 1299}, {"mpp": 0.5}])
def test_a_case_is_not_attached_to_another_picture(made, other):
    case, _ = made
    size = {"height": SHAPE[0], "width": SHAPE[1], **other}
    with Case.open(case, read_only=False) as opened:
        last = opened.journal.last
        with pytest.raises(CaseMismatchError, match="same picture"):
            opened.attach(slide_info(**size, fingerprint="cd" * 32), ANN)
        assert opened.journal.last == last
        assert opened.slide[0] == "ab" * 32
    with Case.open(case) as looker, pytest.raises(CaseError, match="read-only"):
        looker.attach(slide_info(*SHAPE), ANN)


def test_runs_without_their_database_are_not_taken_for_a_new_case(made):
    case, _ = made
    shutil.rmtree(case / "correction.zarr")
    (case / "case.sqlite").unlink()
    runs = sorted((case / "runs").iterdir())
    for _ in range(2):
        with pytest.raises(CaseError, match=r"case.sqlite is gone.*case rescue"):
            open_case(case)
        (case / "case.sqlite").touch()
    assert sorted((case / "runs").iterdir()) == runs


def test_a_reader_with_a_name_from_another_encoding(case):
    with open_case(case) as opened:
        paint(opened, 0, 0, 3, 3, 1, reader="Dr. M\udcfcller")
        assert opened.journal.entry(2).reader == "Dr. M?ller"
        assert not list(opened.journal.verify())


def test_the_default_folder_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = default_case_folder(slide_info())
    if sys.platform.startswith("linux"):
        assert folder.is_relative_to(tmp_path)
    assert folder.suffix == ".hspnet"
    assert folder.parent.name == "cases"
    assert not folder.parent.exists()
    open_case(folder).close()
    assert verify_case(folder).ok
