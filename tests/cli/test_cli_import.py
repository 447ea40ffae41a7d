"""`napari-hspnet import`: outlines and masks as corrections, previewed, told, taken back."""

import contextlib
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import tifffile
import typer
from PIL import Image

from napari_hspnet.cases import Case, Selection
from napari_hspnet.cli import main
from napari_hspnet.slides import LabelGrid, PixelBox

from cases.case_tools import block, run_record, slide_info
from cli.case_made import ANN, BEN, SHAPE, refused


def prediction():
    values = np.full(SHAPE, 253, np.uint8)
    values[50:550, 100:1100] = 1
    values[200:400, 300:700] = 2
    return values


@pytest.fixture
def folder(tmp_path):
    info = slide_info(*SHAPE)
    path = tmp_path / "biopsy.hspnet"
    with Case.open_or_create(path, info, LabelGrid.of(info)) as case:
        run = case.start_run(run_record())
        run.write(block(0, 0, prediction()))
        run.finish(1.0)
    return path


@pytest.fixture
def call(folder, capsys):
    def run(path, *arguments, case=folder):
        code = main(["import", str(case), str(path), *map(str, arguments)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def done(call):
    def run(*arguments):
        code, out, err = call(*arguments)
        assert code == 0, err
        return out

    return run


def feature(x0, y0, x1, y1, name):
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": "annotation", "classification": {"name": name}},
    }


@pytest.fixture
def outlines(tmp_path):
    def write(*features):
        path = tmp_path / "readers.geojson"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
        return path

    return write


@pytest.fixture
def known(outlines):
    return outlines(feature(300, 200, 500, 400, "CIN 2"), feature(0, 0, 50, 10, "normal"))


@pytest.fixture
def unknown(outlines):
    return outlines(
        feature(300, 200, 500, 400, "High grade"), feature(0, 0, 50, 10, None),
        feature(60, 0, 70, 10, "CIN1"),
    )  # fmt: skip


def overlay(folder, what="classes"):
    with Case.open(folder) as case:
        return case.composite().read(0, 0, *SHAPE, what=what)


def untouched(folder):
    with Case.open(folder) as case:
        return case.journal.last == 2


def expected():
    values = prediction()
    values[200:400, 300:500] = 3
    values[:10, :50] = 1
    return values


def test_an_import_is_made_told_and_taken_back(done, known, folder, capsys):
    text = done(known, "--reader", ANN)
    assert text == (
        "Entry 3: import of readers.geojson CIN1 → CIN2 0.040 mm², no tissue → normal 500 µm² "
        "at x 250 y 200 µm\n"
    )
    np.testing.assert_array_equal(overlay(folder), expected())
    assert main(["case", "log", str(folder), "--last", "1"]) == 0
    log = capsys.readouterr().out
    assert "Dr. Ann" in log
    assert "import of readers.geojson CIN1 → CIN2 0.040 mm²" in log
    assert done(known, "--reader", BEN) == "Nothing changed: it is so already\n"
    assert main(["case", "undo", str(folder), "--reader", BEN]) == 0
    assert "undo of 3 (import)" in capsys.readouterr().out
    np.testing.assert_array_equal(overlay(folder), prediction())


def test_json_says_what_was_found_and_done(done, known, folder):
    said = json.loads(done(known, "--reader", ANN, "--json"))
    assert (said["format"], said["file"], said["pixels"]) == ("geojson", str(known), 40_500)
    assert said["names"] == [
        {"name": "CIN 2", "count": 1, "grade": 3},
        {"name": "normal", "count": 1, "grade": 1},
    ]
    assert said["changes"] == [
        {"from": 2, "to": 3, "mm2": pytest.approx(0.04)},
        {"from": 253, "to": 1, "mm2": pytest.approx(0.0005)},
    ]
    assert said["box_um"] == {"x": 0, "y": 0, "width": 500, "height": 400}
    assert said["imported"]["entry"]["seq"] == 3
    assert said["imported"]["left_locked"] == []
    with Case.open(folder) as case:
        body = case.journal.entry(3).body
    assert body["sha256"] == said["sha256"]
    assert body["grades"] == {"CIN 2": 3, "normal": 1}


def test_a_preview_changes_nothing(call, done, known, folder):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    text = done(known, "--preview")
    assert text.splitlines() == [
        "Would change 0.041 mm² around x 250 y 200 µm:",
        "  CIN1 → CIN2  0.040 mm²",
        "  no tissue → normal  500 µm²",
    ]
    said = json.loads(done(known, "--preview", "--json"))
    assert said["imported"] is None
    assert said["changes"][0] == {"from": 2, "to": 3, "mm2": pytest.approx(0.04)}
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert {p: b for p, b in after.items() if not p.name.endswith(("-wal", "-shm"))} == before
    # Also where another process works on the case, which importing needs for itself.
    with Case.open(folder, read_only=False):
        assert done(known, "--preview") == text
        refused(call(known, "--reader", ANN), "is being worked on by")
    assert untouched(folder)


def test_notes_are_said(call, outlines):
    path = outlines(feature(1100, 500, 1300, 700, "CIN 2"), feature(5000, 0, 5100, 10, "CIN1"))
    code, out, err = call(path, "--preview")
    assert code == 0, err
    assert "1 outline lies outside the slide and is left out." in err
    assert "1 outline reaches beyond the slide and is cut there." in err
    assert "outline" not in out
    assert len(json.loads(call(path, "--preview", "--json")[1])["notes"]) == 2


def test_what_nobody_knows_is_mapped(call, done, unknown, folder):
    answer = call(unknown, "--reader", ANN)
    refused(answer, "'High grade' (1 outline)", "1 outline without a class", '--map "High grade=')
    refused(answer, '--map "=GRADE"')
    assert "CIN1 (" not in answer[2]
    refused(call(unknown, "--map", "High grade=CIN3", "--preview"), "1 outline without a class")
    maps = ("--map", "High grade = CIN3", "--map", "=leave", "--map", "CIN1=none")
    done(unknown, "--reader", ANN, *maps)
    values = prediction()
    values[200:400, 300:500] = 4
    values[:10, 60:70] = 0
    np.testing.assert_array_equal(overlay(folder), values)


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ("CIN1", ["--map 'CIN1' is not understood", "NAME=GRADE"]),
        ("CIN1=CIN4", ["no grade 'CIN4'", "leave"]),
        ("CIN1=prediction", ["cannot go back to the prediction"]),
        ("CIN9=CIN1", ["Nothing in the file is called 'CIN9'", "'High grade'"]),
    ],
)
def test_maps_that_mean_nothing(call, unknown, folder, mapping, words):
    answers = ("--map", "High grade=CIN2", "--map", "=leave")
    refused(call(unknown, "--reader", ANN, *answers, "--map", mapping), *words)
    assert untouched(folder)


def on_terminal(monkeypatch, *answers):
    """A user at a terminal, who answers; gives what was asked."""
    asked, waiting = [], list(answers)

    def prompt(text, err=False):
        assert err
        asked.append(text)
        if not waiting:
            raise typer.Abort
        return waiting.pop(0)

    monkeypatch.setattr("napari_hspnet.cli.import_.typer.prompt", prompt)
    monkeypatch.setattr("napari_hspnet.cli.import_._at_terminal", lambda: True)
    return asked


def test_what_nobody_knows_is_asked_on_a_terminal(call, unknown, folder, monkeypatch):
    asked = on_terminal(monkeypatch, "leave", "CIN5", "CIN2")
    code, out, err = call(unknown, "--reader", ANN)
    assert code == 0, err
    assert out.startswith("Entry 3: import of readers.geojson")
    assert [text.split("(none")[0] for text in asked] == [
        "Which grade is 1 outline without a class ('')? ",
        "Which grade is 'High grade' (1 outline)? ",
        "Which grade is 'High grade' (1 outline)? ",
    ]
    assert "There is no grade 'CIN5'" in err
    values = prediction()
    values[200:400, 300:500] = 3
    values[:10, 60:70] = 2
    np.testing.assert_array_equal(overlay(folder), values)


def test_not_answering_ends_without_a_change(call, unknown, folder, monkeypatch):
    on_terminal(monkeypatch, "leave")
    code, out, err = call(unknown, "--reader", ANN)
    assert (code, out) == (130, "")
    assert "Interrupted" in err
    assert untouched(folder)
    # Where JSON is wanted a program is calling.
    refused(call(unknown, "--reader", ANN, "--json"), "not known which grade")


def test_masks_with_all_their_options(done, call, folder, tmp_path):
    values = np.zeros((100, 180), np.uint8)
    values[20:60, 50:150] = 7
    path = tmp_path / "part.png"
    Image.fromarray(values).save(path)
    refused(call(path, "--reader", ANN), "180 x 100", "1,200 x 600", "part.png")
    place = ("--mpp", 2, "--at", "300,200")
    refused(call(path, "--reader", ANN, *place), "value 7 (4,000 pixels)", '--map "7=GRADE"')
    done(path, "--reader", ANN, *place, "--map", "7=CIN3", "--rest", "none")
    wanted = prediction()
    wanted[200:400, 300:660] = 0
    wanted[240:320, 400:600] = 4
    np.testing.assert_array_equal(overlay(folder), wanted)


def test_accepting_what_agrees(done, folder, tmp_path):
    path = tmp_path / "whole.tif"
    tifffile.imwrite(path, np.where(prediction() == 2, 2, 0).astype(np.uint8))
    assert "Nothing changed" in done(path, "--reader", ANN)
    assert "CIN1 accepted" in done(path, "--preview", "--accept")
    assert "CIN1 unchanged 0.080 mm²" in done(path, "--reader", ANN, "--accept")
    said = overlay(folder, "correction")
    np.testing.assert_array_equal(said, np.where(prediction() == 2, 2, 255))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--origin", "corner"], ["--origin 'corner'", "bounds or level0"]),
        (["--rest", "all"], ["--rest 'all'", "leave or none"]),
        (["--at", "5"], ["--at '5'"]),
        (["--mpp", "0"], ["no resolution"]),
        (["--mpp", "1"], ["Outlines are in pixels of the slide"]),
    ],
)
def test_options_that_mean_nothing(call, known, folder, arguments, words):
    refused(call(known, "--reader", ANN, *arguments), *words)
    assert untouched(folder)


def test_a_reader_has_a_name(call, known, folder):
    refused(call(known), "nobody is named as reader")
    refused(call(known, "--reader", "  "), "nobody is named as reader")
    assert untouched(folder)


def test_files_that_cannot_be_imported(call, folder, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_text("hello")
    refused(call(bad, "--reader", ANN), "neither GeoJSON nor PNG nor TIFF", "bad.txt")
    refused(call(tmp_path / "absent.png", "--reader", ANN), "absent.png", "cannot be read")
    refused(call(bad, "--reader", ANN, case=tmp_path / "no.hspnet"), "no case", "no.hspnet")
    assert untouched(folder)


def test_ctrl_c_leaves_all_as_it_was(call, known, folder, monkeypatch):
    @contextlib.contextmanager
    def stopped():
        cancel = threading.Event()
        cancel.set()
        yield cancel

    monkeypatch.setattr("napari_hspnet.cli.case_parts.stop_signals", stopped)
    code, out, err = call(known, "--reader", ANN)
    assert (code, out) == (130, "")
    assert "Interrupted" in err
    assert untouched(folder)


def test_imports_neither_torch_nor_napari(folder, known):
    code = (
        "import sys; from napari_hspnet.cli import main; "
        f"code = main(['import', {str(folder)!r}, {str(known)!r}, '--preview']); "
        "assert not {'torch', 'napari', 'qtpy'} & set(sys.modules), sys.modules.keys(); "
        "sys.exit(code)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ}, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()


def sign_off(folder, box):
    with Case.open(folder, read_only=False) as case:
        (region,) = case.review.add([Selection.of_box(PixelBox(*box), SHAPE)], "drawn", BEN)
        case.review.set_state([region.id], "signed off", BEN)
    return region.id


def test_what_is_signed_off_stays_and_is_said(call, known, folder):
    number = sign_off(folder, (0, 0, 300, 1200))
    _, out, err = call(known, "--preview")
    assert f"left as they are: 0.021 mm² in region {number}." in err
    assert "CIN1 → CIN2  0.020 mm²" in out
    code, out, err = call(known, "--reader", ANN, "--json")
    assert code == 0, err
    said = json.loads(out)
    assert said["left_locked"] == said["imported"]["left_locked"] == [number]
    after = overlay(folder)
    np.testing.assert_array_equal(after[:300], prediction()[:300])
    assert (after[300:400, 300:500] == 3).all()


def test_nothing_but_what_is_signed_off_is_refused(call, known, folder):
    sign_off(folder, (0, 0, 600, 1200))
    refused(call(known, "--reader", ANN), "signed off", "unlock")
    np.testing.assert_array_equal(overlay(folder), prediction())
    with Case.open(folder) as case:
        assert case.journal.last == 4
