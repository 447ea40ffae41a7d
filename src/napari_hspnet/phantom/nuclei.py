"""Where nuclei lie and how they look, by depth in the epithelium and atypia."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.geometry import GLASS, Band, Floats

__all__ = ["Nuclei", "place_nuclei", "settle"]


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of a canvas, one entry each; all arrays (n,).

    Attributes
    ----------
    y, x : ndarray
        Centre in µm on the canvas.
    major, minor : ndarray
        Semi-axes in µm.
    phi : ndarray
        Direction of the major axis on the canvas, radians.
    dark : ndarray
        Optical density of haematoxylin.
    lobe : ndarray
        Irregularity of the outline, 0 for an ellipse.
    clear : ndarray
        0 for an even nucleus, 1 for a pale one with a dark membrane.
    epithelial : ndarray of bool
        Whether it lies in the epithelium.
    """

    y: Floats
    x: Floats
    major: Floats
    minor: Floats
    phi: Floats
    dark: Floats
    lobe: Floats
    clear: Floats
    epithelial: npt.NDArray[np.bool_]

    def select(self, keep: npt.NDArray[np.bool_]) -> Nuclei:
        """Those where `keep` is true."""
        return Nuclei(**{f.name: getattr(self, f.name)[keep] for f in fields(self)})


def settle(y: Floats, x: Floats, room: Floats) -> npt.NDArray[np.bool_]:
    """Throw darts in order: one stays where it keeps clear of all that stayed before.

    Parameters
    ----------
    y, x, room : ndarray of float64, (n,)
        Centres, and the radius that each claims; two conflict if closer than
        the sum of their radii.

    Returns
    -------
    ndarray of bool, (n,)
    """
    from scipy.spatial import cKDTree

    n = y.size
    stays = np.ones(n, dtype=bool)
    if n < 2:
        return stays
    points = np.column_stack([y, x])
    pairs = cKDTree(points).query_pairs(2.0 * float(room.max()), output_type="ndarray")
    gap = points[pairs[:, 0]] - points[pairs[:, 1]]
    near = np.einsum("ij,ij->i", gap, gap) < (room[pairs[:, 0]] + room[pairs[:, 1]]) ** 2
    pairs = np.sort(pairs[near], axis=1)
    first, second = pairs[:, 0], pairs[:, 1]
    # Round by round: who has no undecided predecessor stays and removes its
    # successors; the same outcome as one dart after the other.
    while first.size:
        waits = np.zeros(n, dtype=bool)
        waits[second] = True
        stays[second[~waits[first]]] = False
        open_ = stays[first] & stays[second]
        first, second = first[open_], second[open_]
    return stays


def _on_canvas(band: Band, u: Floats, v: Floats, margin: float = 12.0) -> npt.NDArray[np.bool_]:
    y, x = band.to_canvas(u, v)
    inside = (y > -margin) & (y < band.height + margin)
    return np.asarray(inside & (x > -margin) & (x < band.width + margin))


def _scatter(
    rng: np.random.Generator, band: Band, per_area: float, low: Floats, high: Floats
) -> tuple[Floats, Floats]:
    """Uniform points between two curves, `per_area` a µm², on the canvas."""
    top, bottom = float(low.min()), float(high.max())
    n = int(band.length * max(bottom - top, 0.0) * per_area)
    u, v = rng.uniform(0, band.length, n), rng.uniform(top, bottom, n)
    i = band.index(u)
    keep = (v > low[i]) & (v < high[i])
    u, v = u[keep], v[keep]
    keep = _on_canvas(band, u, v)
    return u[keep], v[keep]


def _curve(t: Floats, at: tuple[float, ...], values: tuple[float, ...]) -> Floats:
    return np.asarray(np.interp(t, at, values))


_COLUMNS = ("u", "v", "major", "minor", "phi", "dark", "lobe", "clear")
_LAYERS = (0.0, 0.12, 0.35, 0.6, 0.85, 1.0)


def _epithelium(rng: np.random.Generator, band: Band) -> tuple[dict[str, Floats], Floats]:
    """Basal row, then atypical, then maturing nuclei (band coordinates), and their room."""
    slope = np.gradient(band.basement)
    row_u = np.arange(2.0, band.length - 2.0, 6.2)
    row_u = row_u + rng.uniform(-1.3, 1.3, row_u.size)
    row_v = band.basement[band.index(row_u)] - rng.uniform(3.6, 5.6, row_u.size)
    keep = _on_canvas(band, row_u, row_v)
    row_u, row_v = row_u[keep], row_v[keep]
    u, v = _scatter(rng, band, 0.04, band.surface + 3.0, band.basement - 3.5)
    t = band.depth(u, v)
    edge = band.reach[band.index(u)] + rng.normal(0, 0.035, u.size)
    share = 1.0 / (1.0 + np.exp(-(edge - t) / 0.03))
    atypical = rng.random(u.size) < share * 0.93
    order = np.argsort(~atypical, kind="stable")
    u = np.concatenate([row_u, u[order]])
    v = np.concatenate([row_v, v[order]])
    atypical = np.concatenate([np.zeros(row_u.size, bool), atypical[order]])
    basal = np.arange(u.size) < row_u.size
    t = band.depth(u, v)
    i = band.index(u)
    n = u.size
    vary = np.exp(rng.normal(0, 0.10, n))

    # Normal maturation: small crowded nuclei below, few and shrunken ones above.
    major = _curve(t, _LAYERS, (3.5, 3.7, 3.9, 3.6, 2.7, 2.2)) * vary
    aspect = _curve(t, _LAYERS, (1.35, 1.2, 1.12, 1.2, 1.6, 2.0)) * np.exp(rng.normal(0, 0.08, n))
    room = _curve(t, _LAYERS, (3.6, 4.7, 7.6, 9.8, 11.5, 12.5)) * np.exp(rng.normal(0, 0.12, n))
    dark = _curve(t, _LAYERS, (0.60, 0.55, 0.50, 0.50, 0.58, 0.62)) * np.exp(rng.normal(0, 0.12, n))
    along = t > 0.55
    phi = np.where(along, rng.normal(0, 0.35, n), rng.uniform(-1.57, 1.57, n))
    lobe = np.abs(rng.normal(0, 0.05, n))
    clear = np.clip(
        _curve(t, _LAYERS, (0.1, 0.4, 0.6, 0.5, 0.0, 0.0)) + rng.normal(0, 0.15, n), 0, 1
    )

    # Atypia: large, dark, crowded, irregular, unordered.
    odd = atypical
    m = int(odd.sum())
    major[odd] = 4.9 * np.exp(rng.normal(0, 0.20, m))
    aspect[odd] = 1.1 + np.abs(rng.normal(0.22, 0.25, m))
    room[odd] = 4.6 * np.exp(rng.normal(0, 0.13, m))
    dark[odd] = 0.62 * np.exp(rng.normal(0, 0.24, m))
    phi[odd] = math.pi / 2 + rng.normal(0, 0.8, m)
    lobe[odd] = np.abs(rng.normal(0, 0.075, m))
    clear[odd] = np.clip(rng.normal(0.35, 0.35, m), 0, 1)

    # The basal row stands upright; under dysplasia it is darker and larger too.
    m = int(basal.sum())
    sick = np.clip(band.reach[i[basal]] / 0.2, 0, 1)
    major[basal] = (3.9 + 0.5 * sick) * np.exp(rng.normal(0, 0.10, m))
    aspect[basal] = 1.45 * np.exp(rng.normal(0, 0.10, m))
    room[basal] = 3.0
    dark[basal] = (0.60 + 0.04 * sick) * np.exp(rng.normal(0, 0.14, m))
    phi[basal] = math.pi / 2 + rng.normal(0, 0.2, m)
    phi = phi + np.arctan(slope[i]) * (1 - np.clip(t, 0, 1))

    fits = (t > 0) & (t < 1)
    columns = (u, v, major, major / aspect, phi, dark, lobe, clear)
    names = dict(zip(_COLUMNS, columns, strict=True))
    return {k: a[fits] for k, a in names.items()}, room[fits]


def _stroma(
    rng: np.random.Generator, band: Band, inflamed: float
) -> tuple[dict[str, Floats], Floats]:
    """Spindle nuclei along the fibres, and lymphocytes that gather below the membrane."""
    corner = math.hypot(band.height, band.width)
    deep = np.minimum(band.deep, band.basement + corner)
    u, v = _scatter(rng, band, 0.0042, band.basement + 5.0, deep - 3.0)
    n = u.size
    spindle = (
        u, v, rng.uniform(4.0, 8.0, n), rng.uniform(0.9, 1.7, n), rng.normal(0, 0.35, n),
        0.55 * np.exp(rng.normal(0, 0.2, n)), np.abs(rng.normal(0, 0.04, n)), np.zeros(n),
    )  # fmt: skip
    spindle_room = np.full(n, 6.5)
    u, v = _scatter(rng, band, 0.014, band.basement + 4.0, deep - 3.0)
    below = v - band.basement[band.index(u)]
    # A few crowds along the band, thinning with depth.
    crowd = np.zeros(u.size)
    for centre in rng.uniform(0, band.length, max(1, band.length // 500)):
        crowd += np.exp(-(((u - centre) / rng.uniform(40, 140)) ** 2))
    chance = inflamed * (0.12 + np.minimum(crowd, 1.0)) * np.exp(-below / rng.uniform(60, 200))
    keep = rng.random(u.size) < chance + 0.015
    u, v = u[keep], v[keep]
    n = u.size
    size = rng.uniform(2.3, 3.1, n)
    round_ = (
        u, v, size, size * rng.uniform(0.85, 1.0, n), rng.uniform(0, math.pi, n),
        0.72 * np.exp(rng.normal(0, 0.14, n)), np.zeros(n), np.zeros(n),
    )  # fmt: skip
    both = [np.concatenate(pair) for pair in zip(round_, spindle, strict=True)]
    return dict(zip(_COLUMNS, both, strict=True)), np.concatenate([np.full(n, 3.1), spindle_room])


def place_nuclei(rng: np.random.Generator, band: Band) -> Nuclei:
    """All nuclei of a band; deterministic for a generator's state.

    The epithelium's are placed first (basal, atypical, maturing), for else the
    stroma's would push basal ones aside.
    """
    upper, upper_room = _epithelium(rng, band)
    inflamed = float(rng.choice((0.08, 0.3, 0.9), p=(0.35, 0.4, 0.25)))
    lower, lower_room = _stroma(rng, band, inflamed)
    both = {k: np.concatenate([upper[k], lower[k]]) for k in upper}
    room = np.concatenate([upper_room, lower_room])
    epithelial = np.arange(room.size) < upper_room.size
    y, x = band.to_canvas(both["u"], both["v"])
    # Those that a fragment's cut would leave hanging over the glass are left out.
    whole = np.ones(y.size, dtype=bool)
    for dy, dx in ((-3.5, 0.0), (3.5, 0.0), (0.0, -3.5), (0.0, 3.5)):
        whole &= band.codes(y + dy, x + dx) != GLASS
    both = {k: a[whole] for k, a in both.items()}
    y, x, room, epithelial = y[whole], x[whole], room[whole], epithelial[whole]
    stays = settle(both["v"], both["u"], room)
    all_ = Nuclei(
        y, x, both["major"], both["minor"], both["phi"] + band.angle,
        both["dark"], both["lobe"], both["clear"], epithelial,
    )  # fmt: skip
    return all_.select(stays)
