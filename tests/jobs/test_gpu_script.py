"""The script for a GPU machine, where little but torch is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ABSENT = (
    "dask",
    "imagecodecs",
    "napari",
    "numcodecs",
    "openslide",
    "platformdirs",
    "qtpy",
    "rasterio",
    "segmentation_models_pytorch",
    "shapely",
    "tifffile",
    "zarr",
)
CODE = """
import runpy, socket, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}")

def refuse(*_):
    raise OSError("there is no network")

sys.meta_path.insert(0, Absent())
socket.socket.connect = refuse
sys.argv = [{script!r}, *{arguments!r}]
if __name__ == "__main__":
    runpy.run_path({script!r}, run_name="__main__")
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = CODE.format(
        absent=ABSENT, script=str(ROOT / "benchmarks/gpu_tables.py"), arguments=arguments
    )
    # As on that machine: the package is not installed, its source is there.
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=240
    )


def test_it_prints_a_table_with_torch_alone_and_no_network(tmp_path) -> None:
    options = ["--quick", "--fields", "3,2", "--device", "cpu", "--workers", "1"]
    done = run("table3", *options, "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("## Table 3: without some of the DS-Blocks")
    assert "These figures rank nothing" in done.stdout
    assert done.stdout.count("(tiny stand-in)") == 4
    assert "table3, row 4 of 4" in done.stderr
    assert len(list((tmp_path / "out/data/Task2/Test/Img").iterdir())) == 2


@pytest.mark.parametrize(("arguments", "said"), [(("table6",), "no table table6")])
def test_a_wrong_name_is_refused(arguments, said) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
