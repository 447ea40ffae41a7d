"""Runs that were broken off: what is gone on with, what goes, and what comes of it."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
from case_tools import random_classes, run_record, slide_info

from napari_hspnet.cases import Case, RunLayout, RunProgress, RunRecord, unfinished, writer
from napari_hspnet.cases.store import MAPS, RunStore
from napari_hspnet.cases.unfinished import PROGRESS, read_progress, write_progress
from napari_hspnet.slides import LabelBlock, LabelGrid

SHAPE = (1300, 2157)
LATER = "2026-11-24T08:00:00+00:00"
WAYS = {
    "whole slide": RunLayout(((0, 1024), (1024, 2157)), 0, 1300, 77),
    "off the chunks": RunLayout(((130, 1170), (1170, 2001)), 211, 1211, 77),
}


@pytest.fixture(autouse=True)
def note_at_once(monkeypatch):
    monkeypatch.setattr(unfinished, "NOTE_EVERY", 0.0)


@pytest.fixture(scope="module")
def values():
    rng = np.random.default_rng(5)
    classes = random_classes(rng, SHAPE)
    # Chunks of one value, also those that are not stored, are part of it.
    classes[512:1024, 512:1024] = 255
    classes[1024:1200, :700] = 253
    classes[1100:1250, 1200:] = 255
    score, high = rng.integers(0, 256, (2, *SHAPE)).astype(np.uint8)
    for other in (score, high):
        other[classes == 255] = 0
    score[1024:, :1024] = 0
    return classes, score, high


def opened(folder, keep=True):
    info = slide_info(*SHAPE)
    return Case.open_or_create(folder, info, LabelGrid.of(info), keep_unfinished=keep)


def steps(layout, start=None):
    """What the engine does with a sink: a function for each block, and for each row reached."""
    rows = start or [layout.y0] * len(layout.bands)
    for (x0, x1), y in zip(layout.bands, rows, strict=True):
        while y < layout.y1:
            for stop in range(y + 100, min(layout.y1, y - y % 512 + 512) + 100, 100):
                end = min(stop, layout.y1, y - y % 512 + 512)
                top = max(y, stop - 100)
                for left in range(x0 - x0 % 512, x1, 512):
                    yield "write", (top, end, max(left, x0), min(left + 512, x1))
            y = min(layout.y1, y - y % 512 + 512)
            yield "reached", (x0, y)


def work(run, values, todo):
    for what, where in todo:
        if what == "reached":
            run.reached(*where)
            continue
        y0, y1, x0, x1 = where
        parts = [v[y0:y1, x0:x1] for v in values]
        if (parts[0] != 255).any():
            run.write(LabelBlock(y0, x0, *parts))


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def whole(values, tmp_path_factory):
    """For each way the run that was never broken off, and the files of its maps."""
    found = {}
    for name, layout in WAYS.items():
        with opened(tmp_path_factory.mktemp("whole") / "a.hspnet") as case:
            run = case.start_run(run_record(), layout)
            work(run, values, steps(layout))
            info = run.finish(1.0)
            found[name] = info, files(case.folder / "runs" / info.id)
    return found


def broken_off(folder, values, layout, count, start=None):
    """A copy of the case as a kill after so many steps leaves it."""
    with opened(folder) as case:
        run = case.take_up(run_record(started=LATER), layout)
        if run is None:
            run = case.start_run(run_record(), layout)
        todo = list(steps(layout, run.progress.rows))
        work(run, values, todo[: int(count * len(todo))])
        noted = run.progress
        copy = folder.with_name(f"{folder.stem}-{random.randrange(1 << 30)}.hspnet")
        shutil.copytree(folder, copy)
        # What the operating system was about to write, and half of a chunk.
        torn = copy / "runs" / run.info.id / "class" / "0" / "c" / "0"
        torn.mkdir(parents=True, exist_ok=True)
        (torn / ".7.part").write_bytes(b"half")
    return copy, noted


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("room", [1 << 30, 3_000_000])
def test_gone_on_with_it_is_the_run_that_was_never_broken_off(
    name, room, values, whole, tmp_path, monkeypatch
):
    monkeypatch.setattr(writer, "OPEN_BYTES", room)
    layout, draw = WAYS[name], random.Random(7)
    expected, its_files = whole[name]
    for number in range(3):
        folder = tmp_path / f"{number}.hspnet"
        for _ in range(draw.randint(1, 3)):
            folder, _ = broken_off(folder, values, layout, draw.random())
        with opened(folder) as case:
            run = case.take_up(run_record(started=LATER), layout)
            assert run.info.record.started == run_record().started
            assert read_progress(folder / "runs" / run.info.id) == run.progress
            work(run, values, steps(layout, run.progress.rows))
            info = run.finish(2.0)
            assert info.pixels == expected.pixels
            assert case.active == (info.id,)
            assert [r.state for r in case.runs] == ["finished"]
            found = files(case.folder / "runs" / info.id)
        # Its maps, levels and metadata are the same to the byte.
        assert found == its_files


def test_what_is_noted_is_on_the_disk(values, tmp_path):
    layout = WAYS["off the chunks"]
    with opened(tmp_path / "a.hspnet") as case:
        run = case.start_run(run_record(), layout)
        store = RunStore(case.folder / "runs" / run.info.id, case.grid)
        for step in steps(layout):
            work(run, values, [step])
            if step[0] == "write":
                continue
            noted = read_progress(store.folder)
            for (x0, x1), y in zip(layout.bands, noted.rows, strict=True):
                for top in range(0, y if y > layout.y0 else 0, 512):
                    for left in range(x0 - x0 % 512, x1, 512):
                        box = np.s_[
                            max(top, layout.y0) : min(top + 512, layout.y1),
                            max(left, x0) : min(left + 512, x1),
                        ]
                        for map_, all_ in zip(MAPS, values, strict=True):
                            chunk = store.read((map_, 0, top // 512, left // 512))
                            if chunk is None:
                                assert (all_[box] == (255 if map_ == "class" else 0)).all()
                                continue
                            whole_ = np.zeros(SHAPE, np.uint8)
                            whole_[top : top + 512, left : left + 512] = chunk
                            np.testing.assert_array_equal(whole_[box], all_[box])
        assert noted.part == 1.0


def test_opened_for_anything_else_it_goes(values, tmp_path):
    layout = WAYS["whole slide"]
    folder, noted = broken_off(tmp_path / "a.hspnet", values, layout, 0.6)
    assert 0 < noted.part < 1
    with Case.open(folder) as looker:
        assert [run.state for run in looker.runs] == ["writing"]
        assert looker.active == ()
        assert (looker.composite().read(0, 0, *SHAPE) == 255).all()
    with opened(folder, keep=False) as case:
        assert case.runs == ()
        assert list((folder / "runs").iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [
        {"model_sha256": "34" * 32},
        {"settings": {"stride": 50}},
        {"backend": "folded"},
        {"device": "cuda"},
        {"slide_fingerprint": "cd" * 32},
    ],
)
def test_another_request_does_not_go_on_with_it(other, values, tmp_path):
    layout = WAYS["whole slide"]
    folder, _ = broken_off(tmp_path / "a.hspnet", values, layout, 0.6)
    asked = RunRecord(**{**json.loads(run_record().to_json()), **other})
    with opened(folder) as case:
        assert case.take_up(asked, layout) is None
        assert case.runs == ()
        assert list((folder / "runs").iterdir()) == []


def test_another_way_over_the_slide_does_not_go_on_with_it(values, tmp_path):
    folder, _ = broken_off(tmp_path / "a.hspnet", values, WAYS["whole slide"], 0.6)
    with opened(folder) as case:
        assert case.take_up(run_record(), WAYS["off the chunks"]) is None


def test_a_run_that_is_being_written_is_not_taken_up(values, tmp_path):
    layout = WAYS["whole slide"]
    with opened(tmp_path / "a.hspnet") as case:
        run = case.start_run(run_record(), layout)
        assert case.take_up(run_record(), layout) is None
        work(run, values, steps(layout))
        info = run.finish(1.0)
        assert case.runs == (info,)


def test_where_what_is_left_is_damaged_it_begins_anew(values, tmp_path):
    layout = WAYS["whole slide"]
    folder, noted = broken_off(tmp_path / "a.hspnet", values, layout, 0.6)
    assert noted.rows[0] >= 512
    (chunk,) = folder.glob("runs/*/class/0/c/0/1")
    chunk.write_bytes(b"rubbish")
    with opened(folder) as case:
        assert case.take_up(run_record(), layout) is None
        assert case.runs == ()


@pytest.mark.parametrize(
    "text",
    ["", "[", "{}", "[1]", '{"format": 9}', '{"format": 1, "layout": 3, "rows": [], "seconds": 0}'],
)
def test_a_note_that_cannot_be_read_is_none(tmp_path, text):
    (tmp_path / PROGRESS).write_text(text)
    assert read_progress(tmp_path) is None


@pytest.mark.parametrize("rows", [(512,), (512, 100), (512, 5000)])
def test_a_note_that_cannot_be_true_is_none(tmp_path, rows):
    layout = WAYS["whole slide"]
    write_progress(tmp_path, RunProgress(layout, (512, 0)))
    assert read_progress(tmp_path) == RunProgress(layout, (512, 0))
    write_progress(tmp_path, RunProgress(layout, rows))
    assert read_progress(tmp_path) is None


def test_a_record_of_an_older_version_ran_eagerly():
    said = json.loads(run_record().to_json())
    del said["backend"], said["notes"]
    assert RunRecord.from_json(json.dumps(said)) == run_record()
    del said["device"]
    with pytest.raises((KeyError, TypeError)):
        RunRecord.from_json(json.dumps(said))


def test_the_record_says_in_the_end_what_ran(tmp_path):
    from dataclasses import replace

    with opened(tmp_path / "a.hspnet") as case:
        run = case.start_run(run_record())
        run.write(LabelBlock(0, 0, *np.full((3, 5, 5), 2, np.uint8)))
        known = replace(run_record(), backend="folded", notes=("openvino failed",))
        info = run.finish(1.0, known)
        assert info.record == known
        attributes = json.loads((case.folder / "runs" / info.id / "zarr.json").read_text())
        assert attributes["attributes"]["hspnet"] == json.loads(known.to_json())
