"""A case with something of everything in it, and ways to damage it."""

import shutil
import sqlite3

import numpy as np
from case_tools import block, random_classes, run_record, slide_info

from napari_hspnet.cases import Case, Patch, Selection, filled
from napari_hspnet.slides import LabelGrid, PixelBox

SHAPE = (1300, 1157)
ANN, BOB = "Dr. Ann", "Dr. Bob"


def open_case(folder, shape=SHAPE, **options):
    info = slide_info(*shape)
    return Case.open_or_create(folder, info, LabelGrid.of(info), **options)


def paint(case, y, x, height, width, value, reader=ANN):
    where = np.ones((height, width), bool)
    patch = Patch(y, x, np.full((height, width), value, np.uint8), where)
    return case.editing.correct([patch], reader, "brush")


def make_case(folder):
    """Two runs, some twenty acts of two readers, regions in all states."""
    rng = np.random.default_rng(8)
    with open_case(folder) as case:
        for hour in (10, 11):
            run = case.start_run(run_record(f"model {hour}", f"2026-11-23T{hour}:00:00+00:00"))
            run.write(block(hour * 10, 50, random_classes(rng, (700, 800))))
            run.finish(1.0)
        for number in range(12):
            y, x = int(rng.integers(0, 1100)), int(rng.integers(0, 900))
            paint(case, y, x, 150, 200, number % 5, (ANN, BOB)[number % 2])
        box = Selection.of_box(PixelBox(200, 100, 1200, 1100), SHAPE)
        case.editing.correct(filled(box, 2), ANN, "shape")
        case.editing.undo(ANN)
        case.editing.undo(BOB)
        case.editing.redo(BOB)
        noise = rng.integers(0, 5, (90, 80)).astype(np.uint8)
        case.editing.correct([Patch(700, 20, noise, rng.random((90, 80)) < 0.5)], BOB, "other")
        boxes = [PixelBox(0, 0, 40, 50), PixelBox(500, 500, 600, 600), PixelBox(900, 9, 950, 99)]
        case.review.add([Selection.of_box(box, SHAPE) for box in boxes], "drawn", ANN)
        case.review.set_tag([2], "metaplasia", ANN)
        case.review.comment(2, "Ask again: µ?", BOB)
        case.review.set_state([2, 3], "signed off", BOB)
        return shown(case)


def copied(case, folder):
    shutil.copytree(case, folder)
    return folder


def shown(case, what="classes"):
    return case.composite().read(0, 0, *SHAPE, what=what)


def files(folder):
    """Name and content of every file in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def overwrite(path, at, data):
    content = bytearray(path.read_bytes())
    assert content[at : at + len(data)] != data
    content[at : at + len(data)] = data
    path.write_bytes(content)


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x5A
    path.write_bytes(content)


def change(folder, sql, *parameters):
    """Change the database behind the case's back."""
    db = sqlite3.connect(folder / "case.sqlite")
    with db:
        count = db.execute(sql, parameters).rowcount
    db.close()
    assert count


def chunk_file(folder, row, col, level=0):
    return folder / "correction.zarr" / "class" / str(level) / "c" / str(row) / str(col)
