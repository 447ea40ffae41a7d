"""What counts as tissue: no stain may be missed for what lies elsewhere on the slide."""

from __future__ import annotations

import numpy as np
import pytest
from engine_helpers import ArraySlide

from napari_hspnet.inference import TissueMap, tissue_pixels
from napari_hspnet.slides import LabelGrid

TISSUE = {
    "eosin": (225, 150, 190),
    "haematoxylin": (110, 80, 150),
    "pale eosin": (243, 226, 236),
    "blood": (180, 40, 50),
    "dark blood": (90, 20, 30),
    "blue-shifted stain": (120, 110, 180),
}
NOT_TISSUE = {
    "glass": (245, 245, 245),
    "grey glass": (228, 228, 230),
    "warm glass": (244, 242, 239),
    "white": (255, 255, 255),
    "black padding": (0, 0, 0),
    "black marker": (30, 28, 32),
    "green ink": (60, 160, 110),
    "blue ink": (50, 140, 210),
}


@pytest.mark.parametrize("name", TISSUE)
def test_stain_is_tissue(name):
    assert tissue_pixels(np.full((4, 4, 3), TISSUE[name], np.uint8)).all()


@pytest.mark.parametrize("name", NOT_TISSUE)
def test_glass_padding_and_ink_are_not(name):
    assert not tissue_pixels(np.full((4, 4, 3), NOT_TISSUE[name], np.uint8)).any()


def test_a_tiny_fragment_keeps_its_windows():
    pixels = np.full((1600, 1600, 3), 245, np.uint8)
    pixels[800:824, 800:824] = TISSUE["pale eosin"]
    tissue = TissueMap(ArraySlide(pixels).read_grid, LabelGrid((1600, 1600)))
    starts = np.arange(0, 1201, 100)
    found = tissue.gate(600, 400, starts)
    assert list(starts[found]) == [s for s in starts if s < 820 and s + 400 > 804]


def test_pen_and_blood_elsewhere_move_nothing():
    rng = np.random.default_rng(0)
    pixels = np.full((1200, 2400, 3), 245, np.uint8)
    pixels[300:700, 300:700] = rng.integers(205, 240, (400, 400, 3))
    starts = np.arange(0, 801, 100)

    def decide(image):
        tissue = TissueMap(ArraySlide(image).read_grid, LabelGrid(image.shape[:2]))
        return tissue.gate(300, 400, starts)

    before = decide(pixels)
    pixels[:, 1800:2100] = NOT_TISSUE["black marker"]
    pixels[:, 2100:2400] = TISSUE["dark blood"]
    assert np.array_equal(before, decide(pixels))


def test_the_same_window_is_decided_alike_whichever_row_asks():
    rng = np.random.default_rng(2)
    pixels = np.full((5000, 5000, 3), 245, np.uint8)
    for y, x in rng.integers(0, 4900, (40, 2)):
        pixels[y : y + 20, x : x + 20] = TISSUE["eosin"]
    slide = ArraySlide(pixels)
    starts = np.arange(0, 4601, 100)
    together = TissueMap(slide.read_grid, LabelGrid((5000, 5000))).gate(4000, 400, starts)
    alone = [
        TissueMap(slide.read_grid, LabelGrid((5000, 5000))).gate(4000, 400, np.array([s]))[0]
        for s in starts[::7]
    ]
    assert list(together[::7]) == alone
