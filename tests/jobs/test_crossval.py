"""Cross-validation: who is in which fold, what is kept, what the table says."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import statistics
import threading

import numpy as np
import pytest
import torch

from jobs.mtchi_files import TEST, TRAINING, block_image, quick_config, save, write_mtchi
from napari_hspnet.errors import CancelledError, InputError, OutputError
from napari_hspnet.jobs import crossval as job
from napari_hspnet.jobs.crossval import cross_validate, fold_table
from napari_hspnet.jobs.judging import GAUSS, PLAIN
from napari_hspnet.networks import read_card
from napari_hspnet.training.agreement import figures
from napari_hspnet.training.config import DataConfig, SeedConfig, ValidationConfig

EVERYBODY = {name.split("-")[0] for name in (*TRAINING, *TEST)}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def mtchi(tmp_path_factory):
    return write_mtchi(tmp_path_factory.mktemp("data") / "MTCHI")


@pytest.fixture(scope="module")
def crossed(mtchi, tmp_path_factory):
    out = tmp_path_factory.mktemp("crossed") / "out"
    config = quick_config(DataConfig("mtchi", folder=str(mtchi)), name="mine")
    said: list[str] = []
    return config, out, cross_validate(config, out, say=said.append), said


def documents(out, way=PLAIN, count=4):
    return [
        json.loads((out / f"fold-{n}" / way.name / "evaluation.json").read_text())
        for n in range(1, count + 1)
    ]


def test_folds_share_no_patient_and_the_test_part_is_the_first(crossed) -> None:
    _, out, cross, said = crossed
    assert len(cross.patients) == 4
    assert sorted(p for part in cross.patients for p in part) == sorted(EVERYBODY)
    assert cross.patients[0] == ("T1", "T2")
    assert any("4 folds of 2, 2, 2, 2 patients" in line for line in said)
    assert json.loads((out / "folds.json").read_text())["folds"] == [
        list(part) for part in cross.patients
    ]


def test_each_network_is_judged_on_patients_that_it_has_not_seen(crossed) -> None:
    _, out, cross, _ = crossed
    for number, (patients, document) in enumerate(
        zip(cross.patients, documents(out), strict=True), start=1
    ):
        facts = read_card(out / f"fold-{number}" / "model.safetensors").recipe["data"]
        seen = set(facts["patients_sha256"])
        own = {hashlib.sha256(p.encode()).hexdigest()[:12] for p in patients}
        assert not seen & own
        assert len(seen | own) == len(EVERYBODY)
        assert {image["patient"] for image in document["images"]} == set(patients)
        assert document["model"]["name"] == f"mine-fold-{number}"


def test_the_table_says_mean_spread_and_pooled_beside_the_paper(crossed) -> None:
    _, out, cross, _ = crossed
    table = fold_table(cross)
    rows = {row[0]: row for row in table}
    for way, how in ((PLAIN, "plain"), (GAUSS, "Gauss-like, stride 16, sigma 8")):
        found = documents(out, way)
        dice = [d["figures"]["masked"]["pooled"]["mean_dice"]["value"] for d in found]
        assert rows[f"2, {how}"][3] == f"{dice[1]:.4f}"
        mean, deviation = statistics.mean(dice), statistics.stdev(dice)
        assert rows[f"mean ± spread of folds, {how}"][3] == f"{mean:.4f} ± {deviation:.4f}"
        whole = figures(np.sum([d["confusion"] for d in found], axis=0))
        pooled = rows[f"all pooled, {how}"]
        assert pooled[1:3] == ["8", "11"]
        assert pooled[3].startswith(f"{whole['mean_dice']:.4f} [")
        assert pooled[5].startswith(f"{whole['accuracy']:.4f} [")
    assert rows["paper, Table 2: HSP-Net (CE)"][3] == "0.5125 ± 0.1551"
    text = (out / "crossval.md").read_text()
    assert "Research use only" in text
    assert "intervals by patient (8)" in text
    assert (out / "crossval.csv").read_text().startswith("fold,")


def test_run_again_nothing_is_trained_or_judged_again(crossed) -> None:
    config, out, cross, _ = crossed
    files = {p: p.stat().st_mtime_ns for p in out.rglob("fold-*/**/*") if p.is_file()}
    steps: list[str] = []
    again = cross_validate(config, out, tell=lambda doing, *_: steps.append(doing))
    assert steps == []
    assert fold_table(again) == fold_table(cross)
    assert {
        p: p.stat().st_mtime_ns
        for p in out.rglob("fold-*/**/*")
        if p.is_file() and p.suffix != ".lock"
    } == {p: t for p, t in files.items() if p.suffix != ".lock"}


def test_an_evaluation_of_another_model_is_made_anew(crossed, tmp_path) -> None:
    config, out, cross, _ = crossed
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    other = (copy / "fold-1" / PLAIN.name / "evaluation.json").read_text()
    (copy / "fold-2" / PLAIN.name / "evaluation.json").write_text(other)
    (copy / "fold-2" / f".{PLAIN.name}.0123.part").mkdir()  # as a kill leaves it
    again = cross_validate(config, copy)
    assert fold_table(again) == fold_table(cross)
    assert not list(copy.rglob(".*.part"))


def test_stopped_between_folds_it_goes_on_with_the_next(mtchi, tmp_path, monkeypatch) -> None:
    config = quick_config(DataConfig("mtchi", folder=str(mtchi)))
    real, cancel = job.judged, threading.Event()

    def stop(model, *rest, **options):
        found = real(model, *rest, **options)
        cancel.set()
        return found

    monkeypatch.setattr(job, "judged", stop)
    with pytest.raises(CancelledError):
        cross_validate(config, tmp_path, ways=(PLAIN,), cancel=cancel)
    monkeypatch.undo()
    first = tmp_path / "fold-1" / "model.safetensors"
    before = first.stat().st_mtime_ns
    assert not (tmp_path / "fold-2" / "model.safetensors").exists()
    cross = cross_validate(config, tmp_path, ways=(PLAIN,))
    assert first.stat().st_mtime_ns == before
    assert len(cross.found[PLAIN]) == 4
    whole = cross_validate(config, tmp_path / "whole", ways=(PLAIN,))
    assert fold_table(whole) == fold_table(cross)


def test_another_config_number_or_other_patients_are_refused(crossed, mtchi, tmp_path) -> None:
    config, out, _, _ = crossed
    with pytest.raises(OutputError, match=r"4 folds .* this one has 3"):
        cross_validate(config, out, count=3)
    other = dataclasses.replace(config, seeds=SeedConfig(init=1))
    with pytest.raises(OutputError, match="another folder"):
        cross_validate(other, out)
    shutil.copytree(mtchi, tmp_path / "MTCHI")
    fewer = quick_config(DataConfig("mtchi", folder="MTCHI"))
    begun = tmp_path / "out"
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        cross_validate(fewer, begun, base=tmp_path, cancel=cancel)
    for path in (tmp_path / "MTCHI").rglob("*_B6-1-A.png"):
        path.unlink()
    with pytest.raises(OutputError, match="patients are not those"):
        cross_validate(fewer, begun, base=tmp_path)


def test_pairs_with_a_list_of_patients(tmp_path) -> None:
    for number in range(6):
        rgb, truth = block_image(number)
        save(tmp_path / f"pairs/images/{number}.png", rgb)
        save(tmp_path / f"pairs/masks/{number}.png", truth)
    rows = "".join(f"{n},P{n // 2}\n" for n in range(6))
    (tmp_path / "pairs" / "patients.csv").write_text(f"name,patient\n{rows}")
    said: list[str] = []
    config = quick_config(
        DataConfig("pairs", folder="pairs"), validation=ValidationConfig(share=0.3)
    )
    cross = cross_validate(
        config, tmp_path / "out", base=tmp_path, count=3, ways=(PLAIN,), say=said.append
    )
    assert sorted(cross.patients) == [("P0",), ("P1",), ("P2",)]
    assert not cross.mtchi
    assert not any("paper" in row[0] for row in fold_table(cross))
    assert any("[validation] of the config is left out" in line for line in said)
    with pytest.raises(InputError, match="3 patients, fewer than 4"):
        cross_validate(config, tmp_path / "four", base=tmp_path, count=4)


def test_phantoms_drawn_on_the_way_are_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="reproduce table2 --phantom"):
        cross_validate(quick_config(DataConfig("phantom", fields=4)), tmp_path / "out")
