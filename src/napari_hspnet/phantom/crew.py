"""Jobs for several processes, whose results come in the order of the jobs.

The processes are started afresh and never forked, nor do they run the caller's
main module again, as multiprocessing's spawn does: napari's would load a window
system in each.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import IO, Any, BinaryIO, cast

from napari_hspnet.errors import OutputError

__all__ = ["Job", "run_jobs", "serve", "usable_cores"]

Tools = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function of a module and what it gets; makes what every job is passed first."""

Job = tuple[Callable[..., Iterator[Any]], tuple[Any, ...]]
"""A function of a module, called with the tools and these; yields its results."""

Check = Callable[[], None]

_END, _ITEM, _ERROR, _GONE = "end", "item", "error", "gone"
_PAUSE = 0.1


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_jobs(
    tools: Tools,
    jobs: Sequence[Job],
    workers: int,
    check: Check,
    arrived: Callable[[Any], None],
) -> Generator[tuple[int, Any]]:
    """Run jobs and give their results in the jobs' order, whatever the workers.

    Parameters
    ----------
    tools : Tools
        Called once a process. The last argument that it gets is a function to call between steps.
    jobs : sequence of Job
    workers : int
        Processes; 1 works in this one.
    check : callable
        Called often; raises to give up.
    arrived : callable
        Called with every result at once, before its turn.

    Yields
    ------
    tuple of (int, result)
        The job's index with each of its results.

    Raises
    ------
    OutputError
        If a process ends before its job.
    """
    if workers <= 1 or len(jobs) <= 1:
        made = tools[0](*tools[1], check)
        for index, (function, given) in enumerate(jobs):
            for item in function(made, *given):
                check()
                arrived(item)
                yield index, item
        return
    with contextlib.ExitStack() as stack:
        crew = [stack.enter_context(_Worker(tools)) for _ in range(min(workers, len(jobs)))]
        yield from _distribute(crew, jobs, check, arrived)


def _distribute(
    crew: list[_Worker], jobs: Sequence[Job], check: Check, arrived: Callable[[Any], None]
) -> Iterator[tuple[int, Any]]:
    inbox: queue.SimpleQueue[tuple[_Worker, str, Any]] = queue.SimpleQueue()
    for worker in crew:
        worker.listen(inbox)
    idle = deque(crew)
    waiting: dict[int, deque[Any]] = {}
    ended: set[int] = set()
    turn, given = 0, 0
    while turn < len(jobs):
        check()
        # A few jobs ahead and no more: what waits for its turn lies in memory.
        while idle and given < min(len(jobs), turn + 2 * len(crew)):
            idle.popleft().give(given, jobs[given])
            given += 1
        with contextlib.suppress(queue.Empty):
            worker, kind, value = inbox.get(timeout=_PAUSE)
            if kind == _ITEM:
                arrived(value)
                waiting.setdefault(worker.index, deque()).append(value)
            elif kind == _END:
                ended.add(worker.index)
                idle.append(worker)
            else:
                raise OutputError(
                    "a process that makes the phantom ended before its work"
                    + (f": {value}" if value else ""),
                    advice="Free memory, or use one worker",
                )
        while turn < len(jobs):
            mine = waiting.get(turn, deque())
            while mine:
                yield turn, mine.popleft()
            if turn not in ended:
                break
            waiting.pop(turn, None)
            turn += 1


class _Worker:
    """A process that takes one job after the other."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self.index = -1

    def __enter__(self) -> _Worker:
        # One thread each: there are as many processes as cores.
        ones = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from napari_hspnet.phantom.crew import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ones},
            # Ctrl+C in a terminal is for the caller, while this one still imports too.
            start_new_session=True,
        )
        self._send(self._tools)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def listen(self, inbox: queue.SimpleQueue[tuple[_Worker, str, Any]]) -> None:
        """Pass on what the process says, until it ends."""
        source = cast(IO[bytes], self._process.stdout)

        def hear() -> None:
            try:
                while True:
                    kind, value = pickle.load(source)
                    inbox.put((self, kind, value))
            except (EOFError, OSError, ValueError, pickle.UnpicklingError):
                inbox.put((self, _GONE, None))

        threading.Thread(target=hear, name="phantom-crew", daemon=True).start()

    def give(self, index: int, job: Job) -> None:
        """Hand over a job."""
        self.index = index
        self._send(job)

    def _send(self, message: Any) -> None:
        pipe = cast(IO[bytes], self._process.stdin)
        # A dead process is noticed by whoever listens.
        with contextlib.suppress(BrokenPipeError):
            pickle.dump(message, pipe)
            pipe.flush()


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    """The process's side: make tools, then run jobs until the pipe closes."""

    def say(kind: str, value: Any = None) -> None:
        pickle.dump((kind, value), sink, protocol=pickle.HIGHEST_PROTOCOL)
        sink.flush()

    try:
        factory, given = pickle.load(source)
        tools = factory(*given, lambda: None)
        while True:
            function, given = pickle.load(source)
            for item in function(tools, *given):
                say(_ITEM, item)
            say(_END)
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:
        traceback.print_exc()
        say(_ERROR, f"{type(error).__name__}: {error}")


def serve() -> None:
    """What a process of the crew does: jobs from standard input, results to output."""
    # Where there are no sessions, it comes here all the same.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever is printed must not get into the results.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, sink)
