"""Drawing nuclei into planes of optical density."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.nucleus import ENDOTHELIUM, MITOSIS, SPINDLE, Nuclei

__all__ = ["stamp"]

Plane = npt.NDArray[np.float32]

_TILE = 512
_GRAIN = 0.14
"""µm a pixel of the tile of chromatin."""
_CHUNK = 1_500_000
# Halos from here on belong to the cytoplasm, which the ground paints.
_WIDE = 4.0
# How far the outline goes in and out, by `lobe`.
_LOBE = 1.6
_BENT = (SPINDLE, ENDOTHELIUM)


def _tile() -> Plane:
    """Clumps of chromatin: about unit deviation, seamless, always the same."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(20).standard_normal((_TILE, _TILE)).astype(np.float32)
    fine = gaussian_filter(noise, 2.6, mode="wrap")
    coarse = gaussian_filter(noise[::-1], 6.0, mode="wrap")
    both = 0.65 * fine / fine.std() + 0.75 * coarse / coarse.std()
    return np.asarray(np.clip(both, -1.3, 2.2), dtype=np.float32)


def _dice(nuclei: Nuclei, count: int) -> Plane:
    """Numbers in 0..1 that belong to each nucleus wherever it is drawn, (count, n)."""
    turn = np.arange(1, count + 1)[:, None] * 37.719
    raw = np.sin(nuclei.y * 12.9898 + nuclei.x * 78.233 + turn) * 43758.5453
    return np.asarray(raw - np.floor(raw), dtype=np.float32)


def _ring(nuclei: Nuclei) -> npt.NDArray[np.float64]:
    """Width of the cleared ring that is drawn, µm: it stays within 2 `major` + 2."""
    thin = np.where(nuclei.halo < _WIDE, nuclei.halo, 0.0)
    return np.asarray(np.minimum(thin, 0.5 * nuclei.major + 0.5))


def _plate(nuclei: Nuclei) -> npt.NDArray[np.bool_]:
    return np.asarray((nuclei.kind == MITOSIS) & (nuclei.major > 2 * nuclei.minor))


def stamp(nuclei: Nuclei, y: int, x: int, mpp: float, ink: Plane, cover: Plane) -> None:
    """Draw nuclei into two planes, in place.

    A nucleus looks the same in whatever block it is drawn. Of two that overlap
    the darker one shows at each pixel.

    Parameters
    ----------
    nuclei : Nuclei
        All, or those that may touch the block: within 2 `major` + 2 µm of it.
    y, x : int
        The block's first pixel.
    mpp : float
        µm per pixel.
    ink : ndarray of float32, (height, width)
        Optical density of haematoxylin.
    cover : ndarray of float32, (height, width)
        Share of the cytoplasm that a nucleus, or the thin cleared ring around
        it, takes away.
    """
    soft = max(0.45, 0.8 * mpp)
    halo = _ring(nuclei)
    # How far it can reach up and sideways, with its lobes.
    cos, sin = np.abs(np.cos(nuclei.phi)), np.abs(np.sin(nuclei.phi))
    swell, rim = 1 / (1 - _LOBE * np.minimum(nuclei.lobe, 0.3)), 1.7 * halo + 0.5 * soft
    thick = nuclei.minor * np.where(np.isin(nuclei.kind, _BENT), 2.0, 1.0)
    # A blunt one's corners.
    swell = np.where(_plate(nuclei), 1.2, 1.0) * swell
    tall = np.hypot(nuclei.major * sin, thick * cos) * swell + rim
    wide = np.hypot(nuclei.major * cos, thick * sin) * swell + rim
    height, width = ink.shape
    inside = (nuclei.y + tall > (y - 1) * mpp) & (nuclei.y - tall < (y + height + 1) * mpp)
    inside &= (nuclei.x + wide > (x - 1) * mpp) & (nuclei.x - wide < (x + width + 1) * mpp)
    nuclei, tall, wide = nuclei.select(inside), tall[inside], wide[inside]
    half_y, half_x = ((np.ceil(a / mpp).astype(int) + 3) // 4 * 4 for a in (tall, wide))
    tile = _tile()
    key = half_y * 4096 + half_x
    for value in np.unique(key):
        group = np.flatnonzero(key == value)
        h, w = int(value) // 4096, int(value) % 4096
        chunk = max(1, _CHUNK // ((2 * h + 1) * (2 * w + 1)))
        for start in range(0, group.size, chunk):
            part = nuclei.select(group[start : start + chunk])
            _draw(part, (h, w), (y, x), mpp, soft, tile, ink, cover)


def _draw(
    one: Nuclei,
    half: tuple[int, int],
    corner: tuple[int, int],
    mpp: float,
    soft: float,
    tile: Plane,
    ink: Plane,
    cover: Plane,
) -> None:
    """Draw nuclei that fit boxes of one size, the pixels of all in one list."""
    height, width = ink.shape

    def column(values: npt.NDArray[np.floating]) -> Plane:
        return values.astype(np.float32)

    row = np.floor(one.y / mpp).astype(int)[:, None] + np.arange(-half[0], half[0] + 1)
    col = np.floor(one.x / mpp).astype(int)[:, None] + np.arange(-half[1], half[1] + 1)
    dy = column((row + 0.5) * mpp - one.y[:, None])
    dx = column((col + 0.5) * mpp - one.x[:, None])
    row -= corner[0]
    col -= corner[1]
    major, minor = column(one.major), column(one.minor)
    cos, sin = column(np.cos(one.phi)), column(np.sin(one.phi))
    halo = column(_ring(one))
    lobe = column(np.minimum(one.lobe, 0.3))
    a = (cos / major)[:, None, None] * dx[:, None, :] + (sin / major)[:, None, None] * dy[
        :, :, None
    ]
    b = (cos / minor)[:, None, None] * dy[:, :, None] - (sin / minor)[:, None, None] * dx[
        :, None, :
    ]
    # Slender nuclei are bent.
    dice = _dice(one, 8)
    slender = np.clip(one.major / one.minor - 2.2, 0, 1)
    bend = np.isin(one.kind, _BENT) * slender * (1.8 * dice[7] - 0.9)
    b += column(bend)[:, None, None] * (np.minimum(a * a, np.float32(1.3)) - np.float32(0.4))
    q2 = a * a + b * b
    limit = (1 / (1 - _LOBE * lobe) + np.maximum(1.7 * halo, 0.5 * soft) / minor) ** 2
    near = q2 < limit[:, None, None]
    near &= ((row >= 0) & (row < height))[:, :, None]
    near &= ((col >= 0) & (col < width))[:, None, :]
    flat = np.flatnonzero(near)
    if not flat.size:
        return
    who, rest = np.divmod(flat, near.shape[1] * near.shape[2])
    i, j = np.divmod(rest, near.shape[2])
    where = row[who, i] * width + col[who, j]
    a, b, q = a.reshape(-1)[flat], b.reshape(-1)[flat], np.sqrt(q2.reshape(-1)[flat])

    # A plate of chromosomes is blunt.
    small = minor[who]
    # µm from the middle to the outline in this direction.
    radius = np.sqrt((a * major[who]) ** 2 + (b * small) ** 2) / np.maximum(q, 1e-3)
    radius = np.maximum(radius, small)
    plate = _plate(one)[who]
    q = np.where(plate, np.sqrt(np.sqrt(a**4 + b**4)), q)
    # The outline: a nucleus's own mixture of two to five lobes.
    weight = (2 * dice[:5] - 1) * np.array([[1], [1], [1], [0.6], [0.6]], np.float32)
    scale = 1 / (q + np.float32(0.05))
    c, s = a * scale, b * scale
    c2, s2 = c * c - s * s, 2 * c * s
    c3, s3 = c2 * c - s2 * s, s2 * c + c2 * s
    bump = weight[0][who] * s2 + weight[1][who] * c3 + weight[2][who] * s3
    bump += weight[3][who] * (c2 * c2 - s2 * s2) + weight[4][who] * (c2 * s3 + s2 * c3)
    # Bounded, so that no lobe leaves the nucleus's box.
    q *= 1 + (_LOBE * lobe)[who] * bump / np.sqrt(1 + bump * bump)
    far = (q - 1) * radius
    share = np.clip(0.5 - far / np.float32(soft), 0, 1)

    # The ring is lopsided, as shrinking leaves it.
    ring = halo[who]
    lean = 1 + np.float32(0.49) * ((2 * dice[5] - 1)[who] * c + (2 * dice[6] - 1)[who] * s)
    gap = np.clip(1 - far / np.maximum(ring * lean, 0.05), 0, 1)
    clear_ring = np.where(ring > 0.1, np.minimum(gap * 1.5, 0.72) * np.minimum(ring * 0.7, 1), 0)
    np.maximum.at(cover.reshape(-1), where, np.maximum(share, clear_ring))

    inside = share > 0
    who, where, a, b, q, share = (v[inside] for v in (who, where, a, b, q, share))
    # Chromatin: clumps, gathered at the membrane where the nucleus is pale.
    rim = np.clip(1 - np.abs(q - np.float32(0.84)) * 5, 0, 1)
    clear, texture = column(one.clear)[who], column(one.texture)[who]
    tone = 1 - clear * (np.float32(0.40) - np.float32(0.46) * rim)
    membrane = column(np.where(one.kind == MITOSIS, 0.0, 0.2))
    tone += membrane[who] * rim
    fade = np.float32(0.27 * min(1.0, 0.6 / mpp))
    off = np.floor(dice[3:5] * _TILE).astype(np.int32)
    p = np.floor(a * (major / np.float32(_GRAIN))[who]).astype(np.int32) + off[0][who]
    r = np.floor(b * (minor / np.float32(_GRAIN))[who]).astype(np.int32) + off[1][who]
    tone += fade * texture * tile[p & (_TILE - 1), r & (_TILE - 1)]
    # One nucleolus, off the middle, in vesicular nuclei.
    spot = column(np.where((one.clear > 0.75) & (one.kind != MITOSIS), 0.55, 0.0))
    da = (a - ((dice[6] - 0.5) * np.float32(0.7))[who]) * major[who]
    db = (b - ((dice[7] - 0.5) * np.float32(0.7))[who]) * minor[who]
    tone += spot[who] * np.clip(
        np.float32(1.9) - np.sqrt(da * da + db * db) / np.float32(0.7), 0, 1
    )
    np.maximum(tone, np.float32(0.1), out=tone)
    np.maximum.at(ink.reshape(-1), where, share * tone * column(one.dark)[who])
