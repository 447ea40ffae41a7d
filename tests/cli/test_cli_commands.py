"""The command line on good and bad input, its files read back by other readers."""

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from napari_hspnet import __version__
from napari_hspnet.cli import main
from napari_hspnet.cli.app import app
from napari_hspnet.jobs.samples import sample_slide_path
from napari_hspnet.networks import Architecture, ModelCard, build, save_checkpoint

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Windows this small gain nothing from threads, and tests share the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A network of random weights, small enough to run in no time."""
    import torch

    torch.manual_seed(0)
    shape = Architecture(
        encoder="small", ds_widths=(4,) * 5, head_widths=(4, 4), encoder_widths=(4, 4, 8, 8)
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, build(shape), ModelCard("tiny", shape, window=128))
    return path


def write_slide(path, tissue=True, mpp=1.0, shape=(300, 420)):
    rgb = np.full((*shape, 3), 245, np.uint8)
    if tissue:
        rng = np.random.default_rng(0)
        rgb[60:220, 80:300] = rng.integers(90, 200, (160, 220, 3)) * np.array([1, 0.5, 0.9])
    said = {} if mpp is None else {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(
        path, rgb, tile=(256, 256), photometric="rgb", compression="zlib", metadata=None, **said
    )
    return path


@pytest.fixture
def slide(tmp_path):
    return write_slide(tmp_path / "slide.tiff")


@pytest.fixture
def predict(tmp_path, checkpoint, capsys):
    """Run ``predict``: gives the exit code, stdout and stderr."""

    def run(*arguments, out=tmp_path / "out"):
        fixed = ["--out", str(out), "--checkpoint", str(checkpoint), "--blend", "plain"]
        code = main(["predict", *map(str, arguments), *fixed])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def refused(answer, *words):
    """Exit 2, one line of error with these words, nothing on stdout."""
    code, out, err = answer
    assert code == 2, err
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word.lower() in errors[0].lower(), errors[0]


def command(*arguments, **options):
    return [sys.executable, "-m", "napari_hspnet.cli", *map(str, arguments)]


def test_predict_writes_masks_that_others_read(predict, slide, tmp_path):
    formats = "ome-tiff,png,geojson"
    code, out, err = predict(slide, "--format", formats, "--json", "--no-tissue-mask")
    assert code == 0, err
    assert err.count("Research use only") == 1
    document = json.loads(out)
    assert document["errors"] == []
    (result,) = document["results"]
    assert (result["width"], result["height"], result["mpp"]) == (420, 300, 1.0)
    with tifffile.TiffFile(result["outputs"]["ome-tiff"]) as file:
        mask = file.asarray()
        assert 'PhysicalSizeX="1.0"' in file.ome_metadata
    assert mask.shape == (300, 420)
    assert mask.max() <= 4
    areas = {int(v): a for v, a in result["areas_mm2"].items()}
    for value in range(5):
        assert areas.get(value, 0) == pytest.approx((mask == value).sum() * 1e-6)
    with Image.open(result["outputs"]["png"]) as image:
        np.testing.assert_array_equal(np.asarray(image), mask)
    collection = json.loads(Path(result["outputs"]["geojson"]).read_text(encoding="utf-8"))
    total = sum(f["properties"]["measurements"]["Area µm^2"] for f in collection["features"])
    assert total == ((mask >= 1) & (mask <= 4)).sum()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "slide.geojson",
        "slide.hspnet",
        "slide.ome.tif",
        "slide.png",
    ]


def test_predict_says_what_it_found(predict, slide):
    code, out, err = predict(slide)
    assert code == 0, err
    assert "windows in" in out
    assert "none of the four" in out
    assert "slide.ome.tif" in out
    assert "mm²" in out


def test_predict_again_is_refused_before_work_and_overwrites_when_told(predict, slide, tmp_path):
    assert predict(slide)[0] == 0
    mask = tmp_path / "out" / "slide.ome.tif"
    before = mask.read_bytes()
    refused(predict(slide), "exists already", "slide.ome.tif")
    assert mask.read_bytes() == before
    code, _, err = predict(slide, "--overwrite", "--no-tissue-mask", "--region", "0,0,100,90")
    assert code == 0, err
    values = tifffile.imread(mask)
    assert (values[:90, :100] <= 4).all()
    # The earlier run of the same case must not shine through.
    assert (values[90:] == 255).all()
    assert len(list((tmp_path / "out" / "slide.hspnet" / "runs").iterdir())) == 2


def test_region_in_um_of_a_fine_slide(predict, tmp_path):
    fine = write_slide(tmp_path / "fine.tiff", mpp=0.5)
    code, _, err = predict(fine, "--region", "20,30,100,50", "--no-tissue-mask")
    assert code == 0, err
    mask = tifffile.imread(tmp_path / "out" / "fine.ome.tif")
    assert mask.shape == (150, 210)
    inside = np.zeros(mask.shape, bool)
    inside[30:80, 20:120] = True
    np.testing.assert_array_equal(mask != 255, inside)


def test_region_without_tissue_is_done_and_says_so(predict, tmp_path):
    empty = write_slide(tmp_path / "glass.tiff", tissue=False)
    code, out, err = predict(empty, "--json")
    assert code == 0
    assert "Warning: glass.tiff: No tissue was found" in err
    assert json.loads(out)["results"][0]["warnings"]
    assert set(np.unique(tifffile.imread(tmp_path / "out" / "glass.ome.tif"))) == {253}


def test_one_bad_slide_does_not_stop_the_others(predict, slide, tmp_path):
    bad = tmp_path / "bad.svs"
    bad.write_text("no slide")
    code, out, err = predict(bad, slide, "--json")
    assert code == 2
    assert "1 of 2 slides failed" in err
    document = json.loads(out)
    assert [r["slide"] for r in document["results"]] == [str(slide)]
    (error,) = document["errors"]
    assert (error["slide"], error["kind"]) == (str(bad), "SlideError")
    assert error["advice"]


@pytest.mark.parametrize("kind", ["text", "empty", "absent", "folder"])
def test_no_slide(predict, tmp_path, kind):
    path = tmp_path / "thing.svs"
    if kind == "text":
        path.write_text("hello " * 500)
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    refused(predict(path), "thing.svs")
    assert not (tmp_path / "out").exists()
    assert main(["info", str(path)]) == 2


@pytest.mark.parametrize("part", [0.02, 0.5])
def test_truncated_slide(predict, tmp_path, part):
    whole = sample_slide_path().read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(whole[: int(len(whole) * part)])
    refused(predict(path), "cut.svs")
    assert not (tmp_path / "out").exists()


def damaged_slide(tmp_path):
    """The real slide with one tile of rubbish in the middle."""
    path = tmp_path / "damaged.svs"
    shutil.copyfile(sample_slide_path(), path)
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        where, size = page.dataoffsets[65], page.databytecounts[65]
    with path.open("r+b") as file:
        file.seek(where)
        file.write(bytes(size))
    return path


def test_slide_that_fails_in_the_middle(predict, tmp_path):
    path = damaged_slide(tmp_path)
    region = ("--region", "400,500,400,400")
    refused(predict(path, *region), "damaged.svs", "px at x ")
    assert not (tmp_path / "out").exists()
    code, _, err = predict(path, "--skip-unreadable", *region)
    assert code == 0, err
    assert "could not be read" in err
    mask = tifffile.imread(tmp_path / "out" / "damaged.ome.tif")
    assert (mask == 254).any()
    assert (mask[500:900, 400:800] != 254).any()


@needs_data
def test_file_that_opens_and_cannot_be_read(predict, tmp_path):
    refused(predict(DATA / "bad" / "unreadable.svs", "--mpp", 0.5), "unreadable.svs")
    refused(predict(DATA / "bad" / "broken.svs", "--mpp", 0.5), "broken.svs")
    assert not (tmp_path / "out").exists()


def test_no_resolution_is_asked_for(predict, tmp_path):
    path = write_slide(tmp_path / "bare.tiff", mpp=None)
    refused(predict(path), "--mpp", "bare.tiff")
    assert not (tmp_path / "out").exists()
    code, _, err = predict(path, "--mpp", "0.75")
    assert code == 0, err
    assert tifffile.imread(tmp_path / "out" / "bare.ome.tif").shape == (225, 315)
    # The case remembers: another resolution is another case.
    refused(predict(path, "--mpp", "0.5", "--overwrite"), "0.75", "0.5")


@needs_data
def test_nonsense_resolution_is_questioned(predict, capsys):
    refused(predict(DATA / "boxes_4_levels.tiff"), "352.8", "--mpp")
    assert main(["info", str(DATA / "boxes_4_levels.tiff"), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["mpp_x"] is None
    assert "352.8" in json.loads(said.out)["mpp_problem"]


@pytest.mark.parametrize("mpp", ["0", "-1", "nan", "1000"])
def test_nonsense_resolution_from_the_user(predict, slide, mpp):
    refused(predict(slide, "--mpp", mpp), "µm")


@needs_data
def test_coarse_dicom_is_shown_and_not_segmented(predict, capsys, tmp_path):
    path = DATA / "camelyon_overview_jpeg.dcm"
    refused(predict(path), "too coarse")
    assert not (tmp_path / "out").exists()
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mpp_x"] == pytest.approx(29, rel=0.1)


@pytest.mark.parametrize(
    ("region", "word"),
    [
        ("5000,5000,10,10", "outside"),
        ("-500,0,100,100", "outside"),
        ("0,0,0,10", "no area"),
        ("0,0,-5,-5", "no area"),
        ("0,0,10", "not understood"),
        ("a,b,c,d", "not understood"),
        ("0,0,nan,5", "not understood"),
    ],
)
def test_region_that_cannot_be(predict, slide, tmp_path, region, word):
    refused(predict(slide, f"--region={region}"), word)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"rubbish" * 100, None])
def test_checkpoint_that_is_none(slide, tmp_path, capsys, checkpoint, content):
    broken = tmp_path / "model.safetensors"
    whole = checkpoint.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2] if content is None else content)
    code = main(["predict", str(slide), "--out", str(tmp_path / "o"), "--checkpoint", str(broken)])
    said = capsys.readouterr()
    refused((code, said.out, said.err), "model.safetensors")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--stride", "0"), "stride"),
        (("--device", "abacus"), "abacus"),
        (("--format", "ome-tiff,jpeg"), "jpeg"),
        (("--format", ","), "no format"),
        (("--format", "png", "--png-mpp", "0"), "resolution"),
        (("--format", "png", "--png-mpp", "0.001"), "or more for the PNG"),
    ],
)
def test_options_that_cannot_be(predict, slide, tmp_path, arguments, word):
    refused(predict(slide, *arguments), word)
    assert not (tmp_path / "out").exists()


def test_two_slides_of_one_name(predict, slide, tmp_path):
    (tmp_path / "b").mkdir()
    refused(predict(slide, write_slide(tmp_path / "b" / "slide.tiff")), "same files")


def test_output_folder_that_cannot_be_written(predict, slide, tmp_path):
    wall = tmp_path / "wall"
    wall.write_text("a file")
    refused(predict(slide, out=wall), "is a file")
    refused(predict(slide, out=wall / "below"), "wall")


@pytest.fixture
def mounted(tmp_path):
    """Mount a tiny file system; skips where that is not permitted."""
    place = tmp_path / "small"
    place.mkdir()
    done = []

    def mount(options):
        line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(line, capture_output=True).returncode:
            pytest.skip("mounting a small file system is not permitted here")
        done.append(place)
        return place

    yield mount
    for at in done:
        subprocess.run(["umount", str(at)], check=True)


@pytest.mark.parametrize("size", ["4k", "64k", "160k"])
def test_full_disk(predict, slide, mounted, size):
    place = mounted(f"size={size}")
    refused(predict(slide, "--no-tissue-mask", out=place), "disk is full", str(place))
    left = [p.name for p in place.rglob("*") if p.is_file()]
    assert not [n for n in left if n.endswith((".tif", ".geojson", ".part", ".probe"))]


def test_read_only_disk(predict, slide, mounted):
    place = mounted("ro")
    refused(predict(slide, out=place), "not permitted", str(place))


def test_full_disk_without_mounting(predict, slide, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_hspnet.cases.store.RunStore.write", full)
    refused(predict(slide), "disk is full")
    assert not (tmp_path / "out").exists()


def test_demo_model_is_said_aloud(slide, tmp_path, capsys):
    code = main(["predict", str(slide), "--out", str(tmp_path / "o"), "--blend", "plain"])
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "using the demo model" in said.err
    assert "DEMO MODEL, SYNTHETIC TRAINING" in said.err
    with tifffile.TiffFile(tmp_path / "o" / "slide.ome.tif") as file:
        assert "DEMO MODEL, SYNTHETIC TRAINING" in file.ome_metadata


def test_info_of_the_real_slide(capsys):
    assert main(["info", str(sample_slide_path()), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["width"], said["height"], said["vendor"]) == (2220, 2967, "aperio")
    assert said["mpp_x"] == pytest.approx(0.499)
    assert said["label_grid"] == {"width": 1108, "height": 1481, "mpp": 1.0}
    assert main(["info", str(sample_slide_path())]) == 0
    text = capsys.readouterr().out
    assert "0.499 x 0.499 µm/px" in text
    assert "2,220 x 2,967 px" in text


def test_phantom_and_its_truth(tmp_path, capsys):
    out, truth = tmp_path / "p.tiff", tmp_path / "t.tiff"
    line = ["phantom", "--out", str(out), "--size", "1600,1200", "--seed", "3"]
    assert main([*line, "--mpp", "1", "--truth", str(truth)]) == 0, capsys.readouterr().err
    assert tifffile.TiffFile(out).pages[0].shape == (1200, 1600, 3)
    assert tifffile.imread(truth).shape == (1200, 1600)
    before = out.read_bytes()
    assert main(line) == 2
    assert out.read_bytes() == before
    assert main(["phantom", "--out", str(tmp_path / "q.tiff"), "--size", "12"]) == 2
    assert main(["phantom", "--out", str(tmp_path / "q.tiff"), "--size", "0,5"]) == 2
    assert not (tmp_path / "q.tiff").exists()


def test_train_demo_refuses_before_it_trains(tmp_path, capsys):
    path = tmp_path / "m.safetensors"
    path.write_text("mine")
    assert main(["train-demo", "--out", str(path)]) == 2
    assert path.read_text() == "mine"
    assert main(["train-demo", "--out", str(tmp_path / "n"), "--minutes", "0"]) == 2
    assert main(["train-demo", "--out", str(tmp_path / "n"), "--data-seed", "1000"]) == 2
    assert main(["train-demo", "--out", str(tmp_path / "n"), "--init-seed", "-1"]) == 2
    err = capsys.readouterr().err
    assert "minutes" in err
    assert "less than 1000 for data" in err
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def small_slides(monkeypatch):
    """The command as it is, on slides and forests that take a second."""
    from napari_hspnet.jobs import judge_phantom

    small = {"shape": (500, 700), "field_side": 240, "per_class": 150, "trees": 6}
    quick = functools.partial(judge_phantom.JudgeOptions, **small)
    monkeypatch.setattr(judge_phantom, "JudgeOptions", quick)


def test_judge_phantom_prints_one_table_and_writes_all_figures(
    small_slides, checkpoint, tmp_path, capsys
):
    out = tmp_path / "figures" / "judged.json"
    line = ["judge-phantom", "--model", str(checkpoint), "--slides", "2", "--train-fields", "2"]
    assert main([*line, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    document = json.loads(out.read_text(encoding="utf-8"))
    table = [row for row in said.splitlines() if row.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    assert {len(row) for row in cells} == {8}
    assert cells[0][1:] == [
        "mean Dice",
        *(f"Dice {name}" for name in ("normal", "CIN1", "CIN2", "CIN3")),
        "pixel accuracy",
        "CIN2+ agreement",
    ]
    assert len(document["rows"]) == len(cells) - 2 == 7
    for row, figures in zip(cells[2:], document["rows"].values(), strict=True):
        assert row[0] == figures["title"]
        mean = figures["mean_dice"]
        printed = [float(number) for number in re.findall(r"[0-9.]+", row[1])]
        assert printed == pytest.approx([mean["value"], mean["low"], mean["high"]], abs=6e-4)
    heading = said[: said.index("|")]
    for words in (
        "Research use only",
        f"version {document['phantom_version']}",
        document["generator_hash"],
        "domain A",
        "2 test slides",
        "seeds 2000000000 to 2000000001",
        hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    ):
        assert words in heading
    assert main([*line, "--out", str(out)]) == 2
    assert json.loads(out.read_text(encoding="utf-8")) == document


def test_judge_phantom_refuses_before_it_draws(checkpoint, tmp_path, capsys):
    def judge(*arguments):
        code = main(["judge-phantom", "--slides", "1", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    refused(judge("--model", tmp_path / "absent.safetensors"), "absent.safetensors")
    refused(judge("--model", checkpoint, "--domain", "no such"), "domain")
    refused(judge("--model", checkpoint, "--slides", 2_000_000_000), "split")
    kept = tmp_path / "kept.json"
    kept.write_text("mine")
    refused(judge("--model", checkpoint, "--out", kept), "exists already")
    assert kept.read_text() == "mine"
    refused(judge("--model", checkpoint, "--out", kept / "below.json"), "cannot be written")


def test_judge_phantom_refuses_a_model_of_other_classes(checkpoint, tmp_path, capsys):
    """Its figures would be those of other things under our names."""
    other = tmp_path / "other.safetensors"
    data = checkpoint.read_bytes()
    assert data.count(rb"\"CIN3\"") == 1
    other.write_bytes(data.replace(rb"\"CIN3\"", rb"\"AGUS\""))
    assert main(["judge-phantom", "--model", str(other), "--slides", "1"]) == 2
    said = capsys.readouterr()
    refused((2, said.out, said.err), "classes", "AGUS")


def test_usage_errors_and_help():
    runner = CliRunner()
    assert runner.invoke(app, ["predict"]).exit_code == 2
    assert runner.invoke(app, ["predict", "a.svs", "--out", "o", "--blend", "x"]).exit_code == 2
    assert runner.invoke(app, ["nonsense"]).exit_code == 2
    answer = runner.invoke(app, ["--version"])
    assert (answer.exit_code, answer.output.strip()) == (0, f"napari-hspnet {__version__}")
    for name in ("info", "predict", "demo", "phantom", "train-demo", "judge-phantom"):
        assert runner.invoke(app, [name, "--help"]).exit_code == 0
    assert main(["predict", "--stride", "many"]) == 2


def test_fault_of_the_program_is_one_line_unless_debugging(slide, monkeypatch, capsys):
    def fail(*_):
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("napari_hspnet.slides.open_slide", fail)
    assert main(["info", str(slide)]) == 1
    err = capsys.readouterr().err
    assert "Unexpected error: ZeroDivisionError: oh" in err
    assert "--debug" in err
    assert "Traceback" not in err
    assert main(["--debug", "info", str(slide)]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_subprocess_starts_without_torch(tmp_path):
    line = "import sys; from napari_hspnet.cli import main; main(['info', sys.argv[1]]); "
    line += "print(sorted({'torch', 'zarr', 'rasterio', 'napari'} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", line, str(sample_slide_path())],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert answer.stdout.splitlines()[-1] == "[]"


def test_subprocess_codes(tmp_path):
    done = subprocess.run(command("info", tmp_path / "no.svs"), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("Error: There is no such file")


@pytest.mark.skipif(os.name == "nt", reason="signals to a process are POSIX's")
def test_ctrl_c_leaves_nothing_half_written(tmp_path, checkpoint):
    out = tmp_path / "out"
    line = command(
        "predict", sample_slide_path(), "--out", out, "--checkpoint", checkpoint,
        "--stride", 4, "--no-tissue-mask",
    )  # fmt: skip
    job = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not list(out.glob("*.hspnet/runs/*/zarr.json")):
            assert job.poll() is None, job.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        job.send_signal(signal.SIGINT)
        _, err = job.communicate(timeout=30)
    finally:
        job.kill()
        job.wait()
    assert job.returncode == 130, err
    assert "Interrupted" in err
    assert "Traceback" not in err
    assert not out.exists()


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are POSIX's")
def test_results_go_to_stdout_while_a_bar_runs_on_the_terminal(slide, tmp_path, checkpoint):
    import pty

    master, terminal = pty.openpty()
    line = command("predict", slide, "--out", tmp_path / "out", "--checkpoint", checkpoint)
    job = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    )
    os.close(terminal)
    seen = b""
    with contextlib.suppress(OSError):  # Linux ends a closed terminal with EIO
        while part := os.read(master, 65536):
            seen += part
    os.close(master)
    out = job.communicate(timeout=30)[0].decode()
    assert job.returncode == 0
    assert "windows in" in out
    assert "mm²" in out
    assert "\x1b" not in out
    assert "slide.tiff: Segmenting" in seen.decode()
    assert "windows in" not in seen.decode()


def test_demo_runs_the_main_job_on_the_real_slide(tmp_path):
    out = tmp_path / "demo"
    done = subprocess.run(
        command("demo", "--out", out, "--stride", 400), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert str(out) in done.stdout
    assert "DEMO MODEL, SYNTHETIC TRAINING" in done.stderr
    with tifffile.TiffFile(out / "CMU-1-Small-Region.ome.tif") as file:
        assert file.asarray().shape == (1481, 1108)
        assert 'PhysicalSizeX="1.0"' in file.ome_metadata
    assert (out / "CMU-1-Small-Region.png").is_file()
    assert (out / "CMU-1-Small-Region.geojson").is_file()


def test_a_mode_is_recorded_and_a_preview_says_so_in_its_files(slide, tmp_path, checkpoint, capsys):
    def run(*arguments):
        out = tmp_path / arguments[-1]
        line = ["predict", str(slide), "--out", str(out), "--checkpoint", str(checkpoint)]
        code = main([*line, "--json", "--no-tissue-mask", *arguments[:-1]])
        assert code == 0
        (result,) = json.loads(capsys.readouterr().out)["results"]
        outlines = json.loads(Path(result["outputs"]["geojson"]).read_text(encoding="utf-8"))
        return result, json.dumps(outlines)

    plain, exact_text = run("without")
    exact, _ = run("--mode", "exact", "exactly")
    rough, rough_text = run("--mode", "preview", "roughly")
    assert plain["mode"] == exact["mode"] == "exact"
    assert plain["areas_mm2"] == exact["areas_mm2"]
    assert rough["mode"] == "preview"
    assert rough["windows"] < exact["windows"]
    assert "(preview)" in rough_text
    assert "(preview)" not in exact_text


def test_a_mode_beside_what_it_says_itself_is_refused(predict, slide):
    refused(predict(slide, "--mode", "balanced"), "mode", "stride")
