"""The networks to compare with keep the contract, count what they should, and fail clearly."""

from __future__ import annotations

import importlib
import importlib.util
import itertools

import pytest
import torch
from network_contract import NetworkContract
from torch import nn

from napari_hspnet.errors import CheckpointError, DependencyError
from napari_hspnet.networks import (
    FAMILIES,
    Architecture,
    ModelCard,
    build,
    imagenet_weights,
    load_checkpoint,
    parameter_count,
    read_card,
    save_checkpoint,
)
from napari_hspnet.networks.baselines import padded
from napari_hspnet.networks.torchvision_compat import torchvision_module, torchvision_resnet

# Looked up, not imported: beside a CPU torch its import needs our shim first.
needs_library = pytest.mark.skipif(
    importlib.util.find_spec("segmentation_models_pytorch") is None,
    reason="segmentation-models-pytorch is not installed",
)
LIBRARY = [n for n in FAMILIES if n != "hspnet" and not n.startswith("fcn")]

# Counted once with five classes; what a change of library would change unnoticed.
PINNED = {
    ("unet", "resnet18"): 14_328_789,
    ("unet", "resnet34"): 24_436_949,
    ("unet", "resnet101"): 51_513_813,
    ("unetpp", "resnet18"): 15_971_029,
    ("unetpp", "resnet34"): 26_079_189,
    ("unetpp", "resnet101"): 67_978_453,
    ("deeplabv3plus", "resnet18"): 12_330_325,
    ("deeplabv3plus", "resnet34"): 22_438_485,
    ("deeplabv3plus", "resnet101"): 45_670_741,
    ("deeplabv3plus_full", "resnet18"): 16_604_069,
    ("deeplabv3plus_full", "resnet34"): 26_712_229,
    ("deeplabv3plus_full", "resnet101"): 59_340_197,
    ("fcn32s", "vgg16"): 18_643_845,
    ("fcn16s", "vgg16"): 18_643_845,
}
# Millions in the paper's Table 5, where it has a network of the name.
PAPER = {
    ("unet", "resnet34"): 31.03,
    ("unet", "resnet101"): 31.03,
    ("deeplabv3plus", "resnet101"): 59.34,
    ("deeplabv3plus_full", "resnet101"): 59.34,
    ("fcn32s", "vgg16"): 18.64,
    ("fcn16s", "vgg16"): 18.64,
}
SIDES = ((64, 64), (65, 131), (400, 400))


@needs_library
class TestUNet(NetworkContract):
    architecture = Architecture("unet", "resnet18")
    count = PINNED["unet", "resnet18"]
    sides = SIDES


@needs_library
class TestUNetPlusPlus(NetworkContract):
    architecture = Architecture("unetpp", "resnet18", 4)
    count = PINNED["unetpp", "resnet18"] - (16 * 9 + 1)
    sides = SIDES


@needs_library
class TestDeepLab(NetworkContract):
    architecture = Architecture("deeplabv3plus", "resnet18")
    count = PINNED["deeplabv3plus", "resnet18"]
    sides = SIDES


@needs_library
class TestDeepLabFull(NetworkContract):
    architecture = Architecture("deeplabv3plus_full", "resnet18", 4)
    count = PINNED["deeplabv3plus_full", "resnet18"] - (256 + 1)
    sides = SIDES


class TestFCN32s(NetworkContract):
    architecture = Architecture("fcn32s", "vgg16")
    count = PINNED["fcn32s", "vgg16"]
    sides = SIDES


class TestFCN16s(NetworkContract):
    architecture = Architecture("fcn16s", "vgg16", 4)
    count = PINNED["fcn16s", "vgg16"] - (32 + 1)


@pytest.mark.parametrize(
    ("name", "encoder"),
    [pytest.param(*key, marks=needs_library if key[0] in LIBRARY else ()) for key in PINNED],
)
def test_parameters_beside_the_papers(name: str, encoder: str) -> None:
    with torch.device("meta"):
        count = parameter_count(build(Architecture(name, encoder)))
    paper = PAPER.get((name, encoder))
    print(f"{name} {encoder}: {count / 1e6:.2f} M; Table 5: {paper or 'not in it'}")
    assert count == PINNED[name, encoder]
    # The paper's U-Net has no ResNet, and the library's DeepLab v3+ separable convolutions.
    if paper and name in ("deeplabv3plus_full", "fcn32s", "fcn16s"):
        assert round(count / 1e6, 2) == paper


def test_fcn_adds_up_by_hand() -> None:
    """VGG-16 without its classifier, five doublings with bias and normalisation, 1x1."""
    vgg = 138_357_544 - 123_642_856
    widths = (512, 512, 256, 128, 64, 32)
    ups = sum(a * b * 9 + b + 2 * b for a, b in itertools.pairwise(widths))
    assert vgg + ups + 32 * 5 + 5 == PINNED["fcn32s", "vgg16"]


def test_fcn16s_looks_at_the_fourth_map_and_fcn32s_does_not() -> None:
    """Of equal weights: alike only where what is skipped adds nothing."""
    torch.manual_seed(0)
    coarse = build(Architecture("fcn32s", "vgg16")).eval()
    fine = build(Architecture("fcn16s", "vgg16")).eval()
    fine.load_state_dict(coarse.state_dict())
    x = torch.randn(1, 3, 64, 64)

    def clear(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(output)

    with torch.inference_mode():
        assert not torch.allclose(fine(x), coarse(x))
        # With the fourth map zero, neither has anything to tell the other from.
        pool = fine.encoder[23]
        assert isinstance(pool, nn.MaxPool2d)
        for network in (fine, coarse):
            network.encoder[23].register_forward_hook(clear)
        assert torch.equal(fine(x), coarse(x))


@needs_library
@pytest.mark.parametrize("name", ["deeplabv3plus", "deeplabv3plus_full"])
def test_deeplab_works_on_a_sixteenth_with_dilations_for_it(name: str) -> None:
    network = build(Architecture(name, "resnet18")).eval()
    with torch.inference_mode():
        features = network.encoder(torch.zeros(1, 3, 64, 64))
    assert features[-1].shape[-1] == 4
    pyramid = network.decoder.aspp[0]
    found = {
        m.dilation[0] for m in pyramid.modules() if isinstance(m, nn.Conv2d) and m.padding != (0, 0)
    }
    assert found == {6, 12, 18}


@needs_library
def test_full_convolutions_are_full() -> None:
    with torch.device("meta"):
        network = build(Architecture("deeplabv3plus_full", "resnet18"))
    assert {m.groups for m in network.modules() if isinstance(m, nn.Conv2d)} == {1}


# ---- sides ----


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 131), (400, 400), (100, 64)])
def test_padding_gives_multiples_and_comes_off_again(height: int, width: int) -> None:
    seen = []

    def network(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape[2:])
        return x

    x = torch.randn(1, 3, height, width)
    assert torch.equal(padded(network, x, 32), x)
    assert all(side % 32 == 0 for side in seen[0])
    assert seen[0][0] - height < 32
    assert seen[0][1] - width < 32


@needs_library
def test_multiples_reach_the_library_as_they_are() -> None:
    network = build(Architecture("unet", "resnet18")).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        expected = network.segmentation_head(network.decoder(network.encoder(x)))
        assert torch.equal(network(x), expected)


# ---- weights, checkpoints and what can go wrong ----


@needs_library
def test_encoders_take_torchvisions_weights() -> None:
    torch.manual_seed(1)
    official = torchvision_resnet().resnet18(weights=None).state_dict()
    for name in LIBRARY:
        own = build(Architecture(name, "resnet18"), official).encoder.state_dict()
        assert set(own) == {k for k in official if not k.startswith("fc.")}
        assert all(torch.equal(own[k], official[k]) for k in own)


def test_vggs_weights_come_from_a_file_without_its_classifier(tmp_path) -> None:
    torch.manual_seed(2)
    own = build(Architecture("fcn32s", "vgg16"))
    official = {f"features.{k}": torch.randn_like(v) for k, v in own.encoder.state_dict().items()}
    official["classifier.6.bias"] = torch.ones(3)
    with torch.device("meta"):
        real = torchvision_module("torchvision.models.vgg").vgg16(weights=None).state_dict()
    assert {k for k in official if "features" in k} == {k for k in real if "features" in k}
    path = tmp_path / "vgg16-397923af.pth"
    torch.save(official, path)
    loaded = build(Architecture("fcn32s", "vgg16"), imagenet_weights("vgg16", cache=tmp_path))
    for key, value in loaded.encoder.state_dict().items():
        assert torch.equal(value, official[f"features.{key}"])


def test_weights_of_another_encoder_are_named() -> None:
    foreign = torchvision_resnet().resnet18(weights=None).state_dict()
    with pytest.raises(CheckpointError, match="vgg16"):
        build(Architecture("fcn32s", "vgg16"), foreign)


def test_an_absent_library_is_a_clear_error(monkeypatch) -> None:
    real = importlib.import_module

    def fail(name: str) -> object:
        if name.startswith("segmentation_models"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    for name in LIBRARY:
        with pytest.raises(DependencyError, match="segmentation-models-pytorch") as caught:
            build(Architecture(name, "resnet18"))
        assert "napari-hspnet[baselines]" in caught.value.advice


def test_a_card_says_only_what_its_family_has() -> None:
    values = Architecture("unet", "resnet18", 4).to_json()
    assert values == {"name": "unet", "encoder": "resnet18", "num_classes": 4}


@needs_library
def test_a_checkpoint_of_other_classes_or_family_is_named(tmp_path) -> None:
    five, four = Architecture("unet", "resnet18"), Architecture("unet", "resnet18", 4)
    state = build(five).state_dict()
    path = tmp_path / "five.pth"
    torch.save(state, path)
    assert load_checkpoint(path, architecture=five).card.num_classes == 5
    with pytest.raises(CheckpointError, match="5 classes, its architecture 4"):
        load_checkpoint(path, architecture=four)
    with pytest.raises(CheckpointError, match="does not fit"):
        load_checkpoint(path, architecture=Architecture("unetpp", "resnet18"))
    with pytest.raises(CheckpointError, match="cannot be told"):
        load_checkpoint(path)


@needs_library
def test_the_card_is_read_without_the_library(tmp_path, monkeypatch) -> None:
    arch = Architecture("unet", "resnet18")
    path = tmp_path / "unet.safetensors"
    save_checkpoint(path, build(arch), ModelCard("unet", arch))

    def fail(name: str) -> object:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("napari_hspnet.networks.baselines.importlib.import_module", fail)
    assert read_card(path).architecture == arch
    with pytest.raises(DependencyError):
        load_checkpoint(path)
