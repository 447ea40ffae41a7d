"""Training fields as a slide shows them."""

import numpy as np
import pytest

from napari_hspnet.errors import InputError
from napari_hspnet.phantom import PhantomSpec, domain_field, write_phantom
from napari_hspnet.slides import open_slide


def test_same_seed_same_field():
    a, b = (domain_field(5, 150, 170, domain="E") for _ in range(2))
    assert a.rgb.shape == (150, 170, 3)
    assert a.truth.shape == (150, 170)
    assert a.rgb.dtype == a.truth.dtype == np.uint8
    assert np.array_equal(a.rgb, b.rgb)
    assert np.array_equal(a.truth, b.truth)
    assert not np.array_equal(a.rgb, domain_field(6, 150, 170, domain="E").rgb)


def test_truth_depends_on_neither_domain_nor_artefacts():
    plain = domain_field(5, 150, 150, artefacts=False)
    for name in "ABCDEF":
        other = domain_field(5, 150, 150, domain=name)
        assert np.array_equal(other.truth, plain.truth)
        assert name == "A" or not np.array_equal(other.rgb, plain.rgb)
    assert plain.truth.max() <= 4


def test_grades_are_kept():
    field = domain_field(5, 400, 400, grades=(3,))
    assert set(np.unique(field.truth)) <= {0, 3}


@pytest.mark.parametrize(
    "bad",
    [{"height": 0}, {"mpp": 0.0}, {"mpp": float("nan")}, {"grades": (5,)}, {"domain": "a"}],
)
def test_bad_fields_are_refused(bad):
    with pytest.raises(InputError):
        domain_field(**{"seed": 1, "height": 50, "width": 50, **bad})


@pytest.mark.parametrize("name", ["A", "C"])
def test_fields_look_as_slides_do(tmp_path, name):
    """Glass, the means of stained tissue and its fine detail, over two seeds."""
    shown, drawn = [], []
    for seed in range(2):
        spec = PhantomSpec(1600, 1600, seed, domain=name, artefacts=False)
        write_phantom(tmp_path / f"{seed}.tiff", spec)
        with open_slide(tmp_path / f"{seed}.tiff") as slide:
            shown.append(_summary(slide.read_grid(0, 0, 400, 400, 1.0)))
        drawn.append(_summary(domain_field(seed, 400, 400, domain=name, artefacts=False).rgb))
    slide_mean, field_mean = np.nanmean(shown, axis=0), np.nanmean(drawn, axis=0)
    assert slide_mean[:3] == pytest.approx(field_mean[:3], abs=2)
    assert slide_mean[3:6] == pytest.approx(field_mean[3:6], abs=25)
    assert slide_mean[6] == pytest.approx(field_mean[6], rel=0.3)


def _summary(rgb):
    """Colours of glass and of tissue, and mean step between neighbours in tissue."""
    grey = rgb.mean(axis=2)
    tissue = grey < 215
    steps = np.abs(np.diff(grey, axis=1))[tissue[:, 1:]].mean()
    return [*np.median(rgb[grey > 230], axis=0), *rgb[tissue].mean(axis=0), steps]
