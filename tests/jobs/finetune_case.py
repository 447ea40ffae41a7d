"""Small cases that teach: colours stand for classes, and two of them were predicted wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from napari_hspnet.cases import Case, Patch, Selection
from napari_hspnet.jobs.finetune_request import FinetuneOptions, FinetuneRequest, FinetuneSource
from napari_hspnet.networks import Architecture, ModelCard, build, save_checkpoint
from napari_hspnet.slides import LabelGrid, PixelBox, open_slide

from cases.case_tools import block, run_record
from slide_files import write_generic_tiff

COLOURS = np.array(
    [[240, 240, 240], [200, 150, 200], [60, 160, 90], [70, 70, 190], [170, 40, 40]], np.uint8
)
ARCHITECTURE = Architecture.from_json(
    {
        "encoder": "small",
        "ds_widths": [4] * 5,
        "head_widths": [8, 8],
        "encoder_widths": [8, 8, 8, 8],
    }
)
BOXES = tuple(PixelBox(y, x, y + 112, x + 112) for y in (8, 136) for x in (8, 136, 264, 392))
CONFIG = """
[patches]
side = 64
stride = 48
[recipe]
batch = 4
learning_rate = 0.003
encoder_factor = 1.0
precision = "float32"
[machine]
device = "cpu"
workers = 0
"""


def truth_of(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(1, 5, (8, 16)), np.ones((32, 32))).astype(np.uint8)


def made_case(folder: Path, seed: int = 0, correct: bool = True) -> FinetuneSource:
    """Eight reviewed regions of 112 µm; a run that takes CIN2 for CIN1, and its correction."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = truth_of(seed)
    rng = np.random.default_rng((seed, 1))
    rgb = COLOURS[truth].astype(np.int64) + rng.integers(-9, 10, (*truth.shape, 3))
    path = write_generic_tiff(folder / "slide.tiff", [rgb.clip(0, 255).astype(np.uint8)], 1.0)
    wrong = np.where(truth == 3, np.uint8(2), truth)
    with (
        open_slide(path) as slide,
        Case.open_or_create(folder / "a.hspnet", slide.info, LabelGrid.of(slide.info)) as case,
    ):
        run = case.start_run(run_record("model"))
        run.write(block(0, 0, wrong))
        run.finish(1.0)
        if correct:
            case.editing.correct([Patch(0, 0, truth, truth != wrong)], "Dr. A", "brush")
        case.review.add([Selection.of_box(b, truth.shape) for b in BOXES], "tile", "Dr. A")
        case.review.set_state(list(range(1, len(BOXES) + 1)), "reviewed", "Dr. A")
    return FinetuneSource(folder / "a.hspnet", path, f"patient {seed}")


def made_model(path: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(ARCHITECTURE)
    card = ModelCard("tiny", ARCHITECTURE, window=64, trained_on="nothing", synthetic=True)
    save_checkpoint(path, network, card)
    return path


@dataclass(frozen=True)
class Made:
    sources: tuple[FinetuneSource, ...]
    model: Path

    def request(self, folder: Path, config: str = CONFIG, **options) -> FinetuneRequest:
        given = {"epochs": 1, "registry": folder.parent / "models", "by": "Dr. A", **options}
        return FinetuneRequest(
            self.sources, self.model, FinetuneOptions(config=config, **given), folder
        )


def made(folder: Path, count: int = 3) -> Made:
    sources = tuple(made_case(folder / f"case{i}", i) for i in range(count))
    return Made(sources, made_model(folder / "parent.safetensors"))
