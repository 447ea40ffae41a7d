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
from napari_hspnet.inference.predictors.eager import Again, centred, folded_network
from napari_hspnet.inference.predictors.graphs import FromPixels
from napari_hspnet.inference.predictors.precision import dtype_of

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

    Each size of batch is compiled for itself, so smaller ones are filled up. On CUDA
    kernels are chosen by trial and a batch is launched as one graph.
    """

    name = "inductor"
    _halves = True
    patience = 90.0

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._compiled: Callable[[Tensor], Any] | None = None
        self._batch = 0
        self._dtype = dtype_of(subject.precision)
        self._again = Again(subject)

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
        options: dict[str, Any] = {"freezing": True}
        if self.device.type == "cuda":
            options |= {"triton.cudagraphs": True, "max_autotune": True}
        whole = FromPixels(network, self._mean, self._dtype)
        self._compiled = torch.compile(whole, dynamic=False, options=options)
        side = self.subject.window
        assert side is not None
        self._compiled(torch.zeros(1, side, side, 3, dtype=torch.uint8, device=self.device))

    def _work(self, windows: Tensor) -> Tensor:
        assert self._compiled is not None
        count = windows.shape[0]
        pixels = windows.to(self.device, non_blocking=True)
        if count < self._batch:
            rest = pixels.new_zeros((self._batch - count, *pixels.shape[1:]))
            pixels = torch.cat([pixels, rest])
        try:
            logits, finite = self._compiled(pixels)
        except BaseException:
            # Out of memory, perhaps: then the next batches are smaller for good.
            self._batch = 0
            raise
        self._batch = pixels.shape[0]
        # A graph's own tensors are overwritten by the next batch.
        logits, finite = logits[:count].clone(), finite[:count]
        if self._dtype is torch.float32:
            return as_logits(logits)
        return self._again.mended(as_logits(logits), finite, windows)

    def _forget(self) -> None:
        self._compiled = None
        self._again.close()


def _example(subject: Subject) -> Tensor:
    assert subject.window is not None
    return torch.zeros(1, 3, subject.window, subject.window, device=subject.device)


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None
