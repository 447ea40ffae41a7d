"""What a pixel's neighbourhood looks like without a network: colours and textures.

For the baselines alone: they say how far colour and texture get on phantoms, so
that what a network gets beyond it is known to come from structure.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import CancelledError

__all__ = ["FEATURE_SETS", "FeatureSet", "features_at"]

Image = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

WIDE, FINE = 65, 32
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
# Uniform patterns of eight neighbours by their number of bright ones, and the rest.
_PATTERNS = 10


@dataclass(frozen=True)
class FeatureSet:
    """A way to describe pixels.

    Attributes
    ----------
    key, title : str
        For records and for people.
    planes : callable (rgb) -> iterator of ndarray of float32, (h, w)
        One plane a feature.
    """

    key: str
    title: str
    planes: Callable[[Image], Iterator[Plane]]


def features_at(
    kind: FeatureSet,
    rgb: Image,
    rows: Indices,
    columns: Indices,
    cancel: threading.Event | None = None,
) -> Plane:
    """Features of some pixels of an image.

    Parameters
    ----------
    kind : FeatureSet
    rgb : ndarray of uint8, (h, w, 3)
    rows, columns : ndarray of intp, (n,)
    cancel : threading.Event, optional

    Returns
    -------
    ndarray of float32, (n, features)

    Raises
    ------
    CancelledError
        If `cancel` was set.
    """
    picked = []
    # Picked plane by plane: all planes of a slide at once would fill the memory.
    for plane in kind.planes(rgb):
        if cancel is not None and cancel.is_set():
            raise CancelledError
        picked.append(plane[rows, columns])
    return np.stack(picked, axis=1).astype(np.float32, copy=False)


def _density(rgb: Image) -> Plane:
    """Optical density of each channel, (h, w, 3); glass is about 0."""
    return np.asarray(-np.log10((rgb.astype(np.float32) + 1) / 256), dtype=np.float32)


def _colours(rgb: Image) -> Iterator[Plane]:
    density = _density(rgb)
    for c in range(3):
        yield rgb[..., c].astype(np.float32)
    for c in range(3):
        yield density[..., c]


def _mean(plane: Plane, side: int) -> Plane:
    from scipy.ndimage import uniform_filter

    return np.asarray(uniform_filter(plane, side, mode="nearest"), dtype=np.float32)


def _wide_colours(rgb: Image) -> Iterator[Plane]:
    for plane in _colours(rgb):
        yield _mean(plane, WIDE)


def _patterns(grey: Plane, radius: int) -> npt.NDArray[np.uint8]:
    """Local binary patterns, turned and uniform (Ojala et al. 2002): 0 to 9 a pixel."""
    height, width = grey.shape
    padded = np.pad(grey, radius, mode="edge")
    around = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    # Scanner noise on glass would else look like a pattern.
    bright = [
        padded[
            radius * (1 + dy) : radius * (1 + dy) + height,
            radius * (1 + dx) : radius * (1 + dx) + width,
        ]
        >= grey - 2
        for dy, dx in around
    ]
    count = np.zeros(grey.shape, np.uint8)
    changes = np.zeros(grey.shape, np.uint8)
    for one, following in zip(bright, bright[1:] + bright[:1], strict=True):
        count += one
        changes += one != following
    return np.where(changes <= 2, count, np.uint8(_PATTERNS - 1)).astype(np.uint8)


def _textures(rgb: Image) -> Iterator[Plane]:
    """Means and deviations over 32 px of colour, density and gradients; patterns."""
    from scipy.ndimage import gaussian_gradient_magnitude

    density = _density(rgb)
    grey = np.asarray(rgb.astype(np.float32) @ _GREY, dtype=np.float32)
    total = density.sum(axis=2)
    planes = [
        *(rgb[..., c].astype(np.float32) for c in range(3)),
        *(density[..., c] for c in range(3)),
        *(gaussian_gradient_magnitude(total, sigma).astype(np.float32) for sigma in (0.7, 1.5, 3)),
    ]
    for plane in planes:
        mean = _mean(plane, FINE)
        yield mean
        yield np.sqrt(np.maximum(_mean(plane * plane, FINE) - mean * mean, 0))
    # How much of the window is as dark as nuclei are.
    for dark in (0.6, 0.9, 1.2, 1.6):
        yield _mean((total > dark).astype(np.float32), FINE)
    for radius in (1, 3):
        pattern = _patterns(grey, radius)
        for value in range(_PATTERNS):
            yield _mean((pattern == value).astype(np.float32), FINE)


FEATURE_SETS: Mapping[str, FeatureSet] = MappingProxyType(
    {
        kind.key: kind
        for kind in (
            FeatureSet("pixel_colour", "forest, pixel colour", _colours),
            FeatureSet("wide_colour", f"forest, {WIDE} px mean colour", _wide_colours),
            FeatureSet("texture", f"forest, {FINE} px texture", _textures),
        )
    }
)
"""The three of the baselines, by key: RGB and optical density of the pixel; their
means over 65 px; means, deviations, gradients and patterns over 32 px."""
