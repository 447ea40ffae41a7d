"""One measurement, one process: started afresh, reporting as a line of JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent


def measure(
    script: str, *arguments: str, timeout: float = 3600, python: str = ""
) -> dict[str, float]:
    """Run a benchmark script as a child and return the JSON of its last line.

    `python` is the interpreter of another environment, for peers that cannot share ours;
    it finds our package in its source folder.
    """
    environment = dict(os.environ)
    if python:
        environment["PYTHONPATH"] = str(HERE.parent / "src")
    done = subprocess.run(
        [python or sys.executable, str(HERE / script), "--child", *arguments],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode != 0:
        raise SystemExit(f"{script} {' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def interleaved(
    script: str,
    kinds: Sequence[Sequence[str]],
    repeats: int,
    pythons: Sequence[str] | None = None,
) -> list[list[dict[str, float]]]:
    """Run each kind once, then each again, so that drift of the machine hits all alike.

    `pythons` holds an interpreter for each kind, empty for our own.
    """
    results: list[list[dict[str, float]]] = [[] for _ in kinds]
    others = pythons or [""] * len(kinds)
    for _ in range(repeats):
        for found, kind, python in zip(results, kinds, others, strict=True):
            found.append(measure(script, *kind, python=python))
    return results


def spread(values: Sequence[float]) -> str:
    """Minimum and median, as the tables show them."""
    return f"{min(values):.2f} / {statistics.median(values):.2f}"


def machine() -> str:
    """The machine in a line: processor, cores, load."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, load {load:.1f}"
    )
