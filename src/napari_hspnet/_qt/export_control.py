"""Writing the overlay to files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject
from qtpy.QtWidgets import QFileDialog

from napari_hspnet._qt.export_view import FORMATS, ExportView
from napari_hspnet._qt.overlay_control import OverlayControl
from napari_hspnet._qt.segment_control import SegmentControl
from napari_hspnet._qt.slides_control import SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.cases import CaseSnapshot, Composite

if TYPE_CHECKING:
    from napari_hspnet.exchange import ExportInfo

__all__ = ["ExportControl", "write_files"]


class ExportControl(QObject):
    """The Export section's controller."""

    def __init__(
        self,
        view: ExportView,
        jobs: Jobs,
        slides: SlidesControl,
        segmenting: SegmentControl,
        overlay: OverlayControl,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._view, self._jobs = view, jobs
        self._slides, self._segmenting, self._overlay = slides, segmenting, overlay
        view.export_asked.connect(self.ask_where)
        view.cancel_asked.connect(lambda: jobs.ask_to_stop("export"))
        for box in view.boxes.values():
            box.toggled.connect(lambda on: self.refresh())
        slides.active_changed.connect(self._slide_changed)
        slides.results_changed.connect(lambda entry: self.refresh())
        segmenting.running_changed.connect(self.refresh)
        self.refresh()

    def why_not(self) -> str:
        """Why nothing can be exported now; empty if it can."""
        entry = self._slides.active
        if entry is None or not entry.session.has_results:
            return "Nothing is segmented yet."
        if self._segmenting.running is entry:
            return "Wait for the run to end."
        return "" if self._view.formats else "Choose at least one format."

    @slot
    def refresh(self) -> None:
        """Bring the button up to date."""
        self._view.allow(self.why_not())

    @slot
    def _slide_changed(self) -> None:
        self._view.told.say("")
        self.refresh()

    @slot
    def ask_where(self) -> None:
        """Let the user choose a folder, and write there."""
        folder = QFileDialog.getExistingDirectory(self._view, "Export into a folder")
        if folder:
            self.export(Path(folder))

    def export(self, folder: Path) -> None:
        """Write the chosen formats in a worker."""
        entry = self._slides.active
        if self.why_not() or entry is None or entry.session.composite is None:
            return
        info, case = entry.session.slide.info, entry.session.case
        if case is None:
            return
        formats, palette = self._view.formats, self._overlay.style.colours
        overwrite = self._view.overwrite.isChecked()

        def work(job: Job) -> list[Path]:
            from napari_hspnet.exchange import ExportInfo

            snapshot = CaseSnapshot.of(case)
            about = ExportInfo.of_snapshot(snapshot, palette=palette)
            labels = snapshot.composite
            return write_files(
                labels, about, folder, info.path.stem, formats, overwrite, job.report, job.cancel
            )

        def done(paths: list[Path]) -> None:
            self._view.show_running(False)
            self._view.told.say(f"Written to {folder}: {', '.join(p.name for p in paths)}")

        def failed(error: Exception) -> None:
            self._view.show_running(False)
            self._view.told.say(notify(error), "error")

        def cancelled() -> None:
            self._view.show_running(False)
            self._view.told.say("Stopped")

        self._view.told.say("")
        self._view.bar.show_part(0, 100)
        self._view.show_running(True)
        self._jobs.start(
            "export",
            work,
            report=lambda part: self._view.bar.show_part(int(part * 100), 100),
            done=done,
            error=failed,
            cancelled=cancelled,
        )


def write_files(
    composite: Composite,
    about: ExportInfo,
    folder: Path,
    stem: str,
    formats: Sequence[str],
    overwrite: bool,
    progress: Callable[[float], None],
    cancel: threading.Event,
) -> list[Path]:
    """Write a composite in several formats, named after the slide; a worker calls it.

    Raises
    ------
    OutputError
        A file exists, the disk is full, or writing is not permitted.
    CancelledError
        If cancelled.
    """
    from napari_hspnet.exchange import write_geojson, write_ome_tiff, write_png

    writers: dict[str, Callable[..., Any]] = {
        "ome-tiff": write_ome_tiff,
        "png": write_png,
        "geojson": write_geojson,
    }
    paths = [folder / f"{stem}{FORMATS[name][2]}" for name in formats]
    for number, (name, path) in enumerate(zip(formats, paths, strict=True)):

        def told(part: float, begun: int = number) -> None:
            progress((begun + part) / len(formats))

        writers[name](path, composite, about, overwrite=overwrite, progress=told, cancel=cancel)
    return paths
