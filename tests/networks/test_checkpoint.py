"""Checkpoints: what goes in comes out, and what is wrong is named."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import struct

import numpy as np
import pytest
import torch

from napari_hspnet.classes import BACKGROUND, CIN3, NORMAL
from napari_hspnet.errors import CheckpointError, InputError, OutputError
from napari_hspnet.networks import (
    Architecture,
    ModelCard,
    build,
    install_checkpoint,
    known_models,
    load_checkpoint,
    read_card,
    save_checkpoint,
)
from napari_hspnet.networks import registry as registry_module

TINY = Architecture(
    encoder="small",
    ds_widths=(2, 2, 2, 2, 2),
    head_widths=(2, 2),
    encoder_widths=(2, 2, 2, 2),
)
CARD = ModelCard(
    "tiny",
    TINY,
    recipe={"lr": 0.001, "stages": [{"side": 256}]},
    metrics={"mean_dice": 0.5},
    parent="ab" * 32,
    synthetic=True,
    licence="BSD-3-Clause",
    limitations="knows nothing, über µm",
)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return build(TINY).eval()


@pytest.fixture
def path(network, tmp_path):
    target = tmp_path / "tiny.safetensors"
    save_checkpoint(target, network, CARD)
    return target


def rewrite(path, change) -> None:
    """Change tensors and metadata of a file with another reader and writer: numpy's."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    with safe_open(path, "np") as file:
        metadata = dict(file.metadata())
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def test_another_reader_finds_the_weights_and_the_card(path, network) -> None:
    from safetensors import safe_open

    with safe_open(path, "np") as file:
        card = json.loads(file.metadata()["napari_hspnet_card"])
        weight = file.get_tensor("head.2.weight")
    assert card["name"] == "tiny"
    assert card["limitations"] == "knows nothing, über µm"
    np.testing.assert_array_equal(weight, network.head[2].weight.detach().numpy())


def test_identity_is_the_files_sha256(path) -> None:
    assert load_checkpoint(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_card_is_read_without_the_weights(path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    assert read_card(path) == CARD
    with pytest.raises(CheckpointError, match="cut off or damaged"):
        load_checkpoint(path)


def test_half_precision_rounds_and_comes_back_as_float32(network, tmp_path) -> None:
    path = tmp_path / "half.safetensors"
    save_checkpoint(path, network, CARD, torch.float16)
    loaded = load_checkpoint(path).network.state_dict()
    for key, value in network.state_dict().items():
        assert loaded[key].dtype == value.dtype
        if value.is_floating_point():
            assert torch.equal(loaded[key], value.half().float())


def test_half_precision_that_overflows_is_refused(network, tmp_path) -> None:
    large = build(TINY)
    large.load_state_dict(network.state_dict())
    with torch.no_grad():
        large.head[2].bias[0] = 1e6
    path = tmp_path / "half.safetensors"
    with pytest.raises(CheckpointError, match=r"head\.2\.bias"):
        save_checkpoint(path, large, CARD, torch.float16)
    assert list(tmp_path.iterdir()) == []


def test_saving_with_a_foreign_card_is_refused(network, tmp_path) -> None:
    foreign = ModelCard("x", dataclasses.replace(TINY, num_classes=4))
    with pytest.raises(CheckpointError, match="architecture"):
        save_checkpoint(tmp_path / "x.safetensors", network, foreign)


def test_a_failed_write_leaves_the_old_file_and_nothing_beside(path, network, monkeypatch) -> None:
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save_checkpoint(path, network, dataclasses.replace(CARD, name="other"))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_saving_into_a_file_as_folder_is_an_output_error(path, network) -> None:
    with pytest.raises(OutputError):
        save_checkpoint(path / "x.safetensors", network, CARD)


# ---- what a user may hand us ----


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "empty"),
        (b"hello", "neither"),
        (b"This is a text file, longer than eight bytes.", "neither"),
        (struct.pack("<Q", 1000) + b"{", "cut off"),
        (struct.pack("<Q", 12) + b'{"a": broken', "header"),
        (struct.pack("<Q", 2) + b"{}", "no napari-hspnet model card"),
        (b"PK\x03\x04 not a zip", "damaged"),
        (b"\x80\x02garbage", "damaged"),
    ],
)
def test_broken_files_are_named(content: bytes, named: str, tmp_path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=named) as caught:
        load_checkpoint(path)
    assert "bad.safetensors" in str(caught.value)


def test_absent_file_and_folder_are_named(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)


def test_truncation_anywhere_is_an_error(path) -> None:
    data = path.read_bytes()
    for size in (1, 7, 8, 9, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def drop(tensors, _metadata) -> None:
    del tensors["ds.4.reduce.0.weight"]


def add(tensors, _metadata) -> None:
    tensors["head.9.weight"] = np.zeros(3, np.float32)


def more_classes(tensors, _metadata) -> None:
    tensors["head.2.weight"] = np.zeros((7, 2, 3, 3), np.float32)


def reshape(tensors, _metadata) -> None:
    tensors["ds.0.point.0.weight"] = np.zeros((9, 9, 1, 1), np.float32)


def not_a_number(tensors, _metadata) -> None:
    tensors["head.2.weight"][0, 0, 0, 0] = np.nan


def change_card(**changes):
    def change(_tensors, metadata) -> None:
        card = json.loads(metadata["napari_hspnet_card"])
        card.update(changes)
        metadata["napari_hspnet_card"] = json.dumps(card)

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (drop, r"lacks ds\.4\.reduce\.0\.weight"),
        (add, r"unexpected head\.9\.weight"),
        (more_classes, "7 classes, its architecture 5"),
        (reshape, r"ds\.0\.point\.0\.weight is \(9, 9, 1, 1\)"),
        (not_a_number, r"head\.2\.weight hold values that are not finite"),
        (change_card(architecture={"encoder": "vgg"}), "vgg"),
        (change_card(architecture=Architecture().to_json()), "lacks"),
        (change_card(card_version=99), "version 99"),
        (change_card(colour="blue"), "unknown fields colour"),
        (change_card(mpp=0), "mpp"),
        (change_card(mpp="1"), "mpp"),
        (change_card(window=10), "window"),
        (change_card(std=[0, 1, 1]), "std"),
        (change_card(mean=[1, 1]), "mean"),
        (change_card(classes=["a", "b"]), "classes"),
        (change_card(synthetic="no"), "synthetic"),
        (change_card(name=" "), "name"),
        (lambda _, m: m.update(napari_hspnet_card="{"), "no JSON"),
        (lambda _, m: m.update(napari_hspnet_card="[]"), "no architecture"),
    ],
)
def test_what_does_not_fit_is_named(path, change, named) -> None:
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=named) as caught:
        load_checkpoint(path)
    assert "tiny.safetensors" in str(caught.value)


def test_another_architecture_than_asked_for_is_named(path) -> None:
    with pytest.raises(CheckpointError, match=r"another architecture.*resnet101"):
        load_checkpoint(path, architecture=Architecture(encoder="resnet101"))


# ---- plain PyTorch files ----


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_state_dicts_load_with_their_architecture_inferred(network, tmp_path, wrap, prefix) -> None:
    path = tmp_path / "plain.pth"
    torch.save(wrap({prefix + k: v for k, v in network.state_dict().items()}), path)
    model = load_checkpoint(path)
    assert model.card.architecture == TINY
    assert model.card.name == "plain"
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model.network(x), network(x))


@pytest.mark.parametrize(
    "arch",
    [
        Architecture(encoder=e, ds_widths=(2,) * 5, head_widths=(2, 3), num_classes=4)
        for e in ("resnet18", "resnet34", "resnet50", "resnet101")
    ]
    + [dataclasses.replace(TINY, ds_blocks=(False, True, False, True, False))],
)
def test_architectures_can_be_told_from_tensors(arch) -> None:
    from napari_hspnet.networks.state import infer_architecture

    with torch.device("meta"):
        assert infer_architecture(build(arch).state_dict()) == arch


def test_a_foreign_state_dict_asks_for_its_architecture(tmp_path) -> None:
    path = tmp_path / "foreign.pt"
    torch.save({"weight": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match="cannot be told") as caught:
        load_checkpoint(path)
    assert "architecture=" in caught.value.advice
    with pytest.raises(CheckpointError, match="lacks"):
        load_checkpoint(path, architecture=TINY)


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}, torch.ones(2)])
def test_a_file_without_a_state_dict_is_named(content, tmp_path) -> None:
    path = tmp_path / "x.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="no state dict"):
        load_checkpoint(path)


class Touch:
    """Pickled code that would write a file."""

    def __init__(self, target) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


def test_pickled_code_never_runs_unless_trusted(network, tmp_path) -> None:
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    torch.save({"state_dict": network.state_dict(), "x": Touch(trace)}, path)
    with pytest.raises(CheckpointError, match="pickled code"):
        load_checkpoint(path)
    assert not trace.exists()
    assert load_checkpoint(path, trust_pickle=True).card.architecture == TINY
    assert trace.exists()


def test_a_trusted_whole_module_gives_its_weights(network, tmp_path) -> None:
    path = tmp_path / "module.pt"
    torch.save(network, path)
    with pytest.raises(CheckpointError, match="pickled code"):
        load_checkpoint(path)
    assert load_checkpoint(path, trust_pickle=True).card.architecture == TINY


def test_a_truncated_torch_file_is_damaged(network, tmp_path) -> None:
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    path = tmp_path / "x.pt"
    path.write_bytes(buffer.getvalue()[:-500])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


# ---- cards ----


def test_card_survives_json() -> None:
    assert ModelCard.from_json(CARD.to_json()) == CARD


def test_channels_stand_for_label_values() -> None:
    assert CARD.values == (BACKGROUND, 1, 2, 3, CIN3)
    four = ModelCard("four", dataclasses.replace(TINY, num_classes=4))
    assert four.values == (NORMAL, 2, 3, CIN3)
    assert four.classes == ("normal", "CIN1", "CIN2", "CIN3")


@pytest.mark.parametrize("metrics", [{"dice": float("nan")}, {"dice": object()}])
def test_a_card_that_json_cannot_hold_is_refused(metrics, network, tmp_path) -> None:
    card = dataclasses.replace(CARD, metrics=metrics)
    with pytest.raises(InputError, match="JSON"):
        save_checkpoint(tmp_path / "x.safetensors", network, card)


# ---- the list of models ----


def test_installed_models_are_listed_once(path, tmp_path) -> None:
    folder = tmp_path / "models"
    entry = install_checkpoint(path, folder)
    again = install_checkpoint(entry.path, folder)
    assert entry == again
    assert (entry.title, entry.synthetic, entry.problem) == ("tiny", True, None)
    assert entry.path.read_bytes() == path.read_bytes()
    assert [e for e in known_models(folder) if e.path.parent == folder] == [entry]


def test_a_broken_file_is_not_installed_but_listed_with_its_problem(path, tmp_path) -> None:
    folder = tmp_path / "models"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError):
        install_checkpoint(path, folder)
    assert not folder.exists()
    folder.mkdir()
    (folder / "bad.safetensors").write_bytes(b"")
    (bad,) = [e for e in known_models(folder) if e.path.parent == folder]
    assert bad.problem is not None
    assert bad.title == "bad"


def test_without_a_folder_only_the_demo_model_is_known(tmp_path, monkeypatch) -> None:
    def absent():
        raise CheckpointError("none", advice="none")

    monkeypatch.setattr(registry_module, "demo_model_path", absent)
    assert known_models(tmp_path / "absent") == ()
