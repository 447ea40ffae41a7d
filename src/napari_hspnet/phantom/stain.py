"""Haematoxylin and eosin of a slide: their colours and strengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Stain"]


@dataclass(frozen=True)
class Stain:
    """Haematoxylin and eosin of one slide: vectors in optical density, strengths."""

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    haematoxylin_strength: float
    eosin_strength: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Stain:
        """Stain vectors near the usual ones; hue and strength vary by slide."""

        def vector(base: tuple[float, float, float]) -> tuple[float, float, float]:
            moved = np.clip(np.asarray(base) + rng.normal(0, 0.025, 3), 0.01, 1)
            moved /= np.linalg.norm(moved)
            return float(moved[0]), float(moved[1]), float(moved[2])

        return cls(
            vector((0.62, 0.70, 0.33)),
            vector((0.13, 0.92, 0.36)),
            float(np.exp(rng.normal(0, 0.14))),
            float(np.exp(rng.normal(0, 0.16))),
        )
