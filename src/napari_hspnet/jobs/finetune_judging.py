"""How models do on what was held back and on the reference set."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Sequence
from copy import deepcopy

import numpy as np
import torch
from torch import nn

from napari_hspnet.classes import BACKGROUND, CIN3
from napari_hspnet.inference import Settings
from napari_hspnet.jobs.evaluation_answers import NetworkAnswers
from napari_hspnet.jobs.evaluation_data import Subject
from napari_hspnet.jobs.finetune_data import FinetuneData
from napari_hspnet.networks import LoadedModel, ModelCard
from napari_hspnet.training import confusion
from napari_hspnet.training.agreement import figures
from napari_hspnet.training.data.images import Array
from napari_hspnet.training.gate import Judged, UnitCounts
from napari_hspnet.training.losses import IGNORE

__all__ = ["BLEND", "as_model", "judged", "pooled_figures", "unit_counts"]

BLEND = "Gauss-like, half a window apart"
"""How both models answer for the verdict."""

Tell = Callable[[float], None]
Keep = Callable[[Subject, Array], None]
"""Called with a region and what a model says there, (h, w): 0 to 4."""


def as_model(network: nn.Module, card: ModelCard) -> LoadedModel:
    """A copy of a network in training, as the engine takes it."""
    own = deepcopy(network).eval()
    mark = hashlib.sha256()
    for name, value in own.state_dict().items():
        mark.update(name.encode())
        mark.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return LoadedModel(own, card, mark.hexdigest())


def unit_counts(
    model: LoadedModel,
    subjects: Sequence[Subject],
    device: torch.device,
    plain: bool,
    tell: Tell | None = None,
    cancel: threading.Event | None = None,
    keep: Keep | None = None,
) -> tuple[UnitCounts, ...]:
    """A confusion matrix for each region.

    Parameters
    ----------
    model : LoadedModel
    subjects : sequence of Subject
    device : torch.device
    plain : bool
        Windows side by side; else half a window apart, blended as in use.
    tell : callable, optional
        Called with the part that is done.
    cancel : threading.Event, optional
    keep : callable, optional
        Gets each region's labels, which are not kept otherwise.

    Raises
    ------
    CancelledError
        If `cancel` was set.
    HspnetError
        As segmenting does.
    """
    window = model.card.window
    settings = Settings(
        window=window,
        stride=max(1, window // 2),
        blend="plain" if plain else "gaussian",
        tissue_mask=False,
    )
    answers = NetworkAnswers(model, settings, str(device))
    whole = sum(subject.pixels for subject in subjects)
    done, found = 0, []
    for subject in subjects:

        def part(share: float, before: int = done, own: int = subject.pixels) -> None:
            if tell is not None:
                tell((before + share * own) / whole)

        predicted = answers.predict(subject, part, cancel)
        truth = subject.truth()
        counted = truth != IGNORE
        values = np.where(predicted > CIN3, np.uint8(BACKGROUND), predicted)
        if keep is not None:
            keep(subject, values)
        image = subject.image
        counts = confusion(truth[counted], values[counted])
        found.append(UnitCounts(image.name, image.patient, counts, float(image.mpp)))
        done += subject.pixels
    return tuple(found)


def judged(
    model: LoadedModel,
    data: FinetuneData,
    device: torch.device,
    tell: Tell | None = None,
    cancel: threading.Event | None = None,
    keep: Keep | None = None,
) -> Judged:
    """A model on what was held back and on the reference set; see `unit_counts`."""
    every = (*data.held, *data.reference)
    units = unit_counts(model, every, device, False, tell, cancel, keep)
    return Judged(units[: len(data.held)], units[len(data.held) :])


def pooled_figures(units: Sequence[UnitCounts]) -> dict[str, float | None]:
    """Figures of regions counted together; None where one cannot be told."""
    found = figures(np.sum([unit.counts for unit in units], axis=0))
    return {
        key: round(float(value), 4) if math.isfinite(value) else None
        for key, value in found.items()
        if not key.startswith("iou")
    }
