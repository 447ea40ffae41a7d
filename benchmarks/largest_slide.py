"""MTCHI's largest slide end to end, killed once at half and gone on with.

A phantom of its size (168,960 x 99,072 px, 0.25 µm) and a network that costs nothing,
as in whole_slide.py: tissue mask, reading, window assembly, softmax, blending, arg max,
writing the case with all its levels. The first process kills itself when half of its
windows have been run; a second one goes on. With --compare a third does all of it
unbroken, and every chunk of every map and level is compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from children import machine
from napari_hspnet.jobs.threads import let_threads_sleep
from phantoms import large_phantom

WIDTH, HEIGHT = 168_960, 99_072
MOST_GB = 2.0


@dataclass(frozen=True)
class Part:
    """One process: what it said (None where it was killed), how long, how much memory."""

    said: dict[str, object] | None
    wall: float
    peak_gb: float


def child(path: str, folder: str, kill_at: float) -> dict[str, object]:
    import torch
    from torch import nn

    from napari_hspnet.cases import Case
    from napari_hspnet.inference import Progress, Settings
    from napari_hspnet.jobs.segment import segment_into_case
    from napari_hspnet.networks import LoadedModel, ModelCard
    from napari_hspnet.slides import LabelGrid, Region, open_slide

    class NullNet(nn.Module):
        """Logits that differ by pixel and channel, computed once."""

        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            self.logits = torch.randn((1, 5, 400, 400), generator=generator)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.logits.expand(x.shape[0], -1, -1, -1)

    def progress(report: Progress) -> None:
        if kill_at and report.total and report.done >= kill_at * report.total:
            os.kill(os.getpid(), signal.SIGKILL)

    model = LoadedModel(NullNet(), ModelCard(name="null"), "0" * 64, None)
    heard: list[str] = []
    with open_slide(path) as slide:
        grid = LabelGrid.of(slide.info, 1.0)
        where = Path(folder) / "bench.hspnet"
        with Case.open_or_create(where, slide.info, grid, keep_unfinished=True) as case:
            result = segment_into_case(
                slide,
                model,
                Region.slide(),
                case,
                settings=Settings(),
                device="cpu",
                resume=True,
                progress=progress,
                said=heard.append,
            )
    return {
        "windows": result.summary.windows,
        "heard": heard,
        "run": result.run.id,
    }


def part(path: Path, folder: Path, kill_at: float = 0.0) -> Part:
    """Run a child; its peak memory is known even where it is killed."""
    begun = time.perf_counter()
    line = [sys.executable, __file__, "--child", str(path), str(folder), str(kill_at)]
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(line, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - begun
        out.seek(0)
        lines = out.read().splitlines()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"a part failed with {process.returncode}")
    said = json.loads(lines[-1]) if process.returncode == 0 else None
    return Part(said, wall, usage.ru_maxrss * 1024 / 1e9)


def digest(folder: Path) -> str:
    """SHA-256 over every chunk of the one run of a case: its place and its values."""
    from napari_hspnet.cases import Case
    from napari_hspnet.cases.sampling import level_shape
    from napari_hspnet.cases.store import CHUNK, MAPS, RunStore

    whole = hashlib.sha256()
    with Case.open(folder / "bench.hspnet") as case:
        (run,) = case.runs
        store = RunStore(case.folder / "runs" / run.id, case.grid)
        whole.update(json.dumps(sorted(run.pixels.items())).encode())
        for name in MAPS:
            for level in range(store.levels):
                height, width = level_shape(store.shape, level)
                for row in range(-(-height // CHUNK)):
                    for column in range(-(-width // CHUNK)):
                        chunk = store.read((name, level, row, column))
                        if chunk is not None:
                            whole.update(f"{name} {level} {row} {column} ".encode())
                            whole.update(chunk.tobytes())
    return whole.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=3, metavar=("SLIDE", "FOLDER", "KILL_AT"))
    parser.add_argument("--slide", type=Path, help="this slide instead of the phantom")
    parser.add_argument("--size", default=f"{WIDTH},{HEIGHT}", help="of the phantom, in pixels")
    parser.add_argument("--compare", action="store_true", help="with a run that is not killed")
    parser.add_argument("--folder", type=Path, help="where the cases lie meanwhile")
    options = parser.parse_args()
    if options.child:
        let_threads_sleep()
        slide, folder, kill_at = options.child
        print(json.dumps(child(slide, folder, float(kill_at))))
        return
    width, height = (int(side) for side in options.size.split(","))
    path = options.slide or large_phantom(width, height)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        once, whole = Path(scratch) / "killed", Path(scratch) / "whole"
        parts = [part(path, once, 0.5), part(path, once)]
        if parts[0].said is not None or parts[1].said is None:
            raise SystemExit("the first part was not killed, or the second was")
        if not parts[1].said["heard"]:
            raise SystemExit("the second part began anew")
        unbroken = part(path, whole) if options.compare else None
        same = None if unbroken is None else digest(once) == digest(whole)
    name = "a slide" if options.slide else f"a phantom of {width:,} x {height:,} px"
    print(f"{name}, null network ({machine()})\n")
    print("| process | wall s | peak memory GB |")
    print("|---|---|---|")
    rows = [("killed at half", parts[0]), ("gone on with", parts[1])]
    rows += [] if unbroken is None else [("unbroken", unbroken)]
    for title, found in rows:
        print(f"| {title} | {found.wall:.0f} | {found.peak_gb:.2f} |")
    said = parts[1].said
    print(f"\n{said['windows']:,} windows. {said['heard'][0]}.")
    if same is not None:
        print(f"Every chunk as in the unbroken run: {'yes' if same else 'NO'}.")
    most = max(found.peak_gb for _, found in rows)
    if most >= MOST_GB or same is False:
        raise SystemExit(f"peak memory {most:.2f} GB, below {MOST_GB} is asked; same: {same}")


if __name__ == "__main__":
    main()
