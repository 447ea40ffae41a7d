"""Bands: their coordinates, what lies where, the rule for the grade, their lines."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from napari_hspnet.phantom.geometry import COLUMNAR, GLASS, LUMEN, STROMA, VESSEL, pixel_centres
from napari_hspnet.phantom.growth import field_band, fragment_band
from napari_hspnet.phantom.pockets import Pocket, grow_pocket


def bands():
    for seed in range(6):
        yield fragment_band(np.random.default_rng(seed), 700, 1100)
        yield field_band(np.random.default_rng(seed), 500, 700)


def codes_of(band, mpp=1.0):
    y, x = (pixel_centres(0, round(n / mpp), mpp) for n in (band.height, band.width))
    return band.codes(y[:, None], x[None])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 30), st.booleans(), st.floats(0, 700), st.floats(0, 1100), st.integers(-60, 60)
)
def test_band_coordinates_lead_there_and_back(seed, fragment, y, x, shift):
    grow = fragment_band if fragment else field_band
    band = grow(np.random.default_rng(seed), 700, 1100)
    back = band.to_canvas(*band.to_band(np.asarray(y), np.asarray(x)))
    assert np.allclose(back, (y, x), atol=1e-6)
    # A µm across the band is a µm on the canvas.
    u, v = band.to_band(np.asarray(y), np.asarray(x))
    moved = band.to_canvas(u, v + shift)
    assert math.hypot(float(moved[0]) - y, float(moved[1]) - x) == pytest.approx(
        abs(shift), abs=1e-6
    )


def test_codes_do_not_depend_on_the_block():
    band = fragment_band(np.random.default_rng(1), 600, 900)
    whole = codes_of(band)
    for y, x, h, w in ((0, 0, 90, 900), (211, 333, 100, 57), (599, 0, 1, 900)):
        part = band.codes(pixel_centres(y, h, 1.0)[:, None], pixel_centres(x, w, 1.0)[None])
        assert np.array_equal(part, whole[y : y + h, x : x + w])
    rows, cols = np.nonzero(whole >= 0)
    pick = np.random.default_rng(0).permutation(rows.size)[:5000]
    points = band.codes(rows[pick] + 0.5, cols[pick] + 0.5)
    assert np.array_equal(points, whole[rows[pick], cols[pick]])


def test_fragments_have_glass_all_around():
    for seed in range(24):
        size = ((800, 1200), (1280, 2048), (1280, 1280), (300, 400))[seed % 4]
        code = codes_of(fragment_band(np.random.default_rng(seed), *size), 4.0)
        edge = np.concatenate([code[0], code[-1], code[:, 0], code[:, -1]])
        assert (edge == GLASS).all()
        assert (code != GLASS).mean() > 0.3


def test_everything_that_a_slide_shows_occurs():
    seen = np.zeros(256, bool)
    kinds = set()
    for seed in range(25):
        band = fragment_band(np.random.default_rng(seed), 1280, 2048)
        seen[np.unique(codes_of(band, 4.0))] = True
        kinds |= {p.kind for p in band.pockets}
    assert set(np.flatnonzero(seen)) == {GLASS, 1, 2, 3, 4, STROMA, COLUMNAR, LUMEN, VESSEL}
    assert kinds == {"island", "crypt", "papilla", "gland", "vessel"}


def test_grade_follows_how_far_atypia_reaches():
    for band in bands():
        for reach, grade in zip(band.reach[::7], band.grade[::7], strict=True):
            rule = 1 if reach < 0.13 else 2 if reach < 0.5 else 3 if reach < 0.84 else 4
            assert grade == rule


def test_a_place_along_the_band_has_one_grade_through_its_thickness():
    band = fragment_band(np.random.default_rng(2), 700, 1100, (1, 3, 4))
    y, x = pixel_centres(0, 700, 1.0)[:, None], pixel_centres(0, 1100, 1.0)[None]
    site = band.site(y, x)
    squamous = (site.code >= 1) & (site.code <= 4)
    assert squamous.any()
    assert np.array_equal(site.code[squamous], band.grade[site.index[squamous]])
    assert (site.depth[squamous] >= 0).all()
    assert (site.depth[squamous] <= 1 + 1e-9).all()


def test_epithelium_in_the_stroma_has_the_grade_above_it():
    found = 0
    for seed in range(30):
        band = fragment_band(np.random.default_rng(seed), 1000, 1600)
        for p in band.pockets:
            if p.kind not in ("island", "crypt"):
                continue
            y, x = band.to_canvas(np.asarray([p.u]), np.asarray([p.v]))
            code = int(band.codes(y, x)[0])
            if code == GLASS:  # cut off at the fragment's end
                continue
            found += 1
            assert code == band.grade[int(p.u)]
    assert found > 10


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(5, 120), st.floats(1, 3), st.floats(0, 3.2))
def test_inside_of_a_pocket_ends_at_its_outline(seed, radius, stretch, turn):
    pocket = grow_pocket(
        np.random.default_rng(seed), "island", 40.0, -7.0, radius, stretch, turn, 0.05
    )
    u, v = pocket.outline(1.0)
    assert np.abs(pocket.inward(u, v)).max() < 1e-6
    assert np.hypot(u - 40, v + 7).max() <= pocket.reach
    assert float(pocket.inward(np.asarray(40.0), np.asarray(-7.0))) > 0
    assert float(pocket.inward(np.asarray(40.0 + 1.01 * pocket.reach), np.asarray(-7.0))) < 0


def test_depth_in_a_round_pocket_is_its_distance_to_the_border():
    pocket = Pocket("island", 0.0, 0.0, 50.0, 1.0, 0.0, ())
    u = np.linspace(-49, 49, 30)
    assert np.allclose(pocket.inward(u, np.zeros(30)), 50 - np.abs(u))


def test_lines_are_borders_of_the_epithelium():
    for band in bands():
        for line in band.lines():
            # Somewhere within 1.5 µm the code changes into or out of epithelium.
            turn = np.linspace(0, 2 * math.pi, 16, endpoint=False)[:, None]
            around = band.codes(line.y + 1.5 * np.sin(turn), line.x + 1.5 * np.cos(turn))
            squamous = (around >= 1) & (around <= 4)
            assert (squamous.any(axis=0) & ~squamous.all(axis=0)).all()
            if line.kind == "surface":
                assert (around == GLASS).any(axis=0).mean() > 0.95


def test_borders_of_the_epithelium_are_lines():
    for seed in range(4):
        band = fragment_band(np.random.default_rng(seed), 700, 1100)
        code = codes_of(band)
        squamous = (code >= 1) & (code <= 4)
        under = (code[1:] == STROMA) & squamous[:-1] | (code[:-1] == STROMA) & squamous[1:]
        rows, cols = np.nonzero(under)
        lines = [line for line in band.lines() if line.kind == "basement"]
        points = np.column_stack([np.concatenate([getattr(k, a) for k in lines]) for a in "yx"])
        far = cKDTree(points).query(np.column_stack([rows + 1.0, cols + 0.5]))[0]
        assert (far < 3).mean() > 0.97
