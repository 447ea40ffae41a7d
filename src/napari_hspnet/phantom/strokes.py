"""Artefacts along a curve: folds, knife lines, lint, pen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.curves import Curve
from napari_hspnet.phantom.effects import Box, crosses, tinted
from napari_hspnet.phantom.scanner import soften

__all__ = ["Chatter", "Fibre", "Fold", "Knife", "Pen"]

Floats = npt.NDArray[np.float64]
Light = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Along:
    """What lies along a curve."""

    curve: Curve
    half: float
    reads: float = 0.0

    @property
    def box(self) -> Box:
        return self.curve.box(self.half)

    def meets(self, box: Box) -> bool:
        return crosses(self.box, box) and self.curve.near(box, self.half)

    def _place(self, y: Floats, x: Floats) -> tuple[Light, Light]:
        s, d = self.curve.coordinates(y[:, None], x[None, :])
        return s.astype(np.float32), d.astype(np.float32)

    def _taper(self, s: Light) -> Light:
        """1 along the curve, falling to 0 at its ends."""
        share = np.clip(s / np.float32(self.curve.length), 0, 1)
        return np.asarray(np.sqrt(np.sin(np.pi * share).clip(0)), np.float32)


@dataclass(frozen=True)
class Fold(_Along):
    """A curved strip where tissue lies double: dark, and a little out of focus."""

    def apply(self, light: Light, y: Floats, x: Floats, mpp: float) -> Light:
        s, d = self._place(y, x)
        half = self.half * self._taper(s) * (0.8 + 0.2 * np.sin(s / 37.0))
        inside = np.clip((half - np.abs(d)) / 1.0 + 0.5, 0, 1)[..., None]
        across = 2 * self.half
        sy = round(across * math.cos(self.curve.angle) / mpp)
        sx = round(-across * math.sin(self.curve.angle) / mpp)
        second = np.roll(light, (-sy, -sx), axis=(0, 1))
        double = soften(light * second, 0.8 / mpp)
        # The two bends of the strip are thicker still.
        bend = np.exp(-(((np.abs(d) - half) / 1.6) ** 2)) * (half > 1)
        double = np.power(np.clip(double, 1e-3, 1), 1 + 0.6 * bend[..., None])
        return np.asarray(light + inside * (double - light), np.float32)


@dataclass(frozen=True)
class Knife(_Along):
    """A scratch of the knife: a thin straight slit through which glass shows."""

    def apply(self, light: Light, y: Floats, x: Floats, mpp: float) -> Light:
        s, d = self._place(y, x)
        half = self.half * self._taper(s) * (0.7 + 0.3 * np.sin(s / 11.0) * np.sin(s / 29.0 + 1))
        open_ = np.float32(0.85) * np.clip((half - np.abs(d)) / 0.7 + 0.5, 0, 1)
        return np.asarray(light + open_[..., None] * (1 - light), np.float32)


@dataclass(frozen=True)
class Chatter(_Along):
    """Stripes thick and thin, from a knife that trembles."""

    period: float = 40.0
    depth: float = 0.25

    def apply(self, light: Light, y: Floats, x: Floats, mpp: float) -> Light:
        s, d = self._place(y, x)
        window = self._taper(s) * np.clip(1.5 - 1.5 * np.abs(d) / self.half, 0, 1)
        stripe = np.sin((2 * np.pi / self.period) * s + 0.6 * np.sin(s / 90.0))
        factor = 1 + np.float32(self.depth) * window * stripe
        return np.asarray(np.power(np.clip(light, 1e-3, 1), factor[..., None]), np.float32)


@dataclass(frozen=True)
class Fibre(_Along):
    """A thread of lint on the glass."""

    colour: tuple[float, float, float] = (0.4, 0.4, 0.5)

    def apply(self, light: Light, y: Floats, x: Floats, mpp: float) -> Light:
        s, d = self._place(y, x)
        on = np.clip((self.half - np.abs(d)) / 1.2 + 0.5, 0, 1)
        on = on * ((s > 0) & (s < self.curve.length))
        return np.asarray(light * tinted(self.colour, on), np.float32)


@dataclass(frozen=True)
class Pen(_Along):
    """A stroke of a felt pen on the cover glass, over tissue and glass alike."""

    colour: tuple[float, float, float] = (0.2, 0.3, 0.8)
    streaks: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def apply(self, light: Light, y: Floats, x: Floats, mpp: float) -> Light:
        s, d = self._place(y, x)
        length = np.float32(self.curve.length)
        # Round tips.
        beyond = np.maximum(np.maximum(self.half - s, s - (length - self.half)), 0)
        away = np.hypot(d, beyond)
        edge = np.clip((self.half - away) / 14.0, 0, 1)
        a, b, c = self.streaks
        ink = 0.85 + 0.05 * np.sin(d / 23.0 + a + 1.5 * np.sin(s / 700.0))
        ink += 0.03 * np.sin(d / 9.0 + b + np.sin(s / 330.0)) + 0.08 * np.sin(s / 480.0 + c)
        ink += 0.2 * np.exp(-(((self.half - away) / 22.0) ** 2))
        return np.asarray(light * tinted(self.colour, edge * ink), np.float32)
