"""Pictures of where the overlay would change, against what both models and the reader say."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from jobs.finetune_case import Made, made, made_case
from napari_hspnet.cases import Case, Selection
from napari_hspnet.classes import DEMO_BANNER, RESEARCH_USE_ONLY
from napari_hspnet.errors import CancelledError, OutputError
from napari_hspnet.jobs.evaluation_data import CasesSource, Subject, opened
from napari_hspnet.jobs.finetune_pictures import (
    BETTER,
    MOST,
    OPEN,
    OTHER,
    SAME,
    WORSE,
    Answers,
    change_pictures,
    changed,
)
from napari_hspnet.slides import LabelGrid, Region, open_slide

NAMES = "the old one", "the new one"


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Made:
    return made(tmp_path_factory.mktemp("case"), 1)


@contextmanager
def regions(one: Made):
    source = one.sources[0]
    with opened(CasesSource((source.case,), (source.slide,))) as data:
        yield data.subjects


def said(subjects, change) -> Answers:
    """A model that says the truth but where `change` makes it say something else."""
    answers = Answers(subjects)
    for number, subject in enumerate(subjects):
        answers.keep(subject, change(number, subject.truth()))
    return answers


def truthful(number, truth):
    return truth


def square(side, value, every=1):
    """Wrong in a corner square whose side grows from region to region."""

    def change(number, truth):
        out = truth.copy()
        if number % every == 0:
            size = side * (number + 1)
            out[:size, :size] = np.where(truth[:size, :size] == value, value - 1, value)
        return out

    return change


def coloured(pixels):
    """How many pixels are clearly blue, and clearly orange."""
    red, blue = pixels[..., 0].astype(int), pixels[..., 2].astype(int)
    return int((blue - red > 100).sum()), int((red - blue > 100).sum())


def panels(path):
    """The three panels of a picture, without titles and legend."""
    pixels = np.array(Image.open(path))
    wide = (pixels.shape[1] - 20) // 3
    return [pixels[:, i * (wide + 10) : i * (wide + 10) + wide] for i in range(3)]


def test_each_pixel_is_told_by_both_models_and_the_reader() -> None:
    truth = np.array([[1, 1, 1, 1, 255, 255]], np.uint8)
    now = np.array([[1, 2, 1, 2, 3, 3]], np.uint8)
    then = np.array([[1, 1, 2, 3, 3, 4]], np.uint8)
    assert changed(now, then, truth).tolist() == [[SAME, BETTER, WORSE, OTHER, SAME, OPEN]]


def test_a_candidate_that_corrects_is_blue_and_one_that_errs_is_striped(one, tmp_path) -> None:
    with regions(one) as subjects:
        wrong, right = said(subjects, square(8, 4)), said(subjects, truthful)
        good = change_pictures(tmp_path / "good", subjects, wrong, right, NAMES)
        bad = change_pictures(tmp_path / "bad", subjects, right, wrong, NAMES)
    assert len(good) == len(bad) == 8
    # The last region changes most: its square has a side of 64 µm.
    path, caption = good[0]
    assert "Region 8 of slide" in caption
    assert "0.004 mm² would change: 0.004 mm² becomes right" in caption
    assert RESEARCH_USE_ONLY in caption
    assert "becomes wrong" not in caption
    assert "0.004 mm² becomes wrong" in bad[0][1]
    blue, orange = coloured(panels(path)[2][:112])
    assert blue > 3500
    assert orange == 0
    blue, orange = coloured(panels(bad[0][0])[2][:112])
    assert blue == 0
    assert orange > 1000


def test_both_overlays_are_drawn_on_the_slide(one, tmp_path) -> None:
    with regions(one) as subjects:
        wrong, right = said(subjects, square(8, 4)), said(subjects, truthful)
        (path, _), *_ = change_pictures(tmp_path, subjects, wrong, right, NAMES)
    now, then, differ = panels(path)
    # Below the square both say the same.
    height = 136
    assert (now[:height] != then[:height]).any()
    np.testing.assert_array_equal(now[120:height], then[120:height])
    colours = np.ptp(differ[100:height].astype(int), axis=2)
    assert colours.max() == 0, "a part that does not change has no colour"


def test_the_most_changed_come_first_and_no_more_than_twelve(one, tmp_path) -> None:
    with regions(one) as subjects:
        many = tuple(
            Subject(s.image, s.background, s.slide, s.origin) for s in (*subjects, *subjects)
        )
        wrong, right = said(subjects, square(4, 4)), said(subjects, truthful)
        assert len(many) == 16
        made_ = change_pictures(tmp_path, many, wrong, right, NAMES)
    assert len(made_) == MOST
    assert [c.split()[1] for _, c in made_] == [
        str(n) for n in (8, 8, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3)
    ]


def test_no_change_is_said(one, tmp_path) -> None:
    with regions(one) as subjects:
        right = said(subjects, truthful)
        pictures = change_pictures(tmp_path, subjects, right, right, NAMES)
    assert [caption.split(": ", 1)[1] for _, caption in pictures] == [
        f"no change. {RESEARCH_USE_ONLY}."
    ] * 8


def test_outside_a_drawn_region_nothing_counts(tmp_path) -> None:
    source = made_case(tmp_path / "case", 3)
    # A triangle: the upper left half of a square.
    triangle = Region.shapes([[(8.0, 8.0), (8.0, 108.0), (108.0, 8.0)]])
    with open_slide(source.slide) as slide:
        grid = LabelGrid.of(slide.info)
        with Case.open_or_create(source.case, slide.info, grid) as case:
            (made_,) = case.review.add([Selection.of_region(triangle, grid)], "drawn", "Dr. A")
            case.review.set_state([made_.id], "reviewed", "Dr. A")
    with opened(CasesSource((source.case,), (source.slide,))) as data:
        subjects = [s for s in data.subjects if s.image.name.endswith("r00009")]

        def corners(number, truth):
            inside = truth != 255
            assert 4900 < inside.sum() < 5100
            out = truth.copy()
            out[:10, :10] = np.where(truth[:10, :10] == 1, 2, 1)
            out[-30:, -30:] = 4
            return out

        right, wrong = said(subjects, truthful), said(subjects, corners)
        ((path, caption),) = change_pictures(tmp_path, subjects, wrong, right, NAMES)
    assert ": under 0.001 mm² would change: under 0.001 mm² becomes right." in caption
    blue, _ = coloured(panels(path)[2][:100])
    assert 50 < blue < 150


def test_earlier_pictures_go_and_what_else_lies_there_stays(one, tmp_path) -> None:
    (tmp_path / "11-abc-r00001.png").write_bytes(b"old")
    (tmp_path / "notes.txt").write_text("mine")
    with regions(one) as subjects:
        right = said(subjects[:1], truthful)
        change_pictures(tmp_path, subjects[:1], right, right, NAMES)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert len(names) == 2
    assert names[1] == "notes.txt"
    with Image.open(tmp_path / names[0]) as picture:
        assert picture.info["notice"] == RESEARCH_USE_ONLY


def test_the_demo_model_is_named_as_such(one, tmp_path) -> None:
    with regions(one) as subjects:
        right = said(subjects[:1], truthful)
        plain, marked = (
            change_pictures(tmp_path / str(demo), subjects[:1], right, right, NAMES, demo)[0][0]
            for demo in (False, True)
        )
    heights = [Image.open(path).height for path in (plain, marked)]
    assert heights[1] > heights[0], f"a line says {DEMO_BANNER}"


def test_a_cancelled_one_stops_and_a_place_that_takes_nothing_is_told(one, tmp_path) -> None:
    cancel = threading.Event()
    with regions(one) as subjects:
        right = said(subjects, truthful)

        def stop(part) -> None:
            cancel.set()

        with pytest.raises(CancelledError):
            change_pictures(tmp_path / "a", subjects, right, right, NAMES, False, stop, cancel)
        assert len(list((tmp_path / "a").iterdir())) == 1
        (tmp_path / "file").write_text("no folder")
        with pytest.raises(OutputError):
            change_pictures(tmp_path / "file", subjects, right, right, NAMES)
