"""Dead taps, counted by rule, against gradients and against a slow count."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.errors import InputError
from napari_hspnet.networks import (
    DEMO_ARCHITECTURE,
    Architecture,
    DSBlock,
    build,
    dead_taps,
    window_aware,
)
from napari_hspnet.networks.dilations import TapRow, map_sides

LITERAL = ((6, 12, 18),) * 5


@given(side=st.integers(1, 40), dilation=st.integers(1, 45))
@settings(deadline=None, max_examples=60)
def test_shares_are_what_a_slow_count_gives(side: int, dilation: int) -> None:
    shares = TapRow(1, side, dilation, 1).shares
    for i, dy in enumerate((-dilation, 0, dilation)):
        for j, dx in enumerate((-dilation, 0, dilation)):
            inside = sum(
                0 <= y + dy < side and 0 <= x + dx < side for y in range(side) for x in range(side)
            )
            assert shares[i][j] == pytest.approx(inside / side**2)


@pytest.mark.parametrize("side", [13, 25, 5])
def test_dead_taps_get_no_gradient_in_a_real_block_and_all_others_do(side: int) -> None:
    torch.manual_seed(0)
    block = DSBlock(3, 4).train()
    out = block(torch.randn(4, 3, side, side))
    (out * torch.randn_like(out)).sum().backward()
    for branch, dilation in zip(block.atrous, (6, 12, 18), strict=True):
        gradient = branch[0].weight.grad
        reached = (gradient != 0).any(0).any(0).tolist()
        row = TapRow(4, side, dilation, 12)
        assert reached == [[share > 0 for share in line] for line in row.shares]
        assert row.dead == 9 - sum(map(sum, reached))
        assert row.dead_weights == int((gradient == 0).all(0).all(0).sum()) * 3 * 4


def test_sides_are_those_of_the_network() -> None:
    network = build(DEMO_ARCHITECTURE).eval()
    for window in (64, 65, 100, 131, 400):
        with torch.inference_mode():
            maps = network.encoder(torch.zeros(1, 3, window, window))
        sides = tuple(m.shape[-1] for m in maps)
        assert map_sides(window) == (*sides, sides[0])


def test_the_literal_network_at_400() -> None:
    """What PAPER.md says of DS-Blocks 3 and 4, with its parameters."""
    rows = {(r.block, r.dilation): r for r in dead_taps(Architecture(encoder="resnet101"))}
    assert len(rows) == 15
    assert {k for k, r in rows.items() if r.dead} == {(4, 18)}
    assert rows[4, 18].dead_weights == 8 * 2048 * 256
    assert rows[4, 12].rarely(0.1) == 8 * 2048 * 256
    assert rows[3, 18].rarely(0.1) == 4 * 1024 * 128
    assert rows[5, 18].weights == 480 * 256
    assert sum(r.rarely(0.1) for r in rows.values()) == 8_912_896


def test_a_larger_window_brings_them_to_life() -> None:
    assert sum(r.dead for r in dead_taps(Architecture(), 1024)) == 0


def test_rows_count_the_weights_of_the_network() -> None:
    arch = dataclasses.replace(DEMO_ARCHITECTURE, ds_blocks=(True, False, True, True, True))
    network = build(arch)
    rows = dead_taps(arch)
    assert [r.block for r in rows] == [1] * 3 + [3] * 3 + [4] * 3 + [5] * 3
    for row, (block, branch) in zip(
        rows, [(b, i) for b in (0, 2, 3, 4) for i in range(3)], strict=True
    ):
        conv = network.ds[block].atrous[branch][0]
        assert 9 * row.weights == conv.weight.numel()
        assert conv.dilation == (row.dilation, row.dilation)


def test_the_preset_at_400() -> None:
    literal = Architecture(encoder="resnet101")
    aware = window_aware(literal)
    assert aware.ds_dilations == (*LITERAL[:2], (4, 8, 12), (2, 4, 6), LITERAL[4])
    assert dataclasses.replace(aware, ds_dilations=LITERAL) == literal


@given(window=st.integers(64, 1500))
def test_the_preset_leaves_no_tap_to_padding(window: int) -> None:
    aware = window_aware(Architecture(), window)
    for row in dead_taps(aware, window):
        assert row.dead == 0
        assert row.shares[0][1] >= 0.5
        assert row.shares[0][0] >= 0.25
    for before, after in zip(LITERAL, aware.ds_dilations, strict=True):
        assert list(after) == sorted(after)
        assert max(after) <= max(before)
    assert window_aware(aware, window) == aware


def test_with_room_enough_the_preset_is_the_literal_network() -> None:
    assert window_aware(Architecture(), 1152) == Architecture()


@pytest.mark.parametrize("window", [63, 0, -1, 400.0, True, "400"])
def test_impossible_windows_are_named(window: object) -> None:
    with pytest.raises(InputError, match="window"):
        dead_taps(Architecture(), window)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="window"):
        window_aware(Architecture(), window)  # type: ignore[arg-type]


def test_networks_without_blocks_are_named() -> None:
    fcn = Architecture("fcn32s", "vgg16")
    with pytest.raises(InputError, match="fcn32s"):
        dead_taps(fcn)
    with pytest.raises(InputError, match="fcn32s"):
        window_aware(fcn)
