"""The file that is imported from: read, and compared with the overlay, in workers."""

from __future__ import annotations

import threading
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from napari_hspnet._qt.import_view import Placing
from napari_hspnet._qt.slides_control import OpenSlide
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.cases import Composite, SlideFacts
from napari_hspnet.exchange.importing import ImportOptions, ImportPlan, plan_import
from napari_hspnet.exchange.incoming import Incoming, open_incoming
from napari_hspnet.slides import LabelGrid

__all__ = ["ImportFile"]

_READ, _PLAN = "import read", "import plan"


class ImportFile(QObject):
    """At most one file at a time; answers for another one are dropped.

    Parameters
    ----------
    jobs : Jobs
        Reads beside the window.
    """

    reading = Signal(float)
    opened = Signal()
    unread = Signal(object)
    """Why it could not be read."""

    stopped = Signal()
    planning = Signal(float)
    planned = Signal(object)
    """`ImportPlan`."""

    unplanned = Signal(object)

    def __init__(self, jobs: Jobs, parent: QObject) -> None:
        super().__init__(parent)
        self._jobs = jobs
        # A file is read by one thread at a time.
        self._guard = threading.Lock()
        self.entry: OpenSlide | None = None
        """The slide that it is imported onto."""
        self.path: Path | None = None
        self.incoming: Incoming | None = None

    @property
    def ready(self) -> bool:
        """Whether it is read."""
        return self.incoming is not None

    def read(self, entry: OpenSlide, path: Path, placing: Placing) -> None:
        """Read a file; `opened`, `unread` or `stopped` follows."""
        self.close()
        self.entry, self.path = entry, path
        info = entry.session.slide.info

        def work(job: Job) -> Incoming:
            made = open_incoming(
                path,
                SlideFacts.of(info),
                LabelGrid.of(info),
                origin=placing.origin,
                mpp=placing.mpp,
                at=placing.at,
                progress=job.report,
                cancel=job.cancel,
            )
            if job.cancel.is_set():
                # Nobody takes it any more.
                made.close()
                job.check()
            return made

        self._jobs.start(
            _READ,
            work,
            report=self.reading.emit,
            done=self._take,
            error=self.unread.emit,
            cancelled=self.stopped.emit,
        )

    @slot
    def _take(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self.opened.emit()

    def stop_reading(self) -> None:
        """Ask for it to be stopped; `stopped` follows."""
        self._jobs.ask_to_stop(_READ)

    def plan(self, options: ImportOptions) -> None:
        """Find out what would change; `planned` or `unplanned` follows."""
        entry, incoming = self.entry, self.incoming
        if entry is None or incoming is None:
            return
        session, guard = entry.session, self._guard
        # A slide that nobody has worked on yet has no case.
        composite = session.composite or Composite(LabelGrid.of(session.slide.info), ())
        case = session.case

        def work(job: Job) -> ImportPlan:
            with guard:
                job.check()
                locks = None if case is None else case.review.locks
                return plan_import(incoming, composite, options, job.report, job.cancel, locks)

        self._jobs.start(
            _PLAN,
            work,
            report=self.planning.emit,
            done=self.planned.emit,
            error=self.unplanned.emit,
        )

    def drop_plan(self) -> None:
        """What would change is no longer asked."""
        self._jobs.cancel(_PLAN)

    def close(self) -> None:
        """Let go of it, once nobody reads it any more."""
        for channel in (_READ, _PLAN):
            self._jobs.cancel(channel)
        incoming, self.incoming = self.incoming, None
        self.entry = self.path = None
        if incoming is None:
            return
        guard = self._guard
        self._guard = threading.Lock()

        def work() -> None:
            with guard:
                incoming.close()

        threading.Thread(target=work, name="hspnet import close", daemon=True).start()
