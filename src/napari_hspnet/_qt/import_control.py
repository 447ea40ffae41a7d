"""Masks and outlines into the case: read, asked about, looked at, then imported as one act."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QFileDialog

from napari_hspnet._qt import camera
from napari_hspnet._qt.acts import Act, Acts
from napari_hspnet._qt.import_file import ImportFile
from napari_hspnet._qt.import_names import Name
from napari_hspnet._qt.import_preview import ImportPreview
from napari_hspnet._qt.import_view import ImportView, Placing
from napari_hspnet._qt.import_words import changes_text, locked_text, name_words, pairs
from napari_hspnet._qt.overlay_control import OverlayControl
from napari_hspnet._qt.paint_control import PaintControl
from napari_hspnet._qt.saver import Saver
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.words import elided
from napari_hspnet._qt.work import Jobs
from napari_hspnet.cases import EditResult
from napari_hspnet.errors import CancelledError
from napari_hspnet.exchange.importing import ImportOptions, ImportPlan, import_plan

__all__ = ["ImportControl"]

_TITLE = "Importing"
_MASKS, _OUTLINES = (".png", ".tif", ".tiff"), (".geojson", ".json")
_AGAIN = 250
"""ms after the last answer or correction until it is found out what would change."""

_MARGIN = 1.3
_CLOSEST = 4.0
"""Screen pixels per µm of x40: nothing is shown larger than that."""


class ImportControl(QObject):
    """The controller of what is imported.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    view : ImportView
        The part of the section.
    """

    def __init__(
        self,
        viewer: Any,
        view: ImportView,
        jobs: Jobs,
        acts: Acts,
        saver: Saver,
        slides: SlidesControl,
        overlay: OverlayControl,
        painting: PaintControl,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._view, self._acts, self._saver = viewer, view, acts, saver
        self._slides, self._overlay, self._painting = slides, overlay, painting
        self.preview = ImportPreview(viewer)
        self.file = ImportFile(jobs, self)
        self.planned: ImportPlan | None = None
        """What would change, once that is known."""
        self._importing: threading.Event | None = None
        self._under_way = False
        self._planning = QTimer(self)
        self._planning.setSingleShot(True)
        self._planning.setInterval(_AGAIN)
        self._planning.timeout.connect(self._plan)
        view.file_asked.connect(self.ask_for_file)
        view.stop_asked.connect(self.stop)
        view.placed.connect(self._read_again)
        view.answered.connect(self._changed)
        view.show_asked.connect(self.show_where)
        view.import_asked.connect(self.do_import)
        view.close_asked.connect(self.end)
        self.file.reading.connect(self._reading)
        self.file.opened.connect(self._opened)
        self.file.unread.connect(self._unread)
        self.file.stopped.connect(self.end)
        self.file.planning.connect(view.show_planning)
        self.file.planned.connect(self._show_plan)
        self.file.unplanned.connect(self._no_plan)
        acts.progressed.connect(self._progressed)
        saver.corrected.connect(self._corrected)
        slides.active_changed.connect(self._slide_changed)
        slides.results_changed.connect(self._results_changed)
        slides.removed.connect(self._slide_removed)
        slides.reader_changed.connect(self.refresh)
        overlay.style_changed.connect(self._style_changed)
        self.refresh()

    @slot
    def refresh(self) -> None:
        """Bring the buttons up to date."""
        self._view.allow(self._slides.why_not_change())
        self._view.allow_import(self._why_not_import())

    def _why_not_import(self) -> str:
        if self._view.names.unanswered:
            return "Say first what each name is."
        planned = self.planned
        if planned is None:
            return "Wait until it is found out what would change."
        if planned.pixels == 0:
            return (
                "All that would change is signed off: unlock it first (section Review)."
                if planned.locked
                else "Nothing would change."
            )
        return self._slides.why_not_change()

    # Reading

    @slot
    def ask_for_file(self) -> None:
        """Let the user choose a file."""
        if self._slides.why_not_change():
            self.refresh()
            return
        name, _ = QFileDialog.getOpenFileName(
            self._view,
            "Import a mask or outlines",
            "",
            "Outlines and masks (*.geojson *.json *.png *.tif *.tiff);;All files (*)",
        )
        if name:
            self.open_path(Path(name))

    def open_path(self, path: Path) -> None:
        """Read a file for the active slide, and show what it holds.

        Parameters
        ----------
        path : Path
            GeoJSON, PNG or TIFF.
        """
        entry, why_not = self._slides.active, self._slides.why_not_change()
        if entry is None or why_not:
            self._view.error.say(why_not, "warning")
            return
        if self._importing is not None:
            return
        self._view.show_idle()
        self._view.told.say("")
        self._view.reset_placing()
        self._read(entry, path, Placing())

    @slot
    def _read_again(self) -> None:
        entry, path = self.file.entry, self.file.path
        if entry is not None and path is not None and self._importing is None:
            self._read(entry, path, self._view.placing)

    def _read(self, entry: OpenSlide, path: Path, placing: Placing) -> None:
        self._forget()
        self._view.error.say("")
        self._view.show_progress(f"Reading {elided(path.name, 30)}", None)
        self.file.read(entry, path, placing)

    @slot
    def _reading(self, part: float) -> None:
        if self.file.path is not None:
            text = f"Reading {elided(self.file.path.name, 30)}, {part:.0%}".replace("%", " %")
            self._view.show_progress(text, part)

    @slot
    def _opened(self) -> None:
        entry, path, incoming = self.file.entry, self.file.path, self.file.incoming
        assert entry is not None
        assert path is not None
        assert incoming is not None
        outlines = incoming.kind == "geojson"
        self._view.show_placing(path.name, not outlines, outlines and _has_offset(entry))
        self._view.show_content(
            incoming.notes,
            [
                Name(found.key, *name_words(found, incoming), found.grade)
                for found in incoming.names
            ],
            "Outside of them" if outlines else "Where it is 0",
            incoming.rest_is_none,
        )
        self._changed()

    @slot
    def _unread(self, error: Exception) -> None:
        entry, path = self.file.entry, self.file.path
        self._view.error.say(notify(error), "error")
        self._view.show_idle()
        if entry is None or path is None:
            return
        # Where it lies is the one thing that one can put right here.
        mask = path.suffix.lower() in _MASKS
        outlines = path.suffix.lower() in _OUTLINES and _has_offset(entry)
        if mask or outlines:
            self._view.show_placing(path.name, mask, outlines)
        else:
            self._forget()

    @slot
    def stop(self) -> None:
        """Stop reading, or importing."""
        self._view.show_stopping()
        if self._importing is None:
            self.file.stop_reading()
            return
        self._importing.set()
        if self._under_way:
            self._acts.cancel()

    # What would change

    @slot
    def _changed(self) -> None:
        """An answer is another one: what would change is so too."""
        self.planned = None
        self.file.drop_plan()
        if not self.file.ready or self._importing is not None:
            return
        if self._view.names.unanswered:
            self.preview.remove()
            self._view.show_planned("", "", False)
        else:
            self._view.show_planning(None)
            self._planning.start()
        self.refresh()

    @slot
    def _plan(self) -> None:
        if not self.file.ready or self._importing is not None or self._view.names.unanswered:
            return
        self._painting.save()
        self.file.plan(
            ImportOptions(
                self._view.names.grades,
                self._view.rest_becomes,
                "accept" if self._view.agreeing.isChecked() else "leave",
            )
        )

    @slot
    def _show_plan(self, planned: ImportPlan) -> None:
        entry = self.file.entry
        if entry is None:
            return
        self.planned = planned
        text = changes_text(planned.changes, planned.grid.mpp)
        self._view.show_planned(
            f"Would change:\n{text}" if text else "Nothing would change.",
            locked_text(planned.locked, planned.grid.mpp),
            planned.pixels > 0,
        )
        if planned.pixels:
            info = entry.session.slide.info
            self.preview.show(planned.levels, planned.grid, info.fingerprint, self._overlay.style)
        else:
            self.preview.remove()
        self.refresh()

    @slot
    def _no_plan(self, error: Exception) -> None:
        self.preview.remove()
        self._view.show_planned("", "", False)
        self._view.error.say(notify(error), "error")
        self.refresh()

    @slot
    def show_where(self) -> None:
        """Zoom to all that would change, not closer than x40."""
        if self.planned is None or self.planned.pixels == 0:
            return
        box, mpp = self.planned.box, self.planned.grid.mpp
        middle = (box.y0 + box.y1) * mpp / 2, (box.x0 + box.x1) * mpp / 2
        least = [size / (_CLOSEST * _MARGIN) for size in self._viewer.canvas.size]
        half_y = max(box.height * mpp, least[0]) / 2
        half_x = max(box.width * mpp, least[1]) / 2
        camera.show_box(
            self._viewer,
            (middle[0] - half_y, middle[1] - half_x, middle[0] + half_y, middle[1] + half_x),
            _MARGIN,
        )

    # Importing

    @slot
    def do_import(self) -> None:
        """Do it, as one act of the reader's."""
        entry, planned = self.file.entry, self.planned
        why_not = self._why_not_import()
        if not why_not and not self._slides.reader:
            why_not = "Say who imports first: the field Reader above."
            self._slides.ask_for_reader()
        self._view.error.say(why_not, "warning" if why_not else "")
        if entry is None or planned is None or why_not:
            return
        # What is painted comes first.
        self._painting.save()
        reader = self._slides.reader
        stop = self._importing = threading.Event()
        self._planning.stop()
        self._view.show_importing(True)
        self._view.show_progress(_TITLE, 0.0)

        def work(act: Act) -> EditResult | None:
            # Acts tell nobody that one was stopped, so that is an answer here.
            self._under_way = True
            try:
                if stop.is_set():
                    return None
                return import_plan(act.case, planned, reader, act.progress, act.cancel)
            except CancelledError:
                return None
            finally:
                self._under_way = False

        self._acts.do(
            _TITLE,
            entry,
            work,
            lambda result: self._imported(entry, planned.grid.mpp, result),
            self._failed,
        )

    @slot
    def _progressed(self, title: str, part: float) -> None:
        if self._importing is not None and title == _TITLE and not self._importing.is_set():
            self._view.show_progress(f"{_TITLE}, {part:.0%}".replace("%", " %"), part)

    @slot
    def _imported(self, entry: OpenSlide, mpp: float, result: EditResult | None) -> None:
        self._importing = None
        self._view.show_importing(False)
        self._view.hide_progress()
        if result is None:
            self._view.told.say("Stopped; nothing is changed")
            self._changed()
            return
        self.end()
        if result.entry is None:
            self._view.told.say("Nothing changed: it is so already.")
        else:
            text = changes_text(pairs(result.entry.body.get("changes", {})), mpp)
            self._view.told.say(f"Imported:\n{text}\nUndo in the section Correct takes it back.")
        if entry in self._slides.open:
            self._saver.take(entry, result)

    @slot
    def _failed(self, error: Exception) -> None:
        self._importing = None
        self._view.show_importing(False)
        self._view.hide_progress()
        if self.file.entry is not self._slides.active:
            self.end()
        self._view.error.say(notify(error), "error")
        self._changed()

    # Ending

    @slot
    def end(self) -> None:
        """Change nothing: close the file and take the preview off the canvas."""
        if self._importing is not None:
            return
        self._forget()
        self._view.show_idle()
        self._view.error.say("")
        self.refresh()

    def _forget(self) -> None:
        self._planning.stop()
        self.preview.remove()
        self.planned = None
        self.file.close()

    def close(self, viewer_stays: bool) -> None:
        """Let go of the file, and of the viewer if that stays."""
        self._planning.stop()
        self.file.close()
        if viewer_stays:
            self.preview.remove()

    @slot
    def hold_hidden(self, hidden: bool) -> None:
        """Hide the preview while a key is held."""
        self.preview.hold_hidden(hidden)

    @slot
    def _slide_changed(self) -> None:
        entry = self.file.entry
        if self._importing is not None:
            # It is being done; what it changes is not to be seen on another slide.
            if entry is not self._slides.active:
                self.preview.remove()
        else:
            if entry is not None and entry is not self._slides.active:
                self.end()
            self._view.told.say("")
            self._view.error.say("")
        self.refresh()

    @slot
    def _slide_removed(self, entry: OpenSlide) -> None:
        if entry is self.file.entry and self._importing is None:
            self.end()

    @slot
    def _results_changed(self, entry: OpenSlide) -> None:
        if entry is self.file.entry and entry.session.live is None:
            self._changed()
        self.refresh()

    @slot
    def _corrected(self, entry: OpenSlide) -> None:
        if entry is self.file.entry:
            self._changed()

    @slot
    def _style_changed(self) -> None:
        self.preview.set_style(self._overlay.style)


def _has_offset(entry: OpenSlide) -> bool:
    """Whether it makes a difference where outlines count from."""
    bounds = entry.session.slide.info.bounds
    return bounds is not None and bool(bounds.y or bounds.x)
