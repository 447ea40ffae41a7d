"""What a report says of a case, against the case itself."""

from __future__ import annotations

import io
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from exchange.slide_case import COMMENT, HOSTILE, SHAPE, made_case, prediction
from napari_hspnet.cases import CaseSnapshot, Selection
from napari_hspnet.cases.grades import LEAST_MM2
from napari_hspnet.classes import ORDINAL
from napari_hspnet.errors import CancelledError, CaseMismatchError, InputError
from napari_hspnet.jobs.report import MOST_REGIONS, gather
from napari_hspnet.slides import PixelBox


@pytest.fixture
def made(tmp_path):
    with made_case(tmp_path) as made:
        yield made


def shown():
    values = prediction()
    values[110:150, 70:120] = 4
    values[350:370, 310:330] = 0
    return values


def mm2(values):
    found, counts = np.unique(values, return_counts=True)
    return {int(v): n / 1e6 for v, n in zip(found, counts, strict=True)}


def test_areas_and_changes_are_those_of_the_case(made):
    _, snapshot, _ = made
    content = gather(snapshot)
    now, before = mm2(shown()), mm2(prediction())
    rows = content.areas + content.not_analysed
    assert {row.value: row.shown for row in rows} == pytest.approx(now)
    assert {row.value: row.predicted for row in rows} == pytest.approx(before)
    assert [(c.before, c.after) for c in content.changes] == [("CIN1", "CIN3")]
    assert content.changes[0].mm2 == pytest.approx(0.002)
    assert content.confirmed_mm2 == pytest.approx(0.0004)
    assert content.slide_mm2 == pytest.approx(SHAPE[0] * SHAPE[1] / 1e6)
    assert content.analysed_mm2 == pytest.approx(sum(now[v] for v in range(5)))
    worst = content.worst
    assert (worst.name, worst.two_tier, worst.counts) == ("CIN3", "HSIL", True)
    assert worst.mm2 == pytest.approx(now[4])
    assert worst.least_mm2 == LEAST_MM2


def test_without_any_grade_there_is_no_worst_one(tmp_path, made):
    case, _, _ = made
    for value, expected in ((0, (None, False)), (1, ("normal", True))):
        values = np.full(SHAPE, value, np.uint8)
        from napari_hspnet.cases import Patch

        case.review.set_state([1], "to do", "A")
        case.editing.correct([Patch(0, 0, values, values < 255)], "A", "fill")
        worst = gather(CaseSnapshot.of(case)).worst
        assert (worst.name, worst.counts) == expected


def test_readers_and_their_acts(made):
    case, snapshot, _ = made
    entries = [e for e in case.journal.entries() if e.reader]
    readers = {r.name: r for r in gather(snapshot).readers}
    assert set(readers) == {HOSTILE, "Dr. B"}
    for name, reader in readers.items():
        own = [e for e in entries if e.reader == name]
        assert reader.acts == len(own)
        assert (reader.first, reader.last) == (own[0].time, own[-1].time)
        assert reader.corrections == 1
    case.editing.undo("Dr. B")
    (undone,) = (r for r in gather(CaseSnapshot.of(case)).readers if r.name == "Dr. B")
    assert (undone.corrections, undone.acts) == (0, readers["Dr. B"].acts + 1)
    assert gather(snapshot).readers == tuple(readers.values()), "the snapshot stays"


def test_regions_are_those_signed_off_or_reviewed_the_worst_first(made):
    _, snapshot, _ = made
    content = gather(snapshot)
    assert [r.number for r in content.regions] == [1, 2, 3]
    assert content.states == (("to do", 1), ("in progress", 0), ("reviewed", 2), ("signed off", 1))
    assert content.tagged == 1
    first = content.regions[0]
    mask = snapshot.selection(1).read(PixelBox(0, 0, *SHAPE))
    assert {row.value: row.shown for row in first.areas} == pytest.approx(mm2(shown()[mask]))
    assert first.mm2 == pytest.approx(mask.sum() / 1e6)
    assert (first.state, first.reader, first.tag) == ("signed off", HOSTILE, "")
    assert content.regions[2].tag == "artefact"
    assert [r.number for r in gather(snapshot, regions=[4, 2]).regions] == [4, 2]
    with pytest.raises(InputError, match="no region 9"):
        gather(snapshot, regions=[9])


def test_at_most_so_many_regions_and_how_many_more(made):
    case, _, _ = made
    boxes = [Selection.of_box(PixelBox(60, 60 + i, 70, 70 + i), SHAPE) for i in range(15)]
    added = case.review.add(boxes, "tile", "A")
    case.review.set_state([r.id for r in added], "reviewed", "A")
    content = gather(CaseSnapshot.of(case))
    assert len(content.regions) == MOST_REGIONS
    assert content.regions_left_out == 18 - MOST_REGIONS


def test_comments_and_the_slides_name_only_when_asked(made):
    _, snapshot, _ = made
    silent = gather(snapshot)
    assert "Meyer" not in repr(silent)
    told = gather(snapshot, name_slide=True, comments=True)
    assert told.about.slide_name == "Meyer_Anna.tiff"
    ((remark,),) = (r.remarks for r in told.regions if r.number == 1)
    assert (remark.reader, remark.text) == (HOSTILE, COMMENT)


def test_pictures_show_the_slide_and_the_overlay(made):
    _, snapshot, slide = made
    content = gather(snapshot, slide, palette=ORDINAL)
    images = [content.picture, *(p for r in content.regions for p in (r.plain, r.overlay))]
    for picture in images:
        with Image.open(io.BytesIO(picture.data)) as image:
            image.load()
            assert (image.format, image.size) == ("JPEG", (picture.width, picture.height))
    plain, overlay = (
        np.asarray(Image.open(io.BytesIO(p.data))).astype(int)
        for p in (content.regions[0].plain, content.regions[0].overlay)
    )
    box = snapshot.regions[0].box
    # 40 µm around the region, at the slide's 0.5 µm per pixel.
    top, left = max(0, box.y0 - 40) * 2, max(0, box.x0 - 40) * 2
    own = slide.read_grid(top, left, 400, 400, 0.5).astype(int)
    assert np.abs(plain[:400, :400] - own).mean() < 4
    assert np.abs(overlay[:400, :400] - own).mean() > 8
    y, x = 110 * 2 + 1 - top, 150 - left
    assert np.abs(overlay[y, x] - ORDINAL.colours[4]).max() < 60
    assert content.picture.width >= 900


def test_without_the_slide_there_is_no_picture_of_it(made):
    _, snapshot, _ = made
    content = gather(snapshot)
    assert content.picture is None
    assert all(r.plain is None and r.overlay is None for r in content.regions)


def test_another_slide_is_refused(made):
    _, snapshot, slide = made
    other = replace(snapshot, slide=replace(snapshot.slide, fingerprint="ee" * 32))
    with pytest.raises(CaseMismatchError, match="belongs to"):
        gather(other, slide)


def test_runs_are_told_with_settings_region_and_device(made):
    _, snapshot, _ = made
    (run,) = gather(snapshot).runs
    said = dict(run.details)
    assert (run.model, run.sha256, run.synthetic) == ("demo <model>", "12" * 32, True)
    assert said["Settings"] == "stride (px): 100"
    assert said["Device"] == "cpu"
    assert said["Region"] == "a view, 20 x 10 µm at x 0 y 0 µm"
    assert said["Finished"].endswith(", 12 s")
    assert "+" in said["Begun"] or "-" in said["Begun"][10:], "with its offset from UTC"


def test_a_run_alone_has_no_corrections_and_says_so(made):
    case, _, _ = made
    alone = CaseSnapshot.of(case, only=case.active)
    content = gather(alone)
    assert content.changes == ()
    assert all(row.shown == row.predicted for row in content.areas)
    assert all(reader.corrections == 0 for reader in content.readers)


@pytest.mark.parametrize("part", [0.0, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_progress_and_cancelling(made, part):
    _, snapshot, slide = made
    told = []
    cancel = threading.Event()
    gather(snapshot, slide, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)

    def progress(done):
        if done >= part:
            cancel.set()

    with pytest.raises(CancelledError):
        gather(snapshot, slide, progress=progress, cancel=cancel)
