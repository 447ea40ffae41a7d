"""Ways to segment one array with overlapping windows: ours, MONAI's, a plain loop.

All take the same pixels, network, window and stride, average softmax values with the
same Gaussian weights and give labels, so that they can be compared one to one.
"""

from __future__ import annotations

import itertools
import os
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_hspnet.inference import Settings, Summary, make_plan, run_plan
from napari_hspnet.inference.blend import gaussian_weights
from napari_hspnet.inference.plan import BAND_WIDTH
from napari_hspnet.networks import LoadedModel
from napari_hspnet.slides import LabelBlock, LabelGrid, Level, Region, SlideInfo

STRIDE = 100

Predict = Callable[[torch.Tensor], torch.Tensor]


class NullNet(nn.Module):
    """Costs nothing; its logits differ by pixel, channel and number of the window.

    They are drawn once for eight windows and handed out in turn, as views, so that no
    window's softmax can be had from another's.
    """

    def __init__(self, window: int, batch: int) -> None:
        super().__init__()
        drawn = torch.randn((8, 5, window, window), generator=torch.Generator().manual_seed(0))
        self._logits = torch.cat([drawn] * (1 + -(-batch // 8)))
        self._given = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self._given % 8
        self._given += x.shape[0]
        return self._logits[first : first + x.shape[0]]


@dataclass(frozen=True)
class ArraySlide:
    """An array as a slide of the label grid's own resolution, repeated if it is too small.

    Attributes
    ----------
    pixels : ndarray of uint8, (h, w, 3)
        RGB.
    shape : tuple of int
        Height and width of the slide.
    mpp : float
        µm per pixel.
    """

    pixels: np.ndarray
    shape: tuple[int, int]
    mpp: float

    @property
    def info(self) -> SlideInfo:
        return SlideInfo(
            path=Path("array.tiff"),
            backend="array",
            vendor="array",
            levels=(Level(self.shape, (1.0, 1.0), (512, 512)),),
            mpp=(self.mpp, self.mpp),
            mpp_source="file",
            mpp_problem=None,
            objective=None,
            bounds=None,
            fingerprint="0" * 64,
        )

    def read_grid(self, y: int, x: int, height: int, width: int, mpp: float) -> np.ndarray:
        assert mpp == self.mpp
        out = np.full((height, width, 3), 255, dtype=np.uint8)
        rows = np.arange(y, min(y + height, self.shape[0])) % self.pixels.shape[0]
        columns = np.arange(x, min(x + width, self.shape[1])) % self.pixels.shape[1]
        if (np.diff(rows) == 1).all() and (np.diff(columns) == 1).all():
            found = self.pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        else:
            found = self.pixels[np.ix_(rows, columns)]
        out[: rows.size, : columns.size] = found
        return out


class Kept:
    """A sink that keeps labels in memory."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.classes = np.zeros(shape, dtype=np.uint8)

    def write(self, block: LabelBlock) -> None:
        height, width = block.classes.shape
        self.classes[block.y : block.y + height, block.x : block.x + width] = block.classes


class Dropped:
    """A sink that keeps nothing, to see what the engine itself holds."""

    def write(self, block: LabelBlock) -> None:
        pass


def ours(pixels: np.ndarray, model: LoadedModel) -> np.ndarray:
    """The engine, tissue mask off, every row of labels, score and p(CIN2+) finished."""
    sink = Kept(pixels.shape[:2])
    run_ours(ArraySlide(pixels, pixels.shape[:2], model.card.mpp), model, sink)
    return sink.classes


def run_ours(
    slide: ArraySlide,
    model: LoadedModel,
    sink: Kept | Dropped,
    band_width: int = BAND_WIDTH,
    **options: Any,
) -> Summary:
    """The engine over a whole slide; `options` as in `run_plan`."""
    settings = Settings(window=model.card.window, stride=STRIDE, tissue_mask=False)
    grid = LabelGrid(slide.shape, slide.mpp)
    plan = make_plan(grid, Region.slide(), settings, band_width=band_width)
    return run_plan(slide, model, plan, sink, device="cpu", **options)


def normalised(pixels: np.ndarray, model: LoadedModel) -> torch.Tensor:
    """(1, 3, h, w) float32, as the model's card says."""
    rgb = torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div_(255)
    mean = torch.tensor(model.card.mean).view(1, 3, 1, 1)
    return rgb.sub_(mean).div_(torch.tensor(model.card.std).view(1, 3, 1, 1))


def weights_of(window: int) -> torch.Tensor:
    """The paper's Gaussian, (window, window), sigma of window / 8."""
    return torch.from_numpy(gaussian_weights(window, window / 8))


def monai(
    pixels: np.ndarray,
    model: LoadedModel,
    batch: int,
    *,
    predict: Predict | None = None,
    buffered: bool = False,
) -> np.ndarray:
    """MONAI's `sliding_window_inference` with a Gaussian.

    MONAI averages whatever the predictor returns, so softmax belongs to the predictor.
    Its own Gaussian is cut off at 0.001 from below, which is another function (2 % of
    the null network's labels), so it is given ours. `max` gives the labels of `argmax`,
    which takes PyTorch far longer.
    """
    from monai.inferers import sliding_window_inference

    window = model.card.window
    network = predict or model.network
    averaged = sliding_window_inference(
        normalised(pixels, model),
        (window, window),
        batch,
        lambda windows: network(windows).softmax(1),
        overlap=1 - STRIDE / window,
        mode="gaussian",
        roi_weight_map=weights_of(window),
        buffer_steps=4 if buffered else None,
    )
    return averaged.max(1).indices[0].to(torch.uint8).numpy()


def naive(
    pixels: np.ndarray, model: LoadedModel, batch: int, *, predict: Predict | None = None
) -> np.ndarray:
    """What one writes first: sums over the whole array, window by window."""
    window, (height, width) = model.card.window, pixels.shape[:2]
    network, weights = predict or model.network, weights_of(window)
    image = normalised(pixels, model)
    total = torch.zeros(5, height, width)
    weight = torch.zeros(height, width)
    places = list(itertools.product(starts(height, window), starts(width, window)))
    for at in range(0, len(places), batch):
        some = places[at : at + batch]
        windows = torch.cat([image[:, :, y : y + window, x : x + window] for y, x in some])
        for (y, x), values in zip(some, network(windows).softmax(1), strict=True):
            total[:, y : y + window, x : x + window] += values * weights
            weight[y : y + window, x : x + window] += weights
    return (total / weight).max(0).indices.to(torch.uint8).numpy()


def softmax_alone(pixels: np.ndarray, model: LoadedModel) -> np.ndarray:
    """A part that nobody can do without: no pixel is read, nothing is blended; no labels."""
    window, (height, width) = model.card.window, pixels.shape[:2]
    out = torch.empty(model.card.num_classes, window, window)
    for _ in range(len(starts(height, window)) * len(starts(width, window))):
        torch.softmax(model.network(out[None])[0], 0, out=out)
    return np.zeros((height, width), dtype=np.uint8)


def adding_alone(pixels: np.ndarray, model: LoadedModel) -> np.ndarray:
    """Another such part: logits as they are, weighted and added to sums; no labels."""
    window, (height, width) = model.card.window, pixels.shape[:2]
    weights = weights_of(window)
    sums = torch.zeros(model.card.num_classes, window, width)
    for _ in starts(height, window):
        for x in starts(width, window):
            part = sums[:, :, x : x + window]
            part.addcmul_(model.network(part[None])[0], weights)
    return np.zeros((height, width), dtype=np.uint8)


def starts(length: int, window: int) -> list[int]:
    """First pixels of the windows along an axis, the last one ending with the array."""
    found = list(range(0, length - window + 1, STRIDE))
    return found if found[-1] == length - window else [*found, length - window]


@dataclass
class Cost:
    """What a measured piece of work took; filled in when it has ended."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Wall time and CPU time of all threads, seconds."""
    cost, cpu, wall = Cost(), cpu_seconds(), time.perf_counter()
    yield cost
    cost.cpu, cost.wall = cpu_seconds() - cpu, time.perf_counter() - wall


def peak_gb() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def load() -> float:
    """Load of the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def cpu_seconds() -> float:
    """CPU time of all threads of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
