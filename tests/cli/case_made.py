"""A case with a run, made without an engine, for the tests of commands."""

from pathlib import Path

import numpy as np
import tifffile

from napari_hspnet.cases import Case
from napari_hspnet.slides import LabelGrid, open_slide

from cases.case_tools import block, run_record

ANN, BEN = "Dr. Ann", "Dr. Ben"
SHAPE = (600, 1200)


def prediction():
    """Tissue with a CIN1 part over a chunk's border, CIN2 and a speck of CIN3; glass around."""
    values = np.full(SHAPE, 253, np.uint8)
    values[50:550, 100:1100] = 1
    values[200:400, 300:700] = 2
    values[250:260, 350:360] = 1
    values[100:150, 800:900] = 3
    values[500:502, 900:903] = 4
    return values


def write_slide(path, shape=SHAPE, grey=245):
    tifffile.imwrite(
        path,
        np.full((*shape, 3), grey, np.uint8),
        tile=(256, 256),
        photometric="rgb",
        compression="zlib",
        metadata=None,
        resolution=(1e4, 1e4),
        resolutionunit="CENTIMETER",
    )
    return path


class Clock:
    """A minute passes from one entry to the next."""

    def __init__(self, minute=0):
        self.minute = minute

    def __call__(self):
        self.minute += 1
        return f"2026-11-24T10:{self.minute:02d}:00.250+00:00"


def make_case(folder, keep_slide=False, grid_mpp=1.0, **slide):
    """Entries 1 and 2: the case, and a run that covers the slide."""
    with open_slide(write_slide(folder / "biopsy.tiff", **slide)) as opened:
        info = opened.info
    path = folder / "biopsy.hspnet"
    with Case.open_or_create(path, info, LabelGrid.of(info, grid_mpp), clock=Clock()) as case:
        run = case.start_run(run_record())
        run.write(block(0, 0, prediction()))
        run.finish(1.0)
    if not keep_slide:
        Path(info.path).unlink()
    return path


def refused(answer, *words):
    """Exit 2, one line of error with these words, nothing on stdout."""
    code, out, err = answer
    assert code == 2, err
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, err
    for word in words:
        assert word.lower() in errors[0].lower(), errors[0]
