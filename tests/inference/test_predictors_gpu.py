"""16 bits, and the back end that records a CUDA graph: all of it that a CPU can show."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import torch
from engine_helpers import SmallNet
from predictor_helpers import ARCHITECTURE, Fake, chosen, subject
from torch import nn
from torch.nn import functional as F

from napari_hspnet.errors import CancelledError, OutOfMemoryError
from napari_hspnet.inference.folding import fold
from napari_hspnet.inference.predictors import (
    CudaGraph,
    Eager,
    Folded,
    FoldedChannelsLast,
    Inductor,
    WithFallback,
    base,
    fusing,
)
from napari_hspnet.inference.predictors.agreement import as_near
from napari_hspnet.inference.predictors.eager import Again
from napari_hspnet.inference.predictors.fusing import FusedBlock, FusedConv, fuse
from napari_hspnet.networks import Architecture, build

HALVES = pytest.mark.parametrize("precision", ["float16", "bfloat16"])
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")


def windows(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(40, 220, (count, 12, 12, 3), generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)


def logits_of(kind, what, pixels: torch.Tensor) -> torch.Tensor:
    with kind(what) as predictor:
        return predictor(pixels)


@HALVES
@pytest.mark.parametrize("kind", [Folded, FoldedChannelsLast], ids=lambda kind: kind.name)
def test_in_16_bits_the_folded_network_is_as_near_to_float32_as_the_plain_one(
    kind, precision, hspnet
):
    pixels = windows(4)
    exact = logits_of(Eager, subject(hspnet.network), pixels)
    plain = logits_of(Eager, subject(hspnet.network, precision=precision), pixels)
    found = logits_of(kind, subject(hspnet.network, precision=precision), pixels)
    assert exact.std() > 1
    assert found.dtype is torch.float32
    assert not torch.equal(found, logits_of(kind, subject(hspnet.network), pixels)), "16 bits"
    assert as_near(exact, plain, found)


def overflowing() -> nn.Module:
    """The same function in float32, with values on the way that float16 does not hold."""
    torch.manual_seed(2)
    network = build(ARCHITECTURE).eval()
    factor = 2.0**30
    with torch.no_grad():
        for parameter in network.head[0][1].parameters():
            parameter *= factor
        network.head[1][0].weight /= factor
    return network


@pytest.mark.parametrize("kind", [Folded, FoldedChannelsLast], ids=lambda kind: kind.name)
def test_windows_that_overflow_are_run_again_in_float32(kind):
    network, pixels = overflowing(), windows(2)
    with torch.no_grad():
        raw = fold(network, 96).half()(torch.randn(2, 3, 96, 96).half())
    assert not torch.isfinite(raw).all()
    found = logits_of(kind, subject(network, precision="float16"), pixels)
    assert torch.equal(found, logits_of(Eager, subject(network), pixels))
    assert not any(m._forward_pre_hooks for m in network.modules()), "as it was"


def test_only_windows_that_overflowed_are_run_again(hspnet):
    pixels = windows(3)
    what = subject(hspnet.network, precision="float16")
    exact = logits_of(Eager, subject(hspnet.network), pixels)
    again = Again(what)
    before = torch.zeros_like(exact)
    found = again.mended(before.clone(), torch.tensor([True, False, True]), pixels)
    again.close()
    assert torch.equal(found[[0, 2]], before[[0, 2]])
    torch.testing.assert_close(found[1], exact[1], rtol=0, atol=1e-5)


def test_how_near_is_near_enough():
    torch.manual_seed(0)
    exact = 3 * torch.randn(1, 5, 64, 64)
    noise, other = (0.02 * torch.randn(1, 5, 64, 64) for _ in range(2))
    assert as_near(exact, exact + noise, exact + other)
    assert as_near(exact, exact + noise, exact)
    assert not as_near(exact, exact + noise, exact + 3 * other)
    assert not as_near(exact, exact + noise, exact * torch.nan)
    assert not as_near(exact, exact + noise, exact[:, :4])
    # No further on the whole, but many labels turned.
    flat = 1e-4 * exact
    assert not as_near(flat, flat, flat.flip(1))


def test_auto_in_16_bits_measures_by_float32(bench):
    def rough(self, logits):
        generator = torch.Generator().manual_seed(0)
        return logits + torch.randn(logits.shape, generator=generator)

    bench(
        rough={"cost": 0.1, "answer": rough},
        finer={"cost": 1.0, "answer": lambda self, logits: logits + 1e-6},
    )
    found = chosen(precision="float16")
    assert found.used == "finer"
    assert "rough: it is further from float32 than the plain network" in found.notes[0]


@pytest.mark.parametrize(
    "architecture",
    [
        ARCHITECTURE,
        replace(ARCHITECTURE, encoder="resnet50", ds_blocks=(True, False, True, True, True)),
        replace(ARCHITECTURE, ds_blocks=(True, True, True, True, False)),
    ],
    ids=["small", "resnet50", "no DS-Block 5"],
)
@pytest.mark.parametrize("cudnn", [False, True])
def test_fused_it_is_the_same_function(architecture, cudnn, monkeypatch):
    calls = []

    def conv_relu(x, weight, bias, stride, padding, dilation, groups):
        calls.append("relu")
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups).relu()

    def conv_add_relu(x, weight, z, alpha, bias, stride, padding, dilation, groups):
        calls.append("add")
        return (F.conv2d(x, weight, bias, stride, padding, dilation, groups) + alpha * z).relu()

    if cudnn:
        monkeypatch.setattr(fusing, "_on_cuda", lambda x: True)
        monkeypatch.setattr(torch, "cudnn_convolution_relu", conv_relu)
        monkeypatch.setattr(torch, "cudnn_convolution_add_relu", conv_add_relu)
    torch.manual_seed(3)
    network = build(architecture).double()
    with torch.no_grad():
        network(torch.randn(2, 3, 96, 96, dtype=torch.float64))
        network.eval()
        x = torch.randn(2, 3, 96, 96, dtype=torch.float64)
        expected = fold(network, 96)(x)
        fused = fuse(fold(network, 96))
        found = fused(x)
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()
    blocks = sum(isinstance(m, FusedBlock) for m in fused.modules())
    assert blocks == (4 if architecture.encoder == "small" else 16)
    if cudnn:
        assert calls.count("add") == blocks
        # A block's last is among the fused convolutions, with its sum.
        fused_convs = sum(isinstance(m, FusedConv) for m in fused.modules())
        assert calls.count("relu") == fused_convs - blocks
    else:
        assert not calls


def test_a_graph_is_for_cuda():
    what = subject(SmallNet())
    assert "CUDA alone" in CudaGraph.available(what)
    there = replace(what, device=torch.device("cuda"))
    assert "HSP-Net alone" in CudaGraph.available(there)
    assert "not known" in CudaGraph.available(
        replace(there, network=build(ARCHITECTURE), window=None)
    )


class Recorded(CudaGraph):
    """A graph that is none, on the CPU: counts how often it is recorded and replayed."""

    def __init__(self, subject) -> None:
        super().__init__(subject)
        self.sizes: list[int] = []
        self.replays = 0

    def _record(self, work):
        self.sizes.append(len(work()[0]))

        def replay():
            self.replays += 1
            return work()

        return replay


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_smaller_batches_use_part_of_the_graph_and_larger_ones_a_new_one(precision, hspnet):
    what = subject(hspnet.network, precision=precision)
    pixels = windows(9)
    expected = logits_of(FoldedChannelsLast, what, pixels)
    with Recorded(what) as predictor:
        found = [predictor(part) for part in pixels.split([3, 2, 3, 1])]
        assert (predictor.sizes, predictor.replays) == ([3], 4)
        found.append(predictor(pixels[:4]))
        assert (predictor.sizes, predictor.replays) == ([3, 4], 5)
        assert predictor.notes == ()
    tolerance = {"float32": 1e-4, "float16": 0.05, "bfloat16": 0.4}[precision]
    # Results of earlier batches stay when later ones overwrite the graph's tensors.
    for logits, part in zip(found, [*pixels.split([3, 2, 3, 1]), pixels[:4]], strict=True):
        assert logits.shape[0] == part.shape[0]
    torch.testing.assert_close(torch.cat(found[:4]), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(found[4], expected[:4], rtol=0, atol=tolerance)


def test_two_batches_can_be_under_way(hspnet):
    what = subject(hspnet.network, precision="float16")
    pixels = windows(6)
    with Recorded(what) as predictor:
        expected = [predictor(part) for part in pixels.split(2)]
        waiting = [predictor.begin(part) for part in pixels.split(2)]
        assert all(
            torch.equal(wait(), logits) for wait, logits in zip(waiting, expected, strict=True)
        )


def test_what_overflows_in_a_graph_is_run_again():
    network, pixels = overflowing(), windows(2)
    found = logits_of(Recorded, subject(network, precision="float16"), pixels)
    assert torch.equal(found, logits_of(Eager, subject(network), pixels))


def test_where_nothing_can_be_recorded_the_same_is_run_without(hspnet):
    class Refused(CudaGraph):
        def _record(self, work):
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    pixels = windows(2)
    expected = logits_of(FoldedChannelsLast, subject(hspnet.network), pixels)
    with WithFallback(Refused(subject(hspnet.network))) as predictor:
        predictor(pixels[:1])
        found = predictor(pixels)
        (note,) = predictor.notes
    assert predictor.used == "cuda-graph"
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert "without a graph (RuntimeError: operation not permitted" in note
    assert "more" not in note


def test_where_nothing_can_be_fused_the_graph_is_of_plain_layers(hspnet, monkeypatch):
    def broken(self, x, other=None):
        raise RuntimeError("no engine for this")

    monkeypatch.setattr(FusedConv, "forward", broken)
    pixels = windows(2)
    expected = logits_of(FoldedChannelsLast, subject(hspnet.network), pixels)
    with Recorded(subject(hspnet.network)) as predictor:
        torch.testing.assert_close(predictor(pixels), expected, rtol=0, atol=1e-4)
        assert (predictor.sizes, predictor.replays) == ([2], 1)
        assert "without fused convolutions" in predictor.notes[0]


def test_a_batch_that_does_not_fit_is_tried_smaller(hspnet):
    class Full(Recorded):
        def _record(self, work):
            if len(work()[0]) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super()._record(work)

    pixels = windows(4)
    with Full(subject(hspnet.network)) as predictor:
        with pytest.raises(OutOfMemoryError):
            predictor(pixels)
        assert predictor(pixels[:2]).shape[0] == 2
        assert predictor.notes == ()


def test_a_cancelled_run_records_nothing(hspnet):
    what = replace(subject(hspnet.network), cancel=threading.Event())
    with Recorded(what) as predictor:
        predictor(windows(1))
        what.cancel.set()
        with pytest.raises(CancelledError):
            predictor(windows(2))
        assert predictor.sizes == [1]


@pytest.mark.parametrize("fails", ["begin", "finish"])
def test_a_batch_under_way_is_taken_over_when_the_back_end_fails(fails):
    class Late(Fake):
        def _begin(self, windows):
            if fails == "begin":
                raise RuntimeError("broken")

            def finish():
                raise RuntimeError("broken")

            return finish

    network, pixels = SmallNet(), windows(4)
    expected = logits_of(Eager, subject(network), pixels)
    with WithFallback(Late(subject(network))) as predictor:
        waiting = [predictor.begin(part) for part in pixels.split(2)]
        found = torch.cat([wait() for wait in waiting])
        assert torch.equal(predictor(pixels), expected)
    assert torch.equal(found, expected)
    assert predictor.used == "eager"
    assert predictor.notes == ("fake failed (RuntimeError: broken), eager took over",)


def test_float32_is_float32_on_cuda_and_what_others_set_is_left():
    flags = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = True
        with base.without_tf32(torch.device("cuda")):
            assert not any(flag.allow_tf32 for flag in flags)
        with pytest.raises(ZeroDivisionError), base.without_tf32(torch.device("cuda")):
            raise ZeroDivisionError
        assert all(flag.allow_tf32 for flag in flags)
        with base.without_tf32(torch.device("cpu")):
            assert all(flag.allow_tf32 for flag in flags)
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


@on_cuda
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", [FoldedChannelsLast, CudaGraph, Inductor], ids=lambda k: k.name)
def test_on_cuda_labels_are_those_of_the_plain_network(kind, precision):
    torch.manual_seed(0)
    network = build(Architecture(encoder="resnet18"))
    device = torch.device("cuda")
    network.to(device)(torch.randn(4, 3, 96, 96, device=device))
    network.eval()
    what = replace(subject(network, precision=precision), device=device)
    if (reason := kind.available(what)) is not None:
        pytest.skip(f"{kind.name}: {reason}")
    pixels = windows(5)
    exact = logits_of(Eager, replace(what, precision="float32"), pixels)
    plain = logits_of(Eager, what, pixels)
    with kind(what) as predictor:
        waiting = [predictor.begin(part) for part in pixels.split([2, 2, 1])[:2]]
        found = torch.cat([*(wait() for wait in waiting), predictor(pixels[4:])])
        assert predictor.notes == ()
    if precision == "float32":
        best = exact.topk(2, dim=1).values
        differ = (exact.argmax(1) != found.argmax(1)) & (best[:, 0] - best[:, 1] > 1e-4)
        assert not differ.any()
    else:
        assert as_near(exact, plain, found)
