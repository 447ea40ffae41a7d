"""Fine-tuning from cases to a judged candidate, within one process."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jobs.finetune_case import COLOURS, CONFIG, Made, made, made_case, truth_of
from napari_hspnet.cases import Case, Patch
from napari_hspnet.cases.lock import CaseLock
from napari_hspnet.errors import (
    CancelledError,
    HspnetError,
    InputError,
    OutOfMemoryError,
    OutputError,
    SlideError,
)
from napari_hspnet.jobs.finetune_config import finetune_config
from napari_hspnet.jobs.finetune_data import SurroundedRegion, lesson_of, opened_data
from napari_hspnet.jobs.finetune_events import Done, Judged, Prepared, Step
from napari_hspnet.jobs.finetune_job import CANDIDATE, LOCK, run_finetune
from napari_hspnet.jobs.finetune_pictures import FOLDER
from napari_hspnet.networks import HSPNet, load_checkpoint
from napari_hspnet.networks.registry import Registry
from napari_hspnet.slides import open_slide
from napari_hspnet.training.loop import DivergedError
from napari_hspnet.training.resume import SNAPSHOT, read_position


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Made:
    return made(tmp_path_factory.mktemp("secret-clinic"), 2)


def done_of(request, events=None, cancel=None) -> Done:
    told = [] if events is None else events
    done = run_finetune(request, told.append, cancel)
    assert done is not None
    return done


def test_a_candidate_comes_out_that_says_what_it_learned_from(both, tmp_path) -> None:
    events = []
    config = CONFIG.replace("stride = 48", "stride = 32")
    request = both.request(tmp_path / "out", config, epochs=2, keep=0.2, name="mine")
    done = done_of(request, events)
    prepared = next(e for e in events if isinstance(e, Prepared))
    assert "Holds back 8 regions of 1 patient" in prepared.text
    steps = [e for e in events if isinstance(e, Step)]
    assert steps[-1].step == steps[-1].of
    judged = [e for e in events if isinstance(e, Judged)]
    assert [e.epoch for e in judged] == [0, 1, 2]
    assert judged[2].figures["mean_dice"] > judged[0].figures["mean_dice"] + 0.1
    assert events[-1] == done

    parent, found = load_checkpoint(both.model), load_checkpoint(done.path)
    card = found.card
    assert (found.sha256, card.parent, card.name) == (done.sha256, parent.sha256, "mine")
    assert (card.window, card.mpp, card.mean) == (64, 1.0, parent.card.mean)
    assert not card.synthetic, "what learned from a slide that is no phantom is not synthetic"
    assert card.metrics["verdict"]["decision"] == done.decision == "too few to judge"
    assert not done.advised
    held = card.metrics["held_back"]["mean_dice"]
    assert held == pytest.approx(
        done.verdict["held_back"]["changes"]["mean_dice"]["after"], abs=1e-4
    )
    assert card.recipe["data"]["mm2"]["CIN2"]["corrected"] > 0
    assert card.recipe["keeping"]["distillation_weight"] == pytest.approx(0.4)
    said = card.to_json()
    for secret in ("secret-clinic", "patient 0", "patient 1", "Dr. A"):
        assert secret not in said
    entry = Registry(tmp_path / "models").get(done.sha256)
    assert entry.state == "candidate"
    assert Registry(tmp_path / "models").in_use() is None
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        CANDIDATE,
        FOLDER,
        "curves.csv",
        "curves.png",
        LOCK,
    ]
    assert len(done.pictures) == 8
    for place, caption in done.pictures:
        assert Path(place).parent == tmp_path / "out" / FOLDER
        assert Path(place).is_file()
        assert "Research use only" in caption
    areas = [caption.split(": ")[1].split(" mm²")[0] for _, caption in done.pictures]
    assert areas == sorted(areas, reverse=True), "what changes most comes first"
    assert load_checkpoint(both.model).sha256 == parent.sha256
    with pytest.raises(OutputError, match="holds a candidate"):
        done_of(request)


def test_statistics_of_normalisation_stay_and_a_frozen_encoder_too(both, tmp_path) -> None:
    done = done_of(both.request(tmp_path / "out", freeze_encoder=True))
    before = load_checkpoint(both.model).network.state_dict()
    after = load_checkpoint(done.path).network.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert not any("running" in key or key.startswith("encoder.") for key in changed)


def test_broken_off_it_goes_on_to_the_same_weights(both, tmp_path) -> None:
    whole = done_of(both.request(tmp_path / "a"))
    cancel = threading.Event()

    def stop_early(event) -> None:
        if isinstance(event, Step):
            cancel.set()

    request = both.request(tmp_path / "b")
    with pytest.raises(CancelledError):
        run_finetune(request, stop_early, cancel)
    position = read_position(tmp_path / "b" / SNAPSHOT)
    assert position is not None
    assert 1 <= position.step < position.steps
    with pytest.raises(InputError, match="other settings"):
        done_of(both.request(tmp_path / "b", keep=0.1))
    again = done_of(request)
    one, other = (load_checkpoint(d.path).network.state_dict() for d in (whole, again))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_small_region_is_seen_with_the_slide_around_it(both, tmp_path) -> None:
    request = both.request(tmp_path / "out", config=CONFIG.replace("side = 64", "side = 160"))
    card = load_checkpoint(both.model).card
    config = finetune_config(request.options.config, card)
    lesson = lesson_of(request, card, config)
    with opened_data(request, lesson, card) as data:
        image = data.learn[0]
        assert isinstance(image, SurroundedRegion)
        box = image.image.region.box
        assert (image.height, image.width) == (160, 160)
        rgb, labels = image.read(0, 0, 160, 160)
        inside = labels != 255
        assert inside.sum() == box.height * box.width
        np.testing.assert_array_equal(
            labels[24:136, 24:136], image.image.read_labels(0, 0, 112, 112)
        )
        source = next(s for s in both.sources if s.patient == image.patient)
        with open_slide(source.slide) as own:
            wanted = own.read_grid(box.y0 - 24, box.x0 - 24, 160, 160, 1.0)
        np.testing.assert_array_equal(rgb, wanted)
        part = image.read_labels(10, 20, 50, 60)
        np.testing.assert_array_equal(part, labels[10:60, 20:80])


def test_earlier_data_are_replayed_and_a_reference_is_judged(both, tmp_path) -> None:
    folder = tmp_path / "pairs"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for name, seed in (("a", 7), ("b", 8)):
        truth = truth_of(seed)[:128, :128]
        Image.fromarray(COLOURS[truth]).save(folder / "images" / f"{name}.png")
        Image.fromarray(truth).save(folder / "masks" / f"{name}.png")
    done = done_of(both.request(tmp_path / "out", reference=folder, replay=folder, keep=0.5))
    card = load_checkpoint(done.path).card
    assert card.recipe["keeping"]["replayed_of_a_batch"] == 1
    assert card.recipe["data"]["replayed_images"] == 2
    assert done.verdict["reference"]["units"] == 2
    assert 0 <= card.metrics["reference"]["mean_dice"] <= 1


def refused(request, kind=InputError) -> str:
    with pytest.raises(kind) as caught:
        done_of(request)
    assert isinstance(caught.value, HspnetError)
    return str(caught.value)


def test_what_teaches_nothing_is_refused(both, tmp_path) -> None:
    uncorrected = made_case(tmp_path / "same", 5, correct=False)
    out = tmp_path / "out"
    only = Made((uncorrected,), both.model)
    assert "corrected anything" in refused(only.request(out))
    one = dataclasses.replace(both.sources[0], regions=(1,))
    assert "too few regions" in refused(Made((one,), both.model).request(out))
    gone = dataclasses.replace(both.sources[0], slide=tmp_path / "gone.tiff")
    assert "gone.tiff" in refused(Made((gone,), both.model).request(out), SlideError)
    assert "No case" in refused(Made((), both.model).request(out))
    assert not out.exists()


def test_one_class_alone_is_refused(both, tmp_path) -> None:
    source = made_case(tmp_path / "single", 6)
    with Case.open(source.case, read_only=False) as case:
        shape = truth_of(6).shape
        values = np.full(shape, 3, np.uint8)
        case.editing.correct([Patch(0, 0, values, values > 0)], "Dr. A", "brush")
    said = refused(Made((source,), both.model).request(tmp_path / "out"))
    assert "one class only" in said


def test_a_loss_that_diverges_is_told_and_leaves_the_snapshot(both, tmp_path) -> None:
    config = CONFIG.replace(
        "learning_rate = 0.003", 'optimizer = "sgd"\nlearning_rate = 10.0\nclip = 0.0'
    )
    said = refused(both.request(tmp_path / "out", config=config), DivergedError)
    assert "Lower the learning rate" in said
    assert read_position(tmp_path / "out" / SNAPSHOT) is not None
    assert not (tmp_path / "out" / CANDIDATE).exists()


def test_memory_that_runs_out_is_told(both, tmp_path, monkeypatch) -> None:
    def none_left(self, x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    def train(self, mode: bool = True):
        if mode:
            self.forward = none_left.__get__(self)
        return torch.nn.Module.train(self, mode)

    monkeypatch.setattr(HSPNet, "train", train)
    assert "memory" in refused(both.request(tmp_path / "out"), OutOfMemoryError)


def test_a_full_disk_is_told_before_anything_is_learned(both, tmp_path, monkeypatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    events = []
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        done_of(both.request(tmp_path / "out"), events)
    assert not any(isinstance(e, Step) for e in events)


def test_a_registry_that_takes_nothing_leaves_all_to_be_done_again(both, tmp_path) -> None:
    request = both.request(tmp_path / "out")
    (tmp_path / "models").write_text("no folder")
    with pytest.raises(OutputError):
        done_of(request)
    assert not (tmp_path / "out" / CANDIDATE).exists()
    (tmp_path / "models").unlink()
    events = []
    done = done_of(request, events)
    assert not any(isinstance(e, Step) for e in events), "only judged once more"
    assert Registry(tmp_path / "models").get(done.sha256).state == "candidate"


def test_two_at_once_into_one_folder_are_refused(both, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    lock = CaseLock(tmp_path / "out" / LOCK)
    try:
        assert "in use by" in refused(both.request(tmp_path / "out"), OutputError)
    finally:
        lock.release()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[data]\nkind = 'mtchi'", r"\[data\] says nothing"),
        ("[recipe]\nspeed = 3", "speed"),
        ("recipe = 3", "recipe"),
        ("[[loss]]\nname = 'none'", "unknown"),
        ("x =", "no TOML"),
    ],
)
def test_a_config_that_cannot_be_is_refused(both, tmp_path, config, said) -> None:
    card = load_checkpoint(both.model).card
    with pytest.raises(InputError, match=said):
        finetune_config(config, card)


def test_a_config_has_what_a_fine_tuning_needs_by_default(both) -> None:
    card = load_checkpoint(both.model).card
    config = finetune_config("", card)
    assert (config.patches.side, config.patches.stride) == (64, 16)
    assert (config.recipe.optimizer, config.recipe.epochs) == ("adamw", 5)
    assert finetune_config("[recipe]\nepochs = 7", card, epochs=3).recipe.epochs == 3
