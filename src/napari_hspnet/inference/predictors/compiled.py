"""Compilers that PyTorch brings: TorchScript and inductor."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from napari_hspnet.inference.predictors.apart import Apart
from napari_hspnet.inference.predictors.base import Subject, as_logits
from napari_hspnet.inference.predictors.eager import centred, folded_network

__all__ = ["Inductor", "TorchScript"]


class TorchScript(Apart):
    """The folded network traced and frozen."""

    name = "torchscript"
    patience = 20.0

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._script: Callable[[Tensor], Any] | None = None

    @classmethod
    def _lacks(cls, subject: Subject) -> str | None:
        if not hasattr(torch.jit, "trace"):
            return "this PyTorch has no TorchScript"
        return None

    def _prepare(self) -> None:
        example = _example(self.subject)
        jit: Any = torch.jit  # untyped in torch
        traced = jit.trace(folded_network(self.subject), example, check_trace=False)
        self._script = jit.freeze(traced.eval())
        # It specialises itself during its first two passes.
        for _ in range(2):
            self._script(example)

    def _work(self, windows: Tensor) -> Tensor:
        assert self._script is not None
        return as_logits(self._script(centred(windows, self._mean).contiguous()))

    def _forget(self) -> None:
        self._script = None


class Inductor(Apart):
    """The folded network through torch.compile, weights frozen in.

    Each size of batch is compiled for itself, so smaller ones are filled up.
    """

    name = "inductor"
    patience = 90.0

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._compiled: Callable[[Tensor], Any] | None = None
        self._batch = 0

    @classmethod
    def _lacks(cls, subject: Subject) -> str | None:
        if subject.device.type == "cpu":
            compiler = os.environ.get("CXX") or ("cl" if sys.platform == "win32" else "c++")
            if shutil.which(compiler) is None:
                return f"there is no C++ compiler ({compiler})"
        elif subject.device.type != "cuda":
            return f"not for {subject.device.type}"
        elif not _has_triton():
            return "Triton is not installed"
        return None

    def _prepare(self) -> None:
        network = folded_network(self.subject)
        self._compiled = torch.compile(network, dynamic=False, options={"freezing": True})
        self._compiled(_example(self.subject))

    def _work(self, windows: Tensor) -> Tensor:
        assert self._compiled is not None
        inputs = centred(windows, self._mean).contiguous()
        count = inputs.shape[0]
        if count < self._batch:
            rest = inputs.new_zeros((self._batch - count, *inputs.shape[1:]))
            inputs = torch.cat([inputs, rest])
        try:
            logits = as_logits(self._compiled(inputs))
        except BaseException:
            # Out of memory, perhaps: then the next batches are smaller for good.
            self._batch = 0
            raise
        self._batch = inputs.shape[0]
        return logits[:count]

    def _forget(self) -> None:
        self._compiled = None


def _example(subject: Subject) -> Tensor:
    assert subject.window is not None
    return torch.zeros(1, 3, subject.window, subject.window, device=subject.device)


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None
