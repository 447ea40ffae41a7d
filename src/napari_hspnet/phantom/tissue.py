"""Painting a band in haematoxylin and eosin: sections and training fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError
from napari_hspnet.phantom.geometry import STROMA, Band, Floats, pixel_centres
from napari_hspnet.phantom.ground import Ground, lay_ground
from napari_hspnet.phantom.growth import field_band
from napari_hspnet.phantom.nuclei import Nuclei, place_nuclei
from napari_hspnet.phantom.stain import Stain
from napari_hspnet.phantom.stamp import stamp
from napari_hspnet.phantom.texture import Grid

__all__ = ["GLASS_COLOUR", "Field", "Section", "glass", "phantom_field"]

Plane = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

GLASS_COLOUR = (243, 242, 244)
_COARSEST = 0.75
_STRIP = 500_000
_THICKNESS_SPREAD = 0.23


@dataclass(frozen=True)
class Field:
    """A training field.

    Attributes
    ----------
    rgb : ndarray of uint8, (height, width, 3)
    truth : ndarray of uint8, (height, width)
        0 glass or stroma, 1 normal, 2 CIN1, 3 CIN2, 4 CIN3.
    """

    rgb: Image
    truth: Image


def _no_check() -> None:
    """Nobody wants to give up."""


class Section:
    """A piece of mucosa, ready to be painted at any µm per pixel, block by block.

    Parameters
    ----------
    band : Band
        Its geometry.
    rng : numpy Generator
        Source of everything random but the band and the stain.
    stain : Stain
        The slide's.
    check : callable, optional
        Called between steps; may raise to give up.
    """

    def __init__(
        self,
        band: Band,
        rng: np.random.Generator,
        stain: Stain,
        check: Callable[[], None] = _no_check,
    ) -> None:
        self.band = band
        self.stain = stain
        self._check = check
        self.nuclei: Nuclei = place_nuclei(rng, band)
        check()
        # A fragment is cut thicker or thinner, and takes up more or less stain.
        self._thickness = float(np.exp(np.clip(rng.normal(0, _THICKNESS_SPREAD), -0.45, 0.36)))
        self.ground: Ground = lay_ground(rng, band, self.nuclei, check)

    def codes(self, y: Floats, x: Floats) -> npt.NDArray[np.uint8]:
        """See `Band.codes`."""
        return self.band.codes(y, x)

    def paint(self, y: int, x: int, height: int, width: int, mpp: float) -> Image:
        """Pixels of a block; a fragment's canvas goes on as glass beyond its edges.

        Parameters
        ----------
        y, x, height, width : int
            The block in pixels of `mpp` µm from the canvas's corner.
        mpp : float
            µm per pixel.

        Returns
        -------
        ndarray of uint8, (height, width, 3)
        """
        if mpp > _COARSEST:
            # Fine lines would be missed between the centres of coarse pixels.
            k = math.ceil(mpp / _COARSEST)
            return shrink(self.paint(y * k, x * k, height * k, width * k, mpp / k), k)
        near = self.nuclei
        reach = 2.0 * near.major + 2.0 + 8 * mpp
        low_y, low_x = y * mpp, x * mpp
        inside = (near.y > low_y - reach) & (near.y < low_y + height * mpp + reach)
        inside &= (near.x > low_x - reach) & (near.x < low_x + width * mpp + reach)
        # Stamps are a few pixels larger than what they are chosen by.
        pad = 4
        ink = np.zeros((height + 2 * pad, width + 2 * pad), np.float32)
        cover = np.zeros_like(ink)
        stamp(near.select(inside), y - pad, x - pad, mpp, ink, cover)
        ink, cover = ink[pad:-pad, pad:-pad], cover[pad:-pad, pad:-pad]
        out = np.empty((height, width, 3), np.uint8)
        # In strips, so that memory does not grow with the block.
        rows = max(16, _STRIP // max(width, 1))
        for top in range(0, height, rows):
            part = slice(top, min(top + rows, height))
            grid = Grid(y + part.start, x, part.stop - part.start, width, mpp)
            haema, eosin = self.ground.paint(grid)
            haema *= 1 - 0.8 * cover[part]
            haema += ink[part]
            eosin *= 1 - 0.55 * cover[part]
            self._develop(haema, eosin, out[part])
        return out

    def _develop(self, haema: Plane, eosin: Plane, out: Image) -> None:
        """Optical density to 8-bit colour, into `out`."""
        stain, power = self.stain, -math.log(10) * self._thickness
        haema = haema * np.float32(1.25 * power * stain.haematoxylin_strength)
        eosin = eosin * np.float32(power * stain.eosin_strength)
        for c in range(3):
            density = haema * np.float32(stain.haematoxylin[c])
            density += eosin * np.float32(stain.eosin[c])
            light = np.exp(density, out=density)
            light *= np.float32(GLASS_COLOUR[c])
            light += np.float32(0.5)
            out[..., c] = np.clip(light, 0, 255)


def glass(rng: np.random.Generator, height: int, width: int) -> Image:
    """Empty glass, (height, width, 3) uint8; it draws nothing from `rng`."""
    out = np.empty((height, width, 3), np.uint8)
    out[:] = GLASS_COLOUR
    return out


def phantom_field(
    seed: int,
    height: int = 1000,
    width: int = 1000,
    mpp: float = 1.0,
    grades: Sequence[int] | None = None,
) -> Field:
    """A synthetic field of cervical mucosa with its truth.

    Parameters
    ----------
    seed : int
        The same seed and sizes give the same field on one platform.
    height, width : int
        Pixels.
    mpp : float
        µm per pixel. Above 0.5 the field is painted finer and averaged, as a
        scanner's lower levels are.
    grades : sequence of int, optional
        Class values 1..4 in their order along the band; random where None.

    Returns
    -------
    Field

    Raises
    ------
    InputError
        If a size is below 1, `mpp` outside 0.05..8, or a grade none of 1..4.
    """
    if height < 1 or width < 1 or not 0.05 <= mpp <= 8:
        raise InputError(
            f"a phantom field cannot be {height} x {width} px at {mpp} µm/px",
            advice="Give sizes of 1 or more and 0.05 to 8 µm/px",
        )
    check_grades(grades)
    rng = np.random.default_rng([seed, 1])
    factor = max(1, round(mpp / 0.5))
    band = field_band(rng, math.ceil(height * mpp), math.ceil(width * mpp), grades)
    section = Section(band, rng, Stain.draw(rng))
    fine = section.paint(0, 0, height * factor, width * factor, mpp / factor)
    y, x = pixel_centres(0, height, mpp), pixel_centres(0, width, mpp)
    truth = band.codes(y[:, None], x[None, :])
    truth[truth >= STROMA] = 0
    return Field(shrink(fine, factor), truth)


def shrink(rgb: Image, factor: int) -> Image:
    """Area average by a whole factor; sides must be multiples of it."""
    if factor == 1:
        return rgb
    h, w = rgb.shape[0] // factor, rgb.shape[1] // factor
    total = np.zeros((h, w, 3), np.uint32)
    for i in range(factor):
        for j in range(factor):
            total += rgb[i::factor, j::factor]
    count = factor * factor
    return ((total + count // 2) // count).astype(np.uint8)


def check_grades(grades: Sequence[int] | None) -> None:
    """Raise InputError unless `grades` is None or a sequence of 1..4."""
    if grades is not None and (len(grades) == 0 or any(g not in (1, 2, 3, 4) for g in grades)):
        raise InputError(
            f"grades {list(grades)} are not class values",
            advice="Give one or more of 1 (normal), 2 (CIN1), 3 (CIN2), 4 (CIN3)",
        )
