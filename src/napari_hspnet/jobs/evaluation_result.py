"""What an evaluation came to, as JSON, tables and files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet import __version__
from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.training import Estimate
from napari_hspnet.training.agreement import (
    PROTOCOL,
    Agreement,
    Drawn,
    figures,
    high_grade_counts,
)
from napari_hspnet.training.paper_rows import PaperRow
from napari_hspnet.training.report import (
    FIGURE_NAMES,
    Table,
    as_csv,
    as_markdown,
    confusion_csv,
    confusion_picture,
    confusion_table,
    grade_table,
    score_table,
)

__all__ = ["DOCUMENT", "FORMAT", "Evaluation", "ImageResult", "is_evaluation", "write_evaluation"]

FORMAT = "napari-hspnet evaluation"
DOCUMENT = "evaluation.json"


@dataclass(frozen=True)
class ImageResult:
    """What came of one image.

    Attributes
    ----------
    name, patient : str
    height, width : int
        Pixels.
    mpp : float
        µm per pixel.
    ignored : int
        Pixels that count nowhere.
    counts : ndarray of int64, (5, 5)
        See `training.confusion`; a pixel without an answer counts as predicted 0.
    """

    name: str
    patient: str
    height: int
    width: int
    mpp: float
    ignored: int
    counts: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes
    ----------
    title : str
        What was evaluated.
    about : Mapping
        Data, model, settings, as JSON values.
    images : tuple of ImageResult
        By name.
    drawn : Drawn
        What the intervals are over.
    masked : Agreement
    unmasked : Agreement or None
        None where truth 0 is ignored.
    paper : tuple of PaperRow
        Where the data are those of the paper's table.
    notes : tuple of str
        What to know about the figures.
    """

    title: str
    about: Mapping[str, Any]
    images: tuple[ImageResult, ...]
    drawn: Drawn
    masked: Agreement
    unmasked: Agreement | None
    paper: tuple[PaperRow, ...]
    notes: tuple[str, ...]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Pooled over images, (5, 5)."""
        return np.asarray(np.sum([image.counts for image in self.images], axis=0))

    def tables(self) -> tuple[Table, Table, Table]:
        """Scores beside the paper's, other figures, confusion matrix."""
        return (
            score_table(self.title, self.masked, self.unmasked, self.paper),
            grade_table(self.masked),
            confusion_table(self.counts),
        )

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values; what cannot be told is null."""
        return {
            "format": FORMAT,
            "version": 1,
            "notice": RESEARCH_USE_ONLY,
            "napari_hspnet": __version__,
            **self.about,
            "notes": list(self.notes),
            "protocol": list(PROTOCOL),
            "figures": {
                "masked": _agreement_json(self.masked),
                "unmasked": None if self.unmasked is None else _agreement_json(self.unmasked),
            },
            "confusion": self.counts.tolist(),
            "cin2_pixels": high_grade_counts(self.counts),
            "images": [_image_json(image) for image in self.images],
            "paper_table_5": [
                {
                    "network": row.network,
                    "loss": row.loss,
                    "post_processed": row.post,
                    "parameters_million": row.parameters,
                    "mean_dice": row.dice,
                    "mean_iou": row.iou,
                    "accuracy": row.accuracy,
                }
                for row in self.paper
            ]
            or None,
        }


def is_evaluation(folder: Path) -> bool:
    """Whether a folder holds what `write_evaluation` writes."""
    try:
        said = json.loads((folder / DOCUMENT).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("format") == FORMAT


def write_evaluation(found: Evaluation, folder: Path) -> None:
    """Write all figures into a folder that exists.

    Raises
    ------
    OSError
        If the disk does not take them.
    """
    text = json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / DOCUMENT).write_text(f"{text}\n", encoding="utf-8")
    (folder / "evaluation.md").write_text(_markdown(found), encoding="utf-8")
    (folder / "per-image.csv").write_text(_per_image(found), encoding="utf-8")
    (folder / "confusion.csv").write_text(confusion_csv(found.counts), encoding="utf-8")
    title = f"{found.title}: {len(found.images)} images, {int(found.counts.sum()):,} pixels"
    confusion_picture(found.counts, title).save(folder / "confusion.png")


def _markdown(found: Evaluation) -> str:
    scores, grades, matrix = map(as_markdown, found.tables())
    notes = "".join(f"- {note}\n" for note in found.notes)
    return (
        f"# {found.title}\n\n{RESEARCH_USE_ONLY}.\n\n{scores}\nOther figures, masked:\n\n"
        f"{grades}\n{matrix}\n{notes}"
    )


def _per_image(found: Evaluation) -> str:
    single = [figures(image.counts) for image in found.images]
    unmasked = [figures(image.counts, masked=False) for image in found.images]
    whole = ("mean_dice", "mean_iou", "accuracy")
    heads = ["name", "patient", "height", "width", "um_per_pixel", "annotated", "ignored"]
    heads += FIGURE_NAMES
    if found.unmasked is not None:
        heads += [f"{key}_unmasked" for key in whole]
    rows: list[list[Any]] = [heads]
    for image, masked, all_ in zip(found.images, single, unmasked, strict=True):
        row: list[Any] = [image.name, image.patient, image.height, image.width, image.mpp]
        row += [int(image.counts[1:].sum()), image.ignored]
        row += [_cell(masked[key]) for key in FIGURE_NAMES]
        if found.unmasked is not None:
            row += [_cell(all_[key]) for key in whole]
        rows.append(row)
    return as_csv(rows)


def _cell(value: Any) -> str:
    return f"{float(value):.6f}" if math.isfinite(value) else ""


def _number(value: Any) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _agreement_json(found: Agreement) -> dict[str, Any]:
    def one(estimate: Estimate) -> dict[str, float | None]:
        values = (("value", estimate.value), ("low", estimate.low), ("high", estimate.high))
        return {key: _number(value) for key, value in values}

    return {
        "pooled": {key: one(estimate) for key, estimate in found.pooled.items()},
        "per_image": {key: one(estimate) for key, estimate in found.per_image.items()},
    }


def _image_json(image: ImageResult) -> dict[str, Any]:
    return {
        "name": image.name,
        "patient": image.patient,
        "height": image.height,
        "width": image.width,
        "mpp": image.mpp,
        "ignored": image.ignored,
        "confusion": image.counts.tolist(),
        "masked": {key: _number(value) for key, value in figures(image.counts).items()},
    }
