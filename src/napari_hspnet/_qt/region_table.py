"""The list of review regions: thousands of rows, sorted and filtered without a proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import (
    QAbstractTableModel,
    QItemSelection,
    QItemSelectionModel,
    QSize,
    Qt,
    Signal,
)
from qtpy.QtGui import QColor, QFont, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import QAbstractButton, QAbstractItemView, QHeaderView, QTableView

from napari_hspnet._qt.review_words import grade_text, grades_text, plain_tip, state_text
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.style import OverlayStyle
from napari_hspnet._qt.words import area
from napari_hspnet.cases import REVIEWED, SIGNED_OFF, STATES, ReviewRegion
from napari_hspnet.cases.grades import LEAST_MM2, Grades

__all__ = ["OPEN_STATES", "RegionModel", "RegionRow", "RegionTable"]

OPEN_STATES = frozenset(STATES) - {REVIEWED, SIGNED_OFF}

NUMBER, GRADE, SIZE, TAG, STATE = range(5)
_TITLES = ("#", "Grade", "mm²", "Tag", "State")
_TIPS = (
    "Number of the region in the case",
    f"Worst grade on view there now, from {area(LEAST_MM2)} on; click to sort by severity",
    "Area of the region in mm²; click to sort by size",
    "Tag, apart from the grade",
    "How far its review is; click to sort by state",
)
_ROW = 21
_LEAST_ROWS, _MOST_ROWS = 3, 9
_RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter


@dataclass(frozen=True)
class RegionRow:
    """A region and what is shown there; `grades` is None until that is counted."""

    region: ReviewRegion
    mm2: float
    grades: Grades | None = None


_KEYS: dict[int, Callable[[RegionRow], Any]] = {
    NUMBER: lambda row: row.region.id,
    GRADE: lambda row: (-1, -1.0) if row.grades is None else row.grades.severity,
    SIZE: lambda row: row.region.pixels,
    TAG: lambda row: row.region.tag,
    STATE: lambda row: STATES.index(row.region.state),
}


class RegionModel(QAbstractTableModel):
    """Rows in the order that was asked for; sorts and filters by itself.

    A proxy of Qt's would ask Python twice for every comparison.
    """

    def __init__(self) -> None:
        super().__init__()
        self._all: Mapping[int, RegionRow] = {}
        self._shown: list[RegionRow] = []
        self._places: dict[int, int] = {}
        self._column, self._descending = NUMBER, False
        self._open_only = False
        self._kept: frozenset[int] = frozenset()
        self._style = OverlayStyle()
        self._swatches: dict[int, QIcon] = {}
        self._locked_font = QFont()
        self._locked_font.setItalic(True)

    @property
    def ids(self) -> list[int]:
        """Numbers of the regions that are listed, in their order."""
        return [row.region.id for row in self._shown]

    @property
    def open_only(self) -> bool:
        """Whether what is reviewed or signed off is left out."""
        return self._open_only

    def row(self, region_id: int) -> RegionRow | None:
        """A region, listed or not."""
        return self._all.get(region_id)

    def place(self, region_id: int) -> int | None:
        """In which row it is listed."""
        return self._places.get(region_id)

    def at(self, place: int) -> int:
        """Which region is listed in a row."""
        return self._shown[place].region.id

    def show_rows(self, rows: Mapping[int, RegionRow]) -> None:
        """List these."""
        self._all = rows
        self._arrange()

    def set_open_only(self, open_only: bool) -> None:
        """Leave out what is done, or not."""
        self._open_only = open_only
        self._arrange()

    def keep(self, region_ids: Iterable[int]) -> None:
        """List these although they are done, at the next change: one works on them."""
        self._kept = frozenset(region_ids)

    def set_style(self, style: OverlayStyle) -> None:
        """Take the overlay's words and colours."""
        self._style = style
        self._swatches.clear()
        self._tell_changed()

    def sort(self, column: int, order: Qt.SortOrder = Qt.SortOrder.AscendingOrder) -> None:
        """Sort by a column."""
        self._column = column if column in _KEYS else NUMBER
        self._descending = order == Qt.SortOrder.DescendingOrder
        self._arrange()

    def _arrange(self) -> None:
        rows = [
            row
            for row in self._all.values()
            if not self._open_only or row.region.state in OPEN_STATES or row.region.id in self._kept
        ]
        rows.sort(key=_KEYS[NUMBER])
        if self._column != NUMBER or self._descending:
            rows.sort(key=_KEYS[self._column], reverse=self._descending)
        same = len(rows) == len(self._shown) and all(
            new.region.id == old.region.id for new, old in zip(rows, self._shown, strict=True)
        )
        if same:
            self._shown = rows
            self._tell_changed()
            return
        self.beginResetModel()
        self._shown = rows
        self._places = {row.region.id: place for place, row in enumerate(rows)}
        self.endResetModel()

    def _tell_changed(self) -> None:
        if self._shown:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._shown) - 1, STATE))

    # What Qt asks

    def rowCount(self, parent: Any = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(self._shown)

    def columnCount(self, parent: Any = None) -> int:
        return 0 if parent is not None and parent.isValid() else len(_TITLES)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return _TITLES[section]
        if role == Qt.ItemDataRole.ToolTipRole:
            return _TIPS[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            # On the right the arrow of the sorting would lie on the words.
            return _LEFT
        return None

    def data(self, index: Any, role: int = 0) -> Any:
        row, column = self._shown[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(row, column)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(row, column)
        if role == Qt.ItemDataRole.DecorationRole and column == GRADE:
            worst = None if row.grades is None else row.grades.worst
            return self._swatch(0 if worst is None else worst)
        if role == Qt.ItemDataRole.FontRole and row.region.locked:
            # No grey is legible on both of napari's themes and on a chosen row.
            return self._locked_font
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return _RIGHT if column in (NUMBER, SIZE) else _LEFT
        return None

    def _text(self, row: RegionRow, column: int) -> str:
        if column == NUMBER:
            return str(row.region.id)
        if column == GRADE:
            return grade_text(row.grades, self._style)
        if column == SIZE:
            return area(row.mm2).removesuffix(" mm²").replace("under 0.001", "<0.001")
        return row.region.tag if column == TAG else row.region.state

    def _tip(self, row: RegionRow, column: int) -> str:
        region = row.region
        if column == GRADE:
            return grades_text(row.grades, self._style)
        if column == TAG and region.comments:
            last = region.comments[-1]
            many = f"{len(region.comments)} comment{'s' if len(region.comments) > 1 else ''}"
            return plain_tip(f"{many}, the last by {last.reader}: {last.text}")
        if column == STATE:
            return plain_tip(state_text(region))
        return f"Region {region.id}, {area(row.mm2)}; double-click to go there"

    def _swatch(self, value: int) -> QIcon:
        if value not in self._swatches:
            picture = QPixmap(13, 13)
            picture.fill(QColor(0, 0, 0, 0))
            if value in self._style.colours.colours:
                painter = QPainter(picture)
                painter.setPen(QColor(90, 90, 100))
                painter.setBrush(QColor(*self._style.colours.colours[value]))
                painter.drawRect(0, 0, 12, 12)
                painter.end()
            icon = QIcon(picture)
            # A chosen row must not tint it: it would be another grade's colour.
            icon.addPixmap(picture, QIcon.Mode.Selected)
            self._swatches[value] = icon
        return self._swatches[value]


class RegionTable(QTableView):
    """The list as a widget."""

    chosen = Signal(object)
    """Numbers of the selected regions, the current one last."""

    jump_asked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._quiet = False
        self._ids: tuple[int, ...] = ()
        self.setObjectName("region_table")
        self.setToolTip("Double-click a region to go there")
        self.setAccessibleName("Review regions")
        self.regions = RegionModel()
        self.setModel(self.regions)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setShowGrid(False)
        # Qt's second colour is white whatever napari's theme.
        self.setAlternatingRowColors(False)
        self.setIconSize(QSize(13, 13))
        self.setWordWrap(False)
        self.setTabKeyNavigation(False)
        self.setSortingEnabled(True)
        self.sortByColumn(NUMBER, Qt.SortOrder.AscendingOrder)
        self.setStyleSheet(
            "QTableView { font-size: 11px; }QHeaderView::section { font-size: 11px; padding: 1px; }"
        )
        corner = self.findChild(QAbstractButton)
        if corner is not None:
            # Qt's own, and hidden with the header beside it.
            corner.setObjectName("qt_table_corner")
        down = self.verticalHeader()
        down.hide()
        down.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        down.setDefaultSectionSize(_ROW)
        across = self.horizontalHeader()
        across.setMinimumSectionSize(24)
        across.setHighlightSections(False)
        across.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        across.setStretchLastSection(True)
        self.regions.modelReset.connect(self._choose_again)
        self.doubleClicked.connect(lambda index: self.jump_asked.emit(self.regions.at(index.row())))
        self._fit()

    @property
    def chosen_ids(self) -> tuple[int, ...]:
        """Numbers of the selected regions, the current one last."""
        return self._ids

    def choose(self, region_id: int) -> None:
        """Select one region, and bring it into the list's view."""
        place = self.regions.place(region_id)
        if place is not None:
            self.selectRow(place)
            self.scrollTo(self.regions.index(place, 0))

    def show_rows(self, rows: Mapping[int, RegionRow]) -> None:
        """List these; what was selected stays so."""
        self.regions.show_rows(rows)
        self._fit()

    def selectionChanged(self, selected: Any, deselected: Any) -> None:
        super().selectionChanged(selected, deselected)
        if not self._quiet:
            self._tell()

    @slot
    def _tell(self) -> None:
        # Whole rows are selected. To be asked for `selectedRows`, Qt would ask the model
        # several things of each.
        ranges = self.selectionModel().selection()
        places = sorted({p for one in ranges for p in range(one.top(), one.bottom() + 1)})
        current = self.currentIndex().row()
        ids = [self.regions.at(place) for place in places if place != current]
        if current in places:
            ids.append(self.regions.at(current))
        if tuple(ids) != self._ids:
            self._ids = tuple(ids)
            self.chosen.emit(self._ids)

    @slot
    def _choose_again(self) -> None:
        """Select what was selected before the rows came anew."""
        before, self._quiet = self._ids, True
        places = [place for i in before if (place := self.regions.place(i)) is not None]
        selection = QItemSelection()
        for first, last in _runs(sorted(places)):
            selection.select(self.regions.index(first, 0), self.regions.index(last, STATE))
        model = self.selectionModel()
        model.select(selection, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        if places:
            model.setCurrentIndex(
                self.regions.index(places[-1], 0), QItemSelectionModel.SelectionFlag.NoUpdate
            )
        self._quiet = False
        self._tell()
        self._fit()

    def keyPressEvent(self, event: Any) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            if self._ids:
                self.jump_asked.emit(self._ids[-1])
        elif event.text().isprintable() and event.text():
            # Qt would search for what is typed; letters are napari's and our keys.
            event.ignore()
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: Any) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """Columns as wide as their words; the tag gets what is left over."""
        measure = self.fontMetrics().horizontalAdvance
        digits = "0" * max(2, len(str(max(self.regions.ids, default=0))))
        widths = {
            NUMBER: max(measure(digits) + 12, measure("#") + 24),
            GRADE: measure("normal") + 29,
            SIZE: measure("0.000") + 14,
            STATE: measure("in progress") + 12,
        }
        room = self.viewport().width() - sum(widths.values())
        widths[TAG] = max(measure("Tag") + 18, room)
        for column, width in widths.items():
            if self.columnWidth(column) != width:
                self.setColumnWidth(column, width)
        rows = min(max(self.regions.rowCount(), _LEAST_ROWS), _MOST_ROWS)
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + rows * _ROW + 6)


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Sorted numbers as ranges without gaps, both ends included."""
    found: list[tuple[int, int]] = []
    for place in places:
        if found and place == found[-1][1] + 1:
            found[-1] = found[-1][0], place
        else:
            found.append((place, place))
    return found
