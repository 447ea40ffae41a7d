"""ImageNet weights: no network is used; the state dict has random numbers and official names."""

from __future__ import annotations

import pytest
import torch

from napari_hspnet.errors import CheckpointError, InputError
from napari_hspnet.networks import HSPNet, imagenet_weights
from napari_hspnet.networks.torchvision_compat import torchvision_resnet

FILE = "resnet18-f37072fd.pth"


@pytest.fixture(scope="module")
def official() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return torchvision_resnet().resnet18(weights=None).state_dict()


def test_every_encoder_tensor_comes_from_the_file(official, tmp_path) -> None:
    path = tmp_path / "any-name.pth"
    torch.save(official, path)
    network = HSPNet("resnet18", weights=imagenet_weights("resnet18", path))
    own = network.encoder.state_dict()
    assert set(own) == {k for k in official if not k.startswith("fc.")}
    assert all(torch.equal(own[k], official[k]) for k in own)


def test_the_cache_is_looked_at_first(official, tmp_path) -> None:
    torch.save(official, tmp_path / FILE)
    state = imagenet_weights("resnet18", cache=tmp_path)
    assert torch.equal(state["conv1.weight"], official["conv1.weight"])


def test_nothing_goes_online_unasked(tmp_path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("went online")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    with pytest.raises(CheckpointError, match="not on this machine") as caught:
        imagenet_weights("resnet18", cache=tmp_path)
    assert FILE in caught.value.advice


def test_asked_for_the_official_file_is_downloaded_and_its_hash_checked(
    official, tmp_path, monkeypatch
) -> None:
    asked = {}

    def download(url: str, model_dir: str, **options: object) -> dict[str, torch.Tensor]:
        asked.update(url=url, model_dir=model_dir, **options)
        return official

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    imagenet_weights("resnet18", cache=tmp_path / "new", download=True)
    assert asked["url"].endswith(FILE)
    assert asked["model_dir"] == str(tmp_path / "new")
    assert asked["check_hash"] is True
    assert asked["weights_only"] is True


def test_a_failed_download_is_a_clear_error(tmp_path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(CheckpointError, match="no route"):
        imagenet_weights("resnet18", cache=tmp_path, download=True)


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 broken"])
def test_a_damaged_file_is_a_clear_error(content: bytes, tmp_path) -> None:
    path = tmp_path / FILE
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=FILE):
        imagenet_weights("resnet18", path)


def test_an_absent_file_is_a_clear_error(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="no such"):
        imagenet_weights("resnet18", tmp_path / "absent.pth")


def test_a_list_is_no_state_dict(tmp_path) -> None:
    torch.save([1, 2], tmp_path / FILE)
    with pytest.raises(CheckpointError, match="no state dict"):
        imagenet_weights("resnet18", tmp_path / FILE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("layer2.0.conv1.weight"), r"lack layer2\.0\.conv1\.weight"),
        (lambda s: s.update({"layer5.weight": torch.ones(1)}), r"unexpected layer5\.weight"),
        (lambda s: s.update({"conv1.weight": torch.ones(1)}), r"shape at conv1\.weight"),
    ],
)
def test_weights_of_another_network_are_named(official, change, named) -> None:
    state = dict(official)
    change(state)
    with pytest.raises(CheckpointError, match=named):
        HSPNet("resnet18", weights=state)


def test_files_without_counters_load(official) -> None:
    old = {k: v for k, v in official.items() if not k.endswith("num_batches_tracked")}
    own = HSPNet("resnet18", weights=old).encoder.state_dict()
    assert torch.equal(own["bn1.running_mean"], official["bn1.running_mean"])


def test_the_small_encoder_has_none() -> None:
    with pytest.raises(InputError, match="small"):
        imagenet_weights("small")
