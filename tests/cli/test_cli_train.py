"""``napari-hspnet train`` on the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from napari_hspnet.cli import main
from napari_hspnet.networks import load_checkpoint
from napari_hspnet.training.config import example_config, parse_config
from napari_hspnet.training.resume import read_position

CONFIG = """
[data]
kind = "phantom"
fields = 2
side = 192
[validation]
fields = 1
[network]
preset = "demo"
encoder_weights = "none"
[network.architecture]
ds_widths = [4, 4, 4, 4, 4]
head_widths = [8, 8]
encoder_widths = [8, 8, 8, 8]
[patches]
side = 64
stride = 16
[recipe]
batch = 4
epochs = {epochs}
precision = "float32"
[machine]
device = "cpu"
"""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write(tmp_path, epochs: int = 1):
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(epochs=epochs))
    return path


def test_the_example_can_be_saved_and_read(capsys) -> None:
    assert main(["train", "--example"]) == 0
    out = capsys.readouterr().out
    assert parse_config(out) == example_config()
    assert "# " in out


def test_it_trains_and_says_what_came_out(tmp_path, capsys) -> None:
    config, out = write(tmp_path), tmp_path / "out"
    assert main(["train", str(config), "--out", str(out)]) == 0
    said = capsys.readouterr()
    model = load_checkpoint(out / "model.safetensors")
    assert model.sha256 in said.out
    assert "validation, plain: mean Dice" in said.out
    assert "steps an epoch" in said.err
    assert "Research use only" in said.err
    assert main(["train", str(config), "--out", str(out)]) == 0
    assert "finished before" in capsys.readouterr().out


def test_what_is_wrong_ends_with_2_and_one_line(tmp_path, capsys) -> None:
    def refused(*arguments: object) -> str:
        assert main(["train", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "--example" in refused()
    config = write(tmp_path)
    assert "--out FOLDER" in refused(config)
    assert "nothing.toml" in refused(tmp_path / "nothing.toml", "--out", tmp_path)
    config.write_text(config.read_text().replace("stride", "strid"))
    said = refused(config, "--out", tmp_path)
    assert "[patches] strid is unknown" in said
    assert "Did you mean stride? Known there: side, stride" in said
    assert str(config) in said


def test_a_config_can_be_checked_alone(tmp_path, capsys) -> None:
    config = write(tmp_path)
    assert main(["train", str(config), "--check"]) == 0
    assert parse_config(config.read_text()).digest in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child alone")
def test_ctrl_c_leaves_a_snapshot_and_a_way_on(tmp_path) -> None:
    config, out = write(tmp_path, epochs=10_000), tmp_path / "out"
    code = "import sys; from napari_hspnet.cli import main; sys.exit(main())"
    child = subprocess.Popen(
        [sys.executable, "-c", code, "train", str(config), "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    snapshot = out / "snapshot.safetensors"
    end = time.monotonic() + 60
    while time.monotonic() < end and not (snapshot.exists() and read_position(snapshot).step > 0):
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130, err
    assert "run the command again and it goes on" in err
    assert read_position(snapshot).step > 0
    assert not (out / "model.safetensors").exists()
