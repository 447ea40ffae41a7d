"""A training loop bounded by steps or by time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from napari_hspnet.classes import BACKGROUND
from napari_hspnet.errors import CancelledError, HspnetError, InputError
from napari_hspnet.networks.card import IMAGENET_MEAN, IMAGENET_STD
from napari_hspnet.training.average import WeightAverage
from napari_hspnet.training.losses import IGNORE, cross_entropy
from napari_hspnet.training.patches import Image, PatchSource
from napari_hspnet.training.recipe import Recipe, make_optimizer, rate_factor

__all__ = ["DivergedError", "TrainProgress", "fast_bfloat16", "to_input", "to_target", "train"]


class DivergedError(HspnetError):
    """The loss is no longer finite."""


@dataclass(frozen=True)
class TrainProgress:
    """Where a training stands.

    Attributes
    ----------
    step : int
        Steps done.
    fraction : float
        Of the budget, 0 to 1.
    loss : float
        Running mean over about 50 steps.
    learning_rate : float
        Of the last step.
    elapsed, remaining : float
        Seconds.
    """

    step: int
    fraction: float
    loss: float
    learning_rate: float
    elapsed: float
    remaining: float


def to_input(
    rgb: Image,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Tensor:
    """uint8 (N, h, w, 3) to normalised float32 (N, 3, h, w), channels last."""
    scale = 1 / (255 * torch.tensor(std, dtype=torch.float32))
    shift = torch.tensor(mean, dtype=torch.float32) / torch.tensor(std, dtype=torch.float32)
    pixels = torch.from_numpy(np.ascontiguousarray(rgb)).float()
    return (pixels * scale - shift).permute(0, 3, 1, 2)


def to_target(truth: Image, num_classes: int) -> Tensor:
    """Label values (N, h, w) to output channels, int64.

    With four channels background is left out of the loss, and every other
    value is one channel down.
    """
    target = torch.from_numpy(truth.astype(np.int64))
    if num_classes == 4:
        target = torch.where((target > 0) & (target != IGNORE), target - 1, IGNORE)
    return target


def fast_bfloat16() -> bool:
    """Whether this processor computes in bfloat16 itself, instead of emulating it."""
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def train(
    network: nn.Module,
    source: PatchSource,
    recipe: Recipe,
    *,
    num_classes: int = 5,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    device: torch.device | str = "cpu",
    bfloat16: bool = False,
    average: WeightAverage | None = None,
    progress: Callable[[TrainProgress], None] | None = None,
    cancel: threading.Event | None = None,
) -> TrainProgress:
    """Train a network in place.

    Parameters
    ----------
    network : nn.Module
        With a child ``encoder``; left in training mode.
    source : PatchSource
        Where patches come from.
    recipe : Recipe
    num_classes : int
        Output channels.
    steps, seconds : optional
        The budget: exactly one of them. With `steps` the same seed gives the
        same training on one machine and thread count; with `seconds` the rates
        follow the clock.
    seed : int
        Of the patches. The network's start is its builder's.
    mean, std : tuple of float
        Normalisation, as in the card.
    device : torch.device or str
    bfloat16 : bool
        Whether forward and backward run in bfloat16 where torch deems it safe;
        weights, loss and optimiser stay float32.
    average : WeightAverage, optional
        Of this network, for a caller who looks at the mean while it trains;
        where the recipe asks for one and none is given, it is made here. The
        network ends with the averaged weights.
    progress : callable, optional
        Called after each step; what it raises ends the training.
    cancel : threading.Event, optional
        Looked at before each step.

    Returns
    -------
    TrainProgress
        The last one.

    Raises
    ------
    CancelledError
        If `cancel` was set; the network is as the last step left it.
    DivergedError
        If the loss is not finite.
    InputError
        If the budget is not one of steps and seconds, above 0.
    """
    budget = steps if steps is not None else seconds
    if (steps is None) == (seconds is None) or budget is None or budget <= 0:
        raise InputError(
            "a training needs a number of steps or of seconds",
            advice="Give exactly one of them, above 0",
        )
    place = torch.device(device)
    network.to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    optimizer = make_optimizer(network, recipe)
    if average is None and recipe.average > 0:
        average = WeightAverage(network, recipe.average)
    weights = _weights(recipe, num_classes, place)
    rng = np.random.default_rng(seed)
    start = time.monotonic()
    state = TrainProgress(0, 0.0, float("nan"), 0.0, 0.0, 0.0)
    while state.fraction < 1:
        if cancel is not None and cancel.is_set():
            raise CancelledError
        stage = recipe.stage_at(state.fraction)
        rgb, truth = source.batch(rng, stage.side, stage.batch)
        inputs = to_input(rgb, mean, std).to(place)
        target = to_target(truth, num_classes).to(place)
        factor = rate_factor(recipe, state.fraction)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        with torch.autocast(place.type, torch.bfloat16, enabled=bfloat16):
            logits = network(inputs)
        loss = cross_entropy(logits, target, weights=weights)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise DivergedError(
                f"the training diverged: the loss is {value} at step {state.step}",
                advice="Lower the learning rate",
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        optimizer.step()
        if average is not None:
            average.update(network)

        done = state.step + 1
        elapsed = time.monotonic() - start
        fraction = min(1.0, done / steps if steps is not None else elapsed / float(budget))
        smooth = value if done == 1 else state.loss + (value - state.loss) / min(done, 50)
        left = elapsed / fraction - elapsed
        rate = recipe.learning_rate * factor
        state = TrainProgress(done, fraction, smooth, rate, elapsed, left)
        if progress is not None:
            progress(state)
    if average is not None:
        average.copy_to(network)
    return state


def _weights(recipe: Recipe, num_classes: int, place: torch.device) -> Tensor | None:
    """How much each channel counts; None where all count alike."""
    if recipe.background == 1 or num_classes == 4:
        return None
    weights = torch.ones(num_classes, device=place)
    weights[BACKGROUND] = recipe.background
    return weights
