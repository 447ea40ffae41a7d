"""``napari-hspnet evaluate`` as a user types it: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from napari_hspnet.cli import main
from napari_hspnet.networks import Architecture, ModelCard, build, save_checkpoint
from napari_hspnet.phantom import phantom_field


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    shape = Architecture(
        encoder="small", ds_widths=(4,) * 5, head_widths=(4, 4), encoder_widths=(4, 4, 8, 8)
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_checkpoint(path, build(shape), ModelCard("tiny", shape, window=128, synthetic=True))
    return path


@pytest.fixture(scope="module")
def mtchi(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mtchi")
    for name in ("Img", "Truth"):
        (folder / "Task2/Test" / name).mkdir(parents=True)
    for seed, name in enumerate(("P1-1-A", "P2-1-B")):
        field = phantom_field(seed, 150, 170, 1.0, (1, 2, 3, 4))
        Image.fromarray(field.rgb).save(folder / f"Task2/Test/Img/Crop_{name}.png")
        Image.fromarray(field.truth).save(folder / f"Task2/Test/Truth/Mask_{name}.png")
    return folder


@pytest.fixture
def evaluate(capsys):
    def run(*arguments):
        code = main(["evaluate", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def refused(answer, *words):
    code, out, err = answer
    assert code == 2, err
    assert out == ""
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word.lower() in errors[0].lower(), errors[0]


def test_one_table_stands_beside_the_papers_rows(evaluate, mtchi, checkpoint, tmp_path) -> None:
    out = tmp_path / "out"
    code, said, err = evaluate("--mtchi", mtchi, "--model", checkpoint, "--plain", "--out", out)
    assert code == 0, err
    assert "Research use only" in said
    assert "DEMO MODEL" in err
    assert "regions: 2 (paper: 39; public descriptions of the download: 5)" in said
    assert "Windows of 128 px, side by side" in said
    document = json.loads((out / "evaluation.json").read_text())
    dice = document["figures"]["masked"]["pooled"]["mean_dice"]
    (ours,) = (line for line in said.splitlines() if "tiny: pooled, masked" in line)
    assert f"{dice['value']:.4f} [{dice['low']:.4f}, {dice['high']:.4f}]" in ours
    (paper,) = (line for line in said.splitlines() if "HSP-Net (AE, post-processed" in line)
    assert "0.7822" in paper
    assert "sensitivity at CIN2+" in said
    matrix = document["confusion"]
    assert f"{matrix[4][1]:,} (" in said
    assert document["model"]["sha256"] in said
    assert said.rstrip().endswith(str(out))


def test_predictions_and_json(evaluate, mtchi, checkpoint, tmp_path) -> None:
    out = tmp_path / "out"
    model = ("--model", checkpoint, "--stride", 64, "--sigma", 30, "--out", out, "--json")
    code, said, err = evaluate("--mtchi", mtchi, *model)
    assert code == 0, err
    first = json.loads(said)
    assert first == json.loads((out / "evaluation.json").read_text())
    assert (first["settings"]["stride"], first["settings"]["sigma"]) == (64, 30)
    code, said, err = evaluate("--mtchi", mtchi, "--predictions", out / "predictions", "--json")
    assert code == 0, err
    assert json.loads(said)["confusion"] == first["confusion"]
    refused(evaluate("--mtchi", mtchi, *model), "exists already")
    code, _, err = evaluate("--mtchi", mtchi, *model, "--overwrite")
    assert code == 0, err


def test_pairs_have_no_paper_beside_them(evaluate, mtchi, checkpoint) -> None:
    code, said, err = evaluate("--pairs", mtchi / "Task2/Test", "--model", checkpoint, "--plain")
    assert code == 0, err
    assert "paper" not in said
    assert "counts as a patient of its own" in said


def test_what_cannot_be_meant_is_refused(evaluate, mtchi, checkpoint, tmp_path) -> None:
    model = ("--model", checkpoint)
    refused(evaluate("--mtchi", mtchi), "--model", "--predictions")
    refused(evaluate("--mtchi", mtchi, *model, "--predictions", tmp_path), "exactly one")
    refused(evaluate(*model), "--mtchi", "--pairs", "--case")
    refused(evaluate(*model, "--mtchi", mtchi, "--pairs", mtchi), "exactly one")
    refused(evaluate(*model, "--case", tmp_path), "1 cases come with 0 slides")
    refused(evaluate(*model, "--mtchi", mtchi, "--mpp", "-1"), "no resolution")
    refused(evaluate(*model, "--mtchi", mtchi, "--stride", 500), "stride of 500")
    refused(evaluate(*model, "--mtchi", mtchi, "--device", "cuda:77"), "no device")
    refused(evaluate(*model, "--mtchi", mtchi, "--part", "Training"), "Task2/Training")
    refused(evaluate(*model, "--mtchi", tmp_path), "not laid out as MTCHI")
    refused(evaluate(*model, "--pairs", tmp_path), "no image")
    refused(evaluate("--predictions", tmp_path, "--mtchi", mtchi), "no prediction for P1-1-A")
    refused(evaluate("--model", tmp_path / "absent", "--mtchi", mtchi), "no such checkpoint")


def test_a_model_of_other_classes_is_refused(evaluate, mtchi, checkpoint, tmp_path) -> None:
    data = checkpoint.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    card = json.loads(header["__metadata__"]["napari_hspnet_card"])
    card["classes"] = ["background", "benign", "LSIL", "HSIL", "cancer"]
    header["__metadata__"]["napari_hspnet_card"] = json.dumps(card)
    text = json.dumps(header).encode()
    path = tmp_path / "other.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    refused(evaluate("--model", path, "--mtchi", mtchi), "classes are", "benign")


def test_ctrl_c_stops_it_and_leaves_nothing(mtchi, checkpoint, tmp_path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(1, 256, (1500, 1500, 3), dtype=np.uint8)).save(folder / "a.png")
    Image.fromarray(np.full((1500, 1500), 1, np.uint8)).save(folder / "a_mask.png")
    command = ["evaluate", "--pairs", folder, "--model", checkpoint, "--stride", 4]
    running = subprocess.Popen(
        [sys.executable, "-m", "napari_hspnet.cli", *map(str, command), "--out", tmp_path / "out"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ,
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob(".out.*.part/predictions")):
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert b"nothing half-written" in err
    assert [p.name for p in tmp_path.iterdir()] == ["many"]
