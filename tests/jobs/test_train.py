"""Training as a config says: from each kind of data to a model with a card."""

from __future__ import annotations

import dataclasses
import json
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from exchange.slide_case import made_case, paint
from napari_hspnet.cases.lock import CaseLock
from napari_hspnet.errors import (
    CancelledError,
    CheckpointError,
    InputError,
    OutputError,
)
from napari_hspnet.jobs import train_card
from napari_hspnet.jobs.train import train_model
from napari_hspnet.jobs.train_data import open_data
from napari_hspnet.networks import load_checkpoint
from napari_hspnet.phantom.splits import split_of
from napari_hspnet.training.config import (
    CaseEntry,
    DataConfig,
    MachineConfig,
    NetworkConfig,
    PatchConfig,
    RecipeConfig,
    SeedConfig,
    TrainConfig,
    ValidationConfig,
    read_config,
)
from napari_hspnet.training.curves import read_curves
from napari_hspnet.training.data import patch_index
from napari_hspnet.training.loss_terms import LossTerm

TINY = {
    "ds_widths": [4] * 5,
    "head_widths": [8, 8],
    "encoder_widths": [8, 8, 8, 8],
}
COLOURS = np.array(
    [[240, 240, 240], [200, 150, 200], [60, 160, 90], [70, 70, 190], [170, 40, 40]], np.uint8
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def quick(data: DataConfig, **others) -> TrainConfig:
    given = {
        "network": NetworkConfig("demo", "none", architecture=TINY),
        "patches": PatchConfig(64, 64, 0.2),
        "recipe": RecipeConfig(batch=2, epochs=2, precision="float32"),
        "machine": MachineConfig("cpu", workers=0),
    }
    return TrainConfig(data, **{**given, **others})


PHANTOM = DataConfig("phantom", background="class", fields=2, side=192)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture(scope="module")
def mtchi(tmp_path_factory):
    """Four patients' regions in MTCHI's layout, black outside a polygon."""
    folder = tmp_path_factory.mktemp("secret-clinic") / "MTCHI"
    for number, name in enumerate(["B1-1-A", "B1-2-B", "B2-1-A", "B3-1-A", "B4-1-A"]):
        rng = np.random.default_rng(number)
        truth = np.kron(rng.integers(0, 5, (4, 4)), np.ones((32, 32))).astype(np.uint8)
        rgb = COLOURS[truth]
        rgb[:16], truth[:16] = 0, 0
        save(folder / f"Task2/Training/Img/Crop_{name}.png", rgb)
        save(folder / f"Task2/Training/Truth/Mask_{name}.png", truth)
    return folder


def test_a_model_with_a_card_comes_out_of_phantoms(tmp_path) -> None:
    config = quick(PHANTOM, validation=ValidationConfig(fields=1, stride=32), name="mine")
    told, said = [], []
    result = train_model(config, tmp_path / "new" / "out", progress=told.append, say=said.append)
    folder = tmp_path / "new" / "out"
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.used.toml",
        "curves.csv",
        "curves.png",
        "model.safetensors",
        "train.lock",
    ]
    assert read_config(folder / "config.used.toml") == config
    loaded = load_checkpoint(result.path)
    assert loaded.sha256 == result.sha256
    card = loaded.card
    assert (card.name, card.window, card.mpp, card.parent) == ("mine", 64, 1.0, None)
    assert card.synthetic
    assert "phantom" in card.trained_on
    assert card.intended_use == "Research use only"
    recipe = card.recipe
    assert recipe["config_sha256"] == config.digest
    assert recipe["config"]["seeds"] == {"init": 0, "patches": 0, "split": 0}
    assert recipe["steps"] == len(read_curves(folder / "curves.csv")) > 0
    facts = recipe["data"]
    assert facts["images"] == facts["patients"] == 2
    assert facts["patches"] > 0
    assert sum(row["pixels"] for row in facts["classes"].values()) > 0
    assert {split_of(seed) for seed in facts["seeds"]} == {"train"}
    assert {split_of(seed) for seed in facts["validation_seeds"]} == {"validation"}
    assert card.metrics["images"] == 1
    assert 0 <= card.metrics["accuracy"] <= 1
    assert card.metrics["blend"] == "Gauss-like, stride 32"
    assert {"drawing fields", "judging"} < {report.doing for report in told}
    trained = [report for report in told if report.training is not None]
    assert trained[-1].fraction == 1
    assert "loss" in trained[-1].doing
    assert any("patches" in line for line in said)


def test_a_finished_training_is_left_as_it_is(tmp_path) -> None:
    config = quick(PHANTOM)
    first = train_model(config, tmp_path)
    data = first.path.read_bytes()
    again = train_model(
        dataclasses.replace(config, machine=MachineConfig("cpu", workers=1)), tmp_path
    )
    assert again.sha256 is None
    assert again.card == first.card
    other = quick(PHANTOM, seeds=SeedConfig(init=1))
    with pytest.raises(OutputError) as caught:
        train_model(other, tmp_path)
    assert other.digest[:16] in str(caught.value)
    assert config.digest[:16] in str(caught.value)
    assert first.path.read_bytes() == data


def test_the_same_config_gives_the_same_weights_and_seeds_matter(tmp_path) -> None:
    def weights(name: str, seeds: SeedConfig):
        config = quick(PHANTOM, seeds=seeds)
        return load_checkpoint(train_model(config, tmp_path / name).path).network.head[-1].weight

    one = weights("a", SeedConfig())
    assert torch.equal(one, weights("b", SeedConfig()))
    assert not torch.equal(one, weights("c", SeedConfig(init=1)))
    assert not torch.equal(one, weights("d", SeedConfig(patches=1)))


def test_cancelled_it_goes_on_and_another_config_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("napari_hspnet.training.session._LISTEN", 0.0)
    config, cancel = quick(PHANTOM), threading.Event()

    def listen(report) -> None:
        if report.training is not None and report.training.step == 2:
            cancel.set()

    folder = tmp_path / "parted"
    with pytest.raises(CancelledError):
        train_model(config, folder, progress=listen, cancel=cancel)
    assert (folder / "snapshot.safetensors").is_file()
    assert len(read_curves(folder / "curves.csv")) == 2
    other = quick(PHANTOM, loss=(LossTerm("ae_r"),))
    with pytest.raises(InputError) as caught:
        train_model(other, folder)
    assert other.digest[:16] in str(caught.value)
    assert config.digest[:16] in str(caught.value)
    said = []
    parted = load_checkpoint(train_model(config, folder, say=said.append).path)
    assert any("Goes on at step 2" in line for line in said)
    whole = load_checkpoint(train_model(config, tmp_path / "whole").path)
    ours, theirs = parted.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_cancelled_while_it_is_judged_nothing_is_trained_again(tmp_path, monkeypatch) -> None:
    config = quick(PHANTOM, validation=ValidationConfig(fields=1))
    cancel = threading.Event()
    monkeypatch.setattr(
        train_card, "predict_field", lambda *_: (_ for _ in ()).throw(CancelledError)
    )
    with pytest.raises(CancelledError):
        train_model(config, tmp_path, cancel=cancel)
    monkeypatch.undo()
    steps = []
    result = train_model(config, tmp_path, progress=lambda r: steps.append(r.training))
    assert not any(steps)
    assert result.card.metrics["images"] == 1


def test_mtchi_is_split_by_patient_and_the_card_names_nobody(mtchi, tmp_path) -> None:
    data = DataConfig("mtchi", folder=str(mtchi))
    config = quick(data, validation=ValidationConfig(patients=("B1",)))
    result = train_model(config, tmp_path, say=lambda line: None)
    facts = result.card.recipe["data"]
    assert (facts["images"], facts["patients"], facts["validation_images"]) == (3, 3, 2)
    assert len(facts["patients_sha256"]) == 3
    assert not set(facts["patients_sha256"]) & set(facts["validation_patients_sha256"])
    assert facts["classes"]["none of the four"]["pixels"] == 0, "0 is ignored by default"
    assert not result.card.synthetic
    text = result.card.to_json()
    assert "B1" not in text
    assert "secret-clinic" not in text
    share = quick(data, validation=ValidationConfig(share=0.25))
    result = train_model(share, tmp_path / "share")
    assert result.card.recipe["data"]["validation_images"] >= 1


def test_background_can_be_a_class_of_mtchi(mtchi) -> None:
    config = quick(DataConfig("mtchi", folder=mtchi.name, background="class"))
    with open_data(config, mtchi.parent) as data:
        counts = patch_index(data.train, 64, 64, 0.0).counts.sum(axis=0)
        assert counts[0] > 0
        assert any("pure black" in note for note in data.notes)
        assert data.train[0].read_labels(0, 0, 16, 128).min() == 255, "black stays ignored"


def test_pairs_without_a_background_channel(mtchi, tmp_path) -> None:
    network = NetworkConfig("demo", "none", architecture={**TINY, "num_classes": 4})
    data = DataConfig("pairs", folder=str(mtchi / "Task2/Training"), mpp=0.5)
    config = quick(data, network=network, loss=(LossTerm("ae_r"), LossTerm("dice", 0.5)))
    result = train_model(config, tmp_path)
    assert load_checkpoint(result.path).card.num_classes == 4
    assert result.card.mpp == 0.5


@pytest.mark.parametrize("background", ["class", "ignore"])
def test_regions_of_cases(tmp_path, background: str) -> None:
    (tmp_path / "made").mkdir()
    with made_case(tmp_path / "made") as (case, _, slide):
        entry = CaseEntry(str(case.folder), str(slide.info.path), "Meyer")
        paint(case, 605, 5, 10, 10, 0, "Dr. C")
        data = DataConfig("cases", background=background, cases=(entry,), only_reviewed=False)
        config = quick(data)
        with open_data(config, tmp_path) as data:
            labels = [i.read_labels(0, 0, i.height, i.width) for i in data.train]
            whole = [i.read(0, 0, i.height, i.width)[1] for i in data.train]
            assert all(np.array_equal(a, b) for a, b in zip(labels, whole, strict=True))
            assert any((values == 0).any() for values in labels) == (background == "class")
            assert {i.patient for i in data.train} == {"Meyer"}
        card = train_model(config, tmp_path / "out").card
    assert "Meyer" not in card.to_json()
    assert card.recipe["config"]["data"]["cases"] == 1


def test_a_training_can_start_from_a_checkpoint(tmp_path) -> None:
    parent = train_model(quick(PHANTOM), tmp_path / "parent")
    network = NetworkConfig("demo", "none", start="parent/model.safetensors", architecture=TINY)
    recipe = RecipeConfig(batch=2, epochs=1, learning_rate=1e-9, precision="float32")
    config = quick(PHANTOM, network=network, recipe=recipe)
    child = train_model(config, tmp_path / "child", base=tmp_path)
    assert child.card.parent == parent.sha256
    ours = load_checkpoint(child.path).network.head[-1].weight
    theirs = load_checkpoint(parent.path).network.head[-1].weight
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)

    def refused(said: str, **others) -> None:
        changed = dataclasses.replace(network, **others)
        with pytest.raises(CheckpointError, match=said):
            train_model(quick(PHANTOM, network=changed), tmp_path / "no", base=tmp_path)

    refused("has 5 classes .*network 4", architecture={**TINY, "num_classes": 4})
    refused("head_widths is .8, 8., not .16, 8.", architecture={**TINY, "head_widths": [16, 8]})
    refused("mean", mean=(0.5, 0.5, 0.5))
    refused("no such checkpoint", start="nothing.safetensors")
    assert not (tmp_path / "no" / "model.safetensors").exists()


def test_what_is_missing_is_said_before_any_training(tmp_path, mtchi) -> None:
    # The upper eighth of every region is black.
    whole = quick(DataConfig("mtchi", folder=str(mtchi)), patches=PatchConfig(128, 64, 0.95))
    with pytest.raises(InputError, match="None of the 5 patches has enough foreground"):
        train_model(whole, tmp_path / "a")
    assert not (tmp_path / "a" / "snapshot.safetensors").exists()
    many = RecipeConfig(batch=4096, epochs=1)
    with pytest.raises(InputError, match="fewer than a batch of 4096"):
        train_model(quick(PHANTOM, recipe=many), tmp_path / "b")
    with pytest.raises(InputError, match="no phantom domain 'Z'"):
        train_model(quick(dataclasses.replace(PHANTOM, domain="Z")), tmp_path / "c")
    with pytest.raises(InputError, match="no image of P9"):
        train_model(
            quick(
                DataConfig("mtchi", folder=str(mtchi)),
                validation=ValidationConfig(patients=("P9",)),
            ),
            tmp_path / "d",
        )
    with pytest.raises(CheckpointError, match=r"no\.pth"):
        train_model(
            quick(PHANTOM, network=NetworkConfig("paper-resnet34", "no.pth")),
            tmp_path / "e",
            base=tmp_path,
        )


def test_a_folder_serves_one_training_at_a_time(tmp_path) -> None:
    lock = CaseLock(tmp_path / "train.lock")
    with pytest.raises(OutputError, match="folder is in use by"):
        train_model(quick(PHANTOM), tmp_path)
    lock.release()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        train_model(quick(PHANTOM), tmp_path / "file")


def test_the_card_is_json_and_without_the_machines_paths(tmp_path) -> None:
    result = train_model(quick(PHANTOM), tmp_path / "somewhere")
    values = json.loads(result.card.to_json())
    assert values["recipe"]["notice"] == "Research use only"
    assert "somewhere" not in result.card.to_json()
