"""Named modes: what they set, what they cost, and that their figures are of what is shipped."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from engine_helpers import ArraySlide
from hypothesis import given
from hypothesis import strategies as st

from napari_hspnet.errors import InputError
from napari_hspnet.inference import Settings, make_plan, prepare
from napari_hspnet.inference.modes import (
    DEFAULT_MODE,
    MEASURED_ON,
    MODES,
    mode,
    mode_of,
    mode_settings,
)
from napari_hspnet.inference.settings import MAX_WINDOW, MIN_WINDOW
from napari_hspnet.networks import demo_model_path, load_checkpoint
from napari_hspnet.phantom import generator_hash
from napari_hspnet.slides import LabelGrid, Region

NAMES = ("exact", "balanced", "preview")


def test_the_modes_are_these_from_the_most_careful_on():
    assert tuple(MODES) == NAMES
    costs = [one.cost for one in MODES.values()]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] == 1
    with pytest.raises(TypeError):
        MODES["mine"] = MODES["exact"]  # type: ignore[index]


def test_exact_is_what_the_engine_does_by_itself():
    assert mode_settings(DEFAULT_MODE) == Settings(sigma=50.0)
    assert mode_settings("exact").to_dict() == Settings().to_dict()


def test_modes_scale_with_the_window():
    for name in NAMES:
        large, small = mode_settings(name, 400), mode_settings(name, 200)
        assert large.effective_stride == 2 * small.effective_stride
        assert large.effective_sigma == pytest.approx(2 * small.effective_sigma)
        assert small.window == 200


@given(window=st.integers(MIN_WINDOW, MAX_WINDOW), name=st.sampled_from(NAMES))
def test_settings_are_recognised_whatever_the_window_and_the_rest(window, name):
    settings = mode_settings(name, window)
    other = dataclasses.replace(settings, tissue_mask=False, precision="float16")
    assert mode_of(settings) is MODES[name]
    assert mode_of(other) is MODES[name]


def test_settings_of_no_mode_have_none():
    assert mode_of(Settings(stride=97)) is None
    assert mode_of(Settings(stride=100, sigma=49.0)) is None


def test_a_wrong_name_is_refused_with_the_right_ones():
    for ask in (mode, mode_settings):
        with pytest.raises(InputError, match="fastest") as caught:
            ask("fastest")
        assert all(name in caught.value.advice for name in NAMES)


def test_a_window_that_cannot_be_is_refused():
    with pytest.raises(InputError):
        mode_settings("exact", MIN_WINDOW - 1)


@pytest.mark.parametrize("name", NAMES)
def test_cost_is_what_a_large_slide_takes(name):
    grid = LabelGrid((40_000, 30_000))

    def windows(settings: Settings) -> int:
        return make_plan(grid, Region.slide(), settings, band_width=30_000).windows

    share = windows(mode_settings(name)) / windows(mode_settings("exact"))
    assert share == pytest.approx(mode(name).cost, rel=0.05)


def test_a_small_slide_is_covered_in_every_mode():
    slide = ArraySlide(np.zeros((500, 710, 3), np.uint8))
    for name in NAMES:
        settings = dataclasses.replace(mode_settings(name, 128), tissue_mask=False)
        plan = prepare(slide, 1.0, Region.slide(), settings)
        covered = np.zeros((500, 710), bool)
        for row, column in np.argwhere(plan.bands[0].active):
            y, x = plan.ys[row], plan.bands[0].xs[column]
            covered[y : y + 128, x : x + 128] = True
        assert covered.all(), name


def test_a_mode_is_worse_than_exact_only_as_a_preview():
    for one in MODES.values():
        gain = one.measured.gain
        assert gain.low <= gain.value <= gain.high
        assert one.preview or gain.high >= 0, "worse for sure, and not called a preview"
        assert (one.note is not None) == one.preview


def test_people_are_told_cost_and_agreement_at_cin2():
    for one in list(MODES.values())[1:]:
        said = one.sentence()
        assert f"{100 * one.cost:.0f} %" in said
        assert f"{100 * one.measured.high_as_exact.value:.1f} %" in said


def test_the_figures_are_of_the_model_and_phantoms_that_are_shipped():
    assert load_checkpoint(demo_model_path()).sha256[:12] in MEASURED_ON
    assert generator_hash() in MEASURED_ON
