"""An in-memory slide, a small network, and the slow reference of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from napari_hspnet.classes import NOT_RUN, SKIPPED
from napari_hspnet.errors import SlideReadError
from napari_hspnet.inference import Settings
from napari_hspnet.networks import Architecture, LoadedModel, ModelCard
from napari_hspnet.slides import LabelBlock, LabelGrid, Level, Region, SlideInfo

MEAN, STD = (0.6, 0.5, 0.7), (0.2, 0.25, 0.3)


def slide_info(shape: tuple[int, int], mpp: float = 1.0) -> SlideInfo:
    return SlideInfo(
        path=Path("array.tiff"),
        backend="array",
        vendor="array",
        levels=(Level(shape, (1.0, 1.0), (256, 256)),),
        mpp=(mpp, mpp),
        mpp_source="file",
        mpp_problem=None,
        objective=None,
        bounds=None,
        fingerprint="0" * 64,
    )


@dataclass
class ArraySlide:
    """Pixels of 1 µm; other resolutions by picking pixels."""

    pixels: np.ndarray
    unreadable: tuple[int, int] | None = None
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def info(self) -> SlideInfo:
        return slide_info(self.pixels.shape[:2])

    def read_grid(self, y: int, x: int, height: int, width: int, mpp: float) -> np.ndarray:
        if mpp == 1.0:
            self.reads.append((y, x))
            bad = self.unreadable
            if bad and y <= bad[0] < y + height and x <= bad[1] < x + width:
                raise SlideReadError("A tile cannot be read", advice="-", y=bad[0], x=bad[1])
        rows = np.floor((np.arange(y, y + height) + 0.5) * mpp).astype(int)
        columns = np.floor((np.arange(x, x + width) + 0.5) * mpp).astype(int)
        out = np.full((height, width, 3), 255, dtype=np.uint8)
        ok_y = (rows >= 0) & (rows < self.pixels.shape[0])
        ok_x = (columns >= 0) & (columns < self.pixels.shape[1])
        out[np.ix_(ok_y, ok_x)] = self.pixels[np.ix_(rows[ok_y], columns[ok_x])]
        return out


def stained(height: int, width: int, seed: int = 0) -> ArraySlide:
    """Colours that the tissue mask takes for tissue."""
    rng = np.random.default_rng(seed)
    return ArraySlide(rng.integers(40, 220, (height, width, 3), dtype=np.uint8))


@dataclass
class ArraySink:
    """Collects blocks, and checks that none is given twice or crosses a chunk."""

    shape: tuple[int, int]

    def __post_init__(self) -> None:
        self.classes = np.full(self.shape, NOT_RUN, dtype=np.uint8)
        self.score = np.zeros(self.shape, dtype=np.uint8)
        self.high = np.zeros(self.shape, dtype=np.uint8)
        self.times = np.zeros(self.shape, dtype=int)
        self.blocks = 0

    def write(self, block: LabelBlock) -> None:
        height, width = block.classes.shape
        assert block.y // 512 == (block.y + height - 1) // 512
        assert block.x // 512 == (block.x + width - 1) // 512
        box = np.s_[block.y : block.y + height, block.x : block.x + width]
        assert self.classes[box].shape == block.classes.shape
        self.classes[box] = block.classes
        self.score[box] = block.score
        self.high[box] = block.high
        self.times[box] += 1
        self.blocks += 1


class SmallNet(nn.Module):
    """Depends on a neighbourhood and on the place in the window, as a real one does."""

    def __init__(self, classes: int = 5, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.conv = nn.Conv2d(3, classes, 5, padding=2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(self.conv.weight.shape, generator=generator) * 0.3)
            self.conv.bias.copy_(torch.randn(classes, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-1, 1, x.shape[-1], device=x.device)
        return self.conv(x) * (1.5 + ramp)


class Counting(SmallNet):
    """Counts the windows that it is given."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__(classes)
        self.windows = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.windows += len(x)
        return super().forward(x)


def model(network: nn.Module | None = None, classes: int = 5, window: int = 64) -> LoadedModel:
    card = ModelCard(
        name="test",
        architecture=Architecture(num_classes=classes),
        mpp=1.0,
        window=window,
        mean=MEAN,
        std=STD,
    )
    return LoadedModel(network or SmallNet(classes), card, "0" * 64, None)


def reference(
    slide: ArraySlide,
    network: nn.Module,
    region: Region,
    settings: Settings,
    gate: np.ndarray | None = None,
    first_class: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The engine's mathematics over the whole slide at once, in float64, window by window.

    `gate` says for the mask pixels of 1 µm where tissue is; None means everywhere.
    """
    height, width = slide.pixels.shape[:2]
    p, stride = settings.window, settings.effective_stride
    ys, xs = ([*range(0, max(n - p, 0), stride), max(n - p, 0)] for n in (height, width))
    padded = np.full((max(height, p), max(width, p), 3), 255, dtype=np.uint8)
    padded[:height, :width] = slide.pixels
    channels = 5 - first_class
    total = np.zeros((channels, *padded.shape[:2]))
    weight = np.zeros(padded.shape[:2])
    claimed = np.zeros(padded.shape[:2], dtype=bool)
    c = (p - 1) / 2
    i = np.arange(p)
    gauss = np.exp(
        -((i[:, None] - c) ** 2 + (i[None] - c) ** 2) / (2 * settings.effective_sigma**2)
    )
    for y in ys:
        for x in xs:
            box = np.s_[y : y + p, x : x + p]
            if settings.blend == "gaussian":
                w = gauss
            else:
                w = (~claimed[box]).astype(float)
                claimed[box] = True
            if gate is not None and not gate[box].any():
                continue
            rgb = torch.from_numpy(padded[box].copy()).permute(2, 0, 1)[None].float() / 255
            rgb = (rgb - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
            with torch.no_grad():
                p_k = network(rgb).double().softmax(1)[0].numpy()
            total[(slice(None), *box)] += p_k * w
            weight[box] += w
    total, weight = total[:, :height, :width], weight[:height, :width]
    seen = weight > 0
    mean = total / np.where(seen, weight, 1)
    classes = np.where(seen, mean.argmax(0) + first_class, SKIPPED)
    score = np.where(seen, mean.max(0), 0)
    high = np.where(seen, mean[3 - first_class] + mean[4 - first_class], 0)
    inside = region.mask(region.box(LabelGrid((height, width))), LabelGrid((height, width)))
    box = region.box(LabelGrid((height, width)))
    keep = np.zeros((height, width), dtype=bool)
    keep[box.y0 : box.y1, box.x0 : box.x1] = True if inside is None else inside
    return np.where(keep, classes, NOT_RUN), np.where(keep, score, 0), np.where(keep, high, 0)
