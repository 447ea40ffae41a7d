"""`napari-hspnet open`: napari with slide and dock, or one line that says why not."""

from __future__ import annotations

import subprocess
import sys

from napari_hspnet.cli import main
from napari_hspnet.jobs.samples import sample_slide_path


def test_without_a_display_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["open", str(sample_slide_path())]) == 2
    said = capsys.readouterr().err
    assert "no display" in said
    assert "predict" in said


def test_a_file_that_is_no_slide_is_told_before_a_window_opens(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("DISPLAY", ":nowhere")
    path = tmp_path / "notes.svs"
    path.write_text("no slide")
    assert main(["open", str(path)]) == 2
    assert "notes.svs" in capsys.readouterr().err


def test_napari_is_started_with_the_slide_and_the_dock(monkeypatch):
    monkeypatch.setenv("DISPLAY", ":0")
    started = []

    def run(command, check):
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    assert main(["open", str(sample_slide_path())]) == 0
    (command,) = started
    assert command[:3] == [sys.executable, "-m", "napari"]
    assert str(sample_slide_path()) in command
    assert command[-3:] == ["--with", "napari-hspnet", "HSP-Net review"]
