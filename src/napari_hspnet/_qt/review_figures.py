"""What is said of the view and of a new run: worst grade, and where readers disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from napari_hspnet._qt import camera
from napari_hspnet._qt.overlay_control import OverlayControl
from napari_hspnet._qt.review_view import ReviewView
from napari_hspnet._qt.review_words import said_text, worst_text
from napari_hspnet._qt.segment_control import SegmentControl
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.words import area
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.cases.grades import Grades
from napari_hspnet.errors import RegionError
from napari_hspnet.slides import PixelBox, Region

if TYPE_CHECKING:
    from napari_hspnet.cases.disagreements import Disagreement
    from napari_hspnet.jobs.segment import SegmentResult

__all__ = ["ReviewFigures"]

_WAIT = 150
_LEAST_UM2 = 1000.0
_MOST_LISTED = 200
_VIEW, _DIFFER = "worst on view", "disagreements"


class ReviewFigures(QObject):
    """Follows the view and the runs."""

    def __init__(
        self,
        viewer: Any,
        view: ReviewView,
        jobs: Jobs,
        slides: SlidesControl,
        overlay: OverlayControl,
        segmenting: SegmentControl,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._view, self._jobs = viewer, view, jobs
        self._slides, self._overlay = slides, overlay
        self._grades: Grades | None = None
        self._again = False
        self._found: dict[int, tuple[Disagreement, ...]] = {}
        self._shown: tuple[Disagreement, ...] = ()
        self._waiting = QTimer(self)
        self._waiting.setSingleShot(True)
        self._waiting.setInterval(_WAIT)
        self._waiting.timeout.connect(self._count_view)
        slides.view_changed.connect(self.refresh)
        slides.active_changed.connect(self._slide_changed)
        slides.results_changed.connect(lambda entry: self.refresh())
        slides.removed.connect(self._slide_removed)
        segmenting.landed.connect(lambda entry: self.refresh())
        segmenting.finished.connect(self._run_finished)
        overlay.style_changed.connect(self._style_changed)
        view.disagreements_toggled.connect(view.show_places)
        self._slide_changed()

    def close(self) -> None:
        """End waiting."""
        self._waiting.stop()

    # The view

    @slot
    def refresh(self) -> None:
        """Look at the view again, once it rests."""
        self._waiting.start()

    @slot
    def _count_view(self) -> None:
        entry = self._slides.active
        composite = None if entry is None else entry.session.composite
        if entry is None or composite is None:
            self._say_worst(None)
            return
        if self._jobs.busy(_VIEW):
            self._again = True
            return
        seen = camera.clipped(camera.view_of(self._viewer), entry.session.slide.info)
        if seen is None:
            self._say_worst(None)
            return
        box = camera.label_box(seen, composite.grid.mpp)

        def done(found: Any) -> None:
            if entry is self._slides.active:
                self._say_worst(Grades(found.mm2))
            if self._again:
                self._again = False
                self.refresh()

        def work(job: Job) -> Any:
            # Counting holds the interpreter for milliseconds: first the slot comes to its end.
            job.cancel.wait(0.01)
            job.check()
            return composite.areas(box)

        self._jobs.start(_VIEW, work, done=done, error=_dropped)

    def _say_worst(self, grades: Grades | None) -> None:
        self._grades = grades
        text, detail = worst_text(grades, self._overlay.style)
        self._view.worst.say(text)
        self._view.worst_detail.say(detail)

    @slot
    def _style_changed(self) -> None:
        self._say_worst(self._grades)
        self._show_differences()

    @slot
    def _slide_changed(self) -> None:
        self._jobs.cancel(_VIEW)
        self._again = False
        self._say_worst(None)
        self._view.show_places(False)
        self._show_differences()
        self.refresh()

    @slot
    def _slide_removed(self, entry: OpenSlide) -> None:
        self._found.pop(entry.number, None)
        self._jobs.cancel(f"{_DIFFER} {entry.number}")

    # A new run

    @slot
    def _run_finished(self, entry: OpenSlide, result: SegmentResult) -> None:
        """Compare what readers said with what the new run says there."""
        self._found.pop(entry.number, None)
        self._show_differences()
        case, composite = entry.session.case, entry.session.composite
        if case is None or composite is None or not case.corrections.chunks:
            return
        grid, region = composite.grid, Region.from_dict(result.run.record.region)

        def work(job: Job) -> tuple[Disagreement, ...]:
            from napari_hspnet.cases.disagreements import disagreements

            try:
                covered = region.box(grid)
            except RegionError:
                return ()
            found = disagreements(composite, _LEAST_UM2, case.corrections.chunks, cancel=job.cancel)
            return tuple(each for each in found if _meet(each.box, covered))

        def done(found: tuple[Disagreement, ...]) -> None:
            self._found[entry.number] = found
            self._show_differences()

        channel = f"{_DIFFER} {entry.number}"
        self._jobs.start(channel, work, done=done, error=self._not_compared)

    @slot
    def _not_compared(self, error: Exception) -> None:
        self._view.error.say(notify(error), "error")

    def place(self, number: int) -> PixelBox | None:
        """Where the listed place of this number lies."""
        return self._shown[number].box if number < len(self._shown) else None

    def _show_differences(self) -> None:
        entry = self._slides.active
        found = None if entry is None else self._found.get(entry.number)
        grid = None if entry is None else entry.session.grid
        if found is None or grid is None:
            self._shown = ()
            self._view.show_disagreements("", ())
            return
        square = (grid.mpp / 1000) ** 2
        self._shown = found[:_MOST_LISTED]
        style = self._overlay.style
        places = [
            f"{area(each.pixels * square)}: reader {said_text(each.said, style)}, "
            f"run {said_text(each.predicted, style)}"
            for each in self._shown
        ]
        if not found:
            self._view.show_disagreements("The new prediction agrees with all corrections.", ())
            return
        total = area(sum(each.pixels for each in found) * square)
        many = f"{len(found):,} place{'' if len(found) == 1 else 's'}"
        more = f"; the {_MOST_LISTED} largest are listed" if len(found) > _MOST_LISTED else ""
        self._view.show_disagreements(
            f"New prediction disagrees with corrections at {many}, {total}{more}. "
            "The corrections stay.",
            places,
        )


def _meet(one: PixelBox, other: PixelBox) -> bool:
    common = one.intersect(other)
    return common.height > 0 and common.width > 0


def _dropped(error: Exception) -> None:
    """A figure that cannot be had is no harm: the canvas says what is wrong."""
