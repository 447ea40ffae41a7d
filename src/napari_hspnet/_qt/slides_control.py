"""Which slides are open, which one is meant, and where its case is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal
from qtpy.QtWidgets import QFileDialog

from napari_hspnet._qt import camera
from napari_hspnet._qt.cases_control import CasesControl
from napari_hspnet._qt.hooks import SLIDE_SUFFIXES
from napari_hspnet._qt.memory import Memory
from napari_hspnet._qt.picture import slide_picture
from napari_hspnet._qt.session import SlideSession
from napari_hspnet._qt.slide_layer import KEY, placement, slide_layer_data, slide_of
from napari_hspnet._qt.slide_layers import SlideLayers
from napari_hspnet._qt.slide_view import SlideView
from napari_hspnet._qt.slots import into_napari, slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.words import elided, objective_text, size_text
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.cases import same_reader
from napari_hspnet.errors import HspnetError

__all__ = ["OpenSlide", "SlidesControl"]


class OpenSlide:
    """A slide in the viewer: session, layers, and where one looked last."""

    def __init__(self, number: int, session: SlideSession, layers: SlideLayers) -> None:
        self.number = number
        self.session = session
        self.layers = layers
        self.picture: np.ndarray | None = None
        self.place: tuple[Any, float] | None = None
        self.case_error = ""
        self.case_looked_for = False
        self.then: Callable[[], None] | None = None
        """Called once it is closed."""


class SlidesControl(QObject):
    """Follows the viewer's layers; one of the open slides is the active one."""

    active_changed = Signal()
    results_changed = Signal(object)
    """An `OpenSlide` has another composite."""

    removed = Signal(object)
    view_changed = Signal()
    reader_changed = Signal()

    def __init__(
        self, viewer: Any, view: SlideView, jobs: Jobs, memory: Memory, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer, self._view, self._jobs, self._memory = viewer, view, jobs, memory
        self.finish = _finish
        """Called with an `OpenSlide` that was removed, to close its files."""
        self.cases = CasesControl(self, view, jobs)
        self._open: list[OpenSlide] = []
        self._wanted: dict[int, tuple[Path, tuple[Any, float]]] = {}
        self._count = 0
        self.active: OpenSlide | None = None
        self._moving = QTimer(self)
        self._moving.setSingleShot(True)
        self._moving.setInterval(40)
        self._moving.timeout.connect(self._view_moved)
        view.open_asked.connect(self.ask_for_file)
        view.sample_asked.connect(self.open_sample)
        view.slide_chosen.connect(self._chosen)
        view.mpp_given.connect(self.give_mpp)
        view.objective_asked.connect(self.zoom_to)
        view.fit_asked.connect(self.fit)
        view.reader.setText(memory.get("reader", ""))
        view.reader_given.connect(lambda name: self.reader_changed.emit())
        view.overview.moved.connect(self._go_to)
        for emitter, callback in self._connections():
            emitter.connect(callback)
        for layer in list(viewer.layers):
            self._take(layer)
        self._follow_selection()

    def _connections(self) -> list[tuple[Any, Callable[..., None]]]:
        return [
            (self._viewer.layers.events.inserted, self._inserted),
            (self._viewer.layers.events.removed, self._removed),
            (self._viewer.layers.selection.events.active, self._follow_selection),
            (self._viewer.scene.camera.events.zoom, self._camera_moved),
            (self._viewer.scene.camera.events.center, self._camera_moved),
        ]

    @property
    def open(self) -> tuple[OpenSlide, ...]:
        """All open slides, in the order of opening."""
        return tuple(self._open)

    @property
    def reader(self) -> str:
        """Who corrects; empty while nobody has said so."""
        return " ".join(self._view.reader.text().split())

    def why_not_change(self) -> str:
        """Why the active slide's case cannot be changed now; empty if it can."""
        entry = self.active
        if entry is None:
            return "Open a slide first."
        if entry.session.slide.info.mpp is None:
            return "Say the slide's µm per pixel first (section Slide)."
        reading = entry.session.reading
        if reading is not None and self.reader and not same_reader(self.reader, reading.reader):
            return (
                f"This is the second reading of {reading.reader}; only {reading.reader} corrects "
                "and reviews here (section Slide)."
            )
        if entry.session.read_only_because:
            return f"{entry.session.read_only_because}; it can only be looked at here."
        return ""

    def ask_for_reader(self) -> None:
        """Take the user to where the name is given."""
        self._view.ask_for_reader()

    def close(self, remove_results: bool) -> None:
        """Let go of the viewer; cases are closed, the slides' layers stay."""
        self._memory.keep("reader", self.reader)
        for emitter, callback in self._connections():
            emitter.disconnect(callback)
        self._moving.stop()
        for entry in self._open:
            if remove_results:
                entry.layers.remove_results()
            entry.session.close_case()
        self._open, self.active = [], None

    # Opening

    @slot
    def ask_for_file(self) -> None:
        """Let the user choose a slide file."""
        patterns = " ".join(f"*{suffix}" for suffix in SLIDE_SUFFIXES)
        name, _ = QFileDialog.getOpenFileName(
            self._view, "Open a slide", "", f"Slides ({patterns});;All files (*)"
        )
        if name:
            self.open_path(Path(name))

    @slot
    def open_sample(self) -> None:
        """Open the real slide that the package carries."""
        from napari_hspnet.jobs.samples import sample_slide_path

        try:
            self.open_path(sample_slide_path())
        except HspnetError as error:
            self._view.error.say(notify(error), "error")

    def open_path(self, path: Path) -> None:
        """Open a slide in a worker and add its layer."""
        from napari_hspnet.slides import open_slide

        def work(job: Job) -> Any:
            return slide_layer_data(open_slide(path))

        def done(data: Any) -> None:
            levels, about, _ = data
            with into_napari():
                self._viewer.add_image(levels, **about)

        def failed(error: Exception) -> None:
            self._view.error.say(notify(error), "error")

        self._view.error.say("")
        self._jobs.start("open slide", work, done=done, error=failed)

    def reopen(self, entry: OpenSlide, folder: Path, failed: Callable[[Exception], None]) -> None:
        """Open a slide anew with another of its cases, where one looks now.

        What was ordered for the case that is open is carried out before that is closed.
        """
        from napari_hspnet.slides import open_slide

        info = entry.session.slide.info
        said = info.mpp if info.mpp_source == "user" else None

        def done(data: Any) -> None:
            levels, about, _ = data
            anew = about["metadata"][KEY]["slide"]
            if entry not in self._open:
                anew.close()
                return
            now = self._viewer.scene.camera
            self._wanted[id(anew)] = folder, (tuple(now.center), now.zoom)

            def add() -> None:
                with into_napari():
                    self._viewer.add_image(levels, **about)

            # One after the other: a case is let go of before it can be wanted again.
            entry.then = add
            with into_napari():
                self._viewer.layers.remove(entry.layers.slide_layer)

        self._jobs.start(
            "open slide",
            lambda job: slide_layer_data(open_slide(info.path, said)),
            done=done,
            error=failed,
        )

    # What the viewer says

    @slot
    def _inserted(self, event: Any) -> None:
        self._take(event.value)
        self._follow_selection()

    def _take(self, layer: Any) -> None:
        slide = slide_of(layer)
        marks = layer.metadata.get(KEY)
        if slide is None:
            if isinstance(marks, dict) and marks.get("kind") == "regions":
                for entry in self._open:
                    if entry.session.slide.info.fingerprint == marks.get("of"):
                        entry.layers.adopt_regions(layer)
            return
        if slide.closed or any(entry.session.slide is slide for entry in self._open):
            return
        folder, place = self._wanted.pop(id(slide), (None, None))
        session = SlideSession(slide, self.reader, folder)
        entry = OpenSlide(self._count, session, SlideLayers(self._viewer, layer, session))
        entry.place = place
        self._count += 1
        self._open.append(entry)
        for other in self._viewer.layers:
            theirs = other.metadata.get(KEY)
            if theirs == {"kind": "regions", "of": slide.info.fingerprint}:
                entry.layers.adopt_regions(other)
        self.activate(entry)

    @slot
    def _removed(self, event: Any) -> None:
        layer = event.value
        for entry in list(self._open):
            if entry.layers.slide_layer is layer:
                self._drop(entry)
            else:
                entry.layers.forget(layer)

    def _drop(self, entry: OpenSlide) -> None:
        self._open.remove(entry)
        self.removed.emit(entry)
        for channel in ("case", "overview", "areas"):
            self._jobs.cancel(f"{channel} {entry.number}")
        # The viewer may still be drawing a last frame from it.
        QTimer.singleShot(0, lambda: self.finish(entry))
        if self.active is entry:
            self.active = None
            if self._open:
                self.activate(self._open[-1])
            else:
                self._view.show_empty()
                self.active_changed.emit()
        else:
            self._show_choices()

    @slot
    def _follow_selection(self, event: Any = None) -> None:
        layer = self._viewer.layers.selection.active
        for entry in self._open:
            if layer is not None and entry.layers.owns(layer) and entry is not self.active:
                self.activate(entry)
                return

    @slot
    def _chosen(self, index: int) -> None:
        if 0 <= index < len(self._open):
            self.activate(self._open[index])

    def activate(self, entry: OpenSlide) -> None:
        """Make one slide the one that is meant; the others are hidden meanwhile."""
        if self.active is entry:
            return
        if self.active is not None:
            self.active.place = (
                tuple(self._viewer.scene.camera.center),
                self._viewer.scene.camera.zoom,
            )
        first = entry.place is None
        self.active = entry
        for other in self._open:
            if other is not entry:
                other.layers.set_active(False)
        entry.layers.set_active(True)
        if not first and entry.place is not None:
            with into_napari():
                self._viewer.scene.camera.center, self._viewer.scene.camera.zoom = entry.place
        elif len(self._open) > 1:
            QTimer.singleShot(0, self.fit)
        selected = self._viewer.layers.selection.active
        if selected is None or not entry.layers.owns(selected):
            with into_napari():
                if entry.layers.slide_layer in self._viewer.layers:
                    self._viewer.layers.selection.active = entry.layers.slide_layer
        self._show_active()
        self.cases.look_for(entry)
        self.active_changed.emit()

    # Resolution

    @slot
    def give_mpp(self, text: str) -> None:
        """Take the user's µm per pixel for the active slide."""
        entry = self.active
        if entry is None:
            return
        try:
            value = float(text.strip().replace(",", "."))
        except ValueError:
            self._view.error.say(
                "That is no number. Give µm per pixel, such as 0.25 for x40.", "error"
            )
            return
        try:
            entry.session.set_mpp((value, value))
        except HspnetError as error:
            self._view.error.say(notify(error), "error")
            return
        self._view.error.say("")
        layer = entry.layers.slide_layer
        with into_napari():
            layer.metadata[KEY]["slide"] = entry.session.slide
            for name, said in placement(entry.session.slide).items():
                setattr(layer, name, said)
        entry.picture, entry.case_looked_for = None, False
        self.fit()
        self._show_active()
        self.cases.look_for(entry)
        self.active_changed.emit()

    # Moving about

    @slot
    def zoom_to(self, power: float) -> None:
        """View as with an objective."""
        camera.set_objective(self._viewer, power)

    @slot
    def fit(self) -> None:
        """Show the whole slide."""
        if self.active is not None:
            height, width = camera.slide_extent(self.active.session.slide.info)
            camera.show_box(self._viewer, (0.0, 0.0, height, width))

    @slot
    def _go_to(self, y: float, x: float) -> None:
        camera.go_to(self._viewer, y, x)

    def _camera_moved(self, event: Any = None) -> None:
        if not self._moving.isActive():
            self._moving.start()

    @slot
    def _view_moved(self) -> None:
        self._show_place()
        self.view_changed.emit()

    def _show_place(self) -> None:
        self._view.overview.set_view(camera.view_of(self._viewer))
        known = self.active is not None and self.active.session.slide.info.mpp is not None
        self._view.zoom_text.setText(
            objective_text(self._viewer.scene.camera.zoom) if known else ""
        )

    # Showing

    def _show_active(self) -> None:
        entry = self.active
        if entry is None:
            return
        info = entry.session.slide.info
        self._view.show_slide(elided(info.name, 40), size_text(info))
        self._view.name.setToolTip(str(info.path))
        self._view.error.say("")
        self._view.ask_mpp(
            ""
            if info.mpp is not None
            else f"{info.mpp_problem or 'The slide does not state its µm per pixel'}. "
            "Say it here; nothing can be measured or segmented before."
        )
        for small in self._view.objective_buttons:
            small.setEnabled(info.mpp is not None)
        self._view.overview.set_slide(camera.slide_extent(info))
        self.cases.show()
        self._show_choices()
        self._show_place()
        self._show_scale_bar(info.mpp is not None)
        if entry.picture is not None:
            self._view.overview.set_picture(entry.picture)
        else:
            self._make_picture(entry)

    def _show_scale_bar(self, known: bool) -> None:
        with into_napari():
            self._viewer.canvas.overlays.scale_bar.visible = known

    def _show_choices(self) -> None:
        names = [elided(entry.session.slide.info.name, 34) for entry in self._open]
        chosen = self._open.index(self.active) if self.active in self._open else -1
        self._view.show_choices(names, chosen)

    def _make_picture(self, entry: OpenSlide) -> None:
        slide = entry.session.slide

        def done(picture: Any) -> None:
            entry.picture = picture
            if self.active is entry and picture is not None:
                self._view.overview.set_picture(picture)

        # A picture that cannot be had is no harm: the canvas says what is wrong.
        self._jobs.start(f"overview {entry.number}", lambda job: slide_picture(slide), done=done)


def _finish(entry: OpenSlide) -> None:
    """Take a removed slide's layers away and close its files."""
    entry.layers.remove_results()
    entry.session.close()
    if entry.then is not None:
        entry.then()
