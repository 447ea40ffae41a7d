"""Judging on phantom slides: what is counted, what stays on disk, what is refused."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import threading

import numpy as np
import pytest
import torch

from napari_hspnet.errors import CancelledError, DependencyError, InputError
from napari_hspnet.jobs.judge_phantom import JudgeOptions, generator, judge_phantom
from napari_hspnet.jobs.phantom_slides import judge_slide, slide_spec, ways_of, with_slide
from napari_hspnet.networks import Architecture, LoadedModel, ModelCard, build
from napari_hspnet.phantom.splits import seeds_of, split_of
from napari_hspnet.training import scores

SHAPE = (500, 700)
QUICK = JudgeOptions(
    slides=2, train_fields=2, field_side=240, per_class=150, trees=6, shape=SHAPE, device="cpu"
)


def slides_in(folder) -> list:
    """PyTorch keeps a folder of its own among temporary files."""
    return list(folder.glob("hspnet-phantom-*"))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary files go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def tiny(tmp_path, mpp: float = 1.0) -> LoadedModel:
    shape = Architecture(
        encoder="small", ds_widths=(4,) * 5, head_widths=(4, 4), encoder_widths=(4, 4, 8, 8)
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(shape).eval()
    card = ModelCard("tiny", shape, window=128, mpp=mpp)
    return LoadedModel(network, card, "0" * 64, tmp_path / "tiny.safetensors")


class Always(torch.nn.Module):
    """Answers one channel everywhere."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self._channel = channel

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(x.shape[0], 5, *x.shape[2:])
        out[:, self._channel] = 9.0
        return out


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("judged")
        patch.setattr(tempfile, "tempdir", str(folder))
        told = []
        model = tiny(folder)
        yield judge_phantom(model, QUICK, told.append), told
        assert slides_in(folder) == []


def test_every_answer_is_there_in_its_order(judged) -> None:
    judgement, _ = judged
    assert [row.key for row in judgement.rows] == [
        "constant",
        "pixel_colour",
        "wide_colour",
        "texture",
        "plain",
        "gaussian_stride_64",
        "gaussian_stride_32",
    ]
    assert all(len(row.counts) == 2 for row in judgement.rows)


def test_the_model_is_judged_on_all_annotated_pixels_and_forests_on_a_sixteenth(judged) -> None:
    judgement, _ = judged
    truth = np.array(list(judgement.about["pixels_of_class"].values()))
    for row in judgement.rows:
        there = sum(c.sum(axis=1)[1:] for c in row.counts)
        if row.key in ("pixel_colour", "wide_colour", "texture"):
            assert there.sum() == pytest.approx(truth.sum() / 16, rel=0.05)
            assert sum(c[:, 0].sum() + c[0].sum() for c in row.counts) == 0
        else:
            np.testing.assert_array_equal(there, truth)


def test_the_document_holds_all_figures(judged) -> None:
    judgement, _ = judged
    document = json.loads(json.dumps(judgement.to_json(), allow_nan=False))
    assert document["notice"] == "Research use only"
    assert document["split"] == "test"
    assert {split_of(seed) for seed in document["seeds"]} == {"test"}
    assert {split_of(seed) for seed in document["forests"]["seeds"]} == {"train"}
    assert document["phantom_version"] == generator()["phantom_version"]
    for row in judgement.rows:
        written = document["rows"][row.key]
        counts = np.array(written["per_slide"])
        assert counts.shape == (2, 5, 5)
        assert written["mean_dice"]["value"] == pytest.approx(
            scores(counts.sum(axis=0)).mean_dice, abs=1e-4
        )
    assert set(document["mean_dice_gained_by_last_row_over"]) == {
        row.key for row in judgement.rows[:-1]
    }


def test_progress_goes_forward_and_says_what_is_left(judged) -> None:
    _, told = judged
    stages = list(dict.fromkeys(t.doing for t in told))
    assert stages == ["drawing training fields", "growing forests", "judging"]
    for stage in stages:
        parts = [t.fraction for t in told if t.doing == stage]
        assert parts == sorted(parts)
        assert parts[-1] == 1.0
    assert all(t.remaining is not None for t in told if t.fraction > 0)


def test_the_best_constant_is_as_good_as_a_network_that_says_it(judged, tmp_path) -> None:
    """Through the real engine, tissue mask and all."""
    judgement, _ = judged
    row = judgement.row("constant")
    value = int(np.argmax(sum(row.counts).sum(axis=0)))
    model = LoadedModel(Always(value), ModelCard("always", window=128), "0" * 64, tmp_path)
    for seed, expected in zip(seeds_of("test", 0, 2), row.counts, strict=True):
        with with_slide(slide_spec(seed, "A", SHAPE)) as one:
            found = judge_slide(one, model, ways_of(model.card)[0].settings, "cpu")
        # The mask may leave out a pale rim: a pixel that is not run is wrong.
        assert found[1:, value].sum() == pytest.approx(expected[1:, value].sum(), rel=0.02)
        assert found[1:].sum() == expected[1:].sum()


def test_the_ways_of_a_window_of_400() -> None:
    settings = [w.settings for w in ways_of(ModelCard("any", window=400))]
    assert [s.blend for s in settings] == ["plain", "gaussian", "gaussian"]
    assert [(s.effective_stride, s.effective_sigma) for s in settings[1:]] == [
        (200, 100),
        (100, 50),
    ]


def test_a_slide_is_gone_afterwards_whatever_happens(scratch) -> None:
    def fail() -> None:
        with with_slide(slide_spec(1, "A", SHAPE)):
            assert len(slides_in(scratch)) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert slides_in(scratch) == []


@pytest.mark.parametrize("at", ["drawing training fields", "growing forests", "judging"])
def test_cancelling_leaves_nothing(at, scratch, tmp_path) -> None:
    cancel = threading.Event()
    told = []

    def progress(report) -> None:
        told.append(report.doing)
        if report.doing == at:
            cancel.set()

    with pytest.raises(CancelledError):
        judge_phantom(tiny(tmp_path), QUICK, progress, cancel)
    assert told[-1] == at
    assert slides_in(scratch) == []


def test_without_a_model_or_without_forests(tmp_path) -> None:
    options = dataclasses.replace(QUICK, slides=1, baselines=False)
    alone = judge_phantom(None, options)
    assert [row.key for row in alone.rows] == ["constant"]
    assert alone.to_json()["forests"] is None
    some = judge_phantom(tiny(tmp_path), options, keys=["plain"], split="validation")
    assert [row.key for row in some.rows] == ["constant", "plain"]
    assert {split_of(seed) for seed in some.about["seeds"]} == {"validation"}


def test_what_cannot_be_judged_is_refused_before_any_work(tmp_path, monkeypatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("began all the same")

    monkeypatch.setattr("napari_hspnet.jobs.judge_phantom.draw_fields", never)
    monkeypatch.setattr("napari_hspnet.jobs.judge_phantom.with_slide", never)
    with pytest.raises(InputError, match=r"0\.5 µm"):
        judge_phantom(tiny(tmp_path, mpp=0.5), QUICK)
    with pytest.raises(InputError, match="domain"):
        judge_phantom(None, dataclasses.replace(QUICK, domain="no such"))
    with pytest.raises(InputError, match="slides"):
        dataclasses.replace(QUICK, slides=0)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(DependencyError, match="scikit-learn"):
        judge_phantom(tiny(tmp_path), QUICK)
