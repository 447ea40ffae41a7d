"""Whole runs with real networks: ours beside MONAI, a plain loop and the network alone.

The same pixels of the sample slide, weights, window and stride; one process a run, all
kinds in turn and then all again. Getting ready (folding, compiling, a first window) is
timed apart for everybody, and so is nobody's advantage in the rest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import tiatoolbox_run
from children import interleaved, machine, spread
from napari_hspnet.jobs.threads import let_threads_sleep

if TYPE_CHECKING:
    from napari_hspnet.inference import Progress
    from napari_hspnet.networks import LoadedModel
    from peers import Predict

KINDS = {
    "network": "the network alone, eager, channels last",
    "ours-eager": "ours, eager",
    "ours-auto": "ours, the back end chosen here",
    "monai-eager": "MONAI, eager, 1 at a time",
    "monai-last": "MONAI, channels last, 4 at a time",
    "monai-compiled": "MONAI, torch.compile, channels last, 4 at a time",
    "naive": "a plain loop, eager",
    "tiatoolbox": "TIAToolbox, channels last, 4 at a time, no Gaussian",
}


def _crop(model: LoadedModel, side: int) -> np.ndarray:
    """The middle of the sample slide, uint8 (side, side, 3), at the model's resolution."""
    from napari_hspnet.jobs.samples import sample_slide_path
    from napari_hspnet.slides import LabelGrid, open_slide

    with open_slide(sample_slide_path()) as slide:
        height, width = LabelGrid.of(slide.info, model.card.mpp).shape
        if side > min(height, width):
            raise SystemExit(f"the sample slide is {height} x {width} px; --sides must fit it")
        y, x = (height - side) // 2, (width - side) // 2
        return slide.read_grid(y, x, side, side, model.card.mpp)


def _predict(kind: str, model: LoadedModel) -> Predict:
    """What MONAI, the loop and the network alone call, in the form that `kind` says."""
    import torch

    network = model.network.eval()
    if kind in ("monai-eager", "naive"):
        return network
    network.to(memory_format=torch.channels_last)
    run = torch.compile(network) if kind == "monai-compiled" else network
    return lambda windows: run(windows.contiguous(memory_format=torch.channels_last))


def _alone(pixels: np.ndarray, model: LoadedModel, predict: Predict, found: dict) -> None:
    """The network on all windows, which lie ready in memory."""
    import torch

    import peers

    window, image = model.card.window, peers.normalised(pixels, model)
    ready = [
        image[:, :, y : y + window, x : x + window].contiguous(memory_format=torch.channels_last)
        for y in peers.starts(pixels.shape[0], window)
        for x in peers.starts(pixels.shape[1], window)
    ]
    with peers.measured() as cost:
        for windows in ready:
            predict(windows)
    found.update(cpu=cost.cpu / len(ready), wall=cost.wall / len(ready))


def _ours(
    pixels: np.ndarray, model: LoadedModel, backend: str, cache: Path, found: dict
) -> np.ndarray:
    """The engine; timed from the end of its first window, when it has got ready."""
    import peers

    marks: list[tuple[float, float, int]] = []

    def note(progress: Progress) -> None:
        if progress.done:
            marks.append((time.perf_counter(), peers.cpu_seconds(), progress.done))

    begun = time.perf_counter()
    sink = peers.Kept(pixels.shape[:2])
    slide = peers.ArraySlide(pixels, pixels.shape[:2], model.card.mpp)
    summary = peers.run_ours(
        slide, model, sink, backend=backend, backend_cache=cache, progress=note
    )
    cpu, wall = peers.cpu_seconds(), time.perf_counter()
    first_wall, first_cpu, done = marks[0]
    left = summary.windows - done
    found.update(
        ready=first_wall - begun,
        cpu=(cpu - first_cpu) / left,
        wall=(wall - first_wall) / left,
        backend=summary.backend,
    )
    return sink.classes


def child(kind: str, name: str, side: int, folder: str) -> dict[str, float | str]:
    import torch

    import engine_cpu
    import peers

    model = engine_cpu._model(name)
    pixels, window = _crop(model, side), model.card.window
    batch = 4 if kind in ("monai-last", "monai-compiled", tiatoolbox_run.KIND) else 1
    found: dict[str, float | str] = {"windows": len(peers.starts(side, window)) ** 2}
    if kind.startswith("monai"):
        import monai.inferers  # noqa: F401  imports are not what is measured
    if kind == tiatoolbox_run.KIND:
        tiatoolbox_run.load()
    found["before_gb"] = peers.peak_gb()
    labels = None
    with torch.inference_mode():
        if kind.startswith("ours"):
            backend = kind.removeprefix("ours-")
            labels = _ours(pixels, model, backend, Path(folder) / "backends", found)
        else:
            begun = time.perf_counter()
            predict = _predict(kind, model)
            # Compiled anew for each number of windows: the last batch may be smaller.
            for size in {batch, int(found["windows"]) % batch or batch}:
                predict(torch.zeros(size, 3, window, window))
            found["ready"] = time.perf_counter() - begun
            if kind == "network":
                _alone(pixels, model, predict, found)
            else:
                with peers.measured() as cost:
                    if kind == "naive":
                        labels = peers.naive(pixels, model, batch, predict=predict)
                    elif kind == tiatoolbox_run.KIND:
                        labels = tiatoolbox_run.segment(pixels, model, batch, predict=predict)
                    else:
                        labels = peers.monai(pixels, model, batch, predict=predict)
                found["cpu"] = cost.cpu / int(found["windows"])
                found["wall"] = cost.wall / int(found["windows"])
    if labels is not None:
        np.save(Path(folder) / f"{kind}.npy", labels)
    return {**found, "peak_gb": peers.peak_gb(), "load": peers.load()}


def _table(name: str, side: int, kinds: list[str], repeats: int, tiatoolbox: str) -> None:
    absent = [kind for kind in kinds if kind == tiatoolbox_run.KIND and not tiatoolbox]
    kinds = [kind for kind in kinds if kind not in absent]
    pythons = [tiatoolbox if kind == tiatoolbox_run.KIND else "" for kind in kinds]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [(kind, name, str(side), folder) for kind in kinds]
        # So that "auto" has measured the back ends before anything is timed.
        if "ours-auto" in kinds:
            interleaved("engine_peers.py", [("ours-auto", name, str(side), folder)], 1)
        measured = interleaved("engine_peers.py", arguments, repeats, pythons)
        results = dict(zip(kinds, measured, strict=True))
        labels = {p.stem: np.load(p) for p in Path(folder).glob("*.npy")}
    ours = results["ours-eager"]
    print(
        f"\n{name}, {side} x {side} px of the sample slide, {ours[0]['windows']:.0f} windows, "
        f"{repeats} repeats\n"
    )
    print(
        "| who | wall, ms a window | CPU, ms a window | this / ours eager, wall "
        "| this / ours eager, CPU | getting ready, s | peak memory GB | labels unlike ours eager "
        "| load |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for kind in kinds:
        found = results[kind]
        used = f" ({found[0]['backend']})" if kind == "ours-auto" else ""
        unlike = (labels[kind] != labels["ours-eager"]).mean() if kind in labels else None
        loads = [r["load"] for r in found]
        print(
            f"| {KINDS[kind]}{used} | {spread([1000 * r['wall'] for r in found])} "
            f"| {spread([1000 * r['cpu'] for r in found])} "
            f"| {_ratio(found, ours, 'wall'):.3f} | {_ratio(found, ours, 'cpu'):.3f} "
            f"| {spread([r['ready'] for r in found])} | {max(r['peak_gb'] for r in found):.2f} "
            f"| {'' if unlike is None else f'{unlike:.1g}'} "
            f"| {min(loads):.1f} to {max(loads):.1f} |"
        )
    for kind in absent:
        print(f"| {KINDS[kind]} | not installed here | | | | | | | |")


def _ratio(this: list[dict], ours: list[dict], what: str) -> float:
    """Median over rounds of what the two took in the same round."""
    return statistics.median(t[what] / o[what] for t, o in zip(this, ours, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=4, metavar=("KIND", "MODEL", "SIDE", "FOLDER"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", default="demo,resnet34")
    parser.add_argument("--sides", default="1000,600", help="pixels for each model")
    parser.add_argument("--kinds", default=",".join(KINDS), help="ours-eager is always run")
    tiatoolbox_run.add_option(parser)
    options = parser.parse_args()
    let_threads_sleep()
    if options.child:
        kind, name, side, folder = options.child
        print(json.dumps(child(kind, name, int(side), folder)))
        return
    kinds = list(dict.fromkeys(["ours-eager", *options.kinds.split(",")]))
    print(
        f"Whole runs with real networks, window 400, stride 100 ({machine()}); minimum / median, "
        "ratios are medians of rounds"
    )
    models = options.models.split(",")
    for name, side in zip(models, options.sides.split(","), strict=True):
        _table(name, int(side), kinds, options.repeats, options.tiatoolbox)


if __name__ == "__main__":
    main()
