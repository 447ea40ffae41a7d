"""How much CPU time the engine adds to the network's own.

The same windows of the same slide, one process a run, interleaved: the whole
job (reading, tissue mask, windows, network, blending, writing a case) against
the network alone on windows that lie ready in memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

from children import interleaved, machine, spread
from napari_hspnet.jobs.threads import let_threads_sleep


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


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


def child(kind: str, name: str) -> dict[str, float]:
    import numpy as np
    import torch

    from napari_hspnet.cases import Case
    from napari_hspnet.inference import Settings, prepare
    from napari_hspnet.jobs.samples import sample_slide_path
    from napari_hspnet.jobs.segment import segment_into_case
    from napari_hspnet.slides import LabelGrid, Region, open_slide

    model = _model(name)
    settings = Settings(window=model.card.window)
    with open_slide(sample_slide_path()) as slide, tempfile.TemporaryDirectory() as folder:
        grid = LabelGrid.of(slide.info, model.card.mpp)
        plan = prepare(slide, model.card.mpp, Region.slide(), settings)
        windows = [
            (int(plan.ys[row]), int(plan.bands[0].xs[column]))
            for row, column in np.argwhere(plan.bands[0].active)
        ]
        model.network.to(memory_format=torch.channels_last)
        with torch.inference_mode():  # the first pass allocates and chooses kernels
            warm = torch.zeros(1, 3, 400, 400).to(memory_format=torch.channels_last)
            model.network(warm)
            ready = []
            if kind == "network":
                mean = torch.tensor(model.card.mean).view(1, 3, 1, 1)
                std = torch.tensor(model.card.std).view(1, 3, 1, 1)
                for y, x in windows:
                    rgb = torch.from_numpy(slide.read_grid(y, x, 400, 400, model.card.mpp))
                    batch = rgb.permute(2, 0, 1)[None].float() / 255
                    ready.append(((batch - mean) / std).to(memory_format=torch.channels_last))
        with (
            open_slide(sample_slide_path()) as fresh,
            Case.open_or_create(Path(folder) / "bench.hspnet", slide.info, grid) as case,
        ):
            cpu, wall = _cpu(), time.perf_counter()
            if kind == "network":
                with torch.inference_mode():
                    for batch in ready:
                        model.network(batch)
            else:
                segment_into_case(
                    fresh, model, Region.slide(), case, settings=settings, device="cpu"
                )
            cpu, wall = _cpu() - cpu, time.perf_counter() - wall
    return {"cpu": cpu, "wall": wall, "windows": len(windows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "MODEL"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", default="demo,resnet34")
    options = parser.parse_args()
    if options.child:
        let_threads_sleep()
        print(json.dumps(child(*options.child)))
        return
    print(f"Engine against network alone ({machine()}); seconds, minimum / median")
    print(
        "| model | windows | engine CPU | network CPU | ratio (median of pairs) "
        "| engine wall | network wall |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in options.models.split(","):
        engine, network = interleaved(
            "engine_cpu.py", [("engine", name), ("network", name)], options.repeats
        )
        ratio = statistics.median(e["cpu"] / n["cpu"] for e, n in zip(engine, network, strict=True))
        print(
            f"| {name} | {engine[0]['windows']:.0f} | {spread([r['cpu'] for r in engine])} "
            f"| {spread([r['cpu'] for r in network])} | {ratio:.3f} "
            f"| {spread([r['wall'] for r in engine])} | {spread([r['wall'] for r in network])} |"
        )


if __name__ == "__main__":
    main()
