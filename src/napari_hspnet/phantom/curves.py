"""Curved strokes: a wavy line or arc, and coordinates along and across it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Curve", "bent", "wave"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A stroke; coordinates `s` µm along it and `d` µm across it.

    Attributes
    ----------
    y, x : float
        Its middle, of an arc the centre of the circle, µm.
    angle : float
        Direction of `s`; of an arc where it begins. Radians.
    radius : float
        Of an arc, µm; 0 for a line.
    offset : ndarray of float64, (length,)
        By how much it departs from the straight line or the circle, one entry
        a µm; gentle, so that `d` is nearly a distance.
    """

    y: float
    x: float
    angle: float
    radius: float
    offset: Floats

    @property
    def length(self) -> int:
        """Length in µm."""
        return int(self.offset.size)

    def coordinates(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """(s, d) of points in µm (broadcast); d goes on straight beyond the ends."""
        dy, dx = y - self.y, x - self.x
        if self.radius:
            turn = np.mod(np.arctan2(dy, dx) - self.angle, 2 * math.pi)
            s, d = turn * self.radius, np.hypot(dy, dx) - self.radius
            # Half of the gap lies before the beginning.
            gap = 2 * math.pi * self.radius - self.length
            s = np.where(s > self.length + gap / 2, s - 2 * math.pi * self.radius, s)
        else:
            cos, sin = math.cos(self.angle), math.sin(self.angle)
            s, d = cos * dx + sin * dy + self.length / 2, cos * dy - sin * dx
        at = np.clip(s, 0, self.length - 1.001)
        i = at.astype(np.intp)
        share = at - i
        return s, d - self.offset[i] * (1 - share) - self.offset[i + 1] * share

    def box(self, half: float) -> tuple[float, float, float, float]:
        """(y0, x0, y1, x1) around the stroke, `half` µm to each side, and its tips."""
        reach = half + float(np.abs(self.offset).max()) + 4
        if self.radius:
            tall = wide = self.radius + reach
        else:
            wide = abs(math.cos(self.angle)) * self.length / 2 + reach
            tall = abs(math.sin(self.angle)) * self.length / 2 + reach
        return self.y - tall, self.x - wide, self.y + tall, self.x + wide

    def near(self, box: tuple[float, float, float, float], half: float) -> bool:
        """Whether a box may hold a point within `half` µm; never wrongly False."""
        y0, x0, y1, x1 = box
        size = math.hypot(y1 - y0, x1 - x0) / 2
        s, d = self.coordinates(np.asarray((y0 + y1) / 2), np.asarray((x0 + x1) / 2))
        # Across a table of slope up to 1, `d` changes by no more than twice the way.
        reach = half + 4 + 2 * size
        return abs(float(d)) <= reach and (
            bool(self.radius) or -reach <= float(s) <= self.length + reach
        )


def wave(rng: np.random.Generator, length: int, scale: float) -> Floats:
    """Smooth noise of about unit deviation and wavelengths around 6 `scale` µm."""
    at = np.arange(length, dtype=np.float64)
    total = np.zeros(length)
    for _ in range(6):
        period = 6 * scale * math.exp(float(rng.uniform(-0.7, 0.7)))
        total += np.sin(2 * math.pi * at / period + float(rng.uniform(0, 2 * math.pi)))
    return total / math.sqrt(3.0)


def bent(
    rng: np.random.Generator,
    y: float,
    x: float,
    angle: float,
    length: float,
    bow: float,
    fine: float,
    turn: float = 0.0,
) -> Curve:
    """A stroke as a hand or a crease makes it.

    Parameters
    ----------
    rng : numpy Generator
    y, x, angle, length : float
        Middle (of an arc its circle's), direction in radians, µm along it.
    bow : float
        Deviation of its long wave as a share of its length.
    fine : float
        Deviation of its short waves, µm.
    turn : float
        Share of a full circle that an arc makes; 0 for a line.
    """
    count = max(4, math.ceil(length))
    offset = bow * length * wave(rng, count, length / 5)
    offset += fine * wave(rng, count, max(12.0, 6 * fine))
    radius = length / (2 * math.pi * turn) if turn else 0.0
    return Curve(y, x, angle, radius, offset)
