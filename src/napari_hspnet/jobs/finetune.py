"""Fine-tune a model on corrected regions, in a process of its own.

The process is started anew, never forked: its memory, the GPU's too, is gone when it
ends. It gets what is asked for as one line of JSON on its standard input, tells what it
does as lines of JSON on its standard output, and ends when its standard input does: so
it is cancelled, and so it goes when this process is killed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from napari_hspnet import errors
from napari_hspnet.errors import CancelledError, HspnetError
from napari_hspnet.jobs.finetune_events import (
    Done,
    Event,
    Failed,
    Judged,
    Prepared,
    Stopped,
    read_event,
)
from napari_hspnet.jobs.finetune_request import FinetuneOptions, FinetuneRequest, FinetuneSource

__all__ = [
    "FinetuneFaultError",
    "FinetuneOptions",
    "FinetuneResult",
    "FinetuneSource",
    "ProcessEndedError",
    "finetune",
    "free_threads",
    "plan_finetune",
    "settle",
]

_WORKER = "napari_hspnet.jobs.finetune_worker"
_LISTEN = 0.1
# It ends by itself 0.8 s after its input does.
_PATIENCE = 1.2
_KEPT_LINES = 400


class ProcessEndedError(HspnetError):
    """The process of a fine-tuning was ended from outside.

    Attributes
    ----------
    details : str
        What it last said on its standard error.
    """

    details = ""


class FinetuneFaultError(Exception):
    """The program went wrong in the process of a fine-tuning.

    Attributes
    ----------
    details : str
        What it last said on its standard error, for the report of the fault.
    """

    def __init__(self, what: str, details: str) -> None:
        super().__init__(what)
        self.details = details


@dataclass(frozen=True)
class FinetuneResult:
    """What came out.

    Attributes
    ----------
    path : Path
        The candidate, which the registry has, too.
    sha256 : str
        Of it.
    done : Done
        With the verdict.
    prepared : Prepared
        With the lesson.
    judged : tuple of Judged
        Epoch by epoch, the model that it began with first; those of an earlier part,
        before a break, are not among them.
    """

    path: Path
    sha256: str
    done: Done
    prepared: Prepared
    judged: tuple[Judged, ...]


def finetune(
    sources: Sequence[FinetuneSource],
    parent: Path | str,
    options: FinetuneOptions | None,
    folder: Path | str,
    on_event: Callable[[Event], None] | None = None,
    cancel: threading.Event | None = None,
) -> FinetuneResult:
    """Fine-tune a model on what readers corrected, and judge what comes out.

    Parameters
    ----------
    sources : sequence of FinetuneSource
    parent : path-like
        The checkpoint to begin with; it stays as it is.
    options : FinetuneOptions, optional
    folder : path-like
        Made where it is missing. After a break, or a kill, the same request goes on
        where a snapshot there says.
    on_event : callable, optional
        Called from this thread with each event as it comes.
    cancel : threading.Event, optional
        Ends it, and the process, in less than two seconds.

    Returns
    -------
    FinetuneResult
        The candidate is in the registry as such; nothing uses it yet.

    Raises
    ------
    CancelledError
        If it was cancelled; no process is left.
    InputError
        There is nothing to learn from, or something cannot be used: see
        `plan_lesson` and `FinetuneOptions`.
    SlideError, CaseError, CheckpointError
        A file is missing, damaged or of another kind.
    DivergedError, OutOfMemoryError, OutputError
        As for `run_session`; a snapshot of before stays.
    OutputError
        Another fine-tuning is at work in the folder, or it holds a finished one.
    ProcessEndedError
        The process was killed from outside.
    FinetuneFaultError
        The program went wrong in it.
    """
    request = _request(sources, parent, options, folder)
    prepared: Prepared | None = None
    judged: list[Judged] = []
    for event in _run(request, on_event, cancel):
        if isinstance(event, Prepared):
            prepared = event
        elif isinstance(event, Judged):
            judged.append(event)
        elif isinstance(event, Done):
            assert prepared is not None
            return FinetuneResult(Path(event.path), event.sha256, event, prepared, tuple(judged))
    raise AssertionError("a fine-tuning ended without an end")


def plan_finetune(
    sources: Sequence[FinetuneSource],
    parent: Path | str,
    options: FinetuneOptions | None = None,
    cancel: threading.Event | None = None,
) -> Prepared:
    """Say what a fine-tuning would learn from; nothing is learned or written.

    Raises
    ------
    HspnetError, CancelledError, FinetuneFaultError
        As `finetune`.
    """
    request = replace(_request(sources, parent, options, Path()), only_plan=True)
    for event in _run(request, None, cancel):
        if isinstance(event, Prepared):
            return event
    raise AssertionError("a plan ended without one")


def settle(result: FinetuneResult, by: str, registry: Path | None = None) -> str:
    """Do what the verdict says: take a candidate that is better, refuse one that is worse.

    Parameters
    ----------
    result : FinetuneResult
    by : str
        Who lets the verdict decide; the registry keeps it.
    registry : Path, optional
        Its folder; the user's own without.

    Returns
    -------
    str
        "accepted", and it is in use now; "refused"; or "candidate", where the verdict
        decides nothing.

    Raises
    ------
    HspnetError
        As `Registry.decide` and `Registry.use`.
    """
    from napari_hspnet.networks.registry import Registry

    models, done = Registry(registry), result.done
    if not (done.advised or done.verdict.get("refused")):
        return "candidate"
    accepted = done.advised
    models.decide(result.sha256, accepted, by, f"the gate says: {done.decision}", done.verdict)
    if not accepted:
        return "refused"
    models.use(result.sha256, by)
    return "accepted"


def _request(
    sources: Sequence[FinetuneSource],
    parent: Path | str,
    options: FinetuneOptions | None,
    folder: Path | str,
) -> FinetuneRequest:
    return FinetuneRequest(tuple(sources), Path(parent), options or FinetuneOptions(), Path(folder))


def _run(
    request: FinetuneRequest,
    on_event: Callable[[Event], None] | None,
    cancel: threading.Event | None,
) -> list[Event]:
    """All events of a fine-tuning that came to its end; `Step` and `Told` are not kept."""
    if cancel is not None and cancel.is_set():
        raise CancelledError
    child = _Child(request)
    kept: list[Event] = []
    try:
        while (event := child.next(cancel)) is not None:
            if on_event is not None:
                on_event(event)
            if isinstance(event, Failed):
                raise child.failure(event)
            if isinstance(event, Stopped):
                raise CancelledError
            if isinstance(event, (Prepared, Judged, Done)):
                kept.append(event)
    finally:
        child.end()
    if not kept or not isinstance(kept[-1], Prepared if request.only_plan else Done):
        raise child.lost()
    return kept


class _Child:
    """The process, and what it says."""

    def __init__(self, request: FinetuneRequest) -> None:
        self._process = subprocess.Popen(
            # -P: a file of the user's called torch.py is none of ours.
            [sys.executable, "-P", "-m", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            # Ctrl+C in a terminal is for this process, which then ends that one.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._last: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self._threads = [
            threading.Thread(target=self._pump, args=(process.stdout,), daemon=True),
            threading.Thread(target=self._keep, args=(process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        # Where it ended at once, why is seen where its events are read.
        with contextlib.suppress(OSError):
            process.stdin.write(request.to_line().encode())
            process.stdin.flush()

    def next(self, cancel: threading.Event | None) -> Event | None:
        """The next event; None when it ended."""
        while True:
            if cancel is not None and cancel.is_set():
                raise CancelledError
            try:
                line = self._lines.get(timeout=_LISTEN)
            except queue.Empty:
                continue
            if line is None:
                return None
            try:
                return read_event(line)
            except (ValueError, TypeError) as error:
                raise FinetuneFaultError(f"not understood: {error}", self.details()) from error

    def end(self) -> None:
        """See to it that it is gone."""
        process = self._process
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for thread in self._threads:
            thread.join(_PATIENCE)
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def failure(self, event: Failed) -> Exception:
        """The error that an event tells of."""
        if event.kind == "Fault":
            self.end()
            return FinetuneFaultError(event.message, self.details())
        return _known(event.kind)(event.message, advice=event.advice, path=event.path)

    def lost(self) -> Exception:
        """Why it ended without a word."""
        code = self._process.returncode
        details = self.details()
        if (code is not None and code < 0) or (sys.platform == "win32" and not details):
            error = ProcessEndedError(
                f"The process that fine-tunes was ended from outside ({_signal(code)})",
                advice="Where memory ran out, close other programs or make batches smaller; "
                "the same again goes on from the last snapshot",
            )
            error.details = details
            return error
        return FinetuneFaultError(f"the process ended with {code}", details)

    def details(self) -> str:
        """What it last said on its standard error."""
        return b"".join(self._last).decode(errors="replace")

    def _pump(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in pipe:
                self._lines.put(line)
        self._lines.put(None)

    def _keep(self, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._last.extend(pipe)


def _environment() -> dict[str, str]:
    """The child's, with one core left free; what the user has set stands."""
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(free_threads()))
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment


def free_threads() -> int:
    """How many threads may compute when one core is left free."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    return max(1, cores - 1)


def _known(kind: str) -> type[HspnetError]:
    found = getattr(errors, kind, None)
    if found is None and kind == "DivergedError":
        from napari_hspnet.training.loop import DivergedError

        found = DivergedError
    if isinstance(found, type) and issubclass(found, HspnetError):
        return found
    return HspnetError


def _signal(code: int | None) -> str:
    import signal

    try:
        return signal.Signals(-(code or 0)).name
    except ValueError:
        return f"code {code}"
