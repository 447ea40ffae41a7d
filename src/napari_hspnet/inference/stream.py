"""Finished blocks, handed on without making the engine wait."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from napari_hspnet.slides import LabelBlock

__all__ = ["Sink", "Writer"]


class Sink(Protocol):
    """Where finished blocks go; called from one thread, never the caller's."""

    def write(self, block: LabelBlock) -> None: ...


class Writer:
    """One thread that hands blocks to the sink, a bounded number behind."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._slots = threading.BoundedSemaphore(64)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hspnet-write")
        self._failure: BaseException | None = None

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None and self._failure is not None:
            raise self._failure

    def put(self, block: LabelBlock) -> None:
        if self._failure is not None:
            raise self._failure
        self._slots.acquire()
        self._pool.submit(self._write, block)

    def then(self, call: Callable[[], None]) -> None:
        """Call something when all blocks so far have been handed on."""
        if self._failure is not None:
            raise self._failure
        self._pool.submit(self._call, call)

    def _call(self, call: Callable[[], None]) -> None:
        try:
            if self._failure is None:
                call()
        except BaseException as error:  # raised again in the engine's own thread
            self._failure = error

    def _write(self, block: LabelBlock) -> None:
        try:
            self._call(partial(self._sink.write, block))
        finally:
            self._slots.release()
