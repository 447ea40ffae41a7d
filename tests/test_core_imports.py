"""The core imports with torch and numpy alone: the GPU machine has nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCK = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}")

sys.meta_path.insert(0, Absent())
import {module}
"""

ABSENT = {
    "PIL",
    "dask",
    "imagecodecs",
    "magicgui",
    "napari",
    "numcodecs",
    "openslide",
    "platformdirs",
    "psutil",
    "qtpy",
    "rasterio",
    "rich",
    "safetensors",
    "scipy",
    "shapely",
    "superqt",
    "tifffile",
    "torchvision",
    "typer",
    "zarr",
}


@pytest.mark.parametrize(
    "module",
    [
        "napari_hspnet.slides",
        "napari_hspnet.networks",
        "napari_hspnet.inference",
        "napari_hspnet.training",
        "napari_hspnet.training.data",
        "napari_hspnet.phantom",
        "napari_hspnet.cases",
        "napari_hspnet.exchange",
        "napari_hspnet.jobs.segment",
    ],
)
def test_the_core_needs_torch_and_numpy_alone(module):
    code = BLOCK.format(absent=ABSENT, module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
