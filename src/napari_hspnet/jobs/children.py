"""Processes of ours that leave Ctrl-C to the one that began them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker

__all__ = ["deaf_to_ctrl_c"]


@contextlib.contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are begun here, or by threads begun here, get no Ctrl-C.

    A terminal sends it to every process of the group, and one of multiprocessing's
    answers with a traceback, while it still imports as well as later. A mask of
    signals is inherited from the first instruction on; a handler is set too late.
    One that comes meanwhile is kept for this process until the block is left. Where
    there are no masks, on Windows, nothing changes.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # multiprocessing's own helper takes the mask off the thread that begins it.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
