"""Label images to evaluate: what a network says through the engine, or files made elsewhere."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import CIN3, NOT_RUN, SKIPPED, UNREADABLE
from napari_hspnet.errors import InputError
from napari_hspnet.inference import Progress, Settings, SlideLike, segment
from napari_hspnet.jobs.evaluation_data import Subject
from napari_hspnet.networks import LoadedModel
from napari_hspnet.slides import (
    GRID_TILE,
    LabelBlock,
    LabelGrid,
    Level,
    PixelBox,
    Region,
    SlideInfo,
)
from napari_hspnet.slides.resample import resample_tile
from napari_hspnet.training.data import FileImage
from napari_hspnet.training.data.images import Array, LabelledImage
from napari_hspnet.training.data.pairs import files_by_key

__all__ = ["Answer", "FileAnswers", "ImageSlide", "NetworkAnswers", "PREDICTED"]

PREDICTED = (*range(CIN3 + 1), SKIPPED, UNREADABLE, NOT_RUN)
"""Values of a prediction; the last three count as none of the four."""

_WHITE = 255
Tell = Callable[[float], None]


class Answer(Protocol):
    """What gives predictions."""

    def predict(
        self, subject: Subject, progress: Tell | None, cancel: threading.Event | None
    ) -> Array:
        """Values of `PREDICTED`, (h, w) of the subject's image."""


class ImageSlide:
    """An image as the engine sees a slide: read on a grid of µm, white outside.

    Parameters
    ----------
    image : LabelledImage
        Read whole.
    path : Path
        Named in messages.
    """

    def __init__(self, image: LabelledImage, path: Path) -> None:
        self._rgb, _ = image.read(0, 0, image.height, image.width)
        self._mpp = image.mpp
        level = Level((image.height, image.width), (1.0, 1.0), (GRID_TILE, GRID_TILE))
        self.info = SlideInfo(
            path=path,
            backend="image",
            vendor="",
            levels=(level,),
            mpp=(image.mpp, image.mpp),
            mpp_source="user",
            mpp_problem=None,
            objective=None,
            bounds=None,
            fingerprint="",
        )

    def read_grid(self, y: int, x: int, height: int, width: int, mpp: float) -> Array:
        """See `Slide.read_grid`."""
        step = mpp / self._mpp
        if abs(step - 1) < 1e-9:
            return self._crop(y, x, height, width)
        out = np.full((height, width, 3), _WHITE, np.uint8)
        for ty in range(y // GRID_TILE, -((-y - height) // GRID_TILE)):
            for tx in range(x // GRID_TILE, -((-x - width) // GRID_TILE)):
                top, left = ty * GRID_TILE, tx * GRID_TILE
                y0, y1 = max(y, top), min(y + height, top + GRID_TILE)
                x0, x1 = max(x, left), min(x + width, left + GRID_TILE)
                tile = resample_tile(self._crop, ty, tx, (step, step))
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[
                    y0 - top : y1 - top, x0 - left : x1 - left
                ]
        return out

    def _crop(self, y: int, x: int, height: int, width: int) -> Array:
        out = np.full((height, width, 3), _WHITE, np.uint8)
        rows, columns = self._rgb.shape[:2]
        y0, y1 = min(max(0, y), rows), max(0, min(rows, y + height))
        x0, x1 = min(max(0, x), columns), max(0, min(columns, x + width))
        if y0 < y1 and x0 < x1:
            out[y0 - y : y1 - y, x0 - x : x1 - x] = self._rgb[y0:y1, x0:x1]
        return out


@dataclass(frozen=True)
class NetworkAnswers:
    """What a model says, through the engine.

    Images are read at the model's µm per pixel; where their own differs, its
    answer is taken for each of their pixels at the pixel's centre.

    Attributes
    ----------
    model : LoadedModel
    settings : Settings
        Of the engine.
    device : str
        As in `inference.choose_device`.
    """

    model: LoadedModel
    settings: Settings
    device: str = "auto"

    def predict(
        self, subject: Subject, progress: Tell | None, cancel: threading.Event | None
    ) -> Array:
        """See `Answer.predict`.

        Raises
        ------
        HspnetError, CancelledError
            As `inference.segment` does.
        """
        image, mpp = subject.image, self.model.card.mpp
        (top, left), own = subject.origin, image.mpp
        if subject.slide is None:
            path = image.picture if isinstance(image, FileImage) else Path(image.name)
            slide: SlideLike = ImageSlide(image, path)
            region = Region.slide()
        else:
            slide = subject.slide
            # One pixel more all around, for centres that fall between two grids.
            region = Region.rectangle(
                top * own - mpp,
                left * own - mpp,
                image.height * own + 2 * mpp,
                image.width * own + 2 * mpp,
            )
        canvas = _Canvas(region.box(LabelGrid.of(slide.info, mpp)))

        def tell(report: Progress) -> None:
            if progress is not None and report.total:
                progress(report.done / report.total)

        segment(
            slide,
            self.model,
            region,
            canvas,
            settings=self.settings,
            device=self.device,
            progress=tell,
            cancel=cancel,
        )
        box = canvas.box
        rows = _nearest(top, image.height, own, mpp, box.y0, box.height)
        columns = _nearest(left, image.width, own, mpp, box.x0, box.width)
        return canvas.labels[rows[:, None], columns]


@dataclass(frozen=True)
class FileAnswers:
    """Predictions as index images, found by `FileAnswers.find`.

    Attributes
    ----------
    files : dict of str to Path
        By name of image.
    unused : int
        Files in the folder that belong to no image.
    """

    files: dict[str, Path]
    unused: int = 0

    @classmethod
    def find(cls, folder: Path, subjects: Sequence[Subject]) -> FileAnswers:
        """The prediction of each image; only headers are read now.

        A file is called as the image or its picture or mask is: ``x.png``,
        ``Crop_x.png``, ``Mask_x.png`` and ``x_mask.png`` all belong to x.

        Raises
        ------
        InputError
            If the folder or a file is missing, or a file cannot be read, is no
            index image, or has another size than its image.
        """
        if not folder.is_dir():
            raise InputError("There is no such folder", advice="Check its name", path=folder)
        wanted = {subject.image.name for subject in subjects}

        def key(stem: str) -> str:
            plain = stem.removeprefix("Mask_").removeprefix("Crop_").removesuffix("_mask")
            return stem if stem in wanted else plain

        found = files_by_key(folder, key)
        missing = sorted(wanted - found.keys())
        if missing:
            few = ", ".join(missing[:3]) + (
                f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            )
            raise InputError(
                f"There is no prediction for {few}",
                advice="Add an index PNG for each image, called as the image is",
                path=folder,
            )
        files = {name: found[name] for name in sorted(wanted)}
        for subject in subjects:
            _check_header(files[subject.image.name], subject.image)
        return cls(files, len(found) - len(files))

    def predict(
        self, subject: Subject, progress: Tell | None, cancel: threading.Event | None
    ) -> Array:
        """See `Answer.predict`.

        Raises
        ------
        InputError
            If the file cannot be read or holds a value that stands for nothing.
        """
        path = self.files[subject.image.name]
        values = _decoded(path, lambda image: np.array(image))
        found = np.unique(values)
        unknown = [int(v) for v in found if v not in PREDICTED]
        if unknown or values.shape != (subject.image.height, subject.image.width):
            few = ", ".join(map(str, unknown[:8])) or f"shape {values.shape}"
            raise InputError(
                f"The prediction of {subject.image.name} holds {few}, which stands for no class",
                advice="Save 0 for none, 1 for normal, 2 for CIN1, 3 for CIN2, 4 for CIN3",
                path=path,
            )
        answer: Array = values.astype(np.uint8)
        return answer


class _Canvas:
    """Takes the engine's blocks of a box as one label image."""

    def __init__(self, box: PixelBox) -> None:
        self.box = box
        self.labels = np.full((box.height, box.width), NOT_RUN, np.uint8)

    def write(self, block: LabelBlock) -> None:
        height, width = block.classes.shape
        y, x = block.y - self.box.y0, block.x - self.box.x0
        self.labels[y : y + height, x : x + width] = block.classes


def _nearest(
    first: int, count: int, own: float, mpp: float, origin: int, limit: int
) -> npt.NDArray[np.int64]:
    """Which pixel of the box holds the centre of each of an image's pixels."""
    at = np.floor((first + np.arange(count) + 0.5) * own / mpp).astype(np.int64) - origin
    inside: npt.NDArray[np.int64] = np.clip(at, 0, limit - 1)
    return inside


def _decoded(path: Path, use: Callable[[Any], Any]) -> Any:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return use(image)
    except Image.DecompressionBombError as error:
        raise InputError(
            "The prediction is too large to be decoded whole", advice="Cut it", path=path
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise InputError(
            f"The prediction cannot be read ({error})", advice="Write the file again", path=path
        ) from error


def _check_header(path: Path, image: LabelledImage) -> None:
    mode, kind, (width, height) = _decoded(path, lambda i: (i.mode, i.format, i.size))
    if mode not in ("L", "P", "I;16", "I") or kind in ("JPEG", "MPO"):
        raise InputError(
            f"The prediction of {image.name} is no index image ({kind}, mode {mode})",
            advice="Save it as PNG of one channel with the values 0 to 4",
            path=path,
        )
    if (height, width) != (image.height, image.width):
        raise InputError(
            f"The prediction of {image.name} has {width} x {height} px, its image "
            f"{image.width} x {image.height} px",
            advice="Give predictions of their images' size",
            path=path,
        )
