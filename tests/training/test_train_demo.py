"""Training the demo model from end to end, on next to nothing; and what the package carries."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest
import torch

from napari_hspnet.errors import CancelledError, InputError, OutputError
from napari_hspnet.jobs import train_demo as job
from napari_hspnet.networks import DEMO_ARCHITECTURE, demo_model_path, load_checkpoint, read_card
from napari_hspnet.phantom import phantom_field
from napari_hspnet.training import Recipe, Stage, predict_field

QUICK = {"fields": 2, "held_out": 1, "field_side": 160, "recipe": Recipe(stages=(Stage(64, 2),))}


def test_a_real_if_hopeless_model_comes_out(tmp_path) -> None:
    out = tmp_path / "new" / "demo.safetensors"
    told = []
    result = job.train_demo(
        out, minutes=0.05, seed=3, progress=told.append, snapshot_minutes=0, **QUICK
    )
    assert result.sha256 == hashlib.sha256(out.read_bytes()).hexdigest()
    assert sorted(p.name for p in out.parent.iterdir()) == ["demo.safetensors"]
    assert out.stat().st_size <= 10_000_000
    model = load_checkpoint(out)
    card = model.card
    assert card == result.card
    assert card.synthetic
    assert card.architecture == DEMO_ARCHITECTURE
    assert card.recipe["finished"] is True
    assert card.recipe["steps"] >= 1
    assert card.metrics["held_out_fields"] == 1
    assert 0 <= card.metrics["plain"]["mean_dice"] <= 1
    assert {t.doing for t in told} >= {"judging"}
    # The figures in the card are those of the weights in the file.
    field = phantom_field(job.HELD_OUT_SEED, 160, 160, 1.0, job._PAIRS[0])
    predicted = predict_field(model.network, card, field.rgb, None)
    inside = field.truth > 0
    accuracy = np.mean(predicted[inside] == field.truth[inside])
    assert card.metrics["plain"]["accuracy"] == pytest.approx(accuracy, abs=5e-3)


def test_cancelling_after_a_snapshot_leaves_it(tmp_path) -> None:
    out = tmp_path / "demo.safetensors"
    cancel = threading.Event()

    def progress(_) -> None:
        if out.exists():
            cancel.set()

    with pytest.raises(CancelledError):
        job.train_demo(out, 5.0, progress=progress, cancel=cancel, snapshot_minutes=0, **QUICK)
    card = read_card(out)
    assert card.recipe["finished"] is False
    assert [p.name for p in tmp_path.iterdir()] == ["demo.safetensors"]


def test_an_output_that_cannot_be_written_is_found_out_first(tmp_path, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("began all the same")

    monkeypatch.setattr(job, "_draw", never)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        job.train_demo(tmp_path / "file" / "demo.safetensors", 1.0)


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_impossible_times_are_refused(minutes, tmp_path) -> None:
    with pytest.raises(InputError, match="minutes"):
        job.train_demo(tmp_path / "x.safetensors", minutes)


def test_held_out_fields_are_balanced_and_apart() -> None:
    grades = [g for i in range(job.HELD_OUT) for g in job._PAIRS[i % len(job._PAIRS)]]
    assert {grades.count(c) for c in (1, 2, 3, 4)} == {len(grades) // 4}
    assert job.HELD_OUT >= 16
    assert max(job._training_seed(s, 99_999) for s in (0, 999, 12_345, -1)) < job.HELD_OUT_SEED


def test_the_packaged_demo_model_says_what_it_is() -> None:
    path = demo_model_path()
    assert path.stat().st_size <= 10_000_000
    model = load_checkpoint(path)
    assert model.card.synthetic
    assert model.card.name == "demo"
    assert "synthetic" in model.card.trained_on
    assert model.card.metrics["held_out_fields"] >= 16
    with torch.inference_mode():
        assert torch.isfinite(model.network(torch.zeros(1, 3, 128, 128))).all()
