"""Work beside the GUI thread: one thread a job, answers as messages that can be stale."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal

from napari_hspnet._qt.slots import RECORDER
from napari_hspnet.errors import CancelledError, HspnetError

__all__ = ["FaultError", "Job", "Jobs"]

_REPORTS = 0.1


@dataclass(frozen=True)
class _Message:
    kind: str
    channel: str
    generation: int
    value: Any = None


class FaultError(Exception):
    """A fault of the program, with where it happened, for the log."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.details = "".join(traceback.format_exception(error))


class Job:
    """What a running function gets: it asks whether to stop, and reports.

    Attributes
    ----------
    cancel : threading.Event
        Set when nobody wants the answer any more.
    """

    def __init__(self, post: Callable[[str, Any], None]) -> None:
        self.cancel = threading.Event()
        self._post = post
        self._told = 0.0

    def progress(self, part: float) -> None:
        """Report which part is done, 0 to 1; at most ten times a second is passed on."""
        now = time.monotonic()
        if now - self._told >= _REPORTS:
            self._told = now
            self.report(part)

    def report(self, value: Any) -> None:
        """Send something to the job's `on_report`, on the GUI thread."""
        self._post("report", value)

    def check(self) -> None:
        """Raise `CancelledError` if the job was cancelled."""
        if self.cancel.is_set():
            raise CancelledError


@dataclass
class _Channel:
    generation: int = 0
    job: Job | None = None
    thread: threading.Thread | None = None
    on_done: Callable[[Any], None] | None = None
    on_error: Callable[[Exception], None] | None = None
    on_report: Callable[[Any], None] | None = None
    on_cancelled: Callable[[], None] | None = None


class Jobs(QObject):
    """Named channels, each with one current job; a new one makes the old one stale.

    Answers arrive on the GUI thread, and only those of the current generation.
    An exception in a worker never leaves it (PyQt6 would end the process): it
    arrives as `on_error`.
    """

    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._channels: dict[str, _Channel] = {}
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._posted.connect(self._deliver, Qt.ConnectionType.QueuedConnection)

    def start(
        self,
        channel: str,
        work: Callable[[Job], Any],
        *,
        done: Callable[[Any], None] | None = None,
        error: Callable[[Exception], None] | None = None,
        report: Callable[[Any], None] | None = None,
        cancelled: Callable[[], None] | None = None,
    ) -> Job:
        """Run `work` in a thread; what ran in the channel before is cancelled."""
        self.cancel(channel)
        state = self._channels.setdefault(channel, _Channel())
        generation = state.generation

        def post(kind: str, value: Any = None) -> None:
            if not self._closed:
                self._posted.emit(_Message(kind, channel, generation, value))

        job = Job(post)

        def body() -> None:
            try:
                value = work(job)
            except CancelledError:
                post("cancelled")
            except HspnetError as failure:
                post("error", failure)
            except BaseException as fault:
                post("error", FaultError(fault))
            else:
                post("done", value)

        state.job, state.on_done, state.on_error = job, done, error
        state.on_report, state.on_cancelled = report, cancelled
        state.thread = threading.Thread(target=body, name=f"hspnet {channel}", daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()]
        self._threads.append(state.thread)
        state.thread.start()
        return job

    def cancel(self, channel: str) -> None:
        """Ask the channel's job to end, and drop what it may still say."""
        state = self._channels.get(channel)
        if state is None:
            return
        state.generation += 1
        if state.job is not None:
            state.job.cancel.set()
            state.job = None

    def ask_to_stop(self, channel: str) -> None:
        """Ask the channel's job to end, and wait for it to say that it has."""
        state = self._channels.get(channel)
        if state is not None and state.job is not None:
            state.job.cancel.set()

    def busy(self, channel: str) -> bool:
        """Whether the channel's current job still runs."""
        state = self._channels.get(channel)
        return state is not None and state.job is not None

    def close(self, wait: float = 5.0) -> None:
        """Cancel everything and wait for the threads to end.

        Parameters
        ----------
        wait : float
            Seconds at most.
        """
        self._closed = True
        for channel in self._channels:
            self.cancel(channel)
        for thread in self._threads:
            thread.join(wait)

    def _deliver(self, message: _Message) -> None:
        # Named after what is answered, so that a slow slot can be told apart.
        with RECORDER.timing(f"answer: {message.channel.rstrip(' 0123456789')} {message.kind}"):
            self._hand_over(message)

    def _hand_over(self, message: _Message) -> None:
        state = self._channels[message.channel]
        if self._closed or message.generation != state.generation:
            return
        if message.kind == "report":
            if state.on_report is not None:
                state.on_report(message.value)
            return
        state.job = None
        if message.kind == "done" and state.on_done is not None:
            state.on_done(message.value)
        elif message.kind == "cancelled" and state.on_cancelled is not None:
            state.on_cancelled()
        elif message.kind == "error" and state.on_error is not None:
            state.on_error(message.value)
