"""Fixtures of several files of this folder."""

from __future__ import annotations

import pytest
from predictor_helpers import Clock, Fake, small_hspnet

from napari_hspnet.inference.predictors import Eager, choice
from napari_hspnet.networks import LoadedModel


@pytest.fixture(scope="module")
def hspnet() -> LoadedModel:
    """A small HSP-Net in evaluation mode, for windows of 96 px."""
    return small_hspnet()


@pytest.fixture
def bench(monkeypatch):
    """Back ends of known cost, on a clock that only they move."""
    clock = Clock()
    monkeypatch.setattr(choice, "time", clock)

    def install(**kinds: dict):
        made = []
        for name, body in {"eager": {"cost": 2.0}, **kinds}.items():
            # The choice knows the plain network by its class, and needs it as such.
            base = (Fake, Eager) if name == "eager" else (Fake,)
            made.append(type(name, base, {"name": name, "clock": clock, **body}))
        monkeypatch.setattr(choice, "BACKENDS", tuple(made))
        monkeypatch.setattr(choice, "Eager", made[0])
        return clock

    return install
