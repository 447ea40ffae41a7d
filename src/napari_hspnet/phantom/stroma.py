"""Stroma: short wavy collagen bundles, each with its own tint, and the clefts between.

A periodic tile holds bundles that run along its rows. Smooth coordinates of
fibres, once a section, say which point of the tile lies where; patches read it
turned, denser or cut across. What is sharp is decided when a block is painted,
so that edges are as sharp as its pixels at any µm per pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.geometry import GLASS, STROMA, Band, Site
from napari_hspnet.phantom.texture import TILE_MPP, Grid, blobs, finer

__all__ = ["Stroma", "bundle_tile", "grow_stroma"]

Plane = npt.NDArray[np.float32]

# Height (across bundles) and length of the tile, µm.
_SPAN = (256, 512)
_FINER = round(1 / TILE_MPP)
# How patches read the tile: turn in radians, µm of tile a µm along the fibre and
# across it, shift. Main bundles, cut across, fine below the membrane, crossing.
_WAYS = (
    (0.0, 1.0, 1.0, 0.0),
    (1.1, 1.9, 0.9, 97.0),
    (-0.25, 1.2, 1.45, 41.0),
    (0.55, 1.1, 1.05, 163.0),
)
_CROSSING = 0.45


@dataclass(frozen=True)
class Stroma:
    """What painting stroma needs.

    Attributes
    ----------
    tile : ndarray of float32, (rows, columns, 4)
        See `bundle_tile`.
    along, across : ndarray of float32
        Coordinates of fibres, µm; planes of 1 µm per pixel, as all below.
    weave, cut : ndarray of float32
        Noise that decides how a patch reads the tile.
    loose : ndarray of float32
        Half-width of clefts between bundles, µm; negative where there are none.
    tone : ndarray of float32
        Density of eosin of a usual bundle.
    purple : float
        Density of haematoxylin of a usual bundle.
    fibrils : float
        How much of clefts fine fibrils fill.
    """

    tile: Plane
    along: Plane
    across: Plane
    weave: Plane
    cut: Plane
    loose: Plane
    tone: Plane
    purple: float
    fibrils: float

    def paint(
        self, grid: Grid, where: tuple[npt.NDArray[np.intp], ...]
    ) -> tuple[Plane, Plane, Plane]:
        """Haematoxylin, eosin and the share that is no cleft, at some pixels of a block.

        Parameters
        ----------
        grid : Grid
        where : tuple of ndarray of intp, (n,)
            Rows and columns in the block.

        Returns
        -------
        haematoxylin, eosin, solid : ndarray of float32, (n,)
        """
        along, across, weave, cut, loose, tone = (
            grid.plane(p)[where]
            for p in (self.along, self.across, self.weave, self.cut, self.loose, self.tone)
        )
        way = np.where(weave < _CROSSING, 0, np.where(cut > 0, 1, 3)).astype(np.intp)
        way[weave < -2.5] = 2
        cos, sin, fast, high, shift = _turns()[:, way]
        s = (cos * along + sin * across) * fast + shift
        t = (cos * across - sin * along) * high + shift
        side, length = self.tile.shape[:2]
        row = np.floor(t / np.float32(TILE_MPP)).astype(np.int32) % side
        col = np.floor(s / np.float32(TILE_MPP)).astype(np.int32) % length
        bundle, fibre, tint, streak = self.tile.reshape(-1, 4)[row * length + col].T
        # Clefts: wide between bundles, narrow between fibres, some where ways meet.
        seam = np.minimum(np.abs(weave - _CROSSING), np.abs(weave + 2.5)) * 22.0
        inner = np.minimum(bundle / high - loose, fibre / high - 0.4 * loose + 0.45)
        inner = np.minimum(inner, seam - 0.6 * loose + 0.5)
        # Frayed, not cut.
        inner += 0.09 * streak
        soft = max(0.95, grid.mpp)
        solid = np.clip(inner / np.float32(soft) + 0.5, 0, 1)
        body = 1 + 0.10 * streak + 0.20 * np.clip(1.3 - inner, 0, 1) - 0.03 * np.clip(inner, 0, 5)
        loosely = np.float32(self.fibrils) * np.clip(streak - 0.7, 0, 1.5) + 0.004
        eosin = tone * tint * body * solid + loosely * (1 - solid)
        haema = np.float32(self.purple) * (1.6 - 0.6 * tint + 0.25 * streak) * solid
        haema += 0.35 * loosely * (1 - solid)
        return haema.astype(np.float32), eosin.astype(np.float32), solid.astype(np.float32)


def _turns() -> Plane:
    rows = [(math.cos(a), math.sin(a), fast, high, shift) for a, fast, high, shift in _WAYS]
    return np.asarray(rows, np.float32).T


def _smooth(rng: np.random.Generator, sigma: tuple[float, float]) -> Plane:
    """Periodic noise of unit deviation on the tile at 1 µm per pixel."""
    from scipy.ndimage import gaussian_filter

    raw = gaussian_filter(rng.standard_normal(_SPAN, dtype=np.float32), sigma, mode="wrap")
    return np.asarray(raw / raw.std(), dtype=np.float32)


def _cells(rng: np.random.Generator, width: float, length: float) -> npt.NDArray[np.intp]:
    """Owner of each pixel among stretched cells with wavy borders, periodic."""
    from scipy.ndimage import distance_transform_edt

    rows, cols = _SPAN
    count = int(rows * cols / (width * length))
    seeds = np.ones(_SPAN, bool)
    seeds.reshape(-1)[rng.choice(rows * cols, count, replace=False)] = False
    pad = (math.ceil(4 * width), math.ceil(4 * length))
    wide = np.pad(seeds, [(p, p) for p in pad], mode="wrap")
    near = distance_transform_edt(
        wide, sampling=(length / width, 1.0), return_distances=False, return_indices=True
    )[:, pad[0] : pad[0] + rows, pad[1] : pad[1] + cols]
    owner = ((near[0] - pad[0]) % rows) * cols + (near[1] - pad[1]) % cols
    wave = 0.34 * width * _smooth(rng, (5.0, 7.0)) + 0.16 * width * _smooth(rng, (2.0, 3.0))
    row = (np.arange(rows)[:, None] + np.rint(wave).astype(np.intp)) % rows
    col = (np.arange(cols) + np.rint(3.0 * _smooth(rng, (3.0, 8.0))).astype(np.intp)) % cols
    return np.asarray(owner[row, col], dtype=np.intp)


def _inward(owner: npt.NDArray[np.intp]) -> Plane:
    """µm from the border of the cell that holds a pixel, periodic."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    edge = (owner != np.roll(owner, 1, 0)) | (owner != np.roll(owner, 1, 1))
    wide = np.pad(~edge, 24, mode="wrap")
    far = distance_transform_edt(wide)[24:-24, 24:-24]
    return np.asarray(gaussian_filter(far, 0.9, mode="wrap"), dtype=np.float32)


def bundle_tile(rng: np.random.Generator, width: float, length: float) -> Plane:
    """A periodic tile of bundles along its rows, `TILE_MPP` µm per pixel.

    Parameters
    ----------
    rng : numpy Generator
    width, length : float
        Of a usual bundle, µm.

    Returns
    -------
    ndarray of float32, (rows, columns, 4)
        µm from the bundle's border (less where it shrank) and from the fibre's;
        tint, about 1; streaks along the fibres, of about unit deviation.
    """
    from scipy.ndimage import gaussian_filter

    bundles, fibres = _cells(rng, width, length), _cells(rng, width * 0.42, length * 0.6)
    area = _SPAN[0] * _SPAN[1]
    shrank = rng.exponential(0.5, area)[bundles].astype(np.float32)
    tint = np.exp(rng.normal(0, 0.15, area)[bundles] + rng.normal(0, 0.11, area)[fibres])
    side = (256, 1024)
    streak = gaussian_filter(
        rng.standard_normal(side, dtype=np.float32), (2.0, 11.0), mode="wrap", truncate=3
    )
    streak = np.tile(streak / streak.std(), (4, 2))
    planes = [
        finer(_inward(bundles) - shrank, _FINER),
        finer(_inward(fibres), _FINER),
        finer(tint.astype(np.float32), _FINER),
        streak,
    ]
    return np.ascontiguousarray(np.stack(planes, axis=-1), dtype=np.float32)


def grow_stroma(rng: np.random.Generator, band: Band, site: Site, thickness: Plane) -> Stroma:
    """The stroma of a band.

    Parameters
    ----------
    rng : numpy Generator
    band : Band
    site : Site
        Of the canvas's pixels at 1 µm.
    thickness : ndarray of float32
        Of the cut, about 1.
    """
    shape = (band.height, band.width)
    width = float(rng.uniform(7.0, 11.0))
    tile = bundle_tile(rng, width, width * float(rng.uniform(2.3, 3.8)))
    u, v = site.u.astype(np.float32), site.v.astype(np.float32)
    below = (v - band.basement[site.index]).astype(np.float32)
    patch, mid, fine = blobs(rng, shape, 130.0), blobs(rng, shape, 48.0), blobs(rng, shape, 17.0)
    other = blobs(rng, shape, 33.0)
    along = u + 16.0 * patch + 5.0 * other
    across = v + 15.0 * blobs(rng, shape, 120.0) + 3.5 * mid + 1.3 * fine
    zone = float(rng.uniform(15, 70))
    weave = blobs(rng, shape, 75.0) + 0.35 * other
    weave = weave + np.clip((below - 80) / 600, -0.3, 0.4)
    # Fine fibres just below the membrane, whatever lies beyond.
    fade = np.clip((below - zone) * np.float32(1 / 20) + 0.8 * mid, 0, 1)
    weave = weave * fade - 3.2 * (1 - fade)
    loose = float(rng.uniform(0.2, 0.85)) + 0.3 * mid + 0.3 * fine
    loose = loose + np.clip((below - 50) / 300, -0.5, 0.45)
    oedema = float(rng.uniform(0.0, 1.4))
    loose = loose + oedema * np.clip(patch - 1.0, 0, 1) - 1.0 * np.clip(-patch - 0.9, 0, 1)
    deep = np.minimum(band.deep, 1e6)[site.index] - v
    loose = loose + 0.6 * np.exp(-np.clip(deep, 0, 400) / 20.0)
    # Papillae are narrow and dense.
    papilla = (site.code == STROMA) & (site.inward > 0)
    loose = np.where(papilla, np.minimum(loose - 0.6, 0.1), loose)
    strength = 0.345 * math.exp(rng.normal(0, 0.16))
    tone = strength * thickness * (1 + 0.12 * patch + 0.07 * fine)
    tone = tone * np.clip(0.8 + below / 300, 0.75, 1.0)
    return Stroma(
        tile, along, across, weave.astype(np.float32), blobs(rng, shape, 40.0),
        np.clip(loose, -1.2, 2.6).astype(np.float32), tone.astype(np.float32),
        float(rng.uniform(0.02, 0.06)), float(rng.uniform(0.03, 0.11)),
    )  # fmt: skip


def stroma_field(band: Band, site: Site) -> npt.NDArray[np.bool_]:
    """Where stroma is, going on into the glass below and beside it."""
    below = site.v >= band.basement[site.index]
    return np.asarray((site.code == STROMA) | ((site.code == GLASS) & below))
