"""A training goes on at the very step, whatever ended it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from session_tools import ADAMW, SGD, same_weights, settings, tiny_network, tiny_reader
from torch import nn

from napari_hspnet.errors import CancelledError, CheckpointError, InputError, OutputError
from napari_hspnet.networks import checkpoint as checkpoint_module
from napari_hspnet.training import DivergedError, Recipe
from napari_hspnet.training.curves import Row, curves_picture, read_curves
from napari_hspnet.training.loss_terms import LossTerm, make_loss
from napari_hspnet.training.resume import SNAPSHOT, read_position
from napari_hspnet.training.session import run_session

TESTS = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noisy_network() -> nn.Module:
    """A network that draws random numbers, as dropout does."""
    network = tiny_network()
    network.register_forward_hook(lambda m, _, out: nn.functional.dropout(out, 0.3, m.training))
    return network


def stop_at(step: int, cancel: threading.Event):
    def listen(state) -> None:
        if state.step >= step:
            cancel.set()

    return listen


@pytest.fixture
def every_report(monkeypatch):
    monkeypatch.setattr("napari_hspnet.training.session._LISTEN", 0.0)


@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_cancelled_and_resumed_is_the_same_as_never_stopped(
    tmp_path, recipe, precision, every_report
) -> None:
    given = settings(recipe=recipe, precision=precision)
    reader = tiny_reader()
    whole = noisy_network()
    (tmp_path / "a").mkdir()
    end = run_session(whole, reader, given, tmp_path / "a")
    assert end.step == end.steps == 2 * reader.steps_per_epoch

    (tmp_path / "b").mkdir()
    seen = []
    for stop in (3, 4, 6, 99):
        parted, cancel = noisy_network(), threading.Event()
        torch.manual_seed(stop)
        try:
            run_session(
                parted, reader, given, tmp_path / "b", progress=stop_at(stop, cancel), cancel=cancel
            )
        except CancelledError:
            seen.append(read_position(tmp_path / "b" / SNAPSHOT).step)
    assert seen == [3, 4, 6]
    assert same_weights(whole, parted)
    one, other = (read_curves(tmp_path / k / "curves.csv") for k in "ab")
    assert [(r.step, r.loss, r.rate) for r in one] == [(r.step, r.loss, r.rate) for r in other]
    assert len(one) == end.steps


def test_random_numbers_outside_are_not_touched(tmp_path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    run_session(noisy_network(), tiny_reader(), settings(epochs=1), tmp_path)
    assert torch.equal(before, torch.get_rng_state())


CHILD = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)
from safetensors.torch import save_file
from session_tools import settings, tiny_network, tiny_reader
from napari_hspnet.training.session import run_session
folder = Path(sys.argv[1])
network = tiny_network()
# A short breath a step: the test wants to kill in the middle.
import time
network.register_forward_hook(lambda *_: time.sleep(float(sys.argv[2])))
run_session(network, tiny_reader(), settings(epochs=3, workers=2, snapshot_seconds=0.05), folder)
save_file({k: v.contiguous() for k, v in network.state_dict().items()}, folder / "end.safetensors")
"""


def start_child(folder: Path, breath: float) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(breath)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_and_resumed_gives_bit_identical_weights(tmp_path) -> None:
    from safetensors.torch import load_file

    killed = tmp_path / "killed"
    steps = 3 * tiny_reader().steps_per_epoch
    for least in (2, steps // 2):
        child = start_child(killed, 0.1)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            position = read_position(killed / SNAPSHOT)
            if position is not None and position.step >= least:
                break
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
        assert least <= read_position(killed / SNAPSHOT).step < steps
        assert not (killed / "end.safetensors").exists()
    assert start_child(killed, 0).wait(120) == 0
    whole = tmp_path / "whole"
    assert start_child(whole, 0).wait(120) == 0
    one, other = (load_file(f / "end.safetensors") for f in (whole, killed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert [p.name for p in killed.glob(".*")] == [], "nothing half-written is left"


def test_what_a_kill_in_mid_writing_left_is_removed(tmp_path) -> None:
    for name in (SNAPSHOT, "curves.csv", "curves.png"):
        (tmp_path / f".{name}.x1y2").write_bytes(b"half of it")
    run_session(tiny_network(), tiny_reader(), settings(epochs=1), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.csv", "curves.png", SNAPSHOT]


def test_another_config_or_other_data_are_refused(tmp_path) -> None:
    reader = tiny_reader()
    run_session(tiny_network(), reader, settings(epochs=1), tmp_path)
    kept = (tmp_path / SNAPSHOT).read_bytes()
    with pytest.raises(InputError, match=r"another config.*cccc.*eeee"):
        run_session(tiny_network(), reader, settings(epochs=1, config="e" * 64), tmp_path)
    with pytest.raises(InputError, match=r"data are not those.*dddd.*ffff"):
        run_session(tiny_network(), reader, settings(epochs=1, data="f" * 64), tmp_path)
    assert (tmp_path / SNAPSHOT).read_bytes() == kept


@pytest.mark.parametrize("damage", ["cut", "noise", "another file"])
def test_a_damaged_snapshot_is_refused(tmp_path, damage: str) -> None:
    run_session(tiny_network(), tiny_reader(), settings(epochs=1), tmp_path)
    path = tmp_path / SNAPSHOT
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(1000))
    else:
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="snapshot"):
        run_session(tiny_network(), tiny_reader(), settings(epochs=1), tmp_path)


def test_a_loss_that_diverges_keeps_the_snapshot_of_before(tmp_path, every_report) -> None:
    network, calls = tiny_network(), []

    def spoil(module, inputs, output):
        calls.append(1)
        return output * float("nan") if len(calls) == 8 else output

    network.head[-1].register_forward_hook(spoil)
    with pytest.raises(DivergedError, match="nan in step 8"):
        run_session(network, tiny_reader(), settings(snapshot_seconds=1e-6), tmp_path)
    assert read_position(tmp_path / SNAPSHOT).step == 7
    whole, again = tiny_network(), tiny_network()
    (tmp_path / "whole").mkdir()
    run_session(whole, tiny_reader(), settings(), tmp_path / "whole")
    run_session(again, tiny_reader(), settings(), tmp_path)
    assert same_weights(whole, again), "a network that is mended goes on from there"


def test_ruined_weights_do_not_replace_a_good_snapshot(tmp_path, every_report) -> None:
    network = tiny_network()

    def ruin(state) -> None:
        if state.step == 5:
            with torch.no_grad():
                network.head[-1].bias[0] = float("inf")

    given = settings(snapshot_seconds=1e-6)
    with pytest.raises(DivergedError):
        run_session(network, tiny_reader(), given, tmp_path, progress=ruin)
    assert read_position(tmp_path / SNAPSHOT).step == 5


class FullDisk:
    """A disk on which so many writes of snapshots succeed, and then half of one."""

    def __init__(self, good: int) -> None:
        self.left = good

    def __call__(self, handle, mode):
        file = os.fdopen(handle, mode)
        disk = self

        class Limited:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, data):
                if len(data) > 20_000 and file.name is not None:
                    disk.left -= 1
                if disk.left < 0:
                    file.write(data[: len(data) // 2])
                    raise OSError(28, "No space left on device")
                return file.write(data)

            def flush(self):
                file.flush()

            def fileno(self):
                return file.fileno()

        return Limited()


def test_a_full_disk_keeps_the_old_snapshot(tmp_path, monkeypatch) -> None:
    class Os:
        def __getattr__(self, name):
            return getattr(os, name)

    # Pictures are far smaller than snapshots here, so that only these count.
    fake = Os()
    fake.fdopen = FullDisk(3)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "os", fake)
        with pytest.raises(OutputError, match="No space left"):
            run_session(tiny_network(), tiny_reader(), settings(snapshot_seconds=1e-6), tmp_path)
    step = read_position(tmp_path / SNAPSHOT).step
    assert 0 < step < 2 * tiny_reader().steps_per_epoch
    assert [p.name for p in tmp_path.glob(".*")] == []
    again, whole = tiny_network(), tiny_network()
    (tmp_path / "whole").mkdir()
    run_session(again, tiny_reader(), settings(), tmp_path)
    run_session(whole, tiny_reader(), settings(), tmp_path / "whole")
    assert same_weights(again, whole)


def test_a_micro_batch_that_was_halved_stays_so_after_a_break(tmp_path, every_report) -> None:
    network, cancel = tiny_network(), threading.Event()

    def short(module, inputs, output):
        if len(inputs[0]) > 2:
            raise torch.OutOfMemoryError

    network.register_forward_hook(short)
    with pytest.raises(CancelledError):
        run_session(
            network, tiny_reader(), settings(), tmp_path, progress=stop_at(2, cancel), cancel=cancel
        )
    assert read_position(tmp_path / SNAPSHOT).micro_batch == 2
    seen = []
    run_session(tiny_network(), tiny_reader(), settings(), tmp_path, progress=seen.append)
    assert {state.micro_batch for state in seen} == {2}


def test_curves_tell_every_step(tmp_path) -> None:
    reader = tiny_reader()
    end = run_session(tiny_network(), reader, settings(), tmp_path)
    with (tmp_path / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(1, end.steps + 1))
    assert list(rows[0]) == ["step", "epoch", "loss", "rate", "seconds", "notice"]
    assert {row["notice"] for row in rows} == {"Research use only"}
    assert float(rows[-1]["epoch"]) == 2
    rates = [float(row["rate"]) for row in rows]
    wanted = 0.005 * (1 + np.cos(np.pi * np.arange(end.steps) / end.steps))
    np.testing.assert_allclose(rates, wanted, rtol=1e-6)
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size == (1000, 700)
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 4


def test_a_table_cut_by_a_kill_is_read_as_far_as_it_is_whole(tmp_path) -> None:
    run_session(tiny_network(), tiny_reader(), settings(epochs=1), tmp_path)
    path = tmp_path / "curves.csv"
    rows = read_curves(path)
    path.write_bytes(path.read_bytes()[:-25])
    assert read_curves(path) == rows[:-1]
    path.write_text("nothing,of,ours\n1,2,3\n")
    assert read_curves(path) == []


@pytest.mark.parametrize("losses", [[], [1.0], [0.0, 0.0], [5.0, float("nan"), 2.0], [3e9, 1e-9]])
def test_a_picture_of_any_losses(losses: list[float]) -> None:
    rows = [Row(i + 1, (i + 1) / 2, loss, 0.0, 1.0) for i, loss in enumerate(losses)]
    assert curves_picture(rows, (400, 300)).size == (400, 300)


def test_it_learns(tmp_path) -> None:
    loss = make_loss([LossTerm("ae_r"), LossTerm("dice", 0.5)])
    recipe = Recipe("adamw", 1e-2, 1.0, "one-cycle")
    given = settings(recipe=recipe, loss=loss, epochs=20)
    run_session(tiny_network(), tiny_reader(), given, tmp_path)
    rows = read_curves(tmp_path / "curves.csv")
    assert np.mean([r.loss for r in rows[-5:]]) < 0.6 * rows[0].loss
