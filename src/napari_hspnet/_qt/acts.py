"""Acts on cases: one after the other in a thread of their own, none ever dropped."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, Qt, Signal

from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import RECORDER
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.work import FaultError
from napari_hspnet.cases import Case
from napari_hspnet.errors import CancelledError, HspnetError

__all__ = ["Act", "Acts"]

_CLOSING = 60.0
"""Seconds that a closing window waits for what is still to be saved."""

_REPORTS = 0.1


class Act:
    """What a running act gets: it says how far it is, and asks whether to stop.

    Attributes
    ----------
    case : Case
        Open for writing.
    cancel : threading.Event
        Set when the user wants it stopped.
    """

    def __init__(self, case: Case, post: Callable[[float], None]) -> None:
        self.case = case
        self.cancel = threading.Event()
        self._post = post
        self._told = 0.0

    def progress(self, part: float) -> None:
        """Say which part is done, 0 to 1; at most ten times a second is passed on."""
        now = time.monotonic()
        if now - self._told >= _REPORTS:
            self._told = now
            self._post(part)


@dataclass(frozen=True)
class _Order:
    title: str
    entry: OpenSlide
    work: Callable[[Act], Any] | None
    look: Callable[[], Any] | None
    done: Callable[[Any], None] | None
    failed: Callable[[Exception], None] | None


class Acts(QObject):
    """Does what readers do to cases, in the order in which they do it.

    `Jobs` drops what nobody wants any more; here every order is carried out, also
    while the window closes. Answers arrive on the GUI thread.
    """

    waiting_changed = Signal()
    progressed = Signal(str, float)
    """(title, part done) of the act under way."""

    _posted = Signal(object)

    def __init__(self, slides: SlidesControl, parent: QObject) -> None:
        super().__init__(parent)
        self._slides = slides
        self._orders: queue.Queue[_Order | OpenSlide | None] = queue.Queue()
        self._waiting = 0
        self._closed = False
        self._current: Act | None = None
        self._thread: threading.Thread | None = None
        self._posted.connect(self._deliver, Qt.ConnectionType.QueuedConnection)
        self._finish = slides.finish
        slides.finish = self._finish_after_all

    @property
    def waiting(self) -> int:
        """How many acts are under way or still to come."""
        return self._waiting

    def do(
        self,
        title: str,
        entry: OpenSlide,
        work: Callable[[Act], Any],
        done: Callable[[Any], None] | None = None,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Carry out `work` after all that was ordered before.

        Parameters
        ----------
        title : str
            What it is called while it runs, "Setting the grade".
        entry : OpenSlide
            The slide whose case is worked on; made where there is none.
        work : callable (Act) -> Any
            Runs in the thread.
        done : callable (result), optional
            Gets its result on the GUI thread.
        failed : callable (error), optional
            Gets an error on the GUI thread; a notification without it.
        """
        self._put(_Order(title, entry, work, None, done, failed))

    def look(self, entry: OpenSlide, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Read something once all that was ordered before has been done.

        Parameters
        ----------
        entry : OpenSlide
            The slide; it needs no case.
        work : callable () -> Any
            Runs in the thread; changes nothing.
        done : callable (result)
            Gets its result on the GUI thread.
        """
        self._put(_Order("", entry, None, work, done, None))

    def _put(self, order: _Order) -> None:
        if self._closed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="hspnet acts", daemon=True)
            self._thread.start()
        if order.work is not None:
            self._waiting += 1
            self.waiting_changed.emit()
        self._orders.put(order)

    def cancel(self) -> None:
        """Ask the act under way to stop; what it has not written it does not write."""
        current = self._current
        if current is not None:
            current.cancel.set()

    def close(self) -> None:
        """Carry out what was ordered, then end."""
        self._closed = True
        if self._thread is not None:
            self._orders.put(None)
            self._thread.join(_CLOSING)

    def _finish_after_all(self, entry: OpenSlide) -> None:
        """Close a removed slide once what was ordered for it has been done."""
        if self._thread is None or self._closed:
            self._finish(entry)
        else:
            self._orders.put(entry)

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            if isinstance(order, OpenSlide):
                self._post(partial(self._finish, order))
            else:
                self._carry_out(order)

    def _carry_out(self, order: _Order) -> None:
        try:
            if order.look is not None:
                result = order.look()
            else:
                assert order.work is not None
                state = order.entry.session.writable_case()
                self._post(partial(self._slides.cases.take, order.entry, state, False))
                self._current = Act(state.case, partial(self._post_progress, order.title))
                result = order.work(self._current)
        except CancelledError:
            self._post(partial(self._ended, order))
        except HspnetError as error:
            self._post(partial(self._failed, order, error))
        except BaseException as fault:
            self._post(partial(self._failed, order, FaultError(fault)))
        else:
            self._post(partial(self._done, order, result))
        finally:
            self._current = None

    def _post(self, answer: Callable[[], None]) -> None:
        if not self._closed:
            self._posted.emit(answer)

    def _post_progress(self, title: str, part: float) -> None:
        self._post(partial(self.progressed.emit, title, part))

    def _deliver(self, answer: Callable[[], None]) -> None:
        with RECORDER.timing("answer: act"):
            if not self._closed:
                answer()

    def _ended(self, order: _Order) -> None:
        if order.work is not None:
            self._waiting -= 1
            self.waiting_changed.emit()

    def _done(self, order: _Order, result: Any) -> None:
        self._ended(order)
        if order.done is not None:
            order.done(result)

    def _failed(self, order: _Order, error: Exception) -> None:
        self._ended(order)
        if order.failed is not None:
            order.failed(error)
        else:
            notify(error)
