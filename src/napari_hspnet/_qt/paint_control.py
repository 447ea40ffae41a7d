"""Painting where one looks: the edit view follows, and every stroke is saved."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer, Signal

from napari_hspnet._qt import camera
from napari_hspnet._qt.acts import Acts
from napari_hspnet._qt.correct_view import CorrectView
from napari_hspnet._qt.edit_layer import LARGEST, EditView, edit_box
from napari_hspnet._qt.overlay_control import OverlayControl
from napari_hspnet._qt.paint_tools import PaintTools
from napari_hspnet._qt.saver import Saver
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import into_napari, slot
from napari_hspnet._qt.strokes import Strokes
from napari_hspnet._qt.tell import notify
from napari_hspnet.classes import SKIPPED
from napari_hspnet.errors import InputError
from napari_hspnet.slides import PixelBox

__all__ = ["PaintControl"]

_LOOK = 400
"""ms between looks for changes by other hands, and at a stroke that goes on."""


class PaintControl(QObject):
    """Enters and leaves correcting, moves the edit view, saves what is painted.

    A reader never meets the edit view: it lies over all that is in view, moves
    when the view does, and what is painted in it is in the case at once.
    """

    state_changed = Signal()
    """Correcting began or ended."""

    clicked = Signal(float, float)
    """(y, x) in µm of a click with the region tool."""

    def __init__(
        self,
        viewer: Any,
        view: CorrectView,
        acts: Acts,
        saver: Saver,
        slides: SlidesControl,
        overlay: OverlayControl,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._view, self._acts, self.saver = viewer, view, acts, saver
        self._slides, self._overlay = slides, overlay
        self._edit: EditView | None = None
        self._entry: OpenSlide | None = None
        self._on = False
        self.tools = PaintTools(view, self)
        self._asked: PixelBox | None = None
        self._too_wide = False
        self._strokes = Strokes(lambda: self.tools.name == "region", self)
        self._strokes.ended.connect(self._stroke_ended)
        self._strokes.clicked.connect(self.clicked)
        self._own_change = False
        self._looking = QTimer(self)
        self._looking.setInterval(_LOOK)
        self._looking.timeout.connect(self._look)
        view.paint_asked.connect(self.set_on)
        view.zoom_asked.connect(self._zoom_in)
        slides.active_changed.connect(self._slide_changed)
        slides.view_changed.connect(self._follow)
        slides.removed.connect(self._slide_removed)
        slides.results_changed.connect(self._results_changed)
        saver.corrected.connect(self._corrected)
        self._connections = [
            (viewer.layers.selection.events.active, self._selection_changed),
            (viewer.layers.events.removed, self._layer_removed),
        ]
        for emitter, callback in self._connections:
            emitter.connect(callback)
        view.show_too_wide(False)

    # What is so

    @property
    def on(self) -> bool:
        """Whether one corrects now."""
        return self._on

    @property
    def grade(self) -> int:
        """The grade that is painted or set."""
        return self.tools.grade

    @property
    def layer(self) -> Any:
        """The edit view's layer, if it is there."""
        return None if self._edit is None else self._edit.layer

    @property
    def stroking(self) -> bool:
        """Whether a stroke is under way."""
        return self._strokes.under_way

    @slot
    def take_style(self) -> None:
        """Use colours and opacity of the overlay."""
        if self._edit is not None:
            self._edit.set_palette(self._overlay.style.colours)
            with into_napari():
                self._edit.layer.opacity = self._overlay.style.opacity

    @slot
    def hold_hidden(self, hidden: bool) -> None:
        """Hide what is painted in while a key is held."""
        if self._edit is not None:
            with into_napari():
                # A layer that is not visible would lose its tool.
                self._edit.layer.opacity = 0.0 if hidden else self._overlay.style.opacity

    # Entering and leaving

    @slot
    def set_on(self, on: bool) -> None:
        """Begin to correct where one looks, or leave."""
        if on:
            self.enter()
        else:
            self.leave()

    @slot
    def toggle(self) -> None:
        """What the key does."""
        self.set_on(not self._on)

    def enter(self) -> None:
        """Begin to correct where one looks."""
        entry = self._slides.active
        why_not = self._slides.why_not_change()
        self._view.error.say(why_not, "error" if why_not else "")
        if entry is None or why_not:
            self._view.show_painting(False)
            return
        if not self._slides.reader:
            self._view.show_painting(False)
            self._view.error.say("Say who corrects first: the field Reader above.", "warning")
            self._slides.ask_for_reader()
            return
        if self._edit is None:
            self._make_edit_view(entry)
        assert self._edit is not None
        self._entry, self._on, self._asked = entry, True, None
        self.take_style()
        with into_napari():
            self._edit.layer.visible = True
            self._own_change = True
            self._viewer.layers.selection.active = self._edit.layer
            self._own_change = False
        self._view.show_painting(True)
        self._looking.start()
        self._take_tool()
        self._follow()
        self.state_changed.emit()

    def leave(self) -> None:
        """Save, and let the mouse move the slide again."""
        if not self._on or self._edit is None:
            self._view.show_painting(False)
            return
        self.save()
        self._on = False
        self._strokes.stop()
        self._looking.stop()
        self.tools.apply(False)
        edit, entry = self._edit, self._entry
        with into_napari():
            edit.layer.visible = False
            slide_layer = None if entry is None else entry.layers.slide_layer
            layers = self._viewer.layers
            if layers.selection.active is edit.layer and slide_layer in layers:
                layers.selection.active = slide_layer
        self._view.show_painting(False)
        self._show_too_wide(False)
        self._show_veil()
        self.state_changed.emit()

    def _make_edit_view(self, entry: OpenSlide) -> None:
        info, grid = entry.session.slide.info, entry.session.grid
        assert grid is not None
        self._edit = EditView(
            self._viewer, grid, info.path.stem, info.fingerprint, self._overlay.style.colours
        )
        self._entry = entry
        layer = self._edit.layer
        layer.mouse_drag_callbacks.append(self._strokes.watch)
        layer.events.paint.connect(self._painted)
        self.tools.take(layer, grid.mpp)

    def _selection_changed(self, event: Any = None) -> None:
        # A layer that is being added is selected for a moment only.
        if not self._own_change:
            QTimer.singleShot(0, self._follow_selection)

    @slot
    def _follow_selection(self) -> None:
        if self._edit is None:
            return
        active = self._viewer.layers.selection.active
        if self._on and active is not self._edit.layer:
            self.leave()
        elif not self._on and active is self._edit.layer:
            self.enter()

    @slot
    def _slide_changed(self) -> None:
        if self._entry is not self._slides.active:
            self._drop_edit_view()
        self.state_changed.emit()

    @slot
    def _slide_removed(self, entry: OpenSlide) -> None:
        if entry is self._entry:
            self._drop_edit_view()

    def _drop_edit_view(self) -> None:
        self.leave()
        edit, self._edit, self._entry = self._edit, None, None
        self.tools.drop()
        if edit is not None:
            edit.remove()

    @slot
    def _layer_removed(self, event: Any) -> None:
        if self._edit is not None and event.value is self._edit.layer:
            # Taken away in napari's list; what was painted is in it still.
            self.save()
            self._edit, self._on = None, False
            self.tools.drop()
            self._looking.stop()
            self._view.show_painting(False)
            self._show_veil()
            self.state_changed.emit()

    # Where

    def _seen(self) -> PixelBox | None:
        """What the canvas shows of the slide, in label pixels."""
        entry = self._entry
        grid = None if entry is None else entry.session.grid
        if entry is None or grid is None:
            return None
        seen = camera.clipped(camera.view_of(self._viewer), entry.session.slide.info)
        if seen is None:
            return None
        return camera.label_box(seen, grid.mpp).intersect(PixelBox(0, 0, *grid.shape))

    @slot
    def _follow(self) -> None:
        """See that the edit view covers what is in view."""
        entry, edit = self._entry, self._edit
        if not self._on or entry is None or edit is None or self._strokes.under_way:
            return
        box, grid = self._seen(), entry.session.grid
        if box is None or grid is None:
            return
        wanted = edit_box(box, grid)
        self._show_too_wide(wanted is None)
        there = self._asked or edit.box
        if wanted is not None and box != there.intersect(box):
            self._ask_for(wanted)
        self._show_veil()

    def _show_veil(self) -> None:
        """Leave the veil over what was not analysed away where there is none of it."""
        entry, edit, needed = self._entry, self._edit, True
        seen = self._seen() if self._on else None
        if edit is not None and seen is not None and seen == seen.intersect(edit.box):
            at = np.s_[
                seen.y0 - edit.box.y0 : seen.y1 - edit.box.y0,
                seen.x0 - edit.box.x0 : seen.x1 - edit.box.x0,
            ]
            needed = bool((edit.layer.data[at] >= SKIPPED).any())
        if entry is not None:
            entry.layers.need_veil(needed)

    def _ask_for(self, box: PixelBox) -> None:
        """Read a box once all that was painted is in the case, then show it."""
        entry = self._entry
        assert entry is not None
        self.save()
        self._asked = box
        session = entry.session

        def work() -> npt.NDArray[np.uint8]:
            composite = session.composite
            if composite is None:
                return np.full((box.height, box.width), 255, np.uint8)
            return composite.read(box.y0, box.x0, box.height, box.width)

        self._acts.look(entry, work, done=partial(self._loaded, entry, box))

    def _loaded(self, entry: OpenSlide, box: PixelBox, values: npt.NDArray[np.uint8]) -> None:
        if entry is not self._entry or self._asked != box or self._edit is None:
            return
        if self._strokes.under_way or self.save():
            # Painted meanwhile: what was read is older than that.
            self._asked = None
            QTimer.singleShot(50, self._follow)
            return
        self._asked = None
        self.saver.lay_unsaved(entry, values, box)
        self._edit.load(box, values)
        self._take_tool()
        self._show_veil()

    def _show_too_wide(self, too_wide: bool) -> None:
        if too_wide != self._too_wide:
            self._too_wide = too_wide
            self._view.show_too_wide(too_wide)
            self._take_tool()

    def _take_tool(self) -> None:
        if self._edit is not None and self._on:
            # Before the first box has come there is nothing to paint in.
            self.tools.apply(not self._too_wide and self._edit.box.height > 0)

    @slot
    def _zoom_in(self) -> None:
        grid = None if self._entry is None else self._entry.session.grid
        if grid is None:
            return
        side = max(self._viewer.canvas.size)
        with into_napari():
            self._viewer.scene.camera.zoom = 1.05 * side / (LARGEST / 2 * grid.mpp)

    # What was done

    @slot
    def _stroke_ended(self) -> None:
        self.save()
        QTimer.singleShot(0, self._follow)

    @slot
    def _painted(self, event: Any = None) -> None:
        if not self._strokes.under_way:
            self.save()

    @slot
    def _look(self) -> None:
        if not self._strokes.under_way or self._strokes.part_due():
            self.save()

    def save(self) -> bool:
        """Save what was changed since the last time; whether there was something."""
        if self._edit is None or self._entry is None:
            return False
        patch, rejected = self._edit.take_changes()
        if rejected:
            notify(
                InputError(
                    "That value is no grade, so nothing was painted",
                    advice="Choose a grade in the section Correct",
                )
            )
        if patch is None:
            return False
        tool = self._strokes.tool(self._edit.layer)
        continues = self._strokes.next_part()
        said = {"width_um": self.tools.width} if tool == "brush" else None
        self.saver.save(self._entry, patch, tool, said, continues)
        return True

    @slot
    def _corrected(self, entry: OpenSlide, box: PixelBox) -> None:
        if entry is self._entry and self._edit is not None:
            self._reload(entry, box.intersect(self._edit.box))

    def _reload(self, entry: OpenSlide, box: PixelBox) -> None:
        composite = entry.session.composite
        if box.height == 0 or box.width == 0 or composite is None:
            return

        def done(values: npt.NDArray[np.uint8]) -> None:
            if entry is self._entry and self._edit is not None and not self._strokes.under_way:
                self.save()
                self._edit.put(box, values)
                self._show_veil()

        self._acts.look(
            entry, lambda: composite.read(box.y0, box.x0, box.height, box.width), done=done
        )

    @slot
    def _results_changed(self, entry: OpenSlide) -> None:
        if entry is self._entry and self._edit is not None:
            self._reload(entry, self._edit.box)
        self.state_changed.emit()

    def close(self, viewer_stays: bool) -> None:
        """Save, and let go of the viewer."""
        self.save()
        self.saver.close()
        self._looking.stop()
        for emitter, callback in self._connections:
            emitter.disconnect(callback)
        if viewer_stays:
            self._drop_edit_view()
