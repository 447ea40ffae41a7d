"""What each back end costs for the network alone, windows ready in memory.

One back end, one process, one after the other and then all again, so that drift
of the machine hits all alike; ratios are taken to the plain network of the same
round. Getting ready is timed apart, and labels are compared with the plain
network's. The windows are of the sample slide.

Short unless told otherwise: the demo model, without inductor, which compiles for a
minute or more in each process. All: `--models demo,resnet34 --backends all --repeats 5
--windows 12`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import threading
import time

from children import interleaved, machine, spread
from napari_hspnet.jobs.threads import let_threads_sleep


def _model(name: str):
    import torch

    from napari_hspnet.networks import (
        Architecture,
        LoadedModel,
        ModelCard,
        build,
        demo_model_path,
        load_checkpoint,
    )

    if name == "demo":
        return load_checkpoint(demo_model_path())
    torch.manual_seed(0)
    architecture = Architecture(encoder=name)
    card = ModelCard(name=f"{name}, untrained", architecture=architecture)
    return LoadedModel(build(architecture).eval(), card, "0" * 64, None)


def _windows(model, count: int):
    """Pixels of the sample slide, uint8 (count, window, window, 3), where there is tissue."""
    import numpy as np
    import torch

    from napari_hspnet.inference import Settings, prepare
    from napari_hspnet.jobs.samples import sample_slide_path
    from napari_hspnet.slides import Region, open_slide

    side, mpp = model.card.window, model.card.mpp
    with open_slide(sample_slide_path()) as slide:
        plan = prepare(slide, mpp, Region.slide(), Settings(window=side))
        places = np.argwhere(plan.bands[0].active)
        chosen = places[np.linspace(0, len(places) - 1, count).astype(int)]
        return torch.stack(
            [
                torch.from_numpy(
                    slide.read_grid(
                        int(plan.ys[row]), int(plan.bands[0].xs[column]), side, side, mpp
                    )
                )
                for row, column in chosen
            ]
        )


def child(backend: str, name: str, count: int, batch: int) -> dict[str, float | str]:
    import torch

    from napari_hspnet.inference import choose_device
    from napari_hspnet.inference.predictors import BACKENDS, Eager, Subject

    model = _model(name)
    windows = _windows(model, count)
    device = choose_device("auto")
    subject = Subject(
        model.network,
        model.card.mean,
        model.card.std,
        model.card.window,
        device,
        "float32",
        threading.Event(),
    )
    kind = next(kind for kind in BACKENDS if kind.name == backend)
    reason = kind.available(subject)
    if reason is not None:
        return {"absent": reason}
    parts = windows.split(batch)
    begun = time.perf_counter()
    with torch.inference_mode(), kind(subject) as predictor:
        predictor(parts[0]).sum().item()
        ready = time.perf_counter() - begun
        cpu, wall = time.process_time(), time.perf_counter()
        labels = []
        for part in parts:
            labels.append(predictor(part).argmax(1).to(torch.uint8).cpu())
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    with torch.inference_mode(), Eager(subject) as eager:
        plain = [eager(part).argmax(1).to(torch.uint8).cpu() for part in parts[:2]]
    differ = torch.cat([one != other for one, other in zip(plain, labels, strict=False)])
    return {
        "ready": ready,
        "wall": wall / count * 1000,
        "cpu": cpu / count * 1000,
        "differ": differ.double().mean().item(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan"),
    }


def _table(name: str, backends: list[str], options: argparse.Namespace) -> None:
    kinds = [(backend, name, str(options.windows), str(options.batch)) for backend in backends]
    results = interleaved("predictors.py", kinds, options.repeats)
    print(f"\n{name}, {options.windows} windows, {options.batch} at a time\n")
    print(
        "| back end | wall, ms a window | CPU, ms a window | eager / this, wall (median) "
        "| getting ready, s | labels that differ | load |"
    )
    print("|---|---|---|---|---|---|---|")
    for backend, found in zip(backends, results, strict=True):
        if "absent" in found[0]:
            print(f"| {backend} | {found[0]['absent']} | | | | | |")
            continue
        rounds = zip(results[backends.index("eager")], found, strict=True)
        ratio = statistics.median(plain["wall"] / this["wall"] for plain, this in rounds)
        print(
            f"| {backend} | {spread([r['wall'] for r in found])} "
            f"| {spread([r['cpu'] for r in found])} | {ratio:.2f} "
            f"| {spread([r['ready'] for r in found])} | {max(r['differ'] for r in found):.2g} "
            f"| {min(r['load'] for r in found):.1f} to {max(r['load'] for r in found):.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=4, metavar=("BACKEND", "MODEL", "WINDOWS", "BATCH"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--models", default="demo")
    parser.add_argument("--backends", help="comma between, or all; all but inductor without")
    options = parser.parse_args()
    let_threads_sleep()
    if options.child:
        backend, name, count, batch = options.child
        print(json.dumps(child(backend, name, int(count), int(batch))))
        return
    from napari_hspnet.inference.predictors import BACKENDS

    wanted = [kind.name for kind in BACKENDS]
    if options.backends is None:
        wanted.remove("inductor")
    elif options.backends != "all":
        wanted = options.backends.split(",")
    backends = list(dict.fromkeys(["eager", *wanted]))
    print(f"The network alone, one process a run ({machine()}); minimum / median")
    for name in options.models.split(","):
        _table(name, backends, options)


if __name__ == "__main__":
    main()
