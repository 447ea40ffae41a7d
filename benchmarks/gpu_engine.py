"""The engine on a GPU: network alone, end to end, first answer, labels; as Markdown.

    PYTHONPATH=src python benchmarks/gpu_engine.py > gpu.md

Needs torch 2.11 or newer with torchvision, NumPy, safetensors and Pillow (SciPy for
phantom tissue instead of texture); no network. It makes its own slide of JPEG tiles.
What fails is printed in its place, and the rest goes on. Tables go to stdout, all
else to stderr. `--quick` is the check of the script, with a tiny network, which works
on a CPU and whose figures mean nothing.

Untrained networks, seeded, serve for speed; labels are compared on the demo model,
which is trained.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from gpu_measure import (
    FULL,
    QUICK,
    NullSink,
    Scale,
    agreement,
    fresh_memory,
    gigaflops,
    kinds_for,
    memory,
    model_of,
    repeated,
    settings,
    speed,
    subject_of,
    utilisation,
    view_classes,
    windows_of,
)
from gpu_slide import MPP, TILE, JpegSlide
from napari_hspnet.inference import choose_device, describe_device, make_plan
from napari_hspnet.inference.engine import run_plan
from napari_hspnet.inference.folding import fold
from napari_hspnet.inference.predictors import BACKENDS
from napari_hspnet.slides import LabelGrid, Region


def matrix_peak(device: torch.device, scale: Scale) -> dict[str, float]:
    """TFLOP/s of the best product of square matrices, by dtype; printed by size."""
    print("## Matrix products\n\n| dtype | side | TFLOP/s |\n|---|---|---|")
    best: dict[str, float] = {}
    for dtype in (torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        for side in scale.matrices:
            a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
            rate = 2 * side**3 * repeated(lambda a=a, b=b: a @ b, device, scale.seconds) / 1e12
            best[name] = max(best.get(name, 0.0), rate)
            print(f"| {name} | {side} | {rate:.3g} |", flush=True)
    print()
    return best


def network_alone(
    name: str, slide: JpegSlide, device: torch.device, peaks: dict[str, float], options
) -> dict[tuple[str, str], tuple[float, int]]:
    """Prints a table; windows a second and batch of the best by (back end, precision)."""
    scale: Scale = options.scale
    model = model_of(name, scale, slide, device)
    side = model.card.window
    literal, folded = (
        gigaflops(network, side) for network in (model.network, fold(model.network, side))
    )
    print(f"## Network alone, {name}\n")
    print(f"{literal:.4g} GFLOP a window of {side} px as written, {folded:.4g} folded.\n")
    columns = (
        "back end, precision, batch, windows/s, TFLOP/s as written, of the matrix peak, "
        "the same by what is left to do, memory GB, getting ready s, notes"
    )
    print(f"| {columns.replace(', ', ' | ')} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    best: dict[tuple[str, str], tuple[float, int]] = {}
    windows = windows_of(slide, side, max(scale.batches))
    for precision in ("float16", "bfloat16", "float32"):
        for kind in kinds_for(device, options.inductor):
            for batch in scale.batches if precision != "float32" else scale.batches[:1]:
                row = f"| {kind.name} | {precision} | {batch} |"
                what = subject_of(model, device, precision)
                reason = kind.available(what)
                if reason is not None:
                    print(f"{row} {reason} | | | | | | |", flush=True)
                    break
                try:
                    fresh_memory(device)
                    part, begun = windows[:batch], time.perf_counter()
                    with torch.inference_mode(), kind(what) as predictor:
                        predictor(part).sum().item()
                        ready = time.perf_counter() - begun
                        rate = speed(predictor, part, scale.seconds)
                        notes = "; ".join(predictor.notes)
                    best[kind.name, precision] = max(
                        best.get((kind.name, precision), (0.0, batch)), (rate, batch)
                    )
                    peak = peaks.get(precision)
                    done = folded if kind.name != "eager" else literal
                    share = f"{rate * literal / 1000 / peak:.1%}" if peak else ""
                    after = f"{rate * done / 1000 / peak:.1%}" if peak else ""
                    print(
                        f"{row} {rate:.4g} | {rate * literal / 1000:.4g} | {share} | {after} "
                        f"| {memory(device):.2f} | {ready:.1f} | {notes} |",
                        flush=True,
                    )
                except Exception as error:
                    print(f"{row} failed: {said(error)} | | | | | | |", flush=True)
    print()
    return best


def said(error: BaseException) -> str:
    traceback.print_exception(error, file=sys.stderr)
    line = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {line}".replace("|", "/")


def end_to_end(name: str, slide: JpegSlide, device: torch.device, best, options) -> None:
    scale: Scale = options.scale
    model = model_of(name, scale, slide, device)
    grid = LabelGrid.of(slide.info, 1.0)
    print(f"## End to end, {name}\n")
    print(f"From the JPEG slide, labels thrown away; {os.cpu_count()} processors.\n")
    columns = (
        "back end, precision, batch, readers, windows, windows/s, of the network alone, "
        "GPU busy, memory GB, ran"
    )
    print(f"| {columns.replace(', ', ' | ')} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for (backend, precision), (rate, batch) in best.items():
        if precision != "float16" and not (precision == "float32" and backend == "eager"):
            continue
        # In float32 a corner is enough.
        side = grid.shape[0] * 1.0 if precision == "float16" else grid.shape[0] / 4
        region = Region.rectangle(0.0, 0.0, side, side)
        plan = make_plan(grid, region, settings(model, scale, precision))
        row = f"| {backend} | {precision} | {batch} | {options.readers} |"
        try:
            fresh_memory(device)
            with utilisation() as busy:
                summary = run_plan(
                    slide,
                    model,
                    plan,
                    NullSink(),
                    device=str(device),
                    batch=batch,
                    threads=options.readers,
                    backend=backend,
                )
            found = summary.windows / summary.seconds
            notes = "; ".join([summary.backend, *summary.notes])
            print(
                f"{row} {summary.windows} | {found:.4g} | {found / rate:.3f} "
                f"| {f'{np.mean(busy):.0f} %' if busy else ''} | {memory(device):.2f} | {notes} |",
                flush=True,
            )
        except Exception as error:
            print(f"{row} failed: {said(error)} | | | | | |", flush=True)
    print()


def first_answer(name: str, slide: JpegSlide, device: torch.device, backend: str, options) -> None:
    """A view's first labels and all of them, getting ready included, twice."""
    scale: Scale = options.scale
    model = model_of(name, scale, slide, device)
    how = settings(model, scale, "float16")
    region = Region.rectangle(100.0, 100.0, scale.view, scale.view)
    plan = make_plan(LabelGrid.of(slide.info, 1.0), region, how)
    print(f"## First answer, {name}\n")
    print(f"A view of {scale.view} x {scale.view} px of 1 µm, {plan.windows} windows.\n")
    print("| back end | run | first overlay s | complete s | ran |\n|---|---|---|---|---|")
    for run in ("first", "second"):
        sink, begun = NullSink(), time.perf_counter()
        try:
            summary = run_plan(
                slide,
                model,
                plan,
                sink,
                device=str(device),
                batch=scale.batches[0],
                threads=options.readers,
                preview=True,
                backend=backend,
            )
            done = time.perf_counter() - begun
            first = (sink.first or time.perf_counter()) - begun
            print(
                f"| {backend} | {run} | {first:.2f} | {done:.2f} | {summary.backend} |", flush=True
            )
        except Exception as error:
            print(f"| {backend} | {run} | failed: {said(error)} | | |", flush=True)
    print()


def labels(names: Sequence[str], slide: JpegSlide, device: torch.device, options) -> None:
    scale: Scale = options.scale
    print("## Labels that are those of the plain network in float32\n")
    print("Of tissue, window by window; and, end to end, of all pixels of a view.\n")
    print("| model | back end | precision | windows | end to end |\n|---|---|---|---|---|")
    for name in names:
        model = model_of(name, scale, slide, device)
        side = model.card.window
        parts = windows_of(slide, side, 4 * max(scale.batches)).split(scale.batches[0])
        plain = next(kind for kind in BACKENDS if kind.name == "eager")
        with torch.inference_mode(), plain(subject_of(model, device, "float32")) as predictor:
            exact = [predictor(part).argmax(1).cpu() for part in parts]
        whole = view_classes(model, slide, device, "eager", "float32", options)
        for kind in kinds_for(device, options.inductor):
            for precision in ("float32", "float16", "bfloat16"):
                row = f"| {model.card.name} | {kind.name} | {precision} |"
                what = subject_of(model, device, precision)
                if (reason := kind.available(what)) is not None:
                    print(f"{row} {reason} | |", flush=True)
                    break
                try:
                    share = agreement(exact, kind, what, parts)
                    found = view_classes(model, slide, device, kind.name, precision, options)
                    print(f"{row} {share:.3%} | {(found == whole).mean():.3%} |", flush=True)
                except Exception as error:
                    print(f"{row} failed: {said(error)} | |", flush=True)
    print()


def header(slide: JpegSlide, device: torch.device, quick: bool) -> None:
    print("# The engine on a GPU\n")
    if quick:
        print("A check of the script: these figures mean nothing.\n")
    print(f"- Device: {describe_device(device)}")
    cudnn = torch.backends.cudnn.version() if device.type == "cuda" else None
    print(f"- PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {cudnn}")
    print(
        f"- Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} processors"
    )
    print(
        f"- Slide: {slide.info.shape[0]} px a side at {MPP} µm, {slide.what}, JPEG tiles of "
        f"{TILE} px, {slide.megabytes:.0f} MB\n",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="check of the script")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--networks", help="between commas; resnet101,resnet34 without")
    parser.add_argument("--inductor", action="store_true", help="too; compiles for many minutes")
    parser.add_argument(
        "--readers", type=int, help="threads that read; processors less two without"
    )
    parser.add_argument("--only", help="alone, resp. end, first, labels; between commas")
    options = parser.parse_args()
    options.scale = QUICK if options.quick else FULL
    options.readers = options.readers or max(1, (os.cpu_count() or 3) - 2)
    wanted = (options.only or "alone,end,first,labels").split(",")
    device = choose_device(options.device)
    names = tuple(options.networks.split(",")) if options.networks else options.scale.networks
    with tempfile.TemporaryDirectory() as folder:
        slide = JpegSlide(Path(folder) / "slide.jpegs", options.scale.tiles, options.scale.fields)
        header(slide, device, options.quick)
        peaks = matrix_peak(device, options.scale)
        fastest = "cuda-graph" if device.type == "cuda" else "folded-channels-last"
        for name in names:
            if "alone" in wanted or "end" in wanted:
                best = network_alone(name, slide, device, peaks, options)
                if "end" in wanted:
                    end_to_end(name, slide, device, best, options)
            if "first" in wanted:
                first_answer(name, slide, device, fastest, options)
        if "labels" in wanted:
            chosen = names if options.quick else ("demo", *names)
            labels(chosen, slide, device, options)
        slide.close()
    print("Research use only.")


if __name__ == "__main__":
    main()
