"""A slide's metadata, records and blocks for the tests of cases."""

from pathlib import Path

import numpy as np

from napari_hspnet.cases import RunRecord
from napari_hspnet.slides import LabelBlock, Level, Region, SlideInfo


def slide_info(height=1300, width=1100, mpp=1.0, fingerprint="ab" * 32, name="biopsy.svs"):
    return SlideInfo(
        path=Path("/slides") / name,
        backend="openslide",
        vendor="aperio",
        levels=(Level((height, width), (1.0, 1.0), (240, 240)),),
        mpp=(mpp, mpp),
        mpp_source="file",
        mpp_problem=None,
        objective=20.0,
        bounds=None,
        fingerprint=fingerprint,
    )


def run_record(model="model", started="2026-11-23T10:11:12+00:00"):
    return RunRecord(
        model_name=model,
        model_sha256="12" * 32,
        card={"mpp": 1.0, "classes": ["normal"]},
        settings={"stride": 100},
        region=Region.rectangle(0, 0, 10, 20).to_dict(),
        device="cpu",
        versions={"torch": "2"},
        slide_fingerprint="ab" * 32,
        synthetic=True,
        started=started,
    )


def block(y, x, classes, score=None, high=None):
    classes = np.asarray(classes, np.uint8)
    return LabelBlock(
        y,
        x,
        classes,
        np.full(classes.shape, 200, np.uint8) if score is None else score,
        np.full(classes.shape, 90, np.uint8) if high is None else high,
    )


def random_classes(rng, shape):
    return rng.choice(np.array([0, 1, 2, 3, 4, 253, 254], np.uint8), size=shape)


def write_all(writer, y, x, classes, score, high, rows=100, columns=512, order=None):
    """Blocks of 100 rows cut at chunk borders, as the engine sends them."""
    boxes = []
    bottom, right = y + classes.shape[0], x + classes.shape[1]
    for top in range(y, bottom, rows):
        left = x
        while left < right:
            stop = min(right, (left // columns + 1) * columns)
            boxes.append((top, min(bottom, top + rows), left, stop))
            left = stop
    if order is not None:
        order.shuffle(boxes)
    for top, end, left, stop in boxes:
        cut = np.s_[top - y : end - y, left - x : stop - x]
        writer.write(LabelBlock(top, left, classes[cut], score[cut], high[cut]))
