"""Predicts a slide and kills itself after so many windows; run by test_predict_killed.py.

Arguments: the slide, the output folder, the window count (0: never), then "fresh" or not.
Prints the result as a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from napari_hspnet.cases import unfinished
from napari_hspnet.inference import plan
from napari_hspnet.jobs.predict import PredictOptions, predict
from napari_hspnet.networks import Architecture, LoadedModel, ModelCard

STRIDE = 48


class PlaceNet(nn.Module):
    """Depends on the pixel, its neighbours and the place in the window."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 5, padding=2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(self.conv.weight.shape, generator=generator) * 0.3)
            self.conv.bias.copy_(torch.randn(5, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * (1.5 + torch.linspace(-1, 1, x.shape[-1]))


def place_model() -> LoadedModel:
    card = ModelCard(name="place", architecture=Architecture(), window=96, synthetic=True)
    return LoadedModel(PlaceNet().eval(), card, "5" * 64, None)


def main() -> None:
    slide, out, windows, fresh = sys.argv[1:]
    unfinished.NOTE_EVERY = 0.0
    # So that a small slide has several bands.
    plan.make_plan.__defaults__ = (*plan.make_plan.__defaults__[:-1], 700)
    seen: list[str] = []
    ran = [0]

    def kill(module: nn.Module, inputs: object) -> None:
        ran[0] += 1
        if ran[0] == int(windows):
            os.kill(os.getpid(), signal.SIGKILL)

    model = place_model()
    model.network.register_forward_pre_hook(kill)
    options = PredictOptions(
        out=Path(out),
        formats=("ome-tiff",),
        stride=STRIDE,
        tissue_mask=False,
        device="cpu",
        fresh=fresh == "fresh",
    )
    result = predict(Path(slide), model, options, said=seen.append)
    said = {
        "run": result.run.id,
        "pixels": {str(v): n for v, n in result.run.pixels.items()},
        "areas": {str(v): a for v, a in result.run.areas.items()},
        "windows": result.windows,
        "ran": ran[0],
        "said": seen,
        "notes": list(result.run.record.notes),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
