"""What the card of a fine-tuned candidate says."""

from __future__ import annotations

import hashlib
import math
import platform
from collections.abc import Sequence
from typing import Any

import torch

from napari_hspnet import __version__
from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.inference.settings import describe_device
from napari_hspnet.jobs.finetune_config import FinetuneConfig
from napari_hspnet.jobs.finetune_data import FinetuneData
from napari_hspnet.jobs.finetune_judging import BLEND, pooled_figures
from napari_hspnet.jobs.finetune_request import FinetuneOptions
from napari_hspnet.networks import LoadedModel, ModelCard
from napari_hspnet.training.gate import Judged, UnitCounts
from napari_hspnet.training.keeping import Keeping
from napari_hspnet.training.lesson import Lesson, LessonRegion
from napari_hspnet.training.resume import Position
from napari_hspnet.training.verdict import MEAN, SetVerdict, Verdict

__all__ = ["candidate_card"]


def candidate_card(
    parent: LoadedModel,
    options: FinetuneOptions,
    config: FinetuneConfig,
    keeping: Keeping,
    lesson: Lesson,
    data: FinetuneData,
    end: Position,
    candidate: Judged,
    verdict: Verdict,
    device: torch.device,
) -> ModelCard:
    """The card of what came out of a fine-tuning.

    Patients are named by the first digits of a hash: whoever knows a patient's name can
    see whether a model knows him, and nobody else learns it. Folders are not named.
    """
    own = parent.card
    synthetic = own.synthetic and verdict.held.synthetic
    metrics: dict[str, Any] = {
        "protocol": "truth 0 and ignored left out, pixels pooled over the regions",
        "blend": BLEND,
        "held_back": _figures(candidate.held, verdict.held),
    }
    if verdict.reference is not None:
        metrics["reference"] = {
            **_figures(candidate.reference, verdict.reference),
            "synthetic": options.reference_phantoms > 0,
        }
    recipe = {
        "kind": "fine-tuning",
        "config": config.to_json(),
        "keeping": {
            "keep": options.keep,
            "distillation_weight": keeping.weight,
            "temperature": keeping.temperature,
            "replayed_of_a_batch": keeping.replay,
            "batch_normalisation": "statistics frozen, scale and shift trained",
            "encoder_frozen": keeping.freeze_encoder,
        },
        "data": {
            **lesson.to_json(),
            "patients_sha256": _pseudonyms(lesson.learn),
            "held_patients_sha256": _pseudonyms(lesson.held),
            "mm2": _areas(lesson, held=False),
            "held_mm2": _areas(lesson, held=True),
            "replayed_images": len(data.replay),
            "replay_synthetic": options.replay_phantoms > 0,
        },
        "data_sha256": end.data,
        "request_sha256": end.config,
        "steps": end.step,
        "epochs": end.epoch,
        "training_seconds": round(end.seconds),
        "last_loss": None if end.loss is None else round(end.loss, 5),
        "precision": end.precision,
        "device": describe_device(device),
        "machine": platform.machine(),
        "napari_hspnet": __version__,
        "torch": str(torch.__version__),
        "notice": RESEARCH_USE_ONLY,
    }
    count = len(lesson.learn)
    return ModelCard(
        name=options.name or f"{own.name}, fine-tuned",
        architecture=own.architecture,
        mpp=own.mpp,
        window=own.window,
        mean=own.mean,
        std=own.std,
        trained_on=(
            f"{count} region{'s' * (count != 1)} that readers reviewed and corrected; before, "
            f"{own.trained_on} ({own.name})"
        ),
        recipe=recipe,
        metrics={**metrics, "verdict": verdict.to_json()},
        parent=parent.sha256,
        licence=own.licence,
        intended_use=RESEARCH_USE_ONLY,
        synthetic=synthetic,
        limitations=(
            "It has never seen a real slide: what it draws on one means nothing"
            if synthetic
            else "Known only for slides like those that it learned from"
        ),
    )


def _figures(units: Sequence[UnitCounts], found: SetVerdict) -> dict[str, Any]:
    """Pooled figures; the mean Dice is the verdict's, so that card and verdict say one thing.

    It is over the classes of which there is enough; that over all stands beside it.
    """
    figures = pooled_figures(units)
    mean = found.changes[MEAN].after
    return {
        **figures,
        "mean_dice": round(mean, 4) if math.isfinite(mean) else None,
        "mean_dice_all_classes": figures["mean_dice"],
    }


def _pseudonyms(regions: Sequence[LessonRegion]) -> list[str]:
    return sorted({hashlib.sha256(r.patient.encode()).hexdigest()[:12] for r in regions})


def _areas(lesson: Lesson, held: bool) -> dict[str, dict[str, float]]:
    return {
        name: {"corrected": round(corrected, 6), "accepted": round(accepted, 6)}
        for name, (corrected, accepted) in lesson.areas(held).items()
    }
