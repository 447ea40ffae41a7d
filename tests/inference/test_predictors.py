"""Back ends: the same labels, a plain network behind each, a choice that is kept."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from engine_helpers import ArraySink, ArraySlide, SmallNet, model
from predictor_helpers import Fake, chosen, subject
from torch import nn

from napari_hspnet.errors import CancelledError, InputError, OutOfMemoryError
from napari_hspnet.inference import Settings, run_plan, segment
from napari_hspnet.inference.plan import make_plan
from napari_hspnet.inference.predictors import (
    BACKENDS,
    Eager,
    Folded,
    FoldedChannelsLast,
    FoldedWinograd,
    OnnxRuntime,
    OpenVino,
    Predictor,
    Subject,
    TorchScript,
    WithFallback,
    predictor_for,
)
from napari_hspnet.inference.predictors.apart import Apart
from napari_hspnet.inference.predictors.eager import folded_network
from napari_hspnet.networks import LoadedModel
from napari_hspnet.slides import LabelGrid, Region


def slide(height: int = 150, width: int = 170) -> ArraySlide:
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 220, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return ArraySlide(coarse.repeat(8, 0).repeat(8, 1)[:height, :width].copy())


def segmented(loaded: LoadedModel, backend: str, batch: int = 1, **options):
    picture = slide()
    sink = ArraySink(picture.pixels.shape[:2])
    how = Settings(window=96, stride=48, tissue_mask=False)
    summary = segment(
        picture,
        loaded,
        Region.slide(),
        sink,
        settings=how,
        device="cpu",
        batch=batch,
        backend=backend,
        **options,
    )
    return sink, summary


def usable(kind: type[Predictor], loaded: LoadedModel) -> None:
    reason = kind.available(subject(loaded.network))
    if reason is not None:
        pytest.skip(f"{kind.name}: {reason}")
    if kind.name == "inductor" and not os.environ.get("HSPNET_TEST_INDUCTOR"):
        pytest.skip("compiles for minutes: set HSPNET_TEST_INDUCTOR=1")


every = pytest.mark.parametrize("kind", BACKENDS[1:], ids=lambda kind: kind.name)


@every
def test_labels_through_the_engine_are_those_of_the_plain_network(kind, hspnet):
    usable(kind, hspnet)
    plain, before = segmented(hspnet, "eager")
    # Four windows in batches of three: one batch is not full.
    found, summary = segmented(hspnet, kind.name, batch=3)
    assert (before.backend, before.notes) == ("eager", ())
    assert (summary.backend, summary.notes) == (kind.name, ())
    assert len(np.unique(plain.classes)) > 1
    differ = found.classes != plain.classes
    # Only where two classes tie but for rounding, and nowhere in the scores.
    assert differ.mean() < 1e-3
    for one, other in ((found.score, plain.score), (found.high, plain.high)):
        assert np.abs(one.astype(int) - other)[~differ].max() <= 1


@every
def test_cancelling_ends_a_run(kind, hspnet):
    usable(kind, hspnet)
    cancel = threading.Event()

    def report(progress) -> None:
        if progress.done:
            cancel.set()

    with pytest.raises(CancelledError):
        segmented(hspnet, kind.name, progress=report, cancel=cancel)
    # As it was: the next run works.
    assert segmented(hspnet, "eager")[1].windows == 9


@every
def test_cancelled_before_it_is_ready(kind, hspnet):
    usable(kind, hspnet)
    cancelled = replace(subject(hspnet.network))
    cancelled.cancel.set()
    with pytest.raises(CancelledError), kind(cancelled) as predictor:
        predictor(torch.zeros(1, 96, 96, 3, dtype=torch.uint8))


@pytest.mark.parametrize("kind", [Folded, FoldedChannelsLast], ids=lambda kind: kind.name)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_made_ready_in_the_middle_of_a_run_it_is_as_made_before(kind, precision, hspnet):
    what = replace(subject(hspnet.network), precision=precision)
    windows = torch.from_numpy(slide(96, 96).pixels)[None]
    with kind(what) as predictor:
        before = predictor(windows)
    with torch.inference_mode():
        weights = list(folded_network(what).parameters())
        with kind(what) as predictor:
            found = predictor(windows).clone()
    assert torch.equal(before, found)
    # Some processors' convolutions refuse such weights once they are laid out anew.
    assert not any(weight.is_inference() for weight in weights)


class Slow(Apart):
    """Works until it is let go."""

    name = "slow"

    def __init__(self, subject: Subject, slow_start: bool = False) -> None:
        super().__init__(subject)
        self.slow_start = slow_start
        self.begun, self.go, self.asked = (threading.Event() for _ in range(3))

    @classmethod
    def _lacks(cls, subject: Subject) -> str | None:
        return None

    def _prepare(self) -> None:
        if self.slow_start:
            self.begun.set()
            self.go.wait(30)

    def _work(self, windows: torch.Tensor) -> torch.Tensor:
        self.begun.set()
        self.go.wait(30)
        return torch.zeros(len(windows), 5, *windows.shape[1:3])

    def _stop(self) -> None:
        self.asked.set()


@pytest.mark.parametrize("slow_start", [True, False])
def test_what_cannot_be_interrupted_is_left_behind(slow_start):
    what = subject(nn.Identity())
    predictor = Slow(what, slow_start)

    def cancel_once_begun() -> None:
        predictor.begun.wait(30)
        what.cancel.set()

    canceller = threading.Thread(target=cancel_once_begun)
    canceller.start()
    with pytest.raises(CancelledError), predictor:
        predictor(torch.zeros(1, 96, 96, 3, dtype=torch.uint8))
    assert not predictor.go.is_set(), "the caller did not wait for it"
    assert predictor.asked.is_set()
    predictor.go.set()
    canceller.join()


def test_an_error_of_the_thread_reaches_the_caller_as_it_is():
    class Fails(Slow):
        def _work(self, windows):
            raise TimeoutError("its own")

    with Fails(subject(nn.Identity())) as predictor, pytest.raises(TimeoutError, match="its own"):
        predictor(torch.zeros(1, 96, 96, 3, dtype=torch.uint8))


def test_folding_is_for_hspnet_with_windows_of_one_size(hspnet):
    assert Folded.available(subject(hspnet.network)) is None
    assert "HSP-Net alone" in Folded.available(subject(SmallNet()))
    assert Folded.available(subject(hspnet.network, precision="float16")) is None
    for kind in (FoldedWinograd, TorchScript, OpenVino, OnnxRuntime):
        assert "float32" in kind.available(subject(hspnet.network, precision="float16"))
    assert "not known" in Folded.available(subject(hspnet.network, window=None))


def test_an_unknown_back_end_is_refused_before_the_slide_is_read(hspnet):
    with pytest.raises(InputError, match="no back end called 'quantum'"):
        segmented(hspnet, "quantum")
    picture = slide()
    plan = make_plan(
        LabelGrid((150, 170)), Region.slide(), Settings(window=96, stride=48, tissue_mask=False)
    )
    with pytest.raises(InputError, match="quantum"):
        run_plan(picture, hspnet, plan, ArraySink((150, 170)), backend="quantum")
    assert not picture.reads


def test_one_that_cannot_run_gives_way_to_the_plain_network():
    loaded = model(SmallNet(), window=96)
    sink, summary = segmented(loaded, "folded")
    plain, _ = segmented(loaded, "eager")
    assert summary.backend == "eager"
    assert "HSP-Net alone" in summary.notes[0]
    assert np.array_equal(sink.classes, plain.classes)


@pytest.mark.parametrize(
    "how", [{"fails_opening": True}, {"fails_at": 1}, {"fails_at": 2}], ids=str
)
def test_a_back_end_that_fails_hands_over(how):
    failed = []
    network = SmallNet()
    first = type("Failing", (Fake,), how)(subject(network))
    windows = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)
    with Eager(subject(network)) as eager:
        expected = eager(windows)
    guarded = WithFallback(first, ["chosen"], lambda: failed.append(1))
    with guarded as predictor:
        for _ in range(3):
            assert torch.equal(predictor(windows), expected)
    assert guarded.used == "eager"
    assert guarded.notes == ("chosen", "fake failed (RuntimeError: broken), eager took over")
    assert failed == [1]
    assert not network.conv._forward_pre_hooks, "the network is as it was"


@pytest.mark.parametrize("error", [CancelledError(), OutOfMemoryError("full", advice="-")], ids=str)
def test_what_is_no_fault_of_the_back_end_is_passed_on(error):
    first = type("Failing", (Fake,), {"fails_at": 1, "error": error})(subject(SmallNet()))
    with WithFallback(first) as predictor, pytest.raises(type(error)):
        predictor(torch.zeros(1, 96, 96, 3, dtype=torch.uint8))
    assert predictor.used == "fake"


def test_the_plain_network_has_nothing_behind_it():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("the network itself")

    with (
        WithFallback(Eager(subject(Broken()))) as predictor,
        pytest.raises(RuntimeError, match="the network itself"),
    ):
        predictor(torch.zeros(1, 96, 96, 3, dtype=torch.uint8))


def test_the_fastest_is_chosen_and_the_record_says_why(bench):
    bench(slower={"cost": 3.0}, faster={"cost": 0.5}, fast={"cost": 1.0})
    predictor = chosen()
    assert predictor.used == "faster"
    assert "eager 2, slower 3, faster 0.5, fast 1" in predictor.notes[0]
    assert "chosen now" in predictor.notes[0]


def test_a_gain_within_the_noise_is_none(bench):
    bench(hardly={"cost": 1.97})
    assert chosen().used == "eager"


def test_wrong_labels_failures_and_absence_are_refused(bench):
    bench(
        wrong={"cost": 0.1, "answer": lambda self, logits: logits.flip(1)},
        nan={"cost": 0.1, "answer": lambda self, logits: logits * torch.nan},
        broken={"cost": 0.1, "fails_at": 2},
        unopened={"cost": 0.1, "fails_opening": True},
        absent={"cost": 0.1, "available": classmethod(lambda cls, subject: "not installed")},
        right={"cost": 1.0, "answer": lambda self, logits: logits + 1e-6},
    )
    predictor = chosen()
    assert predictor.used == "right"
    for reason in (
        "wrong: its labels are not",
        "nan: its labels are not",
        "broken: RuntimeError: broken",
        "unopened: RuntimeError: broken",
        "absent: not installed",
    ):
        assert reason in predictor.notes[0]


def test_a_small_budget_measures_the_plain_network_and_what_still_fits(bench):
    bench(quick={"cost": 0.5, "patience": 1.0}, compiled={"cost": 0.1, "patience": 90.0})
    predictor = chosen(budget=20.0)
    assert predictor.used == "quick"
    assert "compiled: not tried" in predictor.notes[0]
    clock = bench(quick={"cost": 0.5, "patience": 1.0})
    clock.calls = 0
    assert chosen(budget=0.0).used == "eager"
    assert clock.calls == 2


def test_a_choice_is_kept(bench, tmp_path):
    clock = bench(faster={"cost": 0.5})
    folder = tmp_path / "not" / "there"
    assert chosen(folder).used == "faster"
    (file,) = folder.iterdir()
    calls = clock.calls
    again = chosen(folder)
    assert (again.used, clock.calls) == ("faster", calls)
    assert "chosen before" in again.notes[0]
    # Another batch, window or precision is another question.
    chosen(folder, batch=2)
    assert clock.calls > calls
    assert len(list(folder.iterdir())) == 2
    assert file.suffix == ".json"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: json.dumps({**json.loads(text), "format": 99}),
        lambda text: text.replace('"chosen": "faster"', '"chosen": "gone"'),
        lambda text: text.replace('"seconds"', '"minutes"'),
        lambda text: text.replace('"torch": "', '"torch": "0.'),
    ],
)
def test_a_damaged_or_foreign_choice_is_made_anew(bench, tmp_path, damage):
    bench(faster={"cost": 0.5})
    chosen(tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_text()
    file.write_text(damage(whole))
    assert "chosen now" in chosen(tmp_path).notes[0]
    assert json.loads(file.read_text())["choice"]["chosen"] == "faster"


def test_where_nothing_can_be_written_it_is_chosen_all_the_same(bench, tmp_path):
    bench(faster={"cost": 0.5})
    (tmp_path / "file").write_text("in the way")
    predictor = chosen(tmp_path / "file")
    assert predictor.used == "faster"
    assert "could not be kept" in predictor.notes[1]


def test_a_choice_that_fails_later_is_forgotten(bench, tmp_path):
    bench(faster={"cost": 0.5, "fails_at": 9})
    with chosen(tmp_path) as predictor:
        for _ in range(9):
            predictor(torch.zeros(1, 96, 96, 3, dtype=torch.uint8))
    assert predictor.used == "eager"
    assert not list(tmp_path.iterdir())


def test_cancelling_ends_the_measurement(bench):
    bench()
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        chosen(cancel=cancel)


def test_auto_through_the_engine(bench, tmp_path):
    bench(faster={"cost": 0.5})
    stages = []
    loaded = model(SmallNet(), window=96)
    sink, summary = segmented(
        loaded, "auto", backend_cache=tmp_path, progress=lambda p: stages.append(p.stage)
    )
    plain, _ = segmented(loaded, "eager")
    assert summary.backend == "faster"
    assert np.array_equal(sink.classes, plain.classes)
    assert "Choosing what runs the model" in stages


def test_a_predictor_for_a_name(hspnet):
    what = {"window": 96, "precision": "float32", "cancel": threading.Event()}
    made = predictor_for("folded", hspnet.network, hspnet.card, torch.device("cpu"), **what)
    assert (made.used, made.device.type, made.precision) == ("folded", "cpu", "float32")
    assert (
        predictor_for("eager", hspnet.network, hspnet.card, torch.device("cpu"), **what).notes == ()
    )
