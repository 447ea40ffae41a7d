"""The one place that imports torchvision.

Its wheel is built for CUDA. Beside a CPU build of torch a plain import fails
because torch, having no kernels for them, never learned of the operators that
torchvision's Python code refers to. Anyone whose two builds do not match meets
this. Models and their weights need none of these operators.
"""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

from napari_hspnet.errors import DependencyError

__all__ = ["torchvision_module", "torchvision_resnet"]

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# The definitions live as long as the object that made them.
_kept_library: list[Any] = []
_lock = threading.Lock()


def _is_operator_error(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "torchvision::nms does not exist" in str(error)


def torchvision_resnet() -> ModuleType:
    """The module ``torchvision.models.resnet``.

    Returns
    -------
    module
        With `resnet18` … `resnet101`, their weights enums and `BasicBlock`.

    Raises
    ------
    DependencyError
        If torchvision is not installed or does not fit the installed torch.
    """
    return torchvision_module("torchvision.models.resnet")


def torchvision_module(name: str) -> ModuleType:
    """A module of torchvision.

    Parameters
    ----------
    name : str
        Such as ``"torchvision.models.vgg"``.

    Raises
    ------
    DependencyError
        If torchvision is not installed or does not fit the installed torch.
    """
    with _lock:
        try:
            return importlib.import_module(name)
        except RuntimeError as error:
            if not _is_operator_error(error):
                raise
        except ImportError as error:
            raise DependencyError(
                f"torchvision cannot be imported ({error})",
                advice="Install the torchvision release that matches the installed torch",
            ) from error

        for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[module]
        import torch

        if not _kept_library:
            make: Any = torch.library.Library  # untyped in torch
            library = make("torchvision", "DEF")
            for schema in _SCHEMAS:
                library.define(schema)
            _kept_library.append(library)
        try:
            return importlib.import_module(name)
        except (ImportError, RuntimeError) as error:
            raise DependencyError(
                f"torchvision does not fit the installed torch ({error})",
                advice="Install the torchvision release that matches the installed torch",
            ) from error
