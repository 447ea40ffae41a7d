"""A training small enough for a test: tiny network, pictures in memory."""

from __future__ import annotations

import numpy as np
import torch

from napari_hspnet.networks import Architecture, build
from napari_hspnet.training import Recipe
from napari_hspnet.training.data import ArrayImage, Augment, PatchReader, patch_index
from napari_hspnet.training.loss_terms import LossTerm, make_loss
from napari_hspnet.training.session import SessionSettings

TINY = Architecture(
    encoder="small", ds_widths=(4,) * 5, head_widths=(8, 8), encoder_widths=(8, 8, 8, 8)
)
# A colour for each value: what a network must find out.
COLOURS = np.array(
    [[240, 240, 240], [200, 150, 200], [60, 160, 90], [70, 70, 190], [170, 40, 40]], np.uint8
)
SGD = Recipe("sgd", 1e-2, 0.1, "cosine")
ADAMW = Recipe("adamw", 2e-3, 1.0, "one-cycle")


def colour_image(name: str, seed: int, side: int = 128, block: int = 32) -> ArrayImage:
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 5, (side // block,) * 2), np.ones((block, block)))
    truth = truth.astype(np.uint8)
    return ArrayImage(name, name, COLOURS[truth], truth)


def tiny_network(architecture: Architecture = TINY) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(architecture)


def tiny_reader(batch: int = 4) -> PatchReader:
    images = [colour_image("a", 0), colour_image("b", 1)]
    index = patch_index(images, 64, 32)
    return PatchReader(images, index, Augment(), 3, batch=batch)


def settings(**others) -> SessionSettings:
    given = {
        "recipe": SGD,
        "loss": make_loss([LossTerm("ce")]),
        "epochs": 2,
        "config": "c" * 64,
        "data": "d" * 64,
        "precision": "float32",
        "workers": 0,
    }
    return SessionSettings(**{**given, **others})


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
