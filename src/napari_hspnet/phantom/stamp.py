"""Drawing nuclei into planes of optical density."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.nuclei import Nuclei

__all__ = ["stamp"]

Plane = npt.NDArray[np.float32]


def stamp(nuclei: Nuclei, y: int, x: int, mpp: float, ink: Plane, cover: Plane) -> None:
    """Draw nuclei into two planes: density, and the share of a pixel they cover."""
    height, width = ink.shape
    reach = np.ceil((1.35 * nuclei.major + 1.2) / mpp).astype(int)
    size = (reach + 3) // 4 * 4
    soft = max(0.55, 0.8 * mpp)
    flat_ink, flat_cover = ink.reshape(-1), cover.reshape(-1)
    for half in np.unique(size):
        group = np.flatnonzero(size == half)
        step = np.arange(-half, half + 1)
        chunk = max(1, 1_000_000 // step.size**2)
        for start in range(0, group.size, chunk):
            one = nuclei.select(np.isin(np.arange(size.size), group[start : start + chunk]))
            row = np.floor(one.y / mpp).astype(int)[:, None] + step
            col = np.floor(one.x / mpp).astype(int)[:, None] + step
            dy = (((row + 0.5) * mpp) - one.y[:, None]).astype(np.float32)[:, :, None]
            dx = (((col + 0.5) * mpp) - one.x[:, None]).astype(np.float32)[:, None, :]
            cos, sin = (f(one.phi).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
            a = (cos * dx + sin * dy) / one.major.astype(np.float32)[:, None, None]
            b = (cos * dy - sin * dx) / one.minor.astype(np.float32)[:, None, None]
            q2 = a * a + b * b
            q = np.sqrt(q2)
            lobe = one.lobe.astype(np.float32)[:, None, None]
            q *= 1 + lobe * (a * a * a - 3 * a * b * b + 0.6 * a * b) / (q2 * q + np.float32(0.05))
            edge = (one.minor / soft).astype(np.float32)[:, None, None]
            share = np.clip(0.5 + (1 - q) * edge, 0, 1)
            clear = one.clear.astype(np.float32)[:, None, None]
            tone = 1 - clear * (0.42 - 0.6 * np.clip(q - 0.45, 0, 1))
            density = share * tone * one.dark.astype(np.float32)[:, None, None]
            line = (row - y)[:, :, None]
            column = (col - x)[:, None, :]
            hit = (share > 0) & (line >= 0) & (line < height) & (column >= 0) & (column < width)
            where = (line * width + column)[hit]
            np.maximum.at(flat_ink, where, density[hit])
            np.maximum.at(flat_cover, where, share[hit])
