"""With what one corrects: the grade, the tool, the width of the brush."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QObject

from napari_hspnet._qt.correct_view import CorrectView
from napari_hspnet._qt.slots import into_napari, slot
from napari_hspnet.classes import CIN2

__all__ = ["PaintTools"]


class PaintTools(QObject):
    """Keeps the section's buttons and the edit view's layer in step, whoever chooses.

    Attributes
    ----------
    grade : int
        What is painted or set.
    name : str
        One of `correct_view.TOOLS`.
    width : int
        Of the brush, µm.
    """

    def __init__(self, view: CorrectView, parent: QObject) -> None:
        super().__init__(parent)
        self._view = view
        self.grade, self.name, self.width = CIN2, "paint", 40
        self._layer: Any = None
        self._mpp = 1.0
        self._painting = False
        self._own_change = False
        view.grade_chosen.connect(self.choose_grade)
        view.tool_chosen.connect(self.choose)
        view.brush_changed.connect(self._width_chosen)
        view.show_brush(self.width)
        view.show_grade(self.grade)

    def take(self, layer: Any, mpp: float) -> None:
        """Follow a layer with pixels of `mpp` µm."""
        self._layer, self._mpp, self._painting = layer, mpp, False
        layer.events.selected_label.connect(self._label_chosen)
        layer.events.brush_size.connect(self._brush_sized)
        layer.events.mode.connect(self._mode_chosen)

    def drop(self) -> None:
        """Follow none."""
        self._layer = None

    def apply(self, painting: bool) -> None:
        """Give the layer the tool that was chosen.

        Parameters
        ----------
        painting : bool
            Whether there is something to paint in; else the mouse moves the slide.
        """
        self._painting = painting
        layer = self._layer
        if layer is None:
            return
        mode = self.name if painting and self.name != "region" else "pan_zoom"
        self._own_change = True
        with into_napari():
            layer.selected_label = self.grade
            layer.brush_size = self._pixels
            layer.preserve_labels = False
            if layer.mode != mode:
                layer.mode = mode
        self._own_change = False

    @slot
    def choose_grade(self, value: int) -> None:
        """Paint, or set, this grade from now on."""
        self.grade = value
        self._view.show_grade(value)
        if self._layer is not None:
            with into_napari():
                self._layer.selected_label = value

    @slot
    def choose(self, name: str) -> None:
        """Use one of `correct_view.TOOLS`."""
        self.name = name
        self._view.show_tool(name)
        self.apply(self._painting)

    @property
    def _pixels(self) -> int:
        return max(1, round(self.width / self._mpp))

    @slot
    def _width_chosen(self, width: int) -> None:
        self.width = width
        if self._layer is not None:
            with into_napari():
                self._layer.brush_size = self._pixels

    # What napari's own buttons and keys choose

    @slot
    def _brush_sized(self, event: Any = None) -> None:
        if self._layer is not None and self._layer.brush_size != self._pixels:
            self.width = max(1, round(self._layer.brush_size * self._mpp))
            self._view.show_brush(self.width)

    @slot
    def _label_chosen(self, event: Any = None) -> None:
        if self._layer is not None and self._layer.selected_label in self._view.grades:
            self.grade = int(self._layer.selected_label)
            self._view.show_grade(self.grade)

    @slot
    def _mode_chosen(self, event: Any = None) -> None:
        if self._own_change or self._layer is None or not self._painting:
            return
        mode = str(self._layer.mode)
        if mode in ("paint", "fill", "polygon"):
            self.name = mode
            self._view.show_tool(mode)
