"""The dock: eight folding sections, and what joins them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_hspnet._qt.acts import Acts
from napari_hspnet._qt.compare_control import CompareControl
from napari_hspnet._qt.control import DockControl
from napari_hspnet._qt.correct_control import CorrectControl
from napari_hspnet._qt.correct_view import CorrectView
from napari_hspnet._qt.edit_keys import CORRECTING, EVERYWHERE, EditKeys
from napari_hspnet._qt.export_control import ExportControl
from napari_hspnet._qt.export_view import ExportView
from napari_hspnet._qt.import_control import ImportControl
from napari_hspnet._qt.import_view import ImportView
from napari_hspnet._qt.keys import HIDE, OBJECTIVE_KEYS, SEGMENT_VIEW, Keys, readable
from napari_hspnet._qt.label_image import LabelControl
from napari_hspnet._qt.memory import Memory
from napari_hspnet._qt.model_control import ModelControl
from napari_hspnet._qt.model_view import ModelView
from napari_hspnet._qt.overlay_control import OverlayControl
from napari_hspnet._qt.overlay_view import OverlayView
from napari_hspnet._qt.paint_control import PaintControl
from napari_hspnet._qt.parts import FoldingSection, notes_stylesheet
from napari_hspnet._qt.readings_control import ReadingsControl
from napari_hspnet._qt.review_control import ReviewControl
from napari_hspnet._qt.review_view import ReviewView
from napari_hspnet._qt.ruler import Ruler
from napari_hspnet._qt.saver import Saver
from napari_hspnet._qt.segment_control import SegmentControl
from napari_hspnet._qt.segment_view import SegmentView
from napari_hspnet._qt.slide_view import SlideView
from napari_hspnet._qt.slides_control import SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.teach_control import TeachControl
from napari_hspnet._qt.teach_outcome import TeachOutcome
from napari_hspnet._qt.teach_view import TeachView
from napari_hspnet._qt.work import Jobs
from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.jobs.threads import let_threads_sleep

__all__ = ["ReviewDock"]

WIDTH = 320


class ReviewDock(QWidget):
    """The widget that napari's plugin menu opens.

    Parameters
    ----------
    napari_viewer : napari.Viewer
        The window that it is for.
    """

    def __init__(self, napari_viewer: Any) -> None:
        let_threads_sleep()
        super().__init__()
        # napari hands plugins a proxy, whose layers are proxies too: identity would
        # not hold between those and the ones that events bring.
        napari_viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.setObjectName("hspnet_review")
        self.setMinimumWidth(WIDTH)
        self._viewer = napari_viewer
        self._closed = False
        self._folded: list[str] | None = None
        self.jobs = Jobs(self)
        self.slide_view = SlideView({p: readable(k) for p, k in OBJECTIVE_KEYS.items()})
        self.model_view = ModelView()
        self.segment_view = SegmentView(readable(SEGMENT_VIEW))
        self.overlay_view = OverlayView(readable(HIDE))
        self.correct_view = CorrectView(
            {name: key for name, (key, _) in {**EVERYWHERE, **CORRECTING}.items()}
        )
        self.review_view = ReviewView()
        self.teach_view = TeachView()
        self.export_view = ExportView()
        self.import_view = ImportView()
        self.import_view.opened.connect(self.export_view.make_room)
        self._lay_out()
        self.memory = Memory()
        self.slides = SlidesControl(napari_viewer, self.slide_view, self.jobs, self.memory, self)
        self.acts = Acts(self.slides, self)
        self.models = ModelControl(self.model_view, self.jobs, self)
        self.models.reader = lambda: self.slides.reader
        self.segmenting = SegmentControl(
            napari_viewer, self.segment_view, self.jobs, self.slides, self.models, self
        )
        self.readings = ReadingsControl(
            self.slide_view.readings, self.acts, self.slides, self.segmenting, self
        )
        self.overlay = OverlayControl(
            napari_viewer,
            self.overlay_view,
            self.slide_view.overview,
            self.jobs,
            self.slides,
            self.models,
            self.segmenting,
            self,
        )
        self.saver = Saver(self.acts, self.slides, self.correct_view.error, self)
        self.painting = PaintControl(
            napari_viewer,
            self.correct_view,
            self.acts,
            self.saver,
            self.slides,
            self.overlay,
            self,
        )
        self.correcting = CorrectControl(
            napari_viewer,
            self.correct_view,
            self.acts,
            self.saver,
            self.slides,
            self.overlay,
            self.painting,
            self,
        )
        self.reviewing = ReviewControl(
            napari_viewer,
            self.review_view,
            self.jobs,
            self.acts,
            self.slides,
            self.overlay,
            self.segmenting,
            self,
        )
        self.correcting.corrected.connect(self.reviewing.refresh)
        self.comparing = CompareControl(
            self.review_view.compare,
            self.jobs,
            self.acts,
            self.slides,
            self.overlay,
            self.reviewing,
            self,
        )
        self.teaching = TeachControl(
            self.teach_view,
            self.jobs,
            self.acts,
            self.saver,
            self.slides,
            self.models,
            self.painting,
            self.reviewing,
            self.memory,
            self,
        )
        self.outcome = TeachOutcome(
            napari_viewer,
            self.teach_view.verdict,
            self.jobs,
            self.slides,
            self.models,
            self.segmenting,
            self,
        )
        self.teaching.learned.connect(self.outcome.show)
        self.labels = LabelControl(self.slide_view, self.jobs, self.slides, self)
        self.exporting = ExportControl(
            self.export_view,
            self.jobs,
            self.acts,
            self.saver,
            self.slides,
            self.segmenting,
            self.overlay,
            self.painting,
            self.memory,
            self,
        )
        self.importing = ImportControl(
            napari_viewer,
            self.import_view,
            self.jobs,
            self.acts,
            self.saver,
            self.slides,
            self.overlay,
            self.painting,
            self,
        )
        self.control = DockControl(self.slides, self.models, self.segmenting)
        self.keys = Keys(
            napari_viewer, self._hold_hidden, self.segment_what_i_see, self.slides.zoom_to
        )
        self.ruler = Ruler(napari_viewer, self.slide_view.show_ruler)
        self.slide_view.ruler_toggled.connect(self.ruler.set_on)
        self.edit_keys = EditKeys(napari_viewer, self._edit_actions())
        self.painting.state_changed.connect(self._correcting_changed)
        self._main: QWidget | None = None
        napari_viewer.events.theme.connect(self._follow_theme)
        self._follow_theme()
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.connect(self.shut_down)

    @slot
    def segment_what_i_see(self) -> None:
        """What the key does: choose the view as target and start."""
        self.segmenting.choose("view")
        self.segmenting.segment()

    def _hold_hidden(self, hidden: bool) -> None:
        self.overlay.hold_hidden(hidden)
        self.painting.hold_hidden(hidden)
        self.importing.hold_hidden(hidden)

    def _edit_actions(self) -> dict[str, Callable[[], None]]:
        """What each of our shortcuts does."""
        grades = {
            f"grade_{value}": partial(self.painting.tools.choose_grade, value)
            for value in self.correct_view.grades
        }
        return grades | {
            "paint": self.painting.toggle,
            "region": self.correcting.regrade_under_pointer,
            "accept": self.correcting.accept_view,
            "undo": self.correcting.undo,
            "redo": self.correcting.redo,
            "next": self.reviewing.next_region,
            "previous": self.reviewing.previous_region,
            "sign_off": self.reviewing.sign_off,
            "tag": self.reviewing.cycle_tag,
        }

    @slot
    def _correcting_changed(self) -> None:
        on = self.painting.on
        self.edit_keys.set_correcting(on)
        if on == (self._folded is not None):
            return
        if on:
            # What one does not need now makes room for what one does.
            self._folded = [n for n in ("model", "segment") if self.sections[n].is_open]
            for name in self._folded:
                self.sections[name].set_open(False)
            self.sections["correct"].set_open(True)
            QTimer.singleShot(0, lambda: self._area.ensureWidgetVisible(self.correct_view))
        else:
            for name in self._folded or []:
                self.sections[name].set_open(True)
            self._folded = None

    def shut_down(self, viewer_stays: bool = False) -> None:
        """Cancel what runs, close cases, give keys, text and callbacks back.

        Parameters
        ----------
        viewer_stays : bool
            Whether only the dock goes: then overlays are taken off the canvas.
        """
        if self._closed:
            return
        self._closed = True
        self._viewer.events.theme.disconnect(self._follow_theme)
        self.keys.give_back()
        self.edit_keys.remove()
        self.painting.close(viewer_stays)
        self.reviewing.close(viewer_stays)
        self.importing.close(viewer_stays)
        self.labels.close()
        self.segmenting.close()
        # First the jobs and acts, so that nothing writes into a case that is being closed.
        self.jobs.close()
        self.acts.close()
        self.overlay.close(viewer_stays)
        self.ruler.close(viewer_stays)
        self.slides.close(remove_results=viewer_stays)
        if self._main is not None:
            self._main.removeEventFilter(self)
            # A window that is held here would outlive its closing.
            self._main = None
        application = QApplication.instance()
        if application is not None:
            application.aboutToQuit.disconnect(self.shut_down)

    def _follow_theme(self, event: Any = None) -> None:
        from napari.utils.theme import get_theme

        background = get_theme(self._viewer.theme).background.as_rgb_tuple()[:3]
        dark = sum(background) < 384
        self.setStyleSheet(notes_stylesheet(dark))
        self.teach_view.curves.set_dark(dark)

    def event(self, event: Any) -> bool:
        # napari takes the widget out of its dock when that is closed.
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.shut_down(viewer_stays=True)
        return super().event(event)

    def closeEvent(self, event: Any) -> None:
        self.shut_down(viewer_stays=True)
        super().closeEvent(event)

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        if self._main is None and self.window() is not self:
            self._main = self.window()
            self._main.installEventFilter(self)
            self.edit_keys.install(_outermost(self))

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        if watched is self._main and event is not None and event.type() == QEvent.Type.Close:
            QTimer.singleShot(0, self._main_closed)
        return False

    def _main_closed(self) -> None:
        # The user may have been asked, and have said no.
        if self._main is not None and not self._main.isVisible():
            self.shut_down()

    def _lay_out(self) -> None:
        title = QLabel("HSP-Net review")
        title.setObjectName("title")
        title.setStyleSheet("font-weight: bold; font-size: 14px;")
        notice = QLabel(RESEARCH_USE_ONLY)
        notice.setObjectName("notice")
        notice.setProperty("kind", "warning")
        notice.setStyleSheet("font-weight: bold;")
        notice.setToolTip("Not a medical device; not for diagnosis")
        header = QHBoxLayout()
        header.setContentsMargins(6, 4, 6, 2)
        header.addWidget(title)
        header.addStretch(1)
        header.addWidget(notice)
        content = QWidget()
        content.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        column = QVBoxLayout(content)
        column.setContentsMargins(2, 0, 4, 4)
        column.setSpacing(4)
        self.sections = {
            name: FoldingSection(title, view, f"section_{name}")
            for name, title, view in (
                ("slide", "Slide", self.slide_view),
                ("model", "Model", self.model_view),
                ("segment", "Segment", self.segment_view),
                ("overlay", "Overlay", self.overlay_view),
                ("correct", "Correct", self.correct_view),
                ("review", "Review", self.review_view),
                ("teach", "Teach", self.teach_view),
                ("export", "Export and import", _stacked(self.export_view, self.import_view)),
            )
        }
        for part in self.sections.values():
            column.addWidget(part)
        # Only after a review is there anything to teach.
        self.sections["teach"].set_open(False)
        column.addStretch(1)
        area = self._area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QScrollArea.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(header)
        layout.addWidget(area, 1)


def _stacked(*widgets: QWidget) -> QWidget:
    """Widgets one below the other."""
    holder = QWidget()
    layout = QVBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(0)
    for widget in widgets:
        layout.addWidget(widget)
    return holder


def _outermost(widget: QWidget) -> QWidget:
    """napari's main window, also while the dock floats."""
    while (above := widget.parentWidget()) is not None:
        widget = above
    return widget
