"""Teaching: what is learned from, the fine-tuning and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_hspnet._qt.acts import Acts
from napari_hspnet._qt.memory import Memory
from napari_hspnet._qt.model_control import ModelControl
from napari_hspnet._qt.paint_control import PaintControl
from napari_hspnet._qt.region_book import DONE_STATES
from napari_hspnet._qt.review_control import ReviewControl
from napari_hspnet._qt.saver import Saver
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.teach_view import SourceRow, TeachView
from napari_hspnet._qt.teach_waiting import TeachWaiting
from napari_hspnet._qt.teach_words import Account, account_of, step_text, told_text
from napari_hspnet._qt.teach_work import Asked, Parent, can_go_on, learn, plan, remembered
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.jobs.finetune import FinetuneOptions, FinetuneSource
from napari_hspnet.jobs.finetune_events import Judged, Prepared, Started, Step, Told
from napari_hspnet.jobs.finetune_request import FinetuneRequest

if TYPE_CHECKING:
    from napari_hspnet.jobs.finetune import FinetuneResult

__all__ = ["TeachControl"]

_LEARN, _PLAN, _FORMER = "teach", "teach plan", "teach former"
_BROKEN_OFF = "fine-tuning begun"


class TeachControl(QObject):
    """The Teach section's controller up to the verdict.

    What is learned from is what the cases hold when the process reads them, with all
    that was painted until the button was pressed. It ends with the window; what was
    learned until then lies in its folder, and the next window offers to go on.
    """

    running_changed = Signal()
    learned = Signal(object, object)
    """(`FinetuneResult`, `Parent`): a new model is there, or one that waits is shown again."""

    def __init__(
        self,
        view: TeachView,
        jobs: Jobs,
        acts: Acts,
        saver: Saver,
        slides: SlidesControl,
        models: ModelControl,
        painting: PaintControl,
        reviewing: ReviewControl,
        memory: Memory,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._view, self._jobs, self._acts, self._saver = view, jobs, acts, saver
        self._slides, self._models, self._painting = slides, models, painting
        self._reviewing, self._memory = reviewing, memory
        self.running = False
        self.pid: int | None = None
        """Of the process that learns; None while there is none."""
        self._stopping = False
        self._account: Account | None = None
        self._looked_at: Any = None
        self._stale = False
        self._corrections = 0
        self._begun: FinetuneRequest | None = None
        self._former: FinetuneRequest | None = None
        self._parent: Parent | None = None
        view.plan_asked.connect(self.look)
        view.teach_asked.connect(self.teach)
        view.go_on_asked.connect(self.go_on)
        view.cancel_asked.connect(self.cancel)
        view.changed.connect(self.refresh)
        for signal in (
            slides.active_changed,
            slides.removed,
            slides.results_changed,
            reviewing.changed,
            models.changed,
            saver.changed,
        ):
            signal.connect(self.refresh)
        saver.corrected.connect(self._corrected)
        self._waiting = TeachWaiting(view, jobs, models, self)
        self._waiting.shown.connect(self._show_again)
        self.refresh()
        self._look_for_former()

    # What to learn from

    def why_not(self) -> str:
        """Why nothing can be taught now; empty if something can."""
        if not self._slides.open:
            return "Open a slide first."
        if not self._rows():
            return (
                "No region is reviewed yet: correct some, then mark them as reviewed or sign them "
                "off (section Review)."
            )
        entries = [entry for entry, _ in self._ticked()]
        if not entries:
            return "Tick the slides to learn from."
        cases = [entry.session.case for entry in entries]
        if not any(case is not None and case.corrections.chunks for case in cases):
            return "Nothing is corrected in these slides yet, so there is nothing new to learn."
        if self._models.loading:
            return "The model is being loaded."
        if self._models.loaded is None or self._models.loaded.path is None:
            return "Choose the model that is to learn first (section Model)."
        if self._saver.unsaved:
            return "What was painted last is not saved yet (section Correct says why)."
        return ""

    def _rows(self) -> tuple[SourceRow, ...]:
        rows = []
        for entry in self._slides.open:
            regions = self._reviewing.book.of(entry).regions
            count = sum(r.state in DONE_STATES and not r.tag for r in regions)
            if entry.session.case is not None and count:
                rows.append(SourceRow(entry.number, entry.session.slide.info.name, count))
        return tuple(rows)

    def _ticked(self) -> list[tuple[OpenSlide, str]]:
        known = {entry.number: entry for entry in self._slides.open}
        return [(known[key], name) for key, name in self._view.sources.ticked if key in known]

    @slot
    def refresh(self) -> None:
        """Bring the list of slides and the buttons up to date."""
        self._view.sources.show_rows(self._rows())
        if not self._models.loading:
            self._view.options.offer_synthetic(self._models.synthetic)
        if not self.running:
            self._view.allow(self.why_not(), primary=self._view.verdict.isHidden())
        if self._account is not None:
            stale = not self.running and self._looked_at != self._state()
            if stale != self._stale:
                self._show_account(stale)

    @slot
    def _corrected(self) -> None:
        self._corrections += 1
        self.refresh()

    def _state(self) -> Any:
        """All that decides what would be learned from."""
        model = self._models.loaded
        return (
            self._view.sources.ticked,
            self._rows(),
            [[run.id for run in entry.session.runs] for entry, _ in self._ticked()],
            self._corrections,
            None if model is None else model.sha256,
            self._view.options.said(),
            self._view.options.config.path,
        )

    def _show_account(self, stale: bool) -> None:
        self._stale = stale
        self._view.show_account(self._account, stale)

    def _asked(self) -> Asked | None:
        """What the section says; None where that is nothing."""
        model, sources = self._models.loaded, []
        for entry, patient in self._ticked():
            case = entry.session.case
            if case is not None:
                sources.append(FinetuneSource(case.folder, entry.session.slide.info.path, patient))
        if model is None or model.path is None:
            return None
        device = self._models.device
        options = FinetuneOptions(
            device="" if device == "auto" else device,
            by=self._slides.reader,
            **self._view.options.said(),
        )
        return Asked(tuple(sources), model.path, options, self._view.options.config.path)

    @slot
    def look(self) -> None:
        """Say what it would learn from, once all that was painted is saved."""
        self._after_saving(self._look)

    def _look(self) -> None:
        asked = self._asked()
        if self.running or asked is None or self._saver.unsaved:
            return

        self._looked_at = self._state()

        def done(prepared: Prepared) -> None:
            self._view.show_planning(False)
            self._account = account_of(prepared)
            self._show_account(self._looked_at != self._state())

        def failed(error: Exception) -> None:
            self._view.show_planning(False)
            self._account = None
            self._view.show_account(None)
            self._view.told.say(notify(error), "error")

        self._view.told.say("")
        self._view.show_planning(True)
        self._jobs.start(_PLAN, lambda job: plan(asked, job.cancel), done=done, error=failed)

    def _after_saving(self, then: Any) -> None:
        """Call something once all strokes ordered so far are in the cases."""
        why_not, entry = self.why_not(), self._slides.active
        if self.running or why_not or entry is None:
            self._view.told.say(why_not, "warning")
            return
        self._painting.save()
        self._acts.look(entry, lambda: None, lambda nothing: then())

    # The fine-tuning

    @slot
    def teach(self) -> None:
        """Begin to fine-tune."""
        self._after_saving(self._teach)

    def _teach(self) -> None:
        asked, model = self._asked(), self._models.loaded
        if self._saver.unsaved or asked is None or model is None:
            self._view.told.say(self.why_not(), "warning")
            return
        self._start(asked, Parent(model.card.name, asked.parent, model.sha256))

    @slot
    def go_on(self) -> None:
        """Go on with the one that was broken off."""
        if self._former is not None:
            path = self._former.parent
            self._start(self._former, Parent(path.stem, path))

    def _start(self, asked: Asked | FinetuneRequest, parent: Parent) -> None:
        if self.running:
            return
        self._jobs.cancel(_PLAN)
        self._view.show_planning(False)
        former, model = self._former, self._models.loaded
        self._parent, self._stopping, self.running = parent, False, True
        self._looked_at = self._state()
        self._view.show_running(asked.options.epochs or 1)
        self._view.show_progress("Starting", None)
        self._jobs.start(
            _LEARN,
            lambda job: learn(job, asked, model, self._models.network_in_use, former),
            report=self._reported,
            done=self._done,
            error=self._failed,
            cancelled=self._cancelled,
        )
        self.running_changed.emit()

    @slot
    def cancel(self) -> None:
        """Stop; the model is as it was."""
        if self.running:
            self._stopping = True
            self._view.cancel.setEnabled(False)
            self._view.show_progress("Stopping", None)
            self._jobs.ask_to_stop(_LEARN)

    @slot
    def _reported(self, event: Any) -> None:
        if isinstance(event, FinetuneRequest):
            self._begun = event
            self._memory.keep(_BROKEN_OFF, event.to_line())
        elif isinstance(event, Started):
            self.pid = event.pid
        elif isinstance(event, Prepared):
            self._account = account_of(event)
            self._show_account(stale=False)
        elif isinstance(event, Step):
            self._view.curves.add_loss(event.step / event.of * event.epochs, event.loss)
            self._tell(step_text(event), event.step / event.of)
        elif isinstance(event, Judged):
            self._view.curves.add_judged(event.epoch, event.figures)
        elif isinstance(event, Told):
            self._tell(told_text(event), event.fraction)

    def _tell(self, text: str, part: float | None) -> None:
        if not self._stopping:
            self._view.show_progress(text, part)

    @slot
    def _done(self, result: FinetuneResult) -> None:
        parent = self._parent
        self._memory.keep(_BROKEN_OFF, "")
        self._end()
        self._begun = self._former = None
        self._view.offer_to_go_on("")
        assert parent is not None
        self.learned.emit(result, parent)
        self.refresh()

    @slot
    def _show_again(self, result: FinetuneResult, parent: Parent) -> None:
        if not self.running:
            self.learned.emit(result, parent)
            self.refresh()

    @slot
    def _failed(self, error: Exception) -> None:
        self._end()
        self._view.told.say(f"{notify(error)} The model is as it was.", "error")
        self._look_for_former()

    @slot
    def _cancelled(self) -> None:
        self._end()
        self._view.told.say("Stopped. The model is as it was.")
        self._look_for_former()

    def _end(self) -> None:
        self.running, self.pid = False, None
        self._view.show_idle()
        self.refresh()
        self.running_changed.emit()

    # What was broken off

    def _look_for_former(self) -> None:
        """Offer to go on with what was begun and has learned something."""
        request = self._begun or remembered(self._memory.get(_BROKEN_OFF, ""))
        self._former = request
        self._view.offer_to_go_on("")
        if request is None:
            return

        def done(there: bool) -> None:
            if there and not self.running:
                names = ", ".join(source.slide.name for source in request.sources)
                self._view.offer_to_go_on(
                    f"Go on with the fine-tuning that was broken off ({names}), where it was. "
                    "Fine-tune begins anew and forgets it"
                )

        def work(job: Job) -> bool:
            return can_go_on(request)

        self._jobs.start(_FORMER, work, done=done, error=self._not_found)

    @slot
    def _not_found(self, error: Exception) -> None:
        notify(error)
