"""Folders of pairs, our own exports, and MTCHI's layout."""

from __future__ import annotations

import json

import numpy as np
import pytest
from image_files import labels_of, picture, save

from exchange.slide_case import made_case
from napari_hspnet.errors import InputError
from napari_hspnet.exchange import CaseLabels, ExportInfo, training_crops
from napari_hspnet.training.data import (
    MtchiCounts,
    mtchi_counts,
    open_mtchi,
    open_pairs,
    patch_index,
)
from napari_hspnet.training.data.pairs import CROPS_FORMAT


def lay_out(folder, layout, names=("b", "a")):
    for seed, name in enumerate(names):
        files = {
            "images": (f"images/{name}.png", f"masks/{name}.png"),
            "suffixes": (f"images/{name}.tif", f"masks/{name}_mask.png"),
            "img": (f"Img/Crop_{name}.png", f"Truth/Mask_{name}.png"),
            "flat": (f"{name}.png", f"{name}_mask.png"),
        }[layout]
        save(folder / files[0], picture(8, 9, seed))
        save(folder / files[1], labels_of(8, 9, seed))
    return folder


def write_patients(folder, text):
    (folder / "patients.csv").write_text(text, encoding="utf-8-sig")


@pytest.mark.parametrize("layout", ["images", "suffixes", "img", "flat"])
def test_pairs_are_found_however_they_are_named(tmp_path, layout) -> None:
    folder = lay_out(tmp_path, layout)
    (folder / ".DS_Store").write_text("x")
    (folder / "readme.txt").write_text("x")
    found = open_pairs(folder)
    assert [image.name for image in found.images] == ["a", "b"]
    for image, seed in zip(found.images, (1, 0), strict=True):
        rgb, labels = image.read(0, 0, 8, 9)
        np.testing.assert_array_equal(rgb, picture(8, 9, seed))
        np.testing.assert_array_equal(labels, labels_of(8, 9, seed))


def test_without_a_list_each_image_is_a_patient_and_it_is_said(tmp_path) -> None:
    found = open_pairs(lay_out(tmp_path, "flat"))
    assert found.patients == ("a", "b")
    assert any("each image counts as a patient of its own (2 here)" in note for note in found.notes)
    assert any("1.0 is assumed" in note for note in found.notes)
    assert all(image.mpp == 0.5 for image in open_pairs(tmp_path, mpp=0.5).images)


def test_a_list_of_patients_is_read(tmp_path) -> None:
    folder = lay_out(tmp_path, "images")
    write_patients(folder, "name,patient,age\na,Müller,50\nb.png,Müller,50\nother,X,1\n")
    found = open_pairs(folder)
    assert found.patients == ("Müller",)
    assert not any("patient" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("name,patient\na,1\n", "leaves out b"),
        ("name,patient\na,1\nb,\n", "Line 3"),
        ("file,who\na,1\nb,2\n", "Line 2"),
        ("name,patient\na,1\nb,2\na.png,2\n", "gives a to 1 and to 2"),
    ],
)
def test_a_list_of_patients_that_cannot_be_used_is_refused(tmp_path, text, match) -> None:
    folder = lay_out(tmp_path, "images")
    write_patients(folder, text)
    with pytest.raises(InputError, match=match) as raised:
        open_pairs(folder)
    assert raised.value.path == folder / "patients.csv"


def test_an_image_without_its_partner_is_named(tmp_path) -> None:
    folder = lay_out(tmp_path / "x", "images")
    lonely = save(folder / "images/c.png", picture(8, 9))
    with pytest.raises(InputError, match=r"no mask for c\.png") as raised:
        open_pairs(folder)
    assert raised.value.path == lonely
    lonely.unlink()
    lonely = save(folder / "masks/d.png", labels_of(8, 9))
    with pytest.raises(InputError, match=r"no picture for d\.png") as raised:
        open_pairs(folder)
    assert raised.value.path == lonely


def test_a_folder_without_images_or_none_or_with_twins_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_pairs(tmp_path / "absent")
    with pytest.raises(InputError, match="no image"):
        open_pairs(tmp_path)
    folder = lay_out(tmp_path, "images")
    save(folder / "images/a.bmp", picture(8, 9))
    with pytest.raises(InputError, match="both called a"):
        open_pairs(folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    with made_case(folder) as (_, snapshot, slide):
        about = ExportInfo.of_snapshot(snapshot)
        labels = CaseLabels(snapshot.composite)
        crops = training_crops.write_training(
            folder / "crops", slide, labels, snapshot, about, mpp=2.0
        )
        yield crops, snapshot.slide.fingerprint


def test_our_own_training_crops_are_read_back(exported) -> None:
    folder, fingerprint = exported
    assert CROPS_FORMAT == training_crops.FORMAT
    found = open_pairs(folder)
    rows = json.loads((folder / "crops.json").read_bytes())["crops"]
    assert [image.name for image in found.images] == sorted(row["crop"] for row in rows)
    assert found.patients == (fingerprint,)
    assert "each slide counts as a patient of its own (1 here)" in found.notes[0]
    for image, row in zip(found.images, rows, strict=True):
        assert image.mpp == 2.0
        _, labels = image.read(0, 0, image.height, image.width)
        for value, name in enumerate(("none", "normal", "CIN1", "CIN2", "CIN3")):
            area = np.count_nonzero(labels == value) * 4e-6
            assert area == pytest.approx(row[f"{name}_mm2"], abs=1e-9)
    with pytest.raises(InputError, match="have 2 µm per pixel, not 1"):
        open_pairs(folder, mpp=1.0)


def test_patients_of_crops_can_be_named_by_slide(exported) -> None:
    folder, fingerprint = exported
    write_patients(folder, f"name,patient\n{fingerprint},P7\n")
    try:
        assert open_pairs(folder).patients == ("P7",)
        write_patients(folder, "name,patient\nelse,P7\n")
        with pytest.raises(InputError, match="leaves out"):
            open_pairs(folder)
    finally:
        (folder / "patients.csv").unlink()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "cannot be read"),
        (json.dumps({"format": CROPS_FORMAT, "version": 2}), "version 2"),
        (json.dumps({"format": CROPS_FORMAT, "version": 1}), "not as it was exported"),
        (
            json.dumps({"format": CROPS_FORMAT, "version": 1, "crops": [], "um_per_pixel": 1}),
            "no image",
        ),
    ],
)
def test_a_damaged_list_of_crops_is_refused(tmp_path, text, match) -> None:
    lay_out(tmp_path, "images")
    (tmp_path / "crops.json").write_text(text)
    with pytest.raises(InputError, match=match):
        open_pairs(tmp_path)
    (tmp_path / "crops.json").write_text('{"format": "of somebody else"}')
    assert len(open_pairs(tmp_path).images) == 2


REGIONS = ("B12-1-3D", "B12-2-1D", "B9-1-6D")


def mtchi(folder, part="Training", names=REGIONS, root="Task2"):
    for seed, name in enumerate(names):
        rgb, mask = picture(24, 30, seed), labels_of(24, 30, seed, (0, 1, 2, 3, 4))
        rgb[:5], mask[:5] = 0, 0
        save(folder / root / part / "Img" / f"Crop_{name}.png", rgb)
        save(folder / root / part / "Truth" / f"Mask_{name}.png", mask)
    return folder


@pytest.mark.parametrize("inside", [False, True])
def test_mtchi_is_read_as_published(tmp_path, inside) -> None:
    mtchi(tmp_path)
    mtchi(tmp_path, "Test", ("B7-1-1D",))
    folder = tmp_path / "Task2" if inside else tmp_path
    training = open_mtchi(folder)
    assert [image.name for image in training.images] == list(REGIONS)
    assert [image.patient for image in training.images] == ["B12", "B12", "B9"]
    assert [image.name for image in open_mtchi(folder, "Test").images] == ["B7-1-1D"]
    mask = labels_of(24, 30, 0, (0, 1, 2, 3, 4))
    mask[:5] = 0
    rgb, labels = training.images[0].read(0, 0, 24, 30)
    assert not rgb[:5].any(), "black stays black"
    np.testing.assert_array_equal(labels, np.where(mask == 0, 255, mask))
    _, labels = open_mtchi(folder, background="class").images[0].read(0, 0, 24, 30)
    mask[:5] = 255
    np.testing.assert_array_equal(labels, mask)


def test_mtchis_counts_stand_beside_the_papers(tmp_path) -> None:
    found = open_mtchi(mtchi(tmp_path))
    index = patch_index(found.images, 16, 4)
    counts = mtchi_counts(found, len(index))
    assert counts == MtchiCounts(3, 2, len(index))
    lines = counts.beside("Training")
    assert lines[0].startswith("regions: 3 (paper: 62;")
    assert lines[1] == "patients: 2 (paper: not said)"
    assert lines[2] == f"patches: {len(index)} (paper: 7,724)"
    assert set(mtchi_counts(found).beside("Test")) == {
        "regions: 3 (paper: 39; public descriptions of the download: 5)",
        "patients: 2 (paper: not said)",
    }
    assert any("regions: 3 (paper: 62" in note for note in found.notes)
    assert any("background: ignored" in note for note in found.notes)


def test_another_layout_part_or_background_is_refused(tmp_path) -> None:
    mtchi(tmp_path)
    with pytest.raises(InputError, match="no Task2/Test"):
        open_mtchi(tmp_path, "Test")
    with pytest.raises(InputError, match="no part 'Val'"):
        open_mtchi(tmp_path, "Val")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'drop'"):
        open_mtchi(tmp_path, background="drop")  # type: ignore[arg-type]
    (tmp_path / "Task2/Training/Truth/Mask_B9-1-6D.png").unlink()
    with pytest.raises(InputError, match=r"no mask for Crop_B9-1-6D\.png"):
        open_mtchi(tmp_path)
