"""Painting a band in haematoxylin and eosin: sections and training fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError
from napari_hspnet.phantom.geometry import GLASS, STROMA, Band, Floats, pixel_centres
from napari_hspnet.phantom.growth import field_band
from napari_hspnet.phantom.nuclei import Nuclei, place_nuclei
from napari_hspnet.phantom.stain import Stain
from napari_hspnet.phantom.stamp import stamp

__all__ = ["GLASS_COLOUR", "Field", "Section", "glass", "phantom_field"]

Plane = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

GLASS_COLOUR = (243, 242, 244)
_NOISE = 1.6


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


def _resize(
    plane: Plane, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
) -> Plane:
    from PIL import Image as Pillow

    image = Pillow.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    scaled = image.resize((size[1], size[0]), Pillow.Resampling.BILINEAR, box=box)
    return np.asarray(scaled, dtype=np.float32)


def _blobs(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> Plane:
    """Smooth noise of about unit deviation and `scale` µm correlation."""
    from PIL import Image as Pillow

    small = (max(3, math.ceil(shape[0] / scale) + 2), max(3, math.ceil(shape[1] / scale) + 2))
    noise = Pillow.fromarray(rng.standard_normal(small).astype(np.float32))
    big = noise.resize((shape[1], shape[0]), Pillow.Resampling.BICUBIC)
    return np.asarray(big, dtype=np.float32) * np.float32(1.3)


def _fibres(rng: np.random.Generator, u: Plane, v: Plane, warp: Plane) -> Plane:
    """Wavy bundles along the band, about zero mean and unit deviation."""
    from scipy.ndimage import gaussian_filter

    side = 1024
    noise = rng.standard_normal((side, side)).astype(np.float32)
    fine = gaussian_filter(noise, (0.9, 9.0), mode="wrap")
    coarse = gaussian_filter(noise[::-1, ::-1], (4.0, 30.0), mode="wrap")
    texture = 0.75 * fine / fine.std() + 0.65 * coarse / coarse.std()
    row = np.floor(v + 20.0 * warp).astype(np.int32) & (side - 1)
    col = np.floor(u + 12.0 * warp).astype(np.int32) & (side - 1)
    return np.asarray(texture[row, col], dtype=np.float32)


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
        self._seed = int(rng.integers(2**62))
        self._haematoxylin, self._eosin, self._chromatin = self._ground(rng)

    def _ground(self, rng: np.random.Generator) -> tuple[Plane, Plane, Plane]:
        """Everything but nuclei, as optical density at 1 µm per pixel."""
        from scipy.ndimage import gaussian_filter

        band, shape = self.band, (self.band.height, self.band.width)
        y = pixel_centres(0, shape[0], 1.0)[:, None]
        x = pixel_centres(0, shape[1], 1.0)[None, :]
        u, v = band.to_band(y, x)
        code = band.codes(y, x)
        i = band.index(u)
        t = np.clip(band.depth(u, v), 0, 1).astype(np.float32)
        reach = band.reach[i].astype(np.float32)
        self._check()
        warp = _blobs(rng, shape, 110.0)
        patch = _blobs(rng, shape, 120.0)
        grain = _blobs(rng, shape, 3.0)

        tissue = code != GLASS
        epithelium = tissue & (code < STROMA)
        atypical = 1.0 / (1.0 + np.exp(np.clip((t - reach - 0.03 * patch) / 0.05, -30, 30)))
        # Maturing cytoplasm fills with glycogen and pales; the very surface is
        # flattened and pinker again.
        pale = np.interp(t, (0.0, 0.15, 0.45, 0.8, 0.95, 1.0), (0, 0.1, 0.75, 1, 0.6, 0.3))
        glycogen = rng.uniform(0.25, 1.0) * np.clip(0.7 + 0.3 * patch, 0.2, 1.2)
        pale = (pale * (1 - 0.85 * atypical) * glycogen).astype(np.float32)
        eosin = 0.33 - 0.15 * pale + 0.03 * patch + 0.025 * grain
        haema = rng.uniform(0.07, 0.15) * (1 - 0.55 * pale) + 0.015 * patch + 0.015 * grain

        self._check()
        eosin += (0.05 + 0.11 * pale) * self._borders(shape)

        self._check()
        fibres = _fibres(rng, u.astype(np.float32), v.astype(np.float32), warp)
        self._check()
        stroma_e = 0.30 + 0.065 * fibres + 0.04 * patch
        stroma_h = 0.045 + 0.012 * fibres
        gaps = np.clip(-fibres - 1.2, 0, 1)
        stroma_e = np.where(gaps > 0, stroma_e * (1 - 0.7 * gaps), stroma_e)
        eosin = np.where(epithelium, eosin, stroma_e)
        haema = np.where(epithelium, haema, stroma_h)
        self._check()
        cover = gaussian_filter(tissue.astype(np.float32), 0.7)
        self._check()
        eosin = np.clip(gaussian_filter(eosin.astype(np.float32), 0.6), 0.02, 1) * cover
        haema = np.clip(gaussian_filter(haema.astype(np.float32), 0.6), 0.01, 1) * cover
        return haema.astype(np.float32), eosin.astype(np.float32), np.float32(1) + 0.16 * grain

    def _borders(self, shape: tuple[int, int]) -> Plane:
        """Lines half-way between nuclei: the polygonal borders of squamous cells."""
        from scipy.ndimage import distance_transform_edt

        near = self.nuclei.select(self.nuclei.epithelial)
        row, col = np.floor(near.y).astype(int), np.floor(near.x).astype(int)
        inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
        if not inside.any():
            return np.zeros(shape, np.float32)
        seeds = np.ones(shape, bool)
        seeds[row[inside], col[inside]] = False
        where = distance_transform_edt(seeds, return_distances=False, return_indices=True)
        owner = where[0].astype(np.int64) * shape[1] + where[1]
        line = np.zeros(shape, np.float32)
        line[:, 1:] += owner[:, 1:] != owner[:, :-1]
        line[1:] += owner[1:] != owner[:-1]
        return np.minimum(line, np.float32(1))

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
        haema, eosin, chromatin = (
            _crop(plane, y, x, height, width, mpp)
            for plane in (self._haematoxylin, self._eosin, self._chromatin)
        )
        near = self.nuclei
        reach = 2.0 * near.major + 2.0
        low_y, low_x = y * mpp, x * mpp
        inside = (near.y > low_y - reach) & (near.y < low_y + height * mpp + reach)
        inside &= (near.x > low_x - reach) & (near.x < low_x + width * mpp + reach)
        ink = np.zeros((height, width), np.float32)
        cover = np.zeros((height, width), np.float32)
        stamp(near.select(inside), y, x, mpp, ink, cover)
        haema = haema * (1 - 0.8 * cover) + ink * chromatin
        eosin = eosin * (1 - 0.55 * cover)
        rng = np.random.default_rng([self._seed, y + 2**31, x + 2**31, round(mpp * 1e6)])
        return self._develop(haema, eosin, rng)

    def _develop(self, haema: Plane, eosin: Plane, rng: np.random.Generator) -> Image:
        """Optical density to 8-bit colour, with the sensor's noise."""
        stain = self.stain
        haema = haema * np.float32(stain.haematoxylin_strength * 1.25)
        eosin = eosin * np.float32(stain.eosin_strength)
        out = np.empty((*haema.shape, 3), np.uint8)
        shared = rng.standard_normal(haema.shape, dtype=np.float32)
        for c in range(3):
            density = haema * np.float32(stain.haematoxylin[c])
            density += eosin * np.float32(stain.eosin[c])
            density *= np.float32(-math.log(10))
            light = np.exp(density, out=density)
            light *= np.float32(GLASS_COLOUR[c])
            light += np.float32(_NOISE) * np.roll(shared, 7 * c, axis=0)
            out[..., c] = np.clip(light + np.float32(0.5), 0, 255)
        return out


def _crop(plane: Plane, y: int, x: int, height: int, width: int, mpp: float) -> Plane:
    """A block of a 1 µm plane at `mpp`; its border pixels go on beyond its edges."""
    pad = 4
    y0, x0 = math.floor(y * mpp) - pad, math.floor(x * mpp) - pad
    y1, x1 = math.ceil((y + height) * mpp) + pad, math.ceil((x + width) * mpp) + pad
    rows = np.clip(np.arange(y0, y1), 0, plane.shape[0] - 1)
    cols = np.clip(np.arange(x0, x1), 0, plane.shape[1] - 1)
    part = plane[rows[:, None], cols]
    box = (x * mpp - x0, y * mpp - y0, (x + width) * mpp - x0, (y + height) * mpp - y0)
    return _resize(part, (height, width), box)


def glass(rng: np.random.Generator, height: int, width: int) -> Image:
    """Empty glass with the same noise as tissue, (height, width, 3) uint8."""
    noise = rng.normal(0, _NOISE, (height, width, 3)) + np.asarray(GLASS_COLOUR) + 0.5
    return np.asarray(np.clip(noise, 0, 255), dtype=np.uint8)


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
