"""The Overlay section: legend, areas, and how the overlay is drawn."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QLabel,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_hspnet._qt.parts import Note, row, swatch
from napari_hspnet._qt.session import AreaTable
from napari_hspnet._qt.style import LINE_WIDTHS, OverlayStyle
from napari_hspnet._qt.words import area
from napari_hspnet.classes import NOT_RUN, PALETTES, SKIPPED, UNREADABLE

__all__ = ["OverlayView"]


class OverlayView(QWidget):
    """Shows a style and says how the user wants it changed."""

    class_toggled = Signal(object, bool)
    overlay_toggled = Signal(bool)
    veil_toggled = Signal(bool)
    tiers_toggled = Signal(bool)
    fill_toggled = Signal(bool)
    palette_chosen = Signal(str)
    opacity_changed = Signal(float)

    def __init__(self, hide_key: str) -> None:
        super().__init__()
        self.empty = Note("Nothing is segmented yet.", "overlay_empty", faint=True)
        self.demo = Note(name="demo_note")
        self.visible = QCheckBox("Show overlay")
        self.visible.setObjectName("overlay_visible")
        self.visible.setToolTip(f"Show or hide the overlay; hold {hide_key} to hide it briefly")
        self.legend = QWidget()
        self._grid = QGridLayout(self.legend)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        self.class_boxes: dict[tuple[int, ...], QCheckBox] = {}
        self._areas: dict[tuple[int, ...], QLabel] = {}
        self._swatches: dict[tuple[int, ...], QLabel] = {}
        self.veil = QCheckBox("Mark what was not analysed")
        self.veil.setObjectName("veil_visible")
        self.veil.setToolTip("A hatch where there is no result: not run, no tissue, unreadable")
        self.not_analysed = Note(name="not_analysed", faint=True)
        self.grades = QComboBox()
        self.grades.setObjectName("grades")
        self.grades.addItems(["CIN 1 to 3", "LSIL / HSIL"])
        self.grades.setToolTip("Three grades, or the two of the LAST terminology")
        self.drawn = QComboBox()
        self.drawn.setObjectName("drawn")
        self.drawn.addItems(["outlines", "filled"])
        self.drawn.setToolTip("Outlines leave the tissue free; they are thicker for higher grades")
        self.palette_choice = QComboBox()
        self.palette_choice.setObjectName("palette")
        for palette in PALETTES.values():
            self.palette_choice.addItem(palette.title, palette.key)
        self.palette_choice.setToolTip("Colours of the classes")
        self.palette_choice.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setObjectName("opacity")
        self.opacity.setRange(10, 100)
        self.opacity.setToolTip("How strongly the overlay covers the slide")
        self.opacity.setAccessibleName("Opacity")
        self.runs = Note(name="runs_note", faint=True)
        self.error = Note(name="overlay_error")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.setSpacing(4)
        self._body = (
            self.visible,
            self.legend,
            row(self.grades, self.drawn, None),
            self.palette_choice,
            row(QLabel("Opacity"), self.opacity, stretch=1),
            self.veil,
        )
        layout.addWidget(self.empty)
        layout.addWidget(self.demo)
        for widget in self._body:
            layout.addWidget(widget)
        layout.addWidget(self.not_analysed)
        layout.addWidget(self.runs)
        layout.addWidget(self.error)
        self.visible.clicked.connect(self.overlay_toggled)
        self.veil.clicked.connect(self.veil_toggled)
        self.grades.activated.connect(lambda i: self.tiers_toggled.emit(i == 1))
        self.drawn.activated.connect(lambda i: self.fill_toggled.emit(i == 1))
        self.palette_choice.activated.connect(
            lambda i: self.palette_chosen.emit(self.palette_choice.itemData(i))
        )
        self.opacity.valueChanged.connect(lambda v: self.opacity_changed.emit(v / 100))
        self.show_style(OverlayStyle())
        self.show_areas(None)

    def show_style(self, style: OverlayStyle) -> None:
        """Set every control to what the style says, without telling anyone."""
        wanted = [values for _, values in style.rows()]
        if list(self.class_boxes) != wanted:
            self._build_legend(style)
        for (_, values), box in zip(style.rows(), self.class_boxes.values(), strict=True):
            box.setChecked(not set(values) <= style.hidden)
            worst = max(values)
            self._swatches[values].setPixmap(
                swatch(style.colours.colours[worst], LINE_WIDTHS[worst], style.fill)
            )
        self.visible.setChecked(style.visible)
        self.veil.setChecked(style.veil)
        self.grades.setCurrentIndex(int(style.two_tier))
        self.drawn.setCurrentIndex(int(style.fill))
        self.palette_choice.setCurrentIndex(list(PALETTES).index(style.palette))
        self.opacity.blockSignals(True)
        self.opacity.setValue(round(style.opacity * 100))
        self.opacity.blockSignals(False)

    def show_areas(self, table: AreaTable | None) -> None:
        """Fill in mm² per class; None where nothing is segmented."""
        self.empty.say("" if table else "Nothing is segmented yet.")
        for widget in self._body:
            widget.setVisible(table is not None)
        for values, label in self._areas.items():
            label.setText("" if table is None else area(table.of(values)))
        if table is None:
            self.not_analysed.say("")
            return
        parts = []
        for value, words in (
            (NOT_RUN, "not run"),
            (SKIPPED, "no tissue found"),
            (UNREADABLE, "unreadable"),
        ):
            share = table.share(value)
            if share > 0:
                parts.append(f"{words} {_percent(share)}")
        self.not_analysed.say(
            f"Of the slide: {', '.join(parts)}" if parts else "All of the slide was analysed"
        )

    def _build_legend(self, style: OverlayStyle) -> None:
        while self._grid.count():
            widget = self._grid.takeAt(0).widget()
            widget.setParent(None)
            widget.deleteLater()
        self.class_boxes, self._areas, self._swatches = {}, {}, {}
        for line, (name, values) in enumerate(style.rows()):
            picture = QLabel()
            box = QCheckBox(name)
            box.setObjectName(f"class_{name}")
            box.setToolTip(f"Show {name}")
            box.clicked.connect(lambda on, v=values: self.class_toggled.emit(v, on))
            figure = QLabel("")
            figure.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            for column, widget in enumerate((picture, box, figure)):
                self._grid.addWidget(widget, line, column)
            self._swatches[values], self.class_boxes[values] = picture, box
            self._areas[values] = figure


def _percent(share: float) -> str:
    return (
        "under 1 %"
        if share < 0.01
        else "over 99 %"
        if share > 0.99
        else f"{share:.0%}".replace("%", " %")
    )
