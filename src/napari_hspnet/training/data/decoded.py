"""Pairs of files, picture and mask, decoded when asked for and kept within bounds."""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_hspnet.classes import BACKGROUND
from napari_hspnet.errors import InputError
from napari_hspnet.slides.backends.base import on_white
from napari_hspnet.training.data.images import Array, LabelledImage, check_box, known_labels
from napari_hspnet.training.losses import IGNORE

__all__ = ["BYTES", "FileImage", "ImageStore", "Zero", "file_pair", "images_that_fit"]

BYTES = 2 << 30
"""Of decoded images kept by default: about all of MTCHI at x10."""

Zero = Literal["class", "ignore", "black"]
"""What 0 of a mask becomes: itself, ignored, or ignored where the picture is pure black."""

_BYTES_A_PIXEL = 4  # Three colours and a label.
_COPY = "Copy the file again, or take it out with its partner"
_PICTURES = ("RGB", "RGBA", "L", "LA", "P")
# Grey values may also have been saved as three equal channels, or as 16 bits.
_MASKS = ("L", "P", "1", "RGB", "I;16", "I")


class ImageStore:
    """Decoded images, the least recently used forgotten; safe between threads.

    What is kept never exceeds `limit`, but that the newest is kept whatever its
    size; beside it each reading thread can hold the one that it decodes. An image
    that two threads want is decoded once.

    Parameters
    ----------
    limit : int
        Bytes.
    """

    def __init__(self, limit: int = BYTES) -> None:
        if limit < 0:
            raise InputError(f"{limit} bytes cannot be kept", advice="Give 0 or more")
        self.limit = limit
        self._kept: OrderedDict[object, Array] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._gates: dict[object, threading.Lock] = {}

    @property
    def held(self) -> int:
        """Bytes kept now."""
        with self._lock:
            return self._bytes

    def get(self, key: object, make: Callable[[], Array]) -> Array:
        """The image of that key, made where it is not kept; read-only."""
        with self._lock:
            found = self._find(key)
            if found is not None:
                return found
            gate = self._gates.setdefault(key, threading.Lock())
        with gate:
            with self._lock:
                found = self._find(key)
            if found is not None:
                return found
            image = make()
            image.flags.writeable = False
            with self._lock:
                self._gates.pop(key, None)
                # Whoever waited at an older gate may have kept it meanwhile.
                if key not in self._kept:
                    self._kept[key] = image
                    self._bytes += image.nbytes
                while self._bytes > self.limit and len(self._kept) > 1:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
            return image

    def _find(self, key: object) -> Array | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found


@dataclass(frozen=True)
class FileImage:
    """A picture file and its mask file. Made by `file_pair`.

    Attributes
    ----------
    name, patient : str
        See `LabelledImage`.
    height, width : int
        Pixels.
    mpp : float
        µm per pixel.
    picture, mask : Path
        The files.
    zero : {"class", "ignore", "black"}
        See `Zero`.
    store : ImageStore
        Where both are kept once decoded.
    """

    name: str
    patient: str
    height: int
    width: int
    mpp: float
    picture: Path
    mask: Path
    zero: Zero
    store: ImageStore = field(repr=False, compare=False)

    def read(self, y: int, x: int, height: int, width: int) -> tuple[Array, Array]:
        """See `LabelledImage.read`."""
        check_box(self, y, x, height, width)
        rgb = self._rgb()[y : y + height, x : x + width].copy()
        return rgb, self.read_labels(y, x, height, width)

    def read_labels(self, y: int, x: int, height: int, width: int) -> Array:
        """See `LabelledImage.read_labels`."""
        check_box(self, y, x, height, width)
        labels = self.store.get((self.mask, self.zero), self._labels)
        return labels[y : y + height, x : x + width].copy()

    def _rgb(self) -> Array:
        return self.store.get(self.picture, lambda: self._checked(_picture(self.picture)))

    def _labels(self) -> Array:
        labels = self._checked(_mask(self.mask))
        known_labels(labels, self.name, self.mask)
        if self.zero == "class":
            return labels
        drop = labels == BACKGROUND
        if self.zero == "black":
            drop &= ~self._rgb().any(axis=2)
        labels[drop] = IGNORE
        return labels

    def _checked(self, array: Array) -> Array:
        if array.shape[:2] != (self.height, self.width):
            raise InputError(
                f"A file of {self.name} changed while it was in use",
                advice="Leave the folder as it is, and begin again",
                path=self.picture,
            )
        return array


def file_pair(
    name: str,
    patient: str,
    picture: Path,
    mask: Path,
    store: ImageStore,
    *,
    mpp: float = 1.0,
    zero: Zero = "class",
) -> FileImage:
    """A picture and its mask; only their headers are read now.

    Raises
    ------
    InputError
        If a file cannot be read or is of the wrong kind, or they differ in size.
    """
    height, width = _size(picture, _PICTURES, "a picture of 8 bits a colour")
    mask_size = _size(mask, _MASKS, "a picture of label values")
    if mask_size != (height, width):
        raise InputError(
            f"The mask of {name} has {mask_size[1]} x {mask_size[0]} px, its picture "
            f"{width} x {height} px",
            advice="Give masks of their pictures' size",
            path=mask,
        )
    return FileImage(name, patient, height, width, mpp, picture, mask, zero, store)


def images_that_fit(images: Sequence[LabelledImage]) -> int | None:
    """How many image files can be kept decoded at once, for `PatchReader`.

    Returns
    -------
    int or None
        At least 1; None where all of them fit, or are no files.
    """
    files = [image for image in images if isinstance(image, FileImage)]
    if not files:
        return None
    sizes = [_BYTES_A_PIXEL * image.height * image.width for image in files]
    limit = files[0].store.limit
    return None if sum(sizes) <= limit else max(1, limit // max(sizes))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise InputError(
            "The image is too large to be decoded whole",
            advice="Cut it into pieces of at most 80 million pixels",
            path=path,
        ) from error
    except FileNotFoundError as error:
        raise InputError("There is no such file", advice="Check the folder", path=path) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise InputError(f"The image cannot be read ({error})", advice=_COPY, path=path) from error


def _size(path: Path, modes: tuple[str, ...], wanted: str) -> tuple[int, int]:
    with _opened(path) as image:
        mode, (width, height) = image.mode, image.size
        lossy = image.format in ("JPEG", "MPO") and modes is _MASKS
    if mode not in modes or lossy:
        kind = "JPEG, which changes values" if lossy else f"mode {mode}"
        raise InputError(
            f"The file is no {wanted.removeprefix('a ')} ({kind})",
            advice="Save pictures as RGB, masks as PNG of one channel with the values 0 to 4",
            path=path,
        )
    return height, width


def _picture(path: Path) -> Array:
    with _opened(path) as image:
        if image.mode == "RGB":
            return np.array(image)
        if image.mode == "L":
            return np.array(image.convert("RGB"))
        return np.asarray(on_white(np.array(image.convert("RGBA"))), dtype=np.uint8)


def _mask(path: Path) -> Array:
    with _opened(path) as image:
        values = np.array(image)
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise InputError(
                "The mask is a picture in colours",
                advice="Save it with one channel of the values 0 to 4, and 255 for ignored",
                path=path,
            )
        values = values[..., 0]
    # Larger values than a byte's become one that no label has.
    return np.where((values < 0) | (values > 255), 254, values).astype(np.uint8)
