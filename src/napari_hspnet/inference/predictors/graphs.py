"""The folded network on CUDA as one graph: all kernels of a batch in one launch.

Recorded by hand rather than by inductor: cuDNN fuses a convolution with what follows
it (`fusing`), which inductor does for its own kernels alone; nothing is compiled; and
every step that fails has a plainer one behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_hspnet.errors import CancelledError
from napari_hspnet.inference.folding import FoldedHSPNet
from napari_hspnet.inference.predictors.base import Predictor, Subject, is_out_of_memory
from napari_hspnet.inference.predictors.eager import (
    Again,
    finite_windows,
    folded_network,
    lay_out,
    mean_of,
    why_not_folded,
)
from napari_hspnet.inference.predictors.fusing import fuse
from napari_hspnet.inference.predictors.precision import dtype_of

__all__ = ["CudaGraph", "FromPixels"]

_WARM_UPS = 3


class FromPixels(nn.Module):
    """A folded network with what lies before and behind it.

    Parameters
    ----------
    network : FoldedHSPNet
        Of any dtype.
    mean : Tensor (1, 3, 1, 1), float32
        Taken from RGB in 0 to 255.
    dtype : torch.dtype
        Of the network.
    """

    def __init__(self, network: FoldedHSPNet, mean: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.mean: Tensor
        self._dtype = dtype

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (n, h, w, 3) to float32 logits (n, c, h, w), and whether they are finite, (n,)."""
        # A permuted (n, h, w, 3) tensor is channels last already.
        inputs = (pixels.permute(0, 3, 1, 2) - self.mean).to(self._dtype)
        coarse = self.network.coarse(inputs.contiguous(memory_format=torch.channels_last))
        coarse = coarse.float().contiguous()
        size = [int(side) for side in pixels.shape[1:3]]
        logits = F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
        # Interpolation neither makes nor hides what is not finite, and this is smaller.
        return logits, finite_windows(coarse)


class CudaGraph(Predictor):
    """The folded network, convolutions fused by cuDNN, recorded as a CUDA graph.

    A graph has one size of batch, that of the largest batch so far: smaller ones
    leave part of it unused. Pixels are uploaded as uint8 from pinned memory on a
    stream of their own, so that with `begin` they cross while the batch before is
    worked on.
    """

    name = "cuda-graph"
    patience = 20.0
    ahead = True

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._again = Again(subject)
        self._whole: FromPixels | None = None
        self._pixels: Tensor | None = None
        self._replay: Callable[[], tuple[Tensor, Tensor]] | None = None
        self._upload: _Upload | None = None
        self._notes: list[str] = []

    @classmethod
    def available(cls, subject: Subject) -> str | None:
        """For HSP-Net on CUDA."""
        if subject.device.type != "cuda":
            return "for CUDA alone"
        return why_not_folded(subject, halves=True)

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be had, and what was done instead."""
        return tuple(self._notes)

    def _open(self) -> None:
        self._stop_if_cancelled()
        self._whole = self._network(fused=True)
        self._upload = _Upload(self.device)

    def _close(self) -> None:
        self._forget()
        self._whole = self._upload = None
        self._again.close()

    def _run(self, windows: Tensor) -> Tensor:
        return self._begin(windows)()

    def _begin(self, windows: Tensor) -> Callable[[], Tensor]:
        self._stop_if_cancelled()
        count = windows.shape[0]
        if self._pixels is None or count > self._pixels.shape[0]:
            self._prepare(windows.shape)
        assert self._pixels is not None
        assert self._replay is not None
        assert self._upload is not None
        self._upload(windows, self._pixels[:count])
        logits, finite = self._replay()
        # The graph's own tensors are overwritten by the next batch.
        logits, finite = logits[:count].clone(), finite[:count]
        if self.precision == "float32":
            return lambda: logits
        told = _Told(finite)
        return lambda: self._again.mended(logits, told.wait(), windows)

    def _prepare(self, shape: torch.Size) -> None:
        """Get ready for batches of this shape: recorded, or as near to that as can be."""
        self._forget()
        pixels = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        assert self._whole is not None
        try:
            self._whole(pixels)
        except Exception as error:
            self._give_way("without fused convolutions", error)
            self._whole = self._network(fused=False)
            self._whole(pixels)
        whole = self._whole
        self._replay = lambda: whole(pixels)
        try:
            self._replay = self._record(self._replay)
        except Exception as error:
            self._give_way("without a graph", error)
        self._pixels = pixels

    def _give_way(self, how: str, error: Exception) -> None:
        """Note what could not be had; raises what no other way would mend."""
        if isinstance(error, CancelledError) or is_out_of_memory(error):
            raise error
        said = (str(error).strip().splitlines() or [""])[0][:200]
        note = f"{self.name} ran {how} ({type(error).__name__}: {said})"
        if note not in self._notes:
            self._notes.append(note)

    def _record(
        self, work: Callable[[], tuple[Tensor, Tensor]]
    ) -> Callable[[], tuple[Tensor, Tensor]]:
        """A function that does `work` again in one launch, its results in the same tensors."""
        cuda: Any = torch.cuda
        current = cuda.current_stream(self.device)
        side = cuda.Stream(self.device)
        side.wait_stream(current)
        cudnn = torch.backends.cudnn
        before = cudnn.benchmark
        try:
            # Kernels are chosen now, by trial, and then belong to the graph.
            cudnn.benchmark = True
            with cuda.stream(side):
                for _ in range(_WARM_UPS):
                    self._stop_if_cancelled()
                    work()
            current.wait_stream(side)
            graph = cuda.CUDAGraph()
            # Readers and the feed may use CUDA meanwhile, in their own threads.
            with (
                cuda.device(self.device),
                cuda.graph(graph, capture_error_mode="thread_local"),
            ):
                results = work()
        finally:
            cudnn.benchmark = before

        def replay() -> tuple[Tensor, Tensor]:
            graph.replay()
            return results

        return replay

    def _network(self, fused: bool) -> FromPixels:
        with torch.inference_mode(False), torch.no_grad():
            network = folded_network(self.subject)
            lay_out(network, torch.channels_last)
            if fused:
                fuse(network)
            return FromPixels(
                network, mean_of(self.subject).view(1, 3, 1, 1), dtype_of(self.precision)
            )

    def _forget(self) -> None:
        self._replay = self._pixels = None

    def _stop_if_cancelled(self) -> None:
        if self.subject.cancel.is_set():
            raise CancelledError


@dataclass
class _Slot:
    """Room for one batch on its way to the device."""

    host: Tensor
    there: Tensor
    arrived: Any
    taken: Any


@dataclass
class _Upload:
    """Pixels to the device, from pinned memory and beside what it is working on."""

    device: torch.device
    _stream: Any = None
    _slots: list[_Slot] = field(default_factory=list)
    _turn: int = 0

    def __call__(self, windows: Tensor, target: Tensor) -> None:
        """Have `target`, on the device, hold what `windows`, uint8 on the host, holds."""
        if self.device.type != "cuda":
            target.copy_(windows)
            return
        cuda: Any = torch.cuda
        if not self._slots or self._slots[0].host.shape[0] < windows.shape[0]:
            self._stream = cuda.Stream(self.device)
            self._slots = [self._slot(windows.shape) for _ in range(2)]
        slot = self._slots[self._turn]
        self._turn = 1 - self._turn
        count = windows.shape[0]
        if windows.is_pinned():
            source = windows
        else:
            # What left from here two batches ago must have arrived.
            slot.arrived.synchronize()
            source = slot.host[:count]
            source.copy_(windows)
        current = cuda.current_stream(self.device)
        with cuda.stream(self._stream):
            self._stream.wait_event(slot.taken)
            slot.there[:count].copy_(source, non_blocking=True)
            slot.arrived.record(self._stream)
        current.wait_event(slot.arrived)
        target.copy_(slot.there[:count])
        slot.taken.record(current)

    def _slot(self, shape: torch.Size) -> _Slot:
        cuda: Any = torch.cuda
        host = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
        there = torch.empty(shape, dtype=torch.uint8, device=self.device)
        # Made on the current stream, which may have its memory from older work.
        self._stream.wait_stream(cuda.current_stream(self.device))
        return _Slot(host, there, cuda.Event(), cuda.Event())


class _Told:
    """A small tensor on its way to the host, waited for when it is looked at."""

    def __init__(self, values: Tensor) -> None:
        self._event: Any = None
        if values.is_cuda:
            self._host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._host.copy_(values, non_blocking=True)
            cuda: Any = torch.cuda
            self._event = cuda.Event()
            self._event.record(cuda.current_stream(values.device))
        else:
            self._host = values.clone()

    def wait(self) -> Tensor:
        """The values, on the host."""
        if self._event is not None:
            self._event.synchronize()
        return self._host
