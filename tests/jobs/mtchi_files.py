"""MTCHI's layout with coloured blocks instead of tissue: fast to write and to learn."""

from __future__ import annotations

import numpy as np
from PIL import Image

from napari_hspnet.training.config import (
    DataConfig,
    MachineConfig,
    NetworkConfig,
    PatchConfig,
    RecipeConfig,
    TrainConfig,
)

TINY = {"ds_widths": [4] * 5, "head_widths": [8, 8], "encoder_widths": [8, 8, 8, 8]}
COLOURS = np.array(
    [[240, 240, 240], [200, 150, 200], [60, 160, 90], [70, 70, 190], [170, 40, 40]], np.uint8
)
TRAINING = ("B1-1-A", "B1-2-B", "B2-1-A", "B3-1-A", "B4-1-A", "B5-1-A", "B5-2-A", "B6-1-A")
TEST = ("T1-1-A", "T1-2-A", "T2-1-A")


def block_image(number: int):
    """RGB and labels of 128 x 128 px, all classes in them."""
    rng = np.random.default_rng(number)
    truth = np.kron(rng.permutation(16).reshape(4, 4) % 5, np.ones((32, 32))).astype(np.uint8)
    return COLOURS[truth], truth


def save(path, array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def write_mtchi(folder):
    for part, names in (("Training", TRAINING), ("Test", TEST)):
        for number, name in enumerate(names):
            rgb, truth = block_image(number + 100 * (part == "Test"))
            save(folder / f"Task2/{part}/Img/Crop_{name}.png", rgb)
            save(folder / f"Task2/{part}/Truth/Mask_{name}.png", truth)
    return folder


def quick_config(data: DataConfig, **others) -> TrainConfig:
    given = {
        "network": NetworkConfig("demo", "none", architecture=TINY),
        "patches": PatchConfig(64, 64, 0.2),
        "recipe": RecipeConfig(batch=2, epochs=1, precision="float32"),
        "machine": MachineConfig("cpu", workers=0),
    }
    return TrainConfig(data, **{**given, **others})
