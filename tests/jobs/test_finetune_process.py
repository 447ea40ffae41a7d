"""The process of a fine-tuning: that it is one of its own, and that it is gone in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from jobs.finetune_case import Made, made
from napari_hspnet.cases.lock import CaseLock
from napari_hspnet.errors import CancelledError, InputError, OutputError, SlideError
from napari_hspnet.jobs.finetune import (
    FinetuneFaultError,
    FinetuneOptions,
    FinetuneResult,
    FinetuneSource,
    ProcessEndedError,
    finetune,
    plan_finetune,
    settle,
)
from napari_hspnet.jobs.finetune_events import (
    Done,
    Failed,
    Judged,
    Prepared,
    Started,
    Step,
    Stopped,
    Told,
    event_line,
    read_event,
)
from napari_hspnet.jobs.finetune_job import LOCK
from napari_hspnet.jobs.finetune_request import FinetuneRequest
from napari_hspnet.networks import load_checkpoint
from napari_hspnet.networks.registry import Registry
from napari_hspnet.training.resume import SNAPSHOT, read_position

TESTS = Path(__file__).resolve().parents[1]
LONG = 90.0


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> Made:
    return made(tmp_path_factory.mktemp("cases"), 2)


def run(both: Made, folder: Path, on_event=None, cancel=None, **options):
    request = both.request(folder, **options)
    return finetune(request.sources, request.parent, request.options, folder, on_event, cancel)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def gone_in_time(pid: int) -> bool:
    end = time.monotonic() + LONG
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not alive(pid)


def test_it_runs_in_a_process_that_is_gone_afterwards(both, tmp_path) -> None:
    events, seen = [], []

    def look(event) -> None:
        events.append(event)
        if isinstance(event, Step) and not seen:
            child = psutil.Process(events[0].pid)
            seen.append((child.ppid(), child.nice()))

    result = run(both, tmp_path / "out", look)
    started = events[0]
    assert isinstance(started, Started)
    assert started.threads == 1
    assert started.pid != os.getpid()
    assert seen[0][0] == os.getpid()
    assert seen[0][1] > psutil.Process().nice() or seen[0][1] == 19
    assert not alive(started.pid)
    assert events[-1] == result.done
    assert load_checkpoint(result.path).sha256 == result.sha256
    assert [e.epoch for e in result.judged] == [0, 1]
    assert "Learns from" in result.prepared.text
    models = tmp_path / "models"
    assert settle(result, "Dr. A", models) == "candidate", "too few to judge decides nothing"
    assert Registry(models).in_use() is None


def test_a_second_one_in_the_folder_is_refused_and_the_first_cancelled(both, tmp_path) -> None:
    cancel, pids, refusals = threading.Event(), [], []

    def meddle(event) -> None:
        if isinstance(event, Started):
            pids.append(event.pid)
        if isinstance(event, Step) and not refusals:
            with pytest.raises(OutputError, match="in use by") as caught:
                run(both, tmp_path / "out", epochs=50)
            refusals.append(caught.value)
            cancel.set()

    with pytest.raises(CancelledError):
        run(both, tmp_path / "out", meddle, cancel, epochs=50)
    assert refusals
    assert refusals[0].path == tmp_path / "out"
    assert not alive(pids[0])
    CaseLock(tmp_path / "out" / LOCK).release()
    assert read_position(tmp_path / "out" / SNAPSHOT) is not None


@pytest.mark.skipif(sys.platform == "win32", reason="a signal of POSIX")
def test_killed_in_the_middle_it_is_told_and_the_lock_is_free(both, tmp_path) -> None:
    pids = []

    def kill(event) -> None:
        if isinstance(event, Started):
            pids.append(event.pid)
        if isinstance(event, Step):
            os.kill(pids[0], signal.SIGKILL)

    with pytest.raises(ProcessEndedError, match="SIGKILL") as caught:
        run(both, tmp_path / "out", kill, epochs=50)
    assert "goes on from the last snapshot" in caught.value.advice
    CaseLock(tmp_path / "out" / LOCK).release()
    assert read_position(tmp_path / "out" / SNAPSHOT) is not None


PARENT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from jobs.finetune_case import Made
from napari_hspnet.jobs.finetune import FinetuneSource, finetune
from napari_hspnet.jobs.finetune_events import Started, Step

model, out, case, slide, other, its = map(Path, sys.argv[2:])
made = Made((FinetuneSource(case, slide, "A"), FinetuneSource(other, its, "B")), model)
request = made.request(out, epochs=50)
pids = []

def tell(event):
    if isinstance(event, Started):
        pids.append(event.pid)
    if isinstance(event, Step):
        print(pids[0], flush=True)

finetune(request.sources, model, request.options, out, tell)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a signal of POSIX")
def test_when_its_parent_is_killed_it_goes_too(both, tmp_path) -> None:
    paths = [p for s in both.sources for p in (s.case, s.slide)]
    arguments = [TESTS, both.model, tmp_path / "out", *paths]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *map(str, arguments)], stdout=subprocess.PIPE
    )
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
        parent.wait()
        assert gone_in_time(pid)
    finally:
        parent.kill()
        parent.wait()
        if parent.stdout is not None:
            parent.stdout.close()
    CaseLock(tmp_path / "out" / LOCK).release()


def test_what_the_user_can_mend_arrives_as_such_and_a_fault_with_its_trace(both, tmp_path) -> None:
    source = FinetuneSource(both.sources[0].case, tmp_path / "gone.tiff")
    with pytest.raises(SlideError) as caught:
        plan_finetune([source], both.model)
    assert caught.value.path == tmp_path / "gone.tiff"
    assert caught.value.advice
    wrong = FinetuneOptions(config=5)  # type: ignore[arg-type]
    with pytest.raises(FinetuneFaultError) as fault:
        plan_finetune(both.sources, both.model, wrong)
    assert "Traceback" in fault.value.details


def judged_as(both: Made, folder: Path, decision: str) -> tuple[FinetuneResult, Path]:
    """A candidate in a registry, with a verdict that was made up."""
    sha256 = Registry(folder).add(both.model, "candidate", "Dr. A").sha256
    refused = decision == "worse"
    verdict = {"decision": decision, "refused": refused, "mean_dice": 0.7}
    done = Done("c", sha256, verdict, "said", decision, decision == "better")
    return FinetuneResult(Path("c"), sha256, done, Prepared({}, "", ""), ()), folder


@pytest.mark.parametrize(
    ("decision", "state"),
    [
        ("better", "accepted"),
        ("worse", "refused"),
        ("no difference", "candidate"),
        ("too few to judge", "candidate"),
    ],
)
def test_only_a_better_candidate_is_taken_and_only_a_worse_one_refused(
    both, tmp_path, decision, state
) -> None:
    result, folder = judged_as(both, tmp_path, decision)
    assert settle(result, "Dr. B", folder) == state
    record = Registry(folder).get(result.sha256)
    assert record.state == state
    used = Registry(folder).in_use()
    assert (None if used is None else used.sha256) == (
        result.sha256 if state == "accepted" else None
    )
    if state != "candidate":
        assert record.acts[-1].by == "Dr. B"
        assert record.acts[-1].figures["mean_dice"] == 0.7


def test_cancelled_before_it_begins_nothing_is_started(both, tmp_path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CancelledError):
        run(both, tmp_path / "out", None, cancel)
    assert not (tmp_path / "out").exists()


def test_an_event_is_read_back_as_it_was() -> None:
    for event in (
        Started(12, 3),
        Prepared({"patches": 4}, "Learns\nfrom ü", "AdamW"),
        Told("judging", 0.5, None),
        Step(3, 40, 1, 5, 0.25, 1e-4, 12.5),
        Judged(0, {"mean_dice": None, "dice_CIN2": 0.5}),
        Done("/a/b", "12", {"decision": "worse"}, "text", "worse", False),
        Stopped(),
        Failed("InputError", "what", "do", None),
    ):
        line = event_line(event)
        assert line.count("\n") == 1
        assert read_event(line) == event
    with pytest.raises(ValueError, match="no event"):
        read_event('{"event": "Done"}')
    with pytest.raises(ValueError, match="JSON"):
        event_line(Step(1, 2, 1, 1, float("nan"), 1.0, None))


def test_a_request_is_read_back_as_it_was(tmp_path) -> None:
    request = FinetuneRequest(
        (
            FinetuneSource(Path("a.hspnet"), Path("ü.svs"), "P", (1, 2)),
            FinetuneSource(Path("b.hspnet"), Path("b.svs")),
        ),
        Path("m.safetensors"),
        FinetuneOptions(
            epochs=3, keep=0.25, reference=Path("r"), registry=tmp_path, config="x = 'y'\n"
        ),
        tmp_path,
        only_plan=True,
    )
    assert FinetuneRequest.from_line(request.to_line()) == request


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"keep": 1.5},
        {"seed": -1},
        {"reference_phantoms": -1},
        {"replay_phantoms": 2, "replay": Path("x")},
    ],
)
def test_options_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(InputError):
        FinetuneOptions(**wrong)
