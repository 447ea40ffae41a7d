"""The paper's tables on phantoms at full size, for a machine with a GPU.

    python benchmarks/gpu_tables.py --out tables > tables.md

Needs torch 2.11 or newer with torchvision, and segmentation-models-pytorch for U-Net,
UNet++ and DeepLab v3+ (without it their rows say so); no network. It draws its
phantoms into the folder, seeds for training and testing apart, trains every row from
three seeds and prints the tables as Markdown on stdout, all else on stderr. Stopped
or killed, run it again with the same folder and it goes on. `--quick` is the check of
the pipeline, which works on a CPU and ranks nothing.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from napari_hspnet.jobs.reproduce import Reproduction, reproduce
from napari_hspnet.jobs.reproduce_rows import TABLES
from napari_hspnet.jobs.reproduce_scale import FULL, QUICK, Scale
from napari_hspnet.jobs.reproduce_tables import markdown


def run_tables(
    names: tuple[str, ...],
    scale: Scale,
    out: Path | str,
    *,
    seeds: tuple[int, ...],
    device: str,
    workers: int,
) -> None:
    """Fill tables and print each as Markdown when it is done."""
    for name in names:
        begun = time.monotonic()
        wanted = Reproduction((name,), scale, None, seeds, device, workers)
        (outcome,) = reproduce(wanted, out, say=lambda line: print(line, file=sys.stderr))
        print(markdown(outcome))
        print(f"{time.monotonic() - begun:.0f} s\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help=f"all without: {', '.join(TABLES)}")
    parser.add_argument("--out", default="gpu-tables", help="folder for all that comes out")
    parser.add_argument("--quick", action="store_true", help="check of the pipeline")
    parser.add_argument("--seeds", help="between commas; 0,1,2 without, with --quick 0")
    parser.add_argument("--epochs", type=int, help="instead of 30")
    parser.add_argument("--fields", help="to train and to test on; 160,60 without")
    parser.add_argument("--micro-batch", type=int, default=0, help="patches in memory at once")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=8, help="threads that read")
    given = parser.parse_args()
    unknown = [name for name in given.tables if name not in TABLES]
    if unknown:
        parser.error(f"no table {', '.join(unknown)}; there are {', '.join(TABLES)}")
    scale = replace(QUICK if given.quick else FULL, micro_batch=given.micro_batch)
    if given.epochs is not None:
        scale = replace(scale, epochs=given.epochs)
    if given.fields:
        train, test = map(int, given.fields.split(","))
        scale = replace(scale, phantoms=replace(scale.phantoms, train=train, test=test))
    seeds = given.seeds or ("0" if given.quick else "0,1,2")
    run_tables(
        tuple(given.tables) or tuple(TABLES),
        scale,
        given.out,
        seeds=tuple(map(int, seeds.split(","))),
        device=given.device,
        workers=given.workers,
    )


if __name__ == "__main__":
    main()
