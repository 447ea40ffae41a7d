"""Correcting more than a stroke: regions, what is in view, drawn shapes, undo and redo."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_hspnet._qt import camera
from napari_hspnet._qt.acts import Act, Acts
from napari_hspnet._qt.correct_view import CorrectView
from napari_hspnet._qt.overlay_control import OverlayControl
from napari_hspnet._qt.paint_control import PaintControl
from napari_hspnet._qt.regions import region_from_shapes
from napari_hspnet._qt.saver import Saver
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify, sentence
from napari_hspnet._qt.words import area
from napari_hspnet.cases import UNTOUCHED, EditResult, Patch, Selection, accepted, filled
from napari_hspnet.classes import BACKGROUND, CLASS_BY_VALUE, NOT_RUN, SKIPPED, UNREADABLE
from napari_hspnet.errors import RegionError
from napari_hspnet.slides import PixelBox

__all__ = ["CorrectControl"]

_REFRESH = 120
_SLOW = 0.3
"""Seconds after which an act shows its progress."""


@dataclass(frozen=True)
class _Change:
    """What an act does: to which pixels, how many pieces, and what the log says of it."""

    patches: Iterable[Patch]
    total: int
    tool: str
    said: dict[str, Any]


class CorrectControl(QObject):
    """The Correct section's controller, but for painting."""

    corrected = Signal(object, object)
    """(`OpenSlide`, `PixelBox`): corrections changed there."""

    def __init__(
        self,
        viewer: Any,
        view: CorrectView,
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
        self._began = 0.0
        self._stale: set[OpenSlide] = set()
        self._refreshing = QTimer(self)
        self._refreshing.setSingleShot(True)
        self._refreshing.setInterval(_REFRESH)
        self._refreshing.timeout.connect(self._refresh_overlay)
        view.accept_view_asked.connect(self.accept_view)
        view.specks_asked.connect(self.drop_specks)
        view.drawn_asked.connect(self.in_drawn)
        view.undo_asked.connect(self.undo)
        view.redo_asked.connect(self.redo)
        view.cancel_asked.connect(acts.cancel)
        view.changes_toggled.connect(self._show_changes)
        painting.clicked.connect(self.click)
        painting.state_changed.connect(self.refresh)
        saver.corrected.connect(self._corrected)
        saver.changed.connect(self.refresh)
        acts.waiting_changed.connect(self._waiting_changed)
        acts.progressed.connect(self._progressed)
        slides.reader_changed.connect(self.refresh)
        overlay.areas_changed.connect(self._count_changes)
        overlay.style_changed.connect(self._style_changed)
        view.show_palette(overlay.style.colours)
        self.refresh()

    # Acts

    @slot
    def click(self, y: float, x: float) -> None:
        """Do what a click does to the region at a place in µm."""
        name, amount = self._view.click_does
        self._on_region(name, amount, y, x)

    @slot
    def regrade_under_pointer(self) -> None:
        """Set the grade of the region under the pointer."""
        self._on_region("grade", 0, *self._viewer.cursor.position[-2:])

    def _on_region(self, name: str, amount: int, y: float, x: float) -> None:
        entry = self._ready()
        if entry is None or entry.session.grid is None:
            return
        grid, value = entry.session.grid, self._painting.grade
        row, col = int(y // grid.mpp), int(x // grid.mpp)
        if not (0 <= row < grid.shape[0] and 0 <= col < grid.shape[1]):
            self._view.error.say("That is beside the slide.", "warning")
            return

        def find(act: Act) -> Selection:
            from napari_hspnet.cases.components import component_at

            told: Callable[[float], None] = lambda part: act.progress(0.4 * part)  # noqa: E731
            return component_at(act.case.composite(), row, col, progress=told, cancel=act.cancel)

        if name == "review":
            reader = self._slides.reader

            def add(act: Act) -> EditResult:
                act.case.review.add([find(act)], "component", reader)
                return EditResult(None, PixelBox(row, col, row + 1, col + 1))

            self._do("Adding the region", entry, add)
            return

        def change(act: Act) -> _Change:
            selection = find(act)
            return _on_selection(act, name, amount, value, selection, [row, col])

        self._correct(_TITLES[name], entry, change)

    @slot
    def accept_view(self) -> None:
        """All of the overlay in view is right as it is."""
        entry = self._ready()
        box = None if entry is None else self._seen(entry)
        if entry is None or box is None:
            return

        def change(act: Act) -> _Change:
            selection = Selection.of_box(box, act.case.grid.shape)
            patches = accepted(selection, act.case.composite())
            return _Change(patches, len(selection.masks), "accept", {"what": "view"})

        self._correct("Accepting what is in view", entry, change)

    @slot
    def drop_specks(self, largest_um2: int) -> None:
        """Regions in view below a size become what surrounds them."""
        entry = self._ready()
        box = None if entry is None else self._seen(entry)
        if entry is None or box is None:
            return

        def change(act: Act) -> _Change:
            from napari_hspnet.cases.morphology import specks_dropped

            found = specks_dropped(act.case.composite(), box, largest_um2, cancel=act.cancel)
            return _Change(found, len(found), "drop specks", {"up_to_um2": largest_um2})

        self._correct("Dropping specks", entry, change)

    @slot
    def in_drawn(self, name: str) -> None:
        """Set the grade inside the drawn regions, accept there, or go back."""
        entry = self._ready()
        if entry is None:
            return
        try:
            region = region_from_shapes(entry.layers.regions)
        except RegionError as error:
            self._view.error.say(sentence(error), "error")
            return
        value = self._painting.grade

        def change(act: Act) -> _Change:
            selection = Selection.of_region(region, act.case.grid)
            return _on_selection(act, name, 0, value, selection, None)

        self._correct(_TITLES[name], entry, change)

    @slot
    def undo(self) -> None:
        """Take the last act back, wherever it was."""
        self._step("Undoing", "undo")

    @slot
    def redo(self) -> None:
        """Do it again."""
        self._step("Redoing", "redo")

    def _step(self, title: str, name: str) -> None:
        entry = self._ready()
        if entry is None:
            return
        reader = self._slides.reader

        def work(act: Act) -> EditResult | None:
            editing = act.case.editing
            step = editing.undo if name == "undo" else editing.redo
            return step(reader, act.progress)

        self._do(title, entry, work, jump=True)

    def _ready(self) -> OpenSlide | None:
        """The slide to correct; None, and a word why, where that cannot be."""
        entry, why_not = self._slides.active, self._slides.why_not_change()
        if entry is not None and not why_not and not self._slides.reader:
            why_not = "Say who corrects first: the field Reader above."
            self._slides.ask_for_reader()
        self._view.error.say(why_not, "warning" if why_not else "")
        if entry is None or why_not:
            return None
        # What is painted comes first.
        self._painting.save()
        return entry

    def _seen(self, entry: OpenSlide) -> PixelBox | None:
        grid = entry.session.grid
        seen = camera.clipped(camera.view_of(self._viewer), entry.session.slide.info)
        if grid is None or seen is None:
            self._view.error.say("The slide is out of sight.", "warning")
            return None
        return camera.label_box(seen, grid.mpp).intersect(PixelBox(0, 0, *grid.shape))

    def _correct(self, title: str, entry: OpenSlide, change: Callable[[Act], _Change]) -> None:
        reader = self._slides.reader

        def work(act: Act) -> EditResult:
            made = change(act)
            return act.case.editing.correct(
                made.patches,
                reader,
                made.tool,
                made.said,
                total=made.total,
                progress=lambda part: act.progress(0.4 + 0.6 * part),
                cancel=act.cancel,
            )

        self._do(title, entry, work)

    def _do(
        self,
        title: str,
        entry: OpenSlide,
        work: Callable[[Act], EditResult | None],
        jump: bool = False,
    ) -> None:
        def done(result: EditResult | None) -> None:
            if result is None:
                return
            if jump:
                self._jump(entry, result.box)
            elif result.entry is None and not result.locked:
                self._view.error.say("Nothing changed: it is so already.", "")
            self._saver.take(entry, result)

        def failed(error: Exception) -> None:
            self._view.error.say(notify(error), "error")

        self._acts.do(title, entry, work, done, failed)

    def _jump(self, entry: OpenSlide, box: PixelBox) -> None:
        """Show where something was undone, unless it is in view."""
        grid = entry.session.grid
        if entry is not self._slides.active or grid is None:
            return
        y0, x0, y1, x1 = (side * grid.mpp for side in (box.y0, box.x0, box.y1, box.x1))
        seen = camera.view_of(self._viewer)
        middle = (y0 + y1) / 2, (x0 + x1) / 2
        inside = seen[0] <= middle[0] <= seen[2] and seen[1] <= middle[1] <= seen[3]
        if not inside:
            camera.go_to(self._viewer, *middle)

    # Showing

    @slot
    def refresh(self) -> None:
        """Bring buttons and words up to date."""
        entry = self._slides.active
        case = None if entry is None else entry.session.case
        editing = None if case is None else case.editing
        self._view.allow(
            self._slides.why_not_change(),
            editing is not None and editing.can_undo,
            editing is not None and editing.can_redo,
            entry is not None and entry.session.has_results,
        )
        if self._saver.unsaved:
            self._view.saved.setText("NOT SAVED")
        elif self._acts.waiting:
            self._view.saved.setText("Saving…")
        else:
            said = editing is not None and editing.can_undo
            self._view.saved.setText("All saved" if said else "")

    @slot
    def _waiting_changed(self) -> None:
        if self._acts.waiting == 0:
            self._view.show_idle()
            self._began = 0.0
        elif self._began == 0.0:
            self._began = time.monotonic()
        self.refresh()

    @slot
    def _progressed(self, title: str, part: float) -> None:
        spent = time.monotonic() - self._began
        if spent > _SLOW:
            self._view.show_progress(f"{title}, {part:.0%}".replace("%", " %"), part)

    @slot
    def _corrected(self, entry: OpenSlide, box: PixelBox) -> None:
        self._stale.add(entry)
        if not self._refreshing.isActive():
            self._refreshing.start()
        self.corrected.emit(entry, box)
        self.refresh()

    @slot
    def _refresh_overlay(self) -> None:
        if self._painting.stroking:
            # A frame of the stroke comes first.
            self._refreshing.start()
            return
        stale, self._stale = self._stale, set()
        for entry in stale:
            if entry in self._slides.open:
                self._overlay.refresh(entry)

    @slot
    def _style_changed(self) -> None:
        self._view.show_palette(self._overlay.style.colours)
        self._painting.take_style()

    @slot
    def _show_changes(self, on: bool) -> None:
        self._overlay.show_changes(on)

    @slot
    def _count_changes(self) -> None:
        entry = self._slides.active
        changes = {} if entry is None else entry.session.changes
        self._view.changes.setVisible(bool(changes))
        self._view.changed.say(_changes_text(changes))


_TITLES = {
    "grade": "Setting the grade",
    "accept": "Accepting",
    "grow": "Growing the region",
    "shrink": "Shrinking the region",
    "holes": "Filling holes",
    "prediction": "Taking corrections back",
}


def _on_selection(
    act: Act,
    name: str,
    amount: int,
    value: int,
    selection: Selection,
    place: list[int] | None,
) -> _Change:
    from napari_hspnet.cases import morphology

    composite = act.case.composite()
    said: dict[str, Any] = {"what": "shape"} if place is None else {"at": place}
    total = len(selection.masks)
    if name == "accept":
        return _Change(accepted(selection, composite), total, "accept", said)
    if name == "prediction":
        return _Change(filled(selection, UNTOUCHED), total, "back to prediction", said)
    if place is not None and name in ("grow", "holes"):
        value = int(composite.read(place[0], place[1], 1, 1)[0, 0])
    if name == "grow":
        grown = morphology.grown(composite, selection, amount, value, cancel=act.cancel)
        return _Change(grown, len(grown), "grow", {**said, "um": amount})
    if name == "shrink":
        shrunk = morphology.shrunk(composite, selection, amount, cancel=act.cancel)
        return _Change(shrunk, len(shrunk), "shrink", {**said, "um": amount})
    if name == "holes":
        holes = morphology.holes_filled(composite, selection, amount, value, cancel=act.cancel)
        return _Change(holes, len(holes), "fill holes", {**said, "up_to_um2": amount})
    tool = "shape" if place is None else "regrade"
    return _Change(filled(selection, value), total, tool, {**said, "to": value})


def _changes_text(changes: dict[tuple[int, int], float]) -> str:
    """ "CIN1 → CIN2 0.12 mm², accepted 3.1 mm²"; mm² by (prediction, correction)."""
    names = {BACKGROUND: "none", SKIPPED: "no tissue", UNREADABLE: "unreadable"}
    names[NOT_RUN] = "not run"
    names |= {value: c.name for value, c in CLASS_BY_VALUE.items()}
    parts = [
        f"{names[a]} → {names[b]} {area(mm2)}"
        for (a, b), mm2 in sorted(changes.items(), key=lambda item: -item[1])
        if a != b
    ]
    as_it_was = sum(mm2 for (a, b), mm2 in changes.items() if a == b)
    if as_it_was:
        parts.append(f"accepted as it was {area(as_it_was)}")
    return "\n".join(parts)
