"""A slide whose CIN2 a run took for CIN1, and a window in which one teaches a small model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from clicking import click

from jobs.finetune_case import ARCHITECTURE, COLOURS
from napari_hspnet.cases import Case, Patch, Selection, default_case_folder
from napari_hspnet.jobs.finetune import FinetuneResult
from napari_hspnet.jobs.finetune_events import Done, Prepared
from napari_hspnet.networks import ModelCard, build, save_checkpoint
from napari_hspnet.networks.registry import Registry
from napari_hspnet.slides import LabelGrid, PixelBox, Region, open_slide

from cases.case_tools import block, run_record
from slide_files import write_generic_tiff

ANN = "Dr. Ann"
SIDE, CELL, SPOT = 2400, 200, 120
"""µm: of the slide, of the lattice on it, and of a spot in the lattice."""

BOXES = tuple(
    PixelBox(y, x, y + 560, x + 560) for y in range(20, 2400, 600) for x in range(20, 2400, 600)
)
CONFIG = """
[patches]
side = 64
stride = 128
[recipe]
batch = 8
learning_rate = 0.01
encoder_factor = 1.0
precision = "float32"
[machine]
device = "cpu"
workers = 0
"""
LONG = 600.0


def truth() -> np.ndarray:
    """Spots of CIN1, CIN2 and CIN3 on normal tissue."""
    said = np.ones((SIDE, SIDE), np.uint8)
    rng = np.random.default_rng(3)
    for y in range(0, SIDE, CELL):
        for x in range(0, SIDE, CELL):
            said[y + 40 : y + 40 + SPOT, x + 40 : x + 40 + SPOT] = rng.integers(2, 5)
    return said


def predicted() -> np.ndarray:
    """What the run said: no CIN2."""
    said = truth()
    said[said == 3] = 2
    return said


def spots(value: int) -> list[tuple[int, int]]:
    """(y, x) within each spot of a class."""
    middle = 40 + SPOT // 2
    there = truth()
    places = range(middle, SIDE, CELL)
    return [(y, x) for y in places for x in places if there[y, x] == value]


def slide_file(folder: Path) -> Path:
    rng = np.random.default_rng(1)
    rgb = COLOURS[truth()].astype(np.int64) + rng.integers(-9, 10, (SIDE, SIDE, 3))
    pixels = rgb.clip(0, 255).astype(np.uint8)
    return write_generic_tiff(folder / "biopsy.tiff", [pixels], 1.0, tile=256)


def case_of(
    slide: Path,
    corrected: int | None = None,
    state: str = "reviewed",
    regions=BOXES,
    run_on: Region | None = None,
) -> Path:
    """The slide's case: a run, regions, and so many CIN2 spots corrected (all without)."""
    said = truth()
    with open_slide(slide) as opened:
        info = opened.info
    folder = default_case_folder(info)
    with Case.open_or_create(folder, info, LabelGrid.of(info)) as case:
        record = run_record("tiny")
        record.region.clear()
        record.region.update((run_on or Region.slide()).to_dict())
        run = case.start_run(record)
        run.write(block(0, 0, predicted()))
        run.finish(1.0)
        where = np.zeros(said.shape, bool)
        for y, x in spots(3)[:corrected]:
            half = SPOT // 2
            where[y - half : y + half, x - half : x + half] = True
        if where.any():
            case.editing.correct([Patch(0, 0, said, where)], ANN, "brush")
        if regions:
            case.review.add([Selection.of_box(b, said.shape) for b in regions], "drawn", ANN)
            if state != "to do":
                case.review.set_state(list(range(1, len(regions) + 1)), state, ANN)
    return folder


def small_model(path: Path, name: str = "tiny", seed: int = 0, **card) -> Path:
    """A model that knows nothing yet; large windows, so that judging takes few of them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build(ARCHITECTURE)
    said = {"window": 128, "trained_on": "nothing", "synthetic": True, **card}
    save_checkpoint(path, network, ModelCard(name, ARCHITECTURE, **said))
    return path


def config_file(folder: Path, text: str = CONFIG) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


@dataclass(frozen=True)
class Verdict:
    """A verdict that was made up, as JSON."""

    decision: str
    text: str
    cin2: tuple[float, float, float, float]
    alarm: bool = False

    def to_json(self) -> dict:
        before, after, low, high = self.cin2
        same = {
            "before": 0.8,
            "after": 0.81,
            "difference": 0.01,
            "interval": [-0.01, 0.03],
            "decision": "no difference",
            "alarm": False,
            "doubt": False,
        }
        few = {**same, "interval": [None, None], "decision": "too few to judge"}
        own = few if self.decision == "too few to judge" else same
        cin2 = {
            **own,
            "before": before,
            "after": after,
            "difference": after - before,
            "decision": self.decision,
            "alarm": self.alarm,
        }
        if self.decision != "too few to judge":
            cin2["interval"] = [low, high]
        keys = ("dice_normal", "dice_CIN1", "dice_CIN3", "mean_dice", "cin2_agreement")
        held = {
            "units": 4,
            "patients": 2,
            "mm2": 1.2,
            "too_small": "",
            "intervals": "drawn by patient",
            "synthetic": False,
            "changes": {**dict.fromkeys(keys, own), "dice_CIN2": cin2},
        }
        return {
            "decision": self.decision,
            "refused": self.decision == "worse",
            "level": 0.95,
            "held_back": held,
            "reference": None,
            "text": self.text,
        }


GOOD = Verdict(
    "better", "On the regions held back Dice for CIN2 rose.\nAccept?", (0.61, 0.7, 0.04, 0.13)
)
BAD = Verdict(
    "worse", "On the regions held back Dice for CIN2 fell.\nRefused.", (0.8, 0.41, -0.5, -0.3)
)
FEW = Verdict("too few to judge", "Too few to judge: 1 region.", (0.8, 0.7, 0.0, 0.0))


def result_of(verdict: Verdict, folder: Path, pictures=()) -> FinetuneResult:
    """A fine-tuning with that verdict, its candidate in the registry."""
    path = small_model(folder / "candidate.safetensors", "taught", 7)
    sha256 = Registry().add(path, "candidate", ANN).sha256
    done = Done(
        str(path),
        sha256,
        verdict.to_json(),
        verdict.text,
        verdict.decision,
        verdict.decision == "better",
        [list(one) for one in pictures],
    )
    return FinetuneResult(path, sha256, done, Prepared({}, "", ""), ())


def waiting_model(
    verdict: Verdict | dict, folder: Path, parent: str, seed: int = 7, note: str = "fine-tuned"
) -> str:
    """A candidate as a fine-tuning of yesterday has left it; returns its SHA-256."""
    said = verdict if isinstance(verdict, dict) else verdict.to_json()
    card = {"parent": parent, "metrics": {"verdict": said}}
    path = small_model(folder / f"taught {seed}.safetensors", "taught", seed, **card)
    return Registry().add(path, "candidate", ANN, f"{note} from {parent[:12]}").sha256


def learned(dock, qtbot, wait):
    """Press Fine-tune and wait for the verdict."""
    click(qtbot, dock.teach_view.teach)
    wait(lambda: dock.teaching.running, 20)
    wait(lambda: not dock.teaching.running, LONG)


def children() -> set[int]:
    """Processes that this one has started and that live."""
    import psutil

    found = psutil.Process().children(recursive=True)
    return {p.pid for p in found if p.status() != psutil.STATUS_ZOMBIE}


def alive(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
