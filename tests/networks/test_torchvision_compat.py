"""The shim acts upon one error only, in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from napari_hspnet.errors import DependencyError
from napari_hspnet.networks import torchvision_compat


def test_models_are_there_and_torchvision_imports_only_when_asked() -> None:
    script = (
        "import sys, napari_hspnet.networks as n\n"
        "assert not {'torchvision', 'segmentation_models_pytorch'} & set(sys.modules)\n"
        "from napari_hspnet.networks.torchvision_compat import torchvision_resnet as t\n"
        "assert t() is t()\n"
        "assert t().resnet18(weights=None).fc.out_features == 1000\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_other_failures_are_not_touched(monkeypatch) -> None:
    def fail(name: str) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(torchvision_compat.importlib, "import_module", fail)
    before = {m for m in sys.modules if m.startswith("torchvision")}
    with pytest.raises(RuntimeError, match="something else"):
        torchvision_compat.torchvision_resnet()
    assert {m for m in sys.modules if m.startswith("torchvision")} == before


def test_an_absent_torchvision_is_a_clear_error(monkeypatch) -> None:
    def fail(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torchvision'")

    monkeypatch.setattr(torchvision_compat.importlib, "import_module", fail)
    with pytest.raises(DependencyError, match="torchvision"):
        torchvision_compat.torchvision_resnet()
