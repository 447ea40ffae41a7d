"""Training the demo model from end to end, on next to nothing; and what the package carries."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections import Counter

import numpy as np
import pytest
import torch

from napari_hspnet.errors import CancelledError, InputError, OutputError
from napari_hspnet.jobs import train_demo as job
from napari_hspnet.jobs.phantom_slides import judge_slide, slide_spec, ways_of, with_slide
from napari_hspnet.jobs.train_demo import DemoOptions
from napari_hspnet.networks import DEMO_ARCHITECTURE, demo_model_path, load_checkpoint, read_card
from napari_hspnet.phantom.splits import SPLITS, seeds_of, split_of
from napari_hspnet.training import Recipe, Stage, scores

SHAPE = (500, 600)
QUICK = DemoOptions(
    minutes=0.05,
    fields=2,
    field_side=160,
    validation=1,
    slides=1,
    slide_shape=SHAPE,
    recipe=Recipe(stages=(Stage(64, 2),), average=0.5),
    snapshot_minutes=0,
)


def test_a_real_if_hopeless_model_comes_out(tmp_path) -> None:
    out = tmp_path / "new" / "demo.safetensors"
    told = []
    options = dataclasses.replace(QUICK, init_seed=3, data_seed=2)
    result = job.train_demo(out, options, told.append)
    assert result.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    assert sorted(p.name for p in out.parent.iterdir()) == ["demo.safetensors"]
    assert out.stat().st_size <= 10_000_000
    model = load_checkpoint(out)
    card = model.card
    assert card == result.card
    assert card.synthetic
    assert card.architecture == DEMO_ARCHITECTURE
    assert {t.doing for t in told} >= {"judging"}
    recipe, metrics = card.recipe, card.metrics
    assert recipe["finished"] is True
    assert recipe["steps"] >= 1
    assert (recipe["init_seed"], recipe["data_seed"], recipe["domain"]) == (3, 2, "A")
    assert recipe["train_seeds"] == [2_000_000, 2_000_001]
    assert {"phantom_version", "generator_hash", "processor", "training_seconds"} <= set(recipe)
    assert set(recipe["splits"]) == set(SPLITS)
    assert (metrics["split"], metrics["slides"]) == ("test", 1)
    assert metrics["seeds"] == [SPLITS["test"]] * 2
    # The figures in the card are those of the weights in the file.
    with with_slide(slide_spec(SPLITS["test"], "A", SHAPE)) as judged:
        for way in ways_of(card)[:2]:
            counts = judge_slide(judged, model, way.settings, "cpu")
            of = metrics[way.key]
            assert of["accuracy"]["value"] == pytest.approx(scores(counts).accuracy, abs=1e-4)
            assert of["mean_dice"]["value"] == pytest.approx(scores(counts).mean_dice, abs=1e-4)
            assert of["mean_dice"]["low"] <= of["mean_dice"]["value"] <= of["mean_dice"]["high"]


def test_cancelling_after_a_snapshot_leaves_it(tmp_path) -> None:
    out = tmp_path / "demo.safetensors"
    cancel = threading.Event()

    def progress(_) -> None:
        if out.exists():
            cancel.set()

    with pytest.raises(CancelledError):
        job.train_demo(out, dataclasses.replace(QUICK, minutes=5.0), progress, cancel)
    card = read_card(out)
    assert card.recipe["finished"] is False
    assert card.metrics["split"] == "validation"
    assert {split_of(seed) for seed in card.metrics["seeds"]} == {"validation"}
    assert [p.name for p in tmp_path.iterdir()] == ["demo.safetensors"]


def test_seeds_change_what_they_say_alone(monkeypatch, tmp_path) -> None:
    """--init-seed: the network and the patches; --data-seed: the training fields."""

    class StopError(Exception):
        pass

    def begun(**change):
        seen = {}

        def draw(jobs, *_):
            seen["jobs"] = jobs
            return job_draw(jobs)

        def stop(network, source, recipe, **more):
            seen["weights"] = network.head[-1].weight.detach().clone()
            seen["seed"] = more["seed"]
            raise StopError

        monkeypatch.setattr(job, "draw_fields", draw)
        monkeypatch.setattr(job, "train", stop)
        with pytest.raises(StopError):
            job.train_demo(tmp_path / "x.safetensors", dataclasses.replace(QUICK, **change))
        return seen

    job_draw = job.draw_fields
    plain, init, data = begun(), begun(init_seed=1), begun(data_seed=1)
    assert init["jobs"] == plain["jobs"]
    assert init["seed"] != plain["seed"]
    assert not torch.equal(init["weights"], plain["weights"])
    assert data["seed"] == plain["seed"]
    assert torch.equal(data["weights"], plain["weights"])
    # The validation field comes first and stays.
    assert data["jobs"][0] == plain["jobs"][0]
    assert not {j.seed for j in data["jobs"][1:]} & {j.seed for j in plain["jobs"][1:]}


def test_an_output_that_cannot_be_written_is_found_out_first(tmp_path, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("began all the same")

    monkeypatch.setattr(job, "draw_fields", never)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        job.train_demo(tmp_path / "file" / "demo.safetensors")


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_impossible_times_are_refused(minutes) -> None:
    with pytest.raises(InputError, match="minutes"):
        DemoOptions(minutes)


@pytest.mark.parametrize(
    "change", [{"slides": 0}, {"fields": 0}, {"init_seed": -1}, {"data_seed": 1000}]
)
def test_impossible_options_are_refused(change) -> None:
    with pytest.raises(InputError):
        DemoOptions(**change)


def test_fields_of_every_data_seed_are_training_fields_of_its_own() -> None:
    ranges = [DemoOptions(data_seed=s).train_seeds(job.FIELDS_OF_A_SEED) for s in (0, 1, 999)]
    ends = [seed for r in ranges for seed in (r[0], r[-1])]
    assert {split_of(seed) for seed in ends} == {"train"}
    assert ends == sorted(ends)
    assert len(set(ends)) == 6


def test_validation_fields_are_balanced() -> None:
    grades = Counter(g for pair in job.PAIRS for g in pair)
    assert set(grades.values()) == {6}
    assert DemoOptions().validation == len(job.PAIRS)


def test_test_slides_show_every_class_on_enough_slides() -> None:
    """No class on fewer than a third of them; judging says how many of all 24."""
    from napari_hspnet.phantom import truth_block

    there = np.zeros(5, int)
    for seed in seeds_of("test", 0, 6):
        spec = slide_spec(seed)
        counts = np.bincount(truth_block(spec, 0, 0, *spec.label_shape).ravel(), minlength=5)
        there += counts >= 0.01 * counts[1:].sum()
    assert (there[1:] >= 2).all(), there


def test_the_packaged_demo_model_says_what_it_is() -> None:
    path = demo_model_path()
    assert path.stat().st_size <= 10_000_000
    model = load_checkpoint(path)
    assert model.card.synthetic
    assert model.card.name == "demo"
    assert "synthetic" in model.card.trained_on
    metrics = model.card.metrics
    assert metrics.get("slides", metrics.get("held_out_fields", 0)) >= 16
    with torch.inference_mode():
        assert torch.isfinite(model.network(torch.zeros(1, 3, 128, 128))).all()
