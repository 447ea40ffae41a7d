"""Training fields: what is drawn, and that it agrees with the truth."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from napari_hspnet.errors import InputError
from napari_hspnet.phantom import phantom_field
from napari_hspnet.phantom.geometry import GLASS, STROMA
from napari_hspnet.phantom.growth import field_band, fragment_band
from napari_hspnet.phantom.stain import Stain
from napari_hspnet.phantom.texture import Grid
from napari_hspnet.phantom.tissue import GLASS_COLOUR, Section, glass, shrink


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
    """Share of pixels of the upper third much darker in red than what is around them."""
    band = field_band(np.random.default_rng(seed), 400, 400, (grade,), whole=True)
    # Neither look-alikes nor koilocytes: they are there to mislead.
    none = np.zeros(band.length)
    band = replace(band, look=none.astype(np.uint8), koilocytes=none)
    stain = Stain.draw(np.random.default_rng(seed))
    rgb = Section(band, np.random.default_rng(seed), stain).paint(0, 0, 400, 400, 1.0)
    y, x = np.arange(0, 400, 2)[:, None] + 0.5, np.arange(0, 400, 2)[None] + 0.5
    code, depth = band.codes(y, x), band.depth(*band.to_band(y, x))
    red = rgb[::2, ::2, 0]
    around = ndimage.percentile_filter(red, 80, size=15)
    zone = (code == grade) & (depth > 0.67) & (depth < 0.95)
    assert zone.sum() > 500
    return (red < 0.8 * around)[zone].mean()


def test_upper_third_darkens_only_where_atypia_reaches_it():
    share = {g: [_nuclear_share_of_upper_third(s, g) for s in (2, 5, 7)] for g in (1, 2, 4)}
    assert min(share[4]) > 0.4
    assert max(share[2]) < 0.1
    assert max(share[1]) < 0.15


def _section(seed, height, width, grades=(1, 4)):
    band = fragment_band(np.random.default_rng(seed), height, width, grades)
    stain = Stain.draw(np.random.default_rng(1))
    return Section(band, np.random.default_rng(2), stain)


def test_drawn_tissue_lies_where_the_truth_says():
    section = _section(4, 500, 700)
    rgb = section.paint(0, 0, 500, 700, 1.0)
    y, x = np.arange(500)[:, None] + 0.5, np.arange(700)[None] + 0.5
    code = section.codes(y, x)
    drawn = rgb.min(axis=2) < 225
    far = ~ndimage.binary_dilation(
        ndimage.morphological_gradient((code != GLASS).astype(np.uint8), 3) > 0, iterations=3
    )
    # Flakes and red cells may lie on the glass; nothing of the tissue reaches there.
    bits, _ = ndimage.label(drawn & ndimage.binary_dilation(code == GLASS, iterations=2))
    attached = np.isin(bits, np.unique(bits[code != GLASS])[1:])
    assert not attached[ndimage.binary_erosion(code == GLASS, iterations=5)].any()
    assert drawn[far & (code == GLASS)].mean() < 1e-3
    assert drawn[far & (code > GLASS) & (code < STROMA)].mean() > 0.999
    # Clefts between bundles are as clear as glass, but narrow.
    stroma = far & (code == STROMA)
    assert 0.8 < drawn[stroma].mean() < 0.999
    assert ndimage.binary_closing(drawn, iterations=8)[stroma].mean() > 0.999


@pytest.mark.parametrize("mpp", [0.25, 0.5, 0.77, 1.0, 2.0])
def test_blocks_of_a_section_join_wherever_it_is_cut(mpp):
    section = _section(4, 150, 190)
    height, width = round(150 / mpp), round(190 / mpp)
    whole = section.paint(-9, -7, height + 20, width + 15, mpp)
    rng = np.random.default_rng(int(mpp * 100))
    for _ in range(4):
        y, x = int(rng.integers(0, height // 2)), int(rng.integers(0, width // 2))
        part = section.paint(y - 9, x - 7, height // 2, width // 2 + 1, mpp)
        assert np.array_equal(whole[y : y + height // 2, x : x + width // 2 + 1], part)


def test_clear_glass_is_one_colour():
    empty = glass(np.random.default_rng(0), 30, 40)
    assert (empty == np.asarray(GLASS_COLOUR)).all()
    # Far beyond its canvas a fragment is glass too, but for rounding.
    far = _section(4, 150, 190).paint(-4000, -4000, 30, 40, 1.0)
    assert (np.abs(far.astype(int) - GLASS_COLOUR) <= 1).all()


def _best_threshold(one, other):
    """Accuracy of the best single cut between two sets of numbers, equally many or not."""
    cuts = np.concatenate([one, other])
    share = [((one < c).mean() + (other >= c).mean()) / 2 for c in cuts]
    return max(max(share), 1 - min(share))


def test_mean_colour_does_not_tell_cin3_from_normal():
    means = {1: [], 4: []}
    for grade, found in means.items():
        for seed in range(26):
            field = phantom_field(7000 + 10 * seed + grade, 140, 140, grades=(grade,))
            inside = field.truth == grade
            if inside.sum() > 1000:
                found.append(field.rgb[inside].mean(axis=0))
    normal, sick = (np.asarray(m) for m in means.values())
    assert min(len(normal), len(sick)) > 18
    assert max(_best_threshold(normal[:, c], sick[:, c]) for c in range(3)) < 0.8
    assert _best_threshold(normal.mean(axis=1), sick.mean(axis=1)) < 0.8


def test_a_plane_is_read_as_it_is_at_its_own_resolution():
    plane = np.random.default_rng(0).random((20, 30), dtype=np.float32)
    assert np.array_equal(Grid(0, 0, 20, 30, 1.0).plane(plane), plane)
    # Beyond its edges the border goes on.
    assert (Grid(-5, 0, 5, 30, 1.0).plane(plane) == plane[0]).all()


def test_a_plane_is_interpolated_between_its_pixels():
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32), (10, 40))
    fine = Grid(8, 8, 16, 100, 0.25).plane(ramp)
    assert np.allclose(fine, (np.arange(8, 108) + 0.5) * 0.25 - 0.5, atol=1e-4)


def test_koilocytes_have_clear_halos():
    band = field_band(np.random.default_rng(3), 400, 400, (2,), whole=True)
    band = replace(band, koilocytes=np.full(band.length, 0.8))
    section = Section(band, np.random.default_rng(3), Stain.draw(np.random.default_rng(3)))
    rgb = section.paint(0, 0, 400, 400, 1.0)
    near = section.nuclei
    there = near.epithelial & (np.minimum(near.y, near.x) > 20)
    there &= np.maximum(near.y, near.x) < 380

    def ring(chosen):
        """Median green a little outside of nuclei, all around."""
        far = np.sqrt(near.major * near.minor)[chosen] + 4.0
        turn = np.linspace(0, 2 * np.pi, 12)[:, None]
        y, x = near.y[chosen] + far * np.sin(turn), near.x[chosen] + far * np.cos(turn)
        return np.median(rgb[y.astype(int), x.astype(int), 1])

    assert (there & (near.halo > 6)).sum() > 10
    assert ring(there & (near.halo > 6)) > ring(there & (near.halo < 3)) + 25


def test_stroma_has_bundles_and_clefts():
    """White clefts, saturated bundles, and neither in large lakes."""
    section = _section(11, 500, 600, (1,))
    y, x = np.arange(500)[:, None] + 0.5, np.arange(600)[None] + 0.5
    stroma = ndimage.binary_erosion(section.codes(y, x) == STROMA, iterations=5)
    rgb = section.paint(0, 0, 500, 600, 1.0).astype(int)
    pink = rgb[..., 0] - rgb[..., 1] > 45
    clear = rgb.min(axis=2) > 215
    assert 0.02 < clear[stroma].mean() < 0.45
    assert pink[stroma].mean() > 0.3
    assert ndimage.binary_erosion(clear, iterations=12)[stroma].mean() < 0.02


def test_shrink_is_the_area_average():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)
    slow = rgb.reshape(3, 4, 5, 4, 3).astype(float).mean(axis=(1, 3))
    assert np.array_equal(shrink(rgb, 4), np.floor(slow + 0.5).astype(np.uint8))
