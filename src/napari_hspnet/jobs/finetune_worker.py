"""The process of a fine-tuning: ``python -m napari_hspnet.jobs.finetune_worker``.

One line on standard input says what to do; events go to standard output. When
standard input ends, so does the process: in good order where that is quick, and after
a second in any case. Started by `finetune.finetune`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from typing import BinaryIO

from napari_hspnet.errors import CancelledError, HspnetError
from napari_hspnet.jobs.finetune_events import Event, Failed, Started, Stopped, event_line
from napari_hspnet.jobs.finetune_request import FinetuneRequest
from napari_hspnet.jobs.threads import let_threads_sleep

__all__ = ["main"]

_GRACE = 0.8
_NICE = 10
_DONE, _FAILED, _INTERRUPTED = 0, 1, 130


def main() -> int:
    """Do what standard input asks for.

    Returns
    -------
    int
        0 where it came to an end that events tell of, an error of the user's among
        them; 1 for a fault, 130 where it was cancelled.
    """
    out = _take_stdout()
    cancel = threading.Event()
    line = _first_line()
    if line is None:
        return _INTERRUPTED
    # Before anything heavy is imported, which takes seconds.
    threading.Thread(target=_end_with_input, args=(cancel,), daemon=True).start()
    speaker = _Speaker(out)
    try:
        _give_way()
        threads = _threads()
        speaker.say(Started(os.getpid(), threads))
        request = FinetuneRequest.from_line(line)
        let_threads_sleep()
        import torch

        from napari_hspnet.jobs.finetune_job import run_finetune

        torch.set_num_threads(threads)
        run_finetune(request, speaker.say, cancel)
    except CancelledError:
        speaker.say(Stopped())
        return _INTERRUPTED
    except HspnetError as error:
        path = None if error.path is None else str(error.path)
        speaker.say(Failed(type(error).__name__, error.what, error.advice, path))
    except MemoryError:
        what = "The memory does not suffice for this fine-tuning"
        speaker.say(
            Failed("OutOfMemoryError", what, "Close other programs, or choose fewer regions")
        )
    except Exception as error:
        traceback.print_exc()
        speaker.say(Failed("Fault", f"{type(error).__name__}: {error}"))
        return _FAILED
    return _DONE


class _Speaker:
    """Writes events; where nobody listens any more, the process ends."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def say(self, event: Event) -> None:
        line = event_line(event).encode()
        with self._lock:
            try:
                self._out.write(line)
                self._out.flush()
            except OSError:
                os._exit(_INTERRUPTED)


def _take_stdout() -> BinaryIO:
    """Standard output for events alone: what libraries print goes to standard error."""
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "wb")


def _first_line() -> bytes | None:
    """What is asked for; None where the input ends before.

    Read without Python's buffer, whose lock a waiting thread would hold when the
    interpreter shuts down.
    """
    said = b""
    while not said.endswith(b"\n"):
        more = os.read(0, 1 << 16)
        if not more:
            return None
        said += more
    return said


def _end_with_input(cancel: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1 << 16):
            pass
    cancel.set()
    # Files are written beside their place and moved there: nothing is left half-written.
    time.sleep(_GRACE)
    os._exit(_INTERRUPTED)


def _give_way() -> None:
    """Take a lower priority than what the user works with."""
    # Where that is not allowed, it is no reason not to work.
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            import psutil

            psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
        else:
            os.nice(_NICE)


def _threads() -> int:
    from napari_hspnet.jobs.finetune import free_threads

    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() and int(said) > 0 else free_threads()


if __name__ == "__main__":
    sys.exit(main())
