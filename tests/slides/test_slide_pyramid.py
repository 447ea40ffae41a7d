"""The display pyramid: lazy, aligned to half a pixel, with gaps where it must."""

from __future__ import annotations

from pathlib import Path

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_hspnet.errors import SlideReadError
from napari_hspnet.slides import Level, Slide, SlideInfo, display_pyramid, open_slide
from napari_hspnet.slides.backends import Contents, StoredLevel
from napari_hspnet.slides.factors import padded_shapes, true_factors
from napari_hspnet.slides.slide import _SharedFile

from slide_files import noise, spoil_tile, write_generic_tiff

ROUNDINGS = {"down": np.floor, "up": np.ceil, "nearest": np.round}


class FakeFile:
    """A backend of any size that counts what is read; pixel = its column."""

    name = "fake"

    def __init__(self, shapes: list[tuple[int, int]]) -> None:
        self.contents = Contents("fake", tuple(StoredLevel(s, (256, 256)) for s in shapes))
        self.reads: list[tuple[int, int, int, int, int]] = []

    def read(self, level: int, y: int, x: int, height: int, width: int):
        self.reads.append((level, y, x, height, width))
        row = (np.arange(x, x + width) // 64 % 200).astype(np.uint8)
        return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()

    def read_associated(self, name: str):
        raise NotImplementedError

    def close(self) -> None: ...


def fake_slide(shapes: list[tuple[int, int]]) -> tuple[Slide, FakeFile]:
    file = FakeFile(shapes)
    levels = tuple(Level(s, true_factors(shapes[0], s), (256, 256)) for s in shapes)
    info = SlideInfo(
        path=Path("fake"),
        backend="fake",
        vendor="fake",
        levels=levels,
        mpp=(0.25, 0.5),
        mpp_source="file",
        mpp_problem=None,
        objective=None,
        bounds=None,
        fingerprint="",
    )
    return Slide(info, _SharedFile(file)), file


@given(
    height=st.integers(700, 200_000),
    width=st.integers(700, 200_000),
    factor=st.sampled_from([2, 3, 4, 5, 8, 16, 32]),
    rounding=st.sampled_from(sorted(ROUNDINGS)),
)
def test_integer_factors_are_found_whatever_the_rounding(height, width, factor, rounding) -> None:
    shape = tuple(max(1, int(ROUNDINGS[rounding](n / factor))) for n in (height, width))
    assert true_factors((height, width), shape) == (factor, factor)


@given(size=st.integers(2000, 200_000), steps=st.integers(1, 6), up=st.booleans())
def test_repeated_halving_is_found(size, steps, up) -> None:
    reduced = size
    for _ in range(steps):
        reduced = (reduced + up) // 2
    assert true_factors((size, size), (reduced, reduced)) == (2.0**steps, 2.0**steps)


def test_other_factors_are_ratios() -> None:
    y, x = true_factors((10_000, 20_000), (2857, 5714))  # 3.5
    assert y == x == pytest.approx(3.5, rel=2e-4)
    assert true_factors((4000, 4000), (1000, 2000)) == (4.0, 2.0)
    assert true_factors((5, 5), (5, 5)) == (1.0, 1.0)


@given(
    height=st.integers(300, 100_000),
    width=st.integers(300, 100_000),
    factors=st.sampled_from([(2, 4, 8, 16), (4, 16, 32), (4, 16, 64), (3, 9), (2, 6)]),
    rounding=st.sampled_from(sorted(ROUNDINGS)),
)
def test_padded_ratios_are_exact_for_integers(height, width, factors, rounding) -> None:
    shapes = [(height, width)] + [
        tuple(max(1, int(ROUNDINGS[rounding](n / f))) for n in (height, width)) for f in factors
    ]
    padded = padded_shapes(shapes, [(1.0, 1.0), *[(float(f), float(f)) for f in factors]])
    for shape, stored, factor in zip(padded, shapes, (1, *factors), strict=True):
        assert (padded[0][0] / shape[0], padded[0][1] / shape[1]) == (factor, factor)
        assert shape[0] >= stored[0]
        assert shape[1] >= stored[1]
    assert padded[0][0] - height < max(factors) * 2
    assert padded[0][1] - width < max(factors) * 2


@given(
    height=st.integers(3000, 100_000),
    width=st.integers(3000, 100_000),
    factor=st.floats(1.3, 9.0),
)
def test_padded_ratios_are_close_for_other_factors(height, width, factor) -> None:
    factors = [(factor**n, factor**n) for n in range(3)]
    shapes = [(round(height / f), round(width / f)) for f, _ in factors]
    padded = padded_shapes(shapes, factors)
    for shape, (true, _) in zip(padded, factors, strict=True):
        for axis in (0, 1):
            drift = shape[axis] * (padded[0][axis] / shape[axis] / true - 1)
            assert abs(drift) <= 0.5


@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
@pytest.mark.parametrize("size", [(1871, 2967), (2221, 2967), (1533, 2051)])
def test_marks_at_the_far_corner_lie_where_the_scale_says(tmp_path: Path, size, rounding) -> None:
    """A black square of known centre, averaged by the true factor at each level."""
    height, width = size
    centre = np.array([height - 120.0, width - 120.0])
    base = np.full((height + 8, width + 8, 3), 255, np.uint8)
    base[height - 152 : height - 88, width - 152 : width - 88] = 0
    levels = [base[:height, :width]]
    for factor in (2, 4, 8):
        rows, columns = (int(ROUNDINGS[rounding](n / factor)) for n in size)
        blocks = base[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, 3)
        levels.append(blocks.mean(axis=(1, 3)).astype(np.uint8))
    with open_slide(write_generic_tiff(tmp_path / "a.tif", levels, (0.5, 0.25))) as slide:
        pyramid = display_pyramid(slide)
        assert pyramid.scale == pytest.approx((0.5, 0.25))
        assert pyramid.translate == pytest.approx((0.25, 0.125))
        assert pyramid.computed == 0
        for level in pyramid.levels:
            # As napari places it: factors from shapes, centres at the origin.
            factors = np.array(pyramid.levels[0].shape[:2]) / level.shape[:2]
            dark = 255.0 - np.asarray(level)[..., 0]
            where = np.argwhere(dark > 0)
            middle = np.average(where, axis=0, weights=dark[dark > 0])
            level0 = (middle + 0.5) * factors
            assert (np.abs(level0 - centre) <= factors / 2 + 1e-6).all()


def test_opening_reads_no_pixels() -> None:
    slide, file = fake_slide([(60_000, 100_000), (15_000, 25_000), (3750, 6250)])
    pyramid = display_pyramid(slide)
    assert file.reads == []
    assert [level.shape for level in pyramid.levels] == [
        (60_000, 100_000, 3),
        (15_000, 25_000, 3),
        (3750, 6250, 3),
    ]
    for level in pyramid.levels:
        assert len(level.dask.layers) == 1


def test_a_view_is_as_cheap_on_any_slide() -> None:
    steps = []
    for side in (6000, 600_000):
        slide, _ = fake_slide([(side, side)])
        view = display_pyramid(slide).levels[0][1000:2100, 2000:3700]
        (kept,) = dask.optimize(view)
        steps.append(len(dict(kept.__dask_graph__())))
    assert steps[0] == steps[1] < 50


def test_only_what_is_shown_is_read() -> None:
    slide, file = fake_slide([(60_000, 100_000), (15_000, 25_000), (3750, 6250)])
    view = display_pyramid(slide).levels[0][30_100:31_300, 50_010:51_800]
    assert file.reads == []
    shown = np.asarray(view)
    assert sum(h * w for _, _, _, h, w in file.reads) == 1200 * 1790
    assert (shown[0, :, 0] == np.arange(50_010, 51_800) // 64 % 200).all()


def test_chunks_follow_the_tiles_of_the_file(tmp_path: Path) -> None:
    path = write_generic_tiff(tmp_path / "a.tif", [noise(100, 2500)], tile=240)
    with open_slide(path) as slide:
        level = display_pyramid(slide).levels[0]
    assert level.chunks[1] == (480, 480, 480, 480, 480, 100)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[3:50, 7:90],
        np.s_[::7, ::5],
        np.s_[5],
        np.s_[5, 6, 1],
        np.s_[90:20:-3, 10:12],
        np.s_[..., 2],
        np.s_[40:40, 1:9],
        np.s_[[5, 3, 100], 4:9],
        np.s_[:, np.array([7, 190, 7])],
    ],
)
def test_indexing_is_numpys(tmp_path: Path, key) -> None:
    base = noise(128, 192)
    with open_slide(write_generic_tiff(tmp_path / "a.tif", [base])) as slide:
        level = display_pyramid(slide).levels[0]
        np.testing.assert_array_equal(np.asarray(level[key]), base[key])


def test_failed_tile_is_a_marked_gap_told_once(tmp_path: Path) -> None:
    base = noise(640, 640)
    path = write_generic_tiff(tmp_path / "a.tif", [base], tile=128)
    spoil_tile(path, 6)  # row 1, column 1 of 5
    spoil_tile(path, 23)  # row 4, column 3
    told: list[SlideReadError] = []
    with open_slide(path) as slide, dask.config.set(scheduler="threads", num_workers=4):
        level = display_pyramid(slide, told.append).levels[0]
        shown = [np.asarray(level[i * 40 : i * 40 + 440, 60:640]) for i in range(4)]
        whole = np.asarray(level)
    assert sorted((e.y, e.x, e.height, e.width) for e in told) == [
        (128, 128, 128, 128),
        (512, 384, 128, 128),
    ]
    good = np.ones((640, 640), bool)
    good[128:256, 128:256] = good[512:, 384:512] = False
    np.testing.assert_array_equal(whole[good], base[good])
    gap = whole[~good]
    assert set(np.unique(gap)) == {130, 222}
    assert (np.ptp(gap, axis=-1) == 0).all()
    for i, part in enumerate(shown):
        np.testing.assert_array_equal(part, whole[i * 40 : i * 40 + 440, 60:640])


def test_without_resolution_the_scale_is_one(tmp_path: Path) -> None:
    with open_slide(write_generic_tiff(tmp_path / "a.tif", [noise(90, 90)], None)) as slide:
        pyramid = display_pyramid(slide)
    assert (pyramid.scale, pyramid.translate) == ((1.0, 1.0), (0.5, 0.5))


def test_large_slide_without_levels_gets_computed_ones() -> None:
    slide, file = fake_slide([(9001, 8003)])
    pyramid = display_pyramid(slide)
    assert file.reads == []
    assert pyramid.computed == 1
    fine, coarse = pyramid.levels
    assert (fine.shape, coarse.shape) == ((9004, 8004, 3), (2251, 2001, 3))
    part = np.asarray(coarse[1000:1010, 3:1500])
    want = (np.arange(3 * 4, 1500 * 4) // 64 % 200).reshape(-1, 4).mean(axis=1)
    assert np.abs(part[0, :, 0] - want).max() <= 0.5
    # The last column is half outside the slide: 3 of 4 pixels, white beyond.
    assert (np.asarray(coarse[2250, :2000, 0]) > 150).all()
    before = len(file.reads)
    np.asarray(coarse[1000:1010, 3:1500])
    assert len(file.reads) == before
