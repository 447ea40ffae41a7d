"""What every network of ours keeps, whatever its family, encoder and options."""

from __future__ import annotations

import copy
import dataclasses
import json
import threading

import pytest
import torch
from torch.nn import functional as F

from napari_hspnet.inference.forward import Forward
from napari_hspnet.networks import (
    Architecture,
    ModelCard,
    Network,
    build,
    load_checkpoint,
    parameter_count,
    save_checkpoint,
)
from napari_hspnet.training.recipe import PAPER_RECIPE, make_optimizer

__all__ = ["NetworkContract"]


class NetworkContract:
    """Inherited once for each kind of network.

    Attributes
    ----------
    architecture : Architecture
        What is tested.
    count : int
        Its parameters, from another source than the network.
    sides : tuple
        Heights and widths of pictures.
    """

    architecture: Architecture
    count: int
    sides: tuple[tuple[int, int], ...] = ((64, 64), (100, 100), (65, 131))

    @pytest.fixture(scope="class")
    @classmethod
    def network(cls) -> Network:
        torch.manual_seed(0)
        return build(cls.architecture).eval()

    def test_parameter_count(self, network: Network) -> None:
        assert parameter_count(network) == self.count

    def test_logits_have_the_inputs_size(self, network: Network) -> None:
        for height, width in self.sides:
            with torch.inference_mode():
                logits = network(torch.randn(1, 3, height, width))
            assert logits.shape == (1, self.architecture.num_classes, height, width)
            assert logits.dtype == torch.float32
            assert torch.isfinite(logits).all()

    def test_four_and_five_classes(self) -> None:
        """The one number of classes is the fixture's, the other is tried here."""
        classes = 9 - self.architecture.num_classes
        network = build(dataclasses.replace(self.architecture, num_classes=classes)).eval()
        with torch.inference_mode():
            assert network(torch.randn(1, 3, 64, 64)).shape == (1, classes, 64, 64)

    def test_every_parameter_learns(self) -> None:
        torch.manual_seed(0)
        network = build(self.architecture).train()
        logits = network(torch.randn(2, 3, 96, 96))
        target = torch.randint(0, self.architecture.num_classes, (2, 96, 96))
        F.cross_entropy(logits, target).backward()
        dead = [
            name
            for name, p in network.named_parameters()
            if p.grad is None or not torch.isfinite(p.grad).all() or not p.grad.any()
        ]
        assert dead == []

    def test_one_patch_is_batch_enough(self) -> None:
        network = build(self.architecture).train()
        assert torch.isfinite(network(torch.randn(1, 3, 64, 64))).all()

    def test_saved_and_loaded_it_gives_the_same(self, network: Network, tmp_path) -> None:
        path = tmp_path / "model.safetensors"
        card = ModelCard("test", self.architecture)
        sha256 = save_checkpoint(path, network, card)
        model = load_checkpoint(path)
        assert (model.sha256, model.card, model.path) == (sha256, card, path)
        assert not model.network.training
        assert all(p.requires_grad for p in model.network.parameters())
        x = torch.randn(1, 3, 64, 64)
        with torch.inference_mode():
            assert torch.equal(model.network(x), network(x))

    def test_the_encoder_learns_at_a_rate_of_its_own(self) -> None:
        with torch.device("meta"):
            network = build(self.architecture)
        recipe = PAPER_RECIPE
        groups = make_optimizer(network, recipe).param_groups
        rates = {id(p): group["peak"] for group in groups for p in group["params"]}
        assert len(rates) == len(list(network.parameters()))
        inside = {id(p) for p in network.encoder.parameters()}
        assert 0 < len(inside) < len(rates)
        for key, rate in rates.items():
            factor = recipe.encoder_factor if key in inside else 1
            assert rate == pytest.approx(recipe.learning_rate * factor)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    def test_the_engine_runs_it_unchanged(self, network: Network, precision: str) -> None:
        windows = torch.randint(0, 256, (2, 100, 100, 3), dtype=torch.uint8)
        mean, std = (0.6, 0.5, 0.7), (0.2, 0.25, 0.3)
        inputs = (windows.permute(0, 3, 1, 2) / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / (
            torch.tensor(std).view(1, 3, 1, 1)
        )
        device = torch.device("cpu")
        # A copy, since the engine lays the weights out anew.
        twin = copy.deepcopy(network)
        with (
            torch.no_grad(),
            Forward(twin, mean, std, device, precision, threading.Event()) as forward,
        ):
            values = forward(windows)
            expected = network(inputs)
        assert values.shape == (2, self.architecture.num_classes, 100, 100)
        torch.testing.assert_close(values.sum(1), torch.ones(2, 100, 100))
        # Of untrained networks rounding moves the values far, the winner seldom.
        same = (values.argmax(1) == expected.argmax(1)).double().mean()
        assert same > (0.99 if precision == "float32" else 0.5)

    def test_exports(self, network: Network) -> None:
        x = torch.randn(1, 3, 64, 64)
        exported = torch.export.export(network, (x,)).module()
        with torch.inference_mode():
            torch.testing.assert_close(exported(x), network(x))

    def test_architecture_survives_json(self, network: Network) -> None:
        text = json.dumps(self.architecture.to_json())
        assert Architecture.from_json(json.loads(text)) == self.architecture
        assert network.architecture == self.architecture
