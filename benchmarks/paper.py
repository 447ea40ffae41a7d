"""Every table of the paper on phantoms, as a check of the pipeline: `make bench BENCH=paper`.

Tiny networks and a few steps, some minutes on two cores; no ranking is claimed. What
the tables are for takes a GPU: see gpu_tables.py.
"""

from __future__ import annotations

import tempfile
import time

from children import machine
from napari_hspnet.jobs.threads import let_threads_sleep


def main() -> None:
    # Before torch is loaded.
    let_threads_sleep()
    from gpu_tables import run_tables
    from napari_hspnet.jobs.reproduce_rows import TABLES
    from napari_hspnet.jobs.reproduce_scale import QUICK

    print(f"{machine()}\n")
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        run_tables(tuple(TABLES), QUICK, folder, seeds=(0,), device="cpu", workers=2)
    print(f"\n{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
