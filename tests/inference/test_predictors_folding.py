"""A folded network computes what the network does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_hspnet.errors import InputError
from napari_hspnet.inference.folding import (
    FoldedDSBlock,
    Savings,
    SpreadPoint,
    drop_dead_taps,
    fold,
    fold_norm,
    fold_scale,
    split_input,
)
from napari_hspnet.inference.spreading import FarLevels, SpreadConv, spread_share
from napari_hspnet.inference.winograd import WinogradConv, arithmetic
from napari_hspnet.networks import Architecture, DSBlock, Network, build

NARROW = Architecture(
    encoder="small",
    ds_widths=(4, 6, 8, 10, 12),
    head_widths=(9, 7),
    encoder_widths=(8, 12, 16, 20),
)


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Evaluation mode, with statistics and scales as after a training."""
    generator = torch.Generator().manual_seed(seed)

    def draw(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        values = torch.rand(like.shape, generator=generator, dtype=torch.float64)
        return (low + (high - low) * values).to(like.dtype)

    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.copy_(draw(part.running_mean, -0.5, 0.5))
                part.running_var.copy_(draw(part.running_var, 0.3, 3))
                part.weight.copy_(draw(part.weight, 0.5, 1.5))
                part.bias.copy_(draw(part.bias, -0.3, 0.3))
    return module.eval()


def network(architecture: Architecture, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    made = build(architecture)
    shaken(made, seed)
    # Fresh ones begin with logits near zero, where anything would look equal: these
    # spread as trained ones do.
    with torch.no_grad():
        made.head[2].weight.mul_(3 / made(torch.randn(1, 3, 64, 64)).std())
    return made


def same_in_float64(one: Network, other: nn.Module, height: int, width: int, batch: int = 1):
    x = torch.randn(batch, 3, height, width, dtype=torch.float64)
    with torch.no_grad():
        expected, found = one(x), other(x)
    assert expected.std() > 1e-3
    scale = expected.abs().max()
    assert (found - expected).abs().max() <= 1e-9 * max(1, scale)


@pytest.mark.parametrize(
    "savings",
    [
        Savings(winograd=True),
        Savings(),
        Savings(False, True),
        Savings(True, False),
        Savings(False, False),
        Savings(spread_atrous=False),
        Savings(False, spread_atrous=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("batch", [1, 2])
def test_every_mix_of_savings_is_the_same_function(savings, batch):
    one = network(NARROW).double()
    same_in_float64(one, fold(one, 96, savings), 96, 96, batch)
    same_in_float64(one, fold(one, None, savings), 70, 131, batch)


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(64, 230),
    width=st.integers(64, 230),
    classes=st.sampled_from([4, 5]),
    present=st.tuples(*[st.booleans()] * 5),
    dilations=st.lists(
        st.tuples(*[st.sampled_from([1, 2, 3, 4, 6, 7, 12, 18, 40])] * 3), min_size=5, max_size=5
    ),
    seed=st.integers(0, 5),
)
def test_any_side_ablation_and_dilation(height, width, classes, present, dilations, seed):
    one = network(
        replace(NARROW, num_classes=classes, ds_blocks=present, ds_dilations=tuple(dilations)), seed
    ).double()
    same_in_float64(one, fold(one, (height, width)), height, width)


@pytest.mark.parametrize("side", [400, 97])
@pytest.mark.parametrize("encoder", ["small", "resnet18"])
def test_float32_gives_the_same_labels(encoder, side):
    one = network(replace(NARROW, encoder=encoder))
    x = torch.randn(1, 3, side, side)
    last = [m for m in one.head.modules() if isinstance(m, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        # Random weights give logits of any size, and rounding grows with it: those of
        # a trained network spread by a few.
        shrunk = 2 / one(x).std()
        for parameter in last.parameters():
            parameter *= shrunk
        expected, found = one(x), fold(one, side)(x)
    assert expected.std() > 1
    assert (found - expected).abs().max() <= 1e-4
    best = expected.topk(2, 1).values
    differ = expected.argmax(1) != found.argmax(1)
    assert (best[:, 0] - best[:, 1])[differ].max().item() <= 2e-4 if differ.any() else True


@pytest.mark.parametrize("encoder", ["resnet34", "resnet50"])
def test_every_encoder(encoder):
    one = network(replace(NARROW, encoder=encoder)).double()
    same_in_float64(one, fold(one, 101), 101, 101)


def test_the_papers_widths_at_the_papers_window():
    one = network(Architecture(encoder="resnet18"))
    x = torch.randn(1, 3, 400, 400)
    with torch.no_grad():
        expected, found = one(x), fold(one, 400)(x)
        filtered = fold(one, 400, Savings(winograd=True))
        also = filtered(x.contiguous(memory_format=torch.channels_last))
    assert (found - expected).abs().max() <= 1e-4
    assert (also - expected).abs().max() <= 1e-4
    # All of DS-Block 5 and of the head before the last.
    joint = [*filtered.joint.atrous, *filtered.head[:-1]]
    assert all(isinstance(part[0], WinogradConv) for part in joint)


def test_the_network_is_left_as_it_is():
    one = network(NARROW)
    before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    one.train()
    called = []
    one.encoder.conv1.register_forward_pre_hook(lambda *_: called.append(1))
    folded = fold(one, 64)
    folded(torch.randn(1, 3, 64, 64))
    fold_scale(folded, torch.tensor([1.0, 2.0, 3.0]))
    assert one.training
    assert not folded.training
    assert not called, "somebody else's hooks must not come along"
    assert all(torch.equal(before[k], v) for k, v in one.state_dict().items())
    assert not any(p.requires_grad for p in folded.parameters())
    assert all(p.requires_grad for p in one.parameters())


def test_folded_inside_inference_mode_it_can_still_be_traced():
    one = network(NARROW)
    with torch.inference_mode():
        folded = fold(one, 64)
    assert not any(p.is_inference() for p in folded.parameters())


def test_another_size_than_it_was_folded_for_is_refused():
    folded = fold(network(NARROW), 100)
    with pytest.raises(ValueError, match="folded for"):
        folded(torch.randn(1, 3, 200, 200))


def test_other_networks_are_refused():
    with pytest.raises(InputError, match="cannot be folded"):
        fold(nn.Conv2d(3, 5, 1))


def test_norm_of_a_convolution_with_and_without_bias():
    torch.manual_seed(0)
    for bias in (True, False):
        conv = nn.Conv2d(3, 5, 3, stride=2, padding=2, dilation=2, bias=bias).double()
        norm = shaken(nn.BatchNorm2d(5).double())
        x = torch.randn(2, 3, 17, 13, dtype=torch.float64)
        torch.testing.assert_close(fold_norm(conv, norm)(x), norm(conv(x)), rtol=0, atol=1e-12)
    plain = nn.BatchNorm2d(5, affine=False).double().eval()
    torch.testing.assert_close(fold_norm(conv, plain)(x), plain(conv(x)), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="statistics"):
        fold_norm(conv, nn.BatchNorm2d(5, track_running_stats=False))


@pytest.mark.parametrize(
    ("height", "width", "dilation", "left"),
    [
        (13, 13, 18, (1, 1)),
        (13, 13, 13, (1, 1)),
        (13, 13, 12, (3, 3)),
        (13, 20, 18, (1, 3)),
        (20, 13, 18, (3, 1)),
        (1, 1, 1, (1, 1)),
    ],
)
def test_dead_taps_go_and_live_ones_stay(height, width, dilation, left):
    conv = nn.Conv2d(4, 6, 3, padding=dilation, dilation=dilation).double()
    pruned = drop_dead_taps(conv, height, width)
    x = torch.randn(2, 4, height, width, dtype=torch.float64)
    assert pruned.kernel_size == left
    torch.testing.assert_close(pruned(x), conv(x), rtol=0, atol=1e-12)


def test_at_400_px_the_papers_network_loses_the_dead_taps_of_ds_block_4():
    folded = fold(network(NARROW), 400)
    kernels = [[branch[0].kernel_size[0] for branch in block.atrous] for block in folded.ds]
    assert kernels == [[3, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 1]]
    assert [branch[0].kernel_size[0] for branch in folded.joint.atrous] == [3, 3, 3]


def test_split_input_sums_to_the_whole():
    conv = nn.Conv2d(9, 4, 1).double()
    parts = [torch.randn(2, c, 5, 6, dtype=torch.float64) for c in (2, 4, 3)]
    total = sum(one(x) for one, x in zip(split_input(conv, (2, 4, 3)), parts, strict=True))
    torch.testing.assert_close(total, conv(torch.cat(parts, 1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("partial", [True, False])
def test_a_block_with_its_pooling_as_a_bias_of_each_picture(partial):
    torch.manual_seed(0)
    block = shaken(DSBlock(7, 5, (1, 2, 30))).double()
    x = torch.randn(3, 7, 11, 9, dtype=torch.float64)
    # Pictures of different brightness have different constants.
    x += torch.tensor([0.0, 3.0, -2.0], dtype=torch.float64).view(3, 1, 1, 1)
    folded = FoldedDSBlock(block, (11, 9), Savings(partial_sums=partial))
    torch.testing.assert_close(folded(x), block(x), rtol=0, atol=1e-10)


def test_a_point_convolution_commutes_with_interpolation():
    conv = nn.Conv2d(9, 4, 1).double()
    levels = [
        torch.randn(2, c, *s, dtype=torch.float64)
        for c, s in ((2, (25, 31)), (4, (13, 16)), (3, (4, 4)))
    ]
    brought = [
        nn.functional.interpolate(x, size=(25, 31), mode="bilinear", align_corners=False)
        for x in levels
    ]
    torch.testing.assert_close(
        SpreadPoint(conv, (2, 4, 3))(levels, (25, 31)),
        conv(torch.cat(brought, 1)).relu(),
        rtol=0,
        atol=1e-12,
    )


def test_the_scale_of_normalisation_goes_into_the_first_convolution():
    one = network(NARROW).double()
    scale = torch.tensor([0.02, 0.01, 0.015])
    folded = fold(one, 65)
    fold_scale(folded, scale)
    centred = torch.randint(-128, 128, (2, 3, 65, 65)).double()
    with torch.no_grad():
        expected = one(centred * scale.double().view(1, 3, 1, 1))
        found = folded(centred)
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max().clamp_min(1)


@settings(max_examples=15, deadline=None)
@given(
    height=st.integers(1, 45),
    width=st.integers(1, 45),
    dilation=st.sampled_from([1, 2, 5, 6, 18]),
    batch=st.integers(1, 2),
    bias=st.booleans(),
)
def test_minimal_filtering_is_the_same_convolution(height, width, dilation, batch, bias):
    conv = nn.Conv2d(5, 4, 3, padding=dilation, dilation=dilation, bias=bias).double()
    x = torch.randn(batch, 5, height, width, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(WinogradConv(conv)(x), conv(x), rtol=0, atol=1e-12)


def test_what_minimal_filtering_spends():
    """DS-Block 5 at 400 px: 108 of 100 cells, 25 products for 81, and the transforms."""
    for dilation in (6, 12, 18):
        conv = nn.Conv2d(480, 256, 3, padding=dilation, dilation=dilation, device="meta")
        products = 25 / 81 * 1.08**2
        assert products < arithmetic(conv, 100, 100) < 1.15 * products
    few = nn.Conv2d(8, 8, 3, padding=1, device="meta")
    assert arithmetic(few, 100, 100) > 1


@pytest.mark.parametrize(
    "how",
    [{"stride": 2}, {"padding": 0}, {"dilation": 2}, {"groups": 2}, {"kernel_size": 5}],
    ids=str,
)
def test_minimal_filtering_refuses_other_convolutions(how):
    options = {"kernel_size": 3, "padding": 1, **how}
    with pytest.raises(ValueError, match="no 3x3 convolution"):
        WinogradConv(nn.Conv2d(4, 4, **options))


def test_only_what_is_worth_it_is_filtered():
    wide = replace(NARROW, ds_widths=(16, 16, 16, 16, 64), head_widths=(64, 7))
    one = network(wide).double()
    folded = fold(one, 140, Savings(winograd=True))
    found = [isinstance(branch[0], WinogradConv) for branch in folded.joint.atrous]
    sides = [arithmetic(branch[0], 35, 35) for branch in fold(one, 140).joint.atrous]
    assert found == [share < 0.6 for share in sides]
    assert any(found)
    assert not any(
        isinstance(part, WinogradConv) for part in folded.ds.modules() if part is not folded.ds
    )
    same_in_float64(one, folded, 140, 140)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    fine=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    kernel=st.tuples(st.sampled_from([1, 3]), st.sampled_from([1, 3])),
    dilation=st.sampled_from([1, 2, 6, 18, 40]),
    batch=st.integers(1, 2),
)
def test_a_convolution_before_the_interpolation_is_the_same(size, fine, kernel, dilation, batch):
    padding = tuple(dilation * (k // 2) for k in kernel)
    conv = nn.Conv2d(3, 4, kernel, padding=padding, dilation=dilation, bias=False).double()
    x = torch.randn(batch, 3, *size, dtype=torch.float64)
    other = torch.randn(batch, 4, *fine, dtype=torch.float64)
    brought = nn.functional.interpolate(x, size=fine, mode="bilinear", align_corners=False)
    with torch.no_grad():
        far = FarLevels([[conv]], [size], fine)
        torch.testing.assert_close(
            far.add(0, other, [x]), other + conv(brought), rtol=0, atol=1e-12
        )
        (mean,) = far.means([x])
    torch.testing.assert_close(mean, brought.mean((2, 3), keepdim=True), rtol=0, atol=1e-12)


def test_at_400_px_ds_block_5_never_sees_the_two_coarsest_maps():
    """Of what `spread_share` says, hence of what the documentation says."""
    conv = nn.Conv2d(480, 256, 3, padding=6, dilation=6, device="meta")
    shares = [
        round(spread_share(conv, channels, (side, side), (100, 100)), 2)
        for channels, side in ((64, 50), (128, 25), (256, 13))
    ]
    assert shares == [0.9, 0.18, 0.04]
    folded = fold(network(Architecture(encoder="resnet18")), 400)
    assert folded.near == 2
    assert [branch[0].in_channels for branch in folded.joint.atrous] == [96] * 3
    assert all(isinstance(c, SpreadConv) for branch in folded.joint.far.branches for c in branch)
    assert fold(network(NARROW)).near == 4, "without a size there is nothing to begin with"
