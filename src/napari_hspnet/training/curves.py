"""How a training went: a table of its steps and a picture, always."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.errors import OutputError
from napari_hspnet.networks.checkpoint import clean_up, write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PICTURE", "TABLE", "Curves", "Row", "curves_picture", "read_curves"]

TABLE, PICTURE = "curves.csv", "curves.png"
"""Their names in the folder of a training."""

_HEADINGS = ("step", "epoch", "loss", "rate", "seconds", "notice")
_INK, _GREY, _RAW, _BLUE = (20, 20, 20), (210, 210, 210), (190, 205, 225), (8, 48, 107)
_POINTS = 4000


@dataclass(frozen=True)
class Row:
    """A step.

    Attributes
    ----------
    step : int
        From 1, counted through all epochs.
    epoch : float
        Epochs done after it, with their part.
    loss : float
        Of its batch.
    rate : float
        Learning rate of everything but the encoder.
    seconds : float
        Spent in training until then.
    """

    step: int
    epoch: float
    loss: float
    rate: float
    seconds: float

    def cells(self) -> tuple[str, ...]:
        """As in the table."""
        return (
            str(self.step),
            f"{self.epoch:.6g}",
            f"{self.loss:.8g}",
            f"{self.rate:.8g}",
            f"{self.seconds:.3f}",
            RESEARCH_USE_ONLY,
        )


def read_curves(path: Path) -> list[Row]:
    """The rows of a table, as far as they are whole; none where there is no file.

    A kill can cut the last line: what follows a damaged one is left out.
    """
    rows: list[Row] = []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for cells in csv.DictReader(file):
                row = Row(int(cells["step"]), *(float(cells[k]) for k in _HEADINGS[1:5]))
                if cells["notice"] != RESEARCH_USE_ONLY or row.step != len(rows) + 1:
                    break
                rows.append(row)
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        pass
    return rows


class Curves:
    """The table and the picture of a training that goes on.

    Parameters
    ----------
    folder : Path
        Where they lie.
    step : int
        Steps that are done: later rows of an older table are those of steps that are
        now done again, and go.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder = folder
        for name in (TABLE, PICTURE):
            clean_up(folder / name)
        self.rows = read_curves(folder / TABLE)[:step]
        self._written = 0
        self._new_table()

    def add(self, row: Row) -> None:
        """Take in a step; it is written with the next `flush`."""
        self.rows.append(row)

    def flush(self, picture: bool = False) -> None:
        """Write what is new, and the picture if wanted.

        Raises
        ------
        OutputError
            If the disk does not take it.
        """
        path = self._folder / TABLE
        try:
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(_lines([row.cells() for row in self.rows[self._written :]]))
        except OSError as error:
            raise OutputError(
                f"the file cannot be written ({error.strerror or error})",
                advice="Make room on the disk and run the command again: it goes on",
                path=path,
            ) from error
        self._written = len(self.rows)
        if picture:
            data = io.BytesIO()
            curves_picture(self.rows).save(data, "PNG")
            write_atomically(self._folder / PICTURE, data.getvalue())

    def _new_table(self) -> None:
        text = _lines([_HEADINGS, *(row.cells() for row in self.rows)])
        write_atomically(self._folder / TABLE, text.encode())
        self._written = len(self.rows)


def _lines(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def curves_picture(rows: Sequence[Row], size: tuple[int, int] = (1000, 700)) -> Image:
    """Loss and learning rate over the epochs.

    Parameters
    ----------
    rows : sequence of Row
        None gives empty axes.
    size : tuple of int
        (width, height) in px.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    width, height = size
    picture = Pillow.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    small, large = ImageFont.load_default(16), ImageFont.load_default(20)
    steps = _counted(f"{len(rows):,}", "step")
    if rows:
        steps += f", {_counted(f'{rows[-1].epoch:.4g}', 'epoch')}"
    draw.text((20, 14), f"Training: {steps}", _INK, large)
    draw.text((width - 20, height - 8), f"{RESEARCH_USE_ONLY}.", _INK, small, anchor="rb")
    rows = [row for row in rows if math.isfinite(row.loss)]
    x = [row.epoch for row in rows]
    end = max(x, default=1.0) or 1.0
    smooth = _smoothed([row.loss for row in rows])
    if smooth:
        text = f"loss: each step (light), running mean (dark), last {smooth[-1]:.4g}"
    else:
        text = "loss"
    split = round(height * 0.66)
    # A first peak would press all that follows flat.
    losses = sorted(row.loss for row in rows)
    top = max(losses[round(0.99 * (len(losses) - 1))], max(smooth)) if losses else 1.0
    low = min(0.0, losses[0]) if losses else 0.0
    upper = _Panel(draw, small, (90, 78, width - 30, split - 40), (0.0, end), (low, top))
    upper.axes(text)
    upper.line(x, [row.loss for row in rows], _RAW, 1)
    upper.line(x, smooth, _BLUE, 3)
    rates = [row.rate for row in rows]
    most = max(rates, default=1.0) or 1.0
    lower = _Panel(draw, small, (90, split + 30, width - 30, height - 80), (0.0, end), (0.0, most))
    lower.axes("learning rate (all but the encoder)")
    lower.line(x, rates, _BLUE, 2)
    draw.text(((90 + width - 30) / 2, height - 30), "epochs", _INK, small, anchor="mb")
    return picture


def _smoothed(values: Sequence[float]) -> list[float]:
    """Running mean over about a fiftieth of all, at least ten."""
    span = max(10, len(values) // 50)
    means: list[float] = []
    for i, value in enumerate(values):
        last = means[-1] if means else value
        means.append(last + (value - last) / min(i + 1, span))
    return means


class _Panel:
    """Axes in a box, and lines within them."""

    def __init__(
        self,
        draw: Any,
        font: Any,
        box: tuple[int, int, int, int],
        x: tuple[float, float],
        y: tuple[float, float],
    ) -> None:
        self._draw, self._font, self._box = draw, font, box
        self._x, self._y = x, (y[0], y[1] if y[1] > y[0] else y[0] + 1)

    def axes(self, title: str) -> None:
        left, top, right, bottom = self._box
        draw, font = self._draw, self._font
        for value in _ticks(*self._y, 5):
            y = self._at(self._x[0], value)[1]
            draw.line((left, y, right, y), _GREY)
            draw.text((left - 8, y), f"{value:.4g}", _INK, font, anchor="rm")
        for value in _ticks(*self._x, 10):
            x = self._at(value, self._y[0])[0]
            draw.line((x, bottom, x, bottom + 5), _INK)
            draw.text((x, bottom + 8), f"{value:.4g}", _INK, font, anchor="mt")
        draw.line((left, top, left, bottom, right, bottom), _INK, 2)
        draw.text((left, top - 8), title, _INK, font, anchor="lb")

    def line(self, x: Sequence[float], y: Sequence[float], colour: Any, width: int) -> None:
        every = max(1, len(x) // _POINTS)
        points = [self._at(*xy) for xy in zip(x, y, strict=True)]
        # The last one always: it is what the training came to.
        points = points[::every] + points[-1:]
        if len(points) > 1:
            self._draw.line(points, colour, width, joint="curve")

    def _at(self, x: float, y: float) -> tuple[float, float]:
        left, top, right, bottom = self._box
        (x0, x1), (y0, y1) = self._x, self._y
        along = left + (right - left) * (x - x0) / (x1 - x0)
        up = bottom - (bottom - top) * (y - y0) / (y1 - y0)
        return along, min(max(up, top), bottom)


def _counted(number: str, noun: str) -> str:
    return f"{number} {noun}{'' if number == '1' else 's'}"


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round values from low to high, at most about so many."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
