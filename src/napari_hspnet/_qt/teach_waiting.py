"""A verdict that nobody has decided on when the window was closed is offered again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QScrollArea

from napari_hspnet._qt.model_control import ModelControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.teach_undecided import Undecided, looked_at_again, undecided
from napari_hspnet._qt.teach_view import TeachView
from napari_hspnet._qt.teach_words import waiting_text
from napari_hspnet._qt.teach_work import Parent
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.work import Jobs

if TYPE_CHECKING:
    from napari_hspnet.jobs.finetune import FinetuneResult

__all__ = ["TeachWaiting"]

_SEEK, _SHOW = "teach waiting", "teach again"


class TeachWaiting(QObject):
    """Looks for verdicts that wait when the section is opened or the model changes."""

    shown = Signal(object, object)
    """(`FinetuneResult`, `Parent`): a verdict is to be shown again."""

    def __init__(self, view: TeachView, jobs: Jobs, models: ModelControl, parent: QObject) -> None:
        super().__init__(parent)
        self._view, self._jobs, self._models = view, jobs, models
        self._waiting: tuple[Undecided, ...] = ()
        self._sha256 = ""
        view.opened.connect(self.seek)
        view.look_asked.connect(self.show)
        view.verdict.changed.connect(self._verdict_changed)
        models.changed.connect(self._model_changed)

    @slot
    def seek(self) -> None:
        """Look what waits."""
        model = self._models.loaded
        chosen = None
        if model is not None and model.path is not None:
            chosen = Parent(model.card.name, model.path, model.sha256)
        # Where the registry cannot be read, the section Model says so.
        self._jobs.start(
            _SEEK,
            lambda job: undecided(chosen),
            done=self._found,
            error=lambda error: self._found(()),
        )

    @slot
    def show(self) -> None:
        """Show the latest verdict that waits."""
        if not self._waiting:
            return
        latest = self._waiting[0]

        def done(result: FinetuneResult) -> None:
            self._view.told.say("")
            self.shown.emit(result, latest.parent)
            QTimer.singleShot(0, self._scroll)

        def failed(error: Exception) -> None:
            self._view.told.say(notify(error), "warning")
            self.seek()

        self._jobs.start(_SHOW, lambda job: looked_at_again(latest), done=done, error=failed)

    def _found(self, waiting: tuple[Undecided, ...]) -> None:
        self._waiting = waiting
        when = waiting[0].when if waiting else None
        self._view.show_waiting("" if when is None else waiting_text(len(waiting), when))

    @slot
    def _verdict_changed(self) -> None:
        # What was said of the one that is shown, or decided now, holds no more.
        self._found(())
        self.seek()

    @slot
    def _model_changed(self) -> None:
        model = self._models.loaded
        sha256 = "" if model is None else model.sha256
        if not self._models.loading and sha256 != self._sha256:
            self._sha256 = sha256
            self.seek()

    @slot
    def _scroll(self) -> None:
        """Bring the verdict into sight, its beginning before its end."""
        above = self._view.parentWidget()
        while above is not None and not isinstance(above, QScrollArea):
            above = above.parentWidget()
        if above is not None:
            above.ensureWidgetVisible(self._view.verdict.decide_row)
            above.ensureWidgetVisible(self._view.verdict.title)
