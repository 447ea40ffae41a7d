"""Cards in words, what sets two models apart, and models handed on."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.errors import CheckpointError, InputError, OutputError
from napari_hspnet.networks import Architecture, ModelCard, build, save_checkpoint
from napari_hspnet.networks.card_text import card_text
from napari_hspnet.networks.card_values import flat, mean_dice_of, said
from napari_hspnet.networks.model_diff import diff_cards, diff_weights
from napari_hspnet.networks.model_export import export_model
from napari_hspnet.networks.registry import Registry

TINY = Architecture(
    encoder="small", ds_widths=(2,) * 5, head_widths=(2, 2), encoder_widths=(2, 2, 2, 2)
)
CARD = ModelCard(
    "ward",
    TINY,
    trained_on="ten regions of three patients",
    recipe={"lr": 0.001, "data": {"patients": 3}},
    metrics={
        "level": 0.95,
        "held_back": {"mean_dice": {"value": 0.7012, "low": 0.61, "high": 0.78}},
        "reference": {"mean_dice": 0.66, "dice": {"CIN2": None}},
    },
    parent="cd" * 32,
    licence="BSD-3-Clause",
    limitations="one scanner | one stain",
)


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(TINY).eval()


@pytest.fixture
def registry(network, tmp_path):
    registry = Registry(tmp_path / "models")
    save_checkpoint(tmp_path / "ward.safetensors", network, CARD)
    registry.add(tmp_path / "ward.safetensors", "candidate", "Dr. Ann", "tried out")
    return registry


@pytest.fixture
def sha256(registry):
    return registry.find("ward").sha256


# ---- words ----


def test_the_text_of_a_card_holds_all_of_it() -> None:
    text = card_text(CARD, "ab" * 32, file_name="ward.safetensors")
    for title in ("What it is", "Intended use", "Limits", "Data", "Recipe", "Figures", "Licence"):
        assert f"\n## {title}\n" in text
    for words in (
        "Research use only",
        "Ten regions of three patients.",
        "| `data.patients` | 3 |",
        "| `lr` | 0.001 |",
        "| mean dice | 0.7012 | 0.61 to 0.78 |",
        "| dice · CIN2 | not told |",
        "ab" * 32,
        "cd" * 32,
        "BSD-3-Clause",
        "`ward.safetensors`",
    ):
        assert words in text
    assert "SYNTHETIC" not in text
    assert "SYNTHETIC" in card_text(replace(CARD, synthetic=True), "ab" * 32)


def test_research_use_only_stands_there_whatever_a_card_intends() -> None:
    text = card_text(replace(CARD, intended_use="for everything"), "ab" * 32)
    use = text.split("## Intended use")[1].split("##")[0]
    assert "Research use only. for everything." in use


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1, max_size=40))
def test_no_text_of_a_card_breaks_a_table_or_becomes_html(text) -> None:
    card = replace(
        CARD, limitations=text, trained_on=text, recipe={text: text}, metrics={text: {text: 0.5}}
    )
    lines = card_text(card, "ab" * 32).splitlines()
    # What stands between backticks is shown as it is.
    assert not any("<" in re.sub("`[^`]*`", "", line) for line in lines)
    titles = [line for line in lines if line.startswith("## ")]
    assert titles == [line for line in card_text(CARD, "ab" * 32).splitlines() if line[:3] == "## "]
    for line in lines:
        if line.startswith("|"):
            assert line.replace("\\\\", "").replace("\\|", "").count("|") == 3


def test_values_are_told_for_people() -> None:
    assert said({"value": 0.5, "low": 0.25, "high": None}) == "0.5 (0.25 to not told)"
    assert said({"value": None, "low": None, "high": None}) == "not told"
    assert (said(True), said(0.123456), said("a\n b"), said([1, 2])) == (
        "yes",
        "0.1235",
        "a b",
        "[1, 2]",
    )
    assert said("\x1b[31mred\x07") == "[31mred"
    found = dict(flat({"a": {"b": {"value": 1, "low": 0, "high": 2}}, "c": [], "d": {}}))
    assert list(found) == ["a.b", "c", "d"]


@pytest.mark.parametrize(
    ("metrics", "held", "reference"),
    [
        ({}, None, None),
        ({"mean_dice": 0.5}, 0.5, None),
        ({"mean_dice": None}, None, None),
        (dict(CARD.metrics), 0.7012, 0.66),
        ({"plain": {"mean_dice": 0.1}, "gaussian_stride_200": {"mean_dice": 0.2}}, 0.2, None),
        # As the gate's verdict has it.
        (
            {
                "held_back": {"changes": {"mean_dice": {"before": 0.4, "after": 0.6}}},
                "reference": None,
            },
            0.6,
            None,
        ),
    ],
)
def test_the_mean_dice_is_found_where_cards_and_verdicts_have_it(metrics, held, reference) -> None:
    assert mean_dice_of(metrics, "held_back") == held
    assert mean_dice_of(metrics, "reference") == reference


# ---- differences ----


def test_only_what_differs_is_told() -> None:
    other = replace(CARD, name="next", recipe={"lr": 0.01, "data": {"patients": 3}}, parent=None)
    found = {(d.section, d.key): (d.first, d.second) for d in diff_cards(CARD, other)}
    assert found == {
        ("card", "name"): ("ward", "next"),
        ("card", "parent"): ("cd" * 32, None),
        ("recipe", "lr"): (0.001, 0.01),
    }
    assert diff_cards(CARD, CARD) == ()
    wider = replace(CARD, architecture=replace(TINY, head_widths=(2, 4)))
    (one,) = diff_cards(CARD, wider)
    assert (one.section, one.key, one.second) == ("architecture", "head_widths", [2, 4])


def test_the_share_of_changed_weights_is_told_by_part(network, tmp_path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_checkpoint(first, network, CARD)
    other = build(TINY).eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        other.head[2].weight.mul_(1.5)
        other.ds[1].get_parameter(next(n for n, _ in other.ds[1].named_parameters())).flatten()[
            0
        ] += 1
    save_checkpoint(second, other, CARD)
    parts = {one.part: one for one in diff_weights(first, second)}
    assert next(iter(parts)) == "encoder"
    assert list(parts)[-1] == "running statistics"
    head, block = parts["head"], parts["DS-Block 2"]
    assert head.numbers == sum(p.numel() for p in network.head.parameters())
    assert head.changed == pytest.approx(network.head[2].weight.numel() / head.numbers)
    assert block.changed == pytest.approx(1 / block.numbers)
    for name in ("encoder", "DS-Block 1", "running statistics"):
        assert (parts[name].changed, parts[name].relative) == (0.0, 0.0)
    before = torch.cat([p.detach().flatten().double() for p in network.head.parameters()])
    after = torch.cat([p.detach().flatten().double() for p in other.head.parameters()])
    assert head.relative == pytest.approx(float((after - before).norm() / before.norm()))


def test_weights_of_other_architectures_are_not_compared(network, tmp_path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_checkpoint(first, network, CARD)
    wider = replace(TINY, head_widths=(2, 4))
    save_checkpoint(second, build(wider), replace(CARD, architecture=wider))
    with pytest.raises(CheckpointError, match="different architectures"):
        diff_weights(first, second)


# ---- handing on ----


def test_an_export_is_the_file_to_the_bit_and_its_card(registry, sha256, tmp_path) -> None:
    registry.use(sha256, "Dr. Ben")
    out = tmp_path / "out" / "given.safetensors"
    assert export_model(registry, sha256, out) == (out, out.with_suffix(".md"))
    assert hashlib.sha256(out.read_bytes()).hexdigest() == sha256
    text = out.with_suffix(".md").read_text(encoding="utf-8")
    for words in ("Research use only", sha256, "Dr. Ann: added: tried out", "Dr. Ben: taken into"):
        assert words in text
    assert "not on this machine" in text


def test_nothing_that_is_there_is_replaced_unasked(registry, sha256, tmp_path) -> None:
    out = tmp_path / "given.safetensors"
    card = out.with_suffix(".md")
    card.write_text("mine")
    with pytest.raises(OutputError, match="already"):
        export_model(registry, sha256, out)
    assert not out.exists()
    assert card.read_text() == "mine"
    export_model(registry, sha256, out, overwrite=True)
    assert "Research use only" in card.read_text()


def test_a_card_can_be_had_of_a_model_whose_file_is_lost(registry, sha256, tmp_path) -> None:
    registry.get(sha256).path.unlink()
    out = tmp_path / "given.md"
    with pytest.raises(CheckpointError, match="missing"):
        export_model(registry, sha256, out.with_suffix(".safetensors"))
    assert not out.exists()
    export_model(registry, sha256, out, card_only=True)
    assert "Ten regions" in out.read_text()


@pytest.mark.parametrize(("name", "card_only"), [("x.pt", False), ("x.safetensors", True)])
def test_a_suffix_that_says_something_else_is_refused(
    name, card_only, registry, sha256, tmp_path
) -> None:
    with pytest.raises(InputError, match="does not end in"):
        export_model(registry, sha256, tmp_path / name, card_only)
    assert not (tmp_path / name).exists()
