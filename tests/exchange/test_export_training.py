"""Training crops, read back with Pillow, csv and json."""

import csv
import errno
import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from slide_case import HOSTILE, SHAPE, made_case

from napari_hspnet.cases import CaseSnapshot, Selection
from napari_hspnet.classes import ORDINAL, RESEARCH_USE_ONLY
from napari_hspnet.errors import (
    CancelledError,
    CaseMismatchError,
    InputError,
    OutputError,
    SlideReadError,
)
from napari_hspnet.exchange import CaseLabels, ExportInfo
from napari_hspnet.exchange import training_crops as module
from napari_hspnet.exchange.training_crops import IGNORE, is_training_folder, write_training
from napari_hspnet.slides import PixelBox


@pytest.fixture
def made(tmp_path):
    with made_case(tmp_path) as made:
        yield made


def write(folder, made, name_slide=False, palette=ORDINAL, **how):
    _, snapshot, slide = made
    about = ExportInfo.of_snapshot(snapshot, palette=palette, name_slide=name_slide)
    return write_training(folder, slide, CaseLabels(snapshot.composite), snapshot, about, **how)


def opened(folder):
    said = json.loads((folder / "crops.json").read_text("utf-8"))
    with (folder / "crops.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row.values()) for row in rows] == [
        [str(value) for value in crop.values()] for crop in said["crops"]
    ]
    for kind in ("image", "mask"):
        assert {c[kind] for c in said["crops"]} == {
            f"{kind}s/{p.name}" for p in (folder / f"{kind}s").iterdir()
        }
    return said


def pair(folder, crop):
    with Image.open(folder / crop["image"]) as image, Image.open(folder / crop["mask"]) as mask:
        assert (image.mode, mask.mode) == ("RGB", "P")
        assert image.size == mask.size == (crop["width_px"], crop["height_px"])
        dots = 25400 / crop["um_per_pixel"]
        assert image.info["dpi"] == pytest.approx((dots, dots), rel=1e-3)
        return np.asarray(image), np.asarray(mask), np.asarray(mask.convert("RGB"))


def wanted(snapshot, number, crop):
    """The composite under each pixel's centre, by another way."""
    mpp = crop["um_per_pixel"]
    whole = PixelBox(0, 0, *SHAPE)
    values = snapshot.composite.read(0, 0, *SHAPE)
    values = np.where(values > 4, IGNORE, values)
    values[~snapshot.selection(number).read(whole)] = IGNORE
    y = crop["y_um"] + (np.arange(crop["height_px"]) + 0.5) * mpp
    x = crop["x_um"] + (np.arange(crop["width_px"]) + 0.5) * mpp
    rows, columns = np.minimum(y.astype(int), SHAPE[0] - 1), np.minimum(x.astype(int), SHAPE[1] - 1)
    return values[rows][:, columns]


@pytest.mark.parametrize("mpp", [None, 0.5, 1.7, 2.0])
@pytest.mark.parametrize("tile_um", [None, 100.0])
def test_each_pair_is_the_slide_and_the_composite_there(tmp_path, made, mpp, tile_um):
    _, snapshot, slide = made
    told = []
    folder = write(tmp_path / "t", made, mpp=mpp, tile_um=tile_um, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    said = opened(folder)
    step = mpp or 1.0
    assert said["um_per_pixel"] == step
    valid = dict.fromkeys((1, 2), 0)
    for crop in said["crops"]:
        image, mask, colours = pair(folder, crop)
        if tile_um is not None:
            assert max(mask.shape) <= round(tile_um / step)
        y, x = round(crop["y_um"] / step), round(crop["x_um"] / step)
        np.testing.assert_array_equal(image, slide.read_grid(y, x, *mask.shape, step))
        np.testing.assert_array_equal(mask, wanted(snapshot, crop["region"], crop))
        assert set(np.unique(mask)) <= {0, 1, 2, 3, 4, IGNORE}
        for value, colour in ORDINAL.colours.items():
            assert (colours[mask == value] == colour).all()
        valid[crop["region"]] += np.count_nonzero(mask != IGNORE)
        names = {0: "none", 1: "normal", 2: "CIN1", 3: "CIN2", 4: "CIN3"}
        for value, name in names.items():
            assert crop[f"{name}_mm2"] == pytest.approx((mask == value).sum() * step**2 / 1e6)
        assert crop["ignored_mm2"] == pytest.approx((mask == IGNORE).sum() * step**2 / 1e6)
    # Nothing of a region lacks, however it is cut.
    for number, pixels in valid.items():
        values = snapshot.composite.read(0, 0, *SHAPE)
        inside = snapshot.selection(number).read(PixelBox(0, 0, *SHAPE)) & (values <= 4)
        assert pixels * step**2 == pytest.approx(np.count_nonzero(inside), rel=0.02)


def test_what_is_said_of_a_crop(tmp_path, made):
    _, snapshot, _ = made
    said = opened(write(tmp_path / "t", made))
    assert [c["region"] for c in said["crops"]] == [1, 2]
    crop = said["crops"][0]
    assert crop["slide_sha256"] == snapshot.slide.fingerprint
    assert said["group_by"] == "slide_sha256"
    assert (crop["state"], crop["reader"], crop["tag"]) == ("signed off", HOSTILE, "")
    assert (crop["model"], crop["model_sha256"]) == ("demo <model>", "12" * 32)
    assert crop["runs"] == snapshot.runs[0].id
    assert crop["tool"].startswith("napari-hspnet ")
    assert RESEARCH_USE_ONLY in crop["notice"]
    facts = ExportInfo.of_snapshot(snapshot).facts()
    assert said["about"] | {"exported": ""} == facts | {"exported": ""}
    assert said["values"]["255"] == "ignore"


def test_a_tagged_region_and_one_to_do_only_when_named(tmp_path, made):
    said = opened(write(tmp_path / "t", made, regions=[3]))
    assert [(c["region"], c["tag"]) for c in said["crops"]] == [(3, "artefact")]
    # Region 4 holds glass and what was not run: nothing to learn from.
    with pytest.raises(InputError, match="no label to train on"):
        write(tmp_path / "u", made, regions=[4])
    assert not (tmp_path / "u").exists()
    both = opened(write(tmp_path / "v", made, regions=[4, 2]))
    assert [c["region"] for c in both["crops"]] == [2]
    assert both["left_out_as_empty"] == 1
    with pytest.raises(InputError, match="no region 8"):
        write(tmp_path / "w", made, regions=[8])


def test_nothing_reviewed_is_nothing_to_train_on(tmp_path, made):
    case, _, slide = made
    case.review.set_state([1, 2, 3], "in progress", "A")
    snapshot = CaseSnapshot.of(case)
    with pytest.raises(InputError, match="nothing to train on"):
        write(tmp_path / "t", (case, snapshot, slide))


def test_no_file_bears_the_slides_name_unless_asked(tmp_path, made):
    silent = write(tmp_path / "t", made)
    everything = " ".join(str(p) for p in silent.rglob("*"))
    for file in silent.rglob("*"):
        if file.is_file():
            assert b"Meyer" not in file.read_bytes()
    assert "Meyer" not in everything
    named = opened(write(tmp_path / "u", made, name_slide=True))
    assert named["crops"][0]["image"] == "images/Meyer_Anna-r00001.png"
    assert named["crops"][0]["slide"] == "Meyer_Anna.tiff"


def test_large_regions_are_cut(tmp_path, made, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 64)
    said = opened(write(tmp_path / "t", made, regions=[1]))
    assert len(said["crops"]) > 4
    assert said["left_out_as_empty"] > 0, "of a triangle's box not all is region"
    assert all(max(c["width_px"], c["height_px"]) <= 64 for c in said["crops"])
    places = {(c["y_um"], c["x_um"]) for c in said["crops"]}
    assert len(places) == len(said["crops"])


def test_labels_of_readers_alone(tmp_path, made):
    _, snapshot, slide = made
    about = ExportInfo.of_snapshot(snapshot, "correction")
    labels = CaseLabels(snapshot.composite, "correction")
    folder = write_training(tmp_path / "t", slide, labels, snapshot, about)
    (crop,) = opened(folder)["crops"]
    _, mask, _ = pair(folder, crop)
    assert (np.count_nonzero(mask == 4), set(np.unique(mask))) == (2000, {4, IGNORE})


def test_without_the_slide_or_with_another_it_is_refused(tmp_path, made):
    case, snapshot, slide = made
    with pytest.raises(InputError, match="slide's file"):
        write(tmp_path / "t", (case, snapshot, None))
    other = replace(snapshot, slide=replace(snapshot.slide, fingerprint="ee" * 32))
    with pytest.raises(CaseMismatchError):
        write(tmp_path / "t", (case, other, slide))
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"mpp": 0.1}, "finer than the slide"),
        ({"mpp": float("nan")}, "no resolution"),
        ({"tile_um": 0.2}, "side of 0.2"),
        ({"tile_um": float("inf")}, "side of inf"),
    ],
)
def test_resolutions_and_tiles_that_cannot_be(tmp_path, made, how, match):
    with pytest.raises(InputError, match=match):
        write(tmp_path / "t", made, **how)
    assert not (tmp_path / "t").exists()


def test_only_an_earlier_export_is_replaced(tmp_path, made):
    folder = write(tmp_path / "t", made)
    assert is_training_folder(folder)
    with pytest.raises(OutputError, match="exists already"):
        write(folder, made)
    write(folder, made, overwrite=True, regions=[2])
    assert [c["region"] for c in opened(folder)["crops"]] == [2]
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "crops.json").write_text('{"format": "mine"}')
    with pytest.raises(OutputError, match="no earlier export"):
        write(foreign, made, overwrite=True)
    assert (foreign / "crops.json").read_text() == '{"format": "mine"}'


@pytest.mark.parametrize("at", ["start", "first"])
def test_cancelling_leaves_nothing_and_keeps_what_was_there(tmp_path, made, at):
    folder = write(tmp_path / "t", made, regions=[2])
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    around = set(tmp_path.iterdir())
    cancel = threading.Event()
    if at == "start":
        cancel.set()
    with pytest.raises(CancelledError):
        write(folder, made, overwrite=True, cancel=cancel, progress=lambda done: cancel.set())
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert set(tmp_path.iterdir()) == around


def test_trouble_leaves_nothing(tmp_path, made, monkeypatch):
    around = set(tmp_path.iterdir())

    def full(*_):
        raise OSError(errno.ENOSPC, "no")

    monkeypatch.setattr("napari_hspnet.exchange.output.os.fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        write(tmp_path / "t", made)
    monkeypatch.undo()

    def damaged(*_):
        raise SlideReadError("A part cannot be read", advice="Copy it again")

    monkeypatch.setattr(made[2], "read_grid", damaged)
    with pytest.raises(SlideReadError):
        write(tmp_path / "t", made)
    assert set(tmp_path.iterdir()) == around


def test_crops_at_the_slides_very_edge(tmp_path, made):
    case, _, slide = made
    corner = Selection.of_box(PixelBox(560, 400, *SHAPE), SHAPE)
    (region,) = case.review.add([corner], "tile", "A")
    snapshot = CaseSnapshot.of(case)
    folder = write(tmp_path / "t", (case, snapshot, slide), regions=[region.id], mpp=1.3)
    (crop,) = opened(folder)["crops"]
    image, mask, _ = pair(folder, crop)
    np.testing.assert_array_equal(mask, wanted(snapshot, region.id, crop))
    assert image.shape[:2] == mask.shape
