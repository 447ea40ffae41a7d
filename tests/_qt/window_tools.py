"""Slides and models for the window's tests."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from napari_hspnet.classes import NOT_RUN, SKIPPED
from napari_hspnet.networks import LoadedModel
from napari_hspnet.phantom import ORACLE_COLOURS, ORACLE_GLASS, PhantomSpec, write_phantom

from oracle import OracleNet, oracle_model

SPEC = PhantomSpec(2203, 2901, seed=4, style="oracle", grades=(1, 2, 3, 4))
"""551 x 726 µm: awkward sides, few windows."""

OTHER = PhantomSpec(1999, 2401, seed=9, style="oracle")


class SlowNet(OracleNet):
    """Takes its time, as a large network on a processor does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(0.25 * len(x))
        return super().forward(x)


class BrokenNet(OracleNet):
    """Fails in the middle of a run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.max() > 0:
            raise RuntimeError("the network broke")
        return super().forward(x)


def model_of(network: torch.nn.Module) -> LoadedModel:
    return replace(oracle_model(), network=network.eval(), sha256="1" * 64)


def phantom(folder, spec=SPEC, name="oracle"):
    path = folder / f"{name}.tiff"
    write_phantom(path, spec)
    return path


def marked_slide(height, width, mark, classes=4):
    """Glass with one square of a class's oracle colour; (h, w, 3)."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = ORACLE_GLASS
    y, x, side = mark
    pixels[y : y + side, x : x + side] = ORACLE_COLOURS[classes]
    return pixels


def agrees(found, truth):
    """Pixels with a class equal the truth, and what was left out holds none of it."""
    known = found < SKIPPED
    left_out = found == SKIPPED
    return (found[known] == truth[known]).mean(), truth[left_out].max(initial=0), known.mean()


def analysed(values):
    return (values != NOT_RUN) & (values != SKIPPED)
