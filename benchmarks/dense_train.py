"""Teaches the demo model to be run over large windows at once; `dense.py` then judges it.

The demo model goes on learning as it would be run: pooling a local mean, taps that hardly
ever met the map zeroed and kept so, patches of the usual size and then of twice that, on
phantom fields of the training split.

    python benchmarks/dense_train.py --minutes 14 --out FILE
    python benchmarks/dense.py --taught FILE --results FILE --keep FOLDER --slides A:24
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from dense import TAUGHT, network_of
from napari_hspnet.jobs.phantom_fields import FieldJob, draw_fields
from napari_hspnet.phantom.splits import seeds_of
from napari_hspnet.training import (
    DEMO_RECIPE,
    FieldPatches,
    Stage,
    TrainProgress,
    WeightAverage,
    train,
)
from napari_hspnet.training.loop import fast_bfloat16

RECIPE = replace(
    DEMO_RECIPE,
    learning_rate=5e-4,
    schedule="cosine",
    stages=(Stage(400, 4, 0.3), Stage(800, 2, 0.7)),
    average=0.99,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="weights, safetensors, for dense.py"
    )
    parser.add_argument("--minutes", type=float, default=14.0, help="without the drawing")
    parser.add_argument("--fields", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    begun = time.monotonic()
    jobs = [FieldJob(seed, 800) for seed in seeds_of("train", 0, options.fields)]
    fields = list(draw_fields(jobs, torch.get_num_threads()))
    print(f"{len(fields)} fields drawn in {time.monotonic() - begun:.0f} s", flush=True)
    network = network_of(TAUGHT)
    for block in network.ds:
        for branch in block.block.atrous:
            weight = branch[0].weight
            if not weight[:, :, 0].any():
                # Only the middle was left, and only that learns.
                only = torch.zeros_like(weight)
                only[:, :, 1, 1] = 1
                weight.register_hook(only.mul)
    average = WeightAverage(network, RECIPE.average)
    told = time.monotonic()

    def tell(state: TrainProgress) -> None:
        nonlocal told
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"{100 * state.fraction:.0f} %, loss {state.loss:.3f}", flush=True)

    state = train(
        network.train(),
        FieldPatches(fields),
        RECIPE,
        num_classes=5,
        seconds=60 * options.minutes,
        seed=0,
        bfloat16=fast_bfloat16(),
        average=average,
        progress=tell,
    )
    save_file(average.network.state_dict(), options.out)
    print(f"{state.step} steps, loss {state.loss:.3f}")


if __name__ == "__main__":
    main()
