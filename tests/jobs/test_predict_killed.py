"""Predict is killed in the middle, again and again, and goes on where it was."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_hspnet.cases import Case
from napari_hspnet.cases.unfinished import read_progress

from slide_files import noise, write_generic_tiff

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")

CHILD = Path(__file__).with_name("killed_predict.py")


def child(slide, out, windows=0, fresh=False):
    """The child's answer; None where it was killed."""
    done = subprocess.run(
        [
            sys.executable,
            str(CHILD),
            str(slide),
            str(out),
            str(windows),
            "fresh" if fresh else "goes-on",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(CHILD.parents[1]), "OMP_NUM_THREADS": "1"},
    )
    if done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "noise.tiff"
    return write_generic_tiff(path, [noise(1300, 1150)], 1.0)


@pytest.fixture(scope="module")
def unbroken(slide, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken")
    return child(slide, out), maps(out)


def maps(out):
    """The mask, and all maps of the run at all levels, by their place in its folder."""
    (run,) = (out / "noise.hspnet" / "runs").iterdir()
    parts = {
        str(p.relative_to(run)): p.read_bytes()
        for p in run.rglob("*")
        if p.is_file() and p.name != "zarr.json"
    }
    return tifffile.imread(out / "noise.ome.tif"), parts


def left(out):
    (run,) = (out / "noise.hspnet" / "runs").iterdir()
    return read_progress(run)


def test_killed_at_random_it_comes_to_the_same(slide, unbroken, tmp_path):
    whole, (mask, parts) = unbroken
    assert whole["notes"] == whole["said"] == []
    assert whole["windows"] == whole["ran"]
    draw = random.Random()
    said, before = None, 0.0
    for _ in range(3):
        # Between a tenth and a half of all windows each time: three never suffice.
        said = child(slide, tmp_path, draw.randint(whole["ran"] // 10, whole["ran"] // 3))
        assert said is None
        assert not (tmp_path / "noise.ome.tif").exists()
        noted = left(tmp_path)
        assert before <= noted.part < 1
        before = noted.part
    said = child(slide, tmp_path)
    found, its_parts = maps(tmp_path)
    np.testing.assert_array_equal(found, mask)
    assert its_parts == parts
    for figure in ("pixels", "areas", "windows"):
        assert said[figure] == whole[figure], figure
    with Case.open(tmp_path / "noise.hspnet") as case:
        assert [run.state for run in case.runs] == ["finished"]
        assert case.active == (said["run"],)


def test_what_was_finished_is_not_run_again_and_that_is_said(slide, unbroken, tmp_path):
    whole, _ = unbroken
    assert child(slide, tmp_path, whole["ran"] * 2 // 3) is None
    part = left(tmp_path).part
    assert part > 0.3
    said = child(slide, tmp_path)
    assert said["ran"] < whole["ran"] * (1.1 - part)
    per_cent = f"{part:.0%}".replace("%", " %")
    assert said["said"] == [f"The run was broken off and gone on with at {per_cent}"]
    assert said["notes"] == [f"broken off and gone on with at {per_cent}"]


def test_fresh_begins_anew(slide, unbroken, tmp_path):
    whole, (mask, _) = unbroken
    assert child(slide, tmp_path, whole["ran"] * 2 // 3) is None
    said = child(slide, tmp_path, fresh=True)
    assert (said["ran"], said["said"]) == (whole["ran"], [])
    np.testing.assert_array_equal(maps(tmp_path)[0], mask)


def test_another_opening_for_writing_does_not_keep_it(slide, unbroken, tmp_path):
    whole, _ = unbroken
    assert child(slide, tmp_path, whole["ran"] // 2) is None
    with Case.open(tmp_path / "noise.hspnet", read_only=False) as case:
        assert case.runs == ()
    said = child(slide, tmp_path)
    assert said["ran"] == whole["ran"]
