"""Closed shapes in a band: glands, vessels, papillae, and epithelium cut across."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["GLAND_WALL", "Pocket", "grow_pocket"]

Floats = npt.NDArray[np.float64]

GLAND_WALL = 22.0
"""Height in µm of the columnar cells that line a gland."""


@dataclass(frozen=True)
class Pocket:
    """A star-shaped region in band coordinates.

    Attributes
    ----------
    kind : str
        ``"island"``: squamous epithelium cut across, such as the tip of a rete
        peg; ``"crypt"``: a gland whose lining squamous epithelium has replaced;
        ``"papilla"``: stroma within the epithelium; ``"gland"``: columnar cells
        around a lumen; ``"vessel"``: a small vessel with blood.
    u, v : float
        Its middle, µm.
    radius : float
        Mean radius, µm.
    stretch : float
        Its long axis by its short one, 1 or more.
    turn : float
        Direction of the long axis in band coordinates, radians.
    waves : tuple of (int, float, float)
        Undulations of the radius: how many around, share, phase.
    """

    kind: str
    u: float
    v: float
    radius: float
    stretch: float
    turn: float
    waves: tuple[tuple[int, float, float], ...]

    @property
    def reach(self) -> float:
        """No point of it lies farther from its middle, µm."""
        return self.radius * math.sqrt(self.stretch) * (1 + sum(abs(w[1]) for w in self.waves))

    def inward(self, u: Floats, v: Floats) -> Floats:
        """About how far inside its border points lie, µm; negative outside (broadcast)."""
        du, dv = u - self.u, v - self.v
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        root = math.sqrt(self.stretch)
        a, b = (cos * du + sin * dv) / root, (cos * dv - sin * du) * root
        angle = np.arctan2(b, a)
        border = np.full(angle.shape, self.radius)
        for count, share, phase in self.waves:
            border += self.radius * share * np.cos(count * angle + phase)
        far = np.hypot(a, b)
        # How long a µm towards the middle is once the stretching is undone.
        scale = np.hypot(du, dv) / np.maximum(far, 1e-6)
        return np.asarray((border - far) * np.where(far > 1e-6, scale, 1.0))

    def outline(self, step: float = 2.0) -> tuple[Floats, Floats]:
        """Its border as a closed line (u, v), a point about every `step` µm."""
        count = max(16, math.ceil(2 * math.pi * self.radius * math.sqrt(self.stretch) / step))
        angle = np.linspace(0, 2 * math.pi, count + 1)
        border = np.full(angle.shape, self.radius)
        for number, share, phase in self.waves:
            border += self.radius * share * np.cos(number * angle + phase)
        root = math.sqrt(self.stretch)
        a, b = border * np.cos(angle) * root, border * np.sin(angle) / root
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return self.u + cos * a - sin * b, self.v + sin * a + cos * b


def grow_pocket(
    rng: np.random.Generator,
    kind: str,
    u: float,
    v: float,
    radius: float,
    stretch: float = 1.0,
    turn: float = 0.0,
    rough: float = 0.12,
) -> Pocket:
    """A pocket with random undulations of about the share `rough`."""
    waves = tuple(
        (count, float(rng.normal(0, rough / count**0.5)), float(rng.uniform(0, 2 * math.pi)))
        for count in (2, 3, 4, 5, 7)
    )
    return Pocket(kind, u, v, radius, stretch, turn, waves)
