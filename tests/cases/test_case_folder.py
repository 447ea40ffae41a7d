"""The case folder: opening, locking, refusing, recovering."""

import os
import sqlite3
import subprocess
import sys
import textwrap
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from case_tools import block, run_record, slide_info

from napari_hspnet.cases import Case, default_case_folder
from napari_hspnet.cases.places import network_filesystem
from napari_hspnet.errors import (
    CaseError,
    CaseInUseError,
    CaseMismatchError,
    OutputError,
)
from napari_hspnet.slides import LabelGrid


@pytest.fixture
def info():
    return slide_info()


@pytest.fixture
def grid(info):
    return LabelGrid.of(info)


def finished_run(case, value=3, **kw):
    with case.start_run(run_record(**kw)) as writer:
        writer.write(block(5, 7, np.full((50, 60), value)))
        return writer.finish(1.5)


def test_run_survives_closing(tmp_path, info, grid):
    folder = tmp_path / "a.hspnet"
    with Case.open_or_create(folder, info, grid) as case:
        run = finished_run(case)
    with Case.open_or_create(folder, info, grid) as case:
        assert case.runs == (run,)
        assert case.active == (run.id,)
        assert run.record == run_record()
        assert (run.state, run.seconds) == ("finished", 1.5)
        assert run.pixels == {3: 3000}
        assert run.areas == pytest.approx({3: 3000e-6})
        assert case.composite().read(5, 7, 50, 60).min() == 3


def test_second_writer_is_told_who_holds_it_and_reader_gets_in(tmp_path, info, grid):
    folder = tmp_path / "a.hspnet"
    with Case.open_or_create(folder, info, grid) as case:
        run = finished_run(case)
        with pytest.raises(CaseInUseError, match=str(os.getpid())):
            Case.open_or_create(folder, info, grid)
        with Case.open_or_create(folder, info, grid, read_only=True) as looker:
            assert looker.runs == (run,)
            assert looker.composite().read(5, 7, 1, 1) == 3
            with pytest.raises(CaseError, match="read-only"):
                looker.start_run(run_record())
            with pytest.raises(CaseError, match="read-only"):
                looker.set_active([])
    Case.open_or_create(folder, info, grid).close()


def test_crash_releases_the_lock_and_its_unfinished_run_goes(tmp_path, info, grid):
    folder = tmp_path / "a.hspnet"
    script = textwrap.dedent(
        f"""
        import os, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        import numpy as np
        from case_tools import block, run_record, slide_info
        from napari_hspnet.cases import Case
        from napari_hspnet.slides import LabelGrid
        info = slide_info()
        case = Case.open_or_create(Path({str(folder)!r}), info, LabelGrid.of(info))
        with case.start_run(run_record(model="good")) as writer:
            writer.write(block(0, 0, np.full((600, 600), 2)))
            writer.finish(1.0)
        writer = case.start_run(run_record(model="lost", started="2026-11-23T12:00:00+00:00"))
        writer.write(block(0, 0, np.full((600, 600), 4)))
        os._exit(9)
        """
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert len(list((folder / "runs").iterdir())) == 2
    with Case.open_or_create(folder, info, grid, read_only=True) as looker:
        assert [run.state for run in looker.runs] == ["finished", "writing"]
        assert looker.composite().read(0, 0, 1, 1) == 2
    with Case.open_or_create(folder, info, grid) as case:
        assert [run.record.model_name for run in case.runs] == ["good"]
        assert [p.name for p in (folder / "runs").iterdir()] == [case.runs[0].id]
        assert case.composite().read(0, 0, 1, 1) == 2


def test_folder_of_a_run_that_the_database_does_not_know_goes(tmp_path, info, grid):
    folder = tmp_path / "a.hspnet"
    with Case.open_or_create(folder, info, grid) as case:
        run = finished_run(case)
    (folder / "runs" / "20260101-orphan" / "class").mkdir(parents=True)
    with Case.open_or_create(folder, info, grid):
        assert [p.name for p in (folder / "runs").iterdir()] == [run.id]


def test_other_slide_is_refused_with_both_shown(tmp_path, info, grid):
    folder = tmp_path / "a.hspnet"
    Case.open_or_create(folder, info, grid).close()
    other = slide_info(fingerprint="cd" * 32, name="other.svs")
    for read_only in (False, True):
        with pytest.raises(CaseMismatchError) as caught:
            Case.open_or_create(folder, other, grid, read_only=read_only)
        for shown in ("biopsy.svs", "abababababab", "other.svs", "cdcdcdcdcdcd"):
            assert shown in str(caught.value)
    Case.open_or_create(folder, info, grid).close()


def test_other_resolution_is_refused_with_both_shown(tmp_path, info, grid):
    folder = tmp_path / "a.hspnet"
    Case.open_or_create(folder, info, grid).close()
    other = slide_info(mpp=0.5)
    with pytest.raises(CaseMismatchError, match=r"1 x 1 .* 0\.5 x 0\.5"):
        Case.open_or_create(folder, other, LabelGrid.of(other))


def test_newer_format_is_refused(tmp_path, info, grid):
    folder = tmp_path / "a.hspnet"
    Case.open_or_create(folder, info, grid).close()
    db = sqlite3.connect(folder / "case.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    for read_only in (False, True):
        with pytest.raises(CaseError, match=r"format 99.*Update"):
            Case.open_or_create(folder, info, grid, read_only=read_only)


def test_someone_elses_database_is_refused(tmp_path, info, grid):
    folder = tmp_path / "a.hspnet"
    folder.mkdir()
    db = sqlite3.connect(folder / "case.sqlite")
    db.execute("PRAGMA application_id = 1")
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(CaseError, match="no case of ours"):
        Case.open_or_create(folder, info, grid)


@pytest.mark.parametrize("keep", [0, 100, 3000])
def test_damaged_database_is_refused(tmp_path, info, grid, keep):
    folder = tmp_path / "a.hspnet"
    with Case.open_or_create(folder, info, grid) as case:
        for hour in range(3):
            finished_run(case, started=f"2026-11-23T1{hour}:00:00+00:00")
    path = folder / "case.sqlite"
    good = path.read_bytes()
    path.write_bytes(good[:keep] + b"rubbish!" * ((len(good) - keep) // 8))
    with pytest.raises(CaseError, match=r"damaged|no case of ours|cannot be used"):
        Case.open_or_create(folder, info, grid)


def test_damaged_chunk_is_named(tmp_path, info, grid):
    folder = tmp_path / "a.hspnet"
    with Case.open_or_create(folder, info, grid) as case:
        run = finished_run(case)
        chunk = folder / "runs" / run.id / "class" / "0" / "c" / "0" / "0"
        chunk.write_bytes(chunk.read_bytes()[:-6] + b"abcdef")
        with pytest.raises(CaseError, match="damaged"):
            case.composite().read(0, 0, 100, 100)


def test_folder_with_other_files_and_file_are_refused(tmp_path, info, grid):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(CaseError, match="other files"):
        Case.open_or_create(tmp_path, info, grid)
    with pytest.raises(CaseError, match="a file"):
        Case.open_or_create(tmp_path / "letter.txt", info, grid)
    with pytest.raises(CaseError, match="no case"):
        Case.open_or_create(tmp_path, info, grid, read_only=True)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_folder_that_cannot_be_written(tmp_path, info, grid, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match="not permitted"):
        Case.open_or_create(tmp_path / "a.hspnet", info, grid)


def test_network_share_is_refused_with_a_local_case_offered(tmp_path, info, grid, monkeypatch):
    import psutil

    mount = namedtuple("mount", "device mountpoint fstype opts")
    share = tmp_path / "share"
    share.mkdir()
    mounts = [
        mount("/dev/x", tmp_path.anchor, "ext4", "rw"),
        mount("server:/slides", str(share), "nfs4", "rw"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    assert network_filesystem(tmp_path) is None
    with pytest.raises(CaseError, match="nfs4") as caught:
        Case.open_or_create(share / "deep" / "a.hspnet", info, grid)
    assert str(default_case_folder(info)) in str(caught.value)
    assert not list(share.iterdir())


def test_default_folder_tells_slides_of_one_name_apart():
    one = default_case_folder(slide_info(name="B 12/α?.svs"))
    two = default_case_folder(slide_info(name="B 12/α?.svs", fingerprint="cd" * 32))
    assert one != two
    assert one.parent == two.parent
    assert one.name.endswith("-abababab.hspnet")
    assert "?" not in one.name


def test_choosing_the_active_runs(tmp_path, info, grid):
    with Case.open_or_create(tmp_path / "a.hspnet", info, grid) as case:
        one = finished_run(case, value=1, started="2026-11-23T10:00:00+00:00")
        two = finished_run(case, value=2, started="2026-11-23T11:00:00+00:00")
        assert case.active == (one.id, two.id)
        assert case.composite().read(5, 7, 1, 1) == 2
        assert case.composite(only=[one.id]).read(5, 7, 1, 1) == 1
        case.set_active([two.id, one.id])
        assert case.composite().read(5, 7, 1, 1) == 1
        case.set_active([])
        assert case.composite().read(5, 7, 1, 1) == 255
        with pytest.raises(CaseError, match="no finished run"):
            case.set_active(["nonsense"])
        three = finished_run(case, value=4, started="2026-11-23T12:00:00+00:00")
        assert case.active == (three.id,)
