"""OME-TIFF and PNG, read back with tifffile, OpenSlide and Pillow."""

import errno
import json
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from export_tools import ArrayLabels, about, blobs
from PIL import Image

from napari_hspnet.cases import RunInfo, RunRecord, SlideFacts
from napari_hspnet.cases.sampling import level_count, level_shape
from napari_hspnet.classes import DEMO_BANNER, ORDINAL, PAPER, RESEARCH_USE_ONLY
from napari_hspnet.errors import CancelledError, InputError, OutputError
from napari_hspnet.exchange import (
    PNG_PIXELS,
    WHATS,
    ExportInfo,
    png_shape,
    write_geojson,
    write_ome_tiff,
    write_png,
)
from napari_hspnet.slides import Bounds, LabelGrid, Level, Region, SlideInfo

WRITERS = [(write_ome_tiff, "m.ome.tif"), (write_png, "m.png"), (write_geojson, "m.geojson")]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize(
    ("shape", "mpp"), [((700, 90), 1.0), ((2500, 1537), 0.5), ((33, 9001), 2.25), ((1, 1), 1.0)]
)
def test_tiff_read_with_tifffile(tmp_path, rng, shape, mpp):
    labels = ArrayLabels(blobs(rng, shape), mpp)
    done = []
    path = write_ome_tiff(tmp_path / "m.ome.tif", labels, about(labels), progress=done.append)
    assert done[-1] == 1.0
    assert done == sorted(done)
    assert labels.largest <= (4 * 512) ** 2
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert len(file.series) == 1
        levels = file.series[0].levels
        assert len(levels) == level_count(shape)
        for k, level in enumerate(levels):
            page = level.keyframe
            assert page.is_tiled
            assert (page.tilelength, page.tilewidth) == (512, 512)
            assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
            assert level.dtype == np.uint8
            assert level.shape == level_shape(shape, k)
            rows, columns = (
                np.minimum(np.arange(n) * 2**k + 2**k // 2, side - 1)
                for n, side in zip(level.shape, shape, strict=True)
            )
            np.testing.assert_array_equal(level.asarray(), labels.values[rows][:, columns])
            assert page.resolution == pytest.approx((1e4 / mpp / 2**k,) * 2, rel=1e-6)
            assert page.resolutionunit == tifffile.RESUNIT.CENTIMETER
        root = ElementTree.fromstring(file.ome_metadata)
    ome = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
    pixels = root.find(f".//{ome}Pixels")
    assert float(pixels.get("PhysicalSizeX")) == mpp
    assert float(pixels.get("PhysicalSizeY")) == mpp
    assert pixels.get("PhysicalSizeXUnit") == "µm"
    said = {m.get("K"): m.text for m in root.iter(f"{ome}M")}
    assert said["model_sha256"] == "12" * 32
    assert said["slide"] == "B 12 µ<&>.svs"
    assert said["readers"] == "Dr. Æ"
    assert json.loads(said["model_card"]) == {"mpp": 1.0}
    assert said["colour of CIN3"] == "#e60000"
    assert "253 skipped, no tissue" in said["values"]
    assert DEMO_BANNER in root.find(f".//{ome}Description").text
    assert RESEARCH_USE_ONLY in said["notice"]


def test_tiff_opens_in_openslide_at_the_right_resolution(tmp_path, rng):
    labels = ArrayLabels(blobs(rng, (2500, 1537)), 1.0)
    path = write_ome_tiff(tmp_path / "m.ome.tif", labels, about(labels))
    with openslide.OpenSlide(path) as slide:
        assert slide.dimensions == (1537, 2500)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(1.0)


def test_a_real_model_has_no_demo_banner():
    labels = ArrayLabels(np.zeros((4, 4)))
    assert DEMO_BANNER not in about(labels, synthetic=False).notice
    assert RESEARCH_USE_ONLY in about(labels, synthetic=False).notice


@pytest.mark.parametrize("palette", [PAPER, ORDINAL])
def test_png_is_indexed_with_palette_and_text(tmp_path, rng, palette):
    labels = ArrayLabels(blobs(rng, (300, 211)))
    path = write_png(tmp_path / "m.png", labels, about(labels, palette=palette))
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), labels.values)
        assert image.info["model"] == "demo"
        assert image.info["runs"] == "20261123-a"
        assert image.info["tool"].startswith("napari-hspnet ")
        assert DEMO_BANNER in image.info["notice"]
        assert image.info["dpi"] == pytest.approx((25400, 25400), rel=1e-3)
        colours = np.asarray(image.convert("RGB"))
    for value, colour in palette.colours.items():
        assert (colours[labels.values == value] == colour).all()


@pytest.mark.parametrize("mpp", [0.3, 1.7, 3.0, 1000.0])
def test_png_at_another_resolution_takes_the_nearest_label(tmp_path, rng, mpp):
    labels = ArrayLabels(blobs(rng, (130, 77)))
    path = write_png(tmp_path / "m.png", labels, about(labels), mpp)
    with Image.open(path) as image:
        values = np.asarray(image)
    assert values.shape == png_shape(labels.grid, mpp)
    for i in range(0, values.shape[0], 7):
        for j in range(0, values.shape[1], 5):
            y = min(129, int((i + 0.5) * mpp))
            x = min(76, int((j + 0.5) * mpp))
            assert values[i, j] == labels.values[y, x]


def test_png_too_large_names_a_resolution_that_works(tmp_path):
    grid = LabelGrid((42_240, 24_768), 1.0)
    with pytest.raises(InputError) as caught:
        png_shape(grid)
    advised = float(caught.value.advice.split()[1])
    height, width = png_shape(grid, advised)
    assert 0.8 * PNG_PIXELS < height * width <= PNG_PIXELS
    with pytest.raises(InputError, match="no resolution"):
        png_shape(grid, float("nan"))


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_existing_output_is_kept_unless_overwriting(tmp_path, write, name):
    labels = ArrayLabels(np.full((9, 9), 2))
    path = tmp_path / name
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        write(path, labels, about(labels))
    assert path.read_text() == "precious"
    write(path, labels, about(labels), overwrite=True)
    assert path.read_bytes()[:8] != b"precious"
    with pytest.raises(OutputError, match="folder"):
        write(tmp_path, labels, about(labels), overwrite=True)


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_cancelling_leaves_nothing_and_keeps_the_old_file(tmp_path, write, name):
    labels = ArrayLabels(np.full((2000, 2000), 2))
    path = tmp_path / name
    path.write_text("old")
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        write(path, labels, about(labels), overwrite=True, cancel=cancel)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert path.read_text() == "old"


@pytest.mark.parametrize(("write", "name"), WRITERS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_disk_trouble_in_the_middle_leaves_nothing(tmp_path, monkeypatch, write, name, code):
    labels = ArrayLabels(np.full((20, 20), 2))

    def fail(*_):
        raise OSError(code, "no")

    monkeypatch.setattr("napari_hspnet.exchange.output.os.fsync", fail)
    expected = "disk is full" if code == errno.ENOSPC else "not permitted"
    with pytest.raises(OutputError, match=expected):
        write(tmp_path / name, labels, about(labels))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("write", "name"), WRITERS)
def test_folder_that_is_not_there(tmp_path, write, name):
    labels = ArrayLabels(np.full((20, 20), 2))
    with pytest.raises(OutputError, match="Writing failed"):
        write(tmp_path / "absent" / name, labels, about(labels))


def test_about_from_slide_and_runs():
    def run(number, name, synthetic):
        record = RunRecord(
            name, f"{number}" * 64, {"n": number}, {}, Region.slide().to_dict(), "cpu", {}, "f",
            synthetic, "2026-11-23T00:00:00+00:00",
        )  # fmt: skip
        return RunInfo(f"run{number}", record, "finished")

    bounds = Bounds(3, 4, 50, 60)
    info = SlideInfo(
        Path("s.svs"), "openslide", "aperio", (Level((100, 90), (1.0, 1.0), (64, 64)),),
        (0.5, 0.25), "file", None, 20.0, bounds, "f",
    )  # fmt: skip
    said = ExportInfo.of(
        SlideFacts.of(info),
        LabelGrid.of(info),
        [run(2, "b", False), run(1, "a", True), run(3, "b", False)],
        palette=ORDINAL,
        readers=["B", "A", "B"],
    )
    assert said.model_name == "b; a"
    assert said.run_ids == ("run2", "run1", "run3")
    assert said.model_card == {"n": 2}
    assert said.synthetic
    assert said.readers == ("B", "A")
    assert (said.bounds, said.slide_mpp, said.palette) == (bounds, (0.5, 0.25), ORDINAL)


def test_the_slides_file_name_leaves_only_when_asked():
    slide = SlideFacts("Meyer_Anna.svs", "ab" * 32, (100, 90), (1.0, 1.0))
    silent = ExportInfo.of(slide, LabelGrid((100, 90)), [])
    assert "Meyer" not in json.dumps(silent.facts()) + silent.slide_title
    named = ExportInfo.of(slide, LabelGrid((100, 90)), [], name_slide=True)
    assert named.facts()["slide"] == named.slide_title == "Meyer_Anna.svs"


def test_what_a_mask_without_corrections_says_of_255():
    slide = SlideFacts("s.svs", "ab" * 32, (100, 90), (1.0, 1.0))
    said = {what: ExportInfo.of(slide, LabelGrid((100, 90)), [], what=what) for what in WHATS}
    ends = {what: about.facts()["values"].rsplit("; ", 1)[1] for what, about in said.items()}
    assert ends == {
        "composite": "255 not run",
        "prediction": "255 not run",
        "correction": "255 not corrected",
        "difference": "255 not changed",
    }
