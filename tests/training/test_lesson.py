"""The plain account of what a fine-tuning would learn from."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.slide_case import paint
from napari_hspnet.cases import Case, Selection, accepted
from napari_hspnet.errors import CaseMismatchError, InputError, SlideError
from napari_hspnet.slides import LabelGrid, PixelBox, open_slide
from napari_hspnet.training.data import open_case_regions, patch_index
from napari_hspnet.training.gate import GateOptions
from napari_hspnet.training.holding_back import Needs, hold_back
from napari_hspnet.training.lesson import LessonOptions, LessonSource, plan_lesson

from cases.case_tools import block, run_record
from slide_files import noise, write_generic_tiff

SIDE = 300
OPTIONS = LessonOptions(side=64, stride=32)


@contextmanager
def opened(folder, name="a", seed=1, mpp=1.0):
    """A case of 300 x 300 labels with a run: stripes of the four classes, 60 wide."""
    path = write_generic_tiff(folder / f"{name}.tiff", [noise(SIDE, SIDE, seed)], mpp)
    with open_slide(path) as slide:
        grid = LabelGrid.of(slide.info, mpp)
        with Case.open_or_create(folder / f"{name}.hspnet", slide.info, grid) as case:
            values = np.repeat(np.arange(5, dtype=np.uint8), 60)[None].repeat(SIDE, 0)
            run = case.start_run(run_record())
            run.write(block(0, 0, values))
            run.finish(1.0)
            yield case


def add(case, *boxes, state="reviewed"):
    shape = case.grid.shape
    found = [Selection.of_box(PixelBox(*box), shape) for box in boxes]
    made = case.review.add(found, "tile", "Dr. A")
    if state != "to do":
        case.review.set_state([r.id for r in made], state, "Dr. A")
    return [r.id for r in made]


def source(folder, name="a", **others):
    return LessonSource(folder / f"{name}.hspnet", folder / f"{name}.tiff", **others)


ROWS = ((0, 0, 70, 300), (75, 0, 145, 300), (150, 0, 220, 300), (225, 0, 300, 300))


def made(folder, name="a", seed=1, rows=ROWS):
    """A patch of CIN3 corrected in each row."""
    with opened(folder, name, seed) as case:
        for y0, x0, *_ in rows:
            paint(case, y0 + 5, x0 + 70, 20, 30, 4, "Dr. A")
        add(case, *rows)
    return source(folder, name)


def slow_counts(case_folder, box):
    """Pixel by pixel: (corrected, accepted) by label."""
    found = np.zeros((2, 5), int)
    with Case.open(case_folder) as case:
        composite = case.composite()
        maps = [
            composite.read(box.y0, box.x0, box.height, box.width, what=w)
            for w in ("classes", "correction", "prediction")
        ]
    for shown, said, predicted in zip(*(m.ravel().tolist() for m in maps), strict=True):
        if shown <= 4:
            found[0 if said != 255 and said != predicted else 1, shown] += 1
    return found.tolist()


def test_corrected_and_accepted_are_told_apart_to_the_pixel(tmp_path) -> None:
    lesson = plan_lesson([made(tmp_path)], OPTIONS)
    regions = (*lesson.learn, *lesson.held)
    assert sorted(r.number for r in regions) == [1, 2, 3, 4]
    for region in regions:
        expected = slow_counts(region.case, region.box)
        assert [list(region.corrected), list(region.accepted)] == expected
        assert region.corrected == (0, 0, 0, 0, 600)
        assert region.mm2 == pytest.approx(sum(region.pixels[1:]) * 1e-6)
    areas = lesson.areas(held=True)
    assert areas["CIN3"][0] == pytest.approx(len(lesson.held) * 600e-6)
    assert areas["none of the four"][1] > 0


def test_what_a_reader_says_is_right_counts_as_accepted(tmp_path) -> None:
    with opened(tmp_path) as case:
        paint(case, 10, 70, 20, 30, 4, "Dr. A")
        chosen = Selection.of_box(PixelBox(0, 0, 140, 300), case.grid.shape)
        case.editing.correct(accepted(chosen, case.composite()), "Dr. A", "accept")
        add(case, *ROWS[:2])
    lesson = plan_lesson([source(tmp_path)], OPTIONS)
    regions = {r.number: r for r in (*lesson.learn, *lesson.held)}
    assert sum(regions[1].corrected) == 600
    assert sum(regions[2].corrected) == 0
    assert sum(regions[2].accepted) == 70 * 300


def test_one_patient_is_divided_by_region_and_it_is_said(tmp_path) -> None:
    lesson = plan_lesson([made(tmp_path)], OPTIONS)
    assert lesson.split == "region"
    assert (len(lesson.learn), len(lesson.held)) == (3, 1)
    text = lesson.text()
    assert "All regions are of one patient, so they are divided by region" in text
    assert "Learns from 3 regions of 1 patient" in text
    assert "Holds back 1 region of 1 patient" in text
    assert "(whole regions)" in text


def test_several_patients_are_kept_whole(tmp_path) -> None:
    sources = [made(tmp_path, name, seed) for seed, name in enumerate("abcd")]
    lesson = plan_lesson(sources, OPTIONS)
    assert lesson.split == "patient"
    learn, held = ({r.patient for r in part} for part in (lesson.learn, lesson.held))
    assert not learn & held
    assert (len(learn), len(held)) == (3, 1)
    assert "4 slides have no patient named" in lesson.text()
    assert "(whole patients)" in lesson.text()


def test_slides_of_one_patient_stay_together(tmp_path) -> None:
    made(tmp_path, "a", 1), made(tmp_path, "b", 2), made(tmp_path, "c", 3)
    whose = {"a": "P", "b": "P", "c": "Q"}
    lesson = plan_lesson([source(tmp_path, n, patient=p) for n, p in whose.items()], OPTIONS)
    assert {r.patient for r in lesson.held} == {"Q"}
    assert "no patient named" not in lesson.text()
    same = plan_lesson([source(tmp_path, n, patient="P") for n in whose], OPTIONS)
    assert same.split == "region"


def test_patches_are_those_that_training_will_find(tmp_path) -> None:
    given_ = made(tmp_path)
    lesson = plan_lesson([given_], OPTIONS)
    with (
        open_slide(given_.slide) as slide,
        open_case_regions(given_.case, slide, regions=[r.number for r in lesson.learn]) as images,
    ):
        assert {i.name for i in images.images} == {r.name for r in lesson.learn}
        assert len(patch_index(images.images, 64, 32)) == lesson.patches > 0


def test_overlapping_regions_are_on_one_side(tmp_path) -> None:
    with opened(tmp_path) as case:
        paint(case, 5, 70, 100, 30, 4, "Dr. A")
        add(case, (0, 0, 70, 300), (60, 0, 130, 300), (120, 0, 190, 300), (200, 0, 290, 300))
    lesson = plan_lesson([source(tmp_path)], OPTIONS)
    sides = [{r.number for r in part} for part in (lesson.learn, lesson.held)]
    assert {1, 2, 3} in sides
    assert {4} in sides


def test_what_lacks_is_said(tmp_path) -> None:
    with opened(tmp_path) as case:
        paint(case, 5, 130, 20, 30, 1, "Dr. A")
        add(case, *((y, 60, y + 70, 180) for y in (0, 75, 150)))
        add(case, (225, 60, 300, 180), state="to do")
    lesson = plan_lesson([source(tmp_path, regions=(1, 2, 3, 4))], OPTIONS)
    text = lesson.text()
    assert "CIN2 is in none of these regions: it is not taught and not judged." in text
    assert "CIN3 is in none of these regions" in text
    assert "1 region is not reviewed: what nobody corrected there counts as accepted." in text
    nothing = not any(r.corrected[1] for r in lesson.held)
    assert ("Nothing that is held back was corrected" in text) == nothing


def test_a_class_of_one_region_is_taught_and_cannot_be_judged(tmp_path) -> None:
    with opened(tmp_path) as case:
        paint(case, 5, 70, 20, 30, 4, "Dr. A")
        add(case, *((y, 60, y + 70, 180) for y in (0, 75, 150, 225)))
    lesson = plan_lesson([source(tmp_path)], OPTIONS)
    assert any(r.pixels[4] for r in lesson.learn)
    assert "CIN3 is in nothing that is held back: it cannot be judged." in lesson.text()


def test_regions_too_small_for_a_patch_are_named_and_teach_nothing(tmp_path) -> None:
    with opened(tmp_path) as case:
        paint(case, 5, 70, 20, 30, 4, "Dr. A")
        add(case, *ROWS, (71, 100, 74, 110))
    lesson = plan_lesson([source(tmp_path)], OPTIONS)
    tiny = next(r for r in (*lesson.learn, *lesson.held) if r.number == 5)
    assert tiny.patches == 0
    assert ("to give a patch: region 5." in lesson.text()) == (tiny in lesson.learn)


def test_tagged_and_unreviewed_regions_are_left_out(tmp_path) -> None:
    given_ = made(tmp_path)
    with open_slide(given_.slide) as slide:
        grid = LabelGrid.of(slide.info)
        with Case.open_or_create(given_.case, slide.info, grid) as case:
            case.review.set_tag([2], "artefact", "Dr. A")
            case.review.set_state([3], "in progress", "Dr. A")
    lesson = plan_lesson([given_], OPTIONS)
    assert {r.number for r in (*lesson.learn, *lesson.held)} == {1, 4}


def test_the_record_is_plain_json_without_patients_and_files(tmp_path) -> None:
    made(tmp_path)
    lesson = plan_lesson([source(tmp_path, patient="Meyer")], OPTIONS)
    said = json.dumps(lesson.to_json())
    assert "Meyer" not in said
    assert str(tmp_path) not in said
    assert json.loads(said)["patches"] == lesson.patches
    with Case.open(tmp_path / "a.hspnet") as case:
        assert lesson.entries == {str(case.folder): case.journal.last}


def test_the_same_cases_give_the_same_lesson(tmp_path) -> None:
    sources = [made(tmp_path, name, seed) for seed, name in enumerate("ab")]
    assert plan_lesson(sources, OPTIONS) == plan_lesson(sources, OPTIONS)


def test_nothing_corrected_is_refused(tmp_path) -> None:
    with opened(tmp_path) as case:
        add(case, *ROWS)
    with pytest.raises(InputError, match="No reader corrected anything"):
        plan_lesson([source(tmp_path)], OPTIONS)


def test_one_class_is_refused(tmp_path) -> None:
    with opened(tmp_path) as case:
        paint(case, 0, 0, 300, 300, 3, "Dr. A")
        add(case, *ROWS)
    with pytest.raises(InputError, match="one class only, CIN2"):
        plan_lesson([source(tmp_path)], OPTIONS)


def test_one_grade_beside_none_of_the_four_is_a_class_only_with_background(tmp_path) -> None:
    with opened(tmp_path) as case:
        paint(case, 0, 0, 300, 150, 0, "Dr. A")
        paint(case, 0, 150, 300, 150, 3, "Dr. A")
        add(case, *ROWS)
    assert plan_lesson([source(tmp_path)], OPTIONS).patches > 0
    ignoring = LessonOptions(side=64, stride=32, background=False)
    with pytest.raises(InputError, match="one class only, CIN2"):
        plan_lesson([source(tmp_path)], ignoring)


@pytest.mark.parametrize("boxes", [[ROWS[0]], [(0, 0, 200, 300), (150, 0, 300, 300)]])
def test_too_few_to_hold_any_back_is_refused(tmp_path, boxes) -> None:
    with opened(tmp_path) as case:
        paint(case, 5, 70, 20, 30, 4, "Dr. A")
        add(case, *boxes)
    with pytest.raises(InputError, match="too few regions to hold any back"):
        plan_lesson([source(tmp_path)], OPTIONS)


def test_missing_and_wrong_slides_are_refused(tmp_path) -> None:
    given_ = made(tmp_path)
    with pytest.raises(SlideError) as error:
        plan_lesson([LessonSource(given_.case, tmp_path / "gone.tiff")], OPTIONS)
    assert "gone.tiff" in str(error.value)
    other = write_generic_tiff(tmp_path / "other.tiff", [noise(64, 64, 9)], 1.0)
    with pytest.raises(CaseMismatchError):
        plan_lesson([LessonSource(given_.case, other)], OPTIONS)


def test_other_resolutions_twice_the_same_and_no_case_are_refused(tmp_path) -> None:
    given_ = made(tmp_path)
    with pytest.raises(InputError, match="labels of 1 µm per pixel"):
        plan_lesson([given_], LessonOptions(mpp=0.5, side=64, stride=32))
    with pytest.raises(InputError, match="are of one slide"):
        plan_lesson([given_, given_], OPTIONS)
    with pytest.raises(InputError, match="No case"):
        plan_lesson([], OPTIONS)
    with pytest.raises(InputError):
        LessonOptions(share=1.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(0, 2**31))
def test_holding_back_leaves_every_class_to_learn_and_about_a_quarter(units, seed) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 1000, (units, 5)) * (rng.random((units, 5)) < 0.8)
    sizes[0, :2] = 1
    sizes[1, :2] = 1
    mask = hold_back(sizes, sizes, 0.25, seed % 100)
    assert mask.any()
    assert not mask.all()
    left = sizes[~mask].sum(axis=0)
    assert (left[sizes.sum(axis=0) > 0] > 0).all() or units <= 3
    np.testing.assert_array_equal(mask, hold_back(sizes, sizes, 0.25, seed % 100))
    if units >= 16:
        share = sizes[mask].sum(axis=0) / np.maximum(sizes.sum(axis=0), 1)
        assert (np.abs(share - 0.25) < 0.15).all()


def test_many_units_are_divided_about_as_well_as_few() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 1000, (400, 5))
    mask = hold_back(sizes, sizes)
    share = sizes[mask].sum(axis=0) / sizes.sum(axis=0)
    assert np.abs(share - 0.25).max() < 0.02


@pytest.mark.parametrize(("count", "held"), [(8, 4), (10, 4), (7, 2)])
def test_from_eight_regions_on_the_gate_gets_its_four(tmp_path, count, held) -> None:
    tall = 300 // count
    rows = [(i * tall, 0, (i + 1) * tall, 300) for i in range(count)]
    with opened(tmp_path) as case:
        for y0, *_ in rows:
            paint(case, y0 + 2, 70, 20, 30, 4, "Dr. A")
        add(case, *rows)
    options = LessonOptions(side=32, stride=32, min_foreground=0.1)
    lesson = plan_lesson([source(tmp_path)], options)
    assert len(lesson.held) == held
    assert len(lesson.learn) == count - held


def test_what_a_verdict_would_lack_is_said_before(tmp_path) -> None:
    assert "it will be too few to judge" in plan_lesson([made(tmp_path)], OPTIONS).text()


def test_that_more_than_a_quarter_is_held_back_is_said(tmp_path) -> None:
    path = write_generic_tiff(tmp_path / "a.tiff", [noise(1600, 2000, 3)], 1.0)
    boxes = [(y, x, y + 790, x + 390) for y in (0, 800) for x in range(0, 2000, 400)]
    with open_slide(path) as slide:
        grid = LabelGrid.of(slide.info)
        with Case.open_or_create(tmp_path / "a.hspnet", slide.info, grid) as case:
            values = np.repeat(np.arange(1, 5, dtype=np.uint8), 400)[:, None].repeat(2000, 1)
            run = case.start_run(run_record())
            run.write(block(0, 0, values))
            run.finish(1.0)
            for y0, x0, *_ in boxes:
                paint(case, y0 + 5, x0 + 5, 50, 50, 4, "Dr. A")
            add(case, *boxes)
    lesson = plan_lesson([source(tmp_path)], LessonOptions(side=200, stride=200))
    assert (len(lesson.learn), len(lesson.held)) == (6, 4)
    assert sum(r.mm2 for r in lesson.held) >= GateOptions().least_mm2
    text = lesson.text()
    assert "More than 25% is held back, so that there can be a verdict" in text
    assert "too few to judge" not in text


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 24), st.integers(0, 2**31))
def test_a_verdict_gets_what_it_needs_and_no_more_than_half(units, seed) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 1000, (units, 3))
    classes = (rng.random((units, 3)) < 0.5).astype(np.int64)
    needs = Needs(np.hstack([np.ones((units, 1), np.int64), classes]), np.array([4, 2, 2, 2]))
    mask = hold_back(sizes, sizes, 0.25, seed % 100, needs)
    plain = hold_back(sizes, sizes, 0.25, seed % 100)
    if units < 8:
        np.testing.assert_array_equal(mask, plain)
        return
    assert 4 <= mask.sum() <= units // 2
    for has in classes.T:
        if has.sum() >= 6:
            assert has[mask].sum() >= 2


def test_whole_patients_may_leave_no_choice_but_never_all_is_held_back() -> None:
    # Nine regions of one patient and one of another.
    have = np.array([[9], [1]])
    sizes = np.array([[900, 900], [100, 100]])
    mask = hold_back(sizes, sizes, needs=Needs(have, np.array([4])))
    assert mask.tolist() == [False, True]


def test_a_class_is_rather_taught_than_judged() -> None:
    # All of the second class is in four of ten units that then cannot all be held back.
    sizes = np.ones((10, 2), np.int64)
    sizes[4:, 1] = 0
    have = np.hstack([np.ones((10, 1), np.int64), sizes[:, 1:]])
    mask = hold_back(sizes, sizes, needs=Needs(have, np.array([4, 2])))
    assert sizes[~mask, 1].sum() >= 1
    assert sizes[mask, 1].sum() >= 2
