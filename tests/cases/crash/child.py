"""A scripted review that kills itself: run with a folder and its orders, a JSON object.

Before and after each act it says so to the recorder, over the pipe that it is given.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from case_tools import block, run_record, slide_info
from failpoints import OFTEN, Killer, install
from plain import SHAPE, load, run_classes, stroke_mask

from napari_hspnet.cases import Case, Patch, Selection, accepted, filled
from napari_hspnet.errors import RegionLockedError
from napari_hspnet.slides import LabelGrid, PixelBox

READER = "Dr. Ann"
SLOW = {"torch", "torchvision", "qtpy", "PyQt6", "napari"}


def perform(case, act):
    """An act of the plain model, done to a case: "done", "nothing" or "refused"."""
    try:
        return _perform(case, act)
    except RegionLockedError:
        return "refused"


def _perform(case, act):
    kind = act["kind"]
    if kind == "stroke":
        y, x, mask = stroke_mask(act)
        patch = Patch(y, x, np.full(mask.shape, act["value"], np.uint8), mask)
        result = case.editing.correct([patch], READER, "brush", continues=act["continues"])
        return "done" if result.entry else "nothing"
    if kind in ("fill", "accept", "region"):
        selection = Selection.of_box(PixelBox(*act["box"]), SHAPE)
        if kind == "region":
            case.review.add([selection], "drawn", READER)
            return "done"
        if kind == "fill":
            patches = filled(selection, act["value"])
        else:
            patches = accepted(selection, case.composite())
        return "done" if case.editing.correct(patches, READER, kind).entry else "nothing"
    if kind in ("undo", "redo"):
        return "done" if getattr(case.editing, kind)(READER) else "nothing"
    if kind == "run":
        y, x, classes = run_classes(act)
        with case.start_run(run_record(model=act["name"])) as run:
            for row in range(0, classes.shape[0], 100):
                run.write(block(y + row, x, classes[row : row + 100]))
            run.finish(1.0)
        return "done"
    if kind == "active":
        ids = {run.record.model_name: run.id for run in case.runs}
        case.set_active([ids[name] for name in act["order"]])
        return "done"
    case.review.set_state([act["id"]], act["state"], READER)
    return "done"


def main(folder, orders):
    pipe = orders["pipe"]

    def tell(**said):
        os.write(pipe, json.dumps(said).encode() + b"\n")

    def last_words():
        tell(killed=orders["point"], slow=sorted(SLOW & set(sys.modules)))

    plain = load(Path(orders["acts"]))
    kill = Killer(orders["hit"], last_words)
    early = orders["point"].startswith(("replay", "store made"))
    if early:
        install(orders["point"], kill)
    info = slide_info(*SHAPE)
    case = Case.open_or_create(folder, info, LabelGrid.of(info))
    # The others are about what is done, not about what opening makes up for.
    if not early:
        install(orders["point"], kill)
    often = OFTEN.get(orders["point"].partition(",")[0], ())
    for number in range(orders["count"]):
        act = plain.propose(orders["seed"] * 1000 + number, often)
        tell(about=act)
        outcome = perform(case, act)
        expected = plain.do(act)
        tell(done=act, sha=plain.digest(), outcome=outcome, expected=expected)
    case.close()
    last_words()


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
