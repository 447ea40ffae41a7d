"""How nuclei look: by kind of cell, layer of the epithelium, its look and its atypia."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.geometry import LOOKS, Floats
from napari_hspnet.phantom.nucleus import (
    APOPTOTIC,
    COLUMNAR_CELL,
    ENDOTHELIUM,
    LYMPHOCYTE,
    MITOSIS,
    PLASMA,
    SPINDLE,
    SQUAMOUS,
    Nuclei,
)

__all__ = [
    "APOPTOTIC",
    "COLUMNAR_CELL",
    "ENDOTHELIUM",
    "LYMPHOCYTE",
    "MITOSIS",
    "PLASMA",
    "SPINDLE",
    "SQUAMOUS",
    "Manner",
    "Nuclei",
    "Places",
    "Set",
    "apoptotic",
    "atypical",
    "basal",
    "columnar",
    "endothelium",
    "koilocytes",
    "lymphocytes",
    "maturing",
    "mitoses",
    "plasma",
    "spindles",
]


@dataclass(frozen=True)
class Places:
    """Where nuclei shall lie, and what is there; all arrays (n,).

    Attributes
    ----------
    y, x : ndarray
        µm on the canvas.
    along : ndarray
        Direction of the layers there, radians on the canvas.
    depth : ndarray
        0 at the basement membrane, 1 at the surface.
    reach : ndarray
        Share of the thickness that is atypical there.
    look : ndarray of uint8
        Index into `LOOKS`.
    severity : ndarray
        Strength of atypia there, 0 to 1.
    """

    y: Floats
    x: Floats
    along: Floats
    depth: Floats
    reach: Floats
    look: npt.NDArray[np.uint8]
    severity: Floats

    def select(self, keep: npt.NDArray[np.bool_]) -> Places:
        """Those where `keep` is true."""
        return Places(**{f.name: getattr(self, f.name)[keep] for f in fields(self)})


@dataclass(frozen=True)
class Set:
    """Nuclei of one sort, and the radius in µm that each claims for itself."""

    nuclei: Nuclei
    room: Floats


@dataclass(frozen=True)
class Manner:
    """What differs from one piece of tissue to the next.

    The spreads are wider than what tells neighbouring grades apart, so that
    size or stain alone do not give a grade away.
    """

    size: float
    dark: float
    atypical_size: float
    atypical_dark: float
    atypical_clear: float
    severity: float
    mitotic: float
    crowding: float
    ripening: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Manner:
        """One manner; takes nine numbers from `rng`."""
        spread = rng.normal(0, 1, 7)
        return cls(
            size=math.exp(0.05 * spread[0]),
            dark=math.exp(0.12 + 0.11 * spread[1]),
            atypical_size=math.exp(0.05 * spread[2]),
            atypical_dark=math.exp(0.10 + 0.12 * spread[3]),
            atypical_clear=float(rng.uniform(0.1, 0.6)),
            severity=float(rng.uniform(0.1, 1.0)),
            mitotic=math.exp(0.5 * spread[4]),
            crowding=math.exp(0.07 * spread[5]),
            ripening=math.exp(0.22 * spread[6]),
        )


_LAYERS = np.array((0.0, 0.12, 0.35, 0.6, 0.85, 1.0))
# Rows by look (mature, reactive, atrophic, inflamed, metaplastic), columns by layer.
_MAJOR = np.array((
    (3.6, 3.8, 4.2, 3.9, 3.0, 2.5),
    (4.2, 5.0, 5.0, 4.3, 3.3, 2.7),
    (3.5, 3.5, 3.5, 3.4, 3.2, 2.9),
    (3.7, 4.0, 4.4, 4.0, 3.1, 2.6),
    (3.9, 4.1, 4.2, 4.2, 4.0, 3.6),
))  # fmt: skip
_ASPECT = np.array((
    (1.55, 1.35, 1.20, 1.25, 1.75, 2.3),
    (1.30, 1.18, 1.15, 1.20, 1.60, 2.1),
    (1.75, 1.75, 1.70, 1.65, 1.60, 1.6),
    (1.50, 1.30, 1.20, 1.25, 1.70, 2.2),
    (1.18, 1.12, 1.10, 1.12, 1.18, 1.3),
))  # fmt: skip
_ROOM = np.array((
    (3.1, 4.1, 6.7, 8.8, 10.5, 11.5),
    (3.9, 5.4, 6.8, 8.6, 10.5, 11.5),
    (3.2, 3.3, 3.4, 3.6, 4.1, 4.8),
    (3.8, 4.8, 7.4, 9.2, 10.5, 11.5),
    (4.1, 4.6, 5.0, 5.4, 6.0, 7.2),
))  # fmt: skip
_DARK = np.array((
    (0.60, 0.55, 0.48, 0.47, 0.55, 0.60),
    (0.54, 0.46, 0.43, 0.45, 0.54, 0.60),
    (0.64, 0.64, 0.63, 0.62, 0.62, 0.62),
    (0.58, 0.53, 0.47, 0.46, 0.54, 0.60),
    (0.58, 0.56, 0.55, 0.54, 0.54, 0.55),
))  # fmt: skip
_CLEAR = np.array((
    (0.20, 0.45, 0.60, 0.50, 0.10, 0.0),
    (0.60, 0.90, 0.95, 0.75, 0.20, 0.0),
    (0.10, 0.12, 0.12, 0.12, 0.10, 0.1),
    (0.30, 0.50, 0.60, 0.50, 0.10, 0.0),
    (0.35, 0.35, 0.40, 0.35, 0.30, 0.2),
))  # fmt: skip
_TEXTURE = np.array((0.75, 0.45, 0.50, 0.75, 0.50))
# Spread of size and of room: an even epithelium is one that is spread evenly.
_SPREAD = np.array((0.10, 0.09, 0.08, 0.10, 0.07))


def _at(table: Floats, look: npt.NDArray[np.uint8], depth: Floats) -> Floats:
    """A table's value for each look and depth, linear between layers."""
    t = np.clip(depth, 0, 1)
    right = np.clip(np.searchsorted(_LAYERS, t, side="right"), 1, _LAYERS.size - 1)
    share = (t - _LAYERS[right - 1]) / (_LAYERS[right] - _LAYERS[right - 1])
    return np.asarray(table[look, right - 1] * (1 - share) + table[look, right] * share)


def _vary(rng: np.random.Generator, n: int, spread: float | Floats) -> Floats:
    return np.asarray(np.exp(rng.normal(0, 1, n) * spread))


def _set(
    at: Places,
    kind: int,
    major: Floats,
    aspect: Floats,
    phi: Floats,
    dark: Floats,
    room: Floats | float,
    *,
    lobe: Floats | float = 0.0,
    clear: Floats | float = 0.0,
    halo: Floats | float = 0.0,
    texture: Floats | float = 0.4,
    epithelial: bool = False,
    odd: bool = False,
) -> Set:
    n = at.y.size

    def full(value: Floats | float) -> Floats:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), (n,)).copy()

    nuclei = Nuclei(
        at.y, at.x, full(major), full(major / np.maximum(aspect, 1.0)), full(phi), full(dark),
        full(lobe), np.clip(full(clear), 0, 1), np.full(n, epithelial), full(halo), full(texture),
        np.full(n, kind, np.uint8), np.full(n, odd),
    )  # fmt: skip
    return Set(nuclei, full(room))


def maturing(rng: np.random.Generator, at: Places, manner: Manner) -> Set:
    """Squamous cells without atypia: how they mature is their look."""
    n, look = at.y.size, at.look
    # How thick the basal layers are differs: thick ones are no atypia.
    t = np.clip(at.depth, 0, 1) ** manner.ripening
    spread = _SPREAD[look]
    major = _at(_MAJOR, look, t) * manner.size * _vary(rng, n, spread)
    aspect = _at(_ASPECT, look, t) * _vary(rng, n, 0.08)
    upright = look == LOOKS.index("atrophic")
    # Cells stand, then lie at random, then lie down; atrophic ones stay parallel.
    lying = np.clip((t - 0.4) / 0.25, 0, 1)
    turn = np.where(
        rng.random(n) < lying,
        rng.normal(0, 0.28, n),
        math.pi / 2 + rng.normal(0, 0.25 + 0.9 * np.clip(t / 0.3, 0, 1)),
    )
    turn = np.where(upright, math.pi / 2 + rng.normal(0, 0.22, n), turn)
    return _set(
        at, SQUAMOUS, major, aspect, at.along + turn,
        _at(_DARK, look, t) * manner.dark * _vary(rng, n, 0.10),
        _at(_ROOM, look, t) * _vary(rng, n, 0.6 * spread + 0.04),
        lobe=np.abs(rng.normal(0.02, 0.03, n)),
        clear=_at(_CLEAR, look, t) + rng.normal(0, 0.12, n),
        halo=np.where(rng.random(n) < 0.3, rng.uniform(0.9, 2.0, n), rng.uniform(0.1, 0.8, n)),
        texture=_TEXTURE[look] * _vary(rng, n, 0.25), epithelial=True,
    )  # fmt: skip


def basal(rng: np.random.Generator, at: Places, manner: Manner) -> Set:
    """The row on the basement membrane: upright, and larger and darker under dysplasia."""
    n = at.y.size
    sick = np.clip(at.reach / 0.2, 0, 1) * (0.4 + 0.6 * at.severity)
    plain = _at(_MAJOR, at.look, np.zeros(n)) * 1.12 * manner.size
    dark = _at(_DARK, at.look, np.zeros(n)) * manner.dark
    return _set(
        at, SQUAMOUS, plain * (1 + 0.2 * sick) * _vary(rng, n, 0.09 + 0.07 * sick),
        (2.05 - 0.55 * sick) * _vary(rng, n, 0.10),
        at.along + math.pi / 2 + rng.normal(0, 0.20 + 0.35 * sick),
        dark * (1 + (manner.atypical_dark - 1) * sick) * _vary(rng, n, 0.12), 2.3,
        lobe=np.abs(rng.normal(0.02, 0.03 + 0.03 * sick)),
        clear=_at(_CLEAR, at.look, np.zeros(n)) + rng.normal(0, 0.12, n),
        halo=rng.uniform(0.0, 0.8, n), texture=0.65 + 0.2 * sick, epithelial=True,
    )  # fmt: skip


def atypical(rng: np.random.Generator, at: Places, manner: Manner) -> Set:
    """Large, dark, crowded, irregular, coarse and unordered."""
    n, much = at.y.size, at.severity
    major = (4.55 + 0.7 * much) * manner.size * manner.atypical_size
    major = major * _vary(rng, n, 0.14 + 0.11 * much)
    middle = float(np.mean(major)) if n else 1.0
    aspect = 1.08 + np.abs(rng.normal(0.25, 0.18 + 0.14 * much))
    # Crowding grows with the grade.
    room = np.interp(at.reach, (0.15, 0.33, 0.66, 1.0), (4.35, 4.25, 4.05, 3.85))
    return _set(
        at, SQUAMOUS, major, aspect,
        at.along + math.pi / 2 + rng.normal(0, 0.45 + 0.6 * much),
        0.56 * manner.dark * manner.atypical_dark * (1 + 0.1 * (much - 0.5)) * _vary(rng, n, 0.22),
        room * manner.crowding * (major / middle) ** 0.7 * _vary(rng, n, 0.13),
        lobe=np.minimum(np.abs(rng.normal(0.04, 0.04 + 0.05 * much)), 0.17),
        clear=rng.normal(manner.atypical_clear, 0.28, n), halo=rng.uniform(0.0, 0.7, n),
        texture=(0.8 + 0.35 * much) * _vary(rng, n, 0.25), epithelial=True, odd=True,
    )  # fmt: skip


def mitoses(rng: np.random.Generator, at: Places) -> Set:
    """Plates, or rings seen end-on: very dark, ragged, in a cleared cell."""
    n = at.y.size
    ring = rng.random(n) < 0.3
    return _set(
        at, MITOSIS, np.where(ring, rng.uniform(3.0, 3.8, n), rng.uniform(3.6, 4.8, n)),
        np.where(ring, rng.uniform(1.0, 1.2, n), rng.uniform(2.3, 3.2, n)),
        rng.uniform(0, math.pi, n), 1.05 * _vary(rng, n, 0.08), 6.0,
        lobe=rng.uniform(0.05, 0.11, n), clear=np.where(ring, 0.7, 0.0),
        halo=rng.uniform(2.0, 2.8, n), texture=rng.uniform(0.3, 0.6, n), epithelial=True,
    )  # fmt: skip


def apoptotic(rng: np.random.Generator, at: Places) -> Set:
    """Shrunken to a round dark body in a halo."""
    n = at.y.size
    return _set(
        at, APOPTOTIC, rng.uniform(1.5, 2.4, n), rng.uniform(1.0, 1.25, n),
        rng.uniform(0, math.pi, n), 1.05 * _vary(rng, n, 0.1), 4.5,
        lobe=rng.uniform(0, 0.05, n), halo=rng.uniform(1.0, 1.7, n), texture=0.1, epithelial=True,
    )  # fmt: skip


def koilocytes(rng: np.random.Generator, at: Places, manner: Manner) -> Set:
    """Enlarged and wrinkled as raisins, each in a wide halo."""
    n = at.y.size
    halo = rng.uniform(6.0, 12.0, n)
    return _set(
        at, SQUAMOUS, 4.4 * manner.size * _vary(rng, n, 0.15), rng.uniform(1.15, 1.8, n),
        at.along + rng.normal(0, 0.8, n), 0.66 * manner.dark * _vary(rng, n, 0.16),
        3.5 + 0.75 * halo, lobe=rng.uniform(0.06, 0.18, n), clear=rng.uniform(0, 0.4, n),
        halo=halo, texture=rng.uniform(0.6, 1.1, n), epithelial=True,
    )  # fmt: skip


def columnar(rng: np.random.Generator, at: Places) -> Set:
    """In one row at the cells' bases, upright."""
    n = at.y.size
    return _set(
        at, COLUMNAR_CELL, rng.uniform(3.4, 4.8, n), rng.uniform(1.5, 2.3, n),
        at.along + math.pi / 2 + rng.normal(0, 0.14, n), 0.64 * _vary(rng, n, 0.12), 2.4,
        lobe=np.abs(rng.normal(0, 0.03, n)), clear=rng.uniform(0.1, 0.5, n),
    )  # fmt: skip


def endothelium(rng: np.random.Generator, at: Places) -> Set:
    """Flat, along the vessel's wall."""
    n = at.y.size
    return _set(
        at, ENDOTHELIUM, rng.uniform(3.2, 5.2, n), rng.uniform(2.6, 4.5, n),
        at.along + rng.normal(0, 0.12, n), 0.72 * _vary(rng, n, 0.15), 3.0,
        lobe=np.abs(rng.normal(0, 0.05, n)), texture=0.3,
    )  # fmt: skip


def lymphocytes(rng: np.random.Generator, at: Places) -> Set:
    """Small, round, dark."""
    n = at.y.size
    return _set(
        at, LYMPHOCYTE, rng.uniform(2.0, 3.1, n), 1 + np.abs(rng.normal(0, 0.25, n)),
        rng.uniform(0, math.pi, n), 0.88 * _vary(rng, n, 0.14), rng.uniform(2.1, 2.9, n),
        lobe=np.abs(rng.normal(0.06, 0.05, n)), halo=rng.uniform(-0.8, 1.2, n).clip(0),
        texture=rng.uniform(0.4, 0.8, n),
    )  # fmt: skip


def plasma(rng: np.random.Generator, at: Places) -> Set:
    """As lymphocytes, with clumps like a clock's face and more room."""
    n = at.y.size
    return _set(
        at, PLASMA, rng.uniform(2.5, 3.2, n), rng.uniform(1.0, 1.2, n),
        rng.uniform(0, math.pi, n), 0.76 * _vary(rng, n, 0.12), 4.2,
        clear=0.35, texture=1.0,
    )  # fmt: skip


def spindles(rng: np.random.Generator, at: Places) -> Set:
    """Fibroblasts along the fibres: most slender and dark, some plump and pale."""
    n = at.y.size
    plump = rng.random(n) < 0.22
    return _set(
        at, SPINDLE, np.where(plump, rng.uniform(3.4, 5.2, n), rng.uniform(3.2, 7.0, n)),
        np.where(plump, rng.uniform(1.7, 2.6, n), rng.uniform(3.2, 6.5, n)),
        at.along + rng.normal(0, 0.42, n),
        np.where(plump, 0.52, 0.76) * _vary(rng, n, 0.18), np.where(plump, 4.5, 4.0),
        lobe=np.abs(rng.normal(0.05, 0.06, n)), clear=np.where(plump, 0.5, 0.0), texture=0.6,
    )  # fmt: skip
