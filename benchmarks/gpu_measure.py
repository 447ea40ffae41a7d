"""What `gpu_engine.py` measures with: networks, their speed, their labels, the device."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from gpu_slide import JpegSlide
from napari_hspnet.inference import Settings, make_plan
from napari_hspnet.inference.engine import run_plan
from napari_hspnet.inference.predictors import BACKENDS, Predictor, Subject
from napari_hspnet.inference.tissue import tissue_pixels
from napari_hspnet.networks import (
    Architecture,
    LoadedModel,
    ModelCard,
    build,
    demo_model_path,
    load_checkpoint,
)
from napari_hspnet.slides import LabelGrid, Region

TINY = Architecture(
    encoder="small", ds_widths=(4, 6, 8, 10, 12), head_widths=(9, 7), encoder_widths=(8, 12, 16, 20)
)


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    networks: tuple[str, ...]
    window: int
    batches: tuple[int, ...]
    matrices: tuple[int, ...]
    seconds: float
    tiles: int
    fields: int
    view: int
    overlap: int


FULL = Scale(
    ("resnet101", "resnet34"), 400, (16, 32, 64), (2048, 4096, 8192, 16384), 3.0, 64, 8, 1500, 4
)

QUICK = Scale(("tiny",), 96, (1, 2), (128, 256), 0.02, 2, 1, 150, 2)


class NullSink:
    """Takes labels and keeps nothing but when the first came."""

    def __init__(self) -> None:
        self.first: float | None = None

    def write(self, block: object) -> None:
        if self.first is None:
            self.first = time.perf_counter()


class WholeSink:
    """Keeps the classes."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.classes = np.full(shape, 255, dtype=np.uint8)

    def write(self, block) -> None:
        height, width = block.classes.shape
        self.classes[block.y : block.y + height, block.x : block.x + width] = block.classes


def model_of(name: str, scale: Scale, slide: JpegSlide, device: torch.device) -> LoadedModel:
    """The demo model, or an untrained one whose values are of the size of a trained one's."""
    if name == "demo":
        return load_checkpoint(demo_model_path())
    torch.manual_seed(0)
    architecture = TINY if name == "tiny" else Architecture(encoder=name)
    card = ModelCard(f"{name}, untrained", architecture, window=scale.window)
    network = build(architecture).to(device).train()
    norms = [part for part in network.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    # Without statistics a deep network's values grow beyond 16 bits.
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        rgb = windows_of(slide, scale.window, 8).to(device).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(x, device=device).view(1, 3, 1, 1) for x in (card.mean, card.std))
        network((rgb - mean) / std)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return LoadedModel(network.eval(), card, "0" * 64, None)


def settings(model: LoadedModel, scale: Scale, precision: str) -> Settings:
    window = model.card.window
    return Settings(
        window=window, stride=window // scale.overlap, tissue_mask=False, precision=precision
    )


def gigaflops(network: torch.nn.Module, side: int) -> float:
    """Of one window, two for a multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network.cpu()(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 1e9


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeated(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """How often a second, after a warm-up."""
    for _ in range(3):
        work()
    wait_for(device)
    begun, count, step = time.perf_counter(), 0, 1
    while True:
        for _ in range(step):
            work()
        wait_for(device)
        count += step
        if (spent := time.perf_counter() - begun) > seconds:
            return count / spent
        # So many that waiting for the device does not count.
        step = max(step, int(count / max(spent, 1e-6) * seconds / 4))


def subject_of(model: LoadedModel, device: torch.device, precision: str) -> Subject:
    card = model.card
    return Subject(
        model.network, card.mean, card.std, card.window, device, precision, threading.Event()
    )


def windows_of(slide: JpegSlide, side: int, count: int) -> torch.Tensor:
    """Pixels from different places of the slide, uint8 (count, side, side, 3)."""
    rng = np.random.default_rng(0)
    most = slide.info.shape[0] // 2 - side
    return torch.stack(
        [
            torch.from_numpy(slide.read_grid(int(y), int(x), side, side, 1.0).copy())
            for y, x in rng.integers(0, most + 1, (count, 2))
        ]
    )


def speed(predictor: Predictor, windows: torch.Tensor, seconds: float) -> float:
    """Windows a second, uploaded as uint8, two batches under way."""
    for _ in range(3):
        predictor(windows)
    wait_for(predictor.device)
    begun, count, before = time.perf_counter(), 0, None
    while time.perf_counter() - begun < seconds or count == 0:
        now = predictor.begin(windows)
        if before is not None:
            before()
        before, count = now, count + len(windows)
    if before is not None:
        before()
    wait_for(predictor.device)
    return count / (time.perf_counter() - begun)


def agreement(exact: Sequence[torch.Tensor], kind: type[Predictor], what: Subject, parts) -> float:
    """Share of tissue whose labels are float32's."""
    same = total = 0
    with torch.inference_mode(), kind(what) as predictor:
        for labels, part in zip(exact, parts, strict=True):
            tissue = torch.stack([torch.from_numpy(tissue_of(window)) for window in part])
            found = predictor(part).argmax(1).cpu()
            same += int(((found == labels) & tissue).sum())
            total += int(tissue.sum())
    return same / max(total, 1)


def tissue_of(window: torch.Tensor) -> np.ndarray:
    """Which pixels of a window are of tissue, told at 8 µm per pixel as the engine does."""
    side = window.shape[0] // 8
    coarse = window[: side * 8, : side * 8].view(side, 8, side, 8, 3).float().mean((1, 3))
    found = tissue_pixels(coarse.round().to(torch.uint8).numpy())
    whole = np.zeros(window.shape[:2], dtype=bool)
    whole[: side * 8, : side * 8] = found.repeat(8, 0).repeat(8, 1)
    return whole


def kinds_for(device: torch.device, inductor: bool) -> list[type[Predictor]]:
    names = ["eager", "folded", "folded-channels-last", "cuda-graph"]
    if inductor:
        names.append("inductor")
    if device.type == "cuda":
        names.remove("folded")
    return [kind for kind in BACKENDS if kind.name in names]


def fresh_memory(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def memory(device: torch.device) -> float:
    """Peak since `fresh_memory`, in GB."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0


@contextmanager
def utilisation() -> Iterator[list[int]]:
    """Per cent, as nvidia-smi sees it twice a second; empty where there is none."""
    seen: list[int] = []
    stop = threading.Event()
    query = [
        "nvidia-smi",
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
        "-i",
        "0",
    ]

    def watch() -> None:
        while not stop.wait(0.5):
            try:
                done = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
                seen.append(int(done.stdout.split()[0]))
            except (OSError, subprocess.SubprocessError, ValueError, IndexError):
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def view_classes(
    model: LoadedModel,
    slide: JpegSlide,
    device: torch.device,
    backend: str,
    precision: str,
    options,
) -> np.ndarray:
    scale: Scale = options.scale
    how = settings(model, scale, precision)
    grid = LabelGrid.of(slide.info, 1.0)
    side = float(min(scale.view, grid.shape[0]))
    plan = make_plan(grid, Region.rectangle(0.0, 0.0, side, side), how)
    sink = WholeSink(grid.shape)
    run_plan(slide, model, plan, sink, device=str(device), batch=scale.batches[0], backend=backend)
    return sink.classes[: int(side), : int(side)]
