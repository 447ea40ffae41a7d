"""Phantom slides, read back with OpenSlide and tifffile."""

import shutil
import threading
from collections import namedtuple

import numpy as np
import openslide
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.errors import InputError, OutputError
from napari_hspnet.phantom import (
    ORACLE_COLOURS,
    ORACLE_GLASS,
    PHANTOM_MARK,
    PhantomSpec,
    make_layout,
    oracle_lookup,
    sample_spec,
    truth_block,
    write_phantom,
)
from napari_hspnet.phantom import bigtiff as bigtiff_module
from napari_hspnet.phantom.geometry import GLASS, STROMA
from napari_hspnet.phantom.tissue import shrink


def _level(slide, level):
    size = slide.level_dimensions[level]
    return np.asarray(slide.read_region((0, 0), level, size))[..., :3]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    path = tmp_path_factory.mktemp("oracle") / "o.tiff"
    spec = PhantomSpec(2301, 3210, seed=4, style="oracle")
    write_phantom(path, spec, truth_path=path.with_name("truth.tiff"))
    return path, spec


@pytest.fixture(scope="module")
def he(tmp_path_factory):
    path = tmp_path_factory.mktemp("he") / "h.tiff"
    spec = PhantomSpec(2301, 3210, seed=4, artefacts=False)
    write_phantom(path, spec)
    return path, spec


def _expected(spec):
    """Truth of the label pixel in which each level-0 pixel's centre lies."""
    truth = truth_block(spec, 0, 0, *spec.label_shape)
    rows = np.floor((np.arange(spec.height) + 0.5) * spec.mpp).astype(int)
    cols = np.floor((np.arange(spec.width) + 0.5) * spec.mpp).astype(int)
    return truth[rows[:, None], cols]


@pytest.mark.parametrize(
    ("height", "width", "mpp"),
    [(300, 257, 0.25), (1, 1, 0.25), (640, 3000, 0.25), (900, 1111, 0.5), (700, 801, 0.37)],
)
def test_oracle_slide_shows_the_truth_at_every_pixel(tmp_path, height, width, mpp):
    spec = PhantomSpec(height, width, seed=9, mpp=mpp, style="oracle")
    write_phantom(tmp_path / "o.tiff", spec)
    with openslide.OpenSlide(tmp_path / "o.tiff") as slide:
        assert slide.dimensions == (width, height)
        shown = oracle_lookup(_level(slide, 0))
    assert np.array_equal(shown, _expected(spec))


def test_label_grid_of_an_oracle_slide_is_its_second_level(oracle):
    path, spec = oracle
    truth = truth_block(spec, 0, 0, *spec.label_shape)
    assert set(np.unique(truth)) == {0, 1, 2, 3, 4}
    with openslide.OpenSlide(path) as slide:
        level = _level(slide, 1)
    # The last row and column of the level reach beyond the slide.
    assert np.array_equal(oracle_lookup(level)[:-1, :-1], truth[:-1, :-1])


def test_truth_file_is_the_truth(oracle):
    path, spec = oracle
    with tifffile.TiffFile(path.with_name("truth.tiff")) as tif:
        page = tif.pages[0]
        assert page.is_tiled
        assert PHANTOM_MARK in page.description
        assert page.tags["XResolution"].value == (10_000, 1)
        data = page.asarray()
    assert data.dtype == np.uint8
    assert data.shape == spec.label_shape
    assert np.array_equal(data, truth_block(spec, 0, 0, *spec.label_shape))


@pytest.mark.parametrize("style", ["he", "oracle"])
def test_what_openslide_and_tifffile_say(style, he, oracle):
    path, spec = he if style == "he" else oracle
    with openslide.OpenSlide(path) as slide:
        assert slide.properties[openslide.PROPERTY_NAME_VENDOR] == "generic-tiff"
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == pytest.approx(0.25)
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_Y]) == pytest.approx(0.25)
        assert PHANTOM_MARK in slide.properties["tiff.ImageDescription"]
        assert f"seed={spec.seed}" in slide.properties["openslide.comment"]
        assert slide.level_dimensions == ((3210, 2301), (803, 576))
        assert slide.level_downsamples == pytest.approx((1.0, 4.0), abs=0.01)
        # A reader that knows only tifffile sees the same pixels.
        with tifffile.TiffFile(path) as tif:
            assert tif.is_bigtiff
            assert len(tif.pages) == 2
            gap = np.abs(tif.pages[0].asarray().astype(int) - _level(slide, 0))
        assert gap.max() <= (40 if style == "he" else 0)
        assert gap.mean() < 0.5


@pytest.mark.parametrize("style", ["he", "oracle"])
def test_levels_are_area_averages(style, he, oracle):
    path, _ = he if style == "he" else oracle
    with openslide.OpenSlide(path) as slide:
        full, low = _level(slide, 0), _level(slide, 1)
    average = shrink(full[:2300, :3208], 4).astype(int)
    gap = np.abs(average - low[:575, :802])
    if style == "oracle":
        assert gap.max() == 0
    else:
        # JPEG keeps colours at half the resolution, which stained tissue shows.
        grey = np.abs(average.mean(axis=2) - low[:575, :802].mean(axis=2))
        assert grey.mean() < 2.5
        assert gap.mean() < 3.6
        assert np.corrcoef(average.ravel(), low[:575, :802].ravel())[0, 1] > 0.995


def test_both_styles_have_the_same_geometry(he, oracle):
    path, spec = he
    with openslide.OpenSlide(path) as slide:
        drawn = _level(slide, 1)[:-1, :-1].min(axis=2) < 215
    codes = make_layout(spec).label_codes(0, 0, *drawn.shape)
    tissue = (codes != GLASS) & (codes < STROMA)
    assert (drawn[tissue]).mean() > 0.99
    assert (drawn[codes == GLASS]).mean() < 0.01
    assert np.array_equal(
        truth_block(spec, 0, 0, *spec.label_shape),
        truth_block(oracle[1], 0, 0, *spec.label_shape),
    )


def test_a_seed_gives_the_same_bytes(tmp_path):
    for style in ("he", "oracle"):
        spec = PhantomSpec(700, 2100, seed=3, style=style)
        paths = [tmp_path / f"{style}{i}.tiff" for i in range(2)]
        sizes = [write_phantom(p, spec).bytes_written for p in paths]
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert sizes[0] == paths[0].stat().st_size
        other = tmp_path / f"{style}x.tiff"
        write_phantom(other, PhantomSpec(700, 2100, seed=33, style=style))
        assert other.read_bytes() != paths[0].read_bytes()


def test_glass_is_stored_once(tmp_path):
    path = tmp_path / "o.tiff"
    write_phantom(path, PhantomSpec(9000, 9000, seed=1, style="oracle"))
    with tifffile.TiffFile(path) as tif:
        offsets = tif.pages[0].dataoffsets
    assert len(offsets) == 36 * 36
    assert len(set(offsets)) < 0.7 * len(offsets)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2000), st.integers(0, 2600), st.integers(1, 90), st.integers(1, 90))
def test_truth_does_not_depend_on_the_block(y, x, h, w):
    assert np.array_equal(_LAYOUT.truth(y, x, h, w), _WHOLE[y : y + h, x : x + w])


_LAYOUT = make_layout(sample_spec())
_WHOLE = np.zeros((2100, 3000), np.uint8)
_WHOLE[:2000] = _LAYOUT.truth(0, 0, 2000, 3000)


def test_sample_has_every_class_and_several_fragments():
    share = np.bincount(_WHOLE.ravel(), minlength=5) / _WHOLE.size
    assert (share[1:] > 0.01).all()
    assert 0.4 < share[0] < 0.95
    assert len(_LAYOUT.placements) >= 3


@pytest.mark.parametrize(("height", "width"), [(99_072, 168_960), (60_000, 100_000)])
def test_full_size_plan_needs_no_pixels(height, width):
    layout = make_layout(PhantomSpec(height, width, seed=2))
    taken = np.zeros((-(-height // 256), -(-width // 256)), int)
    for p in layout.placements:
        assert p.y >= 0
        assert p.x >= 0
        assert (p.height, p.width) == layout.canvases[p.section][:: -1 if p.turned else 1]
        taken[p.y : p.y + p.height, p.x : p.x + p.width] += 1
    assert taken.max() == 1
    assert 0.3 < taken.mean() < 0.9
    assert len({p.way for p in layout.placements}) == 8
    assert len({(p.height, p.width) for p in layout.placements}) > 4
    # No grid: hardly any two pieces begin at the same height.
    assert len({p.y for p in layout.placements}) > 0.5 * len(layout.placements)
    last = layout.placements[-1]
    box = last.y * 64, last.x * 64, last.height * 64, last.width * 64
    assert 0.1 < (layout.truth(*box) > 0).mean() < 0.9
    assert not layout.truth(height // 4, width // 4, 50, 50).any()


def test_oracle_colours_are_told_apart():
    colours = [ORACLE_GLASS, *ORACLE_COLOURS.values()]
    for i, a in enumerate(colours):
        for b in colours[:i]:
            assert np.linalg.norm(np.subtract(a, b)) > 60
    for value, colour in ORACLE_COLOURS.items():
        noisy = np.clip(np.add(colour, [[12, -12, 12], [-12, 12, -12]]), 0, 255)
        assert (oracle_lookup(noisy.astype(np.uint8)) == value).all()
    assert oracle_lookup(np.array(ORACLE_GLASS, np.uint8)) == 0
    assert oracle_lookup(np.full(3, 255, np.uint8)) == 0


def test_progress_grows_to_one(tmp_path):
    seen = []
    write_phantom(
        tmp_path / "a.tiff",
        PhantomSpec(700, 2100, seed=3),
        progress=lambda share, what: seen.append((share, what)),
    )
    shares = [s for s, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {w for _, w in seen} == {"tissue", "slide"}


@pytest.mark.parametrize("style", ["he", "oracle"])
@pytest.mark.parametrize("after", [0, 5])
def test_cancel_leaves_nothing(tmp_path, style, after):
    cancel = threading.Event()
    calls = []

    def progress(share, what):
        calls.append(share)
        if len(calls) == after:
            cancel.set()

    if after == 0:
        cancel.set()
    result = write_phantom(
        tmp_path / "a.tiff",
        PhantomSpec(3000, 3000, seed=3, style=style),
        tmp_path / "t.tiff",
        progress,
        cancel,
    )
    assert result.cancelled
    assert len(calls) == after
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"height": 0},
        {"width": -1},
        {"width": 10**6},
        {"seed": -1},
        {"mpp": 0.0},
        {"mpp": float("nan")},
        {"style": "pas"},
        {"grades": (7,)},
        {"bank": 0},
        {"domain": "Z"},
        {"quality": 10},
    ],
)
def test_bad_specs_are_refused(bad):
    with pytest.raises(InputError):
        PhantomSpec(**{"height": 100, "width": 100, "seed": 1, **bad})


def test_bad_places_are_refused(tmp_path):
    spec = PhantomSpec(100, 100, seed=1, style="oracle")
    with pytest.raises(OutputError, match="does not exist"):
        write_phantom(tmp_path / "no" / "a.tiff", spec)
    with pytest.raises(OutputError, match="does not exist"):
        write_phantom(tmp_path / "a.tiff", spec, tmp_path / "no" / "t.tiff")
    with pytest.raises(InputError, match="same file"):
        write_phantom(tmp_path / "a.tiff", spec, tmp_path / "a.tiff")
    there = tmp_path / "there.tiff"
    there.write_bytes(b"a slide of value")
    with pytest.raises(OutputError, match="exists already"):
        write_phantom(there, spec)
    assert there.read_bytes() == b"a slide of value"
    write_phantom(there, spec, overwrite=True)
    assert there.stat().st_size > 100
    assert [p.name for p in tmp_path.iterdir()] == ["there.tiff"]


def test_a_full_disk_is_seen_before(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10**5, 10**5))
    with pytest.raises(OutputError, match="MB free"):
        write_phantom(tmp_path / "a.tiff", PhantomSpec(3000, 3000, seed=1))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_leaves_nothing(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bigtiff_module.TiledTiff, "_append", full)
    with pytest.raises(OutputError, match="No space left"):
        write_phantom(tmp_path / "a.tiff", PhantomSpec(600, 600, seed=1, style="oracle"))
    assert list(tmp_path.iterdir()) == []
