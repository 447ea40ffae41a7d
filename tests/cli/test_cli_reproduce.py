"""``reproduce`` and ``crossval`` as a user types them."""

from __future__ import annotations

import json

import pytest
import torch

from jobs.mtchi_files import quick_config, write_mtchi
from napari_hspnet.cli import main
from napari_hspnet.training.config import DataConfig


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_table_of_phantoms_is_quick_on_a_cpu_and_warns(tmp_path, capsys) -> None:
    out = tmp_path / "out"
    arguments = ["reproduce", "table3", "--phantom", "--device", "cpu", "--workers", "0"]
    assert main([*arguments, "--fields", "3,2", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.err.count("These figures rank nothing") == 2
    assert "table3, row 4 of 4" in said.err
    assert "Table 3: without some of the DS-Blocks" in said.out
    assert "HSP-Net, ResNet-101, CE, no DS-Block (tiny stand-in)" in said.out
    assert "0.7390" in said.out
    assert (out / "table3.md").is_file()
    settings = json.loads((out / "settings.json").read_text())
    assert (settings["name"], settings["phantoms"]["train"]) == ("quick", 3)
    assert main([*arguments, "--fields", "4,2", "--out", str(out)]) == 2
    assert "tables of other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["table3"], "--mtchi and --phantom"),
        (["table3", "--phantom", "--mtchi", "x"], "--mtchi and --phantom"),
        (["table3", "--phantom", "--quick", "--full"], "contradict"),
        (["table3", "--phantom", "--seeds", "a"], "--seeds 'a' is not understood"),
        (["table3", "--phantom", "--quick", "--seeds", "0,0"], "each once"),
        (["table3", "--phantom", "--fields", "4"], "as in 160,60"),
        (["table3", "--mtchi", "x", "--fields", "4,2"], "with --phantom"),
        (["table3", "--mtchi", "nowhere", "--quick"], "Task2"),
        (["table3", "--mtchi", "nowhere", "--encoder-weights", "none"], "Task2"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, capsys, arguments, said) -> None:
    full = ["reproduce", *arguments, "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(full) == 2
    assert said in capsys.readouterr().err


def test_crossval_prints_folds_beside_the_paper(tmp_path, capsys) -> None:
    write_mtchi(tmp_path / "MTCHI")
    config = tmp_path / "config.toml"
    config.write_text(quick_config(DataConfig("mtchi", folder="MTCHI")).to_toml())
    out = tmp_path / "out"
    assert main(["crossval", str(config), "--folds", "3", "--plain", "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "3 folds of 2, 3, 3 patients" in said.err
    assert "mean ± spread of folds, plain" in said.out
    assert "all pooled, plain" in said.out
    assert "Gauss" not in said.out
    assert sorted(p.name for p in out.glob("fold-*")) == ["fold-1", "fold-2", "fold-3"]
    assert main(["crossval", str(config), "--folds", "1", "--out", str(tmp_path / "one")]) == 2
    assert "1 folds are none" in capsys.readouterr().err
