"""The paper's tables on tiny phantoms: each pipeline, what is kept, what is said."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from jobs.mtchi_files import write_mtchi
from napari_hspnet.errors import CheckpointError, DependencyError, InputError, OutputError
from napari_hspnet.jobs import reproduce as job
from napari_hspnet.jobs.judging import PLAIN, Judged
from napari_hspnet.jobs.reproduce import Reproduction, reproduce
from napari_hspnet.jobs.reproduce_rows import TABLES, table_named
from napari_hspnet.jobs.reproduce_scale import FULL, NO_RANKING, QUICK, PhantomPlan
from napari_hspnet.jobs.reproduce_tables import Filled, Outcome, markdown, result_table
from napari_hspnet.networks import load_checkpoint
from napari_hspnet.phantom.splits import split_of
from napari_hspnet.training.paper_rows import TABLE_2, TABLE_3, TABLE_4, TABLE_5

TINY = replace(QUICK, side=64, stride=64, phantoms=PhantomPlan(5, 3, 128))


def wanted(*tables: str, **others) -> Reproduction:
    return Reproduction(tables, TINY, **{"device": "cpu", "workers": 0, **others})


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Every table, tiny, in one folder."""
    out = tmp_path_factory.mktemp("reproduced") / "out"
    outcomes = reproduce(wanted(*TABLES), out)
    return out, {outcome.table.name: outcome for outcome in outcomes}


@pytest.mark.parametrize("name", TABLES)
def test_each_table_is_filled_and_says_that_it_ranks_nothing(done, name) -> None:
    out, outcomes = done
    outcome = outcomes[name]
    assert all(f is not None and not f.problem for f in outcome.filled)
    text = (out / f"{name}.md").read_text()
    assert NO_RANKING in text
    assert "Research use only" in text
    assert "synthetic phantoms" in text
    stand_ins = text.count("(tiny stand-in)") + text.count("(full size, a few steps)")
    assert stand_ins == len(outcome.table.rows)
    for one in outcome.table.lacking:
        assert one.why in text
    document = json.loads((out / f"{name}.json").read_text())
    assert document["ranks_nothing"]
    assert document["synthetic"]
    assert [row["state"] for row in document["rows"]] == ["done"] * len(outcome.table.rows)
    for row in document["rows"]:
        dice = row["figures"]["mean_dice"]
        assert 0 <= dice["value"] <= 1
        assert dice["low"] <= dice["value"] <= dice["high"]
    heads, *rows = result_table(outcome)
    assert all(len(row) == len(heads) for row in rows)


def test_tables_share_what_they_have_in_common(done) -> None:
    out, outcomes = done
    trained = {p.parent.name for p in (out / "models").glob("*/model.safetensors")}
    single = [t for t in TABLES.values() if not t.folds]
    assert trained == {f"{row.model.key}-seed-0" for table in single for row in table.rows}
    shared = "hspnet-resnet101-ce"
    found = [
        f.seeds[0].counts
        for table in single
        for row, f in zip(table.rows, outcomes[table.name].filled, strict=True)
        if (row.model.key, row.way) == (shared, PLAIN)
    ]
    assert len(found) == 4
    assert all(np.array_equal(found[0], other) for other in found)


def test_cross_validation_has_four_folds_and_their_spread(done) -> None:
    _, outcomes = done
    outcome = outcomes["table2"]
    heads, *rows = result_table(outcome)
    ours, paper = heads.index("Dice, mean ± spread of folds"), heads.index("paper's")
    for row, found, line in zip(outcome.table.rows, outcome.filled, rows, strict=True):
        (each,) = found.folds.values()
        assert len(each) == 4
        assert line[ours] == f"{np.mean(each):.4f} ± {np.std(each, ddof=1):.4f}"
        assert line[paper] == f"{row.paper.dice:.4f} ± {row.paper.spread:.4f}"
        assert len(found.seeds[0].names) == len(set(found.seeds[0].names)) == 8


def test_phantoms_to_train_and_to_test_on_are_apart_and_known_as_such(done) -> None:
    out, _ = done
    for part, split, count in (("Training", "train", 5), ("Test", "test", 3)):
        files = list((out / f"data/Task2/{part}/Img").glob("*.png"))
        assert len(files) == count
        assert {split_of(int(f.name[6:16])) for f in files} == {split}
    said = json.loads((out / "data/Task2/phantom.json").read_text())
    assert {split_of(seed) for seed in said["seeds"]["Test"]} == {"test"}
    card = load_checkpoint(out / "models/hspnet-resnet34-ce-seed-0/model.safetensors").card
    assert card.synthetic
    assert card.trained_on.startswith("phantom fields (synthetic)")
    assert card.recipe["data"]["phantom"]["generator_hash"] == said["generator_hash"]
    evaluation = out / "models/hspnet-resnet34-ce-seed-0/plain/evaluation.json"
    assert json.loads(evaluation.read_text())["paper_table_5"] is None, "not the paper's data"


def test_run_again_nothing_is_done_again_and_a_seed_can_be_added(done, monkeypatch) -> None:
    out, outcomes = done
    kept = (out / "table3.md").read_text()
    files = [p for p in out.rglob("model.safetensors") if "folds" not in p.parts]
    before = {p: p.stat().st_mtime_ns for p in files}
    told: list[str] = []
    reproduce(wanted("table3"), out, tell=lambda doing, *_: told.append(doing))
    assert told == []
    assert (out / "table3.md").read_text() == kept
    (outcome,) = reproduce(wanted("table3", seeds=(0, 1)), out)
    assert {p: p.stat().st_mtime_ns for p in files} == before
    assert [list(f.seeds) for f in outcome.filled] == [[0, 1]] * 4
    first = outcomes["table3"].filled[0].seeds[0].counts
    assert np.array_equal(outcome.filled[0].seeds[0].counts, first)
    assert not np.array_equal(outcome.filled[0].seeds[1].counts, first)


def test_other_settings_are_refused(done, tmp_path) -> None:
    out, _ = done
    with pytest.raises(OutputError, match="epochs is 1, not 2"):
        reproduce(replace(wanted("table3"), scale=replace(TINY, epochs=2)), out)
    with pytest.raises(OutputError, match="data is phantoms, not"):
        reproduce(wanted("table3", mtchi=tmp_path), out)


def test_a_folder_of_other_phantoms_is_refused(tmp_path) -> None:
    (tmp_path / "data" / "Task2").mkdir(parents=True)
    (tmp_path / "data" / "Task2" / "phantom.json").write_text("{}")
    with pytest.raises(OutputError, match="other phantoms"):
        reproduce(wanted("table3"), tmp_path)


CODE = """
import torch
from dataclasses import replace
from napari_hspnet.jobs.reproduce import Reproduction, reproduce
from napari_hspnet.jobs.reproduce_scale import PhantomPlan, QUICK
if __name__ == "__main__":
    torch.set_num_threads(1)
    scale = replace(QUICK, side=64, stride=64, phantoms=PhantomPlan(5, 3, 128))
    reproduce(Reproduction(("table3",), scale, device="cpu", workers=0), {out!r})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_between_rows_it_goes_on_to_the_same_table(done, tmp_path) -> None:
    whole, _ = done
    out, script = tmp_path / "out", tmp_path / "run.py"
    script.write_text(CODE.format(out=str(out)))
    child = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    table = out / "table3.json"
    end = time.monotonic() + 120
    while time.monotonic() < end and child.poll() is None and not table.exists():
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    states = [row["state"] for row in json.loads(table.read_text())["rows"]]
    assert states[0] == "done"
    assert "not yet" in states
    model = out / "models/hspnet-resnet101-ce-ds-none-seed-0/model.safetensors"
    before = model.stat().st_mtime_ns
    (outcome,) = reproduce(wanted("table3"), out)
    assert model.stat().st_mtime_ns == before
    assert all(f is not None and not f.problem for f in outcome.filled)
    again = json.loads(table.read_text())["rows"]
    (two,) = reproduce(wanted("table3"), whole)
    assert [r["confusion"] for r in again] == [
        {"0": np.sum(f.seeds[0].counts, axis=0).tolist()} for f in two.filled
    ]


def test_a_row_without_its_library_has_a_reason_and_the_others_figures(
    done, tmp_path, monkeypatch
) -> None:
    out, _ = done
    real = job.train_model

    def lacking(config, *rest, **options):
        if config.architecture.name == "unetpp":
            raise DependencyError("no such library here", advice="Install it")
        return real(config, *rest, **options)

    monkeypatch.setattr(job, "train_model", lacking)
    (outcome,) = reproduce(wanted("table5"), out)
    problems = [f.problem for f in outcome.filled]
    assert "no such library here" in problems[3]
    assert not any(problems[:3] + problems[4:])
    assert "Row 4 has no figures: no such library here" in markdown(outcome)
    assert json.loads((out / "table5.json").read_text())["rows"][3]["state"] == "none"


def test_the_same_runs_on_data_in_mtchis_layout(tmp_path) -> None:
    data = write_mtchi(tmp_path / "MTCHI")
    (outcome,) = reproduce(wanted("table4", mtchi=data), tmp_path / "out")
    assert not outcome.synthetic
    text = markdown(outcome)
    assert "synthetic" not in text
    assert "intervals by patient (2)" in text
    card = load_checkpoint(tmp_path / "out/models/hspnet-resnet34-ce-seed-0/model.safetensors").card
    assert not card.synthetic
    with pytest.raises(InputError, match="Task2/Training"):
        reproduce(wanted("table4", mtchi=tmp_path / "nothing"), tmp_path / "other")


def test_missing_imagenet_weights_are_said_before_anything_is_trained(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    full = Reproduction(("table5",), FULL.for_mtchi(), write_mtchi(tmp_path / "M"), device="cpu")
    with pytest.raises(CheckpointError, match="not on this machine"):
        reproduce(full, tmp_path / "out")
    assert not (tmp_path / "out" / "models").exists()


def test_every_row_of_the_paper_is_there_or_lacks_for_a_reason() -> None:
    for name, paper in (
        ("table2", TABLE_2),
        ("table3", TABLE_3),
        ("table4", TABLE_4),
        ("table5", TABLE_5),
    ):
        table = TABLES[name]
        rows = [row.paper for row in table.rows if row.paper is not None]
        lacking = [row for one in table.lacking for row in one.rows]
        assert set(paper) <= {*rows, *lacking}, name
        assert not set(rows) & set(lacking)


def test_the_full_setting_is_the_papers_recipe() -> None:
    keys = {}
    for table in TABLES.values():
        for row in table.rows:
            assert keys.setdefault(row.model.key, row.model) == row.model, "a key is one model's"
            config = FULL.for_mtchi().config(row.model, 1, "x")
            assert (config.patches.side, config.patches.stride) == (400, 100)
            assert config.patches.min_foreground == 0.2
            assert (config.recipe.batch, config.recipe.epochs) == (16, 30)
            assert config.network.encoder_weights == "imagenet"
            assert config.architecture.encoder == row.model.encoder
            assert (config.seeds.init, config.seeds.patches) == (1, 1)
            if not row.model.adamw:
                recipe = config.recipe
                assert (recipe.optimizer, recipe.schedule) == ("sgd", "cosine")
                assert recipe.learning_rate * recipe.encoder_factor == pytest.approx(0.001)
    by_key = {k: FULL.config(m, 0, "x").architecture for k, m in keys.items()}
    assert by_key["hspnet-resnet101-ce-ds-1-4"].ds_blocks == (True,) * 4 + (False,)
    aware = by_key["hspnet-resnet101-ce-window-aware"].ds_dilations
    assert aware[2:4] == ((4, 8, 12), (2, 4, 6))
    assert FULL.phantoms.train >= 100
    with pytest.raises(InputError, match="no table 'table6'"):
        table_named("table6")
    with pytest.raises(InputError, match="each once"):
        reproduce(Reproduction(("table3",), TINY, seeds=(0, 0)), "never")


def made(values, patients=("a", "b", "c", "d")) -> Judged:
    counts = tuple(np.diag([0, v, v, v, v]) + np.eye(5, k=1, dtype=int) * 10 for v in values)
    return Judged(tuple(f"i{p}" for p in patients), patients, counts, 1_234_567)


def test_the_cells_of_a_table_are_what_they_say() -> None:
    base, better = made([10, 20, 30, 40]), made([20, 30, 40, 50])
    filled = (Filled({0: base, 1: base}, {}), Filled({0: better, 1: base}, {}), None,
              Filled({0: base, 1: base}, {}))  # fmt: skip
    outcome = Outcome(TABLES["table3"], FULL, filled, True, "cpu")
    heads, *rows = result_table(outcome)
    apart = heads.index("Dice less row 4's")
    assert rows[0][apart] == "+0.0000 [+0.0000, +0.0000]"
    mean, low, high = (float(v.strip("[],")) for v in rows[1][apart].split())
    assert 0 < low <= mean <= high
    each = [float(v) for v in rows[1][heads.index("Dice of each seed")].split()]
    assert float(rows[1][heads.index("Dice")].split()[0]) == pytest.approx(np.mean(each), abs=1e-4)
    assert mean == pytest.approx(np.mean(each) - float(rows[0][4].split()[0]), abs=2e-4)
    assert rows[2][3] == "not yet"
    assert rows[3][apart] == ""
    assert rows[3][heads.index("paper's Dice")] == "0.7390"
    assert rows[0][3] == "1.23"
    assert NO_RANKING not in markdown(outcome)
    assert math.isfinite(mean)
