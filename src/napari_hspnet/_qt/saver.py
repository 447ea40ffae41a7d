"""What is painted goes into the case; what cannot is kept and tried again."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer, Signal

from napari_hspnet._qt.acts import Act, Acts
from napari_hspnet._qt.parts import Note
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify, sentence
from napari_hspnet.cases import EditResult, Patch
from napari_hspnet.errors import RegionLockedError
from napari_hspnet.slides import PixelBox

__all__ = ["Saver"]

_TRY_AGAIN = 5000


class Saver(QObject):
    """Orders one act a change, and holds on to those that failed.

    Parameters
    ----------
    acts : Acts
        Carries them out.
    slides : SlidesControl
        Knows the reader.
    error : Note
        Where it is said what went wrong.
    """

    corrected = Signal(object, object)
    """(`OpenSlide`, `PixelBox`): corrections changed there, or were refused."""

    changed = Signal()
    """Something waits to be saved, or was saved."""

    def __init__(self, acts: Acts, slides: SlidesControl, error: Note, parent: QObject) -> None:
        super().__init__(parent)
        self._acts, self._slides, self._error = acts, slides, error
        self._unsaved: list[tuple[OpenSlide, Patch, str]] = []
        self._trying = QTimer(self)
        self._trying.setSingleShot(True)
        self._trying.setInterval(_TRY_AGAIN)
        self._trying.timeout.connect(self.try_again)

    @property
    def unsaved(self) -> int:
        """Changes that could not be saved so far."""
        return len(self._unsaved)

    def save(
        self,
        entry: OpenSlide,
        patch: Patch,
        tool: str,
        said: dict[str, Any] | None = None,
        continues: bool = False,
    ) -> None:
        """Save a change that is on screen already."""
        reader = self._slides.reader

        def work(act: Act) -> EditResult:
            return act.case.editing.correct([patch], reader, tool, said, continues)

        self._acts.do(
            "Saving",
            entry,
            work,
            partial(self.take, entry),
            partial(self._failed, entry, patch, tool),
        )
        self.changed.emit()

    def take(self, entry: OpenSlide, result: EditResult | None) -> None:
        """Show what became of an act."""
        if result is None:
            return
        if result.refusal is not None:
            self._error.say(notify(result.refusal), "warning")
        if result.warning:
            self._error.say(f"{result.warning}.", "warning")
        self.corrected.emit(entry, result.box)

    def _failed(self, entry: OpenSlide, patch: Patch, tool: str, error: Exception) -> None:
        if isinstance(error, RegionLockedError):
            self._error.say(notify(error), "error")
            height, width = patch.values.shape
            self.corrected.emit(
                entry, PixelBox(patch.y, patch.x, patch.y + height, patch.x + width)
            )
            return
        text = sentence(error) if self._unsaved else notify(error)
        self._unsaved.append((entry, patch, tool))
        self._error.say(f"Not saved yet. {text} It is tried again.", "error")
        self._trying.start()
        self.changed.emit()

    @slot
    def try_again(self) -> None:
        """Order what failed once more."""
        waiting, self._unsaved = self._unsaved, []
        self._trying.stop()
        if waiting:
            self._error.say("")
        for entry, patch, tool in waiting:
            self.save(entry, patch, tool)

    def lay_unsaved(self, entry: OpenSlide, values: npt.NDArray[np.uint8], box: PixelBox) -> None:
        """Put what is not saved yet over values that were read from a box."""
        for other, patch, _ in self._unsaved:
            if other is entry:
                _lay_over(values, box, patch)

    def close(self) -> None:
        """Try a last time."""
        self.try_again()


def _lay_over(values: npt.NDArray[np.uint8], box: PixelBox, patch: Patch) -> None:
    """Put a patch over values read from a box."""
    height, width = patch.values.shape
    own = PixelBox(patch.y, patch.x, patch.y + height, patch.x + width)
    part = own.intersect(box)
    if part.height == 0 or part.width == 0:
        return
    there = np.s_[part.y0 - box.y0 : part.y1 - box.y0, part.x0 - box.x0 : part.x1 - box.x0]
    here = np.s_[part.y0 - own.y0 : part.y1 - own.y0, part.x0 - own.x0 : part.x1 - own.x0]
    np.copyto(values[there], patch.values[here], where=patch.where[here])
