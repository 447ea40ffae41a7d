"""``predict`` with a chosen back end, over folders and lists, and with workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from napari_hspnet.cli import main
from napari_hspnet.jobs.manifest import DONE, MANIFEST, Manifest
from napari_hspnet.jobs.slide_files import SUFFIXES
from napari_hspnet.networks import Architecture, ModelCard, build, save_checkpoint

from slide_files import noise, write_generic_tiff


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    shape = Architecture(
        encoder="small", ds_widths=(4,) * 5, head_widths=(4, 4), encoder_widths=(4, 4, 8, 8)
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, build(shape), ModelCard("tiny", shape, window=128, synthetic=True))
    return path


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "slides"
    place.mkdir()
    for number in range(3):
        write_generic_tiff(place / f"s{number}.tiff", [noise(300, 260, number)], 1.0)
    (place / "notes.txt").write_text("no slide")
    (place / ".hidden.tiff").write_text("no slide")
    return place


@pytest.fixture
def predict(tmp_path, checkpoint, capsys):
    """Run ``predict``: gives the exit code, stdout and stderr."""

    def run(*arguments, out=tmp_path / "out"):
        fixed = ["--out", out, "--checkpoint", checkpoint, "--no-tissue-mask"]
        code = main(["predict", *map(str, [*arguments, *fixed])])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def names(out):
    return [os.path.basename(r["slide"]) for r in json.loads(out)["results"]]  # noqa: PTH119


def test_the_chosen_back_end_ran_and_is_recorded(predict, folder, tmp_path, capsys):
    code, out, err = predict(
        folder / "s0.tiff", "--backend", "folded", "--json", "--format", "report"
    )
    assert code == 0, err
    (result,) = json.loads(out)["results"]
    assert result["backend"] == "folded"
    assert main(["case", "show", result["case"], "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert (run["backend"], run["notes"]) == ("folded", [])
    assert main(["case", "show", result["case"]]) == 0
    assert "back end folded" in capsys.readouterr().out
    (report,) = (tmp_path / "out").glob("*.html")
    text = report.read_text(encoding="utf-8")
    assert "Back end" in text
    assert "folded" in text


def test_a_back_end_that_cannot_run_gives_way_and_that_is_said(predict, folder, monkeypatch):
    from napari_hspnet.inference.predictors import Folded

    monkeypatch.setattr(Folded, "available", classmethod(lambda cls, subject: "not today"))
    code, out, err = predict(folder / "s0.tiff", "--backend", "folded", "--json")
    assert code == 0, err
    (result,) = json.loads(out)["results"]
    assert result["backend"] == "eager"
    assert "not today" in result["notes"][0]


def test_auto_measures_once_and_keeps_its_choice(predict, folder, monkeypatch, tmp_path):
    from napari_hspnet.inference.predictors import choice

    # The others take a minute each to get ready.
    monkeypatch.setattr(choice, "BACKENDS", choice.BACKENDS[:2])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code, out, err = predict(folder / "s0.tiff", "--backend", "auto", "--json")
    assert code == 0, err
    (result,) = json.loads(out)["results"]
    assert result["backend"] in ("eager", "folded")
    assert result["notes"][0].startswith("chosen now")
    code, out, err = predict(folder / "s1.tiff", "--backend", "auto", "--json")
    (other,) = json.loads(out)["results"]
    assert other["backend"] == result["backend"]
    assert other["notes"][0].startswith("chosen before")


def test_no_back_end_of_that_name(predict, folder, tmp_path):
    code, out, err = predict(folder / "s0.tiff", "--backend", "abacus")
    assert (code, out) == (2, "")
    assert "abacus" in err
    assert "folded" in err
    assert not (tmp_path / "out").exists()


def test_a_folder_stands_for_its_slides_and_masks_are_none(predict, folder, tmp_path):
    code, out, err = predict(folder, "--json", out=folder)
    assert code == 0, err
    assert names(out) == ["s0.tiff", "s1.tiff", "s2.tiff"]
    assert (folder / "s0.ome.tif").exists()
    code, out, err = predict(folder, "--json", "--overwrite", out=folder)
    assert code == 0, err
    assert names(out) == ["s0.tiff", "s1.tiff", "s2.tiff"]


def test_a_list_of_slides(predict, folder, tmp_path):
    (folder / "list.txt").write_text("# mine\n\ns2.tiff\n  s0.tiff\n", encoding="utf-8")
    code, out, err = predict("--list", folder / "list.txt", "--json")
    assert code == 0, err
    assert names(out) == ["s2.tiff", "s0.tiff"]
    (folder / "list.txt").write_text("# none\n")
    for line in (["--list", folder / "list.txt"], ["--list", folder / "absent.txt"], []):
        code, out, err = predict(*line)
        assert (code, out) == (2, "")
        assert len([x for x in err.splitlines() if x.startswith("Error: ")]) == 1


def test_a_folder_without_slides(predict, tmp_path):
    (tmp_path / "empty").mkdir()
    code, _, err = predict(tmp_path / "empty")
    assert code == 2
    assert "no slide in this folder" in err


def test_slides_in_a_folder_are_what_the_window_opens():
    pytest.importorskip("napari")
    from napari_hspnet._qt.hooks import SLIDE_SUFFIXES

    assert set(SLIDE_SUFFIXES) == SUFFIXES


def test_without_the_extra_it_says_what_to_install(predict, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    code, out, err = predict(folder, "--workers", 2)
    assert (code, out) == (2, "")
    assert "napari-hspnet[cluster]" in err
    assert not (tmp_path / "out").exists()


def test_workers_or_a_scheduler_not_both(predict, folder):
    code, _, err = predict(folder, "--workers", 2, "--scheduler", "tcp://127.0.0.1:1")
    assert code == 2
    assert "either" in err


def command(folder, out, checkpoint, *more):
    return [
        *(sys.executable, "-m", "napari_hspnet.cli", "predict", str(folder), "--out", str(out)),
        *("--checkpoint", str(checkpoint), "--no-tissue-mask", "--format", "ome-tiff"),
        *map(str, more),
    ]


def test_workers_print_one_table_and_a_line_for_each_failure(folder, tmp_path, checkpoint):
    pytest.importorskip("distributed")
    (folder / "bad.svs").write_text("no slide")
    line = command(folder, tmp_path / "out", checkpoint, "--workers", 2)
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2, done.stderr
    rows = [
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in done.stdout.splitlines()
        if row.startswith("|")
    ]
    assert rows[0][:3] == ["slide", "state", "windows"]
    assert rows[0][-2:] == ["time", "worker"]
    assert [row[:2] for row in rows[2:]] == [
        ["bad.svs", "failed"],
        ["s0.tiff", "done"],
        ["s1.tiff", "done"],
        ["s2.tiff", "done"],
    ]
    errors = [x for x in done.stderr.splitlines() if x.startswith("Error: ")]
    assert len(errors) == 1
    assert "bad.svs" in errors[0]
    assert "1 of 4 slides failed" in done.stderr
    assert "Research use only" in done.stderr
    assert "Traceback" not in done.stderr
    (folder / "bad.svs").unlink()
    again = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done before") == 3


@pytest.mark.skipif(os.name == "nt", reason="process groups are POSIX's")
def test_ctrl_c_in_the_terminal_stops_all_and_the_command_goes_on(folder, tmp_path, checkpoint):
    """The terminal sends it to every process of the group."""
    pytest.importorskip("distributed")
    out = tmp_path / "out"
    line = command(folder, out, checkpoint, "--workers", 2, "--stride", 4)
    job = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 200
        while not list(out.glob("*.hspnet/runs/*/progress.json")):
            assert job.poll() is None, job.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(job.pid, signal.SIGINT)
        _, err = job.communicate(timeout=120)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
    assert job.returncode == 130, err
    assert "Traceback" not in err
    assert not list(out.glob("*.tif"))
    assert all(e.state != DONE for e in Manifest(out / MANIFEST).entries.values())
    again = subprocess.run(
        command(folder, out, checkpoint, "--workers", 2, "--stride", 64),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert {e.state for e in Manifest(out / MANIFEST).entries.values()} == {DONE}
