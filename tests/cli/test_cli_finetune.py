"""``napari-hspnet finetune`` on the command line."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from jobs.finetune_case import CONFIG, Made, made
from napari_hspnet.cli import finetune as command
from napari_hspnet.cli import main
from napari_hspnet.networks import load_checkpoint
from napari_hspnet.networks.registry import Registry


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Made:
    return made(tmp_path_factory.mktemp("cases"), 2)


def arguments(both: Made, folder, *more: str) -> list[str]:
    config = folder / "config.toml"
    config.write_text(CONFIG)
    given = ["finetune", *(str(s.case) for s in both.sources)]
    for source in both.sources:
        given += ["--slide", str(source.slide), "--patient", source.patient]
    return [*given, "--model", str(both.model), "--config", str(config), *more]


def test_a_dry_run_says_what_it_would_learn_from(both, tmp_path, capsys) -> None:
    assert main(arguments(both, tmp_path, "--dry-run")) == 0
    said = capsys.readouterr().out
    assert "Learns from 8 regions of 1 patient" in said
    assert "Holds back 8 regions" in said
    assert "5 epochs of batches of 4; AdamW" in said


def test_a_model_is_taught_judged_and_kept_as_a_candidate(both, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    more = ("--epochs", "1", "--out", str(out), "--by", "Dr. A", "--accept-if-better")
    assert main(arguments(both, tmp_path, *more)) == 0
    caught = capsys.readouterr()
    path = out / "candidate.safetensors"
    sha256 = load_checkpoint(path).sha256
    assert f"{path} (SHA-256 {sha256}): candidate" in caught.out
    assert "Too few to judge" in caught.out
    assert "| Held back" in caught.out
    assert "agreement at CIN2+" in caught.out
    assert "Learns from" in caught.err
    assert "after epoch 1" in caught.err
    assert Registry().get(sha256).state == "candidate"
    assert main(arguments(both, tmp_path, *more)) == 2
    assert "another folder" in capsys.readouterr().err


def test_what_is_wrong_is_said_before_any_process_is_started(both, tmp_path, capsys) -> None:
    case, slide = str(both.sources[0].case), str(both.sources[0].slide)
    model = str(both.model)
    whole = ["finetune", case, "--slide", slide, "--model", model]
    for given, said in (
        (["finetune", case, "--model", model, "--out", "x"], "Give each case its slide"),
        (["finetune", case, "--slide", slide, "--out", "x"], "No model"),
        (whole, "No folder"),
        ([*whole, "--out", "x", "--regions", "1,b"], "not understood"),
        ([*whole, "--out", "x", "--keep", "2"], "0"),
        ([*whole, "--out", "x", "--accept-if-better"], "--by NAME"),
        ([*whole, "--out", "x", "--config", str(tmp_path / "none.toml")], "cannot be read"),
    ):
        assert main(given) == 2
        assert said in capsys.readouterr().err


def test_the_table_says_what_could_not_be_told(capsys) -> None:
    def change(before, after, low):
        return {
            "before": before,
            "after": after,
            "difference": None if before is None else after - before,
            "interval": [low, low],
            "decision": "too few to judge",
        }

    held = {"changes": {"dice_CIN2": change(0.5, 0.75, None), "mean_dice": change(None, 1, None)}}
    verdict = {"held_back": held, "reference": {**held, "synthetic": True}}
    done = SimpleNamespace(verdict=verdict, text="Accept?")
    command._say(SimpleNamespace(done=done, path="p", sha256="12"), "refused")
    said = capsys.readouterr().out
    assert "Reference, synthetic" in said
    assert "+0.250" in said
    assert "—" in said
    assert said.endswith("p (SHA-256 12): refused\n")
