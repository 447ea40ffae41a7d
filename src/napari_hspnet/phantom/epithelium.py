"""Cytoplasm of squamous and columnar epithelium: maturation, cells, their borders."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.cells import COLUMNAR_CELL, MITOSIS, SQUAMOUS, Nuclei
from napari_hspnet.phantom.geometry import LOOKS, Band, Site
from napari_hspnet.phantom.pockets import GLAND_WALL
from napari_hspnet.phantom.texture import blobs

__all__ = ["Cytoplasm", "Territories", "columnar", "divide", "squamous"]

Plane = npt.NDArray[np.float32]

# Halos narrower than this are drawn with the nucleus.
_KOILOCYTE = 4.0
_FAR = 8.0


@dataclass(frozen=True)
class Territories:
    """The cells of an epithelium: every pixel belongs to its nearest nucleus.

    Attributes
    ----------
    owner : ndarray of int32, (height, width)
        Which nucleus, an index into `nuclei`.
    far : ndarray of float32, (height, width)
        µm from its centre.
    border : ndarray of float32, (height, width)
        µm from the border to the next cell, 8 at most.
    nuclei : Nuclei
        Those of epithelial cells on the canvas; none where it has none.
    """

    owner: npt.NDArray[np.int32]
    far: Plane
    border: Plane
    nuclei: Nuclei


@dataclass(frozen=True)
class Cytoplasm:
    """Optical density of cytoplasm; planes of float32 at 1 µm per pixel.

    Attributes
    ----------
    haema, eosin : ndarray
        Density of the stains.
    line : ndarray
        Change of density on borders between cells, as a share; -1 is a gap.
    halo : ndarray
        µm inside the halo of a koilocyte; negative outside.
    """

    haema: Plane
    eosin: Plane
    line: Plane
    halo: Plane


def divide(rng: np.random.Generator, nuclei: Nuclei, shape: tuple[int, int]) -> Territories:
    """The cells around nuclei on a canvas of `shape` µm."""
    from scipy.ndimage import distance_transform_edt

    inside = np.isin(nuclei.kind, (SQUAMOUS, COLUMNAR_CELL, MITOSIS))
    inside &= (nuclei.y >= 0) & (nuclei.y < shape[0]) & (nuclei.x >= 0) & (nuclei.x < shape[1])
    one = nuclei.select(inside)
    blank = np.full(shape, _FAR, np.float32)
    if not one.y.size:
        return Territories(np.zeros(shape, np.int32), blank, blank, one)
    seeds = np.full(shape, -1, np.int32)
    seeds[np.floor(one.y).astype(np.intp), np.floor(one.x).astype(np.intp)] = np.arange(one.y.size)
    row, col = distance_transform_edt(seeds < 0, return_distances=False, return_indices=True)
    # Borders are not ruled lines: look from a little beside.
    down = 0.9 * blobs(rng, shape, 9.0) + 0.35 * blobs(rng, shape, 3.0)
    aside = 0.9 * blobs(rng, shape, 9.0) + 0.35 * blobs(rng, shape, 3.0)
    down += np.arange(shape[0], dtype=np.float32)[:, None] + np.float32(0.5)
    aside += np.arange(shape[1], dtype=np.float32)[None, :] + np.float32(0.5)
    at = (
        np.clip(down, 0, shape[0] - 1).astype(np.intp),
        np.clip(aside, 0, shape[1] - 1).astype(np.intp),
    )
    owner = seeds[row[at], col[at]]
    cy, cx = one.y.astype(np.float32), one.x.astype(np.float32)
    dy, dx = down - cy[owner], aside - cx[owner]
    far = np.hypot(dy, dx)
    border = blank
    for step, axis in ((2, 0), (-2, 0), (2, 1), (-2, 1)):
        other = np.roll(owner, step, axis)
        edge = np.nonzero(other != owner)
        a, b = owner[edge], other[edge]
        py, px = down[edge] - cy[b], aside[edge] - cx[b]
        # Half-way between two centres lies the border; so far is it from there.
        gap = np.maximum(np.hypot(cy[a] - cy[b], cx[a] - cx[b]), np.float32(0.5))
        away = (py * py + px * px - far[edge] ** 2) / (2 * gap)
        border[edge] = np.minimum(border[edge], np.maximum(away, 0))
    return Territories(owner, far, border, one)


def _by_look(values: tuple[float, ...], band: Band) -> npt.NDArray[np.float64]:
    """A table along the band of what each of `LOOKS` has, with soft changes."""
    from scipy.ndimage import gaussian_filter1d

    table = np.asarray(values)[np.minimum(band.look, len(LOOKS) - 1)]
    return np.asarray(gaussian_filter1d(table.astype(float), 25.0, mode="nearest"))


def _curve(t: Plane, at: tuple[float, ...], values: tuple[float, ...]) -> Plane:
    return np.interp(t, at, values).astype(np.float32)


def squamous(
    rng: np.random.Generator, band: Band, site: Site, cells: Territories, lamellae: Plane
) -> Cytoplasm:
    """Cytoplasm of squamous epithelium, on the whole canvas.

    Parameters
    ----------
    rng : numpy Generator
    band : Band
    site : Site
        Of the canvas's pixels at 1 µm.
    cells : Territories
    lamellae : ndarray of float32, (height, width)
        Noise drawn out along the surface, of about unit deviation.
    """
    shape = (band.height, band.width)
    t = np.clip(site.depth, 0, 1).astype(np.float32)
    patch, mid, grain = blobs(rng, shape, 150.0), blobs(rng, shape, 32.0), blobs(rng, shape, 2.6)
    i = site.index
    odd = 1.0 / (
        1.0 + np.exp(np.clip((t - band.reach[i].astype(np.float32) - 0.03 * mid) / 0.05, -30, 30))
    )
    # Spreads between fragments are wider than what atypia does to cytoplasm: the
    # grade shall not be read from colour.
    strong_h = 0.23 * math.exp(rng.normal(0, 0.42))
    if cells.nuclei.y.size:
        # Nuclei stay darker than what surrounds them.
        strong_h = min(strong_h, 0.52 * float(np.median(cells.nuclei.dark)))
    strong_e = 0.23 * math.exp(rng.normal(0, 0.30))
    strong_e = max(strong_e, 0.8 * strong_h)
    dense_h, dense_e = rng.uniform(-0.7, 0.0), rng.uniform(-0.25, 0.3)
    store = float(rng.uniform(0.0, 0.25) if rng.random() < 0.45 else rng.uniform(0.25, 1.0))
    full = _by_look((1.0, 0.35, 0.05, 0.5, 0.12), band)[i].astype(np.float32)
    glycogen = store * full * (1 - 0.9 * odd) * np.clip(0.85 + 0.3 * patch, 0.3, 1.2)
    pale = glycogen * _curve(t, (0.0, 0.12, 0.4, 0.8, 0.94, 1.0), (0.0, 0.1, 0.75, 1.0, 0.7, 0.25))

    count = max(cells.nuclei.y.size, 1)
    own_h = np.exp(rng.normal(0, 0.13, count)).astype(np.float32)[cells.owner]
    own_e = np.exp(rng.normal(0, 0.10, count)).astype(np.float32)[cells.owner]
    purple = _curve(t, (0.0, 0.06, 0.2, 0.5, 1.0), (1.4, 1.3, 1.1, 1.0, 0.9))
    haema = strong_h * purple * _by_look((1.0, 0.92, 1.25, 1.0, 1.12), band)[i].astype(np.float32)
    haema = haema * (1 - 0.45 * pale) * (1 + dense_h * odd) * own_h
    eosin = strong_e * _by_look((1.0, 0.94, 0.95, 1.0, 1.15), band)[i].astype(np.float32)
    eosin = eosin * (1 - 0.5 * pale) * (1 + dense_e * odd) * own_e
    # Flat cells near the surface: lamellae, pinker by as much as they keratinise.
    horn = float(rng.uniform(0.1, 0.8)) * (1 - 0.6 * odd)
    height = np.maximum(band.basement - band.surface, 1.0)[i].astype(np.float32) * (1 - t)
    flat = np.exp(-np.clip(height, 0, 200) / np.float32(rng.uniform(9, 22)))
    eosin = eosin * (1 + horn * flat) * (1 + (0.05 + 0.26 * flat) * lamellae)
    haema = haema * (1 - 0.25 * horn * flat) * (1 + (0.05 + 0.2 * flat) * lamellae)
    eosin = eosin * (1 + 0.07 * mid + 0.05 * patch + 0.06 * grain)
    haema = haema * (1 + 0.08 * mid + 0.07 * patch + 0.05 * grain)

    wet = _by_look((0.0, 0.25, 0.0, 1.0, 0.1), band)[i].astype(np.float32)
    wet = wet * np.clip(0.4 + 0.6 * mid, 0, 1.2)
    dark = np.clip(5 * pale - 1.25, 0, 1)
    line = (0.5 * dark - 0.42 - 0.6 * wet * (1 - 0.6 * t)) * (1 + 0.3 * mid) + 0.5 * dark
    line = np.clip(line * (1 - 0.4 * odd), -0.9, 0.8)
    return Cytoplasm(
        haema.astype(np.float32), eosin.astype(np.float32), line.astype(np.float32),
        _halos(cells, mid, grain),
    )  # fmt: skip


def _halos(cells: Territories, mid: Plane, grain: Plane) -> Plane:
    """µm inside the halos of koilocytes, ragged; no halo passes its cell's border."""
    one = cells.nuclei
    if not one.y.size:
        return np.full(mid.shape, -_FAR, np.float32)
    wide = np.where(one.halo >= _KOILOCYTE, np.sqrt(one.major * one.minor) + one.halo, -_FAR)
    inside = wide.astype(np.float32)[cells.owner] - cells.far + 1.0 * mid + 1.1 * grain
    within = np.minimum(inside, cells.border - np.float32(1.2))
    return np.asarray(np.clip(within, -_FAR, _FAR), dtype=np.float32)


def columnar(
    rng: np.random.Generator, band: Band, site: Site, cells: Territories
) -> tuple[Plane, Plane]:
    """Haematoxylin and eosin of mucinous columnar cells, on the whole canvas."""
    shape = (band.height, band.width)
    up = np.where(site.inward > 0, site.inward / GLAND_WALL, site.depth)
    up = np.clip(up, 0, 1).astype(np.float32)
    count = max(cells.nuclei.y.size, 1)
    own = np.exp(rng.normal(0, 0.22, count)).astype(np.float32)[cells.owner]
    grain = blobs(rng, shape, 2.2)
    mucin = float(rng.uniform(0.4, 1.0))
    haema = _curve(up, (0.0, 0.3, 0.5, 0.9, 1.0), (0.15, 0.13, 0.07, 0.055, 0.12))
    eosin = _curve(up, (0.0, 0.3, 0.5, 0.9, 1.0), (0.22, 0.20, 0.08, 0.06, 0.16))
    eosin = eosin * (1.4 - 0.5 * mucin) * own * (1 + 0.15 * grain)
    haema = haema * (0.8 + 0.3 * mucin) * own * (1 - 0.2 * grain)
    return haema.astype(np.float32), eosin.astype(np.float32)
