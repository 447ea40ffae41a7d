"""The loop learns, obeys its budget, and stops when told."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.networks import Architecture, ModelCard, build
from napari_hspnet.training import (
    DEMO_RECIPE,
    PAPER_RECIPE,
    DivergedError,
    FieldPatches,
    Recipe,
    Stage,
    WeightAverage,
    evaluate,
    predict_field,
    scores,
    train,
)
from napari_hspnet.training.loop import to_input, to_target
from napari_hspnet.training.recipe import make_optimizer, rate_factor

TINY = Architecture(
    encoder="small", ds_widths=(4,) * 5, head_widths=(8, 8), encoder_widths=(8, 8, 8, 8)
)
QUICK = Recipe(learning_rate=5e-3, stages=(Stage(64, 4),))
# A colour for each value: what a network must find out.
COLOURS = np.array(
    [[240, 240, 240], [200, 150, 200], [60, 160, 90], [70, 70, 190], [170, 40, 40]], np.uint8
)


@dataclasses.dataclass(frozen=True)
class ColourField:
    rgb: np.ndarray
    truth: np.ndarray


def colour_field(seed: int, side: int = 128, block: int = 32) -> ColourField:
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 5, (side // block, side // block)), np.ones((block, block)))
    truth = truth.astype(np.uint8)
    return ColourField(COLOURS[truth], truth)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, and no waiting for threads on layers this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tiny_network(seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(TINY)


def test_it_learns_what_can_be_learnt() -> None:
    wider = Architecture("hspnet", "small", 5, (True,) * 5, (16,) * 5, (16, 16), (16,) * 4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(wider)
    source = FieldPatches([colour_field(s, 256, 64) for s in range(4)], stain=0.02)
    held_out = [colour_field(s, 256, 64) for s in (100, 101)]
    card = ModelCard("wider", wider, window=128)
    recipe = Recipe(learning_rate=5e-3, stages=(Stage(64, 4),))
    before = scores(evaluate(network, card, held_out)).mean_dice
    train(network, source, recipe, steps=160, seed=1)
    after = scores(evaluate(network, card, held_out)).mean_dice
    # Other starts and seeds gain 0.51 to 0.70.
    assert after > before + 0.3


def test_the_same_seed_gives_the_same_training() -> None:
    def weights(seed: int) -> torch.Tensor:
        network = tiny_network()
        train(network, FieldPatches([colour_field(0)]), QUICK, steps=3, seed=seed)
        return network.head[-1].weight.detach()

    first = weights(5)
    assert torch.equal(first, weights(5))
    assert not torch.equal(first, weights(6))


def test_progress_counts_steps_and_follows_the_stages() -> None:
    sides: list[int] = []

    class Spy:
        def batch(self, rng, side, count):
            sides.append(side)
            return np.zeros((count, side, side, 3), np.uint8), np.ones(
                (count, side, side), np.uint8
            )

    recipe = dataclasses.replace(QUICK, stages=(Stage(64, 2, 0.5), Stage(96, 2, 0.5)))
    seen = []
    last = train(tiny_network(), Spy(), recipe, steps=6, progress=seen.append)
    assert sides == [64, 64, 64, 96, 96, 96]
    assert [p.step for p in seen] == [1, 2, 3, 4, 5, 6]
    assert seen[-1] == last
    assert last.fraction == 1.0
    assert last.remaining == 0.0


def test_a_budget_of_seconds_ends() -> None:
    last = train(tiny_network(), FieldPatches([colour_field(0)]), QUICK, seconds=0.5)
    assert last.step >= 1
    assert last.elapsed >= 0.5


def test_cancelling_ends_it_between_steps() -> None:
    cancel = threading.Event()
    steps = []

    def progress(state) -> None:
        steps.append(state.step)
        if state.step == 2:
            cancel.set()

    with pytest.raises(CancelledError):
        train(
            tiny_network(),
            FieldPatches([colour_field(0)]),
            QUICK,
            steps=50,
            progress=progress,
            cancel=cancel,
        )
    assert steps == [1, 2]


def test_divergence_is_named() -> None:
    network = tiny_network()
    with torch.no_grad():
        network.head[-1].bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match="step 0"):
        train(network, FieldPatches([colour_field(0)]), QUICK, steps=2)


@pytest.mark.parametrize("budget", [{}, {"steps": 1, "seconds": 1.0}, {"steps": 0}])
def test_the_budget_is_exactly_one(budget) -> None:
    with pytest.raises(InputError, match="steps or of seconds"):
        train(tiny_network(), FieldPatches([colour_field(0)]), QUICK, **budget)


def test_four_channels_leave_background_out() -> None:
    truth = np.array([[[0, 1], [4, 255]]], np.uint8)
    assert to_target(truth, 4).tolist() == [[[255, 0], [3, 255]]]
    assert to_target(truth, 5).tolist() == [[[0, 1], [4, 255]]]


def test_four_channels_train() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(dataclasses.replace(TINY, num_classes=4))
    last = train(network, FieldPatches([colour_field(0)]), QUICK, num_classes=4, steps=2)
    assert np.isfinite(last.loss)


def test_input_is_normalised_as_the_card_says() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 3), dtype=np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    expected = (rgb / 255 - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(
        to_input(rgb, mean, std).numpy(), expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-6
    )


def test_the_average_is_the_running_mean_of_the_weights() -> None:
    network = tiny_network()
    average = WeightAverage(network, 0.5)
    weight = network.head[-1].weight
    mean = weight.detach().clone()
    for step in range(1, 8):
        with torch.no_grad():
            weight.add_(step)
        average.update(network)
        decay = min(0.5, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * weight.detach()
        torch.testing.assert_close(average.network.head[-1].weight, mean)


def test_a_training_that_averages_ends_with_the_mean() -> None:
    """Of batch normalisation's statistics too: they belong to the weights."""
    recipe = dataclasses.replace(QUICK, average=0.9)

    def trained(average: WeightAverage | None, network: torch.nn.Module) -> dict:
        source = FieldPatches([colour_field(0)])
        train(network, source, recipe, steps=4, seed=2, average=average)
        return network.state_dict()

    network = tiny_network()
    average = WeightAverage(network, 0.9)
    given = trained(average, network)
    made = trained(None, tiny_network())
    last = tiny_network()
    train(last, FieldPatches([colour_field(0)]), QUICK, steps=4, seed=2)
    differs = []
    for key, value in given.items():
        assert torch.equal(value, average.network.state_dict()[key])
        assert torch.equal(value, made[key])
        if value.is_floating_point() and not torch.equal(value, last.state_dict()[key]):
            differs.append(key)
    assert any("running_var" in key for key in differs)
    assert any("weight" in key for key in differs)


def test_background_that_counts_nothing_teaches_nothing() -> None:
    """The gradient is that of a batch whose background is left out."""

    class Once:
        def __init__(self, background: int) -> None:
            self._background = background

        def batch(self, rng, side, count):
            field = colour_field(4, 64, 16)
            truth = np.where(field.truth == 0, self._background, field.truth).astype(np.uint8)
            return field.rgb[None], truth[None]

    without = dataclasses.replace(QUICK, background=0.0)
    first, second = tiny_network(), tiny_network()
    train(first, Once(0), without, steps=1)
    train(second, Once(255), QUICK, steps=1)
    assert (colour_field(4, 64, 16).truth == 0).any()
    for key, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[key])


# ---- recipes ----


def test_the_papers_recipe() -> None:
    """Section 4.1: SGD, batch 16 of 400 x 400, encoder 0.001, the rest ten times that."""
    optimizer = make_optimizer(tiny_network(), PAPER_RECIPE)
    assert isinstance(optimizer, torch.optim.SGD)
    assert sorted({round(g["peak"], 9) for g in optimizer.param_groups}) == [0.001, 0.01]
    assert PAPER_RECIPE.stages == (Stage(400, 16, 1.0),)
    assert PAPER_RECIPE.schedule == "cosine"


def test_every_parameter_is_optimised_once_and_norms_do_not_decay() -> None:
    network = tiny_network()
    groups = make_optimizer(network, QUICK).param_groups
    ids = [id(p) for g in groups for p in g["params"]]
    assert sorted(ids) == sorted(id(p) for p in network.parameters())
    assert all((p.ndim > 1) == (g["weight_decay"] > 0) for g in groups for p in g["params"])


@given(st.floats(0, 1), st.sampled_from([DEMO_RECIPE, PAPER_RECIPE]))
def test_rates_stay_between_zero_and_their_highest(fraction, recipe) -> None:
    assert 0 <= rate_factor(recipe, fraction) <= 1


def test_courses_of_the_rate() -> None:
    assert rate_factor(PAPER_RECIPE, 0) == 1
    assert rate_factor(PAPER_RECIPE, 0.5) == pytest.approx(0.5)
    assert rate_factor(PAPER_RECIPE, 1) == pytest.approx(0)
    assert rate_factor(DEMO_RECIPE, 0) == pytest.approx(1 / 25)
    assert rate_factor(DEMO_RECIPE, 0.15) == pytest.approx(1)
    assert rate_factor(DEMO_RECIPE, 1) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"optimizer": "lion"}, "optimizer"),
        ({"schedule": "step"}, "schedule"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"stages": ()}, "stages"),
        ({"stages": (Stage(64, 2, 0.5),)}, "shares"),
        ({"stages": (Stage(32, 2),)}, "side"),
        ({"stages": (Stage(64, 0),)}, "batch"),
        ({"momentum": 1.0}, "momentum"),
        ({"clip": 0.0}, "clip"),
        ({"average": 1.0}, "average"),
        ({"background": -0.1}, "background"),
    ],
)
def test_impossible_recipes_are_named(change, named) -> None:
    with pytest.raises(InputError, match=named):
        dataclasses.replace(Recipe(), **change)


# ---- whole fields ----


class ByColour(torch.nn.Module):
    """Scores by nearness to each value's colour: an oracle for colour fields."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1)
        std = torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1)
        rgb = ((x * std + mean) * 255)[:, None]
        wanted = torch.from_numpy(COLOURS.astype(np.float32)).view(1, 5, 3, 1, 1)
        return -((rgb - wanted) ** 2).sum(2) / 500


@pytest.mark.parametrize("stride", [None, 16])
@pytest.mark.parametrize("shape", [(128, 128), (100, 77), (40, 128), (30, 20)])
def test_an_oracles_field_comes_out_whole(stride, shape) -> None:
    field = colour_field(3)
    rgb, truth = field.rgb[: shape[0], : shape[1]], field.truth[: shape[0], : shape[1]]
    card = ModelCard("oracle", window=64)
    np.testing.assert_array_equal(predict_field(ByColour(), card, rgb, stride), truth)


def test_evaluating_pools_over_fields_and_keeps_the_mode() -> None:
    network = ByColour().train()
    fields = [colour_field(1), colour_field(2)]
    counts = evaluate(network, ModelCard("oracle", window=64), fields)
    assert counts.sum() == 2 * 128 * 128
    assert scores(counts).mean_dice == 1.0
    assert network.training


def test_evaluating_can_be_cancelled() -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        evaluate(ByColour(), ModelCard("oracle", window=64), [colour_field(1)], cancel=cancel)
