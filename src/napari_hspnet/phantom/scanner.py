"""A scanner: from the light behind a slide to 8-bit colour.

Exposure works block by block. Blur and sharpening read a margin around the
block, noise is drawn in squares fixed to absolute pixels: so the picture does
not depend on how it was cut into blocks.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.tissue import GLASS_COLOUR

__all__ = ["IDENTITY", "Scanner", "blank", "encode", "expose", "margin", "soften", "transmission"]

Image = npt.NDArray[np.uint8]
Light = npt.NDArray[np.float32]

IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

_NOISE_MPP = 0.25
_SQUARE = 256
_REACH = 3.0
_WIDE = 3.5


@dataclass(frozen=True)
class Scanner:
    """What a scanner does to light.

    Attributes
    ----------
    blur_um : float
        Standard deviation of its point spread, µm.
    noise : float
        Standard deviation on white, 8-bit steps, at 0.25 µm per pixel; larger
        pixels gather more light and show less. In the dark it falls with the
        root of the light, to a third.
    sharpen : float
        Unsharp mask: share of the difference to the softened picture that is
        added. Overshoots beside dark edges: the halo.
    sharpen_um : float
        Standard deviation of that softening, µm.
    gamma : float
        Exponent on light; above 1 darkens and adds contrast.
    matrix : tuple of tuple of float
        Mixes red, green, blue as another colour profile would; rows sum to 1
        where grey shall stay grey.
    white : tuple of float
        What clear glass is shown as, 0..255.
    quality : int
        Of its JPEG, 30 to 100.
    subsampling : int
        Pillow's: 0 keeps colour at full resolution, 2 halves it both ways.
    """

    blur_um: float = 0.22
    noise: float = 2.0
    sharpen: float = 0.0
    sharpen_um: float = 0.5
    gamma: float = 1.0
    matrix: tuple[tuple[float, float, float], ...] = IDENTITY
    white: tuple[float, float, float] = (243.0, 242.0, 244.0)
    quality: int = 85
    subsampling: int = 2


def margin(scanner: Scanner, mpp: float) -> int:
    """Pixels of `mpp` µm around a block that exposing it reads."""
    sigmas = [scanner.blur_um, scanner.sharpen_um if scanner.sharpen else 0.0]
    return sum(_radius(s / mpp) for s in sigmas)


def _radius(sigma: float) -> int:
    """Half-width of a kernel; none where it would change nothing that one sees."""
    return math.ceil(_REACH * sigma) if sigma >= 0.2 else 0


def soften(light: Light, sigma: float) -> Light:
    """Gaussian blur of `sigma` pixels, sides kept, border pixels going on.

    Reads three times `sigma` around a pixel, and three pixels more where it is
    wide; then blocks join up to the rounding of float32.
    """
    from scipy.ndimage import correlate1d

    radius = _radius(sigma)
    if not radius:
        return light
    if sigma > _WIDE:
        return _soften_wide(light, sigma)
    at = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (at / sigma) ** 2)
    kernel /= kernel.sum()
    out = np.empty(light.shape, np.float32)
    for c in range(light.shape[2]):
        rows = correlate1d(np.ascontiguousarray(light[..., c]), kernel, axis=0, mode="nearest")
        out[..., c] = correlate1d(rows, kernel, axis=1, mode="nearest")
    return out


def _soften_wide(light: Light, sigma: float) -> Light:
    """Three running means in place of a wide Gaussian: as fast for any width."""
    from scipy.ndimage import uniform_filter1d

    low = math.floor(math.sqrt(4 * sigma * sigma + 1))
    low -= 1 - low % 2
    few = round((12 * sigma * sigma - 3 * low * low - 12 * low - 9) / (-4 * low - 4))
    out = np.empty(light.shape, np.float32)
    for c in range(light.shape[2]):
        plane = np.ascontiguousarray(light[..., c])
        for n in range(3):
            width = low if n < few else low + 2
            for axis in (0, 1):
                plane = uniform_filter1d(plane, width, axis, mode="nearest")
        out[..., c] = plane
    return out


def transmission(rgb: Image) -> Light:
    """Share of light that passes, 1 on glass, of painted pixels (h, w, 3)."""
    clear = np.asarray(GLASS_COLOUR, np.float32)
    return np.asarray(rgb / clear, dtype=np.float32)


def expose(
    light: Light,
    border: int,
    mpp: float,
    scanner: Scanner,
    seed: int,
    y: int,
    x: int,
) -> Image:
    """Take the picture of a block.

    Parameters
    ----------
    light : ndarray of float32, (h + 2 border, w + 2 border, 3)
        Share of light that passes, see `transmission`.
    border : int
        Pixels around the block, at least `margin`.
    mpp : float
        µm per pixel.
    scanner : Scanner
    seed : int
        Of the noise, 0 or more.
    y, x : int
        Absolute position of the block's first pixel; it alone, with the seed,
        decides the noise.

    Returns
    -------
    ndarray of uint8, (h, w, 3)

    Raises
    ------
    ValueError
        If the border is narrower than what exposure reads.
    """
    need = margin(scanner, mpp)
    if border < need:
        raise ValueError(f"exposure reads {need} px around a block, {border} are there")
    if border > need:
        cut = slice(border - need, need - border)
        light = light[cut, cut]
    light = soften(light, scanner.blur_um / mpp)
    if scanner.matrix != IDENTITY:
        light = light @ np.asarray(scanner.matrix, np.float32).T
    light = np.clip(light, 0, None)
    if scanner.gamma != 1:
        light = np.power(light, np.float32(scanner.gamma))
    if scanner.sharpen:
        # On what one sees rather than on light, as scanners' software does.
        light = light + np.float32(scanner.sharpen) * (
            light - soften(light, scanner.sharpen_um / mpp)
        )
    if need:
        light = light[need:-need, need:-need]
    shown = light * np.asarray(scanner.white, np.float32)
    if scanner.noise:
        height, width = shown.shape[:2]
        strength = np.float32(scanner.noise * min(1.0, _NOISE_MPP / mpp))
        grain = _noise(seed, y, x, height, width)
        shown += strength * grain * np.sqrt(np.clip(light, 0.1, 1))
    return np.asarray(np.clip(shown + np.float32(0.5), 0, 255), dtype=np.uint8)


def _noise(seed: int, y: int, x: int, height: int, width: int) -> Light:
    """Unit normal noise of absolute pixels, (height, width, 3)."""
    out = np.empty((height, width, 3), np.float32)
    for row in range(y // _SQUARE, (y + height - 1) // _SQUARE + 1):
        for col in range(x // _SQUARE, (x + width - 1) // _SQUARE + 1):
            rng = np.random.default_rng([seed, 91, row + 2**31, col + 2**31])
            square = rng.standard_normal((_SQUARE, _SQUARE, 3), dtype=np.float32)
            top, left = row * _SQUARE, col * _SQUARE
            y0, x0 = max(top, y), max(left, x)
            y1, x1 = min(top + _SQUARE, y + height), min(left + _SQUARE, x + width)
            out[y0 - y : y1 - y, x0 - x : x1 - x] = square[
                y0 - top : y1 - top, x0 - left : x1 - left
            ]
    return out


def blank(scanner: Scanner, seed: int, mpp: float, height: int, width: int) -> Image:
    """Empty glass, (height, width, 3): white with the scanner's noise."""
    need = margin(scanner, mpp)
    light = np.ones((height + 2 * need, width + 2 * need, 3), np.float32)
    return expose(light, need, mpp, scanner, seed, 0, 0)


def encode(tile: Image, scanner: Scanner, quality: int | None = None) -> bytes:
    """A tile as JPEG, with the scanner's quality unless another is given."""
    from PIL import Image as Pillow

    out = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(tile)).save(
        out,
        "JPEG",
        quality=scanner.quality if quality is None else quality,
        subsampling=scanner.subsampling,
    )
    return out.getvalue()
