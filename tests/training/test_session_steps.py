"""A step in parts has the whole batch's gradient, and what fails leaves no trace."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from session_tools import ADAMW, SGD, TINY, tiny_network, tiny_reader
from torch import nn

from napari_hspnet.errors import CancelledError, InputError, OutOfMemoryError
from napari_hspnet.networks.card import IMAGENET_MEAN, IMAGENET_STD
from napari_hspnet.training import DivergedError
from napari_hspnet.training.loop import fast_bfloat16, to_input, to_target
from napari_hspnet.training.loss_terms import LossTerm, make_loss
from napari_hspnet.training.recipe import make_optimizer
from napari_hspnet.training.steps import Stepper, choose_precision, parts

PIXELWISE = ("ce", "ae_r", "cdw_ce", "squared_emd", "focal")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def still(network: nn.Module) -> nn.Module:
    """Batch normalisation by its running statistics: alone parts cannot be told apart."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


def stepper(network, terms=None, precision="float32", **others) -> Stepper:
    return Stepper(
        network,
        make_optimizer(network, others.pop("recipe", SGD)),
        make_loss(terms or [LossTerm("ce")]),
        precision,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        **others,
    )


def batch(count: int = 6):
    """Patches, each with another share of ignored pixels."""
    rgb, labels = tiny_reader(count).batch(0, 0)
    for i in range(count):
        labels[i, : 9 * i] = 255
    return rgb, labels


def gradient_of(network: nn.Module) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in network.parameters()])


@given(st.integers(2, 64), st.integers(0, 64))
def test_parts_cover_the_batch_and_none_is_a_single_patch(count: int, micro: int) -> None:
    found = parts(count, micro)
    sizes = [part.stop - part.start for part in found]
    assert [part.start for part in found] == [0, *np.cumsum(sizes)[:-1]]
    assert sum(sizes) == count
    assert min(sizes) >= 2
    assert max(sizes) - min(sizes) <= 1
    if micro >= 3 or (micro == 2 and count % 2 == 0):
        assert max(sizes) <= micro


@pytest.mark.parametrize("micro", [2, 3, 4])
def test_parts_have_the_gradient_of_the_whole(micro: int) -> None:
    terms = [LossTerm(name, 0.5, {"background": 0.3}) for name in PIXELWISE]
    whole, cut = still(tiny_network()), still(tiny_network())
    one = stepper(whole, terms).gradient(*batch())
    other = stepper(cut, terms, micro_batch=micro).gradient(*batch())
    assert other == pytest.approx(one, rel=1e-5)
    wanted = gradient_of(whole)
    torch.testing.assert_close(gradient_of(cut), wanted, rtol=1e-3, atol=1e-5)
    assert wanted.abs().max() > 0.01


def test_a_part_without_a_counting_pixel_changes_nothing() -> None:
    rgb, labels = batch(4)
    labels[2:] = 255
    whole, cut = still(tiny_network()), still(tiny_network())
    one = stepper(whole).gradient(rgb, labels)
    assert stepper(cut, micro_batch=2).gradient(rgb, labels) == pytest.approx(one, rel=1e-5)
    torch.testing.assert_close(gradient_of(cut), gradient_of(whole), rtol=1e-3, atol=1e-5)
    labels[:] = 255
    assert stepper(cut, micro_batch=2).gradient(rgb, labels) == 0


class ShortOfMemory(nn.Module):
    """Runs out of memory as long as more patches come than fit."""

    def __init__(self, network: nn.Module, most: int, error: Exception) -> None:
        super().__init__()
        self.encoder, self.inner = network.encoder, network
        self.most, self.error, self.seen = most, error, []

    def forward(self, x):
        self.seen.append(len(x))
        answer = self.inner(x)
        if len(x) > self.most:
            raise self.error
        return answer


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")]
)
def test_out_of_memory_halves_the_micro_batch_and_repeats_the_step(error) -> None:
    whole, short = still(tiny_network()), still(tiny_network())
    stepper(whole).gradient(*batch(8))
    fake = ShortOfMemory(short, 4, error)
    steps = stepper(fake)
    steps.gradient(*batch(8))
    assert fake.seen == [8, 4, 4]
    assert steps.micro_batch == 4
    torch.testing.assert_close(gradient_of(short), gradient_of(whole), rtol=1e-3, atol=1e-5)
    steps.gradient(*batch(8))
    assert fake.seen[3:] == [4, 4], "it stays at what fits"


def test_a_repeated_step_counts_its_patches_once_in_batch_normalisation() -> None:
    twice, once = tiny_network(), tiny_network()
    stepper(ShortOfMemory(twice, 4, torch.OutOfMemoryError())).gradient(*batch(8))
    stepper(once, micro_batch=4).gradient(*batch(8))
    for own, other in zip(twice.buffers(), once.buffers(), strict=True):
        assert torch.equal(own, other)


def test_not_even_two_patches_is_an_error() -> None:
    fake = ShortOfMemory(tiny_network(), 1, torch.OutOfMemoryError())
    with pytest.raises(OutOfMemoryError, match="Not even 2 patches"):
        stepper(fake).gradient(*batch(8))
    assert fake.seen == [8, 4, 2]


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="odd"):
        stepper(ShortOfMemory(tiny_network(), 1, RuntimeError("odd"))).gradient(*batch())


def state(network) -> list[torch.Tensor]:
    return [v.clone() for v in network.state_dict().values()]


def test_a_loss_that_is_not_finite_leaves_the_network_as_it_was() -> None:
    network = tiny_network()
    before = state(network)
    torch.manual_seed(1)
    network.head[-1].register_forward_hook(lambda m, i, out: out * float("nan") * torch.rand(()))
    random = torch.get_rng_state()
    with pytest.raises(DivergedError, match="nan"):
        stepper(network).step(*batch(), 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, state(network), strict=True))
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("backwards", [False, True])
def test_cancelling_in_mid_step_leaves_the_network_as_it_was(backwards: bool) -> None:
    network, cancel = tiny_network(), threading.Event()
    before = state(network)

    def stop(module, inputs, output):
        if backwards:
            output.register_hook(lambda gradient: cancel.set())
        else:
            cancel.set()

    network.encoder.layer4.register_forward_hook(stop)
    reached = []
    network.head[-1].register_forward_hook(lambda *_: reached.append(1))
    with pytest.raises(CancelledError):
        stepper(network, cancel=cancel).step(*batch(), 1.0)
    assert bool(reached) == backwards, "it does not wait for the step's end"
    assert all(torch.equal(a, b) for a, b in zip(before, state(network), strict=True))


def test_the_clip_bounds_what_a_step_changes() -> None:
    moved = {}
    for clip in (None, 1e-3):
        network = tiny_network()
        before = [p.detach().clone() for p in network.parameters()]
        stepper(network, clip=clip).step(*batch(), 1.0)
        after = [p.detach() for p in network.parameters()]
        moved[clip] = sum(float(((a - b) ** 2).sum()) for a, b in zip(after, before, strict=True))
    assert moved[1e-3] < 1e-3 * moved[None]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_learns_about_the_same(precision: str) -> None:
    exact, rough = tiny_network(), tiny_network()
    wanted = [stepper(exact, recipe=ADAMW).step(*batch(), 1.0)]
    steps = stepper(rough, precision=precision, recipe=ADAMW)
    got = [steps.step(*batch(), 1.0)]
    assert got == pytest.approx(wanted, rel=0.05)
    assert steps.scaler.is_enabled() == (precision == "float16")
    assert all(p.dtype == torch.float32 for p in rough.parameters())
    for _ in range(30):
        last = steps.step(*batch(), 1.0)
    assert last < 0.8 * got[0]


def test_auto_precision_is_what_the_machine_has() -> None:
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == ("bfloat16" if fast_bfloat16() else "float32")
    assert choose_precision("float16", cpu) == "float16"
    with pytest.raises(InputError, match="half"):
        choose_precision("half", cpu)


@pytest.mark.parametrize(("native", "wanted"), [(True, "bfloat16"), (False, "float16")])
def test_auto_precision_on_cuda(monkeypatch, native: bool, wanted: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    assert choose_precision("auto", torch.device("cuda")) == wanted


@pytest.mark.parametrize("channels", [4, 5])
def test_a_step_sees_what_the_other_loop_and_the_engine_see(channels: int) -> None:
    architecture = dataclasses.replace(TINY, num_classes=channels)
    network, seen = tiny_network(architecture), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    rgb, labels = batch()
    loss = make_loss([LossTerm("ce")], channels)
    steps = Stepper(
        network, make_optimizer(network, SGD), loss, "float32", mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    value = steps.gradient(rgb, labels)
    assert torch.equal(seen[0], to_input(rgb))
    again = tiny_network(architecture).train()
    assert value == pytest.approx(
        float(loss(again(to_input(rgb)), to_target(labels, channels)).detach())
    )
