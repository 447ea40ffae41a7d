"""What the window computes, without a window."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_hspnet._qt.display import OverlayLevel, VeilLevel, outlined
from napari_hspnet._qt.estimate import coarse_problem, estimate_text
from napari_hspnet._qt.picture import worst_of_blocks
from napari_hspnet._qt.regions import chosen_shapes, outline
from napari_hspnet._qt.slots import SlotRecorder
from napari_hspnet._qt.style import (
    HALO,
    LINE,
    LINE_WIDTHS,
    OverlayStyle,
    overlay_colours,
    value_table,
)
from napari_hspnet._qt.words import about_seconds, area, elided, objective_text, windows_text
from napari_hspnet.classes import CLASSES, PALETTES

labels = hnp.arrays(
    np.uint8,
    st.tuples(st.integers(8, 40), st.integers(8, 40)),
    elements=st.sampled_from([0, 1, 2, 3, 4, 253, 254, 255]),
)


def test_lines_keep_to_their_own_region_and_grow_with_the_grade():
    values = np.zeros((60, 200), np.uint8)
    for index, c in enumerate(CLASSES):
        values[10:50, 10 + 48 * index : 50 + 48 * index] = c.value
    drawn = outlined(values, fill=False)
    for index, c in enumerate(CLASSES):
        middle = drawn[30, 10 + 48 * index : 50 + 48 * index]
        width = LINE_WIDTHS[c.value]
        assert (middle[:width] == c.value + LINE).all()
        assert middle[width] == c.value + HALO
        assert (middle[width + 1 : -width - 1] == 0).all()
    assert not np.isin(drawn[values == 0], [0, HALO], invert=True).any()


@settings(max_examples=60, deadline=None)
@given(labels, st.booleans(), st.booleans(), st.data())
def test_a_box_of_the_overlay_is_that_part_of_the_whole(values, fill, tiers, data):
    style = OverlayStyle(fill=fill, two_tier=tiers)
    level = OverlayLevel(values, style)
    y0 = data.draw(st.integers(0, values.shape[0] - 1))
    x0 = data.draw(st.integers(0, values.shape[1] - 1))
    y1 = data.draw(st.integers(y0 + 1, values.shape[0]))
    x1 = data.draw(st.integers(x0 + 1, values.shape[1]))
    whole = outlined(value_table(style)[values], fill)
    assert np.array_equal(level[y0:y1, x0:x1], whole[y0:y1, x0:x1])
    assert np.array_equal(np.asarray(level), whole)
    assert level[y0, x0] == whole[y0, x0]


@settings(max_examples=40, deadline=None)
@given(labels)
def test_the_veil_marks_what_was_not_analysed_and_nothing_else(values):
    veil = np.asarray(VeilLevel(values))
    assert np.array_equal(veil != 0, values >= 253)
    for value, first in ((253, 1), (254, 3), (255, 5)):
        assert np.isin(veil[values == value], [first, first + 1]).all()


def test_two_tiers_join_cin2_and_cin3():
    values = np.full((20, 20), 3, np.uint8)
    values[:, 10:] = 4
    joined = outlined(value_table(OverlayStyle(two_tier=True))[values], fill=True)
    apart = outlined(value_table(OverlayStyle())[values], fill=True)
    assert (joined == 4).all()
    assert (apart[10, 8:12] > 10).all()


def test_hidden_classes_are_not_drawn():
    style = OverlayStyle().shown((2,), False)
    assert value_table(style)[2] == 0
    assert value_table(style.shown((2,), True))[2] == 2


@pytest.mark.parametrize("key", PALETTES)
def test_every_drawn_value_has_a_colour(key):
    colours = overlay_colours(OverlayStyle(palette=key))
    for c in CLASSES:
        for value in (c.value, c.value + LINE, c.value + HALO):
            assert 0 < colours[value][3] <= 1
    assert colours[None][3] == 0
    assert colours[HALO][3] > 0


def test_a_small_focus_survives_in_the_overview():
    values = np.ones((301, 200), np.uint8)
    values[177, 33] = 4
    assert worst_of_blocks(values, 7).max() == 4
    assert worst_of_blocks(values, 7).shape == (43, 29)


def test_an_ellipse_becomes_its_outline_rotated_or_not():
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    corners = np.array([[-20.0, -50], [-20, 50], [20, 50], [20, -50]]) @ turn.T + [100, 200]
    points = (outline("ellipse", corners) - [100, 200]) @ turn
    assert np.allclose((points[:, 0] / 20) ** 2 + (points[:, 1] / 50) ** 2, 1)
    assert np.array_equal(outline("polygon", corners), corners)


def test_the_selected_shapes_or_all():
    assert chosen_shapes(3, set()) == (0, 1, 2)
    assert chosen_shapes(3, {2, 0}) == (0, 2)
    assert chosen_shapes(2, {5}) == (0, 1)


def test_words():
    assert about_seconds(12.2) == "about 12 s"
    assert about_seconds(0.2) == "about 1 s"
    assert about_seconds(47) == "about 45 s"
    assert about_seconds(60 * 7.4) == "about 7 min"
    assert about_seconds(3600 * 4.81) == "about 4.8 h"
    assert windows_text(1482) == "1,482 windows"
    assert windows_text(1) == "1 window"
    assert area(0) == "0 mm²"
    assert area(0.0004) == "under 0.001 mm²"
    assert area(0.0212) == "0.021 mm²"
    assert area(4.1234) == "4.12 mm²"
    assert objective_text(1.0) == "x10"
    assert objective_text(0.25) == "x2.5"
    assert estimate_text(1482, 0.008) == "1,482 windows · about 12 s"
    assert estimate_text(0, 1.0) == "No tissue found here"
    assert len(elided("a" * 100, 30)) == 30
    assert elided("a" * 40 + ".svs", 20).endswith(".svs")


def test_slots_are_timed_and_napari_apart():
    import time

    recorder = SlotRecorder()
    recorder.on = True
    with recorder.timing("outer"):
        with recorder.timing("inner"):
            pass
        with recorder.into_napari():
            time.sleep(0.02)
    (only,) = recorder.times
    assert only.name == "outer"
    assert only.napari >= 0.02
    assert only.ours < only.napari


def test_a_slide_that_is_too_coarse_says_so(tmp_path):
    from dataclasses import replace

    from napari_hspnet.slides import open_slide

    from slide_files import noise, write_generic_tiff

    with open_slide(write_generic_tiff(tmp_path / "a.tif", [noise(70, 80)], 1.9)) as slide:
        assert coarse_problem(slide.info, 1.0) == ""
        assert "too coarse" in coarse_problem(replace(slide.info, mpp=(2.1, 1.0)), 1.0)
        assert coarse_problem(replace(slide.info, mpp=None), 1.0) == ""


def test_the_manifest_names_what_exists():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("napari-hspnet")
    assert manifest.display_name == "HSP-Net review"
    for command in manifest.contributions.commands:
        assert callable(command.python_name and _named(command.python_name))


def _named(name):
    from importlib import import_module

    module, attribute = name.split(":")
    return getattr(import_module(module), attribute)


def test_the_reader_takes_slides_and_leaves_pictures_to_others(tmp_path):
    from napari_hspnet._qt.hooks import get_reader

    assert get_reader("a/b.SVS") is not None
    assert get_reader(["a.ndpi", "b.tif"]) is not None
    assert get_reader("a.png") is None
    assert get_reader(["a.svs", "b.csv"]) is None
    assert get_reader([]) is None


def test_no_key_of_ours_is_napari_s():
    from app_model.types import KeyBinding
    from napari._app_model import get_app_model
    from napari.utils.shortcuts import default_shortcuts

    from napari_hspnet._qt.keys import HIDE, OBJECTIVE_KEYS, SEGMENT_VIEW, readable

    theirs = {str(key) for keys in default_shortcuts.values() for key in keys}
    theirs |= {str(binding.keybinding) for binding in get_app_model().keybindings}
    ours = [HIDE, SEGMENT_VIEW, *OBJECTIVE_KEYS.values()]
    for key in ours:
        assert str(KeyBinding.from_str(readable(key))) not in theirs
    assert len(theirs) > 50


def test_a_cancelled_estimate_stops(tmp_path):
    from napari_hspnet._qt.estimate import estimate
    from napari_hspnet.errors import CancelledError
    from napari_hspnet.slides import Region, open_slide

    from oracle import oracle_model
    from slide_files import noise, write_generic_tiff

    stop = threading.Event()
    stop.set()
    with open_slide(write_generic_tiff(tmp_path / "a.tif", [noise(900, 900)], 1.0)) as slide:
        with pytest.raises(CancelledError):
            estimate(slide, oracle_model(), Region.slide(), None, stop)
        found = estimate(slide, oracle_model(), Region.slide(), None, threading.Event())
    assert found.windows == 36
