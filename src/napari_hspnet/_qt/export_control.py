"""Writing the overlay to files, beside all that one does meanwhile."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog

from napari_hspnet._qt.acts import Acts
from napari_hspnet._qt.export_view import ExportView
from napari_hspnet._qt.memory import Memory
from napari_hspnet._qt.overlay_control import OverlayControl
from napari_hspnet._qt.paint_control import PaintControl
from napari_hspnet._qt.saver import Saver
from napari_hspnet._qt.segment_control import SegmentControl
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.words import about_seconds, elided
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.cases import Case, SlideFacts
from napari_hspnet.cases.record import FINISHED
from napari_hspnet.errors import HspnetError
from napari_hspnet.jobs.formats import FORMATS, ExportOptions

if TYPE_CHECKING:
    from napari_hspnet.jobs.formats import ExportResult

__all__ = ["ExportControl"]

_CHANNEL = "export"
_REMEMBERED, _USUAL = "export formats", ("ome-tiff", "geojson")
_REPORTS = 0.1
_SURE = 1.0
"""Seconds after which a time left can be told."""


class ExportControl(QObject):
    """The Export section's controller.

    What is written is the case as it is when the export begins, with all that was
    painted by then; the case goes on changing meanwhile.
    """

    def __init__(
        self,
        view: ExportView,
        jobs: Jobs,
        acts: Acts,
        saver: Saver,
        slides: SlidesControl,
        segmenting: SegmentControl,
        overlay: OverlayControl,
        painting: PaintControl,
        memory: Memory,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._view, self._jobs, self._acts, self._saver = view, jobs, acts, saver
        self._slides, self._segmenting = slides, segmenting
        self._overlay, self._painting, self._memory = overlay, painting, memory
        self.running: OpenSlide | None = None
        """The slide whose files are being written."""
        self._stopping = False
        self._folder: Path | None = None
        self._paths: list[Path] = []
        self._steps: list[str] = []
        view.choose(tuple(key for key in memory.get(_REMEMBERED, [*_USUAL]) if key in FORMATS))
        view.export_asked.connect(self.ask_where)
        view.cancel_asked.connect(self.cancel)
        view.folder_asked.connect(self.open_folder)
        view.changed.connect(self.refresh)
        slides.active_changed.connect(self._slide_changed)
        slides.results_changed.connect(self.refresh)
        slides.removed.connect(self._slide_removed)
        segmenting.running_changed.connect(self.refresh)
        saver.changed.connect(self.refresh)
        saver.corrected.connect(self.refresh)
        self.refresh()

    def why_not(self) -> str:
        """Why nothing can be exported now; empty if it can."""
        entry = self._slides.active
        if entry is None or not entry.session.has_results:
            return "Nothing is segmented or painted yet."
        if not _kept(entry):
            return "Wait for the run to end: before that it is not part of the case."
        if self._saver.unsaved:
            return "What was painted last is not saved yet (section Correct says why)."
        return "" if self._view.formats else "Choose at least one format."

    @slot
    def refresh(self) -> None:
        """Bring the button up to date."""
        entry, why_not = self._slides.active, self.why_not()
        self._view.allow(why_not)
        run = self._segmenting.running
        self._view.note.say(
            "The run that is under way is not part of it."
            if run is not None and run is entry and not why_not
            else ""
        )

    @slot
    def _slide_changed(self) -> None:
        if self.running is None:
            self._view.show_outcome("")
        self.refresh()

    @slot
    def _slide_removed(self, entry: OpenSlide) -> None:
        if entry is self.running:
            self._jobs.cancel(_CHANNEL)
            self._end()
            # After all that follows from another slide being the active one.
            QTimer.singleShot(0, self._say_closed)

    @slot
    def _say_closed(self) -> None:
        self._view.show_outcome("Stopped, as the slide was closed", "warning")

    @slot
    def ask_where(self) -> None:
        """Let the user choose a folder, and write there."""
        folder = QFileDialog.getExistingDirectory(self._view, "Export into a folder")
        if folder:
            self.export(Path(folder))

    @slot
    def open_folder(self) -> None:
        """Show the folder of the last export in the system's file manager."""
        if self._folder is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._folder)))

    @slot
    def cancel(self) -> None:
        """Stop; what is complete stays."""
        self._stopping = True
        self._view.cancel.setEnabled(False)
        self._view.show_progress("Stopping", None)
        self._jobs.ask_to_stop(_CHANNEL)

    def export(self, folder: Path) -> None:
        """Write what is chosen into a folder, once all that was painted is saved.

        Parameters
        ----------
        folder : Path
            Made where it is not there.
        """
        entry = self._slides.active
        case = None if entry is None else entry.session.case
        if self.running is not None or entry is None or case is None:
            return
        why_not = self.why_not()
        if why_not:
            self._view.show_outcome(why_not, "warning")
            return
        self.running, self._stopping, self._folder = entry, False, folder
        self._paths, self._steps = [], []
        options = ExportOptions(
            out=folder, palette=self._overlay.style.colours, **self._view.said()
        )
        # What can name a patient is asked for each time, and not remembered.
        self._memory.keep(_REMEMBERED, list(options.formats))
        self._view.show_running()
        self._view.show_progress(self._named("Saving what was painted"), None)
        self._painting.save()
        # Looked at after all strokes ordered so far: what is on screen is in the case.
        self._acts.look(
            entry, partial(_last_entry, case), partial(self._begin, entry, case, options)
        )

    def _begin(
        self, entry: OpenSlide, case: Case, options: ExportOptions, last: int | HspnetError
    ) -> None:
        if self.running is not entry:
            return
        if isinstance(last, HspnetError):
            self._failed(last)
            return
        if self._stopping:
            self._cancelled()
            return
        if self._saver.unsaved:
            self._end()
            self._view.show_outcome(self.why_not(), "warning")
            return
        slide = entry.session.slide
        self._paths = list(options.outputs(SlideFacts.of(slide.info)).values())

        def work(job: Job) -> ExportResult:
            from napari_hspnet.jobs.export import export_case

            pinned = replace(options, entry=last if case.journal.there else None)
            return export_case(case, pinned, slide, _Teller(job), job.cancel)

        self._jobs.start(
            _CHANNEL,
            work,
            report=self._reported,
            done=self._done,
            error=self._failed,
            cancelled=self._cancelled,
        )

    @slot
    def _reported(self, told: tuple[str, float, float | None]) -> None:
        doing, part, left = told
        if doing not in self._steps:
            self._steps.append(doing)
        if self._stopping:
            return
        text = f"{doing}, {part:.0%}".replace("%", " %")
        if left is not None:
            text += f" · {about_seconds(left)} left"
        self._view.show_progress(self._named(text), part)

    @slot
    def _done(self, result: ExportResult) -> None:
        self._end()
        text = f"Written to {self._folder}: {_names(list(result.outputs.values()))}"
        warnings = [f"{warning}." for warning in result.warnings]
        self._view.show_outcome("\n".join([text, *warnings]), files=True)

    @slot
    def _failed(self, error: Exception) -> None:
        self._end()
        complete = self._complete()
        text = "\n".join(part for part in (notify(error), complete) if part)
        self._view.show_outcome(text, "error", files=bool(complete))

    @slot
    def _cancelled(self) -> None:
        self._end()
        complete = self._complete()
        text = "\n".join(("Stopped", complete)) if complete else "Stopped; no file is left of it"
        self._view.show_outcome(text, files=bool(complete))

    def _complete(self) -> str:
        """Which files were written before the one under way; empty where none was."""
        paths = self._paths[: max(0, len(self._steps) - 1)]
        return f"Complete in {self._folder}: {_names(paths)}" if paths else ""

    def _end(self) -> None:
        self.running = None
        self._view.show_idle()
        self.refresh()

    def _named(self, text: str) -> str:
        """With the slide's name, where another one is on screen."""
        if self.running is None or self.running is self._slides.active:
            return text
        return f"{elided(self.running.session.slide.info.name, 20)}: {text}"


class _Teller:
    """Passes on how far an export is, with the time left, ten times a second at most."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._began = time.monotonic()
        self._last = ("", 0.0)
        self._guard = threading.Lock()

    def __call__(self, doing: str, part: float) -> None:
        now = time.monotonic()
        with self._guard:
            if doing == self._last[0] and now - self._last[1] < _REPORTS:
                return
            self._last = doing, now
        gone = now - self._began
        left = gone * (1 - part) / part if part > 0 and gone > _SURE else None
        self._job.report((doing, part, left))


def _names(paths: list[Path]) -> str:
    return ", ".join(elided(path.name, 44) for path in paths)


def _kept(entry: OpenSlide) -> bool:
    """Whether the case holds anything by now that an export would hold."""
    case, runs = entry.session.case, entry.session.runs
    finished = any(run.state == FINISHED for run in runs)
    return case is not None and (finished or bool(case.corrections.chunks))


def _last_entry(case: Case) -> int | HspnetError:
    """The last entry of the journal, or why it cannot be read."""
    try:
        return case.journal.last
    except HspnetError as error:
        return error
