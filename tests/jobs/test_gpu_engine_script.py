"""The engine's script for a GPU machine, where little but torch is installed."""

from __future__ import annotations

import os
import subprocess
import sys

from test_gpu_script import ABSENT, CODE, ROOT


def run(*arguments: str, absent: tuple[str, ...] = ABSENT) -> subprocess.CompletedProcess[str]:
    script = ROOT / "benchmarks/gpu_engine.py"
    code = CODE.format(absent=absent, script=str(script), arguments=arguments)
    # Python puts a script's folder on its path, which running it from here does not.
    path = os.pathsep.join([str(ROOT / "src"), str(script.parent)])
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=500
    )


def test_it_prints_all_its_tables_with_torch_alone_and_no_network() -> None:
    done = run("--quick", "--device", "cpu", "--readers", "1")
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert "A check of the script: these figures mean nothing." in out
    for title in (
        "Matrix products",
        "Network alone, tiny",
        "End to end, tiny",
        "First answer, tiny",
        "Labels that are those of the plain network in float32",
    ):
        assert out.count(f"## {title}\n") == 1
    assert "phantom tissue" in out
    assert "failed" not in out, done.stderr
    assert "| cuda-graph | float16 | 1 | for CUDA alone |" in out
    begins = "| tiny, untrained | folded-channels-last | float32 |"
    (row,) = (line for line in out.splitlines() if line.startswith(begins))
    assert all(float(cell.strip(" %")) >= 99.9 for cell in row.split("|")[4:6])
    # Every table's rows have as many cells as its head.
    widths: dict[str, int] = {}
    title = ""
    for line in out.splitlines():
        if line.startswith("## "):
            title = line
        elif line.startswith("|"):
            assert widths.setdefault(title, line.count("|")) == line.count("|"), line
    assert len(widths) == 5
    assert out.rstrip().endswith("Research use only.")


def test_without_scipy_it_draws_texture_and_runs_what_is_asked_for() -> None:
    options = ["--quick", "--device", "cpu", "--readers", "1", "--only", "first"]
    done = run(*options, absent=(*ABSENT, "scipy"))
    assert done.returncode == 0, done.stderr
    assert "texture (SciPy is not installed)" in done.stdout
    assert "## First answer, tiny" in done.stdout
    assert "## End to end" not in done.stdout
    assert "failed" not in done.stdout
