"""Where the epithelium lies: a band between basement membrane and surface."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["GLASS", "STROMA", "Band", "field_band", "fragment_band", "pixel_centres"]

GLASS, STROMA = 0, 5
"""Codes beside the class values 1..4 (see `Band.codes`)."""

Floats = npt.NDArray[np.float64]

# Share of the thickness that atypia reaches, by class value 1..4. Normal lies
# below 0 and CIN3 above 1, so that soft changes of grade do not leave a rim.
_REACH = (-0.15, 0.33, 0.66, 1.10)
_CUTS = (0.13, 0.50, 0.84)


def pixel_centres(start: int, count: int, mpp: float) -> Floats:
    """Centres in µm of `count` pixels of `mpp` µm from pixel `start` on."""
    return np.asarray((np.arange(start, start + count) + 0.5) * mpp, dtype=np.float64)


@dataclass(frozen=True)
class Band:
    """A piece of mucosa on a canvas of `height` x `width` µm.

    Band coordinates: `u` µm along the band, `v` µm across it, growing from the
    surface towards the stroma. The tables have one entry a µm of `u`.

    Attributes
    ----------
    height, width : int
        Size of the canvas in µm.
    angle : float
        Direction of `u` on the canvas, radians.
    surface, basement : ndarray of float64, (length,)
        `v` of the surface and of the basement membrane, as they grew.
    upper, deep : ndarray of float64, (length,)
        `v` at which tissue begins and ends: the surface where it is whole, the
        knife's cut at a fragment's ends.
    reach : ndarray of float64, (length,)
        Share of the thickness, from the basement membrane, that is atypical.
    grade : ndarray of uint8, (length,)
        Class value 1..4: the truth of the whole thickness at that `u`.
    """

    height: int
    width: int
    angle: float
    surface: Floats
    basement: Floats
    upper: Floats
    deep: Floats
    reach: Floats
    grade: npt.NDArray[np.uint8]

    @property
    def length(self) -> int:
        """Length of the tables in µm."""
        return int(self.surface.size)

    def to_band(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Band coordinates (u, v) of canvas points in µm (broadcast)."""
        dy, dx = y - self.height / 2, x - self.width / 2
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return cos * dx + sin * dy + self.length / 2, cos * dy - sin * dx

    def to_canvas(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Canvas points (y, x) in µm of band coordinates."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        du = u - self.length / 2
        return self.height / 2 + sin * du + cos * v, self.width / 2 + cos * du - sin * v

    def index(self, u: Floats) -> npt.NDArray[np.intp]:
        """Table index of `u`, clipped to the band."""
        return np.clip(np.floor(u), 0, self.length - 1).astype(np.intp)

    def depth(self, u: Floats, v: Floats) -> Floats:
        """Share of the thickness above the basement membrane (0) to the surface (1)."""
        i = self.index(u)
        thickness = np.maximum(self.basement[i] - self.surface[i], 1.0)
        return np.asarray((self.basement[i] - v) / thickness)

    def codes(self, y: Floats, x: Floats) -> npt.NDArray[np.uint8]:
        """What lies at canvas points, pixel by pixel and independent of the block.

        Parameters
        ----------
        y, x : ndarray of float64
            µm on the canvas, broadcast against each other.

        Returns
        -------
        ndarray of uint8
            `GLASS`, `STROMA`, or the class value 1..4 in the epithelium.
        """
        u, v = self.to_band(y, x)
        i = self.index(u)
        on = (u >= 0) & (u < self.length)
        tissue = on & (v >= self.upper[i]) & (v < self.deep[i])
        out = np.where(v < self.basement[i], self.grade[i], np.uint8(STROMA))
        return np.where(tissue, out, np.uint8(GLASS)).astype(np.uint8)


def _wave(rng: np.random.Generator, length: int, sigma: float) -> Floats:
    """Smooth noise of unit standard deviation and about `sigma` µm correlation."""
    from scipy.ndimage import gaussian_filter1d

    margin = int(4 * sigma)
    raw = gaussian_filter1d(rng.standard_normal(length + 2 * margin), sigma, mode="wrap")
    # The theoretical deviation, not the sample's: on short bands the latter
    # would stretch one long wave into a steep one.
    unit = math.sqrt(1.0 / (2.0 * math.sqrt(math.pi) * sigma))
    return np.asarray(raw[margin : margin + length] / unit)


def _profile(
    rng: np.random.Generator, length: int, span: float, grades: Sequence[int] | None
) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Reach and grade along the band; changes of grade are soft (sigma 40 µm)."""
    from scipy.ndimage import gaussian_filter1d

    if grades is None:
        count = 1 + int(rng.integers(0, max(2, round(span / 350)) + 1))
        chosen = [int(rng.integers(1, 5))]
        while len(chosen) < count:
            step = int(rng.choice((-2, -1, 1, 2), p=(0.12, 0.38, 0.38, 0.12)))
            if 1 <= chosen[-1] + step <= 4:
                chosen.append(chosen[-1] + step)
    else:
        chosen = [int(g) for g in grades]
    count = len(chosen)
    start = length / 2 - span / 2
    jitter = rng.uniform(-0.22, 0.22, count - 1)
    cuts = start + span * (np.arange(1, count) + jitter) / count
    which = np.searchsorted(cuts, np.arange(length) + 0.5)
    reach = np.asarray(_REACH)[np.asarray(chosen) - 1][which]
    reach = gaussian_filter1d(reach, 40.0, mode="nearest")
    reach = reach + 0.025 * _wave(rng, length, 30.0)
    grade = (1 + np.digitize(reach, _CUTS)).astype(np.uint8)
    return reach, grade


def _thickness(rng: np.random.Generator, length: int) -> Floats:
    mean = rng.uniform(190, 420)
    wave = _wave(rng, length, 180.0) * 0.16 * mean + _wave(rng, length, 45.0) * 8.0
    return np.asarray(np.clip(mean + wave, 150.0, 500.0))


def _membrane(rng: np.random.Generator, length: int) -> Floats:
    """Undulation of the basement membrane: long waves and blunt rete pegs."""
    pegs = rng.uniform(6, 26) * np.tanh(1.2 * _wave(rng, length, rng.uniform(22, 40)))
    return np.asarray(rng.uniform(15, 50) * _wave(rng, length, 220.0) + pegs)


def _surface(rng: np.random.Generator, basement: Floats, thickness: Floats) -> Floats:
    """The surface follows the membrane's long waves alone: pegs do not reach it."""
    from scipy.ndimage import gaussian_filter1d

    ragged = 2.0 * _wave(rng, basement.size, 6.0)
    top = gaussian_filter1d(basement, 70.0, mode="nearest") - thickness + ragged
    return np.asarray(np.clip(top, basement - 500.0, basement - 110.0))


def _rounded(end: npt.NDArray[np.floating], radius: float) -> Floats:
    """Share of its width that a fragment has `end` µm from its end: 0 to 1."""
    return np.asarray(np.sqrt(np.clip(1 - (1 - np.clip(end / radius, 0, 1)) ** 2, 0, 1)))


def field_band(
    rng: np.random.Generator,
    height: int,
    width: int,
    grades: Sequence[int] | None = None,
    whole: bool = False,
) -> Band:
    """A band across the canvas: glass above it, stroma below it.

    Unless `whole`, the stroma may end and the band may be cut within the
    canvas, so that fields show what fragments on a slide do.

    Parameters
    ----------
    rng : numpy Generator
        Source of everything random.
    height, width : int
        Canvas in µm.
    grades : sequence of int, optional
        Class values 1..4 along the band; random where None.
    whole : bool
        No ends within the canvas.
    """
    length = math.ceil(math.hypot(height, width)) + 200
    thickness = _thickness(rng, length)
    basement = _membrane(rng, length)
    shift = float(rng.normal(0, 0.1) * min(height, width))
    basement = basement + float(thickness.mean()) / 2 + shift
    surface = _surface(rng, basement, thickness)
    angle = float(rng.uniform(0, 2 * math.pi))
    reach, grade = _profile(rng, length, min(height, width), grades)
    upper, deep = surface, np.full(length, np.inf)
    if not whole and rng.random() < 0.6:
        depth = rng.uniform(80, 500) * (1 + 0.18 * _wave(rng, length, 90.0))
        deep = basement + np.maximum(depth, 30.0)
        if rng.random() < 0.6:
            reach_of_view = min(height, width)
            end = length / 2 + rng.uniform(-0.05, 0.5) * reach_of_view - np.arange(length)
            share = _rounded(end if rng.random() < 0.5 else end[::-1], rng.uniform(120, 330))
            middle = (surface + deep) / 2
            upper = middle + (surface - middle) * share
            deep = middle + (deep - middle) * share
    return Band(height, width, angle, surface, basement, upper, deep, reach, grade)


def fragment_band(
    rng: np.random.Generator, height: int, width: int, grades: Sequence[int] | None = None
) -> Band:
    """A fragment with glass all around that fits its canvas (µm)."""
    angle = float(rng.uniform(-0.16, 0.16))
    lean = abs(math.sin(angle))
    length = max(60, int(0.94 * width - lean * height * 0.6))
    room = max(60.0, 0.92 * height - lean * length)
    thickness = np.minimum(_thickness(rng, length), 0.55 * room)
    scale = min(1.0, room / 1100.0)
    bend = rng.uniform(-0.10, 0.10) * room
    along = np.linspace(-1, 1, length)
    basement = _membrane(rng, length) * scale + bend * along**2
    surface = _surface(rng, basement, thickness) if room > 400 else basement - thickness
    depth = rng.uniform(0.55, 0.95) * np.maximum(room - float(thickness.max()) - abs(bend), 40.0)
    deep = basement + depth * (1 + 0.18 * _wave(rng, length, 90.0))
    deep = np.maximum(deep, basement + 30.0)
    # Rounded ends: the knife's cut, narrowing towards a middle line.
    end = np.minimum(np.arange(length) + 0.5, length - 0.5 - np.arange(length))
    round_ = _rounded(end, 0.16 * length)
    middle, offset = (surface + deep) / 2, (float(surface.min()) + float(deep.max())) / 2
    limit = room / 2
    upper = np.maximum(middle + (surface - middle) * round_ - offset, -limit)
    deep = np.minimum(middle + (deep - middle) * round_ - offset, limit)
    surface, basement = surface - offset, basement - offset
    reach, grade = _profile(rng, length, length, grades)
    return Band(height, width, angle, surface, basement, upper, deep, reach, grade)
