"""Whether a network taught on small windows can be run over large ones at once.

It would cost a tenth of the exact way: nothing is looked at twice. Two things stand
against it, and both can be taken out: global pooling, which sees another field than it
learnt from (a local mean over as much as a training window), and taps that only ever
met padding (zeroed, see `networks.dilations`). Measured on slides that `modes.py` has
looked at with `--keep`; its rows join the results of `modes.py`.

    python benchmarks/dense.py --results FILE --keep FOLDER --slides A:24
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Before torch is loaded: says how threads wait.
from modes import EXACT, WINDOW, Blender, Seen, jobs_of  # isort: skip

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from modes_table import read, table
from napari_hspnet.inference.blend import gaussian_weights
from napari_hspnet.jobs.phantom_slides import slide_spec, with_slide
from napari_hspnet.networks import DSBlock, HSPNet, demo_model_path, load_checkpoint
from napari_hspnet.networks.dilations import map_sides
from napari_hspnet.training import confusion


@dataclass(frozen=True)
class Dense:
    """A way to run over a large window.

    Attributes
    ----------
    local : bool
        Whether pooling is a mean over as much as a training window.
    kept : float
        Off-centre taps along an axis stay where they met the map of a training
        window for at least this share of positions; 0 leaves all alone.
    window, stride : int
        In pixels; a window of 0 is the whole slide. Windows are blended with sigma
        window / 8.
    taught : bool
        Whether it went on learning that way (`dense_train.py`).
    """

    local: bool
    kept: float
    window: int = 0
    stride: int = 0
    taught: bool = False

    @property
    def key(self) -> str:
        what = f"windows of {self.window}, stride {self.stride}" if self.window else "whole slide"
        pool = "local mean" if self.local else "global mean"
        taps = {0.0: "all taps", 1e-9: "dead taps zeroed"}.get(
            self.kept, f"taps alive for < {100 * self.kept:.0f} % zeroed"
        )
        return f"dense, {what}, {pool}, {taps}{', taught on' if self.taught else ''}"


WAYS = (
    Dense(False, 0.0),
    Dense(True, 0.0),
    Dense(True, 1e-9),
    Dense(True, 0.2),
    Dense(True, 0.3),
    Dense(True, 0.3, 800, 400),
)

TAUGHT = Dense(True, 0.2, taught=True)


class LocalPool(nn.Module):
    """A DS-Block that pools over a field of `side` cells about each cell, not over all."""

    def __init__(self, block: DSBlock, side: int) -> None:
        super().__init__()
        self.block = block
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """(N, c, h, w) to (N, c', h, w)."""
        block = self.block
        pooled = block.pool(_mean(_mean(x, 2, self.side), 3, self.side))
        branches = [pooled, block.point(x), *(branch(x) for branch in block.atrous)]
        return block.reduce(torch.cat(branches, 1))


def _mean(x: Tensor, axis: int, side: int) -> Tensor:
    """Along an axis the mean of `side` cells, those about the border shifted inwards."""
    length = x.shape[axis]
    side = min(side, length)
    total = F.pad(x.double().cumsum(axis), (0, 0, 1, 0) if axis == 2 else (1, 0))
    first = (torch.arange(length) - side // 2).clamp(0, length - side)
    return (
        (total.index_select(axis, first + side) - total.index_select(axis, first)) / side
    ).float()


def network_of(way: Dense) -> HSPNet:
    """The demo model, changed as the way says."""
    network = load_checkpoint(demo_model_path()).network.eval()
    assert isinstance(network, HSPNet)
    for index, (block, side) in enumerate(zip(network.ds, map_sides(WINDOW), strict=True)):
        for branch in block.atrous:
            conv = branch[0]
            if max(0, side - conv.dilation[0]) / side < way.kept:
                centre = conv.weight[:, :, 1:2, 1:2].detach().clone()
                with torch.no_grad():
                    conv.weight.zero_()
                    conv.weight[:, :, 1:2, 1:2] = centre
        if way.local:
            network.ds[index] = LocalPool(block, side)
    return network


def answer(way: Dense, network: HSPNet, rgb: np.ndarray, mean, std) -> tuple[np.ndarray, float]:
    """Labels, uint8 (h, w), and what they took, in windows of the usual size."""
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    pixels = (pixels - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    if not way.window:
        labels = network(pixels)[0].argmax(0)
        return labels.to(torch.uint8).numpy(), rgb.shape[0] * rgb.shape[1] / WINDOW**2
    side = way.window
    weights = torch.from_numpy(gaussian_weights(side, side / 8))
    total = torch.zeros((5, *rgb.shape[:2]))
    count = 0
    for y in range(0, rgb.shape[0] - side + 1, way.stride):
        for x in range(0, rgb.shape[1] - side + 1, way.stride):
            values = network(pixels[:, :, y : y + side, x : x + side])[0].softmax(0)
            total[:, y : y + side, x : x + side].addcmul_(values, weights)
            count += 1
    return total.argmax(0).to(torch.uint8).numpy(), count * (side / WINDOW) ** 2


def measure(
    jobs: Sequence[tuple[str, int]],
    networks: dict[Dense, HSPNet],
    results: Path,
    keep: Path,
) -> None:
    """Judge all slides that `results` does not hold yet."""
    card = load_checkpoint(demo_model_path()).card
    for domain, seed in jobs:
        done = read(results).get((domain, seed), {})
        left = [way for way in networks if way.key not in done]
        if not left:
            continue
        seen = Seen.load(keep / f"{domain}-{seed}.npz")
        exact, _ = Blender(seen).answer(EXACT)
        there = seen.truth > 0
        with with_slide(slide_spec(seed, domain)) as judged:
            rgb = judged.rgb()
        found = {}
        for way in left:
            with torch.inference_mode():
                labels, cost = answer(way, networks[way], rgb, card.mean, card.std)
            found[way.key] = {
                "windows": cost,
                "truth": confusion(seen.truth, labels).tolist(),
                "exact": confusion(exact[there], labels[there]).tolist(),
            }
        with results.open("a") as file:
            file.write(json.dumps({"domain": domain, "seed": seed, "ways": found}) + "\n")
        print(f"{domain} {seed}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True, help="what modes.py kept")
    parser.add_argument("--slides", default="A:24", help="DOMAIN:COUNT, comma between")
    parser.add_argument("--taught", type=Path, help="weights that dense_train.py wrote")
    options = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    networks = {way: network_of(way) for way in WAYS}
    if options.taught is not None:
        networks[TAUGHT] = network_of(TAUGHT)
        networks[TAUGHT].load_state_dict(load_file(options.taught))
    measure(jobs_of(options.slides), networks, options.results, options.keep)
    table(options.results, EXACT.key)


if __name__ == "__main__":
    main()
