"""Verifying a case: whole ones are said to be whole, and damage is named."""

import random
import shutil
import sqlite3
import threading
from contextlib import suppress

import pytest
from damage_tools import (
    SHAPE,
    change,
    chunk_file,
    copied,
    files,
    flip,
    make_case,
    open_case,
    overwrite,
    paint,
    shown,
)

from napari_hspnet.cases import Case
from napari_hspnet.cases.verify import Verification, verify_case
from napari_hspnet.errors import CancelledError, CaseError, CaseInUseError, HspnetError


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good") / "a.hspnet"
    make_case(folder)
    return folder


@pytest.fixture
def case(good, tmp_path):
    return copied(good, tmp_path / "a.hspnet")


def texts(verification):
    assert isinstance(verification, Verification)
    for seq, what, where in verification.damages:
        assert isinstance(seq, int)
        assert what
        assert where
    return [f"{seq}: {what} [{where}]" for seq, what, where in verification.damages]


def find(folder, table, **where):
    """Where the longest value of a row lies in the file."""
    db = sqlite3.connect(folder / "case.sqlite")
    condition = " AND ".join(f"{name} = ?" for name in where)
    column = "body" if table == "entry" else "after"
    value = db.execute(
        f"SELECT {column} FROM {table} WHERE {condition} ORDER BY length({column}) DESC",
        tuple(where.values()),
    ).fetchone()[0]
    db.close()
    raw = value.encode() if isinstance(value, str) else value
    content = (folder / "case.sqlite").read_bytes()
    assert content.count(raw[:60]) == 1
    return content.index(raw[:60])


def test_an_undamaged_case_is_whole_and_verifying_changes_nothing(case):
    before = files(case)
    told = []
    found = verify_case(case, progress=told.append)
    assert found.ok
    assert found.damages == ()
    assert (found.entries, found.repaired) == (24, 0)
    assert found.chunks > 50
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert files(case) == before
    assert verify_case(case, repair=True).ok
    assert verify_case(case).ok


def test_an_empty_case_is_whole(tmp_path):
    open_case(tmp_path / "a.hspnet").close()
    assert verify_case(tmp_path / "a.hspnet").ok
    with pytest.raises(CaseError, match="no case"):
        verify_case(tmp_path)


def test_a_case_that_is_being_worked_on_is_whole(case):
    with open_case(case) as opened:
        for n in range(5):
            paint(opened, 100 * n, 100, 90, 700, 1 + n % 3)
            assert verify_case(case).damages == ()
        with pytest.raises(CaseInUseError):
            verify_case(case, repair=True)


def test_verifying_can_be_cancelled(case):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        verify_case(case, cancel=cancel)


def test_a_changed_entry_is_named(case):
    at = find(case, "entry", seq=7)
    content = (case / "case.sqlite").read_bytes()
    overwrite(case / "case.sqlite", content.index(b"brush", at), b"blush")
    found = verify_case(case)
    assert texts(found) == ["7: is not as it was entered [case.sqlite]"]
    assert found.rescue
    # What is not known is not written.
    before = files(case)
    assert not verify_case(case, repair=True).ok
    assert {n: c for n, c in files(case).items() if n != "case.lock"} == {
        n: c for n, c in before.items() if n != "case.lock"
    }


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE entry SET body = '{\"of' WHERE seq = 9", "9: its text is damaged"),
        ("UPDATE entry SET body = '[]' WHERE seq = 9", "9: its text is damaged"),
        ("UPDATE entry SET reader = 'Dr. Eve' WHERE seq = 9", "9: is not as it was entered"),
        ("UPDATE entry SET time = '2020-01-01' WHERE seq = 9", "9: is dated before"),
        ("UPDATE entry SET hash = 'x' WHERE seq = 9", "10: does not follow"),
        ("DELETE FROM entry WHERE seq = 9", "9: is missing"),
        ("DELETE FROM entry WHERE seq IN (9, 10, 11)", "9: is missing, like all up to entry 11"),
        ("DELETE FROM entry WHERE seq > 22", "23: is missing"),
        ("UPDATE entry SET seq = 4611686018427387904 WHERE seq = 24", "0: the journal's end"),
        ("DELETE FROM tile WHERE entry = 9", "9: its tiles are not those"),
        ("UPDATE tile SET y = y + 1 WHERE entry = 9", "9: its tiles are not those"),
        ("UPDATE tile SET height = 99999 WHERE entry = 9", "9: its tiles are not those"),
        ("UPDATE tile SET row = 1 << 40 WHERE entry = 9", "9: its tiles are not those"),
        ("UPDATE tile SET entry = 9999 WHERE entry = 9", "0: there are tiles of 1 entries that"),
        ("UPDATE region SET state = 'reviewed' WHERE id = 2", "0: the review regions are not"),
        ("UPDATE run SET position = 9 - position", "0: the active runs are not"),
        ("UPDATE run SET record = '{}'", "0: The case is damaged"),
        ("UPDATE run SET pixels = '[1]'", "0: The case is damaged"),
        ("UPDATE run SET pixels = '{\"3\": 5}'", "0: its class map is not the one"),
        ("UPDATE slide SET grid_height = 3", "cannot be told from the journal"),
        ("DELETE FROM slide", "0: cannot be opened"),
        ("DROP TABLE tile", "cannot be used"),
        ("DROP TABLE entry", "the journal's end cannot be found"),
        ("DROP TABLE region", "cannot be used"),
        ("DELETE FROM seen", "is not known"),
        ("PRAGMA user_version = 1", "the format number is not"),
        ("PRAGMA user_version = 0", "the format number is not"),
    ],
)
def test_damage_is_named(case, sql, said):
    db = sqlite3.connect(case / "case.sqlite")
    with db:
        db.execute(sql)
    db.close()
    found = texts(verify_case(case))
    assert any(said in text for text in found), found


def test_a_damaged_tile_is_named_and_what_else_is_damaged_is_repaired(case):
    at = find(case, "tile", entry=20)
    flip(case / "case.sqlite", at + 40)
    found = verify_case(case)
    assert texts(found)[0] == "20: its tiles are not those that were entered [case.sqlite]"
    assert any("cannot be told from the journal" in text for text in texts(found))
    chunk_file(case, 0, 0).write_bytes(b"rubbish")
    kept = chunk_file(case, 1, 0).read_bytes()
    mended = verify_case(case, repair=True)
    assert mended.repaired == 1
    assert "class/0/c/0/0" in mended.mended[0].where
    assert texts(mended) == texts(found)
    # Its own chunk holds what the journal has lost.
    assert chunk_file(case, 1, 0).read_bytes() == kept


def test_wrong_chunks_are_named_with_who_wrote_them_and_repaired(case, good, tmp_path):
    other = copied(good, tmp_path / "other")
    with open_case(other) as changed:
        paint(changed, 600, 700, 30, 40, 4)
        paint(changed, 610, 710, 30, 40, 255)
    for level in (0, 1):
        place = (1, 1) if level == 0 else (0, 0)
        content = chunk_file(other, *place, level).read_bytes()
        assert content != chunk_file(case, *place, level).read_bytes()
        chunk_file(case, *place, level).write_bytes(content)
    chunk_file(case, 2, 1).unlink()
    chunk_file(case, 0, 1).write_bytes(b"")
    chunk_file(case, 1, 0, level=1).parent.mkdir(exist_ok=True)
    found = verify_case(case)
    where = [finding.where for finding in found.damages]
    assert where == [
        f"correction.zarr/class/{p}" for p in ("0/c/0/1", "0/c/1/1", "0/c/2/1", "1/c/0/0")
    ]
    assert "pixels are not what the journal gives; written last by entries" in found.damages[1].what
    assert not found.rescue
    wrong = chunk_file(case, 1, 1).read_bytes()
    mended = verify_case(case, repair=True)
    assert (mended.ok, mended.repaired) == (True, 4)
    (kept,) = case.glob("correction.zarr.kept-*")
    assert (kept / "class" / "0" / "c" / "1" / "1").read_bytes() == wrong
    assert_same_pixels(case, good)


def assert_same_pixels(case, good):
    with Case.open(case) as one, Case.open(good) as two:
        assert (shown(one) == shown(two)).all()
        for level in range(2):
            a, b = (c.composite().levels[level] for c in (one, two))
            assert (a[:] == b[:]).all()


def test_tables_that_follow_from_the_journal_are_repaired(case, good):
    change(case, "DELETE FROM region WHERE id = 1")
    change(case, "UPDATE region SET comments = '[' WHERE id = 2")
    with Case.open(case) as opened, pytest.raises(CaseError, match="region 2 is damaged"):
        assert opened.review.regions
    change(case, "UPDATE run SET position = NULL")
    change(case, "DELETE FROM seen")
    db = sqlite3.connect(case / "case.sqlite")
    db.execute("PRAGMA user_version = 1")
    db.close()
    for read_only in (True, False):
        with pytest.raises(CaseError, match="format number 1 is wrong"):
            Case.open(case, read_only=read_only)
    mended = verify_case(case, repair=True)
    assert (mended.ok, mended.repaired) == (True, 4)
    with Case.open(case) as one, Case.open(good) as two:
        assert one.review.regions == two.review.regions
        assert one.active == two.active


@pytest.mark.parametrize("index", ["tile_place", "sqlite_autoindex_tile_1"])
@pytest.mark.parametrize("how", ["a row less", "rubbish"])
def test_damaged_indexes_are_made_anew_from_a_whole_journal(case, good, index, how):
    db = sqlite3.connect(case / "case.sqlite")
    page, size = db.execute(
        "SELECT rootpage, (SELECT page_size FROM pragma_page_size) FROM sqlite_master "
        "WHERE name = ?",
        (index,),
    ).fetchone()
    db.close()
    content = bytearray((case / "case.sqlite").read_bytes())
    at = (page - 1) * size
    assert content[at] == 10
    if how == "rubbish":
        content[at : at + size] = b"rubbish!" * (size // 8)
    else:
        count = int.from_bytes(content[at + 3 : at + 5], "big")
        content[at + 3 : at + 5] = (count - 1).to_bytes(2, "big")
    (case / "case.sqlite").write_bytes(content)
    assert not verify_case(case).ok
    mended = verify_case(case, repair=True)
    assert mended.ok, mended.damages
    assert mended.repaired
    (kept,) = case.glob("case.sqlite.damaged-*")
    assert kept.read_bytes() == content
    with Case.open(case) as one, Case.open(good) as two:
        assert list(one.journal.entries()) == list(two.journal.entries())
    assert_same_pixels(case, good)


def test_damaged_definitions_of_tables_are_made_anew(case, good):
    content = (case / "case.sqlite").read_bytes()
    at = content.index(b"CHECK (state IN")
    overwrite(case / "case.sqlite", at, b"CHECK (stqte IN")
    assert not verify_case(case).ok
    mended = verify_case(case, repair=True)
    assert mended.ok, mended.damages
    assert_same_pixels(case, good)


def test_a_correction_folder_that_went_away_is_told_and_made_anew(case, good):
    shutil.rmtree(case / "correction.zarr")
    assert "is gone" in texts(verify_case(case))[0]
    assert verify_case(case, repair=True).ok
    assert_same_pixels(case, good)


def test_damaged_metadata_of_the_corrections_is_repaired(case, good):
    import zarr

    (case / "correction.zarr" / "class" / "1" / "zarr.json").write_text("{")
    (case / "correction.zarr" / "class" / "zarr.json").unlink()
    assert len(verify_case(case).damages) == 2
    assert verify_case(case, repair=True).ok
    for level in (0, 1):
        read = [
            zarr.open_group(f / "correction.zarr", mode="r")["class"][str(level)][:]
            for f in (case, good)
        ]
        assert (read[0] == read[1]).all()


def test_damaged_runs_are_named(case):
    one, two = sorted((case / "runs").iterdir())
    chunk = one / "score" / "0" / "c" / "0" / "0"
    flip(chunk, chunk.stat().st_size // 2)
    (two / "class" / "0" / "c" / "1" / "0").unlink()
    found = verify_case(case, repair=True)
    assert f"runs/{one.name}/score/0/c/0/0" in [f.where for f in found.damages]
    assert any("its class map" in f.what and f.where == f"runs/{two.name}" for f in found.damages)
    shutil.rmtree(one)
    assert any("is gone" in text for text in texts(verify_case(case)))


def test_a_lost_database_and_someone_elses_are_told(case, tmp_path):
    (case / "case.sqlite").write_bytes(b"no database at all" * 99)
    found = verify_case(case)
    assert "cannot be opened" in texts(found)[0]
    assert found.rescue
    (case / "case.sqlite").unlink()
    with pytest.raises(CaseError, match="rescue"):
        verify_case(case)


def blocks(size, seed):
    """Where to damage a file: single bytes, runs of bytes, whole pages."""
    rng = random.Random(seed)
    for _ in range(30):
        yield rng.randrange(size), rng.choice([1, 1, 4, 64])
    for _ in range(10):
        yield rng.randrange(size // 4096) * 4096, 4096
    for at in range(0, 100, 9):
        yield at, 1


def test_whatever_bytes_are_hit_there_is_a_report(good, tmp_path):
    """And opening the case works, or says what is wrong; never anything else."""
    case = copied(good, tmp_path / "a.hspnet")
    database = case / "case.sqlite"
    content = database.read_bytes()
    rng = random.Random(4)
    named = 0
    for at, length in blocks(len(content), 1):
        damaged = bytearray(content)
        damaged[at : at + length] = rng.randbytes(length)
        database.write_bytes(damaged)
        found = verify_case(case)
        named += bool(texts(found))
        if database.read_bytes() != content:
            assert database.read_bytes() == damaged
        with suppress(HspnetError), Case.open(case) as opened:
            opened.composite().read(0, 0, *SHAPE)
            continue
        assert texts(found), (at, length)
    assert named > 20
    for name in ("case.sqlite-wal", "case.sqlite-shm"):
        (case / name).unlink(missing_ok=True)
    database.write_bytes(content)
    assert verify_case(case).ok
