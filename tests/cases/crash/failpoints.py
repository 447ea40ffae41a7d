"""Where a reviewing process kills itself. The program itself knows nothing of them."""

import os
import signal
from pathlib import Path

from napari_hspnet.cases.case import Case
from napari_hspnet.cases.corrections import Corrections
from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.editing import Editing
from napari_hspnet.cases.journal import Journal
from napari_hspnet.cases.store import CorrectionStore

POINTS = {
    "before commit": 14,
    "after commit": 14,
    "chunk, before": 20,
    "chunk, half written": 20,
    "chunk, after": 20,
    "pyramid, before": 20,
    "pyramid, not renamed": 20,
    "pyramid, after": 20,
    "activation, before": 2,
    "activation, in between": 2,
    "activation, after": 2,
    "undo, before": 3,
    "undo, in between": 3,
    "undo, after": 3,
    "store made, before": 1,
    "store made, after": 1,
    "replay": 6,
    "seen, before": 1,
    "seen, after": 1,
}
"""Each failpoint, and the hit at which it kills at the latest."""

OFTEN = {"activation": ("run",), "undo": ("undo",)}
"""Kinds of acts that have to be done more often for a failpoint to be hit."""


class Killer:
    """Counts hits and kills at one of them."""

    def __init__(self, left, last_words):
        self._left, self._last_words = left, last_words

    def __call__(self):
        self._left -= 1
        if self._left == 0:
            self._last_words()
            os.kill(os.getpid(), signal.SIGKILL)


def install(point, kill):
    """Have `kill` called at a failpoint."""
    where, _, moment = point.partition(", ")
    if where in ("chunk", "pyramid"):
        _in_files(0 if where == "chunk" else 1, moment, kill)
    elif point in ("before commit", "after commit"):
        _around(CaseDatabase, "_commit", point.split()[0], kill)
    elif where == "activation" and moment == "in between":
        _around(CaseDatabase, "finish_run", "after", kill)
    elif where == "activation":
        _around(Case, "_finish", moment, kill)
    elif where == "undo" and moment == "in between":
        _around(Corrections, "take", "before", kill, of="undo")
    elif where == "undo":
        _around(Editing, "_again", moment, kill)
    elif where == "store made":
        _around_make(moment, kill)
    elif where == "replay":
        _around(Corrections, "_change", "after", kill)
    elif where == "seen":
        _around(Journal, "set_seen", moment, kill)
    else:
        raise ValueError(point)


def _around(owner, name, moment, kill, of=None):
    plain = getattr(owner, name)

    def wrapped(self, *args, **more):
        mine = of is None or args[0].kind == of
        if moment == "before" and mine:
            kill()
        result = plain(self, *args, **more)
        if moment == "after" and mine:
            kill()
        return result

    setattr(owner, name, wrapped)


def _around_make(moment, kill):
    plain = CorrectionStore.make

    def make(self, record):
        fresh = not self.exists
        if fresh and moment == "before":
            # Its parts are there, it is not.
            replace, Path.replace = Path.replace, lambda *_: kill()
            plain(self, record)
            Path.replace = replace
        plain(self, record)
        if fresh:
            kill()

    CorrectionStore.make = make


def _in_files(level, moment, kill):
    plain = CorrectionStore.write

    def mine(key):
        return (key[1] == 0) == (level == 0)

    if moment in ("before", "after"):

        def write(self, key, chunk):
            if moment == "before" and mine(key):
                kill()
            plain(self, key, chunk)
            if moment == "after" and mine(key):
                kill()

        CorrectionStore.write = write
        return

    def ours(path):
        parts = path.parts
        if "correction.zarr" not in parts or not path.name.endswith(".part"):
            return False
        return mine(("class", int(parts[parts.index("correction.zarr") + 2])))

    replace, write_bytes = Path.replace, Path.write_bytes

    def replaced(self, target):
        if moment == "not renamed" and ours(self):
            kill()
        return replace(self, target)

    def written(self, data):
        if moment == "half written" and ours(self):
            write_bytes(self, data[: len(data) // 2])
            kill()
        return write_bytes(self, data)

    Path.replace, Path.write_bytes = replaced, written
