"""The `case` commands: the work on a slide seen and continued without a window."""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_hspnet.cases import Case, Patch
from napari_hspnet.cli import main
from napari_hspnet.slides import open_slide

from cases.case_tools import block, run_record
from cli.case_made import ANN, BEN, SHAPE, Clock, make_case, prediction, refused, write_slide


@pytest.fixture(autouse=True)
def zone(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    import time

    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def folder(tmp_path):
    """Entries 1 and 2; no command needs the slide's file, but `attach`."""
    return make_case(tmp_path)


@pytest.fixture
def call(folder, capsys):
    """Run a command on the case: gives the exit code, stdout and stderr."""

    def run(command, *arguments, case=folder):
        code = main(["case", command, str(case), *map(str, arguments)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def done(call):
    """Run a command that succeeds: gives stdout."""

    def run(*arguments):
        code, out, err = call(*arguments)
        assert code == 0, err
        return out

    return run


@pytest.fixture
def told(done):
    """Run a command that succeeds: gives its JSON."""
    return lambda *arguments: json.loads(done(*arguments, "--json"))


def overlay(folder, what="classes"):
    with Case.open(folder) as case:
        return case.composite().read(0, 0, *SHAPE, what=what)


def act(folder, *values, reader=ANN, tool="brush", clock=None):
    """Corrections of a window's session: a square of each value."""
    with Case.open(folder, read_only=False, clock=clock or Clock(10)) as case:
        for value in values:
            square = np.full((40, 40), value, np.uint8)
            patch = Patch(300, 310, square, np.ones(square.shape, bool))
            case.editing.correct([patch], reader, tool)


# Seen


def test_show_says_what_the_case_holds(told, done, folder):
    done("accept", "--region", "800,100,100,50", "--reader", BEN)
    done("regrade", "--at", "310,210", "--to", "CIN2", "--reader", ANN)
    done("region-add", "--at", "310,210", "--reader", ANN)
    said = told("show")
    assert said["slide"]["name"] == "biopsy.tiff"
    assert (said["slide"]["width"], said["slide"]["height"]) == (1200, 600)
    assert said["slide"]["mpp_x"] == pytest.approx(1.0)
    assert said["grid"] == {"width": 1200, "height": 600, "mpp": 1.0}
    (run,) = said["runs"]
    assert (run["active"], run["topmost"], run["sha256"]) == (True, True, "12" * 32)
    values, counts = np.unique(overlay(folder), return_counts=True)
    expected = {str(v): pytest.approx(n * 1e-6) for v, n in zip(values, counts, strict=True)}
    assert said["areas_mm2"] == expected
    assert said["corrected"] == [{"from": 2, "to": 3, "mm2": pytest.approx(0.0799)}]
    assert said["accepted"] == [{"grade": 3, "mm2": pytest.approx(0.005)}]
    assert said["regions"] == {"to do": 1, "in progress": 0, "reviewed": 0, "signed off": 0}
    assert [(r["name"], r["acts"]) for r in said["readers"]] == [(BEN, 1), (ANN, 2)]
    assert said["last_entry"]["seq"] == said["seq"] == 5
    assert said["notice"] == "Research use only"
    assert said["demo"].startswith("DEMO MODEL")
    text = done("show")
    for words in (
        "biopsy.tiff",
        run["id"],
        "topmost",
        "CIN1 → CIN2",
        "0.080 mm²",
        "1 to do",
        "Dr. Ben, 1 act,",
        "Research use only",
        "DEMO MODEL",
    ):
        assert words in text


def test_show_as_it_was(told, done, folder):
    done("region-add", "--at", "310,210", "--reader", ANN)
    done("region-set", 1, "--state", "signed off", "--reader", BEN)
    done("region-set", 1, "--state", "reviewed", "--reader", BEN)
    done("grade", "--region", "0,0,50,40", "--to", "none", "--reader", ANN)
    then = told("show", "--at", 4)
    assert (then["seq"], then["corrected"]) == (4, [])
    assert then["regions"] == {"to do": 0, "in progress": 0, "reviewed": 0, "signed off": 1}
    assert told("show", "--at", 3)["regions"]["to do"] == 1
    assert told("show", "--until", then["last_entry"]["time"])["seq"] == 4
    now = told("show")
    assert now["corrected"] == [{"from": 253, "to": 0, "mm2": pytest.approx(0.002)}]
    before_the_run = told("show", "--at", 1)
    assert (before_the_run["runs"], before_the_run["readers"]) == ([], [])
    assert before_the_run["areas_mm2"] == {"255": pytest.approx(0.72)}
    assert "Runs:         none" in done("show", "--at", 1)


def test_show_one_entry_in_full(told, done, folder):
    done("regrade", "--at", "310,210", "--to", "CIN3", "--reader", ANN)
    said = told("show", "--entry", 3)
    with Case.open(folder) as case:
        entry = case.journal.entry(3)
    assert said["sha256"] == entry.hash
    assert said["previous_sha256"] == entry.previous
    assert said["body"] == entry.body
    assert said["body"]["tool"] == "regrade"
    assert (said["reader"], said["undone"]) == (ANN, False)
    assert said["box_um"] == {"x": 300, "y": 200, "width": 400, "height": 200}
    text = done("show", "--entry", 3)
    assert entry.hash in text
    assert "CIN1 → CIN3" in text
    done("undo", "--reader", ANN)
    assert "undone" in done("show", "--entry", 3)


def test_log_tells_who_did_what_when_and_where(told, done, folder):
    act(folder, 3, 4, clock=Clock(10))
    done("undo", "--reader", BEN)
    lines = done("log").splitlines()
    assert len(lines) == 5
    assert re.match(r" +1  2026-11-24 11:01:00\+01:00  - +case begun for biopsy\.tiff", lines[0])
    assert "is topmost" in lines[1]
    assert re.match(r" +3  2026-11-24 11:11:00\+01:00  Dr\. Ann  brush CIN1 → CIN2", lines[2])
    assert "1,600 µm² at x 330 y 320 µm" in lines[2]
    assert not lines[2].endswith("[undone]")
    assert lines[3].endswith("[undone]")
    assert "Dr. Ben  undo of 4 (brush)" in lines[4]
    entries = told("log")
    assert [e["seq"] for e in entries] == [1, 2, 3, 4, 5]
    assert [e["undone"] for e in entries] == [False, False, False, True, False]
    assert entries[2]["time"] == "2026-11-24T10:11:00.250+00:00"
    assert entries[2]["what"] in lines[2]


def test_log_of_some(told, folder):
    act(folder, 3, 4, clock=Clock(10))
    act(folder, 1, reader=BEN, clock=Clock(20))

    def numbers(*options):
        return [entry["seq"] for entry in told("log", *options)]

    assert numbers("--reader", "dr.  ann") == [3, 4]
    assert numbers("--last", 2) == [4, 5]
    assert numbers("--since", "2026-11-24T10:11:00.250+00:00") == [3, 4, 5]
    # What the log shows to the second is within that second, on this clock.
    assert numbers("--until", "2026-11-24 11:11:00") == [1, 2, 3]
    assert numbers("--until", "2026-11-24T10:11Z") == [1, 2, 3]
    assert numbers("--until", "2026-11-24") == [1, 2, 3, 4, 5]
    assert numbers("--since", "2026-11-25") == []
    assert numbers("--reader", "nobody") == []


def test_log_says_where_the_clock_had_gone_back(done, folder):
    act(folder, 3, clock=Clock(30))
    act(folder, 4, clock=Clock(5))
    last = done("log").splitlines()[-1]
    assert "11:31:00+01:00" in last
    assert "clock had gone back to 2026-11-24T10:06" in last


def test_replay_writes_the_overlay_as_it_was(told, done, folder, tmp_path):
    states = {2: overlay(folder)}
    for number, (value, reader) in enumerate([(3, ANN), (4, BEN), (1, ANN)]):
        act(folder, value, reader=reader, clock=Clock(10 + number))
        states[3 + number] = overlay(folder)
    done("undo", "--times", 2, "--reader", BEN)
    readers = {2: [], 3: [ANN], 4: [ANN, BEN], 5: [ANN, BEN], 7: [ANN]}
    states[7] = states[3]
    for seq, state in states.items():
        out = tmp_path / f"at{seq}.ome.tif"
        said = told("replay", "--at", seq, "--out", out)
        assert said["readers"] == readers[seq]
        with tifffile.TiffFile(out) as file:
            np.testing.assert_array_equal(file.asarray(), state)
            ome = file.ome_metadata
        assert said["runs"][0] in ome
        assert "biopsy.tiff" not in ome
        assert ("Dr. Ben" in ome) == (BEN in readers[seq])
    out = tmp_path / "then.ome.tif"
    text = done("replay", "--until", "2026-11-24T11:11:00+01:00", "--out", out)
    assert "as after entry 3" in text
    np.testing.assert_array_equal(tifffile.imread(out), states[3])


def test_replay_knows_which_runs_were_active(told, done, folder, tmp_path):
    with Case.open(folder, read_only=False) as case:
        run = case.start_run(run_record(started="2026-11-23T12:00:00+00:00"))
        run.write(block(0, 0, np.full(SHAPE, 4, np.uint8)))
        second = run.finish(1.0)
        first = case.runs[0]
        case.set_active([first.id])
    for seq, runs in ((2, [first.id]), (3, [second.id, first.id]), (4, [first.id])):
        out = tmp_path / f"{seq}.ome.tif"
        assert told("replay", "--at", seq, "--out", out)["runs"] == runs
        assert (tifffile.imread(out)[0, 0] == 4) == (seq == 3)
    assert [r["id"] for r in told("show", "--at", 2)["runs"]] == [first.id]
    shown = {r["id"]: (r["active"], r["topmost"]) for r in told("show")["runs"]}
    assert shown == {first.id: (True, True), second.id: (False, False)}


def test_replay_refuses_before_any_work(call, folder, tmp_path):
    out = tmp_path / "mask.ome.tif"
    refused(call("replay", "--out", out), "--until")
    refused(call("replay", "--out", out, "--at", 1, "--until", "2026-11-24"), "exclude")
    refused(call("replay", "--out", out, "--until", "yesterday"), "yesterday", "2026-")
    refused(call("replay", "--out", out, "--until", "0001-01-01T00:00+14:00"), "no time")
    refused(call("replay", "--out", out, "--until", "2020-01-01"), "no case yet")
    refused(call("replay", "--out", out, "--at", 99), "no entry 99")
    refused(call("replay", "--out", tmp_path / "no" / "mask.tif", "--at", 1), "no/mask.tif")
    assert not out.exists()
    out.write_text("mine")
    refused(call("replay", "--out", out, "--at", 2), "exists already")
    assert out.read_text() == "mine"
    assert call("replay", "--out", out, "--at", 2, "--overwrite")[0] == 0
    assert [p.name for p in tmp_path.glob(".*.part")] == []


# Changed


def test_regrade_changes_the_part_over_the_whole_slide(told, done, folder):
    expected = prediction()
    expected[expected == 2] = 3
    said = told("regrade", "--at", "310.5,399.9", "--to", "cin2", "--reader", f"  {ANN} ")
    assert said["entry"]["reader"] == ANN
    assert said["entry"]["what"].startswith("regrade CIN1 → CIN2 0.080 mm² at x 500 y 300 µm")
    np.testing.assert_array_equal(overlay(folder), expected)
    text = done("regrade", "--at", "310.5,399.9", "--to", "prediction", "--reader", ANN)
    assert text.startswith("Entry 4: back to prediction CIN2 → CIN1")
    np.testing.assert_array_equal(overlay(folder), prediction())
    assert (overlay(folder, "correction") == 255).all()


def test_grade_inside_a_rectangle_and_an_outline(done, folder):
    done("grade", "--region", "10,20,30,40", "--to", "CIN3", "--reader", ANN)
    done("grade", "--polygon", "600,10 640,10 640,40", "--to", "none", "--reader", ANN)
    values = overlay(folder)
    assert (values[20:60, 10:40] == 4).all()
    assert values[20, 635] == 0
    assert values[39, 605] == 253
    assert 0.8 < (values == 0).sum() / (40 * 30 / 2) < 1.2
    text = done("grade", "--region", "10,20,30,40", "--to", "CIN3", "--reader", ANN)
    assert "Nothing changed" in text


def test_a_border_is_moved(told, folder):
    said = told("grow", "--at", "810,110", "--um", 10, "--reader", ANN)
    assert said["entry"]["what"].startswith("grow normal → CIN2")
    values = overlay(folder)
    assert (values[90:160, 800:900] == 3).all()
    assert values[90, 790] == 1
    told("shrink", "--at", "310,210", "--um", 5, "--reader", ANN)
    values = overlay(folder)
    assert (values[200:205] != 2).all()
    assert (values[205:240, 305:340] == 2).all()


def test_holes_are_filled_and_specks_dropped(told, folder):
    told("fill-holes", "--at", "310,210", "--um2", 99, "--reader", ANN)
    assert overlay(folder)[255, 355] == 1
    told("fill-holes", "--at", "310,210", "--um2", 100, "--reader", ANN)
    assert overlay(folder)[255, 355] == 2
    told("drop-specks", "--region", "0,0,100,100", "--um2", 10, "--reader", ANN)
    assert overlay(folder)[501, 901] == 4
    said = told("drop-specks", "--all", "--um2", 10, "--reader", ANN)
    assert said["entry"]["what"].startswith("drop specks CIN3 → normal 6 µm²")
    expected = prediction()
    expected[250:260, 350:360] = 2
    expected[500:502, 900:903] = 1
    np.testing.assert_array_equal(overlay(folder), expected)


@pytest.mark.parametrize(
    ("where", "pixels"),
    [
        (["--at", "310,210"], 200 * 400 - 100),
        (["--region", "0,0,110,60"], 10 * 10),
        (["--polygon", "0,0 0,60 110,60 110,0"], 10 * 10),
        (["--all"], 500 * 1000),
    ],
)
def test_accept_leaves_the_overlay_and_what_was_not_analysed(told, folder, where, pixels):
    said = told("accept", *where, "--reader", ANN)
    assert "unchanged" in said["entry"]["what"]
    np.testing.assert_array_equal(overlay(folder), prediction())
    said = overlay(folder, "correction")
    assert (said != 255).sum() == pixels
    np.testing.assert_array_equal(said[said != 255], prediction()[said != 255])


def test_undo_and_redo_say_what_and_where(told, done, folder):
    act(folder, 3, 4, 1)
    said = told("undo", "--times", 2, "--reader", BEN)
    assert [each["entry"]["kind"] for each in said] == ["undo", "undo"]
    assert [each["box_um"]["x"] for each in said] == [310, 310]
    assert (overlay(folder)[300:340, 310:350] == 3).all()
    text = done("redo", "--reader", BEN)
    assert "redo of 4 (brush) at x 330 y 320 µm" in text
    assert (overlay(folder)[300:340, 310:350] == 4).all()
    assert len(done("undo", "--times", 9, "--reader", BEN).splitlines()) == 2
    np.testing.assert_array_equal(overlay(folder), prediction())
    assert "nothing to undo" in done("undo", "--reader", BEN)
    assert told("undo", "--reader", BEN) == []


def test_undo_stops_at_what_is_signed_off_and_tells_what_it_did(call, done, folder):
    act(folder, 3)
    done("grade", "--region", "0,0,20,20", "--to", "CIN1", "--reader", ANN)
    done("region-add", "--region", "320,310,5,5", "--reader", ANN)
    done("region-set", 1, "--state", "signed off", "--reader", ANN)
    code, out, err = call("undo", "--times", 2, "--reader", BEN)
    assert code == 2
    assert out.count("undo of") == 1
    assert "Region 1 (by Dr. Ann) is signed off" in err
    refused(call("grade", "--region", "320,310,5,5", "--to", "CIN3", "--reader", BEN), "signed off")
    text = done("grade", "--region", "315,310,10,5", "--to", "CIN3", "--reader", BEN)
    assert "region 1 is signed off and stayed as it was" in text


def test_attach_to_the_slide_saved_anew(told, call, done, folder, tmp_path):
    moved = write_slide(tmp_path / "moved.tiff", grey=200)
    other = write_slide(tmp_path / "other.tiff", shape=(600, 1201))
    answer = call("attach", other, "--reader", ANN)
    refused(answer, "1,201 x 600")
    with open_slide(moved) as slide, Case.open(folder) as case:
        before, after = case.slide_facts.fingerprint, slide.info.fingerprint
    refused(call("attach", moved), "nobody is named")
    code, out, err = call("attach", moved, "--reader", ANN)
    assert (code, out) == (0, "Attached to moved.tiff\n")
    assert before in err
    assert after in err
    assert told("show")["slide"]["fingerprint"] == after
    assert "attached to moved.tiff" in done("log", "--last", 1)
    assert "already" in done("attach", moved, "--reader", ANN)
    with Case.open(folder) as case:
        assert case.journal.last == 3
    refused(call("attach", tmp_path / "absent.tiff", "--reader", ANN), "absent.tiff")


# Reviewed


def test_regions_added_listed_and_changed(told, done, call, folder):
    (part,) = told("region-add", "--at", "310,210", "--reader", ANN)
    assert (part["id"], part["kind"], part["state"]) == (1, "component", "to do")
    assert part["mm2"] == pytest.approx(0.0799)
    assert part["box_um"] == {"x": 300, "y": 200, "width": 400, "height": 200}
    (drawn,) = told("region-add", "--polygon", "290,190 600,190 600,500", "--reader", ANN)
    assert drawn["kind"] == "drawn"
    assert set(drawn["areas_mm2"]) == {"1", "2"}
    done(*("region-set", 1, 2, "--state", "reviewed", "--tag", "AIS"), "--reader", BEN)
    done(*("region-set", 2, "--comment", "look  again", "--tag", "none"), "--reader", BEN)
    first, second = told("regions")
    assert (first["state"], first["state_reader"], first["tag"]) == ("reviewed", BEN, "AIS")
    assert second["tag"] == ""
    assert [c["text"] for c in second["comments"]] == ["look  again"]
    text = done("regions")
    assert "    1  reviewed, tagged AIS, by Dr. Ben, " in text
    assert "part of the overlay at x 500 y 300 µm: CIN1 0.080 mm²" in text
    assert "Dr. Ben, 2" in text
    done("region-set", 1, "--state", "signed off", "--tag", "other", "--reader", BEN)
    refused(call("region-set", 1, "--tag", "AIS", "--reader", ANN), "signed off")
    refused(call("region-set", 1, "--remove", "--reader", ANN), "signed off")
    done("region-set", 1, "--state", "to do", "--tag", "none", "--reader", ANN)
    assert "Taken off the list: 1" in done("region-set", 1, "--remove", "--reader", ANN)
    assert [r["id"] for r in told("regions")] == [2]


def test_regions_of_parts_and_of_a_grid(told, call, folder):
    parts = told("region-add", "--components", "--least-um2", 100, "--reader", ANN)
    assert [r["box_um"]["x"] for r in parts] == [800, 300]
    tiles = told("region-add", "--grid", 200, "--tissue-share", 0.4, "--reader", ANN)
    tissue = prediction() != 253
    wanted = [
        (x, y)
        for y in range(0, 600, 200)
        for x in range(0, 1200, 200)
        if tissue[y : y + 200, x : x + 200].mean() >= 0.4
    ]
    assert [(r["box_um"]["x"], r["box_um"]["y"]) for r in tiles] == wanted
    assert {r["kind"] for r in tiles} == {"tile"}
    assert [r["id"] for r in tiles] == list(range(3, 3 + len(wanted)))
    code, _, err = call("region-add", "--grid", 200, "--tissue-share", 0.1, "--reader", ANN)
    assert code == 0
    assert f"{len(wanted)} of " in err
    assert len(told("regions")) > 2 + len(wanted)
    assert told("region-add", "--components", "--least-um2", 100, "--reader", ANN) == []
    refused(call("region-add", "--components", "--least-um2", 1e9, "--reader", ANN), "nothing")
    refused(call("region-add", "--grid", 0.1, "--reader", ANN), "side of 0.1")
    refused(call("region-add", "--grid", "nan", "--reader", ANN), "side of nan")
    refused(call("region-add", "--grid", 1, "--reader", ANN), "tiles")
    refused(call("region-add", "--grid", 50, "--tissue-share", 0, "--reader", ANN), "share")


def test_disagreements_of_readers_and_runs(told, done, folder):
    assert told("disagreements", "--least-um2", 10) == []
    assert "agree" in done("disagreements", "--least-um2", 10)
    done("accept", "--all", "--reader", ANN)
    done("grade", "--region", "800,100,50,50", "--to", "CIN3", "--reader", ANN)
    done("grade", "--region", "300,200,10,10", "--to", "none", "--reader", ANN)
    first, second = told("disagreements", "--least-um2", 10)
    assert (first["said"], first["predicted"]) == (4, 3)
    assert first["mm2"] == pytest.approx(0.0025)
    assert second["box_um"] == {"x": 300, "y": 200, "width": 10, "height": 10}
    (line,) = done("disagreements", "--least-um2", 1000).splitlines()
    assert "2,500 µm²  reader CIN3, run CIN2, at x 825 y 125 µm" in line


# Mended


def test_verify_says_that_a_case_is_whole(told, done, folder):
    act(folder, 3, 4)
    assert "The case is whole: 4 entries" in done("verify")
    said = told("verify")
    assert (said["ok"], said["entries"], said["damages"]) == (True, 4, [])
    assert said["chunks"] > 0


def test_verify_names_a_damaged_chunk_and_repairs_it(call, done, folder):
    act(folder, 3)
    state = overlay(folder)
    chunk = folder / "correction.zarr" / "class" / "0" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-6] + b"abcdef")
    code, out, err = call("verify")
    assert code == 2
    (line,) = out.splitlines()
    assert line.startswith("Damaged: ")
    assert "correction.zarr/class/0/c/0/0" in line
    assert "entry 3" in line
    (error,) = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert "1 damage" in error
    assert "--repair" in error
    code, out, _ = call("verify", "--json")
    assert code == 2
    assert [damage["where"] for damage in json.loads(out)["damages"]]
    with Case.open(folder, read_only=False):
        refused(call("verify", "--repair"), "is being worked on by")
    assert done("verify", "--repair").startswith("Mended: ")
    done("verify")
    np.testing.assert_array_equal(overlay(folder), state)


def test_a_damaged_journal_is_rescued(call, told, done, folder):
    act(folder, 3)
    done("region-add", "--at", "310,210", "--reader", BEN)
    state = overlay(folder)
    with contextlib.closing(sqlite3.connect(folder / "case.sqlite")) as db:
        db.execute("UPDATE entry SET body = replace(body, 'brush', 'brash') WHERE seq = 3")
        db.commit()
    code, out, err = call("verify")
    assert code == 2
    assert "Damaged: entry 3 " in out
    assert "case rescue" in err
    refused(call("rescue"), "nobody is named")
    said = told("rescue", "--reader", ANN)
    assert (said["corrected_pixels"], said["runs"], said["regions"]) == (1600, 1, 1)
    assert all(Path(path).exists() for path in said["kept"])
    done("verify")
    np.testing.assert_array_equal(overlay(folder), state)
    log = done("log")
    assert "journal begun anew after damage" in log
    assert "as Dr. Ben had said on 20" in log


def test_rescue_where_the_database_is_gone_asks_for_the_slide(call, done, folder, tmp_path):
    act(folder, 3)
    state = overlay(folder)
    (folder / "case.sqlite").unlink()
    refused(call("verify"), "case.sqlite is gone", "rescue")
    write_slide(tmp_path / "biopsy.tiff")
    text = done("rescue", "--reader", ANN, "--slide", tmp_path / "biopsy.tiff")
    assert "Saved: 1 runs, 1,600 corrected pixels" in text
    assert "Lost: " in text
    np.testing.assert_array_equal(overlay(folder), state)


# What is stopped and what is refused


@pytest.mark.parametrize(
    "arguments",
    [
        ["regrade", "--at", "310,210", "--to", "CIN2", "--reader", ANN],
        ["accept", "--all", "--reader", ANN],
        ["drop-specks", "--all", "--um2", "500", "--reader", ANN],
        ["region-add", "--grid", "100", "--reader", ANN],
        ["region-add", "--components", "--reader", ANN],
        ["undo", "--reader", ANN],
        ["replay", "--at", "2", "--out", "mask.tif"],
    ],
)
def test_ctrl_c_leaves_all_as_it_was(call, folder, tmp_path, monkeypatch, arguments):
    @contextlib.contextmanager
    def stopped():
        cancel = threading.Event()
        cancel.set()
        yield cancel

    monkeypatch.setattr("napari_hspnet.cli.case_parts.stop_signals", stopped)
    monkeypatch.chdir(tmp_path)
    code, _, err = call(*arguments)
    assert code == 130
    assert "Interrupted" in err
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]
    with Case.open(folder) as case:
        assert case.journal.last == 2


CHANGES = {
    "regrade": ["--at", "310,210", "--to", "CIN2"],
    "grade": ["--region", "0,0,9,9", "--to", "CIN2"],
    "accept": ["--all"],
    "grow": ["--at", "310,210", "--um", "5"],
    "shrink": ["--at", "310,210", "--um", "5"],
    "fill-holes": ["--at", "310,210", "--um2", "500"],
    "drop-specks": ["--all", "--um2", "500"],
    "undo": [],
    "redo": [],
    "region-add": ["--grid", "100"],
    "region-set": ["1", "--state", "reviewed"],
}


@pytest.mark.parametrize("command", CHANGES)
def test_a_reader_has_a_name(call, folder, command):
    refused(call(command, *CHANGES[command]), "nobody is named as reader", "--reader")
    refused(call(command, *CHANGES[command], "--reader", " \t"), "nobody is named as reader")
    with Case.open(folder) as case:
        assert case.journal.last == 2


@pytest.mark.parametrize("command", CHANGES)
def test_a_case_that_is_worked_on_elsewhere(call, folder, command):
    with Case.open(folder, read_only=False):
        refused(call(command, *CHANGES[command], "--reader", ANN), "is being worked on by")
        # Looking is allowed meanwhile.
        assert call("show")[0] == call("log")[0] == call("regions")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["regrade", "--at", "310", "--to", "CIN2"], ["--at", "500,400"]),
        (["regrade", "--at", "nan,1", "--to", "CIN2"], ["--at"]),
        (["regrade", "--at", "310,99999", "--to", "CIN2"], ["outside the slide", "1,200 x 600"]),
        (["regrade", "--at=-1,5", "--to", "CIN2"], ["outside the slide"]),
        (["regrade", "--at", "5,5", "--to", "CIN2"], ["no tissue"]),
        (["regrade", "--at", "310,210", "--to", "CIN4"], ["no grade", "CIN3, prediction"]),
        (["grade", "--to", "CIN1"], ["where", "--region, --polygon"]),
        (
            ["grade", "--region", "0,0,5,5", "--polygon", "0,0 1,0 1,1", "--to", "CIN1"],
            ["exclude each other"],
        ),
        (["grade", "--polygon", "0,0 5,5", "--to", "CIN1"], ["--polygon"]),
        (["grade", "--polygon", "0,0 5,5 9,9", "--to", "CIN1"], ["no area"]),
        (["grade", "--region", "0,0,5", "--to", "CIN1"], ["--region"]),
        (["grade", "--region", "9000,0,5,5", "--to", "CIN1"], ["outside"]),
        (["accept"], ["where"]),
        (["accept", "--all", "--at", "5,5"], ["exclude"]),
        (["grow", "--at", "310,210", "--um", "-5"], ["moved by -5"]),
        (["shrink", "--at", "310,210", "--um", "inf"], ["moved by inf"]),
        (["fill-holes", "--at", "310,210", "--um2", "-1"], ["no area"]),
        (["drop-specks", "--um2", "5"], ["where"]),
        (["region-add"], ["where"]),
        (["region-set", "7", "--state", "reviewed"], ["no region 7"]),
        (["region-set", "1", "--state", "perfect"], ["no region 1"]),
        (["region-set", "1"], ["not said what"]),
        (["region-set", "1", "--remove", "--state", "reviewed"], ["excludes"]),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(call, folder, arguments, words):
    refused(call(*arguments, "--reader", ANN), *words)
    with Case.open(folder) as case:
        assert case.journal.last == 2


def test_unknown_states_and_tags(call, done, folder):
    done("region-add", "--at", "310,210", "--reader", ANN)
    refused(call("region-set", 1, "--state", "perfect", "--reader", ANN), "to do, in progress")
    refused(call("region-set", 1, "--tag", "nice", "--reader", ANN), "uncertain")
    refused(call("region-set", 1, "--comment", " ", "--reader", ANN), "empty")
    with Case.open(folder) as case:
        assert case.journal.last == 3


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (command, kind)
        for command in ("show", "log", "regions", "disagreements", "undo", "verify", "rescue")
        for kind in ("absent", "folder", "file", "garbage")
        # That is a damage, and listed.
        if (command, kind) != ("verify", "garbage")
    ],
)
def test_no_case(call, tmp_path, command, kind):
    path = tmp_path / "thing.hspnet"
    if kind == "file":
        path.write_text("no case")
    elif kind != "absent":
        path.mkdir()
    if kind == "garbage":
        (path / "case.sqlite").write_bytes(b"no database " * 500)
    reader = ["--reader", ANN] if command in ("undo", "rescue") else []
    refused(call(command, *reader, case=path), "thing.hspnet")
    assert path.exists() == (kind != "absent")


def test_a_case_of_the_first_format_is_shown_and_has_no_journal_yet(call, told, done, folder):
    from napari_hspnet.cases import schema

    with contextlib.closing(sqlite3.connect(folder / "case.sqlite")) as db:
        for table in ("entry", "tile", "seen", "region"):
            db.execute(f"DROP TABLE {table}")
        db.execute("PRAGMA user_version = 1")
        db.commit()
    assert schema.FORMAT_VERSION >= 2
    said = told("show")
    assert said["areas_mm2"]["2"] == pytest.approx(0.0799)
    assert (said["seq"], said["last_entry"], said["readers"]) == (0, None, [])
    assert told("log") == told("regions") == told("disagreements") == []
    refused(call("show", "--at", 1), "no journal yet")
    refused(call("show", "--entry", 1), "no journal yet")
    refused(call("replay", "--until", "2026-11-25", "--out", "x.tif"), "no journal yet")
    # Changing it brings it up to date.
    done("accept", "--at", "310,210", "--reader", ANN)
    assert "a case of format 1" in done("log")


@pytest.mark.parametrize("option", ["--since", "--until"])
def test_log_wants_a_time(call, option):
    refused(call("log", option, "soon"), "'soon' is no time")


def test_show_wants_one_moment(call):
    refused(call("show", "--at", 1, "--until", "2026-11-24"), "exclude")
    refused(call("show", "--at", 1, "--entry", 1), "--entry")
    refused(call("show", "--entry", 9), "no entry 9", "1 to 2")


def test_looking_changes_nothing(call, done, folder, tmp_path):
    act(folder, 3)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    done("show")
    done("log")
    done("regions")
    done("disagreements")
    done("replay", "--at", 3, "--out", tmp_path / "m.tif")
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert {p: b for p, b in after.items() if not p.name.endswith(("-wal", "-shm"))} == before


def test_imports_neither_torch_nor_napari(folder):
    code = (
        "import sys; from napari_hspnet.cli.app import main; "
        f"code = main(['case', 'show', {str(folder)!r}]); "
        "assert not {'torch', 'napari', 'qtpy'} & set(sys.modules), sys.modules.keys(); "
        "sys.exit(code)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ}, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
