"""A small HSP-Net to run, and back ends of known cost."""

from __future__ import annotations

import threading

import torch
from engine_helpers import SmallNet
from torch import nn

from napari_hspnet.inference.predictors import Eager, Predictor, Subject, choose
from napari_hspnet.networks import Architecture, LoadedModel, ModelCard, build

MEAN, STD = (0.6, 0.5, 0.7), (0.2, 0.25, 0.3)
ARCHITECTURE = Architecture(
    encoder="small",
    ds_widths=(4, 6, 8, 10, 12),
    head_widths=(9, 7),
    encoder_widths=(8, 12, 16, 20),
)


def small_hspnet() -> LoadedModel:
    torch.manual_seed(1)
    network = build(ARCHITECTURE)
    network(torch.randn(2, 3, 96, 96))  # statistics that are not those of a fresh one
    network.eval()
    with torch.no_grad():
        network.head[2].weight.mul_(3 / network(torch.randn(1, 3, 64, 64)).std())
    card = ModelCard("test", ARCHITECTURE, mean=MEAN, std=STD, window=96)
    return LoadedModel(network, card, "0" * 64, None)


def subject(network: nn.Module, window: int | None = 96, precision: str = "float32") -> Subject:
    device = torch.device("cpu")
    return Subject(network, MEAN, STD, window, device, precision, threading.Event())


class Fake(Predictor):
    """The plain network under another name, whose time is counted by `Clock`."""

    name = "fake"
    cost = 1.0
    fails_opening = False
    fails_at = 0
    error: Exception = RuntimeError("broken\nin two lines")
    clock: Clock | None = None

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.inner = Eager(subject)
        self.calls = 0

    @classmethod
    def available(cls, subject: Subject) -> str | None:
        return None

    def _open(self) -> None:
        if self.fails_opening:
            raise self.error
        self.inner.__enter__()

    def _close(self) -> None:
        self.inner.__exit__(None, None, None)

    def _run(self, windows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.clock is not None:
            self.clock.now += self.cost
            self.clock.calls += 1
        if self.calls == self.fails_at:
            raise self.error
        return self.answer(self.inner(windows))

    def answer(self, logits: torch.Tensor) -> torch.Tensor:
        return logits


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.calls = 0

    def perf_counter(self) -> float:
        return self.now


def chosen(folder=None, network=None, budget=1000.0, **options):
    card = ModelCard("test", ARCHITECTURE, mean=MEAN, std=STD, window=96)
    return choose(network or SmallNet(), card, torch.device("cpu"), folder, budget, **options)
