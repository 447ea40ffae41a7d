"""Every loss teaches a very small network four patches by heart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from napari_hspnet.networks import Architecture, build
from napari_hspnet.training.loop import to_input, to_target
from napari_hspnet.training.loss_terms import LOSSES, LossTerm, make_loss
from napari_hspnet.training.metrics import confusion, scores

SIDE = 64
COLOURS = np.array(
    [[240, 240, 240], [205, 160, 205], [170, 120, 180], [130, 90, 170], [90, 60, 150]]
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, and no waiting for threads on layers this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def patches() -> tuple[np.ndarray, np.ndarray]:
    """Four bent bands of grades on glass, each with every class, and their truth.

    Colours of neighbouring grades overlap pixel by pixel; some pixels are ignored.
    """
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    truths = []
    for _ in range(4):
        turn, phase = rng.uniform(0, 2 * np.pi, 2)
        along = np.cos(turn) * (x - 0.5) + np.sin(turn) * (y - 0.5)
        across = -np.sin(turn) * (x - 0.5) + np.cos(turn) * (y - 0.5)
        depth = along + 0.06 * np.sin(5 * across + phase)
        truths.append(np.digitize(depth, [-0.3, -0.13, 0.03, 0.2]))
    truth = np.stack(truths).astype(np.uint8)
    rgb = COLOURS[truth] + rng.normal(0, 12, (*truth.shape, 3))
    ignored = truth.copy()
    ignored[:, :6, :6] = 255
    return np.clip(rgb, 0, 255).astype(np.uint8), ignored


def learnt_dice(terms: list[LossTerm], num_classes: int, steps: int = 70) -> float:
    rgb, truth = patches()
    inputs, target = to_input(rgb), to_target(truth, num_classes)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = build(
            Architecture(
                encoder="small",
                num_classes=num_classes,
                ds_widths=(8, 8, 8, 8, 16),
                head_widths=(16, 16),
                encoder_widths=(8, 16, 24, 32),
            )
        )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss = make_loss(terms, num_classes)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    network.train()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss(network(inputs), target).backward()
        # As the recipe does: prices of cdw_ce reach 243, and Adam remembers the peaks.
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.inference_mode():
        answer = network(inputs).argmax(1).numpy() + (5 - num_classes)
    counts = truth != 255
    return scores(confusion(truth[counts], answer[counts].astype(np.uint8))).mean_dice


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_learns_four_patches_by_heart(name: str) -> None:
    # Neighbouring grades, a 243rd of the farthest, come last in cdw_ce.
    assert learnt_dice([LossTerm(name)], 5, 90 if name == "cdw_ce" else 70) > 0.95


def test_it_learns_without_a_background_channel() -> None:
    assert learnt_dice([LossTerm("ae_r")], 4) > 0.95


def test_a_weighted_sum_learns() -> None:
    assert learnt_dice([LossTerm("ce"), LossTerm("squared_emd", 0.5)], 5) > 0.95
