"""Two small curves of a fine-tuning: the loss, and what is judged after each round."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyqtgraph as pg
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

__all__ = ["TeachCurves"]

_HEIGHT = 96
_MOST_POINTS = 1000
_JUDGED = {"mean_dice": "mean Dice", "cin2_agreement": "CIN2+"}


@dataclass(frozen=True)
class _Ink:
    loss: str
    judged: Mapping[str, str]
    axes: str
    paper: str


# Told apart by lightness, too, and by the mark at each round.
_INKS = {
    True: _Ink(
        "#e6e6e6", {"mean_dice": "#6db6ff", "cin2_agreement": "#f0a530"}, "#b4b4bc", "#1b1d23"
    ),
    False: _Ink(
        "#202028", {"mean_dice": "#0b5cad", "cin2_agreement": "#a65300"}, "#505058", "#ffffff"
    ),
}
_MARKS = {"mean_dice": "o", "cin2_agreement": "t1"}


@dataclass
class _Points:
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)

    def add(self, x: float, y: float) -> None:
        self.x.append(x)
        self.y.append(y)
        if len(self.x) > _MOST_POINTS:
            # The last one stays, so that the curve ends where learning is.
            del self.x[-2::-2], self.y[-2::-2]


class _Plot(pg.PlotWidget):
    """A plot that one looks at: the wheel and the mouse are for the dock around it."""

    def __init__(self, name: str, says: str) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName(says)
        self.setToolTip(says)
        self.setFixedHeight(_HEIGHT)
        self.setMinimumWidth(60)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setMouseEnabled(False, False)
        self.setMenuEnabled(False)
        self.hideButtons()
        self.getPlotItem().getAxis("bottom").setTickDensity(0.6)
        self.getPlotItem().getAxis("left").setWidth(30)

    def wheelEvent(self, event: Any) -> None:
        event.ignore()


class TeachCurves(QWidget):
    """The loss beside what the held-back regions say, both over rounds."""

    def __init__(self) -> None:
        super().__init__()
        self._loss_points = _Points()
        self._judged_points = {key: _Points() for key in _JUDGED}
        self.loss = _Plot("teach_loss", "Loss while learning, over rounds: lower is better")
        self.judged = _Plot(
            "teach_dice",
            "On the regions held back, after each round; 0 is the model as it was. "
            "Higher is better",
        )
        self._titles = (QLabel(), QLabel())
        self._loss_curve = self.loss.plot([], [])
        self._judged_curves = {key: self.judged.plot([], [], symbolSize=5) for key in _JUDGED}
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for title, plot in zip(self._titles, (self.loss, self.judged), strict=True):
            title.setTextFormat(Qt.TextFormat.RichText)
            title.setStyleSheet("font-size: 11px;")
            part = QVBoxLayout()
            part.setSpacing(0)
            part.addWidget(title)
            part.addWidget(plot)
            layout.addLayout(part, 1)
        self.judged.setYRange(0, 1, padding=0.08)
        self.set_dark(True)
        self.begin(1)

    @property
    def losses(self) -> tuple[float, ...]:
        """What the left curve shows."""
        return tuple(self._loss_points.y)

    @property
    def figures(self) -> Mapping[str, tuple[tuple[float, float], ...]]:
        """What the right curves show: (round, value) by the key of `Judged.figures`."""
        return {
            key: tuple(zip(points.x, points.y, strict=True))
            for key, points in self._judged_points.items()
        }

    def begin(self, rounds: int) -> None:
        """Empty curves, of so many rounds."""
        self._loss_points = _Points()
        self._judged_points = {key: _Points() for key in _JUDGED}
        for plot in (self.loss, self.judged):
            plot.setXRange(0, rounds, padding=0.05)
        self._draw_loss()
        self._draw_judged()

    def add_loss(self, at: float, loss: float) -> None:
        """The loss after so many rounds."""
        self._loss_points.add(at, loss)
        self._draw_loss()

    def add_judged(self, after: int, figures: Mapping[str, float | None]) -> None:
        """What was judged after a round; 0 is before the first."""
        for key, points in self._judged_points.items():
            value = figures.get(key)
            if value is not None and math.isfinite(value):
                points.add(float(after), value)
        self._draw_judged()

    def set_dark(self, dark: bool) -> None:
        """Use colours that are legible on a dark theme, or on a light one."""
        ink = _INKS[dark]
        for plot in (self.loss, self.judged):
            plot.setBackground(ink.paper)
            for side in ("left", "bottom"):
                axis = plot.getPlotItem().getAxis(side)
                axis.setPen(ink.axes)
                axis.setTextPen(ink.axes)
        self._loss_curve.setPen(pg.mkPen(ink.loss, width=2))
        for key, curve in self._judged_curves.items():
            curve.setPen(pg.mkPen(ink.judged[key], width=2))
            curve.setSymbol(_MARKS[key])
            curve.setSymbolBrush(ink.judged[key])
            curve.setSymbolPen(ink.judged[key])
        self._titles[0].setText("Loss")
        self._titles[1].setText(
            " · ".join(
                f'<span style="color: {ink.judged[key]}">{mark} {name}</span>'
                for (key, name), mark in zip(_JUDGED.items(), "●▲", strict=True)
            )
        )

    def _draw_loss(self) -> None:
        self._loss_curve.setData(self._loss_points.x, self._loss_points.y)

    def _draw_judged(self) -> None:
        for key, curve in self._judged_curves.items():
            curve.setData(self._judged_points[key].x, self._judged_points[key].y)
