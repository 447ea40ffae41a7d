"""Reading: every box at every resolution, against slow references."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.errors import InputError, SlideReadError
from napari_hspnet.slides import GRID_TILE, Slide, open_slide
from napari_hspnet.slides.tiles import TileCache

from slide_files import (
    SHARED_DATA,
    noise,
    spoil_tile,
    write_aperio,
    write_generic_tiff,
    write_ome_tiff,
)


@pytest.fixture(scope="module")
def levels() -> list[npt.NDArray[np.uint8]]:
    base = noise(741, 1303)
    # Cut or filled as scanners do: 741/2 down, 1303/2 up.
    return [base, noise(370, 652, 1), noise(185, 326, 2)]


@pytest.fixture(scope="module", params=["openslide", "tifffile"])
def slide(request, levels, tmp_path_factory) -> Slide:
    folder = tmp_path_factory.mktemp("read")
    if request.param == "openslide":
        path = write_generic_tiff(folder / "a.tif", levels, 0.25)
    else:
        path = write_ome_tiff(folder / "a.ome.tif", levels, (0.25, 0.25))
    with open_slide(path) as opened:
        assert opened.info.backend == request.param
        yield opened


def padded(
    level: npt.NDArray[np.uint8], y: int, x: int, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """The box of an array that is white all around."""
    out = np.full((height, width, 3), 255, np.uint8)
    ys, xs = np.arange(y, y + height), np.arange(x, x + width)
    iny = (ys >= 0) & (ys < level.shape[0])
    inx = (xs >= 0) & (xs < level.shape[1])
    out[np.ix_(iny, inx)] = level[np.ix_(ys[iny], xs[inx])]
    return out


@given(
    y=st.integers(-80, 800),
    x=st.integers(-80, 1400),
    height=st.integers(1, 200),
    width=st.integers(1, 200),
)
@settings(max_examples=60, deadline=None)
def test_level_0_is_exact_and_white_outside(slide, levels, y, x, height, width) -> None:
    read = slide.read_level(0, y, x, height, width)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, padded(levels[0], y, x, height, width))


def test_lower_levels_are_addressed_in_their_own_pixels(slide, levels) -> None:
    for index, level in enumerate(levels):
        assert slide.info.levels[index].downsample == (2.0**index, 2.0**index)
        height, width = level.shape[:2]
        read = slide.read_level(index, 0, 0, height, width)
        np.testing.assert_array_equal(read, level)
        corner = slide.read_level(index, height - 40, width - 50, 40, 50).astype(int)
        wrong = np.abs(corner - level[-40:, -50:]).mean()
        shifted = np.abs(corner[:, :-1] - level[-40:, -49:]).mean()
        # OpenSlide interpolates by up to half a level-0 pixel where its own
        # factor (1.9999 or 4.0011) is no integer.
        assert wrong < shifted / 3
        assert wrong < 8


def hamming(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    inside = np.abs(x) < 1
    return np.where(inside, np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)), 0.0)


def triangle(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(0, 1 - np.abs(x))


def reference(
    level: npt.NDArray[np.uint8], step: float, y: int, x: int, height: int, width: int
) -> npt.NDArray[np.float64]:
    """Windowed-sinc or bilinear resampling in float64, a row of weights a pixel."""
    scale = max(1.0, step)
    kernel = hamming if step > 1 else triangle
    reach = int(np.ceil(2 * scale)) + 2

    def weights(first: int, count: int) -> tuple[int, npt.NDArray[np.float64]]:
        low = int(np.floor(first * step)) - reach
        high = int(np.ceil((first + count) * step)) + reach
        centres = (np.arange(first, first + count) + 0.5) * step
        sources = np.arange(low, high) + 0.5
        matrix = kernel((sources[None, :] - centres[:, None]) / scale)
        return low, matrix / matrix.sum(axis=1, keepdims=True)

    top, rows = weights(y, height)
    left, columns = weights(x, width)
    source = padded(level, top, left, rows.shape[1], columns.shape[1]).astype(np.float64)
    return np.clip(np.einsum("ij,jkc,lk->ilc", rows, source, columns, optimize=True), 0, 255)


@pytest.mark.parametrize(
    ("mpp", "index"),
    [(0.1, 0), (0.2527, 0), (0.2499, 0), (0.25, 0), (0.499, 0), (0.5, 1), (0.7, 1), (1.0, 2)],
)
def test_grid_against_float64_reference(slide, levels, mpp, index) -> None:
    step = mpp / (0.25 * 2**index)
    full = [int(np.ceil(n / step)) for n in levels[index].shape[:2]]
    boxes = [(-9, -7, 60, 70), (full[0] - 50, full[1] - 50, 70, 60)]
    boxes.append((min(490, full[0] // 2), min(480, full[1] // 2), 50, 60))
    for y, x, height, width in boxes:
        read = slide.read_grid(y, x, height, width, mpp)
        want = reference(levels[index], step, y, x, height, width)
        off = np.abs(read - want)
        exact = index == 0 or slide.info.backend == "tifffile"
        assert off.max() <= 2.0 if exact else np.percentile(off, 99) <= 12


def test_coarse_grids_keep_the_mean_and_the_place(slide, levels) -> None:
    """From six level pixels a grid pixel is averaged first: no aliasing."""
    step = 13.0 / 1.0
    read = slide.read_grid(0, 0, 16, 28, 13.0)
    want = reference(levels[2], step, 0, 0, 16, 28)
    assert np.abs(read - want).mean() < 1.5
    assert np.abs(read - want).max() < 7


@given(
    y=st.integers(-40, 700),
    x=st.integers(-40, 700),
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    mpp=st.sampled_from([0.2527, 0.499, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_a_pixel_does_not_depend_on_its_box(slide, y, x, height, width, mpp) -> None:
    whole = slide.read_grid(-40, -40, 900, 900, mpp)
    read = slide.read_grid(y, x, height, width, mpp)
    part = whole[y + 40 : y + 40 + height, x + 40 : x + 40 + width]
    np.testing.assert_array_equal(read, part)


def test_a_pixel_does_not_depend_on_what_was_read_before(slide) -> None:
    fresh = open_slide(slide.info.path)
    with fresh:
        box = fresh.read_grid(500, 500, 40, 40, 0.2527)
    np.testing.assert_array_equal(slide.read_grid(0, 0, 700, 700, 0.2527)[500:540, 500:540], box)


def test_far_outside_is_white_and_reads_nothing(slide) -> None:
    assert (slide.read_grid(10**6, -(10**6), 30, 30, 1.0) == 255).all()
    assert (slide.read_grid(-5000, 5, 30, 30, 1.0) == 255).all()


def test_what_is_returned_may_be_written_to(slide) -> None:
    first = slide.read_grid(0, 0, GRID_TILE, GRID_TILE, 0.5)
    before = first.copy()
    first[:] = 7
    np.testing.assert_array_equal(slide.read_grid(0, 0, GRID_TILE, GRID_TILE, 0.5), before)


@pytest.mark.parametrize("mpp", [0.0, -1.0, float("nan"), float("inf")])
def test_nonsense_grid_is_refused(slide, mpp) -> None:
    with pytest.raises(InputError, match="no resolution"):
        slide.read_grid(0, 0, 4, 4, mpp)


def test_threads_read_the_same(slide) -> None:
    boxes = [(y, x) for y in range(0, 700, 130) for x in range(0, 700, 130)]
    alone = [slide.read_grid(y, x, 128, 128, 0.3) for y, x in boxes]
    slide._tiles.clear()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda at: slide.read_grid(*at, 128, 128, 0.3), boxes))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_rectangular_pixels_become_square(tmp_path: Path) -> None:
    base = noise(300, 600)
    with open_slide(write_generic_tiff(tmp_path / "a.tif", [base], (1.0, 0.5))) as slide:
        read = slide.read_grid(0, 0, 300, 300, 1.0).astype(float)
    want = base.astype(float).reshape(300, 300, 2, 3).mean(axis=2)
    assert np.abs(read[1:-1, 1:-1] - want[1:-1, 1:-1]).mean() < 3


def test_level_that_is_a_hair_coarser_counts_as_equal(tmp_path: Path) -> None:
    base, half = noise(200, 200), noise(100, 100, 5)
    with open_slide(write_generic_tiff(tmp_path / "a.tif", [base, half], 0.2501)) as slide:
        read = slide.read_grid(10, 10, 50, 50, 0.5)
    want = reference(half, 0.5 / 0.5002, 10, 10, 50, 50)
    assert np.abs(read - want).max() <= 2


def test_unreadable_tile_has_its_place_and_the_rest_goes_on(tmp_path: Path) -> None:
    base = noise(512, 512)
    path = write_generic_tiff(tmp_path / "a.tif", [base], 0.5, tile=128, compression="zlib")
    spoil_tile(path, 5)  # row 1, column 1
    with open_slide(path) as slide:
        for _ in range(3):
            with pytest.raises(SlideReadError) as caught:
                slide.read_level(0, 130, 140, 20, 30)
            error = caught.value
            assert (error.y, error.x, error.height, error.width) == (130, 140, 20, 30)
            assert error.path == path
            assert "x 140, y 130" in str(error)
            good = slide.read_level(0, 256, 0, 256, 512)
            np.testing.assert_array_equal(good, base[256:])
        with pytest.raises(SlideReadError):
            slide.read_grid(0, 0, 256, 256, 1.0)


def test_file_that_goes_away_is_a_read_error(tmp_path: Path) -> None:
    path = write_generic_tiff(tmp_path / "a.tif", [noise(256, 256)], 0.5, tile=128)
    spoil_tile(path, 0)
    with open_slide(path) as slide:
        path.unlink()
        # The first error spoils OpenSlide's handle, and no other can be had.
        for x in (0, 128):
            with pytest.raises(SlideReadError, match=r"a\.tif"):
                slide.read_level(0, 0, x, 64, 64)


def test_threads_survive_each_others_errors(tmp_path: Path) -> None:
    base = noise(768, 768)
    path = write_generic_tiff(tmp_path / "a.tif", [base], 0.5, tile=128)
    spoil_tile(path, 7)
    failed, wrong = [], []
    lock = threading.Lock()

    def read(at: int) -> None:
        y, x = divmod(at % 36, 6)
        try:
            tile = slide.read_level(0, y * 128, x * 128, 128, 128)
        except SlideReadError:
            with lock:
                failed.append(at % 36)
            return
        if not np.array_equal(tile, base[y * 128 : y * 128 + 128, x * 128 : x * 128 + 128]):
            with lock:
                wrong.append(at)

    with open_slide(path) as slide, ThreadPoolExecutor(6) as pool:
        list(pool.map(read, range(36 * 8)))
    assert failed == [7] * 8
    assert wrong == []


def test_real_slide_that_fails_in_the_middle() -> None:
    path = SHARED_DATA / "bad/unreadable.svs"
    if not path.exists():
        pytest.skip("real data absent: shared/data/bad/unreadable.svs")
    with open_slide(path) as slide:
        assert slide.info.shape == (16, 16)
        for _ in range(2):
            with pytest.raises(SlideReadError, match=r"16 x 16 px at x 0, y 0.*unreadable\.svs"):
                slide.read_level(0, 0, 0, 64, 64)


def test_jpeg_slide_reads_close_to_its_source(tmp_path: Path) -> None:
    base = noise(400, 500)
    with open_slide(write_aperio(tmp_path / "a.svs", [base], 0.25)) as slide:
        assert slide.info.mpp == (0.25, 0.25)
        assert np.abs(slide.read_level(0, 0, 0, 400, 500) - base.astype(float)).mean() < 9


def test_cache_is_bounded_and_forgets_the_oldest() -> None:
    made: list[int] = []

    def make(key: int) -> npt.NDArray[np.uint8]:
        made.append(key)
        return np.full(100, key, np.uint8)

    cache = TileCache(350)
    for key in (1, 2, 3, 1, 4, 1, 2):
        assert cache.get(key, lambda key=key: make(key))[0] == key
    # 4 pushed 2 out, since 1 had been asked for again.
    assert made == [1, 2, 3, 4, 2]
    assert cache._bytes <= 350
    assert TileCache(10).get(1, lambda: make(9))[0] == 9
