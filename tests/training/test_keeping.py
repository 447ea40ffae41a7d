"""Old knowledge: distillation against a slow reference, replay by step, what stays frozen."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from session_tools import ADAMW, colour_image, same_weights, tiny_network
from torch import nn

from napari_hspnet.errors import InputError
from napari_hspnet.networks.card import IMAGENET_MEAN, IMAGENET_STD
from napari_hspnet.training.data import ArrayImage, Augment, PatchReader, patch_index
from napari_hspnet.training.keeping import (
    Keeping,
    ReplayReader,
    distillation,
    freeze_encoder,
    freeze_norms,
    padding_of,
    parent_of,
)
from napari_hspnet.training.loss_terms import LossTerm, make_loss
from napari_hspnet.training.recipe import make_optimizer
from napari_hspnet.training.steps import Stepper


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def slow_distillation(logits, parent, padding, temperature) -> float:
    """Pixel by pixel and class by class, in Python's floats."""
    total, pixels = 0.0, 0
    count, channels, height, width = logits.shape
    for i in range(count):
        for y in range(height):
            for x in range(width):
                if padding[i, y, x]:
                    continue
                p, q = (
                    [math.exp(v[i, c, y, x] / temperature) for c in range(channels)]
                    for v in (parent, logits)
                )
                total += sum(
                    a / sum(p) * math.log((a / sum(p)) / (b / sum(q)))
                    for a, b in zip(p, q, strict=True)
                )
                pixels += 1
    return total / max(pixels, 1) * temperature**2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([4, 5]), st.floats(0.5, 8))
def test_distillation_is_that_of_a_slow_loop(seed, channels, temperature) -> None:
    rng = np.random.default_rng(seed)
    logits, parent = rng.normal(0, 3, (2, 2, channels, 3, 4))
    padding = rng.random((2, 3, 4)) < 0.3
    found = distillation(*map(torch.from_numpy, (logits, parent, padding)), temperature)
    expected = slow_distillation(logits, parent, padding, temperature)
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_distillation_pulls_towards_the_parent_and_not_the_parent() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 5, 4, 4, requires_grad=True)
    parent = torch.randn(1, 5, 4, 4, requires_grad=True)
    first = distillation(logits, parent)
    first.backward()
    assert parent.grad is None
    with torch.no_grad():
        assert float(distillation(logits - logits.grad, parent)) < float(first)
        assert float(distillation(parent, parent)) == pytest.approx(0, abs=1e-6)
        assert float(distillation(parent + 7, parent)) == pytest.approx(0, abs=1e-5)


def test_its_gradient_matches_finite_differences() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    parent = torch.randn(1, 4, 2, 3, dtype=torch.float64)
    padding = torch.zeros(1, 2, 3, dtype=torch.bool)
    padding[0, 0] = True
    assert torch.autograd.gradcheck(lambda x: distillation(x, parent, padding, 3.0), [logits])


def test_padding_does_not_reach_it_and_all_padding_is_nothing() -> None:
    logits = torch.randn(1, 5, 4, 4)
    parent = torch.randn(1, 5, 4, 4)
    padding = torch.zeros(1, 4, 4, dtype=torch.bool)
    padding[:, 2:] = True
    expected = distillation(logits[:, :, :2], parent[:, :, :2])
    parent[:, :, 2:] = math.nan
    logits[:, :, 2:] = math.nan
    logits.requires_grad_()
    found = distillation(logits, parent, padding)
    assert float(found.detach()) == pytest.approx(float(expected))
    found.backward()
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[:, :, 2:].any()
    nothing = distillation(logits, parent, torch.ones(1, 4, 4, dtype=torch.bool))
    assert float(nothing.detach()) == 0
    nothing.backward()


def test_huge_scores_and_half_precision_stay_finite() -> None:
    logits = torch.tensor([[[[3e4]], [[-3e4]], [[0.0]], [[1.0]]]], dtype=torch.float16)
    for temperature in (0.5, 2.0):
        found = distillation(logits, -logits, temperature=temperature)
        assert found.dtype == torch.float32
        assert torch.isfinite(found)


def test_a_parent_of_other_classes_is_refused() -> None:
    with pytest.raises(InputError, match="same classes"):
        distillation(torch.zeros(1, 5, 2, 2), torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize("turn", range(4))
def test_padding_is_found_however_a_patch_is_turned(turn) -> None:
    rgb = np.full((1, 8, 8, 3), 90, np.uint8)
    rgb[:, 5:] = 255
    rgb[:, :, 6:] = 255
    rgb[0, 2] = 255  # glass amid tissue is no padding
    rgb[0, 1, 1] = 255
    expected = np.zeros((1, 8, 8), bool)
    expected[:, 5:] = True
    expected[:, :, 6:] = True
    turned = np.rot90(rgb, turn, (1, 2))
    np.testing.assert_array_equal(padding_of(turned), np.rot90(expected, turn, (1, 2)))
    assert padding_of(np.full((1, 4, 4, 3), 255, np.uint8)).all()


def old_reader(count=2, seed=9) -> PatchReader:
    image = ArrayImage("old", "old", *marked(128, 200))
    return PatchReader([image], patch_index([image], 64, 32), None, seed, batch=count)


def marked(side, mark):
    """Pixels that say where they lie, and in red whose they are."""
    image = colour_image("x", 4, side)
    rgb = image.rgb.copy()
    rgb[..., 0] = mark
    rgb[..., 1] = np.arange(side)[:, None]
    rgb[..., 2] = np.arange(side)
    return rgb, image.labels


def replay(seed=3, batch=5, count=2) -> tuple[ReplayReader, PatchReader]:
    image = ArrayImage("new", "new", *marked(128, 100))
    index = patch_index([image], 64, 32)
    own = PatchReader([image], index, None, seed, batch=batch - count)
    return ReplayReader([image], index, None, seed, batch=batch, earlier=old_reader(count)), own


def sorted_patches(rgb):
    return sorted(patch.tobytes() for patch in rgb)


def test_a_batch_holds_k_earlier_patches_and_all_of_them_have_their_turn() -> None:
    reader, own = replay()
    old = old_reader()
    assert reader.steps_per_epoch == own.steps_per_epoch
    for step in range(3 * reader.steps_per_epoch):
        rgb, labels = reader.batch(*divmod(step, reader.steps_per_epoch))
        assert (rgb.shape, labels.shape) == ((5, 64, 64, 3), (5, 64, 64))
        earlier = rgb[:, 0, 0, 0] == 200
        new_part = own.batch(*divmod(step, own.steps_per_epoch))
        old_part = old.batch(*divmod(step, old.steps_per_epoch))
        assert sorted_patches(rgb[~earlier]) == sorted_patches(new_part[0])
        assert sorted_patches(rgb[earlier]) == sorted_patches(old_part[0])
        for part, chosen in ((new_part, ~earlier), (old_part, earlier)):
            pairs = sorted(a.tobytes() + b.tobytes() for a, b in zip(*part, strict=True))
            both = zip(rgb[chosen], labels[chosen], strict=True)
            assert sorted(a.tobytes() + b.tobytes() for a, b in both) == pairs


def test_batches_depend_on_seed_and_step_alone() -> None:
    def stream(first, workers, seed=3):
        batches = replay(seed)[0].stream(first, 9, workers=workers)
        return [b.rgb.tobytes() + b.labels.tobytes() for b in batches]

    whole = stream(0, 0)
    assert stream(0, 3) == whole
    assert stream(4, 2) == whole[4:]
    assert stream(0, 0, seed=4) != whole


def test_old_and_new_stand_mixed() -> None:
    reader, _ = replay()
    places = {tuple(reader.batch(0, n)[0][:, 0, 0, 0]) for n in range(reader.steps_per_epoch)}
    assert len(places) > 1


def test_earlier_patches_that_leave_no_room_or_do_not_fit_are_refused() -> None:
    image = colour_image("new", 1)
    index = patch_index([image], 64, 32)
    with pytest.raises(InputError, match="cannot hold"):
        ReplayReader([image], index, batch=2, earlier=old_reader(2))
    other = patch_index([image], 96, 32)
    with pytest.raises(InputError, match="same size"):
        ReplayReader([image], other, batch=4, earlier=old_reader(2))


def take_steps(network: nn.Module, count: int = 3, micro_batch: int = 0) -> nn.Module:
    """Steps as a session takes them: ``train()`` first."""
    network.train()
    stepper = Stepper(
        network,
        make_optimizer(network, ADAMW),
        make_loss([LossTerm("ce")]),
        "float32",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        clip=5.0,
        micro_batch=micro_batch,
    )
    images = [colour_image("a", 0), colour_image("b", 1)]
    reader = PatchReader(images, patch_index(images, 64, 32), Augment(), 3, batch=4)
    for batch in reader.stream(0, count, workers=0):
        stepper.step(batch.rgb, batch.labels, 1.0)
    return network


def buffers(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: b.clone() for name, b in network.named_buffers()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_frozen_statistics_stay_to_the_bit_over_steps_and_weights_learn() -> None:
    network = take_steps(tiny_network(), 2)
    before, weights = buffers(network), copy.deepcopy(network)
    freeze_norms(network)
    take_steps(network, 3)
    network.eval().train()
    take_steps(network, 2)
    assert same(buffers(network), before)
    norms = [n for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    changed = {
        name
        for name, p in network.named_parameters()
        if not torch.equal(p, dict(weights.named_parameters())[name])
    }
    assert any(name.rsplit(".", 1)[0] in norms for name in changed), "scale and shift are trained"
    assert any(name.rsplit(".", 1)[0] not in norms for name in changed)
    take_steps(weights, 1)
    assert not same(buffers(weights), before), "without freezing they move"


def test_a_frozen_network_trains_on_what_it_is_used_as() -> None:
    """Training and evaluation mode give the same scores, whatever else is in the batch."""
    network = take_steps(tiny_network(), 2)
    freeze_norms(network)
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        trained = network.train()(x)
        alone = network.train()(x[:1])
        used = network.eval()(x)
    torch.testing.assert_close(trained, used, rtol=0, atol=0)
    torch.testing.assert_close(alone, trained[:1])


def test_parts_of_a_batch_then_change_nothing() -> None:
    start = take_steps(tiny_network(), 2)
    ends = []
    for micro in (0, 2):
        network = copy.deepcopy(start)
        freeze_norms(network)
        ends.append(take_steps(network, 1, micro))
    for a, b in zip(ends[0].parameters(), ends[1].parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


def test_scale_and_shift_stay_where_that_is_asked_for() -> None:
    network = tiny_network()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [p.detach().clone() for m in norms for p in m.parameters()]
    freeze_norms(network, affine=True)
    take_steps(network)
    after = [p for m in norms for p in m.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_frozen_encoder_stays_to_the_bit_and_the_rest_learns() -> None:
    network = take_steps(tiny_network(), 2)
    before = copy.deepcopy(network)
    freeze_encoder(network)
    take_steps(network)
    assert same_weights(network.encoder, before.encoder)
    assert not same_weights(network.head, before.head)


def test_what_was_frozen_can_be_let_go() -> None:
    network = take_steps(tiny_network(), 1)
    norms, encoder = freeze_norms(network), freeze_encoder(network)
    encoder.thaw()
    before = buffers(network)
    assert all(p.requires_grad for p in network.parameters())
    take_steps(network, 1)
    assert same(buffers(network), before), "the other freezing stands"
    norms.thaw()
    take_steps(network, 1)
    assert not same(buffers(network), before)


def test_freezing_changes_no_name_in_a_checkpoint() -> None:
    network = tiny_network()
    names = list(network.state_dict())
    freeze_norms(network, affine=True)
    freeze_encoder(network)
    assert list(network.state_dict()) == names


def test_a_parent_stays_as_it_was() -> None:
    network = tiny_network()
    freeze_norms(network)
    parent = parent_of(network)
    before = copy.deepcopy(parent.state_dict())
    assert not parent.training
    assert not any(p.requires_grad for p in parent.parameters())
    take_steps(network)
    assert same(dict(parent.state_dict()), dict(before))
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize(
    "options", [{"weight": -1.0}, {"temperature": 0.0}, {"replay": -1}, {"weight": math.nan}]
)
def test_impossible_options_are_refused(options) -> None:
    with pytest.raises(InputError):
        Keeping(**options)
