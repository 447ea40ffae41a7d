"""Figures and confusion matrices as tables and as a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.classes import BACKGROUND, CLASSES, RESEARCH_USE_ONLY, VALUE_NAMES
from napari_hspnet.training.agreement import Agreement
from napari_hspnet.training.intervals import Estimate
from napari_hspnet.training.paper_rows import PaperRow

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "FIGURE_NAMES",
    "Table",
    "as_csv",
    "as_markdown",
    "confusion_csv",
    "confusion_picture",
    "confusion_table",
    "grade_table",
    "score_table",
    "with_interval",
]

Counts = npt.NDArray[np.int64]
Table = list[list[str]]
"""Rows of cells, the headings first."""

FIGURE_NAMES: Mapping[str, str] = {
    "mean_dice": "mean Dice",
    "mean_iou": "mIoU",
    "accuracy": "AP (pixel accuracy)",
    **{f"dice_{c.name}": f"Dice {c.name}" for c in CLASSES},
    **{f"iou_{c.name}": f"IoU {c.name}" for c in CLASSES},
    "kappa": "kappa, quadratic weights",
    "graded": "annotated pixels that got a grade",
    "cin2_sensitivity": "sensitivity at CIN2+",
    "cin2_specificity": "specificity at CIN2+",
    "cin2_agreement": "agreement at CIN2+",
}
"""Titles of the keys of `agreement.figures`."""

_NAMES = [VALUE_NAMES[BACKGROUND], *(c.name for c in CLASSES)]
_MAIN = ("mean_dice", "mean_iou", "accuracy")


def with_interval(one: Estimate) -> str:
    """ "0.712 [0.650, 0.781]"; the figure alone without an interval, "-" without either."""
    if not math.isfinite(one.value):
        return "-"
    if not (math.isfinite(one.low) and math.isfinite(one.high)):
        return f"{one.value:.4f}"
    return f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]"


def score_table(
    title: str, masked: Agreement, unmasked: Agreement | None, paper: Sequence[PaperRow] = ()
) -> Table:
    """Dice, mIoU and AP under each protocol, the paper's rows below.

    Parameters
    ----------
    title : str
        What is evaluated.
    masked, unmasked : Agreement
        None leaves unmasked rows out.
    paper : sequence of PaperRow
        Figures of others on the same data.
    """
    table = [["answer", *(FIGURE_NAMES[key] for key in _MAIN)]]
    rows = [("pooled, masked", masked.pooled), ("per image, masked", masked.per_image)]
    if unmasked is not None:
        rows += [("pooled, unmasked", unmasked.pooled), ("per image, unmasked", unmasked.per_image)]
    for how, found in rows:
        table.append([f"{title}: {how}", *(with_interval(found[key]) for key in _MAIN)])
    for row in paper:
        values = (f"{value:.4f}" for value in (row.dice, row.iou, row.accuracy))
        table.append([f"paper: {row.title}", *values])
    return table


def grade_table(masked: Agreement) -> Table:
    """All other figures, pooled and per image, masked."""
    table = [["figure", "pooled", "per image"]]
    for key, name in FIGURE_NAMES.items():
        if key not in _MAIN:
            pooled, image = masked.pooled[key], masked.per_image[key]
            table.append([name, with_interval(pooled), with_interval(image)])
    return table


def confusion_table(counts: Counts) -> Table:
    """Counts and shares of each row, truth down, prediction across.

    Parameters
    ----------
    counts : ndarray of int64, (5, 5)
        See `metrics.confusion`. The first row, truth background, is left out where
        it is empty.
    """
    table = [["truth \\ predicted", *_NAMES, "pixels"]]
    shares = _shares(counts)
    for row in _rows(counts):
        cells = [f"{counts[row, k]:,} ({shares[row, k]:.1%})" for k in range(len(_NAMES))]
        if not counts[row].sum():
            cells = ["0"] * len(_NAMES)
        table.append([_NAMES[row], *cells, f"{counts[row].sum():,}"])
    return table


def confusion_csv(counts: Counts) -> str:
    """All counts and the shares of each row, as CSV with headings."""
    shares = _shares(counts)
    heads = [*(f"predicted {n}" for n in _NAMES), "pixels", *(f"share {n}" for n in _NAMES)]
    rows = [
        [name, *counts[i].tolist(), int(counts[i].sum()), *(f"{v:.6f}" for v in shares[i])]
        for i, name in enumerate(_NAMES)
    ]
    return as_csv([["truth", *heads], *rows])


def as_csv(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV text."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def as_markdown(table: Table) -> str:
    """A table as Markdown; all columns but the first to the right."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = ["---", *("---:" for _ in table[0][1:])]
    return "\n".join([line(table[0]), line(rule), *map(line, table[1:])]) + "\n"


def confusion_picture(counts: Counts, title: str, cell: int = 150) -> Image:
    """A confusion matrix to look at: counts and shares of each row, dark where many.

    Parameters
    ----------
    counts : ndarray of int64, (5, 5)
        As for `confusion_table`.
    title : str
        Over it.
    cell : int
        Side of a cell in px; letters grow with it.
    """
    from PIL import Image as Pillow
    from PIL import ImageDraw, ImageFont

    rows, columns = _rows(counts), range(len(_NAMES))
    shares = _shares(counts)
    size = max(10, cell * 15 // 100)
    letters = ImageFont.load_default(size)
    bold = ImageFont.load_default(size * 5 // 4)
    left, top, edge = round(cell * 1.5), round(cell * 0.95), size
    width, height = left + cell * len(columns) + edge, top + cell * len(rows) + edge + 2 * size
    picture = Pillow.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    ink = (20, 20, 20)
    draw.text((edge, edge), title, ink, _fitting(title, bold, width - 2 * edge), anchor="lt")
    middle = left + cell * len(columns) / 2
    draw.text((middle, top - size * 2.4), "predicted", ink, letters, anchor="mb")
    draw.text((edge, top - size / 2), "truth", ink, letters, anchor="lb")
    for k in columns:
        name = _NAMES[k]
        at = left + cell * (k + 0.5), top - size / 2
        draw.text(at, name, ink, _fitting(name, letters, cell - 8), anchor="mb")
    for i, row in enumerate(rows):
        y, name = top + cell * i, _NAMES[row]
        font = _fitting(name, letters, left - 2 * edge)
        draw.text((left - edge, y + cell / 2), name, ink, font, anchor="rm")
        for k in columns:
            x, share = left + cell * k, float(shares[row, k])
            colour = tuple(round(255 + (c - 255) * share) for c in (8, 48, 107))
            draw.rectangle((x, y, x + cell, y + cell), colour, outline=(150, 150, 150))
            on = (255, 255, 255) if share > 0.45 else ink
            count = f"{counts[row, k]:,}"
            font = _fitting(count, letters, cell - 12)
            draw.text((x + cell / 2, y + cell * 0.42), count, on, font, anchor="mm")
            part = f"{share:.1%}" if counts[row].sum() else "-"
            draw.text((x + cell / 2, y + cell * 0.64), part, on, letters, anchor="mm")
    foot = f"Pixels, and their share of the row. {RESEARCH_USE_ONLY}."
    font = _fitting(foot, letters, width - 2 * edge)
    draw.text((edge, height - edge / 2), foot, ink, font, anchor="lb")
    return picture


def _rows(counts: Counts) -> list[int]:
    return [row for row in range(len(_NAMES)) if row != BACKGROUND or counts[row].any()]


def _shares(counts: Counts) -> npt.NDArray[np.float64]:
    total = counts.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0))


def _fitting(text: str, font: Any, width: float) -> Any:
    """The font, smaller where the text would not fit."""
    size = int(font.size)
    while size > 6 and font.getlength(text) > width:
        size -= 1
        font = font.font_variant(size=size)
    return font
