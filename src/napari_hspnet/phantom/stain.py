"""Haematoxylin and eosin of a slide: their colours and strengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["STANDARD_STAIN", "Stain", "StainRange"]

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Stain:
    """Haematoxylin and eosin of one slide: vectors in optical density, strengths."""

    haematoxylin: Vector
    eosin: Vector
    haematoxylin_strength: float
    eosin_strength: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Stain:
        """Stain of a slide from the standard laboratory."""
        return STANDARD_STAIN.draw(rng)


@dataclass(frozen=True)
class StainRange:
    """What a laboratory's stains look like, slide by slide.

    Attributes
    ----------
    haematoxylin, eosin : tuple of float
        Base vectors in optical density (red, green, blue); any length.
    haematoxylin_strength, eosin_strength : float
        Medians over slides; 1 is a usual slide.
    haematoxylin_spread, eosin_spread : float
        Standard deviations of the logarithm of strength.
    hue_spread : float
        Standard deviation of each component of a vector of unit length.
    """

    haematoxylin: Vector
    eosin: Vector
    haematoxylin_strength: float = 1.0
    eosin_strength: float = 1.0
    haematoxylin_spread: float = 0.14
    eosin_spread: float = 0.16
    hue_spread: float = 0.025

    def draw(self, rng: np.random.Generator) -> Stain:
        """The stain of one slide; takes eight numbers from `rng`."""

        def vector(base: Vector) -> Vector:
            unit = np.asarray(base) / np.linalg.norm(base)
            moved = np.clip(unit + rng.normal(0, self.hue_spread, 3), 0.01, 1)
            moved /= np.linalg.norm(moved)
            return float(moved[0]), float(moved[1]), float(moved[2])

        return Stain(
            vector(self.haematoxylin),
            vector(self.eosin),
            self.haematoxylin_strength * float(np.exp(rng.normal(0, self.haematoxylin_spread))),
            self.eosin_strength * float(np.exp(rng.normal(0, self.eosin_spread))),
        )


# Between the usual textbook vectors and those measured on the squamous slide
# CMU-1: there eosin absorbs more blue, and nuclei are more blue than violet.
STANDARD_STAIN = StainRange(
    haematoxylin=(0.66, 0.67, 0.33),
    eosin=(0.09, 0.89, 0.44),
)
"""The stain of the standard laboratory (domain A)."""
