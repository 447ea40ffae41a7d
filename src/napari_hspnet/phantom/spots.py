"""Round artefacts: patches out of focus, dust, air bubbles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.effects import Box, crosses, tinted
from napari_hspnet.phantom.scanner import soften

__all__ = ["Bubble", "Defocus", "Dust"]

Floats = npt.NDArray[np.float64]
Light = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Spot:
    """What is round, with a wavy outline."""

    y: float
    x: float
    radius: float
    lobes: tuple[float, float, float] = (0.0, 0.0, 0.0)
    reads: float = 0.0

    @property
    def box(self) -> Box:
        r = self.radius * 1.5 + 6
        return self.y - r, self.x - r, self.y + r, self.x + r

    def meets(self, box: Box) -> bool:
        return crosses(self.box, box)

    def _place(self, y: Floats, x: Floats) -> tuple[Light, Light, Light]:
        """Offsets from the centre, and distance from it in radii."""
        dy = (y[:, None] - self.y).astype(np.float32)
        dx = (x[None, :] - self.x).astype(np.float32)
        r, theta = np.hypot(dy, dx), np.arctan2(dy, dx)
        a, b, c = self.lobes
        outline = 1 + a * np.sin(2 * theta + b) + 0.5 * a * np.sin(3 * theta + c)
        return dy, dx, np.asarray(r / (self.radius * outline), np.float32)


@dataclass(frozen=True)
class Defocus(_Spot):
    """A patch out of focus; the blur grows towards its middle."""

    sigma: float = 3.0

    def apply(self, light: Light, y: Floats, x: Floats, mpp: float) -> Light:
        q = self._place(y, x)[2]
        grade = np.clip(1 - q * q, 0, 1) * 3
        out = light.copy()
        before = light
        for step in (1, 2, 3):
            after = soften(light, self.sigma * step / 3 / mpp)
            share = np.clip(grade - (step - 1), 0, 1)[..., None]
            out += share * (after - before)
            before = after
        return out


@dataclass(frozen=True)
class Dust(_Spot):
    """A speck on the glass, itself not quite in focus."""

    colour: tuple[float, float, float] = (0.3, 0.3, 0.3)
    soft: float = 2.0

    def apply(self, light: Light, y: Floats, x: Floats, mpp: float) -> Light:
        q = self._place(y, x)[2]
        on = np.clip((1 - q) * self.radius / self.soft + 0.5, 0, 1)
        return np.asarray(light * tinted(self.colour, on), np.float32)


@dataclass(frozen=True)
class Bubble(_Spot):
    """An air bubble under the cover glass: its edge bends light, its inside is hazy."""

    edge: float = 14.0

    def apply(self, light: Light, y: Floats, x: Floats, mpp: float) -> Light:
        from scipy.ndimage import map_coordinates

        dy, dx, q = self._place(y, x)
        away = (1 - q) * self.radius
        inside = np.clip(away / 3 + 0.5, 0, 1)
        # Near the edge one sees what lies further out.
        bend = self.reads * 0.7 * np.exp(-((away / (2 * self.edge)) ** 2)) * inside
        i, j = np.nonzero(bend > 0.02 * mpp)
        push = bend[i, j] / np.maximum(np.hypot(dy[i, 0], dx[0, j]), 1.0) / mpp
        there = np.stack([i + push * dy[i, 0], j + push * dx[0, j]])
        seen = light.copy()
        for c in range(3):
            seen[i, j, c] = map_coordinates(light[..., c], there, order=1, mode="nearest")
        seen = 1 - (1 - seen) * np.float32(0.82)
        out = light + inside[..., None] * (seen - light)
        dark = 0.62 * np.exp(-(((away - 2) / (0.45 * self.edge)) ** 2))
        dark += 0.16 * np.exp(-(((away - 2.4 * self.edge) / self.edge) ** 2))
        bright = 0.10 * np.exp(-(((away + 0.7 * self.edge) / (0.4 * self.edge)) ** 2))
        return np.asarray(out * (1 - dark + bright)[..., None], np.float32)
