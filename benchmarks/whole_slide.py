"""Memory and time of a whole-slide run with a network that costs nothing.

Everything but the network: tissue mask, reading, window assembly, softmax,
blending, arg max, writing the case with all its levels.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from children import machine, measure
from napari_hspnet.jobs.threads import let_threads_sleep
from phantoms import large_phantom


def child(path: str) -> dict[str, float]:
    import torch
    from torch import nn

    from napari_hspnet.cases import Case
    from napari_hspnet.inference import Settings
    from napari_hspnet.jobs.segment import segment_into_case
    from napari_hspnet.networks import LoadedModel, ModelCard
    from napari_hspnet.slides import LabelGrid, Region, open_slide

    class NullNet(nn.Module):
        """Logits that differ by pixel, channel and place in the batch, computed once."""

        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            self.logits = torch.randn((1, 5, 400, 400), generator=generator)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.logits.expand(x.shape[0], -1, -1, -1)

    model = LoadedModel(NullNet(), ModelCard(name="null"), "0" * 64, None)
    begun = resource.getrusage(resource.RUSAGE_SELF)
    wall = time.perf_counter()
    with open_slide(path) as slide, tempfile.TemporaryDirectory() as folder:
        grid = LabelGrid.of(slide.info, 1.0)
        with Case.open_or_create(Path(folder) / "bench.hspnet", slide.info, grid) as case:
            summary = segment_into_case(
                slide, model, Region.slide(), case, settings=Settings(), device="cpu"
            ).summary
        size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    ended = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "windows": summary.windows,
        "wall": time.perf_counter() - wall,
        "cpu": ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime,
        "peak_gb": ended.ru_maxrss * 1024 / 1e9,
        "before_gb": begun.ru_maxrss * 1024 / 1e9,
        "case_mb": size / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", metavar="PATH")
    options = parser.parse_args()
    if options.child:
        let_threads_sleep()
        print(json.dumps(child(options.child)))
        return
    path = large_phantom()
    found = measure("whole_slide.py", str(path))
    print(f"Whole slide of 100,000 x 60,000 px, null network ({machine()})")
    print("| windows | wall s | CPU s | ms a window | peak memory GB | of it imports | case MB |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {found['windows']:.0f} | {found['wall']:.0f} | {found['cpu']:.0f} "
        f"| {1000 * found['wall'] / found['windows']:.1f} | {found['peak_gb']:.2f} "
        f"| {found['before_gb']:.2f} | {found['case_mb']:.0f} |"
    )


if __name__ == "__main__":
    main()
