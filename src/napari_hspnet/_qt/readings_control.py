"""Several readers of one slide: beginning a second reading, going from one to another."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QObject

from napari_hspnet._qt.acts import Act, Acts
from napari_hspnet._qt.reading_view import ReadingView
from napari_hspnet._qt.segment_control import SegmentControl
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet.cases import begin_reading, same_reader

__all__ = ["ReadingsControl"]


class ReadingsControl(QObject):
    """Follows the active slide's case.

    Parameters
    ----------
    view : ReadingView
        Part of the section Slide.
    acts, slides, segmenting
        The dock's.
    """

    def __init__(
        self,
        view: ReadingView,
        acts: Acts,
        slides: SlidesControl,
        segmenting: SegmentControl,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._view, self._acts, self._slides = view, acts, slides
        self._segmenting = segmenting
        view.chosen.connect(self.go_to)
        view.begin_asked.connect(self.begin)
        slides.active_changed.connect(self._slide_changed)
        slides.results_changed.connect(lambda entry: self.show())
        slides.reader_changed.connect(self.show)
        slides.cases.looked.connect(self.show)
        self.show()

    @slot
    def _slide_changed(self) -> None:
        self._view.note.say("")
        self._view.ask(False)
        self.show()

    @slot
    def show(self) -> None:
        """Say which readings there are, and whose this is."""
        entry = self._slides.active
        session = None if entry is None else entry.session
        if session is None or session.first is None or not (session.case or session.second):
            self._view.show_readings((), -1)
            return
        folders = _folders(entry)
        here = session.case.folder if session.case is not None else session.folder
        current = folders.index(here) if here in folders else -1
        names = ["first reading", *(each.reader for each in session.second)]
        self._view.show_readings(names, current)
        self._view.allow(self._why_not_begin(entry))
        reader = self._slides.reader
        reading = session.reading
        if reading is not None:
            self._view.note.say(
                f"Second reading, by {reading.reader} alone: what other readers did is not here."
                if same_reader(reader, reading.reader)
                else f"Second reading of {reading.reader}: only {reading.reader} corrects and "
                "reviews here. Choose your own reading, or name that reader above.",
                "" if same_reader(reader, reading.reader) else "warning",
            )
        elif any(each.is_of(reader) for each in session.second):
            self._view.note.say(
                f"There is a second reading for {reader}, who should not look at this one "
                "before: choose it above.",
                "warning",
            )
        elif self._view.note.property("kind") == "warning":
            self._view.note.say("")

    def _why_not_begin(self, entry: OpenSlide | None) -> str:
        session = None if entry is None else entry.session
        if session is None or session.case is None:
            return "There is no case of this slide yet: segment or paint something first."
        if session.reading is not None:
            return "A second reading is begun from the first one."
        return ""

    @slot
    def begin(self, reader: str, model: bool, regions: bool) -> None:
        """Make a second reading of the active slide's case."""
        entry = self._slides.active
        if entry is None or self._why_not_begin(entry):
            return
        if same_reader(reader, self._slides.reader):
            self._view.note.say("That is you. Name the one who reads it too.", "error")
            return
        self._view.note.say(f"Making a reading for {reader} …")

        def work(act: Act) -> Path:
            made = begin_reading(
                act.case.folder,
                reader,
                model=model,
                regions=regions,
                progress=act.progress,
                cancel=act.cancel,
            )
            entry.session.look_again()
            return made

        def done(made: Path) -> None:
            self._view.ask(False)
            self._slides.cases.looked.emit()
            self._view.note.say(
                f"{reader}'s reading is ready: it opens with this slide once {reader} is named "
                "as reader, or choose it above."
            )
            self._view.note.setToolTip(f"Kept in {made}")
            self._view.choice.setFocus()

        def failed(error: Exception) -> None:
            self._view.note.say(notify(error), "error")

        # Behind what is still to be saved, so that the case is whole.
        self._acts.do("Making a second reading", entry, work, done, failed)

    @slot
    def go_to(self, number: int) -> None:
        """Open another reading of the active slide, at the same place."""
        entry = self._slides.active
        if entry is None or entry.session.first is None:
            return
        folders = _folders(entry)
        if not 0 <= number < len(folders) or folders[number] == entry.session.folder:
            return
        if self._segmenting.running is not None:
            self.show()
            self._view.note.say("A run is under way: wait for it, or cancel it.", "error")
            return
        self._slides.reopen(entry, folders[number], self._failed)

    @slot
    def _failed(self, error: Exception) -> None:
        self.show()
        self._view.note.say(notify(error), "error")


def _folders(entry: OpenSlide | None) -> list[Path]:
    """Of the readings, in the order in which they are listed."""
    if entry is None or entry.session.first is None:
        return []
    return [entry.session.first, *(each.folder for each in entry.session.second)]
