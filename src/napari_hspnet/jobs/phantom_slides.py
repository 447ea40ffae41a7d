"""Phantom slides to judge on: written, read as any slide is, deleted again."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import CIN3
from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.inference import Progress, Settings, segment
from napari_hspnet.networks import LoadedModel, ModelCard
from napari_hspnet.phantom import PhantomSpec, truth_block, write_phantom
from napari_hspnet.slides import LabelBlock, Region, Slide, open_slide
from napari_hspnet.slides.grid import LABEL_MPP
from napari_hspnet.training import confusion

__all__ = [
    "SLIDE_SHAPE",
    "JudgedSlide",
    "Way",
    "answer_slide",
    "check_model",
    "judge_slide",
    "slide_spec",
    "with_slide",
    "ways_of",
]

Counts = npt.NDArray[np.int64]
Image = npt.NDArray[np.uint8]

SLIDE_SHAPE = (3200, 4000)
"""Level-0 pixels of a slide to judge on, (height, width), at 0.5 µm each."""

SLIDE_MPP = 0.5


@dataclass(frozen=True)
class JudgedSlide:
    """A phantom slide that lies on disk for now.

    Attributes
    ----------
    spec : PhantomSpec
        What it is.
    slide : Slide
        Open.
    truth : ndarray of uint8, (h, w)
        At 1 µm per pixel, 0 to 4.
    """

    spec: PhantomSpec
    slide: Slide
    truth: Image

    def rgb(self) -> Image:
        """All of it at 1 µm per pixel, (h, w, 3), as the engine sees it."""
        height, width = self.truth.shape
        return self.slide.read_grid(0, 0, height, width, LABEL_MPP)


@dataclass(frozen=True)
class Way:
    """A way of putting windows together.

    Attributes
    ----------
    key, title : str
        For records and for people.
    settings : Settings
        Of the engine.
    """

    key: str
    title: str
    settings: Settings


def ways_of(card: ModelCard) -> tuple[Way, ...]:
    """Plain; Gauss-like with strides of half and of a quarter of the window.

    For windows of 400 px: stride 200 with sigma 100, and stride 100 with sigma
    50, the engine's default. The tissue mask stays on, as a user has it.
    """
    window = card.window
    gaussian = [(window // 2, window / 4), (max(1, window // 4), window / 8)]
    return (
        Way("plain", "model, plain", Settings(window, stride=window, blend="plain")),
        *(
            Way(
                f"gaussian_stride_{stride}",
                f"model, Gauss-like, stride {stride}, sigma {sigma:g}",
                Settings(window, stride=stride, sigma=sigma),
            )
            for stride, sigma in gaussian
        ),
    )


def check_model(model: LoadedModel) -> None:
    """Refuse a model that the truth of phantoms cannot judge.

    Raises
    ------
    InputError
        If it works at another resolution.
    """
    if model.card.mpp != LABEL_MPP:
        raise InputError(
            f"the model works at {model.card.mpp:g} µm per pixel, "
            f"the truth of phantoms at {LABEL_MPP:g}",
            advice=f"Choose a model made for {LABEL_MPP:g} µm per pixel",
            path=model.path,
        )


def slide_spec(seed: int, domain: str = "A", shape: tuple[int, int] = SLIDE_SHAPE) -> PhantomSpec:
    """The slide of a seed.

    Raises
    ------
    InputError
        If there is no such domain, or the shape makes no slide.
    """
    return PhantomSpec(*shape, seed, SLIDE_MPP, domain=domain)


@contextlib.contextmanager
def with_slide(
    spec: PhantomSpec,
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[JudgedSlide]:
    """Write a phantom into a folder of its own, open it, and delete both in the end.

    Parameters
    ----------
    spec : PhantomSpec
    progress : callable, optional
        Gets the share (0 to 1) that is written.
    cancel : threading.Event, optional

    Raises
    ------
    CancelledError
        If `cancel` was set.
    OutputError
        If the folder for temporary files takes no slide.
    """
    with tempfile.TemporaryDirectory(prefix="hspnet-phantom-") as folder:
        path = Path(folder) / "slide.tiff"

        def tell(part: float, _: str) -> None:
            if progress is not None:
                progress(part)

        if write_phantom(path, spec, progress=tell, cancel=cancel).cancelled:
            raise CancelledError
        truth = truth_block(spec, 0, 0, *spec.label_shape)
        with open_slide(path) as slide:
            yield JudgedSlide(spec, slide, truth)


class _Canvas:
    """Takes the engine's blocks as one label image; what is no class becomes 0."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.labels = np.zeros(shape, np.uint8)

    def write(self, block: LabelBlock) -> None:
        height, width = block.classes.shape
        here = np.where(block.classes > CIN3, np.uint8(0), block.classes)
        self.labels[block.y : block.y + height, block.x : block.x + width] = here


def judge_slide(
    judged: JudgedSlide,
    model: LoadedModel,
    settings: Settings,
    device: str = "auto",
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> Counts:
    """What `answer_slide` says against the truth, all pixels, (5, 5) as `training.confusion`."""
    return confusion(judged.truth, answer_slide(judged, model, settings, device, progress, cancel))


def answer_slide(
    judged: JudgedSlide,
    model: LoadedModel,
    settings: Settings,
    device: str = "auto",
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> Image:
    """What the engine says of a slide.

    Parameters
    ----------
    judged : JudgedSlide
    model : LoadedModel
    settings : Settings
        See `ways_of`.
    device : str
        As in `inference.choose_device`.
    progress : callable, optional
        Gets the share (0 to 1) of windows that were run.
    cancel : threading.Event, optional

    Returns
    -------
    ndarray of uint8, (h, w)
        0 to 4 at 1 µm per pixel; 0 also where the tissue mask left a pixel out:
        on an annotated pixel that is an error.

    Raises
    ------
    HspnetError, CancelledError
        As `inference.segment` does.
    """
    height, width = judged.truth.shape
    canvas = _Canvas((height, width))

    def tell(report: Progress) -> None:
        if progress is not None and report.total:
            progress(report.done / report.total)

    segment(
        judged.slide,
        model,
        Region.slide(),
        canvas,
        settings=settings,
        device=device,
        progress=tell,
        cancel=cancel,
    )
    return canvas.labels
