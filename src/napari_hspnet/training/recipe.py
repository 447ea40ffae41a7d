"""How a network is trained, as plain values that go into its card."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from napari_hspnet.errors import InputError

__all__ = ["DEMO_RECIPE", "PAPER_RECIPE", "Recipe", "Stage", "make_optimizer", "rate_factor"]


@dataclass(frozen=True)
class Stage:
    """A part of a training with patches of one size.

    Attributes
    ----------
    side, batch : int
        Pixels of a patch, patches of a step.
    share : float
        Of the whole training.
    """

    side: int
    batch: int
    share: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """An optimiser, its rates and their course.

    Attributes
    ----------
    optimizer : "adamw" or "sgd"
    learning_rate : float
        Of everything but the encoder, at its highest.
    encoder_factor : float
        What the encoder's rate is of that (paper, section 4.1: a tenth).
    schedule : "one-cycle" or "cosine"
        Over the whole training, whatever its stages.
    momentum : float
        Of SGD.
    weight_decay : float
        Not on biases and normalisation.
    clip : float or None
        Largest norm of the gradient.
    stages : tuple of Stage
        In their order; shares sum to 1.
    average : float
        Decay of the running mean of weights that is kept in the end; 0 keeps the
        last step's. See `WeightAverage`.
    background : float
        How much a pixel of the background channel counts in the loss.

    Raises
    ------
    InputError
        If a value makes no sense.
    """

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    encoder_factor: float = 1.0
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip: float | None = 5.0
    stages: tuple[Stage, ...] = (Stage(400, 4),)
    average: float = 0.0
    background: float = 1.0

    def __post_init__(self) -> None:
        wrong = [
            name
            for name, right in (
                ("optimizer", self.optimizer in ("adamw", "sgd")),
                ("schedule", self.schedule in ("one-cycle", "cosine")),
                ("learning_rate", self.learning_rate > 0),
                ("encoder_factor", self.encoder_factor >= 0),
                ("momentum", 0 <= self.momentum < 1),
                ("weight_decay", self.weight_decay >= 0),
                ("clip", self.clip is None or self.clip > 0),
                ("stages", bool(self.stages) and all(s.share > 0 for s in self.stages)),
                ("side of a stage", all(s.side >= 64 for s in self.stages)),
                ("batch of a stage", all(s.batch >= 1 for s in self.stages)),
                ("average", 0 <= self.average < 1),
                ("background", self.background >= 0),
                ("sum of shares", math.isclose(sum(s.share for s in self.stages), 1.0)),
            )
            if not right
        ]
        if wrong:
            raise InputError(
                f"this training recipe cannot be: wrong {', '.join(wrong)}",
                advice="Choose positive rates, sides of 64 or more, and shares that sum to 1",
            )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, for a model card."""
        values = asdict(self)
        values["stages"] = [asdict(s) for s in self.stages]
        return values

    def stage_at(self, fraction: float) -> Stage:
        """The stage at a fraction (0 to 1) of the training."""
        passed = 0.0
        for stage in self.stages:
            passed += stage.share
            if fraction < passed:
                return stage
        return self.stages[-1]


# Section 4.1; momentum and weight decay are not given there and are ours.
PAPER_RECIPE = Recipe("sgd", 1e-2, 0.1, "cosine", 0.9, 1e-4, None, (Stage(400, 16),))
# Small patches first: far more steps than whole windows would give. Then the window
# of the engine, for as long as it was too short in 22 minutes. Background is more
# than half of all pixels and none of the figure.
DEMO_RECIPE = Recipe(
    stages=(Stage(256, 8, 0.35), Stage(400, 4, 0.65)), average=0.998, background=0.5
)


def rate_factor(recipe: Recipe, fraction: float) -> float:
    """What a learning rate is of its highest, at a fraction of the training.

    One cycle: up from 1/25 within the first 15 %, then down to 1/10,000, both
    along half a cosine. Cosine: down from 1 to 0.
    """
    fraction = min(max(fraction, 0.0), 1.0)
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * fraction))
    warm, first, last = 0.15, 1 / 25, 1e-4
    if fraction < warm:
        return first + (1 - first) * 0.5 * (1 - math.cos(math.pi * fraction / warm))
    down = (fraction - warm) / (1 - warm)
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * down))


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over a network with a child ``encoder``.

    Each group carries its highest rate under ``"peak"``.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        key = (name.startswith("encoder."), parameter.ndim > 1)
        groups.setdefault(key, []).append(parameter)
    settings = [
        {
            "params": parameters,
            "peak": recipe.learning_rate * (recipe.encoder_factor if encoder else 1.0),
            "weight_decay": recipe.weight_decay if decays else 0.0,
        }
        for (encoder, decays), parameters in groups.items()
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(settings, lr=recipe.learning_rate, momentum=recipe.momentum)
    return torch.optim.AdamW(settings, lr=recipe.learning_rate)
