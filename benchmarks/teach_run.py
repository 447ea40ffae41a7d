"""One fine-tuning of the benchmark `teach`, and how parent and candidate do; a process each."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import numpy as np

from napari_hspnet.jobs.threads import let_threads_sleep

__all__ = ["VARIANTS", "Variant", "names_of_sets"]

JUDGED, REPLAYED = 24, 24
OLD = "A"


@dataclass(frozen=True)
class Variant:
    """How old knowledge is kept.

    Attributes
    ----------
    replay, distillation : bool
    """

    replay: bool
    distillation: bool

    @property
    def title(self) -> str:
        """For people."""
        parts = [key for key in ("replay", "distillation") if getattr(self, key)]
        return " and ".join(parts) or "neither"


VARIANTS = MappingProxyType(
    {
        "both": Variant(True, True),
        "replay": Variant(True, False),
        "distillation": Variant(False, True),
        "neither": Variant(False, False),
    }
)


def names_of_sets(domain: str) -> dict[str, str]:
    """Folders of the slides to judge on, by what they are for."""
    return {"new": f"judged-{domain}", "old": f"judged-{OLD}"}


def prepare_judged(folder: Path, domain: str) -> dict[str, Any]:
    """Draw the slides of a domain to judge on, and the fields to replay."""
    from teach_reviewer import fields_to_replay, judged_slides

    judged_slides(folder / f"judged-{domain}", domain, JUDGED)
    if domain == OLD:
        fields_to_replay(folder / "replay", OLD, REPLAYED)
    return {}


def prepare_taught(folder: Path, domain: str, seed: int, patients: int) -> dict[str, Any]:
    """The reviewer's work on the slides of a seed."""
    from napari_hspnet.networks import load_checkpoint
    from napari_hspnet.networks.registry import demo_model_path
    from teach_reviewer import taught_slide

    model = load_checkpoint(demo_model_path())
    for number in range(patients):
        target = _taught(folder, domain, seed, number)
        if not target.exists():
            part = target.with_name(f".{target.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            taught_slide(part, model, domain, seed, number)
            part.rename(target)
    return {}


def judge_parent(folder: Path, domain: str) -> dict[str, Any]:
    """Confusion matrices of the parent on each set, kept in a file."""
    from napari_hspnet.networks.registry import demo_model_path

    return _judged(demo_model_path(), folder, domain)


def teach(
    folder: Path,
    domain: str,
    seed: int,
    patients: int,
    variant: str,
    config: str,
    keep: float = 0.5,
) -> dict[str, Any]:
    """Fine-tune as the product does, judge what comes out, and say how it went."""
    from napari_hspnet.jobs.finetune_job import run_finetune
    from napari_hspnet.jobs.finetune_request import (
        FinetuneOptions,
        FinetuneRequest,
        FinetuneSource,
    )
    from napari_hspnet.networks import read_card
    from napari_hspnet.networks.registry import demo_model_path

    chosen = VARIANTS[variant]
    places = [_taught(folder, domain, seed, n) for n in range(patients)]
    sources = tuple(
        FinetuneSource(place / "case.hspnet", place / "slide.tiff", f"patient {seed}.{n}")
        for n, place in enumerate(places)
    )
    out = folder / "runs" / f"{domain}-{variant}-{seed}-{os.getpid()}"
    seeds = f"\n[seeds]\npatches = {seed}\ninit = {seed}\n"
    options = FinetuneOptions(
        keep=keep if chosen.replay or chosen.distillation else 0.0,
        replay=folder / "replay" if chosen.replay else None,
        config=config + seeds,
        device="cpu",
        by="benchmark",
        registry=folder / "models",
        seed=seed,
    )
    begun = time.monotonic()
    with _weighed(chosen):
        done = run_finetune(
            FinetuneRequest(sources, demo_model_path(), options, out), lambda event: None
        )
    minutes = (time.monotonic() - begun) / 60
    assert done is not None
    card = read_card(Path(done.path))
    kept = card.recipe["keeping"]
    # The variant is what the card says, not what was meant.
    if (
        bool(kept["distillation_weight"]) != chosen.distillation
        or bool(kept["replayed_of_a_batch"]) != chosen.replay
    ):
        raise SystemExit(f"{variant} was asked for, and {kept} came")
    counts = _judged(Path(done.path), folder, domain)
    shutil.rmtree(out)
    return {
        "minutes": round(minutes, 2),
        "training_seconds": card.recipe["training_seconds"],
        "steps": card.recipe["steps"],
        "precision": card.recipe["precision"],
        "regions": [len(card.recipe["data"][key]) for key in ("learn", "held")],
        "own_verdict": done.decision,
        "keeping": kept,
        "counts": counts,
    }


@contextmanager
def _weighed(variant: Variant) -> Iterator[None]:
    """Replay without distillation: the product's one setting stands for both."""
    if variant.distillation or not variant.replay:
        yield
        return
    from napari_hspnet.training.keeping import Keeping

    def without(**values: Any) -> Keeping:
        return Keeping(**{**values, "weight": 0.0})

    with mock.patch("napari_hspnet.jobs.finetune_job.Keeping", without):
        yield


def _taught(folder: Path, domain: str, seed: int, number: int) -> Path:
    return folder / f"taught-{domain}" / f"{seed}-{number}"


def _judged(model: Path, folder: Path, domain: str) -> dict[str, Any]:
    """Of each set, each slide's confusion matrix; windows half a window apart, blended.

    In bfloat16 where the processor computes in it, three times as fast.
    """
    import torch

    from napari_hspnet.classes import BACKGROUND, CIN3
    from napari_hspnet.inference import Settings
    from napari_hspnet.jobs.evaluation_answers import NetworkAnswers
    from napari_hspnet.jobs.evaluation_data import Subject
    from napari_hspnet.networks import load_checkpoint
    from napari_hspnet.training import confusion
    from napari_hspnet.training.data import open_pairs
    from napari_hspnet.training.steps import choose_precision

    loaded = load_checkpoint(model)
    window = loaded.card.window
    settings = Settings(
        window,
        stride=window // 2,
        tissue_mask=False,
        precision=choose_precision("auto", torch.device("cpu")),
    )
    answers = NetworkAnswers(loaded, settings, "cpu")
    found: dict[str, Any] = {}
    for kind, name in names_of_sets(domain).items():
        found[kind] = {}
        for image in open_pairs(folder / name).images:
            subject = Subject(image)
            said = answers.predict(subject, None, None)
            said = np.where(said > CIN3, np.uint8(BACKGROUND), said)
            found[kind][image.name] = confusion(subject.truth(), said).tolist()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", required=True, help="what to do, as JSON")
    given: Mapping[str, Any] = json.loads(parser.parse_args().child)
    let_threads_sleep()
    import torch

    torch.set_num_threads(1)
    act = {
        "judged": prepare_judged,
        "taught": prepare_taught,
        "parent": judge_parent,
        "teach": teach,
    }[given["act"]]
    values = {key: value for key, value in given.items() if key != "act"}
    print(json.dumps(act(**{**values, "folder": Path(values["folder"])})))


if __name__ == "__main__":
    main()
