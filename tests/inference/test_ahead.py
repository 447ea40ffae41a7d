"""A device that works by itself has its next batch before the last one is looked at."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
import torch
from engine_helpers import ArraySink, model, stained

from napari_hspnet.errors import CancelledError, OutOfMemoryError
from napari_hspnet.inference import Settings, engine, prepare, run_plan
from napari_hspnet.inference.predictors import Eager, Predictor, Subject
from napari_hspnet.inference.predictors.fallback import WithFallback
from napari_hspnet.slides import Region

HOW = Settings(window=64, stride=16, tissue_mask=False)


class Later(Predictor):
    """Works when it is asked for what it has begun, as a GPU's results arrive."""

    name = "later"
    ahead = True

    def __init__(self, subject):
        super().__init__(subject)
        self.plain = Eager(subject)
        self.told = []
        self.most = 99
        self.full_when = "had"

    @classmethod
    def available(cls, subject):
        return None

    def _open(self):
        self.plain.__enter__()

    def _close(self):
        self.plain.__exit__(None, None, None)

    def _begin(self, windows):
        number = sum(what == "begun" for what, _ in self.told)
        if self.full_when == "begun":
            self.check(windows)
        self.told.append(("begun", number))
        return partial(self._end, windows, number)

    def _end(self, windows, number):
        found = self._run(windows)
        self.told.append(("had", number))
        return found

    def _run(self, windows):
        self.check(windows)
        return self.plain(windows)

    def check(self, windows):
        if len(windows) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")


class Refuses(Later):
    """Fails when its results are asked for."""

    name = "refuses"

    def _end(self, windows, number):
        raise RuntimeError("the device is lost")


def run(monkeypatch, change=lambda predictor: None, kind=Later, batch=4, preview=False, **options):
    """Labels, summary and the predictor of a run with a device of its own."""
    made = []

    def predictor_for(backend, network, card, device, *, window, precision, cancel, **_):
        made.append(kind(Subject(network, card.mean, card.std, window, device, precision, cancel)))
        change(made[0])
        return WithFallback(made[0])

    monkeypatch.setattr(engine, "predictor_for", predictor_for)
    slide = stained(300, 260)
    plan = prepare(slide, 1.0, Region.slide(), HOW)
    sink = ArraySink((300, 260))
    summary = run_plan(
        slide, model(window=64), plan, sink, device="cpu", batch=batch, preview=preview, **options
    )
    return sink.classes, summary, made[0], plan


@pytest.fixture(scope="module")
def expected():
    slide, sink = stained(300, 260), ArraySink((300, 260))
    plan = prepare(slide, 1.0, Region.slide(), HOW)
    run_plan(slide, model(window=64), plan, sink, device="cpu", batch=4)
    return sink.classes


@pytest.mark.parametrize("preview", [False, True])
def test_one_batch_is_begun_ahead_and_no_more_and_labels_are_the_same(
    monkeypatch, expected, preview
):
    labels, summary, predictor, plan = run(monkeypatch, preview=preview)
    assert np.array_equal(labels, expected)
    assert summary.windows == plan.windows
    had, ahead = -1, []
    for what, number in predictor.told:
        if what == "had":
            assert number == had + 1
            had = number
        else:
            ahead.append(number - had)
    assert max(ahead) == 2


@pytest.mark.parametrize("when", ["begun", "had"])
def test_memory_that_runs_out_with_a_batch_under_way_halves_the_next(monkeypatch, expected, when):
    def tight(predictor):
        predictor.most, predictor.full_when = 2, when

    labels, summary, predictor, plan = run(monkeypatch, tight, batch=8)
    assert np.array_equal(labels, expected)
    assert summary.batch == 2
    assert summary.windows == plan.windows
    assert any(what == "had" for what, _ in predictor.told)


def test_no_memory_for_one_window_is_a_clear_error(monkeypatch):
    with pytest.raises(OutOfMemoryError, match="memory of cpu"):
        run(monkeypatch, lambda predictor: setattr(predictor, "most", 0))


def test_a_device_that_fails_with_two_batches_under_way_gives_way_to_the_plain_network(
    monkeypatch, expected
):
    labels, summary, _, plan = run(monkeypatch, kind=Refuses)
    assert np.array_equal(labels, expected)
    assert summary.windows == plan.windows
    assert summary.backend == "eager"
    assert any("device is lost" in note for note in summary.notes)


def test_cancelling_ends_it_with_a_batch_under_way(monkeypatch):
    cancel = threading.Event()

    class Cancels(Later):
        def _end(self, windows, number):
            if number == 3:
                cancel.set()
            return super()._end(windows, number)

    threads = threading.active_count()
    with pytest.raises(CancelledError):
        run(monkeypatch, kind=Cancels, cancel=cancel)
    assert threading.active_count() == threads
