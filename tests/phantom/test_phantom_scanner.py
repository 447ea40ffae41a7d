"""A scanner's picture, and how blocks of it join."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_hspnet.phantom.domains import DOMAINS
from napari_hspnet.phantom.scanner import (
    Scanner,
    blank,
    encode,
    expose,
    margin,
    soften,
    transmission,
)
from napari_hspnet.phantom.tissue import GLASS_COLOUR

QUIET = Scanner(blur_um=0.0, noise=0.0)
SIDE = 400
LIGHT = soften(np.random.default_rng(1).uniform(0, 1, (SIDE, SIDE, 3)).astype(np.float32) ** 2, 0.7)


@settings(max_examples=25, deadline=None)
@given(st.integers(30, 300), st.integers(30, 300), st.integers(1, 70), st.integers(1, 70))
@pytest.mark.parametrize("name", list(DOMAINS))
def test_blocks_join(name, y, x, h, w):
    scanner, border = DOMAINS[name].scanner, 30
    whole = expose(LIGHT, border, 0.25, scanner, 3, 200, -100)
    part = LIGHT[y - border : y + h + border, x - border : x + w + border]
    block = expose(part, border, 0.25, scanner, 3, 200 + y - border, -100 + x - border)
    assert np.array_equal(block, whole[y - 30 : y - 30 + h, x - 30 : x - 30 + w])


def test_an_ideal_scanner_shows_what_was_painted():
    rgb = np.random.default_rng(2).integers(0, 243, (20, 30, 3)).astype(np.uint8)
    assert np.array_equal(expose(transmission(rgb), 0, 0.25, QUIET, 0, 0, 0), rgb)


def test_glass_is_white_with_noise_that_falls_with_the_pixel():
    fine = blank(Scanner(noise=3.0), 1, 0.25, 128, 128).astype(float)
    coarse = blank(Scanner(noise=3.0), 1, 1.0, 128, 128).astype(float)
    assert fine.mean(axis=(0, 1)) == pytest.approx(GLASS_COLOUR, abs=0.3)
    assert fine.std(axis=(0, 1)) == pytest.approx([3] * 3, rel=0.1)
    assert coarse.std() < 0.5 * fine.std()


def test_the_seed_and_the_place_decide_the_noise():
    scanner = Scanner()
    light = np.ones((40, 40, 3), np.float32)
    take = [expose(light, 4, 0.25, scanner, seed, 0, x) for seed, x in ((1, 0), (2, 0), (1, 7))]
    assert not np.array_equal(take[0], take[1])
    assert not np.array_equal(take[0], take[2])
    assert np.array_equal(take[0][:, 7:], take[2][:, :-7])


def test_sharpening_overshoots_beside_an_edge_and_blur_does_not():
    light = np.ones((60, 60, 3), np.float32)
    light[:, 30:] = 0.4
    sharp = expose(light, 12, 0.25, Scanner(0.1, 0.0, sharpen=1.0), 0, 0, 0)
    soft = expose(light, 12, 0.25, Scanner(0.6, 0.0), 0, 0, 0)
    assert sharp.max() > 245
    assert sharp.min() < 90
    assert 95 <= soft.min() <= soft.max() <= 244
    assert len(np.unique(soft[18, :, 0])) > len(np.unique(sharp[18, :, 0])) - 4


def test_a_matrix_with_rows_of_one_keeps_grey():
    rows = ((0.8, 0.2, 0.0), (0.1, 0.8, 0.1), (0.0, 0.3, 0.7))
    scanner = Scanner(0.0, 0.0, matrix=rows, white=(200.0, 200.0, 200.0))
    grey = np.full((4, 4, 3), 0.5, np.float32)
    assert (expose(grey, 0, 0.25, scanner, 0, 0, 0) == 100).all()
    red = grey * np.float32((1.0, 0.2, 0.2))
    assert tuple(expose(red, 0, 0.25, scanner, 0, 0, 0)[0, 0]) == (84, 28, 20)


def test_a_border_too_narrow_is_refused():
    assert margin(Scanner(), 0.25) > 0
    with pytest.raises(ValueError, match="around a block"):
        expose(np.ones((9, 9, 3), np.float32), 0, 0.25, Scanner(), 0, 0, 0)


def test_lower_quality_makes_smaller_tiles():
    tile = blank(Scanner(noise=6.0), 1, 0.25, 256, 256)
    sizes = [len(encode(tile, Scanner(quality=q))) for q in (40, 90)]
    assert sizes[0] < 0.6 * sizes[1]
    assert len(encode(tile, Scanner(quality=90), 40)) == sizes[0]
    with Image.open(io.BytesIO(encode(tile, Scanner()))) as image:
        assert image.size == (256, 256)
