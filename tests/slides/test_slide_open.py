"""Opening: what is known of a slide, and what a bad file gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_hspnet.errors import InputError, ResolutionError, SlideError
from napari_hspnet.slides import Bounds, open_slide, with_mpp

from slide_files import SHARED_DATA, noise, write_aperio, write_generic_tiff, write_ome_tiff


def real(name: str) -> Path:
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip(f"real data absent: shared/data/{name}")
    return path


def test_real_aperio_slide() -> None:
    with open_slide(real("CMU-1-Small-Region.svs")) as slide:
        info = slide.info
        assert (info.backend, info.vendor, info.shape) == ("openslide", "aperio", (2967, 2220))
        assert info.mpp == (0.499, 0.499)
        assert (info.mpp_source, info.mpp_problem, info.objective) == ("file", None, 20.0)
        assert info.levels[0].tile == (240, 240)
        assert set(info.associated) == {"label", "macro", "thumbnail"}
        assert slide.read_associated("macro").shape == (431, 1280, 3)
        with pytest.raises(InputError, match="no associated image 'photo'"):
            slide.read_associated("photo")


def test_no_property_can_name_a_patient() -> None:
    with open_slide(real("CMU-1-Small-Region.svs")) as slide:
        kept = slide.info.properties
    assert kept["aperio.MPP"] == "0.4990"
    for value in ("CMU-1", "b414003d", "12/29/09", "CPAPERIOCS", "1004486"):
        assert not any(value in text for text in kept.values())
    assert not {"aperio.User", "aperio.Filename", "aperio.Date", "openslide.comment"} & set(kept)


def test_unknown_properties_are_dropped(tmp_path: Path) -> None:
    path = write_aperio(tmp_path / "a.svs", [noise(300, 300)], extra="|Patient Name = Ann Example")
    with open_slide(path) as slide:
        assert slide.info.objective == 40.0
        assert "Ann" not in repr(slide.info)


def test_nonsense_resolution_is_asked_for() -> None:
    with open_slide(real("boxes_4_levels.tiff")) as slide:
        info = slide.info
        assert info.mpp is None
        assert info.mpp_source == "unknown"
        assert "352.8" in str(info.mpp_problem)
        with pytest.raises(ResolutionError, match="--mpp"):
            slide.read_grid(0, 0, 8, 8, 1.0)
        assert [level.downsample for level in info.levels] == [(n, n) for n in (1.0, 2.0, 4.0, 8.0)]


def test_coarse_dicom_opens_for_viewing() -> None:
    with open_slide(real("camelyon_overview_jpeg.dcm")) as slide:
        assert slide.info.vendor == "dicom"
        assert slide.info.mpp == pytest.approx((28.968, 28.969))
        assert slide.read_level(0, 0, 0, 700, 1152).std() > 5
        assert not any("Kidney" in value for value in slide.info.properties.values())


def test_mpp_is_kept_apart_in_y_and_x(tmp_path: Path) -> None:
    path = write_generic_tiff(tmp_path / "a.tif", [noise(100, 80)], (0.5, 0.25))
    with open_slide(path) as slide:
        assert slide.info.mpp == pytest.approx((0.5, 0.25))


def test_user_says_the_resolution(tmp_path: Path) -> None:
    path = write_generic_tiff(tmp_path / "a.tif", [noise(100, 80)], None)
    slide = open_slide(path)
    assert slide.info.mpp is None
    assert "does not state" in str(slide.info.mpp_problem)
    said = with_mpp(slide, (0.5, 0.4))
    assert said.info.mpp == (0.5, 0.4)
    assert (said.info.mpp_source, said.info.mpp_problem) == ("user", None)
    slide.close()
    assert said.read_level(0, 0, 0, 10, 10).shape == (10, 10, 3)
    said.close()
    with pytest.raises(SlideError, match="closed"):
        said.read_level(0, 0, 0, 10, 10)
    with open_slide(path, mpp=0.3) as again:
        assert again.info.mpp == (0.3, 0.3)


@pytest.mark.parametrize("mpp", [0.0, -1.0, 0.049, 50.1, float("nan"), float("inf"), (0.25, 90.0)])
def test_user_says_nonsense(tmp_path: Path, mpp: float | tuple[float, float]) -> None:
    path = write_generic_tiff(tmp_path / "a.tif", [noise(100, 80)])
    with pytest.raises(InputError, match="cannot be right"):
        open_slide(path, mpp=mpp)
    with open_slide(path) as slide, pytest.raises(InputError, match="cannot be right"):
        with_mpp(slide, mpp)


def test_phantoms_say_so(tmp_path: Path) -> None:
    own = write_generic_tiff(
        tmp_path / "a.tif", [noise(70, 70)], description="napari-hspnet phantom seed=3"
    )
    svs = write_aperio(tmp_path / "b.svs", [noise(70, 70)], extra="|Note = napari-hspnet phantom")
    other = write_generic_tiff(tmp_path / "c.tif", [noise(70, 70)], description="a slide")
    for path, phantom in ((own, True), (svs, True), (other, False)):
        with open_slide(path) as slide:
            assert slide.info.phantom is phantom


def test_fingerprint_tells_files_apart(tmp_path: Path) -> None:
    big = noise(1100, 900)
    path = write_generic_tiff(tmp_path / "a.tif", [big], compression=None)
    copy = Path(shutil.copy(path, tmp_path / "renamed.tif"))
    with open_slide(path) as a, open_slide(copy) as b:
        mark = a.info.fingerprint
        assert len(mark) == 64
        assert b.info.fingerprint == mark
    with copy.open("r+b") as raw:
        raw.seek(-20, 2)
        raw.write(b"other bytes")
    with open_slide(copy) as b:
        assert b.info.fingerprint != mark


def test_mirax_fingerprint_counts_the_companion_folder(tmp_path: Path) -> None:
    from napari_hspnet.slides.fingerprint import fingerprint

    path = tmp_path / "a.mrxs"
    path.write_bytes(b"\xff\xd8 the same preview picture")
    alone = fingerprint(path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Slidedat.ini").write_text("[GENERAL]\nSLIDE_ID = 1")
    assert fingerprint(path) != alone


@pytest.mark.parametrize("planar", [False, True])
def test_ome_tiff_with_levels_as_subifds(tmp_path: Path, planar: bool) -> None:
    levels = [noise(200, 300), noise(100, 150, 1), noise(50, 75, 2)]
    path = write_ome_tiff(tmp_path / "a.ome.tif", levels, (500.0, 250.0), unit="nm", planar=planar)
    with open_slide(path) as slide:
        assert (slide.info.backend, slide.info.vendor) == ("tifffile", "ome-tiff")
        assert slide.info.mpp == pytest.approx((0.5, 0.25))
        assert [level.downsample for level in slide.info.levels] == [(n, n) for n in (1, 2, 4)]
        for index, level in enumerate(levels):
            box = slide.read_level(index, 11, 13, 30, 40)
            np.testing.assert_array_equal(box, level[11:41, 13:53])


@pytest.mark.parametrize("rows", [16, 200])
def test_tiff_in_strips(tmp_path: Path, rows: int) -> None:
    pixels = noise(200, 120)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, pixels, photometric="rgb", rowsperstrip=rows, resolution=(254, 254), resolutionunit=2
    )
    with open_slide(path) as slide:
        assert slide.info.backend == "tifffile"
        assert slide.info.mpp is None  # 100 µm/px
        np.testing.assert_array_equal(slide.read_level(0, 7, 5, 100, 80), pixels[7:107, 5:85])


def test_imagej_tiff_states_microns(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, noise(60, 60), imagej=True, resolution=(4.0, 2.0), metadata={"unit": "um"}
    )
    with open_slide(path) as slide:
        assert slide.info.mpp == pytest.approx((0.5, 0.25))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_plain_images(tmp_path: Path, suffix: str) -> None:
    from PIL import Image

    pixels = noise(90, 70)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(path)
    with open_slide(path) as slide:
        assert slide.info.backend == "pillow"
        assert slide.info.mpp is None
        expected = np.asarray(Image.open(path))
        np.testing.assert_array_equal(slide.read_level(0, 0, 0, 90, 70), expected)


def test_transparent_png_is_white(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:20] = (10, 20, 30, 255)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    with open_slide(path) as slide:
        read = slide.read_level(0, 0, 0, 40, 40)
    assert (read[:20] == (10, 20, 30)).all()
    assert (read[20:] == 255).all()


@pytest.mark.parametrize(
    ("given", "bounds"),
    [
        (("7", "5", "100", "90"), Bounds(7, 5, 100, 90)),
        (("7", "5", "0", "90"), None),
        (("7", "5", "x", "90"), None),
        ((), None),
    ],
)
def test_bounds_are_kept_where_they_hold_something(given, bounds) -> None:
    from napari_hspnet.slides.backends.with_openslide import _bounds

    names = ("y", "x", "height", "width")
    texts = {f"openslide.bounds-{n}": v for n, v in zip(names, given, strict=False)}
    assert _bounds(texts) == bounds


def bad_files(folder: Path) -> dict[str, Path]:
    from PIL import Image

    files = {name: folder / name for name in ("empty.svs", "text.svs", "text.txt", "head.tif")}
    files["empty.svs"].touch()
    for name in ("text.svs", "text.txt"):
        files[name].write_text("this is no slide\n" * 50)
    files["head.tif"].write_bytes(b"II*\x00\x08\x00\x00\x00")
    files["grey.tif"] = folder / "grey.tif"
    tifffile.imwrite(files["grey.tif"], np.zeros((50, 50), np.uint8))
    files["deep.tif"] = folder / "deep.tif"
    tifffile.imwrite(files["deep.tif"], np.zeros((50, 50, 3), np.uint16), photometric="rgb")
    files["grey.png"] = folder / "grey.png"
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(files["grey.png"])
    files["folder"] = folder / "folder"
    files["folder"].mkdir()
    files["absent.svs"] = folder / "absent.svs"
    return files


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty.svs", "is empty"),
        ("text.svs", "cannot be opened as a slide"),
        ("text.txt", "cannot be opened as a slide"),
        ("head.tif", "cannot be opened"),
        ("grey.tif", "not of 8-bit RGB"),
        ("deep.tif", "not of 8-bit RGB"),
        ("grey.png", "not of 8-bit RGB"),
        ("folder", "is a folder"),
        ("absent.svs", "no such file"),
    ],
)
def test_bad_file_is_a_clear_error(tmp_path: Path, name: str, said: str) -> None:
    path = bad_files(tmp_path)[name]
    with pytest.raises(SlideError, match=said) as caught:
        open_slide(path)
    assert caught.value.path == path
    assert caught.value.advice
    assert name in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.svs")
    with pytest.raises(SlideError, match="not a slide"):
        open_slide(tmp_path / "pipe.svs")


def test_importing_slides_imports_no_slide_library() -> None:
    code = (
        "import sys, napari_hspnet.slides as s; "
        "print([m for m in ('openslide', 'tifffile', 'zarr', 'PIL', 'dask') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_broken_slide() -> None:
    with pytest.raises(SlideError, match=r"broken\.svs"):
        open_slide(real("bad/broken.svs"))


@pytest.mark.parametrize("part", [0.001, 0.3, 0.6, 0.9, 0.99])
def test_truncated_slide_fails_on_opening_or_reading(tmp_path: Path, part: float) -> None:
    whole = real("CMU-1-Small-Region.svs").read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(SlideError) as caught, open_slide(path) as slide:
        slide.read_level(0, 0, 0, *slide.info.shape)
    assert "cut.svs" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [0.5, 0.9])
@pytest.mark.parametrize("kind", ["tiff", "planar", "strips", "png", "jpg"])
def test_other_truncated_files(tmp_path: Path, kind: str, part: float) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (300, 300, 3)).astype(np.uint8)
    path = tmp_path / f"cut.{kind if kind in ('png', 'jpg') else 'tif'}"
    if kind == "tiff":
        write_generic_tiff(path, [pixels])
    elif kind == "planar":
        write_ome_tiff(path, [pixels], planar=True)
    elif kind == "strips":
        tifffile.imwrite(path, pixels, photometric="rgb", rowsperstrip=10)
    else:
        Image.fromarray(pixels).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(SlideError) as caught, open_slide(path) as slide:
        slide.read_level(0, 0, 0, *slide.info.shape)
    assert "cut." in str(caught.value)
