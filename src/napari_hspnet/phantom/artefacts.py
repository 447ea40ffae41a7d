"""What goes wrong between tissue and picture: folds, pen, bubbles, dust and more.

Every artefact is drawn in µm on a fragment or a slide and works on light block
by block, from positions alone: the result does not depend on the cut. The
truth keeps its labels under artefacts: a fold, a stroke or a blurred patch hides
tissue but does not change what it is, and nothing is moved (the second layer of
a fold lies on tissue that keeps its place).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.curves import Curve, bent
from napari_hspnet.phantom.effects import Artefact, Box
from napari_hspnet.phantom.spots import Bubble, Defocus, Dust
from napari_hspnet.phantom.strokes import Chatter, Fibre, Fold, Knife, Pen

__all__ = ["Artefact", "Box", "Rates", "apply_all", "draw_on_glass", "draw_on_tissue", "reading"]

Floats = npt.NDArray[np.float64]
Light = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rates:
    """How often artefacts occur, each a mean number a mm²."""

    fold: float = 0.06
    knife: float = 0.06
    chatter: float = 0.04
    defocus: float = 0.06
    dust: float = 0.4
    fibre: float = 0.01
    pen: float = 0.002
    bubble: float = 0.003


_PENS = (
    (0.16, 0.22, 0.62),
    (0.08, 0.09, 0.12),
    (0.12, 0.50, 0.28),
    (0.70, 0.12, 0.16),
)


def _count(rng: np.random.Generator, rate: float, height: float, width: float) -> int:
    return int(rng.poisson(rate * height * width / 1e6))


def _line(
    rng: np.random.Generator, height: float, width: float, length: float, bow: float, fine: float
) -> Curve:
    centre = float(rng.uniform(0, height)), float(rng.uniform(0, width))
    return bent(rng, *centre, float(rng.uniform(0, 2 * math.pi)), length, bow, fine)


def draw_on_tissue(
    rng: np.random.Generator, rates: Rates, height: float, width: float
) -> tuple[Artefact, ...]:
    """Artefacts of a fragment's canvas (µm): folds, knife, focus.

    Parameters
    ----------
    rng : numpy Generator
    rates : Rates
    height, width : float
        The canvas in µm.

    Returns
    -------
    tuple of Artefact
        In the order in which they work.
    """
    found: list[Artefact] = []
    u = rng.uniform
    for _ in range(_count(rng, rates.fold, height, width)):
        half = float(u(8, 26))
        curve = _line(rng, height, width, float(u(250, 1100)), 0.06, 6.0)
        found.append(Fold(curve, half, reads=2 * half + 4))
    for _ in range(_count(rng, rates.knife, height, width)):
        curve = _line(rng, height, width, float(u(400, 2500)), 0.004, 0.6)
        found.append(Knife(curve, float(u(1.2, 4.5))))
    for _ in range(_count(rng, rates.chatter, height, width)):
        curve = _line(rng, height, width, float(u(400, 1300)), 0.02, 2.0)
        depth, period = float(u(0.15, 0.35)), float(u(25, 70))
        found.append(Chatter(curve, float(u(150, 450)), 0.0, period, depth))
    for _ in range(_count(rng, rates.defocus, height, width)):
        sigma = float(u(1.5, 5.0))
        y, x, radius = float(u(0, height)), float(u(0, width)), float(u(120, 500))
        found.append(Defocus(y, x, radius, _lobes(rng, 0.12), 3 * sigma + 2, sigma))
    return tuple(found)


def draw_on_glass(
    rng: np.random.Generator, rates: Rates, height: float, width: float
) -> tuple[Artefact, ...]:
    """Artefacts on a slide or a field of that size (µm): bubbles, dust, lint, pen.

    What is long may begin outside: a field meets pen as often as a slide does.
    """
    found: list[Artefact] = []
    u = rng.uniform

    def place(reach: float) -> tuple[float, float]:
        return float(u(-reach, height + reach)), float(u(-reach, width + reach))

    for _ in range(_count(rng, rates.bubble, height + 1200, width + 1200)):
        radius = float(np.exp(u(math.log(90), math.log(600))))
        found.append(Bubble(*place(600), radius, _lobes(rng, 0.05), 16.0, float(u(8, 20))))
    for _ in range(_count(rng, rates.dust, height + 60, width + 60)):
        radius = float(np.exp(u(math.log(2.5), math.log(22))))
        tone = float(u(0.12, 0.6))
        colour = (tone, tone * float(u(0.8, 1.0)), tone * float(u(0.7, 1.0)))
        found.append(Dust(*place(30), radius, _lobes(rng, 0.22), 0.0, colour, float(u(0.8, 4))))
    for _ in range(_count(rng, rates.fibre, height + 800, width + 800)):
        y, x = place(400)
        curve = bent(rng, y, x, float(u(0, 7)), float(u(100, 800)), 0.15, 0.5)
        blue = float(u(0.35, 0.75))
        found.append(Fibre(curve, float(u(1.5, 4.5)), 0.0, (0.38, 0.42, blue)))
    for _ in range(_count(rng, rates.pen, height + 8000, width + 8000)):
        y, x = place(4000)
        colour = _PENS[int(rng.integers(len(_PENS)))]
        half = float(u(180, 420))
        if rng.random() < 0.4:
            length, turn = float(u(4000, 14000)), float(u(0.5, 1))
            curve = bent(rng, y, x, float(u(0, 7)), length, 0.012, 0.0, turn)
        else:
            curve = bent(rng, y, x, float(u(0, 7)), float(u(1500, 11000)), 0.03, 0.0)
        found.append(Pen(curve, half, 0.0, colour, _lobes(rng, 7.0)))
    return tuple(found)


def _lobes(rng: np.random.Generator, size: float) -> tuple[float, float, float]:
    return float(rng.uniform(0, size)), float(rng.uniform(0, 7)), float(rng.uniform(0, 7))


def reading(artefacts: Iterable[Artefact]) -> float:
    """How far around a block these look together, µm."""
    return sum(a.reads for a in artefacts)


def apply_all(light: Light, artefacts: Sequence[Artefact], y: int, x: int, mpp: float) -> Light:
    """Let artefacts work on a block.

    Parameters
    ----------
    light : ndarray of float32, (h, w, 3)
    artefacts : sequence of Artefact
        In their order.
    y, x : int
        Absolute position of the block's first pixel, on the fragment or slide.
    mpp : float
        µm per pixel.

    Returns
    -------
    ndarray of float32, (h, w, 3)
        Right but for the outermost `reading` µm.
    """
    rows = (np.arange(y, y + light.shape[0]) + 0.5) * mpp
    cols = (np.arange(x, x + light.shape[1]) + 0.5) * mpp
    box = float(rows[0] - mpp), float(cols[0] - mpp), float(rows[-1] + mpp), float(cols[-1] + mpp)
    light = light.copy()
    for artefact in artefacts:
        if not artefact.meets(box):
            continue
        y0, x0, y1, x1 = artefact.box
        inner = _span(rows, y0, y1, 0), _span(cols, x0, x1, 0)
        wide = _span(rows, y0, y1, artefact.reads), _span(cols, x0, x1, artefact.reads)
        changed = light[inner]
        if not changed.size:
            continue
        part = artefact.apply(light[wide], rows[wide[0]], cols[wide[1]], mpp)
        top, left = inner[0].start - wide[0].start, inner[1].start - wide[1].start
        changed[:] = part[top : top + changed.shape[0], left : left + changed.shape[1]]
    return light


def _span(at: Floats, low: float, high: float, reads: float) -> slice:
    """Indices of places from `low` to `high`, a little more, and what is read there."""
    extra = 2 * float(at[1] - at[0]) + 2 * reads if at.size > 1 else 2 * reads
    start, stop = np.searchsorted(at, (low - extra, high + extra))
    return slice(int(start), int(stop))
