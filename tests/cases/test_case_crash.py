"""A review that is killed again and again loses no act that was acknowledged.

A child process does a scripted review and kills itself with SIGKILL at a failpoint;
a recorder, a process of its own, keeps what the child said that it would do and had
done. After each kill the case must be what a model of plain arrays says: after the
acts acknowledged, or after those and the one that was under way, and nothing else.

SIGKILL takes the process and leaves the operating system: what was written to a file
is there afterwards, with or without fsync. These tests therefore say nothing about
fsync, nor about loss of power; for those SQLite's ``synchronous = FULL`` stands, and
that the journal is replayed on a ``correction.zarr`` that was not synced.
"""

import collections
import copy
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

CRASH = Path(__file__).parent / "crash"
sys.path.insert(0, str(CRASH))

from child import perform  # noqa: E402
from failpoints import POINTS  # noqa: E402
from plain import SHAPE, Plain, level_of  # noqa: E402

from napari_hspnet.cases import Case  # noqa: E402
from napari_hspnet.cases.verify import verify_case  # noqa: E402

KILLS_PER_CASE = 7

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no SIGKILL here")


class Review:
    """One case through several crashes, with the model that it is held against."""

    def __init__(self, folder):
        self.folder = folder
        self.case = folder / "a.hspnet"
        self.plain, self.acts, self.kills = Plain(), [], 0
        folder.mkdir()

    def go_on(self, point, hit, seed):
        """A child reviews until it is killed; whether it was. Then the case is checked."""
        if point.startswith("store made") and self.case.exists():
            # The store is made once; a folder that somebody deleted is made anew.
            shutil.rmtree(self.case / "correction.zarr", ignore_errors=True)
        if point == "replay":
            # So that there is something to replay, on chunks of which some are newer.
            self._count(self._session("chunk, after", 12, f"{seed}-before")[0])
        under_way, killed = self._session(point, hit, seed)
        assert killed or under_way is None
        self.kills += killed
        self.check(under_way)
        return killed

    def _session(self, point, hit, seed):
        """The act that was under way, and whether the child was killed in it."""
        said, code = self._child(point, hit, seed)
        assert code in (0, -9), said
        assert said[-1].get("killed") == point, said[-1:]
        assert said[-1]["slow"] == []
        under_way = None
        for line in said[:-1]:
            if "about" in line:
                under_way = line["about"]
                continue
            assert line["outcome"] == line["expected"]
            self._count(line["done"])
            assert line["sha"] == self.plain.digest()
            under_way = None
        return under_way, code == -9

    def _child(self, point, hit, seed):
        record, acts = self.folder / f"record-{seed}", self.folder / "acts"
        acts.write_text(json.dumps(self.acts))
        listening, telling = os.pipe()
        try:
            recorder = subprocess.Popen(
                [sys.executable, "-I", str(CRASH / "recorder.py"), str(record)], stdin=listening
            )
        finally:
            os.close(listening)
        orders = {"point": point, "hit": hit, "pipe": telling, "count": 30}
        orders["seed"] = int(str(seed).partition("-")[0]) + 7000 * ("-" in str(seed))
        try:
            child = subprocess.Popen(
                [
                    *(sys.executable, str(CRASH / "child.py"), str(self.case)),
                    json.dumps({**orders, "acts": str(acts)}),
                ],
                pass_fds=[telling],
            )
        finally:
            os.close(telling)
        code = child.wait(60)
        assert recorder.wait(60) == 0
        return [json.loads(line) for line in record.read_text().splitlines()], code

    def _count(self, act):
        self.plain.do(act)
        self.acts.append(act)

    def check(self, under_way):
        if not (self.case / "case.sqlite").exists():
            assert not self.acts
            return
        assert verify_case(self.case).damages == ()
        with Case.open(self.case, read_only=False) as case:
            found = state(case)
            if found != self.plain.state():
                assert under_way is not None, "an acknowledged act is gone"
                before = copy.deepcopy(self.plain)
                self._count(under_way)
                assert found == self.plain.state(), (before.state(), under_way)
            assert list(case.journal.verify()) == []
            self._compare(case)
            for act in ({"kind": "undo"}, {"kind": "redo"}):
                assert perform(case, act) == self.plain.do(act)
                self.acts.append(act)
                assert state(case) == self.plain.state()
        assert verify_case(self.case).damages == ()

    def _compare(self, case):
        """What is shown, stored and replayed, bit for bit, at all levels."""
        now, past = case.composite(), case.at(case.journal.last)
        assert len(now.levels) == 3
        for level in range(3):
            for what, whole in (
                ("classes", self.plain.shown()),
                ("correction", self.plain.correction),
            ):
                wanted = level_of(whole, level)
                for composite in (now, past):
                    found = composite.read(0, 0, *wanted.shape, level, what)
                    assert np.array_equal(found, wanted), (level, what, composite is past)


def state(case):
    """As `Plain.state` gives it."""
    names = {run.id: run.record.model_name for run in case.runs}
    shown = case.composite()

    def digest(what):
        return hashlib.sha256(shown.read(0, 0, *SHAPE, what=what).tobytes()).hexdigest()

    history = case.editing._acts()
    boxes = ((r.id, [r.box.y0, r.box.x0, r.box.y1, r.box.x1], r.state) for r in case.review.regions)
    return {
        "shown": digest("classes"),
        "correction": digest("correction"),
        "active": [names[run_id] for run_id in case.active],
        "regions": [list(region) for region in boxes],
        "acts": [len(history.done), len(history.undone)],
    }


def test_no_acknowledged_act_is_lost(tmp_path, pytestconfig):
    wanted = pytestconfig.getoption("crash_kills", 20)
    began = time.monotonic()
    histogram = collections.Counter(dict.fromkeys(POINTS, 0))
    rng = random.Random(20)
    review = Review(tmp_path / "0")
    seed = 0
    while histogram.total() < wanted:
        point = min(POINTS, key=histogram.__getitem__)
        seed += 1
        assert seed < 3 * wanted + 60, histogram
        killed = review.go_on(point, rng.randint(1, POINTS[point]), seed)
        histogram[point] += killed
        if not killed or review.kills >= KILLS_PER_CASE:
            review = Review(tmp_path / str(seed))
    took = time.monotonic() - began
    print(f"\n{histogram.total()} kills in {took:.0f} s; {seed - histogram.total()} reviews lived")
    for point, count in histogram.items():
        print(f"  {point:24} {count:4} {'#' * count}")


def test_the_reviewing_process_starts_fast_without_torch_and_qt():
    code = "import sys, child; print(sorted(child.SLOW & set(sys.modules)))"
    began = time.monotonic()
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=CRASH, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"
    assert time.monotonic() - began < 5
