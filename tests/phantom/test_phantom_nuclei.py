"""Nuclei: where they lie, what tells atypia from its look-alikes, how they are drawn."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.phantom import cells
from napari_hspnet.phantom.geometry import COLUMNAR, GLASS, LOOKS, STROMA, VESSEL
from napari_hspnet.phantom.growth import field_band, fragment_band
from napari_hspnet.phantom.nuclei import place_nuclei, settle
from napari_hspnet.phantom.stamp import stamp

LOOK_ALIKES = ("reactive", "atrophic", "inflamed", "metaplastic")


def _tissue(grade, look="mature", count=3, side=600):
    """Bands of one grade and look with their nuclei, the depths and sizes of squamous ones."""
    found = []
    seed = 0
    while len(found) < count:
        band = field_band(np.random.default_rng([seed, grade]), side, side, (grade,), whole=True)
        seed += 1
        if band.look[0] != LOOKS.index(look):
            continue
        # Basal cells around papillae lie at any height.
        band = dataclasses.replace(band, pockets=())
        nuclei = place_nuclei(np.random.default_rng([seed, grade]), band)
        depth = band.site(nuclei.y, nuclei.x).depth
        at = nuclei.epithelial
        found.append((band, nuclei.select(at), depth[at]))
    return found


def _area(nuclei):
    return nuclei.major * nuclei.minor


def _large(grade, low, high):
    """Share of large nuclei among those at a depth of the epithelium."""
    parts = [_area(n)[(t > low) & (t < high)] for _, n, t in _tissue(grade)]
    return float((np.concatenate(parts) > 15.0).mean())


def test_atypia_reaches_a_third_two_thirds_and_all():
    thirds = ((0.08, 0.28), (0.4, 0.6), (0.75, 0.95))
    found = {g: [_large(g, *third) for third in thirds] for g in (1, 2, 3, 4)}
    reached = {g: [share > 0.4 for share in shares] for g, shares in found.items()}
    assert reached == {
        1: [False, False, False],
        2: [True, False, False],
        3: [True, True, False],
        4: [True, True, True],
    }


@pytest.mark.parametrize("grade", [2, 3, 4])
def test_atypical_cells_are_those_of_the_reach(grade):
    for band, nuclei, t in _tissue(grade, count=2):
        site = band.site(nuclei.y, nuclei.x)
        above = t > band.reach[site.index] + 0.2
        assert not nuclei.atypical[above].any()
        # Of all below it but the basal row, which keeps its own order.
        below = (t < band.reach[site.index] - 0.15) & (t > 0.1)
        assert nuclei.atypical[below].mean() > 0.6


def test_normal_epithelium_matures():
    for _, nuclei, t in _tissue(1):
        size = _area(nuclei)
        assert (t < 0.33).sum() > 2 * (t > 0.67).sum()
        assert size[t > 0.85].mean() < 0.7 * size[(t > 0.1) & (t < 0.33)].mean()
        assert not nuclei.atypical.any()


@pytest.mark.parametrize("look", LOOK_ALIKES)
def test_look_alikes_lack_what_makes_a_grade(look):
    def spread(size):
        return np.log(size).std()

    severe = np.mean([spread(_area(n)[n.atypical]) for _, n, _ in _tissue(4)])
    for _, nuclei, t in _tissue(1, look):
        assert not nuclei.atypical.any()
        assert not (t[nuclei.kind == cells.MITOSIS] > 0.34).any()
        # Within one layer, for they mature.
        layer = (t > 0.2) & (t < 0.4) & (nuclei.kind == cells.SQUAMOUS)
        assert spread(_area(nuclei)[layer]) < 0.75 * severe


def test_mitoses_climb_with_the_grade():
    heights = {}
    for grade in (1, 2, 3, 4):
        parts = [t[n.kind == cells.MITOSIS] for _, n, t in _tissue(grade, count=4)]
        heights[grade] = np.concatenate(parts)
    assert heights[1].size < heights[4].size / 5
    assert heights[2].size < heights[4].size / 2
    assert (heights[2] < 0.36).all()
    assert (heights[3] > 0.33).any()
    assert (heights[3] < 0.85).all()
    assert (heights[4] > 0.67).any()


def test_stain_of_grades_overlaps_from_slide_to_slide():
    # A grade must not be legible from how dark its nuclei are.
    dark = {g: [n.dark.mean() for _, n, _ in _tissue(g, count=6, side=350)] for g in (1, 2, 4)}
    assert min(dark[2]) < np.mean(dark[1])
    assert max(dark[1]) > np.mean(dark[4]) * 0.9
    assert min(dark[4]) < max(dark[2])


def test_koilocytes_lie_where_the_band_has_them():
    band = field_band(np.random.default_rng(1), 500, 500, (2,), whole=True)
    wet = dataclasses.replace(band, koilocytes=np.full(band.length, 0.5))
    dry = dataclasses.replace(band, koilocytes=np.zeros(band.length))
    found = [place_nuclei(np.random.default_rng(2), b) for b in (dry, wet)]
    halos = [n.halo[n.halo >= 6] for n in found]
    assert halos[0].size == 0
    assert halos[1].size > 20
    assert halos[1].max() <= 12
    depth = band.site(found[1].y, found[1].x).depth[found[1].halo >= 6]
    assert depth.min() > 0.3


def _rich_bands():
    """Fragments with columnar cells, glands and vessels."""
    out = []
    for seed in range(60):
        band = fragment_band(np.random.default_rng(seed), 900, 1100)
        kinds = {p.kind for p in band.pockets}
        if band.columnar.any() and {"gland", "vessel", "papilla"} <= kinds:
            out.append((band, place_nuclei(np.random.default_rng(seed), band)))
        if len(out) == 2:
            return out
    raise AssertionError("no rich fragment")


def test_nuclei_lie_in_what_their_kind_says():
    for band, nuclei in _rich_bands():
        code = band.codes(nuclei.y, nuclei.x)
        squamous = (code > GLASS) & (code < STROMA)
        for kind in range(8):
            assert (nuclei.kind == kind).any() or kind in (cells.MITOSIS, cells.APOPTOTIC)
        assert squamous[np.isin(nuclei.kind, (cells.SQUAMOUS, cells.APOPTOTIC))].mean() > 0.995
        assert np.array_equal(
            nuclei.epithelial,
            np.isin(nuclei.kind, (cells.SQUAMOUS, cells.MITOSIS, cells.APOPTOTIC)),
        )
        assert (code[nuclei.kind == cells.COLUMNAR_CELL] == COLUMNAR).all()
        assert (code[nuclei.kind == cells.ENDOTHELIUM] == VESSEL).all()
        assert (code[nuclei.kind == cells.SPINDLE] == STROMA).all()
        assert (code[nuclei.kind == cells.PLASMA] == STROMA).all()
        round_ = nuclei.kind == cells.LYMPHOCYTE
        assert (squamous | (code == STROMA))[round_].all()


def test_a_basal_row_lines_the_membrane_and_the_pockets():
    for band, nuclei in _rich_bands():
        for line in band.lines():
            if line.kind != "basement":
                continue
            y, x = line.y[5:-5:5], line.x[5:-5:5]
            near = np.hypot(y[:, None] - nuclei.y, x[:, None] - nuclei.x) < 9.0
            inside = (band.codes(y, x) > GLASS) & (y > 5) & (y < band.height - 5)
            assert near[:, nuclei.epithelial].any(axis=1)[inside].mean() > 0.8


def test_inflammation_follows_the_band():
    band = fragment_band(np.random.default_rng(5), 700, 900, (1,))
    counts = []
    for level in (0.08, 0.9):
        nuclei = place_nuclei(np.random.default_rng(1), dataclasses.replace(band, inflamed=level))
        counts.append(int((nuclei.kind == cells.LYMPHOCYTE).sum()))
    assert counts[1] > 2.5 * counts[0]


def test_inflamed_epithelium_has_lymphocytes_between_its_cells():
    share = {}
    for look in ("mature", "inflamed"):
        band = _tissue(1, look, count=1)[0][0]
        nuclei = place_nuclei(np.random.default_rng(0), band)
        code = band.codes(nuclei.y, nuclei.x)
        inside = (code > GLASS) & (code < STROMA)
        share[look] = (nuclei.kind[inside] == cells.LYMPHOCYTE).mean()
    assert share["inflamed"] > 0.08
    assert share["mature"] < 0.03


def test_placing_is_determined_by_its_seed():
    band = fragment_band(np.random.default_rng(4), 300, 400)
    one, same, other = (place_nuclei(np.random.default_rng(s), band) for s in (1, 1, 2))
    for f in dataclasses.fields(one):
        assert np.array_equal(getattr(one, f.name), getattr(same, f.name)), f.name
    assert not np.array_equal(one.y[:50], other.y[:50])


def test_a_band_without_epithelium_is_no_error():
    band = fragment_band(np.random.default_rng(4), 300, 400)
    bare = dataclasses.replace(band, columnar=np.ones(band.length, bool), pockets=())
    nuclei = place_nuclei(np.random.default_rng(1), bare)
    assert not nuclei.epithelial.any()
    assert (nuclei.kind == cells.COLUMNAR_CELL).any()


def _drawn(nuclei, y, x, height, width, mpp):
    planes = np.zeros((2, height, width), np.float32)
    stamp(nuclei, y, x, mpp, planes[0], planes[1])
    return planes


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0, 4.0])
def test_stamping_is_the_same_whole_and_in_blocks(mpp):
    band = fragment_band(np.random.default_rng(3), 160, 240, (2, 4))
    nuclei = place_nuclei(np.random.default_rng(1), band)
    height, width = int(160 / mpp), int(240 / mpp)
    whole = _drawn(nuclei, 0, 0, height, width, mpp)
    y, x = height // 3, width // 2 + 1
    for top, bottom in ((0, y), (y, height)):
        for left, right in ((0, x), (x, width)):
            part = _drawn(nuclei, top, left, bottom - top, right - left, mpp)
            assert np.array_equal(part, whole[:, top:bottom, left:right])


def test_small_blocks_cut_nothing_off():
    # Of whatever kind and shape: tips of spindles, rings around mitoses.
    band = field_band(np.random.default_rng(3), 160, 240, (4,))
    nuclei = place_nuclei(np.random.default_rng(1), band)
    whole = _drawn(nuclei, 0, 0, 640, 960, 0.25)
    for y in range(0, 640, 64):
        for x in range(0, 960, 96):
            part = _drawn(nuclei, y, x, 64, 96, 0.25)
            assert np.array_equal(part, whole[:, y : y + 64, x : x + 96])


@pytest.mark.parametrize("mpp", [0.25, 1.0])
def test_nuclei_stay_within_what_a_painter_looks_at(mpp):
    # It may leave out whatever has its centre more than 2 major + 2 µm away.
    band = field_band(np.random.default_rng(3), 400, 400, (4,), whole=True)
    nuclei = place_nuclei(np.random.default_rng(1), band)
    reach = 2 * nuclei.major + 2
    assert (nuclei.kind == cells.MITOSIS).any()
    for y, x in ((100, 100), (180, 220), (300, 140)):
        near = (nuclei.y > y - reach) & (nuclei.y < y + 40 + reach)
        near &= (nuclei.x > x - reach) & (nuclei.x < x + 40 + reach)
        assert 0 < near.sum() < near.size
        block = (int(y / mpp), int(x / mpp), int(40 / mpp), int(40 / mpp), mpp)
        assert np.array_equal(_drawn(nuclei, *block), _drawn(nuclei.select(near), *block))


def test_a_nucleus_covers_its_ellipse_and_has_texture():
    band = field_band(np.random.default_rng(0), 200, 200, (4,), whole=True)
    nuclei = place_nuclei(np.random.default_rng(0), band)
    big = np.argmax(_area(nuclei) * nuclei.atypical)
    at = dataclasses.replace(
        nuclei.select(np.array([big])), y=np.array([20.0]), x=np.array([20.0]), halo=np.zeros(1)
    )
    ink, cover = _drawn(at, 0, 0, 320, 320, 0.125)
    area = float(cover.sum()) * 0.125**2
    assert area == pytest.approx(math.pi * _area(at)[0], rel=0.25)
    inside = ink[cover > 0.99] / at.dark
    assert 0.05 < inside.std() < 0.5
    assert ink[cover == 0].max() == 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.floats(0, 20), st.floats(0.2, 3)), min_size=1, max_size=60
    )
)
def test_darts_equal_one_after_the_other(darts):
    y, x, room = (np.array(c, dtype=float) for c in zip(*darts, strict=True))
    slow = []
    for i in range(y.size):
        clear = [math.hypot(y[i] - y[j], x[i] - x[j]) - room[i] - room[j] for j in slow]
        # Ties within rounding prove nothing.
        if any(abs(c) < 1e-9 for c in clear):
            return
        if all(c > 0 for c in clear):
            slow.append(i)
    assert np.flatnonzero(settle(y, x, room)).tolist() == slow
