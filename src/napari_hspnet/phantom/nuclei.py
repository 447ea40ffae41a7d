"""Where nuclei lie: in the epithelium, its pockets and the stroma."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom import cells
from napari_hspnet.phantom.cells import Manner, Places, Set
from napari_hspnet.phantom.geometry import (
    COLUMNAR,
    GLASS,
    LOOKS,
    STROMA,
    VESSEL,
    Band,
    Floats,
    Site,
)
from napari_hspnet.phantom.nucleus import MITOSIS, SQUAMOUS, Nuclei

__all__ = ["Nuclei", "place_nuclei", "settle"]

Flags = npt.NDArray[np.bool_]

# Darts thrown a µm²; the rooms that nuclei claim decide how many stay.
_DARTS = 0.055
# Nuclei may reach into the canvas from this far beyond it, µm.
_MARGIN = 12.0
# Mitoses a µm² of the atypical layers, by class value 1..4.
_MITOSES = np.array((0.0, 1.2e-5, 3.5e-5, 7e-5))


def settle(y: Floats, x: Floats, room: Floats) -> Flags:
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


def _squamous(code: npt.NDArray[np.uint8]) -> Flags:
    return np.asarray((code > GLASS) & (code < STROMA))


def _part(site: Site, keep: Flags) -> Site:
    return Site(**{f.name: getattr(site, f.name)[keep] for f in fields(site)})


def _points(
    rng: np.random.Generator, line: tuple[Floats, Floats], step: float, jitter: float
) -> tuple[Floats, Floats, Floats]:
    """Points about every `step` µm along a line (y, x), and the line's direction there."""
    y, x = line
    far = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(y), np.diff(x)))])
    at = np.arange(rng.uniform(0, step), far[-1], step)
    at = np.clip(at + rng.uniform(-jitter, jitter, at.size), 0, far[-1])
    before, after = np.maximum(at - 4.0, 0), np.minimum(at + 4.0, far[-1])
    rise = np.interp(after, far, y) - np.interp(before, far, y)
    run = np.interp(after, far, x) - np.interp(before, far, x)
    return np.interp(at, far, y), np.interp(at, far, x), np.arctan2(rise, run)


class _Ground:
    """A band, and what varies along it, as nuclei find it."""

    def __init__(self, rng: np.random.Generator, band: Band, manner: Manner) -> None:
        from scipy.ndimage import gaussian_filter1d

        self.band = band
        self.manner = manner
        self._lean = np.arctan(gaussian_filter1d(np.gradient(band.basement), 4.0))
        knots = np.arange(0, band.length + 160, 160)
        drift = np.interp(np.arange(band.length), knots, rng.normal(0, 0.18, knots.size))
        self._severity = np.clip(manner.severity + drift, 0, 1)

    def places(self, y: Floats, x: Floats, site: Site, along: Floats | None = None) -> Places:
        """What is at points; layers follow the membrane, less and less towards the surface."""
        band, i = self.band, site.index
        if along is None:
            lean = self._lean[i] * (1 - 0.8 * np.clip(site.depth, 0, 1))
            along = band.direction(site.u) + lean
        return Places(y, x, along, site.depth, band.reach[i], band.look[i], self._severity[i])

    def row(
        self,
        rng: np.random.Generator,
        lines: list[tuple[Floats, Floats]],
        step: float,
        jitter: float,
        offset: tuple[float, float],
        codes: tuple[int, int],
    ) -> Places:
        """A row `offset` µm beside lines, on whichever side has codes from..to."""
        parts = [_points(rng, line, step, jitter) for line in lines]
        if not parts:
            parts = [(np.zeros(0), np.zeros(0), np.zeros(0))]
        y, x, turn = (np.concatenate(column) for column in zip(*parts, strict=True))
        near = (y > -_MARGIN) & (y < self.band.height + _MARGIN)
        near &= (x > -_MARGIN) & (x < self.band.width + _MARGIN)
        y, x, turn = y[near], x[near], turn[near]
        far = rng.uniform(*offset, y.size)
        # Which side is decided farther out, where a membrane's wiggles do not matter.
        wide = np.maximum(far, 3.0)
        left, right = (
            self.band.site(y + s * wide * np.cos(turn), x - s * wide * np.sin(turn)).code
            for s in (1, -1)
        )
        in_left, in_right = ((c >= codes[0]) & (c <= codes[1]) for c in (left, right))
        side = np.where(in_left, 1.0, -1.0)
        y, x = y + side * far * np.cos(turn), x - side * far * np.sin(turn)
        site = self.band.site(y, x)
        keep = (in_left != in_right) & (site.code >= codes[0]) & (site.code <= codes[1])
        return self.places(y, x, site, turn).select(keep)


def _epithelium(rng: np.random.Generator, ground: _Ground, at: Places, site: Site) -> list[Set]:
    """What divides or dies, atypical cells, koilocytes, guests and maturing ones, in this order."""
    band, n, t = ground.band, at.y.size, at.depth
    grade = band.grade[site.index]
    edge = at.reach + rng.normal(0, 0.035, n)
    share = 1.0 / (1.0 + np.exp(np.clip((t - edge) / 0.03, -30, 30)))
    # A soft edge, but no strays: where nothing is reached there is no atypia.
    share = np.where((at.reach > 0.02) & (t < at.reach + 0.13), share, 0.0)
    odd = rng.random(n) < 0.94 * share
    rate = np.where(odd, _MITOSES[grade - 1], 0.0)
    rate[(grade == 2) & (t > 0.33)] = 0.0
    # Normal cells divide next to the basal row, more of them where it is repaired.
    healthy = ~odd & (grade == 1) & (t < 0.28)
    reactive = at.look == LOOKS.index("reactive")
    rate = np.where(healthy, np.where(reactive, 1.2e-5, 2e-6), rate)
    inflamed = at.look == LOOKS.index("inflamed")
    rates = (
        rate * ground.manner.mitotic,
        np.where(odd, 2.5e-5, 3e-6),
        np.where(~odd & (t > 0.35) & (t < 0.97), 0.0022 * band.koilocytes[site.index], 0.0),
        np.where(inflamed, 0.0022 * (1 - 0.75 * t), 1.5e-4 * band.inflamed * (1.2 - t)),
    )
    # Which of the four a dart is, or 4 for a cell that is only atypical or maturing.
    chance = rng.random(n) * _DARTS
    sort = np.sum(chance >= np.cumsum(rates, axis=0), axis=0)
    manner = ground.manner
    return [
        cells.mitoses(rng, at.select(sort == 0)),
        cells.apoptotic(rng, at.select(sort == 1)),
        cells.atypical(rng, at.select((sort == 4) & odd), manner),
        cells.koilocytes(rng, at.select(sort == 2), manner),
        cells.lymphocytes(rng, at.select(sort == 3)),
        _thin(rng, cells.maturing(rng, at.select((sort == 4) & ~odd), manner)),
    ]


def _thin(rng: np.random.Generator, part: Set) -> Set:
    """Fewer darts where each claims much room: most would only be in the way."""
    keep = rng.random(part.room.size) < (4.2 / np.maximum(part.room, 4.2)) ** 1.6
    return Set(part.nuclei.select(keep), part.room[keep])


def _stroma(rng: np.random.Generator, ground: _Ground, at: Places, site: Site) -> list[Set]:
    """Lymphocytes that gather below the membrane, plasma cells, spindles along the fibres."""
    band, n = ground.band, at.y.size
    below = np.maximum(site.v - band.basement[site.index], 0)
    crowd = np.zeros(n)
    for centre in rng.uniform(0, band.length, max(1, band.length // 450)):
        deep, wide = rng.uniform(0, 110), rng.uniform(30, 130)
        gap = ((site.u - centre) / wide) ** 2 + ((below - deep) / (0.7 * wide)) ** 2
        crowd += np.exp(-gap)
    strip = np.exp(-below / rng.uniform(50, 160))
    dense = band.inflamed * (0.06 * strip + 0.32 * np.minimum(crowd, 1.0) ** 1.5) + 0.003
    pick = rng.random(n)
    round_ = pick < dense
    plasma = round_ & (rng.random(n) < 0.18)
    # More cells in the loose stroma below the epithelium than deep down.
    spindle = ~round_ & (pick > 1 - (0.07 + 0.06 * np.exp(-below / 120)))
    return [
        cells.lymphocytes(rng, at.select(round_ & ~plasma)),
        cells.plasma(rng, at.select(plasma)),
        cells.spindles(rng, at.select(spindle)),
    ]


def _rows(rng: np.random.Generator, ground: _Ground) -> tuple[list[Set], list[Set]]:
    """The basal row; and the rows of columnar cells and of endothelium."""
    band = ground.band
    basement = [(a.y, a.x) for a in band.lines() if a.kind == "basement"]
    basal = ground.row(rng, basement, 4.9, 0.9, (3.4, 5.4), (1, 4))
    bare: list[tuple[Floats, Floats]] = []
    step = np.flatnonzero(np.diff(np.concatenate([[0], band.columnar.astype(np.int8), [0]])))
    for start, stop in zip(step[::2], step[1::2], strict=True):
        u = np.arange(start, stop)
        bare.append(band.to_canvas(u + 0.5, band.basement[u]))
    walls = {
        kind: [band.to_canvas(*p.outline()) for p in band.pockets if p.kind == kind]
        for kind in ("gland", "vessel")
    }
    lining = ground.row(rng, [*bare, *walls["gland"]], 4.6, 1.2, (5.0, 9.5), (COLUMNAR, COLUMNAR))
    flat = ground.row(rng, walls["vessel"], 13.0, 5.0, (0.8, 1.6), (VESSEL, VESSEL))
    return (
        [cells.basal(rng, basal, ground.manner)],
        [cells.columnar(rng, lining), cells.endothelium(rng, flat)],
    )


def _split(
    rng: np.random.Generator, nuclei: Nuclei, which: Flags, gap: float, shrink: float
) -> Nuclei:
    """Two for each of those: apart by `gap` semi-axes across the major one."""
    one = nuclei.select(which)
    away = one.minor * gap * rng.uniform(0.9, 1.25, one.y.size)
    dy, dx = np.cos(one.phi) * away, -np.sin(one.phi) * away
    one = replace(one, major=one.major * shrink, minor=one.minor * shrink)
    pair = [replace(one, y=one.y + s * dy, x=one.x + s * dx) for s in (-1, 1)]
    return Nuclei.join([nuclei.select(~which), *pair])


def place_nuclei(rng: np.random.Generator, band: Band) -> Nuclei:
    """All nuclei of a band; deterministic for a generator's state.

    Nuclei are thrown as darts in the order of their precedence: the basal row,
    mitoses, atypical cells, koilocytes, maturing cells, the rows of columnar
    cells and endothelium, lymphocytes, spindles.

    Parameters
    ----------
    rng : numpy Generator
        Source of everything random.
    band : Band
        Their ground.

    Returns
    -------
    Nuclei
        With centres up to 12 µm beyond the canvas.
    """
    ground = _Ground(rng, band, Manner.draw(rng))
    first, rows = _rows(rng, ground)
    height, width = band.height + 2 * _MARGIN, band.width + 2 * _MARGIN
    n = int(height * width * _DARTS)
    y, x = rng.uniform(0, height, n) - _MARGIN, rng.uniform(0, width, n) - _MARGIN
    site = band.site(y, x)
    at = ground.places(y, x, site)
    inside, outside = _squamous(site.code), site.code == STROMA
    sets = [
        *first,
        *_epithelium(rng, ground, at.select(inside), _part(site, inside)),
        *rows,
        *_stroma(rng, ground, at.select(outside), _part(site, outside)),
    ]
    nuclei = Nuclei.join([part.nuclei for part in sets])
    room = np.concatenate([part.room for part in sets])
    nuclei = nuclei.select(settle(nuclei.y, nuclei.x, room))
    # Those that a fragment's cut would leave hanging over the glass are left out.
    whole = np.ones(nuclei.y.size, dtype=bool)
    for dy, dx in ((-3.0, 0.0), (3.0, 0.0), (0.0, -3.0), (0.0, 3.0)):
        whole &= band.codes(nuclei.y + dy, nuclei.x + dx) != GLASS
    nuclei = nuclei.select(whole)
    # Some koilocytes have two nuclei, some divisions are already apart.
    n = nuclei.y.size
    two = (nuclei.kind == SQUAMOUS) & (nuclei.halo >= 6) & (rng.random(n) < 0.18)
    nuclei = _split(rng, nuclei, two, 0.95, 0.8)
    n = nuclei.y.size
    apart = (nuclei.kind == MITOSIS) & (nuclei.major > 2 * nuclei.minor) & (rng.random(n) < 0.25)
    return _split(rng, nuclei, apart, 1.9, 0.8)
