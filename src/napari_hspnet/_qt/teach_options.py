"""How to fine-tune: the few options of the Teach section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QGridLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QSlider,
    QSpinBox,
    QToolButton,
    QWidget,
)

from napari_hspnet._qt.parts import Note, row
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.words import elided

__all__ = ["SYNTHETIC_FIELDS", "PlaceChoice", "TeachOptions"]

SYNTHETIC_FIELDS = 16
"""To learn again beside, and as many to judge by."""

_STEPS = 20
_ROUNDS = 5


class PlaceChoice(QWidget):
    """A folder or a file that need not be given."""

    changed = Signal()

    def __init__(self, name: str, title: str, tip: str, pattern: str = "") -> None:
        super().__init__()
        self._title, self._tip, self._pattern = title, tip, pattern
        self.path: Path | None = None
        self.choose = QPushButton()
        self.choose.setObjectName(name)
        self.choose.setAccessibleName(title)
        self.choose.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.clear = QToolButton()
        self.clear.setObjectName(f"{name}_clear")
        self.clear.setText("×")
        self.clear.setToolTip("None after all")
        self.clear.setAccessibleName(f"{title}: none")
        layout = row(self.choose, self.clear, stretch=0)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(layout)
        self.choose.clicked.connect(self.ask)
        self.clear.clicked.connect(lambda: self.set_path(None))
        self.set_path(None)

    @slot
    def ask(self) -> None:
        """Let the user choose."""
        if self._pattern:
            said, _ = QFileDialog.getOpenFileName(self, self._title, "", self._pattern)
        else:
            said = QFileDialog.getExistingDirectory(self, self._title)
        if said:
            self.set_path(Path(said))

    def set_path(self, path: Path | None) -> None:
        """Take a place, or none."""
        self.path = path
        self.choose.setText("none…" if path is None else elided(path.name, 20))
        self.choose.setToolTip(self._tip if path is None else f"{self._tip}\n{path}")
        self.clear.setVisible(path is not None)
        self.changed.emit()


class _Rounds(QSpinBox):
    def wheelEvent(self, event: Any) -> None:
        event.ignore()


class _Slider(QSlider):
    def wheelEvent(self, event: Any) -> None:
        event.ignore()


class TeachOptions(QWidget):
    """Rounds, how strongly to keep what is known, what learns, and what to judge by."""

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.rounds = _Rounds()
        self.rounds.setObjectName("teach_rounds")
        self.rounds.setRange(1, 100)
        self.rounds.setValue(_ROUNDS)
        self.rounds.setToolTip("Epochs: how often each patch is seen; 3 to 10 are usual")
        self.rounds.setAccessibleName("Rounds")
        self.rounds.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.keep = _Slider(Qt.Orientation.Horizontal)
        self.keep.setObjectName("teach_keep")
        self.keep.setRange(0, _STEPS)
        self.keep.setValue(_STEPS // 2)
        self.keep.setToolTip(
            "How strongly the model keeps what it knew: it is held to its own earlier answers, "
            "and learns earlier data again where you give some"
        )
        self.keep.setAccessibleName("Old knowledge: forget to keep")
        self.freeze = _box(
            "Teach only the last part",
            "teach_freeze",
            "The encoder stays as it is: faster, and less can be lost or gained",
        )
        self.reference = PlaceChoice(
            "teach_reference",
            "Reference set",
            "Folder of pictures with masks on which nothing may be lost",
        )
        self.replay = PlaceChoice(
            "teach_replay",
            "Earlier data",
            "Folder of pictures with masks that the model had learned from, learned again beside",
        )
        self.synthetic = _box(
            "Synthetic fields for both",
            "teach_synthetic",
            f"{SYNTHETIC_FIELDS} synthetic fields to learn again beside, and as many as reference "
            "set. No safety reference for real slides",
        )
        self.caution = Note(name="teach_caution", faint=True)
        self.config = PlaceChoice(
            "teach_config",
            "Settings file",
            "TOML with more: recipe, patches, augmentation, losses, as for the command line",
            "Settings (*.toml);;All files (*)",
        )
        self._lay_out()
        self.rounds.valueChanged.connect(lambda: self.changed.emit())
        self.keep.valueChanged.connect(lambda: self.changed.emit())
        self.freeze.toggled.connect(lambda: self.changed.emit())
        self.synthetic.toggled.connect(self._follow)
        for choice in (self.reference, self.replay, self.config):
            choice.changed.connect(self._follow)
        self.offer_synthetic(False)

    def _lay_out(self) -> None:
        grid = QGridLayout(self)
        grid.setContentsMargins(8, 0, 0, 2)
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(3)
        grid.setColumnStretch(1, 1)
        rows: tuple[tuple[str, QWidget], ...] = (
            ("Rounds", self.rounds),
            ("Old knowledge", row(QLabel("forget"), self.keep, QLabel("keep"), stretch=1)),
            ("", self.freeze),
            ("Reference set", self.reference),
            ("Earlier data", self.replay),
            ("", self.synthetic),
            ("Settings file", self.config),
        )
        for line, (words, field) in enumerate(rows):
            if words:
                grid.addWidget(QLabel(words), line, 0)
                grid.addWidget(field, line, 1)
            else:
                grid.addWidget(field, line, 0, 1, 2)
        grid.addWidget(self.caution, len(rows), 0, 1, 2)

    @property
    def uses_synthetic(self) -> bool:
        """Whether synthetic fields are wanted, and the model is one that has seen such."""
        return self.synthetic.isChecked() and not self.synthetic.isHidden()

    def offer_synthetic(self, offered: bool) -> None:
        """Let synthetic fields be chosen: they are earlier data of synthetic models alone."""
        if offered != self.synthetic.isHidden():
            return
        self.synthetic.setVisible(offered)
        self._follow()

    def said(self) -> dict[str, Any]:
        """What is chosen, as fields of `FinetuneOptions`."""
        fields = SYNTHETIC_FIELDS if self.uses_synthetic else 0
        return {
            "epochs": self.rounds.value(),
            "keep": self.keep.value() / _STEPS,
            "freeze_encoder": self.freeze.isChecked(),
            "reference": None if fields else self.reference.path,
            "replay": None if fields else self.replay.path,
            "reference_phantoms": fields,
            "replay_phantoms": fields,
        }

    @slot
    def _follow(self) -> None:
        """Say what a choice means for the verdict."""
        fields = self.uses_synthetic
        for choice in (self.reference, self.replay):
            choice.setEnabled(not fields)
        if fields:
            self.caution.say("Synthetic fields are no safety reference for real slides.")
        elif self.reference.path is None:
            self.caution.say("Without a reference set it is not known what is lost elsewhere.")
        else:
            self.caution.say("")
        self.changed.emit()


def _box(words: str, name: str, tip: str) -> QCheckBox:
    made = QCheckBox(words)
    made.setObjectName(name)
    made.setToolTip(tip)
    return made
