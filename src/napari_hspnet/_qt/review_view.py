"""The Review section: which regions there are, and what one says of them."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QLabel,
    QLineEdit,
    QListWidget,
    QMenu,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_hspnet._qt.compare_view import CompareView
from napari_hspnet._qt.parts import Note, PrimaryButton, button, row
from napari_hspnet._qt.progress_strip import ProgressStrip
from napari_hspnet._qt.region_table import RegionTable
from napari_hspnet._qt.review_words import plain_tip
from napari_hspnet._qt.slots import slot
from napari_hspnet.cases import IN_PROGRESS, REVIEWED, SIGNED_OFF, TAGS, TO_DO

__all__ = ["KEYS", "SOURCES", "ReviewView", "Source"]

KEYS = {"next": ".", "previous": ",", "sign_off": "S", "tag": "T"}
"""Shown in tooltips; whoever binds keys takes them from here."""

Source = tuple[str, str, str, tuple[int, int, int] | None]

SOURCES: dict[str, Source] = {
    "drawn": ("From the drawn regions", "", "", None),
    "parts": (
        "Parts of the overlay…",
        "All parts of CIN1 to CIN3 from",
        " µm²",
        (100, 10_000, 100_000_000),
    ),
    "tiles": ("Tiles over the tissue…", "Square tiles with a side of", " µm", (100, 1000, 20_000)),
}
"""Where regions come from: words, question, unit, (least, usual, most)."""

_STATE_BUTTONS = (
    (TO_DO, "To do", "Nobody has looked at it yet"),
    (IN_PROGRESS, "In progress", "Somebody is at it"),
    (REVIEWED, "Reviewed", "It was looked at, and corrected where it had to be"),
)
_SMALL = "padding: 3px 4px;"
_NEWEST = 5
_MOST_PLACES = 7


class ReviewView(QWidget):
    """Shows the list and one region of it; says what is asked for through signals."""

    add_asked = Signal(str, int)
    cancel_asked = Signal()
    filter_chosen = Signal(bool)
    step_asked = Signal(int)
    remove_asked = Signal()
    state_asked = Signal(str)
    tag_asked = Signal(str)
    comment_asked = Signal(str)
    disagreements_toggled = Signal(bool)
    place_asked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self._source = ""
        self.reviewed = Note(name="reviewed_share")
        self.worst = Note(name="worst_on_view")
        for head in (self.worst, self.reviewed):
            head.setStyleSheet("font-size: 12px;")
        self.worst.setToolTip(
            "Of what the canvas shows of the slide; the overlay decides, corrections included. "
            "Smaller areas of a grade may be noise and do not count."
        )
        self.worst_detail = Note(name="worst_detail", faint=True)
        self.empty = Note(name="review_empty", faint=True)
        self.add = self._make_add()
        self.filter = QComboBox()
        self.filter.setObjectName("region_filter")
        self.filter.addItems(["all", "open"])
        self.filter.setToolTip("All regions, or only those to do and in progress")
        self.count = QLabel("")
        self.count.setObjectName("region_count")
        self.asked = QLabel("")
        self.asked.setWordWrap(True)
        self.amount = QSpinBox()
        self.amount.setObjectName("region_amount")
        self.amount.setGroupSeparatorShown(True)
        self.amount.setToolTip("How large at least, or how wide")
        self._amounts = {name: limits[1] for name, (*_, limits) in SOURCES.items() if limits}
        self.go = button("Add", "Look for them and add them to the list", "regions_go")
        self.back = button("Not now", "Add none", "regions_back")
        self.ask_row = _column(self.asked, row(self.amount, self.go, self.back, stretch=0))
        self.bar = ProgressStrip()
        self.bar.setObjectName("review_progress")
        self.stage = Note(name="review_stage")
        self.cancel = button("Cancel", "Stop; no region is added", "review_cancel")
        self.cancel_row = row(self.stage, self.cancel, stretch=0)
        self.table = RegionTable()
        self.previous = button(
            "Previous", f"Go to the region before ({KEYS['previous']})", "region_previous"
        )
        self.next = button("Next", f"Go to the next region ({KEYS['next']})", "region_next")
        self.remove = button("Remove", "", "region_remove")
        self.detail = Note(name="region_detail")
        self.states: dict[str, QPushButton] = {}
        self.sign = button("Sign off", "", "region_sign_off", PrimaryButton)
        self.unlock = button("Unlock", "", "region_unlock")
        self.state_row = self._make_states()
        self.tag = QComboBox()
        self.tag.setObjectName("region_tag")
        self.tag.addItem("no tag", "")
        for name in TAGS:
            self.tag.addItem(name, name)
        self.tag_row = row(QLabel("Tag"), self.tag, None)
        self.comment = QLineEdit()
        self.comment.setObjectName("region_comment")
        self.comment.setPlaceholderText("comment on the region")
        self.comment.setAccessibleName("Comment")
        self.say = button("Add", "", "region_say")
        self.comment_row = row(self.comment, self.say, stretch=0)
        self.comments = Note(name="region_comments", faint=True)
        for note in (self.detail, self.comments):
            # What somebody wrote is no markup.
            note.setTextFormat(Qt.TextFormat.PlainText)
        self.disagreement = Note(name="disagreement")
        self.listing = button(
            "Show where", "List these places; double-click one to go there", "disagreement_list"
        )
        self.listing.setCheckable(True)
        self.places = QListWidget()
        self.places.setObjectName("disagreement_places")
        self.places.setToolTip("Double-click a place to go there")
        self.places.setAccessibleName("Places where runs and corrections disagree")
        self.places.setStyleSheet("font-size: 11px;")
        self.places.setUniformItemSizes(True)
        self.places.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.places.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.compare = CompareView()
        self.error = Note(name="review_error")
        self._lay_out()
        self._connect()
        self._ask("")
        self.show_idle()
        self.show_disagreements("", ())

    def _make_add(self) -> QPushButton:
        made: QPushButton = button("Add regions", "", "add_regions")
        self.menu = QMenu(made)
        self.sources = {}
        for name, (words, *_) in SOURCES.items():
            action = self.menu.addAction(words)
            action.setObjectName(f"add_{name}")
            action.triggered.connect(lambda _=False, n=name: self._source_chosen(n))
            self.sources[name] = action
        self.menu.setToolTipsVisible(True)
        made.setMenu(self.menu)
        return made

    def _make_states(self) -> QWidget:
        for state, words, _ in _STATE_BUTTONS:
            made = button(words, "", f"state_{state.replace(' ', '_')}")
            made.setCheckable(True)
            made.setStyleSheet(_SMALL)
            made.clicked.connect(lambda _=False, s=state: self.state_asked.emit(s))
            self.states[state] = made
        made = row(*self.states.values(), self.sign, self.unlock)
        # With a scroll bar the dock has 299 of its 320 px.
        made.layout().setSpacing(3)
        return made

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 2, 6, 4)
        layout.setSpacing(4)
        self._chosen = (self.detail, self.state_row, self.tag_row, self.comment_row)
        self._listed = (self.table, row(self.previous, self.next, None, self.remove))
        for widget in (
            self.worst,
            self.worst_detail,
            self.reviewed,
            row(self.add, None, self.count, self.filter),
            self.ask_row,
            self.bar,
            self.cancel_row,
            self.error,
            self.empty,
            *self._listed,
            *self._chosen,
            self.comments,
            self.disagreement,
            self.listing,
            self.places,
            self.compare,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        self.go.clicked.connect(self._go)
        self.amount.editingFinished.connect(self._keep_amount)
        self.back.clicked.connect(lambda: self._ask(""))
        self.cancel.clicked.connect(lambda: self.cancel_asked.emit())
        self.filter.activated.connect(lambda i: self.filter_chosen.emit(i == 1))
        self.previous.clicked.connect(lambda: self.step_asked.emit(-1))
        self.next.clicked.connect(lambda: self.step_asked.emit(1))
        self.remove.clicked.connect(lambda: self.remove_asked.emit())
        self.sign.clicked.connect(lambda: self.state_asked.emit(SIGNED_OFF))
        self.unlock.clicked.connect(lambda: self.state_asked.emit(IN_PROGRESS))
        self.tag.activated.connect(lambda i: self.tag_asked.emit(self.tag.itemData(i)))
        self.say.clicked.connect(self._say)
        self.comment.returnPressed.connect(self._say)
        self.listing.clicked.connect(self.disagreements_toggled)
        self.places.itemDoubleClicked.connect(
            lambda item: self.place_asked.emit(self.places.row(item))
        )

    # Adding

    @slot
    def _source_chosen(self, name: str) -> None:
        if SOURCES[name][3] is None:
            self._ask("")
            self.add_asked.emit(name, 0)
        else:
            self._ask(name)
            self.amount.setFocus()
            self.amount.selectAll()

    def _ask(self, name: str) -> None:
        self._source = name
        self.ask_row.setVisible(bool(name))
        if not name:
            return
        _, question, unit, limits = SOURCES[name]
        assert limits is not None
        self.asked.setText(question)
        self.amount.setRange(limits[0], limits[2])
        self.amount.setSuffix(unit)
        self.amount.setSingleStep(limits[0])
        self.amount.setValue(self._amounts[name])

    @slot
    def _keep_amount(self) -> None:
        if self._source:
            self._amounts[self._source] = self.amount.value()

    @slot
    def _go(self) -> None:
        name, value = self._source, self.amount.value()
        self._keep_amount()
        self._ask("")
        if name:
            self.add_asked.emit(name, value)

    def allow_adding(self, why_not: dict[str, str]) -> None:
        """Enable the ways to make regions; say of each why it cannot be gone."""
        for name, action in self.sources.items():
            action.setEnabled(not why_not[name])
            action.setToolTip(why_not[name])
        same = set(why_not.values())
        blocked = len(same) == 1 and "" not in same
        self.add.setEnabled(not blocked)
        self.add.setToolTip(
            same.pop() if blocked else "Say what is to be gone through: one region after another"
        )
        self.go.setEnabled(not blocked)

    def show_progress(self, text: str, part: float | None) -> None:
        """Regions are being looked for; a running light where it is not known how far."""
        self.bar.show_part(0 if part is None else int(part * 100), 0 if part is None else 100)
        self.bar.show()
        self.cancel_row.show()
        self.cancel.setVisible(part is not None)
        self.stage.say(text)

    def show_idle(self) -> None:
        """Nothing is under way."""
        self.bar.hide()
        self.cancel_row.hide()

    # The list

    def show_count(self, listed: int, there: int) -> None:
        """How many regions there are, and how many of them are listed."""
        for widget in self._listed:
            widget.setVisible(there > 0)
        self.filter.setVisible(there > 0)
        few = "" if listed == there else f"{listed:,} of "
        self.count.setText(f"{few}{there:,}" if there else "")
        if there == 0:
            self.empty.say(
                "No regions yet. Add what you want to go through: regions that you drew, parts of "
                "the overlay, or tiles over the tissue."
            )
        else:
            self.empty.say("" if listed else "None is open: all are reviewed or signed off.")
        for made, words in ((self.previous, "before"), (self.next, "after it")):
            made.setEnabled(listed > 0)
            key = KEYS["previous" if made is self.previous else "next"]
            made.setToolTip(
                f"Go to the region {words} ({key})" if listed else "No region is listed."
            )

    # What is chosen

    def show_chosen(
        self, detail: str, states: set[str], tags: set[str], comments: Sequence[str], single: bool
    ) -> None:
        """Say what the selected regions are.

        Parameters
        ----------
        detail : str
            Which; empty hides all of it.
        states, tags : set of str
            Those that occur among them.
        comments : sequence of str
            Of a single region, oldest first.
        single : bool
            Whether it is one region.
        """
        for widget in self._chosen:
            widget.setVisible(bool(detail))
        self.comment_row.setVisible(bool(detail) and single)
        self.detail.say(detail)
        for state, made in self.states.items():
            made.setChecked(states == {state})
        locked = SIGNED_OFF in states
        self.sign.setVisible(states != {SIGNED_OFF})
        self.unlock.setVisible(locked)
        self.tag.setCurrentIndex(self.tag.findData(next(iter(tags))) if len(tags) == 1 else -1)
        earlier = len(comments) - _NEWEST
        shown = [f"({earlier} earlier)"] if earlier > 0 else []
        self.comments.say("\n".join([*shown, *comments[-_NEWEST:]]))
        self.comments.setToolTip(plain_tip("\n".join(comments)) if earlier > 0 else "")

    def allow(self, why_not: str, locked: str) -> None:
        """Enable what can be done to the selected regions.

        Parameters
        ----------
        why_not : str
            Why nothing can; empty if something can.
        locked : str
            Which of them are signed off, in a sentence; empty if none is.
        """
        for state, _, tip in _STATE_BUTTONS:
            made = self.states[state]
            made.setEnabled(not why_not and not locked)
            made.setToolTip(why_not or locked or tip)
        self.sign.setEnabled(not why_not)
        self.sign.set_primary(not why_not)
        self.sign.setToolTip(
            why_not or f"Done, under your name: nobody can correct it then ({KEYS['sign_off']})"
        )
        self.unlock.setEnabled(not why_not)
        self.unlock.setToolTip(
            why_not or "Take the signature off, so that it can be corrected; it is then in progress"
        )
        for widget, tip in (
            (
                self.tag,
                f"What it is apart from its grade ({KEYS['tag']}); tagged regions are not "
                "learned from unless asked for",
            ),
            (self.remove, "Take the selected regions off the list; corrections stay"),
        ):
            widget.setEnabled(not why_not and not locked)
            widget.setToolTip(why_not or locked or tip)
        for widget, tip in (
            (self.comment, "Something to say about it; kept with your name and the time"),
            (self.say, "Keep the comment"),
        ):
            widget.setEnabled(not why_not)
            widget.setToolTip(why_not or tip)

    @slot
    def _say(self) -> None:
        text = self.comment.text().strip()
        if text:
            self.comment_asked.emit(text)

    # Disagreements

    def show_disagreements(self, text: str, places: Sequence[str]) -> None:
        """Say where a new run and the corrections differ; empty hides it."""
        self.disagreement.say(text, "warning" if places else "")
        self.listing.setVisible(bool(places))
        self.places.clear()
        self.places.addItems(list(places))
        self.places.setFixedHeight(8 + 15 * min(max(len(places), 2), _MOST_PLACES))
        self.places.setVisible(bool(places) and self.listing.isChecked())

    def show_places(self, on: bool) -> None:
        """Unfold the list of places."""
        self.listing.setChecked(on)
        self.places.setVisible(on and self.places.count() > 0)

    def keyPressEvent(self, event: object) -> None:
        # Enter in the field must not also reach napari's keys.
        if getattr(event, "key", lambda: None)() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            return
        super().keyPressEvent(event)


def _column(*widgets: QWidget) -> QWidget:
    holder = QWidget()
    layout = QVBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(3)
    for widget in widgets:
        layout.addWidget(widget)
    holder.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
    return holder
