"""Stitching alone: what everything but the network costs, ours beside MONAI and a loop.

A network that costs nothing over an array in memory, so that what is measured is
cutting windows, normalising, softmax, blending and arg max. One process a run, all
kinds in turn and then all again. Then memory of ours alone, on slides up to ten times
as high and as wide.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np

import tiatoolbox_run
from children import interleaved, machine, measure, spread
from napari_hspnet.inference.plan import BAND_WIDTH
from napari_hspnet.jobs.threads import let_threads_sleep

WINDOW = 400
KINDS = {
    "ours": "ours",
    "monai-1": "MONAI, 1 at a time",
    "monai-4": "MONAI, 4 at a time",
    "monai-16": "MONAI, 16 at a time",
    "monai-buffered": "MONAI, 4 at a time, buffered",
    "naive": "a plain loop",
    "softmax": "softmax of each window, and nothing else",
    "adding": "each window added to the sums, and nothing else",
    "tiatoolbox": "TIAToolbox, 4 at a time, no Gaussian",
}


def child(kind: str, side: int, out: str) -> dict[str, float]:
    import torch

    import peers
    from napari_hspnet.networks import LoadedModel, ModelCard

    batch = {"monai-4": 4, "monai-16": 16, "monai-buffered": 4, tiatoolbox_run.KIND: 4}.get(kind, 1)
    card = ModelCard(name="null", window=WINDOW)
    model = LoadedModel(peers.NullNet(WINDOW, batch), card, "0" * 64, None)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    if kind.startswith("monai"):
        import monai.inferers  # noqa: F401  imports are not what is measured
    if kind == tiatoolbox_run.KIND:
        tiatoolbox_run.load()
    before = peers.peak_gb()
    with torch.inference_mode(), peers.measured() as cost:
        if kind == "ours":
            labels = peers.ours(pixels, model)
        elif kind == "naive":
            labels = peers.naive(pixels, model, batch)
        elif kind == "softmax":
            labels = peers.softmax_alone(pixels, model)
        elif kind == "adding":
            labels = peers.adding_alone(pixels, model)
        elif kind == tiatoolbox_run.KIND:
            labels = tiatoolbox_run.segment(pixels, model, batch)
        else:
            labels = peers.monai(pixels, model, batch, buffered=kind == "monai-buffered")
    windows = len(peers.starts(side, WINDOW)) ** 2
    np.save(out, labels)
    return {
        "wall": 1000 * cost.wall / windows,
        "cpu": 1000 * cost.cpu / windows,
        "peak_gb": peers.peak_gb(),
        "before_gb": before,
        "windows": windows,
        "load": peers.load(),
    }


def memory_child(height: int, width: int, band: int) -> dict[str, float]:
    import peers
    from napari_hspnet.networks import LoadedModel, ModelCard

    card = ModelCard(name="null", window=WINDOW)
    model = LoadedModel(peers.NullNet(WINDOW, 1), card, "0" * 64, None)
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    before = peers.peak_gb()
    slide = peers.ArraySlide(pixels, (height, width), card.mpp)
    with peers.measured() as cost:
        windows = peers.run_ours(slide, model, peers.Dropped(), band).windows
    return {
        "wall": 1000 * cost.wall / windows,
        "peak_gb": peers.peak_gb(),
        "before_gb": before,
        "windows": windows,
    }


def _times(kinds: list[str], side: int, repeats: int, tiatoolbox: str) -> None:
    absent = [kind for kind in kinds if kind == tiatoolbox_run.KIND and not tiatoolbox]
    kinds = [kind for kind in kinds if kind not in absent]
    pythons = [tiatoolbox if kind == tiatoolbox_run.KIND else "" for kind in kinds]
    with tempfile.TemporaryDirectory() as folder:
        outs = {kind: str(Path(folder) / f"{kind}.npy") for kind in kinds}
        arguments = [("time", kind, str(side), outs[kind]) for kind in kinds]
        measured = interleaved("stitching.py", arguments, repeats, pythons)
        results = dict(zip(kinds, measured, strict=True))
        ours = np.load(outs["ours"])
        differ = {kind: f"{(np.load(outs[kind]) != ours).mean():.1g}" for kind in kinds}
    if "monai-buffered" in differ:
        # The null network's logits go by the order of windows, which is another there.
        differ["monai-buffered"] = "not comparable"
    for kind in ("softmax", "adding"):
        if kind in differ:
            differ[kind] = "none"
    if tiatoolbox_run.KIND in differ:
        # Equal weights and a Gaussian give random logits other labels.
        differ[tiatoolbox_run.KIND] = "not comparable"
    print(
        f"Stitching {side} x {side} px, window {WINDOW}, stride 100, "
        f"{results['ours'][0]['windows']:.0f} windows, {repeats} repeats ({machine()}); "
        "minimum / median\n"
    )
    print(
        "| who | wall, ms a window | CPU, ms a window | this / ours, wall (median) "
        "| this / ours, CPU (median) | peak memory GB | of it before | labels unlike ours | load |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in kinds:
        found = results[kind]
        loads = [r["load"] for r in found]
        print(
            f"| {KINDS[kind]} | {spread([r['wall'] for r in found])} "
            f"| {spread([r['cpu'] for r in found])} "
            f"| {_ratio(found, results['ours'], 'wall'):.2f} "
            f"| {_ratio(found, results['ours'], 'cpu'):.2f} "
            f"| {max(r['peak_gb'] for r in found):.2f} | {found[0]['before_gb']:.2f} "
            f"| {differ[kind]} | {min(loads):.1f} to {max(loads):.1f} |"
        )
    for kind in absent:
        print(f"| {KINDS[kind]} | not installed here | | | | | | | |")


def _ratio(this: list[dict[str, float]], ours: list[dict[str, float]], what: str) -> float:
    """Median over rounds of what the two took in the same round."""
    return statistics.median(t[what] / o[what] for t, o in zip(this, ours, strict=True))


def _memory(sides: list[int], band: int) -> None:
    small, *others = sides
    shapes = [(small, small), *((h, small) for h in others), *((small, w) for w in others)]
    print(
        f"\nMemory of ours, labels dropped as they come, bands of {band} px ({machine()}); "
        "one run each\n"
    )
    print("| height x width | windows | ms a window | peak GB | of it before | over the smallest |")
    print("|---|---|---|---|---|---|")
    least = 0.0
    for shape in shapes:
        found = measure("stitching.py", "memory", *map(str, shape), str(band))
        least = least or found["peak_gb"]
        print(
            f"| {shape[0]} x {shape[1]} | {found['windows']:.0f} | {found['wall']:.2f} "
            f"| {found['peak_gb']:.3f} | {found['before_gb']:.3f} "
            f"| {100 * (found['peak_gb'] / least - 1):+.1f} % |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs="+", metavar="ARGUMENT")
    parser.add_argument("--side", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--kinds", default=",".join(KINDS), help="between commas; ours is always run"
    )
    parser.add_argument("--memory", default="4000,16000,40000", help="sides; empty for none")
    parser.add_argument("--band", type=int, default=BAND_WIDTH, help="columns that a band holds")
    tiatoolbox_run.add_option(parser)
    options = parser.parse_args()
    let_threads_sleep()
    if options.child:
        what, *rest = options.child
        found = (
            child(rest[0], int(rest[1]), rest[2])
            if what == "time"
            else memory_child(*map(int, rest))
        )
        print(json.dumps(found))
        return
    kinds = list(dict.fromkeys(["ours", *options.kinds.split(",")]))
    if options.repeats:
        _times(kinds, options.side, options.repeats, options.tiatoolbox)
    if options.memory:
        _memory([int(side) for side in options.memory.split(",")], options.band)


if __name__ == "__main__":
    main()
