"""A label source and its description for the tests of exports."""

import numpy as np

from napari_hspnet.exchange import ExportInfo
from napari_hspnet.slides import LabelGrid


class ArrayLabels:
    """Labels from an array; remembers the largest box that was asked for."""

    def __init__(self, values, mpp=1.0):
        self.values = np.asarray(values, np.uint8)
        self.grid = LabelGrid(self.values.shape, mpp)
        self.largest = 0

    def read(self, y, x, height, width):
        assert y >= 0
        assert x >= 0
        self.largest = max(self.largest, height * width)
        part = self.values[y : y + height, x : x + width]
        assert part.shape == (height, width)
        return part


def about(labels, **changes):
    said = {
        "slide_name": "B 12 µ<&>.svs",
        "slide_fingerprint": "ab" * 32,
        "slide_mpp": (0.5, 0.25),
        "bounds": None,
        "grid": labels.grid,
        "model_name": "demo",
        "model_sha256": "12" * 32,
        "model_card": {"mpp": 1.0},
        "run_ids": ("20261123-a",),
        "readers": ("Dr. Æ",),
        "synthetic": True,
    }
    return ExportInfo(**{**said, **changes})


def blobs(rng, shape, values=(0, 1, 2, 3, 4, 253, 254, 255)):
    """Large and small patches of all values."""
    coarse = rng.choice(np.array(values, np.uint8), size=(shape[0] // 37 + 1, shape[1] // 29 + 1))
    full = np.kron(coarse, np.ones((37, 29), np.uint8))[: shape[0], : shape[1]].copy()
    noise = rng.random(shape) < 0.02
    full[noise] = rng.choice(np.array(values, np.uint8), size=int(noise.sum()))
    return full
