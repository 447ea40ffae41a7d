"""The window is killed in the middle of a stroke."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from correcting import ANN, SHAPE, predicted

from napari_hspnet.cases import Case

pytestmark = pytest.mark.gui


def test_a_kill_in_the_middle_of_a_stroke_loses_nothing_that_was_saved(wide_path, wide_case):
    script = Path(__file__).with_name("killed_window.py")
    child = subprocess.Popen(
        [sys.executable, str(script), str(wide_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        acknowledged = [int(child.stdout.readline()) for _ in range(3)]
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    with Case.open(wide_case, read_only=False) as case:
        assert case.journal.last >= acknowledged[-1] >= 5
        assert not list(case.journal.verify())
        parts = [e for e in case.journal.entries() if e.kind == "edit"]
        assert all(e.reader == ANN for e in parts)
        assert [bool(e.body.get("continues")) for e in parts] == [False] + [True] * (len(parts) - 1)
        now = case.composite().read(0, 0, *SHAPE)
        assert (now != predicted()).sum() > 1000
        np.testing.assert_array_equal(now, case.at(case.journal.last).read(0, 0, *SHAPE))
        # The stroke is one act, killed or not.
        case.editing.undo(ANN)
        np.testing.assert_array_equal(case.composite().read(0, 0, *SHAPE), predicted())
