"""A slide file and a case of it with a run, corrections and review regions."""

from contextlib import contextmanager

import numpy as np

from napari_hspnet.cases import Case, CaseSnapshot, Patch, Selection
from napari_hspnet.slides import LabelGrid, PixelBox, Region, open_slide

from cases.case_tools import block, run_record
from slide_files import noise, write_generic_tiff

SHAPE = (650, 450)
HOSTILE = "<script>alert(1)</script> & Co"
COMMENT = 'Frau <b>Meyer</b>, see "other" slide'
NAME = "Meyer_Anna.tiff"


def write_slide(folder, seed=3):
    """1300 x 900 px at 0.5 µm, and half of it."""
    full = noise(2 * SHAPE[0], 2 * SHAPE[1], seed)
    half = full.reshape(SHAPE[0], 2, SHAPE[1], 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    return write_generic_tiff(folder / NAME, [full, half], 0.5)


def prediction():
    values = np.full(SHAPE, 253, np.uint8)
    values[50:600, 40:420] = 1
    values[100:300, 60:260] = 2
    values[150:200, 100:160] = 3
    values[500:530, 300:350] = 4
    values[520:524, 60:64] = 4
    values[300:320, 40:60] = 254
    values[340:400, 300:380] = 0
    values[620:, :] = 255
    return values


def paint(case, y, x, height, width, value, reader):
    values = np.full((height, width), value, np.uint8)
    case.editing.correct([Patch(y, x, values, values < 255)], reader, "brush")


@contextmanager
def made_case(folder):
    """Region 1 signed off (a triangle), 2 reviewed, 3 reviewed and tagged, 4 to do."""
    path = write_slide(folder)
    with open_slide(path) as slide:
        grid = LabelGrid.of(slide.info)
        assert grid.shape == SHAPE
        with Case.open_or_create(folder / "a.hspnet", slide.info, grid) as case:
            run = case.start_run(run_record("demo <model>"))
            values = prediction()
            run.write(block(0, 0, values[:512]))
            run.write(block(512, 0, values[512:]))
            run.finish(12.0)
            paint(case, 110, 70, 40, 50, 4, HOSTILE)
            paint(case, 350, 310, 20, 20, 0, "Dr. B")
            triangle = Region.shapes([[(90.0, 50.0), (90.0, 280.0), (310.0, 50.0)]])
            for what, kind in (
                (Selection.of_region(triangle, grid), "drawn"),
                (Selection.of_box(PixelBox(480, 280, 560, 380), SHAPE), "tile"),
                (Selection.of_box(PixelBox(330, 280, 410, 400), SHAPE), "tile"),
                (Selection.of_box(PixelBox(600, 0, 650, 90), SHAPE), "tile"),
            ):
                case.review.add([what], kind, "Dr. B")
            case.review.comment(1, COMMENT, HOSTILE)
            case.review.set_state([2, 3], "reviewed", "Dr. B")
            case.review.set_tag([3], "artefact", "Dr. B")
            case.review.set_state([1], "signed off", HOSTILE)
            yield case, CaseSnapshot.of(case), slide
