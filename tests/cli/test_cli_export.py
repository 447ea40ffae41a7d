"""``napari-hspnet export``: a case as files that others read, and what is refused."""

import errno
import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace

import geopandas
import numpy as np
import pandas
import pytest
import tifffile
import zarr
from PIL import Image
from rasterio.features import rasterize
from shapely.geometry import shape as as_shape

from napari_hspnet.cases import Case, Patch, Selection
from napari_hspnet.cli import main
from napari_hspnet.jobs.formats import FORMATS
from napari_hspnet.slides import Bounds, PixelBox

from cli.case_made import ANN, BEN, SHAPE, make_case, prediction, refused


@pytest.fixture
def folder(tmp_path):
    """A run, corrections of two readers, and two review regions of which one is signed off."""
    path = make_case(tmp_path, keep_slide=True)
    with Case.open(path, read_only=False) as case:
        for reader, (y, x), value in ((ANN, (210, 320), 4), (BEN, (60, 120), 0)):
            values = np.full((40, 60), value, np.uint8)
            case.editing.correct([Patch(y, x, values, values < 255)], reader, "brush")
        boxes = [PixelBox(200, 300, 400, 700), PixelBox(0, 0, 300, 200)]
        regions = case.review.add([Selection.of_box(b, SHAPE) for b in boxes], "drawn", ANN)
        case.review.comment(regions[0].id, "Anna Meyer, born 1970", ANN)
        case.review.set_state([regions[0].id], "signed off", BEN)
    return path


@pytest.fixture
def call(folder, tmp_path, capsys):
    """Export the case: gives the exit code, stdout and stderr."""

    def run(*arguments, out=tmp_path / "out"):
        code = main(["export", str(folder), "--out", str(out), *map(str, arguments)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def told(call):
    """Export the case: gives the JSON."""

    def run(*arguments, **options):
        code, out, err = call(*arguments, "--json", **options)
        assert code == 0, err
        return json.loads(out)

    return run


def shown():
    values = prediction()
    values[210:250, 320:380] = 4
    values[60:100, 120:180] = 0
    return values


def burned(path):
    document = json.loads(path.read_text(encoding="utf-8"))
    shapes = [
        (as_shape(f["geometry"]), ("normal", "CIN1", "CIN2", "CIN3").index(name) + 1)
        for f in document["features"]
        if (name := f["properties"].get("classification", {}).get("name"))
    ]
    return rasterize(shapes, out_shape=SHAPE, fill=0)


def test_every_format_from_one_command(told, tmp_path):
    slide = tmp_path / "biopsy.tiff"
    said = told("--format", ",".join(FORMATS), "--slide", slide)
    out = tmp_path / "out"
    assert set(said["outputs"]) == set(FORMATS)
    assert {p.name for p in out.iterdir()} == {f"biopsy{f.ending}" for f in FORMATS.values()}
    assert said["readers"] == [ANN, BEN]
    assert said["demo"]
    np.testing.assert_array_equal(tifffile.imread(out / "biopsy.ome.tif"), shown())
    np.testing.assert_array_equal(
        zarr.open(out / "biopsy.ome.zarr", mode="r")["labels/classes/0"][:], shown()
    )
    with Image.open(out / "biopsy.png") as image:
        np.testing.assert_array_equal(np.asarray(image), shown())
    graded = np.where((shown() >= 1) & (shown() <= 4), shown(), 0)
    np.testing.assert_array_equal(burned(out / "biopsy.geojson"), graded)
    table = pandas.read_csv(out / "biopsy-regions.csv")
    frame = geopandas.read_parquet(out / "biopsy-regions.parquet")
    document = json.loads((out / "biopsy-regions.json").read_text(encoding="utf-8"))
    assert len(table) == len(frame)
    assert len(document["regions"]) == 2
    with Image.open(out / "biopsy-picture.png") as image:
        assert image.width > 500
    assert "Research use only" in (out / "biopsy-report.html").read_text(encoding="utf-8")
    assert list((out / "biopsy-training" / "masks").iterdir())


@pytest.mark.parametrize("what", ["composite", "prediction", "correction", "difference"])
def test_which_labels(told, tmp_path, what):
    told("--what", what, "--format", "ome-tiff")
    name = "biopsy.ome.tif" if what == "composite" else f"biopsy-{what}.ome.tif"
    corrected = np.full(SHAPE, 255, np.uint8)
    corrected[shown() != prediction()] = shown()[shown() != prediction()]
    wanted = {"composite": shown(), "prediction": prediction()}.get(what, corrected)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / name), wanted)


def test_a_past_state_and_a_run_alone(told, tmp_path):
    past = told("--at", 3, "--format", "ome-tiff", "--name", "then")
    assert past["readers"] == [ANN]
    values = prediction()
    values[210:250, 320:380] = 4
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "then.ome.tif"), values)
    alone = told("--run", past["runs"][0], "--format", "ome-tiff", "--name", "run")
    assert alone["readers"] == []
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "run.ome.tif"), prediction())


def test_no_name_of_a_patient_leaves_unless_asked(told, tmp_path):
    formats = ",".join(FORMATS)
    slide = tmp_path / "biopsy.tiff"
    for number, options in enumerate([(), ("--slide-name",), ("--comments",)]):
        out = tmp_path / str(number)
        told("--format", formats, "--slide", slide, "--name", "x", *options, out=out)
        held = b"".join(p.read_bytes() for p in out.rglob("*") if p.is_file())
        assert (b"biopsy" in held) == ("--slide-name" in options)
        assert (b"Anna Meyer" in held) == ("--comments" in options)


def test_without_the_slide_a_report_says_that_it_has_no_pictures(told):
    said = told("--format", "report")
    assert len(said["warnings"]) == 1
    assert "slide" in said["warnings"][0]


def test_an_existing_output_is_kept(call, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for key, name in (("ome-tiff", "biopsy.ome.tif"), ("ome-zarr", "biopsy.ome.zarr")):
        there = out / name
        if FORMATS[key].folder:
            there.mkdir()
            (there / "precious.txt").write_text("mine")
        else:
            there.write_text("precious")
        refused(call("--format", key), "exists already", name)
    # What is none of ours is not removed, however one asks.
    refused(call("--format", "ome-zarr", "--overwrite"), "not replaced", "biopsy.ome.zarr")
    assert (out / "biopsy.ome.zarr" / "precious.txt").read_text() == "mine"
    code, _, err = call("--format", "ome-tiff", "--overwrite")
    assert code == 0, err
    np.testing.assert_array_equal(tifffile.imread(out / "biopsy.ome.tif"), shown())


def test_what_is_refused_before_any_work(call, tmp_path):
    (tmp_path / "other").mkdir()
    make_case(tmp_path / "other", keep_slide=True, grey=200)
    out = tmp_path / "out"
    refused(call("--format", "bmp"), "no format", "ome-zarr")
    refused(call("--format", "picture"), "needs the slide", "--slide")
    refused(call("--slide", tmp_path / "other" / "biopsy.tiff"), "belongs to")
    refused(call("--run", "nothing"), "no finished run", "2026")
    refused(call("--region-id", 77), "no region 77")
    refused(call("--at", 99), "99")
    refused(call("--run", "a", "--at", 3), "--run")
    refused(call("--format", "png", "--png-mpp", 0), "resolution")
    assert not out.exists() or not list(out.iterdir())


def test_a_case_that_does_not_know_the_scanned_area_says_so(folder, call, monkeypatch, tmp_path):
    known = Case.slide_facts.fget
    monkeypatch.setattr(
        Case, "slide_facts", property(lambda self: replace(known(self), bounds_known=False))
    )
    refused(call("--format", "geojson"), "scanned", "--slide", "level0")
    assert call("--format", "geojson", "--origin", "level0")[0] == 0
    assert call("--format", "geojson", "--slide", tmp_path / "biopsy.tiff", "--overwrite")[0] == 0


def test_bounds_of_the_slide_are_subtracted_without_its_file(folder, told, monkeypatch, tmp_path):
    known = Case.slide_facts.fget
    bounds = Bounds(40, 90, 500, 1000)
    monkeypatch.setattr(
        Case, "slide_facts", property(lambda self: replace(known(self), bounds=bounds))
    )
    corners = {}
    for origin in ("bounds", "level0"):
        told("--format", "geojson", "--origin", origin, "--name", origin)
        text = (tmp_path / "out" / f"{origin}.geojson").read_text(encoding="utf-8")
        shapes = [as_shape(f["geometry"]) for f in json.loads(text)["features"]]
        corners[origin] = np.min([s.bounds[:2] for s in shapes], axis=0)
    np.testing.assert_allclose(corners["level0"] - corners["bounds"], (90, 40))


def test_beside_a_writer(folder, told, tmp_path):
    with Case.open(folder, read_only=False) as case:
        values = np.full((9, 9), 3, np.uint8)
        case.editing.correct([Patch(0, 0, values, values < 255)], ANN, "brush")
        told("--format", "ome-tiff")
    assert (tifffile.imread(tmp_path / "out" / "biopsy.ome.tif")[:9, :9] == 3).all()


@pytest.mark.parametrize("key", [k for k in FORMATS if k != "training"])
def test_a_full_disk_leaves_nothing_half_written(call, tmp_path, monkeypatch, key):
    def full(*_):
        raise OSError(errno.ENOSPC, "no")

    monkeypatch.setattr("napari_hspnet.exchange.output.os.fsync", full)
    answer = call("--format", key, "--slide", tmp_path / "biopsy.tiff")
    refused(answer, "disk is full")
    assert not list((tmp_path / "out").iterdir())


def test_cancelling_leaves_nothing(folder, tmp_path, monkeypatch, capsys):
    @contextmanager
    def stopped():
        cancel = threading.Event()
        cancel.set()
        yield cancel

    monkeypatch.setattr("napari_hspnet.cli.export.stop_signals", stopped)
    out = tmp_path / "out"
    assert main(["export", str(folder), "--out", str(out), "--format", "ome-tiff,geojson"]) == 130
    assert "Interrupted" in capsys.readouterr().err
    assert not list(out.iterdir())


def test_review_regions_as_outlines_of_their_own(told, tmp_path):
    told("--format", "geojson", "--name", "with", "--review-regions")
    told("--format", "geojson", "--name", "without")
    names = {}
    for name in ("with", "without"):
        text = (tmp_path / "out" / f"{name}.geojson").read_text(encoding="utf-8")
        features = json.loads(text)["features"]
        names[name] = {f["properties"].get("name") for f in features} - {None}
    assert names == {"with": {"Region 1, signed off", "Region 2, to do"}, "without": set()}


def test_a_picture_of_a_part_and_crops_cut_into_squares(told, tmp_path):
    slide = ("--slide", tmp_path / "biopsy.tiff")
    part = ("--picture-region", "300,200,400,100", "--picture-mpp", 1, "--picture-fill")
    told("--format", "picture", *slide, *part)
    told("--format", "training", *slide, "--training-tile", 100)
    out = tmp_path / "out"
    with Image.open(out / "biopsy-picture.png") as image:
        assert image.width == 400
        shown = np.asarray(image.convert("RGB"))[:100]
    # The middle of what was made CIN3 is filled.
    assert shown[30, 50, 0] > shown[30, 50, 1] + 30
    sizes = {Image.open(path).size for path in (out / "biopsy-training" / "masks").iterdir()}
    assert sizes == {(100, 100)}


def test_nothing_to_train_on_is_said_before_anything_is_written(folder, call, tmp_path):
    with Case.open(folder, read_only=False) as case:
        case.review.set_state([1], "to do", ANN)
    answer = call("--format", "ome-tiff,training", "--slide", tmp_path / "biopsy.tiff")
    refused(answer, "nothing to train on")
    assert not (tmp_path / "out").exists()


def test_exporting_needs_no_network(folder, tmp_path):
    code = (
        "import sys; from napari_hspnet.cli import main; "
        f"code = main(['export', {str(folder)!r}, '--out', {str(tmp_path / 'out')!r}, "
        "'--format', 'ome-tiff,geojson,csv,report']); "
        "assert not {'torch', 'napari', 'qtpy'} & set(sys.modules); sys.exit(code)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
