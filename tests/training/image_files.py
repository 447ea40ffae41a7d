"""Small pictures with masks: as files, and in memory."""

from __future__ import annotations

import numpy as np
from PIL import Image

from napari_hspnet.training.data import ArrayImage


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)
    return path


def picture(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(1, 256, (height, width, 3), dtype=np.uint8)


def labels_of(height, width, seed=0, values=(0, 1, 2, 3, 4, 255)):
    """Blocks of 4 px, so that windows differ in what they hold."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice(np.array(values, np.uint8), (-(-height // 4), -(-width // 4)))
    return np.kron(blocks, np.ones((4, 4), np.uint8))[:height, :width]


def in_memory(name, height=40, width=50, seed=0, patient=None, values=(0, 1, 2, 3, 4, 255)):
    labels = labels_of(height, width, seed, values)
    return ArrayImage(name, patient or name, picture(height, width, seed), labels)


def one_class(name, patient, value, side=20):
    labels = np.full((side, side), value, np.uint8)
    return ArrayImage(name, patient, picture(side, side), labels)
