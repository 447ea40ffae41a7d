"""How bands grow: their course, their grades, what else lies in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.geometry import CUTS, LOOKS, Band, Floats
from napari_hspnet.phantom.pockets import Pocket, grow_pocket

__all__ = ["field_band", "fragment_band"]

# Share of the thickness that atypia reaches, by class value 1..4. Normal lies
# below 0 and CIN3 above 1, so that soft changes of grade do not leave a rim.
_REACH = (-0.15, 0.33, 0.66, 1.10)
# How often epithelium without atypia looks each of LOOKS.
_LOOKS = (0.56, 0.13, 0.09, 0.12, 0.10)
# Its thickness in µm, between the least and the most.
_THICKNESS = ((190, 420), (190, 380), (60, 115), (170, 360), (110, 210))
_COLUMNAR_HEIGHT = 26.0


@dataclass(frozen=True)
class _Course:
    """Tables along a band; see `Band`."""

    reach: Floats
    grade: npt.NDArray[np.uint8]
    look: npt.NDArray[np.uint8]
    koilocytes: Floats
    thickness: Floats
    columnar: npt.NDArray[np.bool_]


def _wave(rng: np.random.Generator, length: int, sigma: float) -> Floats:
    """Smooth noise of unit standard deviation and about `sigma` µm correlation."""
    from scipy.ndimage import gaussian_filter1d

    margin = int(4 * sigma)
    raw = gaussian_filter1d(rng.standard_normal(length + 2 * margin), sigma, mode="wrap")
    # The theoretical deviation, not the sample's: on short bands the latter
    # would stretch one long wave into a steep one.
    unit = math.sqrt(1.0 / (2.0 * math.sqrt(math.pi) * sigma))
    return np.asarray(raw[margin : margin + length] / unit)


def _grades(rng: np.random.Generator, span: float, grades: Sequence[int] | None) -> list[int]:
    if grades is not None:
        return [int(g) for g in grades]
    count = 1 + int(rng.integers(0, max(1, round(span / 600)) + 1))
    chosen = [int(rng.integers(1, 5))]
    while len(chosen) < count:
        step = int(rng.choice((-2, -1, 1, 2), p=(0.12, 0.38, 0.38, 0.12)))
        if 1 <= chosen[-1] + step <= 4:
            chosen.append(chosen[-1] + step)
    return chosen


def _course(
    rng: np.random.Generator,
    length: int,
    span: float,
    grades: Sequence[int] | None,
    columnar: tuple[int, int] | None = None,
) -> _Course:
    """Grades along the band with soft changes (sigma 30 µm), and what goes with them."""
    from scipy.ndimage import gaussian_filter1d

    chosen = _grades(rng, span, grades)
    count = len(chosen)
    jitter = rng.uniform(-0.22, 0.22, count - 1)
    cuts = length / 2 - span / 2 + span * (np.arange(1, count) + jitter) / count
    which = np.searchsorted(cuts, np.arange(length) + 0.5)
    reach = np.asarray(_REACH)[np.asarray(chosen) - 1][which]
    reach = gaussian_filter1d(reach, 30.0, mode="nearest")
    reach = reach + 0.025 * _wave(rng, length, 30.0)
    grade = (1 + np.digitize(reach, CUTS)).astype(np.uint8)

    looks, mean, wet = [], [], []
    for g in chosen:
        look = int(rng.choice(len(LOOKS), p=_LOOKS)) if g == 1 else 0
        looks.append(look)
        mean.append(float(rng.uniform(*_THICKNESS[look])))
        # Koilocytes belong to the virus's low grades, and fade in higher ones.
        often, most = ((0.0, 0.0), (0.75, 0.6), (0.45, 0.3), (0.1, 0.1))[g - 1]
        wet.append(float(rng.uniform(0.15, 1.0) * most) if rng.random() < often else 0.0)
    thickness = gaussian_filter1d(np.asarray(mean)[which], 60.0, mode="nearest")
    thickness = thickness * (1 + 0.16 * _wave(rng, length, 180.0))
    thickness = thickness + 7.0 * _wave(rng, length, 45.0)
    koilocytes = gaussian_filter1d(np.asarray(wet)[which], 40.0, mode="nearest")
    bare = np.zeros(length, bool)
    thickness = np.clip(thickness, 50.0, 500.0)
    if columnar is not None:
        bare[slice(*columnar)] = True
        # Squamous epithelium thins out towards the junction over about 100 µm.
        full = gaussian_filter1d((~bare).astype(float), 90.0, mode="nearest")
        full = np.clip(2 * full - 1, 0, 1) ** 1.4
        ragged = 3.0 * _wave(rng, length, 9.0)
        thickness = thickness * full + (_COLUMNAR_HEIGHT + ragged) * (1 - full)
    return _Course(reach, grade, np.asarray(looks, np.uint8)[which], koilocytes, thickness, bare)


def _membrane(rng: np.random.Generator, length: int, course: _Course) -> Floats:
    """Undulation of the basement membrane: long waves and blunt rete pegs."""
    pegs = rng.uniform(6, 30) * np.tanh(1.2 * _wave(rng, length, rng.uniform(22, 40)))
    # Thin epithelium has none.
    pegs = pegs * np.clip((course.thickness - 60) / 140, 0.1, 1)
    return np.asarray(rng.uniform(15, 60) * _wave(rng, length, 220.0) + pegs)


def _surface(rng: np.random.Generator, basement: Floats, course: _Course) -> Floats:
    """The surface follows the membrane's long waves alone: pegs do not reach it."""
    from scipy.ndimage import gaussian_filter1d

    rough = 2.0 * _wave(rng, basement.size, 6.0) + 1.0 * _wave(rng, basement.size, 2.0)
    top = gaussian_filter1d(basement, 70.0, mode="nearest") - course.thickness + rough
    least = np.minimum(course.thickness, 110.0)
    return np.asarray(np.clip(top, basement - 500.0, basement - np.maximum(0.75 * least, 16.0)))


def _rounded(end: npt.NDArray[np.floating], radius: float) -> Floats:
    """Share of its width that a fragment has `end` µm from its end: 0 to 1."""
    return np.asarray(np.sqrt(np.clip(1 - (1 - np.clip(end / radius, 0, 1)) ** 2, 0, 1)))


def _pockets(rng: np.random.Generator, band: Band, low: float, high: float) -> tuple[Pocket, ...]:
    """Glands, vessels, islands, crypts and papillae between `low` and `high` along the band."""
    span = high - low
    out: list[Pocket] = []
    taken: list[tuple[float, float, float]] = []

    def room_for(u: float, v: float, radius: float) -> bool:
        return all(math.hypot(u - a, v - b) > radius + c for a, b, c in taken)

    def put(kind: str, count: int, sizes: tuple[float, float], gap: float, far: float) -> None:
        for _ in range(count):
            for _ in range(4):
                radius = float(rng.uniform(*sizes))
                u = float(rng.uniform(low, high))
                here = int(band.index(np.asarray(u)))
                deep = min(float(band.deep[here]), float(band.basement[here]) + far)
                top = float(band.basement[here]) + gap
                stretch = float(rng.uniform(1.0, 2.2))
                turn = float(rng.uniform(0, math.pi))
                pocket = grow_pocket(rng, kind, u, 0.0, radius, stretch, turn, 0.07)
                if deep - top < 2.4 * radius or (kind == "island" and band.columnar[here]):
                    continue
                v = float(rng.uniform(top + 1.1 * radius, deep - 1.1 * radius))
                if not room_for(u, v, pocket.reach):
                    continue
                taken.append((u, v, pocket.reach))
                out.append(Pocket(kind, u, v, radius, stretch, turn, pocket.waves))
                break

    per_mm = span / 1000
    sick = (band.grade >= 3) & ~band.columnar
    if rng.random() < 0.55:
        # Glands come in clusters; where there is high-grade disease, it grows into some.
        for _ in range(1 + int(rng.integers(0, 1 + max(1, round(per_mm))))):
            middle = float(rng.uniform(low, high))
            for _ in range(int(rng.integers(2, 8))):
                u = float(np.clip(rng.normal(middle, 150), low, high))
                here = int(band.index(np.asarray(u)))
                grown = bool(sick[here]) and rng.random() < 0.35
                radius = float(rng.uniform(50, 110) if grown else rng.uniform(35, 90))
                v = float(band.basement[here]) + radius + float(rng.uniform(25, 420))
                if v + radius > float(band.deep[here]) - 10:
                    continue
                kind = "crypt" if grown else "gland"
                pocket = grow_pocket(
                    rng, kind, u, v, radius, float(rng.uniform(1, 2.6)),
                    float(rng.normal(math.pi / 2, 0.6)), 0.17,
                )  # fmt: skip
                if room_for(u, v, pocket.reach):
                    taken.append((u, v, pocket.reach))
                    out.append(pocket)
    put("island", int(rng.poisson(0.9 * per_mm)), (28.0, 75.0), 22.0, 190.0)
    put("vessel", int(rng.poisson(9 * per_mm)), (7.0, 26.0), 12.0, 700.0)
    # Papillae: fingers of stroma that the knife met within thick epithelium.
    for _ in range(int(rng.poisson(3.0 * per_mm))):
        u = float(rng.uniform(low, high))
        here = int(band.index(np.asarray(u)))
        thickness = float(band.basement[here] - band.surface[here])
        if thickness < 170 or band.columnar[here]:
            continue
        radius = float(rng.uniform(9, 20))
        v = float(band.basement[here]) - thickness * float(rng.uniform(0.12, 0.42))
        stretch, turn = float(rng.uniform(1.2, 3.2)), float(rng.normal(math.pi / 2, 0.25))
        out.append(grow_pocket(rng, "papilla", u, v, radius, stretch, turn))
    return tuple(out)


def _inflamed(rng: np.random.Generator, course: _Course) -> float:
    level = float(rng.choice((0.08, 0.3, 0.9), p=(0.35, 0.4, 0.25)))
    if LOOKS.index("inflamed") in course.look:
        level = max(level, 0.6)
    return level


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
    reach_of_view = min(height, width)
    diagonal = math.hypot(height, width)
    length = math.ceil(diagonal) + 200
    columnar = None
    if not whole and rng.random() < 0.15:
        start = int(length / 2 + reach_of_view * rng.uniform(0.15, 0.45))
        columnar = (start, length) if rng.random() < 0.5 else (0, length - start)
    course = _course(rng, length, reach_of_view, grades, columnar)
    basement = _membrane(rng, length, course)
    shift = float(rng.normal(0, 0.1) * reach_of_view)
    basement = basement + float(course.thickness.mean()) / 2 + shift
    surface = _surface(rng, basement, course)
    angle = float(rng.uniform(0, 2 * math.pi))
    bend = float(rng.uniform(-1, 1)) / (2.2 * diagonal)
    upper, deep = surface, np.full(length, np.inf)
    if not whole and rng.random() < 0.6:
        depth = rng.uniform(80, 500) * (1 + 0.18 * _wave(rng, length, 90.0))
        depth = depth + 6.0 * _wave(rng, length, 8.0)
        deep = basement + np.maximum(depth, 30.0)
        if rng.random() < 0.6:
            end = length / 2 + rng.uniform(-0.05, 0.5) * reach_of_view - np.arange(length)
            share = _rounded(end if rng.random() < 0.5 else end[::-1], rng.uniform(120, 330))
            middle = (surface + deep) / 2
            upper = middle + (surface - middle) * share
            deep = middle + (deep - middle) * share
    return _finish(
        rng, height, width, angle, bend, surface, basement, upper, deep, course,
        (length - diagonal) / 2, (length + diagonal) / 2,
    )  # fmt: skip


def fragment_band(
    rng: np.random.Generator, height: int, width: int, grades: Sequence[int] | None = None
) -> Band:
    """A fragment with glass all around that fits its canvas (µm)."""
    angle = float(rng.uniform(-0.16, 0.16))
    lean = abs(math.sin(angle))
    length = max(60, int(0.94 * width - lean * height * 0.6))
    room = max(60.0, 0.92 * height - lean * length)
    # How far the ends hang down (or up), as the band lies along a circle.
    sagitta = float(rng.uniform(-0.2, 0.2)) * room
    bend = 8 * sagitta / (length**2 + 4 * sagitta**2)
    # Its outer side is longer than its middle.
    length = max(60, int(length / (1 + abs(bend) * room / 2)))
    room = room - abs(sagitta)
    columnar = None
    if grades is None and length > 500 and rng.random() < 0.35:
        part = int(length * rng.uniform(0.15, 0.35))
        columnar = (0, part) if rng.random() < 0.5 else (length - part, length)
    course = _course(rng, length, length, grades, columnar)
    thickness = np.minimum(course.thickness, 0.55 * room)
    scale = min(1.0, room / 1100.0)
    basement = _membrane(rng, length, course) * scale
    surface = _surface(rng, basement, course) if room > 400 else basement - thickness
    depth = rng.uniform(0.55, 0.95) * max(room - float(thickness.max()), 40.0)
    deep = basement + depth * (1 + 0.18 * _wave(rng, length, 90.0))
    deep = np.maximum(deep + 5.0 * _wave(rng, length, 8.0) * scale, basement + 30.0)
    # Rounded ends: the knife's cut, narrowing towards a middle line.
    end = np.minimum(np.arange(length) + 0.5, length - 0.5 - np.arange(length))
    round_ = _rounded(end, rng.uniform(0.08, 0.2) * length)
    offset = (float(surface.min()) + float(deep.max())) / 2 + sagitta / 2
    middle = (surface + deep) / 2
    limit = room / 2
    upper = np.maximum(middle + (surface - middle) * round_ - offset, -limit - sagitta / 2)
    deep = np.minimum(middle + (deep - middle) * round_ - offset, limit - sagitta / 2)
    surface, basement = surface - offset, basement - offset
    return _finish(
        rng, height, width, angle, bend, surface, basement, upper, deep, course, 0.0, length
    )


def _finish(
    rng: np.random.Generator,
    height: int,
    width: int,
    angle: float,
    bend: float,
    surface: Floats,
    basement: Floats,
    upper: Floats,
    deep: Floats,
    course: _Course,
    low: float,
    high: float,
) -> Band:
    """The band with its pockets between two places along it."""

    def band(pockets: tuple[Pocket, ...]) -> Band:
        return Band(
            height, width, angle, surface, basement, upper, deep, course.reach, course.grade,
            bend, course.look, course.koilocytes, course.columnar, pockets, inflamed,
        )  # fmt: skip

    inflamed = _inflamed(rng, course)
    return band(_pockets(rng, band(()), low, high))
