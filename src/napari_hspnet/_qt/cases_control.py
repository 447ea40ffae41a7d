"""The open slides' cases: found, taken over, and said where they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_hspnet._qt.session import CaseState, describe_runs
from napari_hspnet._qt.slide_view import SlideView
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify, sentence
from napari_hspnet._qt.work import Jobs

if TYPE_CHECKING:
    from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl

__all__ = ["CasesControl"]


class CasesControl(QObject):
    """What the Slide section says of cases.

    Parameters
    ----------
    slides : SlidesControl
        Whose slides they are of.
    view : SlideView
        The section.
    jobs : Jobs
        Opens them beside the window.
    """

    looked = Signal()
    """It is known which cases there are of a slide."""

    def __init__(self, slides: SlidesControl, view: SlideView, jobs: Jobs) -> None:
        super().__init__(slides)
        self._slides, self._view, self._jobs = slides, view, jobs
        view.attach_asked.connect(self.attach)

    def look_for(self, entry: OpenSlide) -> None:
        """Open the slide's case, if there is one; once."""
        if entry.case_looked_for or entry.session.slide.info.mpp is None:
            return
        entry.case_looked_for = True

        def done(state: CaseState | None) -> None:
            if state is not None:
                self.take(entry, state, reopened=True)
            elif entry.session.namesakes:
                self.show()
            self.looked.emit()

        def failed(error: Exception) -> None:
            entry.case_error = sentence(error)
            notify(error)
            self.show()

        self._jobs.start(
            f"case {entry.number}",
            lambda job: entry.session.existing_case(),
            done=done,
            error=failed,
        )

    @slot
    def attach(self) -> None:
        """Go on with the case of an earlier file of the active slide."""
        entry = self._slides.active
        if entry is None or not entry.session.namesakes:
            return
        if not self._slides.reader:
            self._view.error.say("Say first who you are: the field Reader.", "warning")
            self._slides.ask_for_reader()
            return
        folder, reader, session = entry.session.namesakes[-1], self._slides.reader, entry.session

        def done(state: CaseState) -> None:
            self._view.error.say("")
            self.take(entry, state, reopened=True)

        def failed(error: Exception) -> None:
            self._view.error.say(notify(error), "error")

        self._jobs.start(
            f"case {entry.number}",
            lambda job: session.attach(folder, reader),
            done=done,
            error=failed,
        )

    def take(self, entry: OpenSlide, state: CaseState, reopened: bool) -> None:
        """Keep a case that a worker opened for a slide."""
        if state.case is entry.session.case:
            return
        entry.session.take_case(state, reopened)
        entry.case_error = ""
        self.show()
        self._slides.results_changed.emit(entry)

    def show(self) -> None:
        """Say where the active slide's results are kept."""
        entry = self._slides.active
        if entry is None:
            return
        session = entry.session
        others = session.namesakes if session.case is None else ()
        self._view.offer_case(
            f"There is a case of another file of this name ({others[-1].name}); this one's "
            f"fingerprint is {session.slide.info.fingerprint[:8]}…. If it is the same slide, "
            "saved anew or stripped of its label, go on with that case."
            if others
            else ""
        )
        if entry.case_error:
            self._view.case_note.say(entry.case_error, "error")
        elif session.read_only_because:
            self._view.case_note.say(f"Read-only: {session.read_only_because}.", "warning")
        elif session.case is not None and session.runs:
            begun = "Re-opened: " if session.reopened else "Saved: "
            mended = session.case.corrections.repaired
            repair = f". {mended} damaged parts were made anew from the journal" if mended else ""
            self._view.case_note.say(begun + describe_runs(session.runs) + repair)
            self._view.case_note.setToolTip(f"Kept in {session.case.folder}")
        else:
            self._view.case_note.say("")
