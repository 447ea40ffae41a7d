"""What the demo model's card says."""

from __future__ import annotations

import platform
from typing import Any

import torch

from napari_hspnet import __version__
from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.jobs.judge_phantom import Judgement, generator
from napari_hspnet.networks import DEMO_ARCHITECTURE, ModelCard
from napari_hspnet.phantom.splits import SPLIT_SIZE, SPLITS
from napari_hspnet.training import Recipe, scores
from napari_hspnet.training.intervals import Counts
from napari_hspnet.training.loop import fast_bfloat16

__all__ = ["demo_card", "field_figures", "slide_figures"]


def demo_card(recipe: Recipe, init_seed: int, data_seed: int, domain: str) -> ModelCard:
    """The card before the training: what it will be trained on, and how."""
    about = generator()
    return ModelCard(
        name="demo",
        architecture=DEMO_ARCHITECTURE,
        mpp=1.0,
        window=recipe.stages[-1].side,
        trained_on=(
            f"phantom fields (synthetic), version {about['phantom_version']}, generator "
            f"{about['generator_hash']}, domain {domain}"
        ),
        recipe={
            **recipe.to_json(),
            **about,
            "domain": domain,
            "splits": {name: [first, first + SPLIT_SIZE - 1] for name, first in SPLITS.items()},
            "init_seed": init_seed,
            "data_seed": data_seed,
            "loss": "cross-entropy, background as a class",
            "augmentation": "flips, right-angle turns, light stain jitter",
            "bfloat16": fast_bfloat16(),
            "napari_hspnet": __version__,
            "torch": str(torch.__version__),
            "processor": f"{_processor()}, {torch.get_num_threads()} threads",
        },
        licence="BSD-3-Clause",
        intended_use=f"{RESEARCH_USE_ONLY}. Demo only: shows the program at work on phantoms",
        synthetic=True,
        limitations=(
            "It has never seen a real slide: what it draws on one means nothing. It knows the "
            f"stain and scanner of domain {domain} alone. "
            "Trained for minutes; it confuses neighbouring grades, most near changes of grade"
        ),
    )


def slide_figures(judgement: Judgement) -> dict[str, Any]:
    """Figures of test slides for a card: all of the judgement but each slide's own."""
    about = judgement.to_json()
    rows = {
        key: {name: value for name, value in row.items() if name not in ("per_slide", "title")}
        for key, row in about["rows"].items()
    }
    kept = (
        "protocol",
        "intervals",
        "domain",
        "split",
        "seeds",
        "slides",
        "slide_shape",
        "slide_mpp",
        "slides_with_class",
    )
    return {**{key: about[key] for key in kept}, **rows}


def field_figures(counts: Counts, seeds: range) -> dict[str, Any]:
    """Figures of validation fields for the card of a snapshot."""
    masked = scores(counts)
    return {
        "protocol": "truth 0 left out, pixels pooled over the fields, mean over four classes",
        "split": "validation",
        "seeds": [seeds[0], seeds[-1]],
        "fields": len(seeds),
        "plain": {
            "dice": {name: round(value, 4) for name, value in masked.dice.items()},
            "mean_dice": round(masked.mean_dice, 4),
            "accuracy": round(masked.accuracy, 4),
            "pixels": masked.pixels,
        },
    }


def _processor() -> str:
    """The processor's name where the system tells it, else its kind."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return f"{known.get('cpu_name') or platform.processor() or 'processor'}, {platform.machine()}"
