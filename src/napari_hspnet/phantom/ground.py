"""All of the tissue but its nuclei, in optical density of haematoxylin and eosin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.cells import Nuclei
from napari_hspnet.phantom.epithelium import columnar, divide, squamous
from napari_hspnet.phantom.geometry import (
    COLUMNAR,
    GLASS,
    LUMEN,
    VESSEL,
    Band,
    Site,
    pixel_centres,
)
from napari_hspnet.phantom.stroma import Stroma, grow_stroma, stroma_field
from napari_hspnet.phantom.texture import Grid, blobs, crisp, grain_tile, red_cell_tile

__all__ = ["Ground", "lay_ground"]

Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ground:
    """What lies under the nuclei; planes of float32 at 1 µm per pixel.

    Attributes
    ----------
    haema, eosin : ndarray
        Density where there is no stroma.
    border, line : ndarray
        µm from the border between two cells, and what it does to density.
    halo : ndarray
        µm inside a koilocyte's halo.
    edge : ndarray
        About µm inside the tissue.
    mesenchyme : ndarray
        Share of stroma, soft over some µm: its border is where this is half.
    blood : ndarray
        Density of eosin of red cells, where they lie.
    rim : ndarray
        Factor on stroma: darker at cut edges.
    spill_haema, spill_eosin : ndarray
        What lies on the glass beside the tissue.
    grain, cells : ndarray of float32
        Tiles: cytoplasm's grain, red cells.
    stroma : Stroma
    membrane : float
        Density of the basement membrane.
    """

    haema: Plane
    eosin: Plane
    border: Plane
    line: Plane
    halo: Plane
    edge: Plane
    mesenchyme: Plane
    blood: Plane
    rim: Plane
    spill_haema: Plane
    spill_eosin: Plane
    grain: Plane
    cells: Plane
    stroma: Stroma
    membrane: float

    def paint(self, grid: Grid) -> tuple[Plane, Plane]:
        """Haematoxylin and eosin of a block's pixels."""
        soft = max(0.7, grid.mpp)
        tissue = crisp(grid.plane(self.edge), soft)
        spill_h, spill_e = grid.plane(self.spill_haema), grid.plane(self.spill_eosin)
        if not tissue.any():
            return spill_h, spill_e
        haema, eosin = grid.plane(self.haema), grid.plane(self.eosin)
        # Borders between cells: lines under a µm wide.
        border = grid.plane(self.border)
        border *= np.float32(-1 / 0.8)
        line = np.exp(border, out=border) * grid.plane(self.line)
        halo = grid.plane(self.halo)
        clear = crisp(halo, 1.2)
        rim = np.exp(-((halo + 1.2) ** 2)) * (halo > -4)
        change = 1 + line + 0.35 * rim
        grain = grid.tile(self.grain)
        # Cleared, not empty: wisps of cytoplasm stay.
        change *= 1 - clear * np.clip(0.62 - 0.12 * grain, 0.3, 0.85)
        haema *= change * (1 + 0.13 * grain + 0.06 * grid.tile(self.grain, (331, 517)))
        eosin *= change * (1 + 0.15 * grain)
        blood = grid.plane(self.blood)
        if blood.any():
            eosin += blood * grid.tile(self.cells)
        share = grid.plane(self.mesenchyme)
        where = np.nonzero(share > 0.25)
        if where[0].size:
            stroma_h, stroma_e, _ = self.stroma.paint(grid, where)
            # 1 within; the soft border is about 4 µm wide.
            inside = crisp(share - np.float32(0.5), soft / 3.4)[where]
            line = np.exp(-(((share[where] - 0.5) * np.float32(3.4)) ** 2)) * self.membrane
            cut = grid.plane(self.rim)[where]
            haema[where] += (stroma_h * cut - haema[where]) * inside + 0.3 * line
            eosin[where] += (stroma_e * cut - eosin[where]) * inside + line
        haema = np.maximum(haema, 0.005) * tissue + spill_h * (1 - tissue)
        eosin = np.maximum(eosin, 0.005) * tissue + spill_e * (1 - tissue)
        return haema, eosin


def _no_check() -> None:
    """Nobody wants to give up."""


def lay_ground(
    rng: np.random.Generator,
    band: Band,
    nuclei: Nuclei,
    check: Callable[[], None] = _no_check,
) -> Ground:
    """The ground of a band.

    Parameters
    ----------
    rng : numpy Generator
        Source of everything random.
    band : Band
    nuclei : Nuclei
        Their cells share out the epithelium.
    check : callable, optional
        Called between steps; may raise to give up.
    """
    from scipy.ndimage import gaussian_filter

    shape = (band.height, band.width)
    y, x = pixel_centres(0, shape[0], 1.0)[:, None], pixel_centres(0, shape[1], 1.0)[None, :]
    site = band.site(y, x)
    check()
    grain = grain_tile(rng)
    territories = divide(rng, nuclei, shape)
    check()
    thickness = 1 + 0.07 * blobs(rng, shape, 420.0) + 0.02 * blobs(rng, shape, 90.0)
    cytoplasm = squamous(rng, band, site, territories, _lamellae(grain, site))
    check()
    stroma = grow_stroma(rng, band, site, thickness)
    check()
    haema, eosin = cytoplasm.haema * thickness, cytoplasm.eosin * thickness
    line = cytoplasm.line
    code = site.code
    glandular = code == COLUMNAR
    if glandular.any():
        tall_h, tall_e = columnar(rng, band, site, territories)
        haema, eosin = np.where(glandular, tall_h, haema), np.where(glandular, tall_e, eosin)
        line = np.where(glandular, np.float32(0.6), line)
    lumen = code == LUMEN
    if lumen.any():
        wisp = np.clip(
            1 - 2.2 * np.abs(blobs(rng, shape, 14.0) + 0.4 * blobs(rng, shape, 5.0)), 0, 1
        )
        wisp = wisp * np.clip(0.5 + blobs(rng, shape, 45.0), 0, 1.5) * float(rng.uniform(0, 1))
        haema = np.where(lumen, 0.045 * wisp + 0.004, haema)
        eosin = np.where(lumen, 0.02 * wisp + 0.004, eosin)
    blood = np.zeros(shape, np.float32)
    if (code == VESSEL).any():
        _fill_vessels(rng, band, site, haema, eosin, blood)
    line = np.where(lumen | (code == VESSEL), np.float32(0), line)
    check()

    tissue = code != GLASS
    inside = gaussian_filter(tissue.astype(np.float32), 2.0, truncate=3)
    ragged = 0.9 * blobs(rng, shape, 3.0) + 0.7 * blobs(rng, shape, 9.0)
    edge = (inside - 0.5) * np.float32(5.2) + ragged * np.where(stroma_field(band, site), 0.9, 0.6)
    # The blur reaches no farther: beyond, nothing is ragged.
    edge = np.where(inside > 0.995, np.float32(4), np.where(inside < 0.02, np.float32(-4), edge))
    rim = 1 + 0.7 * (
        1 - np.clip(gaussian_filter(tissue.astype(np.float32), 3.5, truncate=2.5), 0.5, 1)
    )
    rim = rim.astype(np.float32)
    mesenchyme = gaussian_filter(stroma_field(band, site).astype(np.float32), 1.4, truncate=3)
    check()
    spill_h, spill_e = _spill(rng, band, site)
    return Ground(
        haema=(haema * rim).astype(np.float32),
        eosin=(eosin * rim).astype(np.float32),
        border=territories.border,
        line=line.astype(np.float32),
        halo=np.where((code >= 1) & (code <= 4), cytoplasm.halo, np.float32(-8)),
        edge=edge.astype(np.float32),
        mesenchyme=mesenchyme,
        blood=blood,
        rim=rim,
        spill_haema=spill_h,
        spill_eosin=spill_e,
        grain=grain,
        cells=red_cell_tile(rng),
        stroma=stroma,
        membrane=float(rng.uniform(0.03, 0.16)),
    )


def _lamellae(grain: Plane, site: Site) -> Plane:
    """The grain drawn out along the layers."""
    row = np.floor(site.v * 2.0).astype(np.intp) % grain.shape[0]
    col = np.floor(site.u * 0.22).astype(np.intp) % grain.shape[1]
    return np.asarray(grain[row, col])


def _fill_vessels(
    rng: np.random.Generator, band: Band, site: Site, haema: Plane, eosin: Plane, blood: Plane
) -> None:
    """Walls of vessels, and what is in them: red cells, plasma or nothing; in place."""
    vessels = [p for p in band.pockets if p.kind == "vessel"]
    where = np.nonzero(site.code == VESSEL)
    gap = np.stack([np.hypot(site.u[where] - p.u, site.v[where] - p.v) for p in vessels])
    which = gap.argmin(axis=0)
    count = len(vessels)
    radius = np.asarray([p.radius for p in vessels])
    thick = np.clip(radius * rng.uniform(0.12, 0.4, count), 1.6, 8.0)
    full = np.where(rng.random(count) < 0.55, rng.uniform(0.35, 0.6, count), 0.0)
    inward = site.inward[where]
    wall = np.clip(0.5 + (thick[which] - inward) / 1.2, 0, 1)
    lines = 1 + 0.25 * np.sin(inward * 2.4)
    haema[where] = wall * 0.11 * lines + (1 - wall) * 0.01
    eosin[where] = wall * 0.27 * lines + (1 - wall) * rng.uniform(0.0, 0.06, count)[which]
    blood[where] = (1 - wall) * full[which]


def _spill(rng: np.random.Generator, band: Band, site: Site) -> tuple[Plane, Plane]:
    """Mucus, flakes and red cells on the glass near the surface."""
    from PIL import Image as Pillow
    from PIL import ImageDraw
    from scipy.ndimage import gaussian_filter

    shape = (band.height, band.width)
    haema, eosin = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    glass = site.code == GLASS
    if not glass.any():
        return haema, eosin
    above = band.surface[site.index] - site.v
    coat = np.clip(blobs(rng, shape, 160.0) - 0.3, 0, 1) * float(rng.uniform(0, 0.05))
    whole = (band.upper <= band.surface + 0.5)[site.index]
    coat = coat * np.exp(-np.clip(above, 0, 200) / 7.0) * ((above > 0) & whole)
    image = Pillow.new("F", (shape[1], shape[0]))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.poisson(band.length / 700))):
        u = float(rng.uniform(0, band.length))
        v = float(band.surface[int(u)] - rng.uniform(10, 60))
        if rng.random() < 0.5:
            # A flake of surface cells, seen from its side.
            steps = np.arange(0, rng.uniform(15, 60), 3.0)
            bent = v + np.cumsum(rng.normal(0, 0.8, steps.size))
            ys, xs = band.to_canvas(u + steps, bent)
            draw.line(list(zip(xs.tolist(), ys.tolist(), strict=True)), 0.25, 2)
        else:
            for _ in range(int(rng.integers(2, 14))):
                ys, xs = band.to_canvas(
                    np.asarray(u + rng.normal(0, 14)), np.asarray(v + rng.normal(0, 7))
                )
                r = 3.2
                box = (float(xs) - r, float(ys) - r, float(xs) + r, float(ys) + r)
                draw.ellipse(box, fill=0.42)
    lying = gaussian_filter(np.asarray(image, np.float32), 0.6)
    lying = lying * gaussian_filter(glass.astype(np.float32), 1.0) ** 4
    eosin = (lying + 0.4 * coat).astype(np.float32)
    haema = (0.12 * lying + coat).astype(np.float32)
    return haema, eosin
