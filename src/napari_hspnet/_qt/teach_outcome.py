"""After the verdict: to accept or refuse the new model, to segment again, to go back."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QMessageBox

from napari_hspnet._qt import camera
from napari_hspnet._qt.model_control import ModelControl
from napari_hspnet._qt.segment_control import SegmentControl
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.teach_verdict import VerdictView, read_picture
from napari_hspnet._qt.teach_words import alarming, joined
from napari_hspnet._qt.teach_work import Parent, accept, go_back, refuse
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.slides import Region

if TYPE_CHECKING:
    from napari_hspnet.jobs.finetune import FinetuneResult
    from napari_hspnet.networks.registry import ModelRecord

__all__ = ["TeachOutcome"]

_CHANNEL = "teach decision"
_TITLES = {
    "better": "Better, the gate says: accept?",
    "worse": "Worse, the gate says: refused",
    "no difference": "No difference that could be told",
    "too few to judge": "Too few to judge",
}
_AGAIN = {
    "slide": "The whole slide with the new model",
    "shapes": "The regions of the last run, with the new model",
    "view": "Where the last run was, with the new model",
}


class TeachOutcome(QObject):
    """What becomes of a new model; the registry keeps who decided."""

    decided = Signal()

    def __init__(
        self,
        viewer: Any,
        view: VerdictView,
        jobs: Jobs,
        slides: SlidesControl,
        models: ModelControl,
        segmenting: SegmentControl,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._view, self._jobs = viewer, view, jobs
        self._slides, self._models, self._segmenting = slides, models, segmenting
        self._result: FinetuneResult | None = None
        self._parent: Parent | None = None
        view.accept_asked.connect(self.accept)
        view.refuse_asked.connect(self.refuse)
        view.again_asked.connect(self.segment_again)
        view.back_asked.connect(self.go_back)
        view.picture_asked.connect(self.open_picture)
        view.picture_wanted.connect(self.read_picture)
        for signal in (
            slides.active_changed,
            slides.results_changed,
            models.changed,
            segmenting.running_changed,
        ):
            signal.connect(self.refresh)

    def show(self, result: FinetuneResult, parent: Parent) -> None:
        """Show a verdict, and let one decide.

        Parameters
        ----------
        result : FinetuneResult
        parent : Parent
            The model that learned.
        """
        self._result, self._parent = result, parent
        done = result.done
        self._view.show_verdict(
            _TITLES.get(done.decision, done.decision),
            done.text,
            done.verdict,
            done.pictures,
            done.advised,
        )

    @slot
    def open_picture(self, path: str) -> None:
        """Show a picture as large as the system's viewer shows it."""
        QDesktopServices.openUrl(QUrl.fromLocalFile(path))

    @slot
    def read_picture(self, path: str) -> None:
        """Read a picture in a worker and show it small."""
        self._jobs.start(
            "teach picture",
            lambda job: read_picture(path),
            done=partial(self._view.show_picture, path),
        )

    # The decision

    @slot
    def accept(self) -> None:
        """Use the new model; where the gate refuses it, ask first."""
        result, reader = self._result, self._named()
        if result is None or not reader:
            return
        done = result.done
        why = f"the gate says: {done.decision}"
        if done.verdict.get("refused"):
            if not self._confirmed():
                return
            why += "; overruled"

        def work(job: Job) -> ModelRecord:
            return accept(result.sha256, reader, why, dict(done.verdict))

        def accepted(record: ModelRecord) -> None:
            self._view.show_decided(f"Accepted by {reader}. {record.name} is in use now.")
            self._use(record)
            assert self._parent is not None
            self._view.show_after(self._parent.name)
            self.refresh()

        self._decide(work, accepted)

    @slot
    def refuse(self) -> None:
        """Keep the model of now."""
        result, reader = self._result, self._named()
        if result is None or not reader:
            return
        done = result.done

        def work(job: Job) -> ModelRecord:
            why = f"the gate says: {done.decision}"
            return refuse(result.sha256, reader, why, dict(done.verdict))

        def refused(record: ModelRecord) -> None:
            self._view.show_decided(f"Refused by {reader}. The model of now stays in use.")
            self._models.list_models()
            self.decided.emit()

        self._decide(work, refused)

    @slot
    def go_back(self) -> None:
        """Use the model that learned, as it was before."""
        parent, reader = self._parent, self._named()
        if parent is None or not reader:
            return

        def back(record: ModelRecord) -> None:
            self._view.show_decided(f"Back to {record.name}; the new model stays in the list.")
            self._use(record)
            self._view.show_after("")
            self.refresh()

        self._decide(lambda job: go_back(parent, reader), back)

    def _decide(self, work: Any, done: Any) -> None:
        def failed(error: Exception) -> None:
            self._view.allow_decision(True)
            self._view.back.setEnabled(True)
            self._view.told.say(notify(error), "error")

        def decided(record: ModelRecord) -> None:
            self._view.back.setEnabled(True)
            done(record)

        self._view.allow_decision(False)
        self._view.back.setEnabled(False)
        self._jobs.start(_CHANNEL, work, done=decided, error=failed)

    def _use(self, record: ModelRecord) -> None:
        self._models.list_models()
        if record.path is not None:
            self._models.load(record.path)
        self.decided.emit()

    def _named(self) -> str:
        """Who decides; empty, and a word why, while nobody has said so."""
        reader = self._slides.reader
        if not reader:
            self._view.told.say(
                "Say who decides first: the field Reader in the section Slide.", "warning"
            )
            self._slides.ask_for_reader()
        return reader

    def _confirmed(self) -> bool:
        assert self._result is not None
        lost = joined(alarming(self._result.done.verdict))
        answer = QMessageBox.question(
            self._view,
            "Accept in spite of it?",
            f"{lost}\n\nAccept in spite of it? The registry keeps that you overruled the verdict.",
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    # Afterwards

    @slot
    def refresh(self) -> None:
        """Bring Segment again up to date."""
        if self._view.after_row.isHidden():
            return
        entry = self._slides.active
        region = None if entry is None else _last_region(entry)
        if region is None:
            self._view.allow_again("Nothing is segmented on this slide yet.", "")
        else:
            self._view.allow_again(self._segmenting.why_not(region), _AGAIN.get(region.kind, ""))

    @slot
    def segment_again(self) -> None:
        """Run the new model exactly where the last run was; corrections stay on top."""
        entry = self._slides.active
        region = None if entry is None else _last_region(entry)
        if region is None:
            return
        why_not = self._segmenting.why_not(region)
        if why_not:
            self._view.told.say(why_not, "warning")
            return
        self._bring_into_sight(region)
        self._segmenting.segment(region)

    def _bring_into_sight(self, region: Region) -> None:
        """Go to a region of which nothing is seen."""
        points = [point for polygon in region.polygons for point in polygon]
        if not points:
            return
        ys, xs = zip(*points, strict=True)
        box = min(ys), min(xs), max(ys), max(xs)
        y0, x0, y1, x1 = camera.view_of(self._viewer)
        if box[0] >= y1 or box[2] <= y0 or box[1] >= x1 or box[3] <= x0:
            camera.show_box(self._viewer, box)


def _last_region(entry: OpenSlide) -> Region | None:
    """The region of the topmost run that is shown."""
    runs = entry.session.runs
    return Region.from_dict(runs[0].record.region) if runs else None
