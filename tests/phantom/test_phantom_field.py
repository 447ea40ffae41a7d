"""Training fields: what is drawn, and that it agrees with the truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_hspnet.errors import InputError
from napari_hspnet.phantom import phantom_field
from napari_hspnet.phantom.geometry import GLASS, STROMA
from napari_hspnet.phantom.growth import field_band, fragment_band
from napari_hspnet.phantom.nuclei import place_nuclei, settle
from napari_hspnet.phantom.stain import Stain
from napari_hspnet.phantom.tissue import Section, shrink


def test_field_is_determined_by_its_seed():
    one, same, other = (phantom_field(s, 200, 230) for s in (5, 5, 6))
    assert np.array_equal(one.rgb, same.rgb)
    assert np.array_equal(one.truth, same.truth)
    assert not np.array_equal(one.rgb, other.rgb)


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0, 2.0])
def test_field_has_the_asked_size_at_any_resolution(mpp):
    field = phantom_field(1, 90, 121, mpp=mpp)
    assert field.rgb.shape == (90, 121, 3)
    assert field.truth.shape == (90, 121)
    assert field.rgb.dtype == field.truth.dtype == np.uint8
    assert set(np.unique(field.truth)) <= {0, 1, 2, 3, 4}


def test_same_truth_at_two_resolutions():
    coarse = phantom_field(4, 150, 150, mpp=1.0, grades=(1, 3)).truth
    fine = phantom_field(4, 450, 450, mpp=1 / 3, grades=(1, 3)).truth
    # Of nine fine pixels the middle one has the coarse pixel's centre.
    assert np.array_equal(coarse, fine[1::3, 1::3])


@pytest.mark.parametrize("grade", [1, 2, 3, 4])
def test_asked_grade_fills_the_epithelium(grade):
    truth = phantom_field(8, 300, 300, grades=(grade,)).truth
    inside = truth[truth > 0]
    assert inside.size > 5000
    assert (inside == grade).mean() > 0.95


def test_grades_follow_each_other_along_the_band():
    for seed in range(4):
        band = field_band(np.random.default_rng(seed), 900, 900, (1, 2, 3, 4), whole=True)
        assert (np.diff(band.grade.astype(int)) >= 0).mean() > 0.98
        assert band.grade[0] == 1
        assert band.grade[-1] == 4
        assert np.bincount(band.grade).min(initial=1000, where=np.arange(5) > 0) > 30


@pytest.mark.parametrize(
    "bad",
    [
        {"height": 0},
        {"width": -3},
        {"mpp": 0.0},
        {"mpp": float("nan")},
        {"grades": ()},
        {"grades": (0,)},
        {"grades": (5,)},
    ],
)
def test_bad_values_are_refused(bad):
    with pytest.raises(InputError):
        phantom_field(1, **{"height": 50, "width": 50, **bad})


def _nuclear_share_of_upper_third(seed, grade):
    """Share of pixels of the upper third where haematoxylin takes much red away."""
    band = field_band(np.random.default_rng(seed), 400, 400, (grade,), whole=True)
    stain = Stain.draw(np.random.default_rng(seed))
    rgb = Section(band, np.random.default_rng(seed), stain).paint(0, 0, 400, 400, 1.0)
    y, x = np.arange(400)[:, None] + 0.5, np.arange(400)[None] + 0.5
    zone = (band.codes(y, x) == grade) & (band.depth(*band.to_band(y, x)) > 0.67)
    assert zone.sum() > 2000
    red = rgb[..., 0][zone]
    return (red < 0.72 * np.percentile(red, 90)).mean()


def test_upper_third_darkens_only_where_atypia_reaches_it():
    share = {g: [_nuclear_share_of_upper_third(s, g) for s in (2, 5, 7)] for g in (1, 2, 4)}
    assert min(share[4]) > 0.2
    assert max(share[2]) < 0.1
    assert max(share[1]) < 0.1


def _upper_edge(grade, low, high):
    """Share of large nuclei among those at a depth of the epithelium."""
    big = 0
    total = 0
    for seed in range(3):
        band = field_band(np.random.default_rng(seed), 600, 600, (grade,), whole=True)
        nuclei = place_nuclei(np.random.default_rng(seed), band)
        t = band.depth(*band.to_band(nuclei.y, nuclei.x))
        at = nuclei.epithelial & (t > low) & (t < high)
        big += int((nuclei.major * nuclei.minor > 16.0)[at].sum())
        total += int(at.sum())
    return big / total


def test_atypia_reaches_a_third_two_thirds_and_all():
    thirds = ((0.08, 0.28), (0.4, 0.6), (0.75, 0.95))
    found = {g: [_upper_edge(g, *third) for third in thirds] for g in (1, 2, 3, 4)}
    reached = {g: [share > 0.4 for share in shares] for g, shares in found.items()}
    assert reached == {
        1: [False, False, False],
        2: [True, False, False],
        3: [True, True, False],
        4: [True, True, True],
    }


def test_normal_epithelium_matures():
    band = field_band(np.random.default_rng(0), 700, 700, (1,), whole=True)
    nuclei = place_nuclei(np.random.default_rng(0), band)
    t = band.depth(*band.to_band(nuclei.y, nuclei.x))[nuclei.epithelial]
    size = (nuclei.major * nuclei.minor)[nuclei.epithelial]
    assert (t < 0.33).sum() > 2 * (t > 0.67).sum()
    assert size[t > 0.85].mean() < 0.6 * size[t < 0.33].mean()


def test_drawn_tissue_lies_where_the_truth_says():
    band = fragment_band(np.random.default_rng(4), 500, 700, (1, 4))
    stain = Stain.draw(np.random.default_rng(1))
    rgb = Section(band, np.random.default_rng(2), stain).paint(0, 0, 500, 700, 1.0)
    y, x = np.arange(500)[:, None] + 0.5, np.arange(700)[None] + 0.5
    code = band.codes(y, x)
    drawn = rgb.min(axis=2) < 225
    far = ~ndimage.binary_dilation(
        ndimage.morphological_gradient((code != GLASS).astype(np.uint8), 3) > 0, iterations=3
    )
    # Clefts between fibres are as clear as glass.
    assert not drawn[far & (code == GLASS)].any()
    assert drawn[far & (code > GLASS) & (code < STROMA)].mean() > 0.999
    assert drawn[far & (code == STROMA)].mean() > 0.97


def test_blocks_of_a_section_join():
    band = fragment_band(np.random.default_rng(4), 200, 200)
    section = Section(band, np.random.default_rng(2), Stain.draw(np.random.default_rng(1)))
    whole = section.paint(0, 0, 200, 200, 1.0).astype(int)
    part = section.paint(60, 70, 80, 90, 1.0).astype(int)
    gap = np.abs(whole[60:140, 70:160] - part)
    # The sensor's noise (sigma 1.6) is drawn block by block, all else is the same.
    assert gap.max() < 20
    assert gap.mean() < 2.5


def test_shrink_is_the_area_average():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)
    slow = rgb.reshape(3, 4, 5, 4, 3).astype(float).mean(axis=(1, 3))
    assert np.array_equal(shrink(rgb, 4), np.floor(slow + 0.5).astype(np.uint8))


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
