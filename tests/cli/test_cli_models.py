"""``napari-hspnet models`` as a user types it: what it prints, writes and refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from napari_hspnet.cli import main
from napari_hspnet.networks import Architecture, ModelCard, build, models_folder, save_checkpoint

from cli.case_made import refused

TINY = Architecture(
    encoder="small", ds_widths=(2,) * 5, head_widths=(2, 2), encoder_widths=(2, 2, 2, 2)
)
CARD = ModelCard("ward", TINY, metrics={"mean_dice": 0.61}, recipe={"lr": 0.001})


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    return models_folder()


@pytest.fixture
def models(capsys):
    def run(*arguments):
        code = main(["models", *map(str, arguments)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def done(models):
    def run(*arguments):
        code, out, err = models(*arguments)
        assert code == 0, err
        return out

    return run


@pytest.fixture(scope="module")
def networks():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = build(TINY), build(TINY)
        second.load_state_dict(first.state_dict())
        with torch.no_grad():
            second.head[2].weight.add_(1.0)
    return first.eval(), second.eval()


@pytest.fixture
def two(networks, done, tmp_path):
    """A model and its fine-tuned child, imported; gives their hashes."""
    first = save_checkpoint(tmp_path / "ward.safetensors", networks[0], CARD)
    child = replace(CARD, name="ward-2", parent=first, recipe={"lr": 0.01}, metrics={})
    second = save_checkpoint(tmp_path / "ward-2.safetensors", networks[1], child)
    for name in ("ward", "ward-2"):
        done("import", tmp_path / f"{name}.safetensors", "--by", "Ann", "--note", "mine")
    return first, second


def row(table, name):
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_list_shows_state_parent_and_dice_and_marks_synthetic(two, done) -> None:
    table = done("list")
    first, second = row(table, "ward"), row(table, "ward-2")
    assert first[1] == two[0][:8]
    assert first[3:] == ["-", "0.610", "-", "candidate", ""]
    assert second[3:] == [two[0][:8], "-", "-", "candidate", ""]
    assert "synthetic" in row(table, "demo")[-1]
    done("use", "ward-2", "--by", "Ann")
    table = done("list")
    assert "IN USE" in row(table, "ward-2")[-1]
    assert "IN USE" not in row(table, "ward")[-1]


def test_the_list_as_json(two, done) -> None:
    done("use", two[0][:6], "--by", "Ann")
    said = json.loads(done("list", "--json"))
    assert said["notice"] == "Research use only"
    found = {one["name"]: one for one in said["models"]}
    assert (found["ward"]["sha256"], found["ward"]["in_use"]) == (two[0], True)
    assert found["ward"]["mean_dice"] == {"held_back": 0.61, "reference": None}
    assert found["ward-2"]["parent"] == two[0]
    assert found["demo"]["synthetic"] is True
    acts = json.loads(done("list", "--history", "--json"))["history"]
    assert [act["what"] for act in acts] == ["added", "added", "used"]


def test_going_back_is_one_command_and_the_history_tells_it(two, done) -> None:
    for name in ("ward", "ward-2", "ward"):
        done("use", name, "--by", "Ann")
    lines = done("list", "--history").splitlines()
    assert [line.split()[0] for line in lines] == ["ward", "ward-2", "ward", "ward-2", "ward"]
    assert "Ann: taken into use" in lines[-1]


def test_a_model_is_shown_in_words_and_as_json(two, done) -> None:
    text = done("show", "ward-2")
    for words in ("Research use only", "candidate", "Ann: added: mine", two[1], "1. ward, `"):
        assert words in text
    said = json.loads(done("show", "ward-2", "--json"))
    assert said["card"]["recipe"] == {"lr": 0.01}
    assert said["ancestors"] == [{"sha256": two[0], "name": "ward"}]


def test_two_models_are_compared(two, done) -> None:
    table = done("diff", "ward", "ward-2")
    assert "| recipe" in table
    assert "| 0.01" in table
    assert "window" not in table
    assert row(table, "encoder")[2] == "0.0%"
    assert row(table, "head")[2] != "0.0%"
    said = json.loads(done("diff", "ward", "ward-2", "--json"))
    assert {"section": "recipe", "key": "lr", "first": 0.001, "second": 0.01} in said["differences"]
    assert {one["part"] for one in said["weights"]} >= {"encoder", "DS-Block 1", "head"}


def test_cards_are_compared_where_weights_cannot_be(two, models) -> None:
    code, table, err = models("diff", "ward", "demo")
    assert code == 0
    assert "| architecture" in table
    assert "different architectures" in err


def test_an_export_and_its_card_say_research_use_only(two, done, models, tmp_path) -> None:
    out = tmp_path / "out.safetensors"
    assert done("export", "ward", "--out", out).split() == [str(out), str(out.with_suffix(".md"))]
    assert "Research use only" in out.with_suffix(".md").read_text()
    refused(models("export", "ward", "--out", out), "already", "--overwrite", str(out))
    alone = tmp_path / "alone.md"
    done("export", "ward", "--out", alone, "--card-only")
    assert sorted(path.name for path in tmp_path.glob("alone*")) == ["alone.md"]


def test_what_is_wrong_is_said_in_one_line(two, models, home, tmp_path) -> None:
    refused(models("show", "wart"), "wart", "ward")
    refused(models("use", "ward", "--by", " "), "nobody", "--by")
    refused(models("import", tmp_path / "absent.safetensors", "--by", "Ann"), "no such checkpoint")
    (home / f"{two[0]}.model.json").write_text("{")
    refused(models("use", two[0], "--by", "Ann"), "damaged", "models import")
    code, out, err = models("list")
    assert code == 0
    assert "PROBLEM" in row(out, "ward")[-1]
    assert "damaged" in err
    assert row(out, "ward-2")[-1] == ""


def test_an_ambiguous_name_is_refused(two, models, done, networks, tmp_path) -> None:
    path = tmp_path / "again.safetensors"
    sha256 = save_checkpoint(path, networks[1], CARD)
    done("import", path, "--by", "Ann")
    refused(models("use", "ward", "--by", "Ann"), two[0][:8], sha256[:8], "hash")


def decided(done, name):
    found = {one["name"]: one for one in json.loads(done("list", "--json"))["models"]}
    return found[name]


def test_a_model_is_accepted_and_refused_under_a_name(two, done) -> None:
    assert done("accept", "ward-2", "--by", "Ann", "--note", "seen on ten slides") == (
        f"Accepted: ward-2 ({two[1][:8]})\n"
    )
    assert row(done("list"), "ward-2")[-2:] == ["accepted", ""], "in use is another matter"
    act = decided(done, "ward-2")["acts"][-1]
    assert (act["what"], act["by"], act["note"]) == ("accepted", "Ann", "seen on ten slides")
    assert done("refuse", "ward-2", "--by", "Ben", "--note", "misses CIN3").startswith("Refused")
    assert row(done("list"), "ward-2")[-2] == "refused"
    assert "Ben: refused: misses CIN3" in done("list", "--history")


def test_a_refused_model_is_accepted_only_where_one_insists(two, models, done) -> None:
    done("refuse", "ward-2", "--by", "Ben", "--note", "misses CIN3")
    refused(models("accept", "ward-2", "--by", "Ann"), "Ben", "misses CIN3", "--anyway")
    assert row(done("list"), "ward-2")[-2] == "refused"
    done("accept", "ward-2", "--by", "Ann", "--anyway")
    assert row(done("list"), "ward-2")[-2] == "accepted"


def test_what_the_gate_refuses_is_accepted_only_where_one_insists(
    networks, models, done, tmp_path
) -> None:
    changes = {"dice_CIN3": {"decision": "worse", "after": 0.1}}
    verdict = {"decision": "worse", "refused": True, "held_back": {"changes": changes}}
    card = replace(CARD, name="worse", metrics={"verdict": verdict})
    save_checkpoint(tmp_path / "worse.safetensors", networks[1], card)
    done("import", tmp_path / "worse.safetensors", "--by", "Ann")
    refused(models("accept", "worse", "--by", "Ann"), "gate", "worse", "--anyway")
    done("accept", "worse", "--by", "Ann", "--anyway")
    act = decided(done, "worse")["acts"][-1]
    assert act["state"] == "accepted"
    assert act["figures"] == verdict, "what it was accepted in spite of is kept"


def test_what_is_in_use_or_nobody_decides_is_not_changed(two, models, done) -> None:
    done("use", "ward", "--by", "Ann")
    refused(models("refuse", "ward", "--by", "Ben"), "in use", "models use")
    refused(models("accept", "ward", "--by", " "), "nobody", "--by")
    assert done("accept", "ward", "--by", "Ann").endswith("in use\n")
    code, out, err = models("accept", "demo", "--by", "Ann")
    assert (code, out[:8]) == (0, "Accepted")
    assert "DEMO MODEL" in err


def test_the_list_says_when_a_model_came(two, done) -> None:
    added = decided(done, "ward")["added"]
    assert decided(done, "ward")["acts"][0]["when"] == added
    assert row(done("list"), "ward")[2] == added[:10]
