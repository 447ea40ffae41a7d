"""A case as plain arrays: what a review must have come to, worked out without our code."""

import hashlib
import itertools
import json
import random

import numpy as np

SHAPE = (2100, 700)
"""Three levels; five rows of chunks, two columns."""

VALUES = np.array([0, 1, 2, 3, 4, 253, 254, 255], np.uint8)


class Plain:
    """Runs, corrections, undo and review regions of one slide."""

    def __init__(self):
        self.runs = {}
        self.active = []
        self.correction = np.full(SHAPE, 255, np.uint8)
        self.done, self.undone = [], []
        self.regions = {}

    def prediction(self):
        out = np.full(SHAPE, 255, np.uint8)
        for name in self.active:
            run = self.runs[name]
            out = np.where(run != 255, run, out)
        return out

    def shown(self):
        return np.where(self.correction != 255, self.correction, self.prediction())

    def locked(self):
        mask = np.zeros(SHAPE, bool)
        for (y0, x0, y1, x1), state in self.regions.values():
            mask[y0:y1, x0:x1] |= state == "signed off"
        return mask

    def digest(self):
        return hashlib.sha256(self.shown().tobytes()).hexdigest()

    def state(self):
        """All of it in a form that can be compared."""
        return {
            "shown": self.digest(),
            "correction": hashlib.sha256(self.correction.tobytes()).hexdigest(),
            "active": list(self.active),
            "regions": [[n, list(box), state] for n, (box, state) in sorted(self.regions.items())],
            "acts": [len(self.done), len(self.undone)],
        }

    def do(self, act):
        """Carry out an act: "done", "nothing" or "refused"."""
        return getattr(self, f"_{act['kind']}")(act)

    def _stroke(self, act):
        y, x, mask = stroke_mask(act)
        values = np.full(mask.shape, act["value"], np.uint8)
        return self._write(y, x, values, mask, act["continues"])

    def _fill(self, act):
        y0, x0, y1, x1 = act["box"]
        values = np.full((y1 - y0, x1 - x0), act["value"], np.uint8)
        return self._write(y0, x0, values, np.ones(values.shape, bool), False)

    def _accept(self, act):
        y0, x0, y1, x1 = act["box"]
        values = self.shown()[y0:y1, x0:x1]
        return self._write(y0, x0, values, values <= 4, False)

    def _write(self, y, x, values, where, continues):
        at = np.s_[y : y + values.shape[0], x : x + values.shape[1]]
        before = self.correction[at].copy()
        changed = where & (values != before)
        allowed = changed & ~self.locked()[at]
        if not changed.any():
            return "nothing"
        if not allowed.any():
            return "refused"
        after = np.where(allowed, values, before)
        self.correction[at] = after
        if continues and self.done and not self.undone:
            self.done[-1].append((at, before, after))
        else:
            self.done.append([(at, before, after)])
        self.undone.clear()
        return "done"

    def _undo(self, act):
        return self._again(self.done, self.undone, back=True)

    def _redo(self, act):
        return self._again(self.undone, self.done, back=False)

    def _again(self, source, target, back):
        if not source:
            return "nothing"
        locked = self.locked()
        if any((locked[at] & (before != after)).any() for at, before, after in source[-1]):
            return "refused"
        pieces = source.pop()
        target.append(pieces)
        for at, before, after in reversed(pieces) if back else pieces:
            self.correction[at] = before if back else after
        return "done"

    def _run(self, act):
        y, x, classes = run_classes(act)
        whole = np.full(SHAPE, 255, np.uint8)
        whole[y : y + classes.shape[0], x : x + classes.shape[1]] = classes
        self.runs[act["name"]] = whole
        self.active.append(act["name"])
        return "done"

    def _active(self, act):
        self.active = list(act["order"])
        return "done"

    def _region(self, act):
        self.regions[len(self.regions) + 1] = (tuple(act["box"]), "to do")
        return "done"

    def _state(self, act):
        self.regions[act["id"]] = (self.regions[act["id"]][0], act["state"])
        return "done"

    def propose(self, seed, often=()):
        """The next act of a scripted review; `often` names kinds to be done more often."""
        rng = random.Random(seed)
        kinds = ["stroke"] * 6 + ["fill", "fill", "accept", "undo", "undo", "redo", "region"]
        kinds += ["state", "run", "active", *list(often) * 8]
        kind = rng.choice(kinds)
        if kind == "stroke":
            return self._proposed_stroke(rng)
        if kind in ("fill", "accept", "region"):
            height, width = rng.choice([(60, 50), (700, 400), (1200, 650)])
            if kind == "region":
                height, width = 90, 80
            y, x = rng.randrange(SHAPE[0] - height), rng.randrange(SHAPE[1] - width)
            act = {"kind": kind, "box": [y, x, y + height, x + width]}
            return act | ({"value": rng.randrange(5)} if kind == "fill" else {})
        if kind == "state" and self.regions:
            state = rng.choice(["in progress", "reviewed", "signed off"])
            return {"kind": "state", "id": rng.choice(sorted(self.regions)), "state": state}
        if kind == "active" and self.runs:
            count = rng.randint(1, min(3, len(self.runs)))
            return {"kind": "active", "order": rng.sample(sorted(self.runs), count)}
        if kind in ("run", "active", "state") and len(self.runs) < 20:
            height, width = rng.choice([(300, 200), (900, 600)])
            y, x = rng.randrange(SHAPE[0] - height), rng.randrange(SHAPE[1] - width)
            box = [y, x, y + height, x + width]
            return {"kind": "run", "name": f"run {seed}", "box": box, "seed": rng.randrange(1000)}
        if kind in ("undo", "redo"):
            return {"kind": kind}
        return self._proposed_stroke(rng)

    @staticmethod
    def _proposed_stroke(rng):
        # From about a border between chunks, so that it crosses one.
        y = max(0, min(SHAPE[0] - 1, rng.choice([512, 1024, 1536, 2048]) + rng.randint(-40, 40)))
        x = max(0, min(SHAPE[1] - 1, 512 + rng.randint(-200, 150)))
        points = [[y, x]]
        for _ in range(rng.randint(2, 6)):
            y = max(0, min(SHAPE[0] - 1, y + rng.randint(-50, 50)))
            x = max(0, min(SHAPE[1] - 1, x + rng.randint(-50, 50)))
            points.append([y, x])
        return {
            "kind": "stroke",
            "points": points,
            "radius": rng.randint(2, 25),
            "value": rng.choice([0, 1, 2, 3, 4, 255]),
            "continues": rng.random() < 0.3,
        }


def stroke_mask(act):
    """First row and column of a stroke's box on the slide, and its pixels there."""
    points, radius = np.array(act["points"]), act["radius"]
    y0, x0 = np.maximum(points.min(axis=0) - radius, 0)
    y1, x1 = np.minimum(points.max(axis=0) + radius + 1, SHAPE)
    rows, columns = np.ogrid[y0:y1, x0:x1]
    mask = np.zeros((y1 - y0, x1 - x0), bool)
    for one, two in itertools.pairwise(points):
        for part in np.linspace(0, 1, 12):
            y, x = one + (two - one) * part
            mask |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return int(y0), int(x0), mask


def run_classes(act):
    """First row and column of a run, and its classes: squares of 16 pixels."""
    y0, x0, y1, x1 = act["box"]
    rng = np.random.default_rng(act["seed"])
    coarse = rng.choice(VALUES, size=(-(-(y1 - y0) // 16), -(-(x1 - x0) // 16)))
    return y0, x0, coarse.repeat(16, 0).repeat(16, 1)[: y1 - y0, : x1 - x0]


def level_of(values, level):
    """A level as DESIGN.md defines it: pixel i is pixel i * 2**k + 2**(k - 1), clipped."""
    if level == 0:
        return values
    step, half = 2**level, 2 ** (level - 1)
    rows, columns = (
        np.minimum(np.arange(-(-size // step)) * step + half, size - 1) for size in values.shape
    )
    return values[rows][:, columns]


def load(path):
    """The case as it stands after the acts in a file."""
    plain = Plain()
    for act in json.loads(path.read_text()):
        plain.do(act)
    return plain
