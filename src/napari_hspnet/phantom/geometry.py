"""Where the epithelium lies: a band between basement membrane and surface.

The rule for the grade, which is the truth of every phantom: atypical cells fill
the epithelium from the basement membrane up to a share of its thickness, the
*reach*. Below 0.13 the epithelium is normal, up to 0.50 CIN1 (the lower third),
up to 0.84 CIN2 (two thirds), beyond it CIN3; the whole thickness at that place
along the band has that one grade. Epithelium that only looks alarming (reactive,
atrophic, inflamed, metaplastic) has no atypical cells: it is normal. Epithelium
cut across within the stroma, or grown into a gland, has the grade of the band
above it. Glass, stroma, vessels, columnar cells and lumina are none of the four.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.pockets import GLAND_WALL, Pocket

__all__ = [
    "COLUMNAR",
    "CUTS",
    "GLASS",
    "LOOKS",
    "LUMEN",
    "STROMA",
    "VESSEL",
    "Band",
    "Line",
    "Site",
    "pixel_centres",
]

GLASS, STROMA, COLUMNAR, LUMEN, VESSEL = 0, 5, 6, 7, 8
"""Codes beside the class values 1..4 (see `Band.codes`); all are truth 0."""

CUTS = (0.13, 0.50, 0.84)
"""Reach at which normal becomes CIN1, CIN1 CIN2, and CIN2 CIN3."""

LOOKS = ("mature", "reactive", "atrophic", "inflamed", "metaplastic")
"""How epithelium without atypia looks; `Band.look` holds indices into it."""

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]


def pixel_centres(start: int, count: int, mpp: float) -> Floats:
    """Centres in µm of `count` pixels of `mpp` µm from pixel `start` on."""
    return np.asarray((np.arange(start, start + count) + 0.5) * mpp, dtype=np.float64)


@dataclass(frozen=True)
class Line:
    """A border of the epithelium on the canvas.

    Attributes
    ----------
    kind : str
        ``"surface"`` or ``"basement"``.
    y, x : ndarray of float64, (n,)
        Its points, µm; the first is repeated at the end of a closed one.
    """

    kind: str
    y: Floats
    x: Floats


@dataclass(frozen=True)
class Site:
    """What lies at points of the canvas; all arrays of one shape.

    Attributes
    ----------
    code : ndarray of uint8
        See `Band.codes`.
    u, v : ndarray of float64
        Band coordinates, µm.
    index : ndarray of intp
        Into the band's tables.
    depth : ndarray of float64
        In epithelium, 0 at the basement membrane (a pocket's border) to 1 at
        the surface; meaningless elsewhere.
    inward : ndarray of float64
        µm inside the border of the pocket that holds the point; 0 in none.
    """

    code: Codes
    u: Floats
    v: Floats
    index: npt.NDArray[np.intp]
    depth: Floats
    inward: Floats


@dataclass(frozen=True)
class Band:
    """A piece of mucosa on a canvas of `height` x `width` µm.

    Band coordinates: `u` µm along the band, `v` µm across it, growing from the
    surface towards the stroma. The tables have one entry a µm of `u`.

    Attributes
    ----------
    height, width : int
        Size of the canvas in µm.
    angle : float
        Direction of `u` at the canvas's middle, radians.
    surface, basement : ndarray of float64, (length,)
        `v` of the surface and of the basement membrane, as they grew.
    upper, deep : ndarray of float64, (length,)
        `v` at which tissue begins and ends: the surface where it is whole, the
        knife's cut at a fragment's ends.
    reach : ndarray of float64, (length,)
        Share of the thickness, from the basement membrane, that is atypical.
    grade : ndarray of uint8, (length,)
        Class value 1..4: the truth of the whole thickness at that `u`.
    bend : float
        Curvature of the band, 1/µm: it lies along a circle of radius 1 / bend.
    look : ndarray of uint8, (length,)
        Index into `LOOKS`: what the epithelium looks like where it is not atypical.
    koilocytes : ndarray of float64, (length,)
        Share, 0 to 1, of cells in its middle and upper layers that are koilocytes.
    columnar : ndarray of bool, (length,)
        Where one layer of columnar cells covers the surface, none of the four.
    pockets : tuple of Pocket
        In the order in which they are laid over each other.
    inflamed : float
        Density of lymphocytes in the stroma, 0 to 1.
    """

    height: int
    width: int
    angle: float
    surface: Floats
    basement: Floats
    upper: Floats
    deep: Floats
    reach: Floats
    grade: Codes
    bend: float
    look: Codes
    koilocytes: Floats
    columnar: npt.NDArray[np.bool_]
    pockets: tuple[Pocket, ...] = field(default=())
    inflamed: float = 0.2

    @property
    def length(self) -> int:
        """Length of the tables in µm."""
        return int(self.surface.size)

    def to_band(self, y: Floats, x: Floats) -> tuple[Floats, Floats]:
        """Band coordinates (u, v) of canvas points in µm (broadcast)."""
        dy, dx = y - self.height / 2, x - self.width / 2
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along, across = cos * dx + sin * dy, cos * dy - sin * dx
        if self.bend:
            radius = 1.0 / self.bend
            side = math.copysign(1.0, radius)
            rest = radius - across
            along, across = (
                radius * np.arctan2(along * side, rest * side),
                radius - side * np.hypot(along, rest),
            )
        return along + self.length / 2, across

    def to_canvas(self, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Canvas points (y, x) in µm of band coordinates."""
        along, across = u - self.length / 2, v
        if self.bend:
            radius = 1.0 / self.bend
            turn = along / radius
            along, across = (radius - v) * np.sin(turn), radius - (radius - v) * np.cos(turn)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        y = self.height / 2 + sin * along + cos * across
        return np.asarray(y), np.asarray(self.width / 2 + cos * along - sin * across)

    def direction(self, u: Floats) -> Floats:
        """Direction of `u` on the canvas at places along the band, radians."""
        return np.asarray(self.angle + (u - self.length / 2) * self.bend)

    def index(self, u: Floats) -> npt.NDArray[np.intp]:
        """Table index of `u`, clipped to the band."""
        return np.clip(np.floor(u), 0, self.length - 1).astype(np.intp)

    def depth(self, u: Floats, v: Floats) -> Floats:
        """Share of the thickness above the basement membrane (0) to the surface (1)."""
        i = self.index(u)
        thickness = np.maximum(self.basement[i] - self.surface[i], 1.0)
        return np.asarray((self.basement[i] - v) / thickness)

    def codes(self, y: Floats, x: Floats) -> Codes:
        """What lies at canvas points, pixel by pixel and independent of the block.

        Parameters
        ----------
        y, x : ndarray of float64
            µm on the canvas, broadcast against each other.

        Returns
        -------
        ndarray of uint8
            The class value 1..4 in squamous epithelium, else `GLASS`, `STROMA`,
            `COLUMNAR`, `LUMEN` or `VESSEL`.
        """
        return self.site(y, x).code

    def site(self, y: Floats, x: Floats) -> Site:
        """What lies at canvas points, and where in its layer; as `codes`."""
        u, v = self.to_band(y, x)
        i = self.index(u)
        on = (u >= 0) & (u < self.length)
        tissue = on & (v >= self.upper[i]) & (v < self.deep[i])
        above = v < self.basement[i]
        lining = np.where(self.columnar, np.uint8(COLUMNAR), self.grade)
        code = np.where(above, lining[i], np.uint8(STROMA))
        code = np.where(tissue, code, np.uint8(GLASS)).astype(np.uint8)
        depth, inward = self.depth(u, v), np.zeros(u.shape)
        if not u.size:
            return Site(code, u, v, i, depth, inward)
        box = tuple(float(edge) for edge in (y.min(), y.max(), x.min(), x.max()))
        for pocket in self.pockets:
            where = self._near(pocket, u, v, box)
            if where is not None:
                self._lay(pocket, where, Site(code, u, v, i, depth, inward))
        return Site(code, u, v, i, depth, inward)

    def _near(
        self, pocket: Pocket, u: Floats, v: Floats, box: tuple[float, ...]
    ) -> tuple[npt.NDArray[np.intp], ...] | None:
        """Where in the arrays points can lie in a pocket, or None."""
        far = pocket.reach
        y, x = self.to_canvas(np.asarray(pocket.u), np.asarray(pocket.v))
        # The circle is stretched along a bent band by less than this.
        wide = far * (1 + 2 * abs(self.bend) * (abs(pocket.v) + far))
        if not (box[0] - wide <= y <= box[1] + wide and box[2] - wide <= x <= box[3] + wide):
            return None
        where = np.nonzero((np.abs(u - pocket.u) <= far) & (np.abs(v - pocket.v) <= far))
        return where if where[0].size else None

    def _lay(self, pocket: Pocket, where: tuple[npt.NDArray[np.intp], ...], site: Site) -> None:
        """Lay one pocket over what is there, in place."""
        inward = pocket.inward(site.u[where], site.v[where])
        below = site.code[where]
        home = (below >= 1) & (below <= 4) if pocket.kind == "papilla" else below == STROMA
        take = home & (inward > 0)
        place = tuple(axis[take] for axis in where)
        inward = inward[take]
        if pocket.kind == "papilla":
            new = np.full(inward.shape, STROMA, np.uint8)
        elif pocket.kind == "vessel":
            new = np.full(inward.shape, VESSEL, np.uint8)
        elif pocket.kind == "gland":
            new = np.where(inward < GLAND_WALL, COLUMNAR, LUMEN).astype(np.uint8)
        else:
            # Of one grade: that of the band where its middle lies.
            middle = self.index(np.asarray(pocket.u))
            new = np.full(inward.shape, self.grade[middle], np.uint8)
            thickness = float(self.basement[middle] - self.surface[middle])
            site.depth[place] = np.clip(inward / max(thickness, 1.0), 0, 1)
            site.index[place] = middle
        site.code[place] = new
        site.inward[place] = inward

    def lines(self, step: int = 2) -> tuple[Line, ...]:
        """Surface and basement membrane where there is squamous epithelium.

        Parameters
        ----------
        step : int
            µm along the band from point to point.

        Returns
        -------
        tuple of Line
            Parts of the band's two curves and of the borders of pockets that
            have squamous epithelium on one side; closed where a border is whole.
        """
        out: list[Line] = []
        u = np.append(np.arange(0, self.length - 1, step), self.length - 1) + 0.5
        for kind, table, side in (
            ("surface", self.surface, 1.0),
            ("basement", self.basement, -1.0),
        ):
            v = table[self.index(u)]
            out += self._borders(kind, (u, v), (u, v + side), (u, v - side))
        for pocket in self.pockets:
            if pocket.kind in ("island", "crypt", "papilla"):
                u, v = pocket.outline(step)
                du, dv = u - pocket.u, v - pocket.v
                far = np.maximum(np.hypot(du, dv), 1e-6)
                du, dv = du / far, dv / far
                out += self._borders("basement", (u, v), (u - du, v - dv), (u + du, v + dv))
        return tuple(out)

    def _borders(
        self,
        kind: str,
        line: tuple[Floats, Floats],
        one_side: tuple[Floats, Floats],
        other_side: tuple[Floats, Floats],
    ) -> list[Line]:
        """The parts of a line, in band coordinates, with squamous epithelium on one side."""
        one = self.codes(*self.to_canvas(*one_side))
        other = self.codes(*self.to_canvas(*other_side))
        parts = _squamous(one) != _squamous(other)
        if kind == "basement":
            parts &= (one != GLASS) & (other != GLASS)
        y, x = self.to_canvas(*line)
        return [Line(kind, y[r], x[r]) for r in _runs(parts) if r.stop - r.start > 2]


def _squamous(code: Codes) -> npt.NDArray[np.bool_]:
    return np.asarray((code >= 1) & (code <= 4))


def _runs(there: npt.NDArray[np.bool_]) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
