"""What every network of ours keeps, whatever its encoder and options."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from network_contract import NetworkContract
from torch.nn import functional as F

from napari_hspnet.errors import InputError
from napari_hspnet.networks import (
    DEMO_ARCHITECTURE,
    Architecture,
    DSBlock,
    HSPNet,
    build,
    demo_model_path,
    load_checkpoint,
    parameter_count,
)

NARROW = {"ds_widths": (4, 4, 4, 4, 4), "head_widths": (4, 4)}


# What torchvision documents, less the classifier.
ENCODER_PARAMETERS = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
}


def conv(c_in: int, c_out: int, kernel: int = 1) -> int:
    """A convolution without bias, and its normalisation."""
    return c_in * c_out * kernel**2 + 2 * c_out


def expected_count(arch: Architecture) -> int:
    """The literal design's parameters, added up by hand."""
    w = arch.encoder_widths
    if arch.encoder == "small":
        total = conv(3, w[0], 7) + 2 * conv(w[0], w[0], 3)
        for a, b in itertools.pairwise(w):
            total += conv(a, b, 3) + conv(b, b, 3) + conv(a, b)
    else:
        total = ENCODER_PARAMETERS[arch.encoder]
        w = (64, 128, 256, 512)
        if arch.encoder in ("resnet50", "resnet101"):
            w = (256, 512, 1024, 2048)
    c_ins = (*w, sum(arch.ds_widths[:4]))
    for c, c1, present in zip(c_ins, arch.ds_widths, arch.ds_blocks, strict=True):
        branches = 2 * conv(c, c1) + 3 * conv(c, c1, 3) + conv(5 * c1, c1)
        total += branches if present else conv(c, c1)
    first, second = arch.head_widths
    total += conv(arch.ds_widths[4], first, 3) + conv(first, second, 3)
    return total + second * arch.num_classes * 9 + arch.num_classes


class HSPNetContract(NetworkContract):
    """What holds of HSP-Net besides."""

    @property
    def count(self) -> int:
        return expected_count(self.architecture)


class TestDemo(HSPNetContract):
    architecture = DEMO_ARCHITECTURE


class TestResNet18WithoutBackground(HSPNetContract):
    architecture = Architecture(encoder="resnet18", num_classes=4, **NARROW)


class TestResNet34(HSPNetContract):
    architecture = Architecture(encoder="resnet34")


class TestResNet50Ablated(HSPNetContract):
    architecture = Architecture(
        encoder="resnet50", ds_blocks=(False, True, False, True, False), **NARROW
    )


class TestOtherDilations(HSPNetContract):
    architecture = Architecture(
        encoder="small",
        ds_dilations=((1, 2, 3), (6, 12, 18), (4, 8, 12), (2, 4, 6), (9, 9, 9)),
        **NARROW,
    )


class TestAllBlocksReplaced(HSPNetContract):
    architecture = Architecture(encoder="small", ds_blocks=(False,) * 5, **NARROW)


def test_demo_model_is_small() -> None:
    with torch.device("meta"):
        assert parameter_count(build(DEMO_ARCHITECTURE)) == 3_147_557


def test_resnet101_counts_what_the_literal_design_counts() -> None:
    """68.22 M; the paper says 69.70 M without saying what the rest is."""
    with torch.device("meta"):
        network = HSPNet("resnet101")
    assert parameter_count(network) == 68_220_869 == expected_count(network.architecture)


def test_sides_of_the_four_maps_at_400() -> None:
    network = build(DEMO_ARCHITECTURE).eval()
    with torch.inference_mode():
        maps = network.encoder(torch.zeros(1, 3, 400, 400))
        assert [m.shape[-1] for m in maps] == [100, 50, 25, 13]
        assert network(torch.zeros(1, 3, 400, 400)).shape == (1, 5, 400, 400)


def test_fifth_block_takes_what_the_four_others_give() -> None:
    """480 channels (equation 1), not the 256 of the paper's table."""
    with torch.device("meta"):
        network = HSPNet("resnet34")
    assert network.ds[4].point[0].in_channels == 32 + 64 + 128 + 256
    assert network.ds[4].reduce[0].out_channels == 256


def test_deep_maps_are_brought_to_e1s_size_and_not_by_a_factor() -> None:
    """V-HSP written out once more, slowly, at a side where factors do not fit."""
    torch.manual_seed(1)
    network = build(Architecture(encoder="small", **NARROW)).eval()
    x = torch.randn(1, 3, 100, 100)
    with torch.inference_mode():
        maps = network.encoder(x)
        side = maps[0].shape[-1]
        assert maps[3].shape[-1] * 8 != side
        up = [
            F.interpolate(d(m), (side, side), mode="bilinear", align_corners=False)
            for d, m in zip(network.ds[:4], maps, strict=True)
        ]
        logits = network.head(network.ds[4](torch.cat(up, 1)))
        expected = F.interpolate(logits, (100, 100), mode="bilinear", align_corners=False)
        torch.testing.assert_close(network(x), expected)


def test_global_pooling_reaches_everywhere_and_only_it_does() -> None:
    """A far corner changes the other corner through the pooling branch alone."""
    torch.manual_seed(2)
    block = DSBlock(3, 4).eval()
    x = torch.randn(1, 3, 64, 64)
    far = x.clone()
    far[..., -1, -1] += 100
    with torch.inference_mode():
        assert not torch.allclose(block(far)[..., 0, 0], block(x)[..., 0, 0])
        for p in block.pool.parameters():
            p.zero_()
        assert torch.equal(block(far)[..., 0, 0], block(x)[..., 0, 0])


def test_atrous_branches_see_6_12_and_18_away() -> None:
    block = DSBlock(1, 1).eval()
    for branch, dilation in zip(block.atrous, (6, 12, 18), strict=True):
        with torch.inference_mode():
            torch.nn.init.ones_(branch[0].weight)
            x = torch.zeros(1, 1, 41, 41)
            x[..., 20, 20] = 1
            rows, cols = torch.nonzero(branch[0](x)[0, 0], as_tuple=True)
        taps = {20 - dilation, 20, 20 + dilation}
        assert set(rows.tolist()) == set(cols.tolist()) == taps


def test_ablation_replaces_blocks_by_one_convolution() -> None:
    with torch.device("meta"):
        network = HSPNet("resnet34", ds_blocks=(True, True, True, True, False))
    kinds = [m for m in network.ds[4].modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.kernel_size for m in kinds] == [(1, 1)]
    assert isinstance(network.ds[0], DSBlock)


def test_width_scales_blocks_and_head() -> None:
    with torch.device("meta"):
        arch = HSPNet("resnet18", width=0.25).architecture
    assert arch.ds_widths == (8, 16, 32, 64, 64)
    assert arch.head_widths == (64, 64)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"encoder": "vgg"}, "vgg"),
        ({"num_classes": 3}, "3"),
        ({"num_classes": True}, "num_classes"),
        ({"ds_blocks": (True,) * 4}, "ds_blocks"),
        ({"ds_blocks": (1, 1, 1, 1, 1)}, "ds_blocks"),
        ({"ds_widths": (32, 64, 128, 256, 0)}, "ds_widths"),
        ({"head_widths": "ab"}, "head_widths"),
        ({"name": "segnet"}, "segnet"),
        ({"name": ["unet"]}, "unet"),
        ({"name": "fcn32s"}, "resnet34.*fcn32s"),
        ({"name": "unet", "encoder": "small"}, "small"),
        ({"name": "unet", "ds_widths": (1,) * 5}, "ds_widths say nothing.*unet"),
        ({"ds_dilations": 6}, "ds_dilations"),
        ({"ds_dilations": ((6, 12, 18),) * 4}, "ds_dilations"),
        ({"ds_dilations": (*((6, 12, 18),) * 4, (6, 12))}, "DS-Block 5"),
        ({"ds_dilations": (*((6, 12, 18),) * 4, 6)}, "DS-Block 5"),
        ({"ds_dilations": ((6, 0, 18),) * 5}, "DS-Block 1"),
        ({"ds_dilations": ((6, 12, 18.0),) * 5}, "DS-Block 1"),
        ({"ds_dilations": ((6, 12, 10**9),) * 5}, "1000000000"),
    ],
)
def test_impossible_architectures_are_named(change: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        dataclasses.replace(Architecture(), **change)


def test_a_file_older_than_dilations_is_the_literal_network() -> None:
    old = Architecture(encoder="small").to_json()
    del old["ds_dilations"]
    arch = Architecture.from_json(old)
    assert arch == Architecture(encoder="small")
    for block in build(arch).ds:
        assert [branch[0].dilation for branch in block.atrous] == [(6, 6), (12, 12), (18, 18)]


def test_the_demo_model_is_the_literal_network() -> None:
    network = load_checkpoint(demo_model_path()).network
    for block in network.ds:
        assert [branch[0].dilation for branch in block.atrous] == [(6, 6), (12, 12), (18, 18)]


def test_dilations_change_what_is_computed_and_no_shape() -> None:
    literal = build(Architecture(encoder="small", **NARROW)).eval()
    other = build(Architecture(encoder="small", ds_dilations=((1, 2, 3),) * 5, **NARROW)).eval()
    other.load_state_dict(literal.state_dict())
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert not torch.allclose(literal(x), other(x), atol=1e-6)


def test_unknown_field_of_an_architecture_is_named() -> None:
    with pytest.raises(InputError, match="attention"):
        Architecture.from_json({**Architecture().to_json(), "attention": 4})


def test_impossible_width_is_named() -> None:
    with pytest.raises(InputError, match="width"):
        HSPNet("small", width=0)
