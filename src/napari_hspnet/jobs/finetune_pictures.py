"""Pictures of where the overlay would change if a candidate took the current model's place."""

from __future__ import annotations

import re
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.failures import output_failures
from napari_hspnet.classes import CLASSES, DEMO_BANNER, PAPER, RESEARCH_USE_ONLY
from napari_hspnet.exchange.drawing import HATCH, Rgba, blend
from napari_hspnet.exchange.frame import Frame
from napari_hspnet.exchange.legend import (
    ALARM,
    GREY,
    INK,
    Entry,
    Line,
    ScaleBar,
    Text,
    above,
    mm2_text,
    strip,
)
from napari_hspnet.exchange.output import Watched, new_file, stop_if
from napari_hspnet.exchange.overlay import Drawn, Look, draw, line_scale, swatch
from napari_hspnet.exchange.picture import fitting_mpp
from napari_hspnet.exchange.seen import Seen
from napari_hspnet.jobs.evaluation_data import Subject
from napari_hspnet.slides import LabelGrid, PixelBox, Slide
from napari_hspnet.training.data.images import Array
from napari_hspnet.training.losses import IGNORE

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "BETTER",
    "FOLDER",
    "MOST",
    "OPEN",
    "OTHER",
    "SAME",
    "WORSE",
    "Answers",
    "change_pictures",
    "changed",
]

FOLDER = "changes"
MOST = 12
"""Pictures; more regions than this have none."""

SAME, BETTER, WORSE, OTHER, OPEN = range(5)
"""Of a pixel: no change; it becomes right; wrong; is wrong both times, otherwise; nobody
said what it is."""

_SIDE, _NARROW, _GAP = 640, 180, 10
_LETTERS = 15
_OURS = re.compile(r"\d{2}-[0-9a-f]+-r\d+\.png")
_KINDS = {
    BETTER: "becomes right",
    WORSE: "becomes wrong",
    OTHER: "wrong before and after",
    OPEN: "not judged",
}
# Blue and orange are told apart by every eye; stripes say it without any colour.
_COLOURS: dict[int | None, Rgba] = {
    BETTER: (0.0, 0.32, 0.85, 0.7),
    WORSE: (0.9, 0.33, 0.0, 0.95),
    OTHER: (0.45, 0.35, 0.5, 0.65),
    OPEN: (0.55, 0.55, 0.55, 0.6),
    WORSE + len(_KINDS): (0.45, 0.1, 0.0, 0.95),
}

Mask = npt.NDArray[np.bool_]
Tell = Callable[[float], None]


class Answers:
    """What a model says of regions, packed until pictures are drawn.

    Parameters
    ----------
    subjects : sequence of Subject
        Of these; what is said of others is not kept.
    """

    def __init__(self, subjects: Sequence[Subject]) -> None:
        self._wanted = {subject.image.name for subject in subjects}
        self._packed: dict[str, bytes] = {}

    def keep(self, subject: Subject, labels: Array) -> None:
        """Take what it says of a region, (h, w): 0 to 4."""
        if subject.image.name in self._wanted:
            # Labels of a region are few long runs: a hundredth of their size is left.
            self._packed[subject.image.name] = zlib.compress(labels.tobytes(), 1)

    def of(self, subject: Subject) -> Array:
        """What was kept, (h, w)."""
        flat = np.frombuffer(zlib.decompress(self._packed[subject.image.name]), np.uint8)
        return flat.reshape(subject.image.height, subject.image.width)


def changed(current: Array, candidate: Array, truth: Array) -> Array:
    """What a change of models does to each pixel.

    Parameters
    ----------
    current, candidate : ndarray of uint8, (h, w)
        0 to 4.
    truth : ndarray of uint8, (h, w)
        Likewise; 255 where nobody said.

    Returns
    -------
    ndarray of uint8, (h, w)
        `SAME`, `BETTER`, `WORSE`, `OTHER` or `OPEN`.
    """
    kinds: Array = np.full(truth.shape, OTHER, np.uint8)
    kinds[candidate == truth] = BETTER
    kinds[current == truth] = WORSE
    kinds[truth == IGNORE] = OPEN
    kinds[current == candidate] = SAME
    return kinds


def change_pictures(
    folder: Path,
    subjects: Sequence[Subject],
    current: Answers,
    candidate: Answers,
    names: tuple[str, str],
    synthetic: bool = False,
    tell: Tell | None = None,
    cancel: threading.Event | None = None,
) -> list[list[str]]:
    """Write a picture of each region: both models' outlines, and where they differ.

    At most `MOST` are written, those first in which most changes; both models must have
    said something of every region. Earlier pictures in the folder go.

    Parameters
    ----------
    folder : Path
        Made where it is missing.
    subjects : sequence of Subject
        Regions of slides; others have no picture.
    current, candidate : Answers
    names : tuple of str
        Of the current model and of the candidate.
    synthetic : bool
        Whether the current model has seen synthetic slides alone.
    tell : callable, optional
        Called with the part that is done.
    cancel : threading.Event, optional

    Returns
    -------
    list of [str, str]
        Each file and its caption.

    Raises
    ------
    OutputError
        The disk is full, or writing is not permitted.
    CancelledError
        If `cancel` was set.
    """
    found = []
    for subject in subjects:
        stop_if(cancel)
        if subject.slide is not None:
            found.append(_Change.of(subject, subject.slide, current, candidate))
    found.sort(key=lambda change: -change.mm2)
    found = found[:MOST]
    with output_failures(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if _OURS.fullmatch(path.name):
                path.unlink()
    made = []
    for number, change in enumerate(found):
        path = folder / f"{number + 1:02d}-{change.subject.image.name}.png"
        _write(path, change.picture(names, synthetic, cancel), change.caption, cancel)
        made.append([str(path), change.caption])
        if tell is not None:
            tell((number + 1) / len(found))
    return made


@dataclass(frozen=True)
class _Labels:
    """Labels of a box as a source of labels; beyond it its border goes on."""

    grid: LabelGrid
    box: PixelBox
    values: Array

    def read(self, y: int, x: int, height: int, width: int) -> Array:
        rows = np.clip(np.arange(y, y + height) - self.box.y0, 0, self.box.height - 1)
        columns = np.clip(np.arange(x, x + width) - self.box.x0, 0, self.box.width - 1)
        return self.values[rows[:, None], columns]


@dataclass(frozen=True)
class _Change:
    """A region, and what a change of models does there: mm² by kind."""

    subject: Subject
    slide: Slide
    current: Answers
    candidate: Answers
    areas: tuple[float, ...]

    @classmethod
    def of(cls, subject: Subject, slide: Slide, current: Answers, candidate: Answers) -> _Change:
        kinds, inside = _kinds(subject, current, candidate)
        counts = np.bincount(kinds[inside], minlength=len(_KINDS) + 1)
        square = (subject.image.mpp / 1000) ** 2
        return cls(subject, slide, current, candidate, tuple(float(n) * square for n in counts))

    @property
    def mm2(self) -> float:
        """That changes."""
        return sum(self.areas[BETTER:])

    @property
    def caption(self) -> str:
        slide, _, number = self.subject.image.name.rpartition("-r")
        said = [f"{mm2_text(self.areas[k])} {_KINDS[k]}" for k in _KINDS if self.areas[k]]
        what = f"{mm2_text(self.mm2)} would change: {', '.join(said)}" if said else "no change"
        return f"Region {int(number)} of slide {slide}: {what}. {RESEARCH_USE_ONLY}."

    def picture(
        self, names: tuple[str, str], synthetic: bool, cancel: threading.Event | None
    ) -> Image:
        image, (top, left) = self.subject.image, self.subject.origin
        box = PixelBox(top, left, top + image.height, left + image.width)
        grid = LabelGrid.of(self.slide.info, image.mpp)
        frame = Frame.around(box, grid, fitting_mpp(self.slide, grid, box, _SIDE))
        kinds, within = _kinds(self.subject, self.current, self.candidate)
        mask = _Labels(grid, box, within.astype(np.uint8))

        def inside(at: PixelBox) -> Mask:
            return np.asarray(mask.read(at.y0, at.x0, at.height, at.width) != 0)

        def seen(values: Array) -> Seen:
            return Seen.of(_Labels(grid, box, values), frame, box, inside, None, cancel)

        look = Look(PAPER)
        both = [seen(said.of(self.subject)) for said in (self.current, self.candidate)]
        panels = [draw(self.slide, one, look, None, cancel) for one in both]
        panels.append(_differences(self.slide, seen(kinds), cancel))
        titles = (f"Now: {names[0]}", f"Candidate: {names[1]}", "Where they differ")
        beside = _beside([panel.image for panel in panels], titles)
        present = {value for one in both for value in one.mm2}
        height, scale = round(_LETTERS * 1.15), line_scale(frame)
        legend = [
            Entry(swatch(c.value, look, height, scale), c.name)
            for c in CLASSES
            if c.value in present
        ]
        legend += [
            Entry(_kind_swatch(kind, height), f"{name} {mm2_text(self.areas[kind])}")
            for kind, name in _KINDS.items()
            if kind != OPEN or self.areas[kind]
        ]
        beneath = strip(
            beside.width,
            _LETTERS,
            legend,
            self._lines(panels, synthetic),
            ScaleBar.of(frame.width, frame.mpp),
        )
        return above(beside, beneath)

    def _lines(self, panels: Sequence[Drawn], synthetic: bool) -> list[Line]:
        lines = [Line(RESEARCH_USE_ONLY, ALARM)]
        if synthetic:
            lines.append(Line(DEMO_BANNER, ALARM))
        lines.append(Line(self.caption.removesuffix(f" {RESEARCH_USE_ONLY}.")))
        lines.append(Line("Right is what the reader said, corrected or accepted", GREY))
        if not all(panel.whole for panel in panels):
            lines.append(Line("Grey squares are parts of the slide that cannot be read", ALARM))
        return lines


def _kinds(subject: Subject, current: Answers, candidate: Answers) -> tuple[Array, Mask]:
    """What changes where, and which pixels are the region's; outside nothing changes."""
    image = subject.image
    inside: Mask = image.read_labels(0, 0, image.height, image.width) != IGNORE
    kinds = changed(current.of(subject), candidate.of(subject), subject.truth())
    kinds[~inside] = SAME
    return kinds, inside


def _differences(slide: Slide, seen: Seen, cancel: threading.Event | None) -> Drawn:
    """Where models differ, on a slide without colour."""
    from PIL import Image as Images

    drawn = draw(slide, seen, None, None, cancel)
    pixels = np.array(drawn.image.convert("L").convert("RGB"))
    pixels = (255 - (255 - pixels.astype(np.int64)) // 2).astype(np.uint8)
    _colour(pixels, seen.values)
    if seen.inside is not None:
        beyond = ~seen.inside
        pixels[beyond] = 255 - (255 - pixels[beyond]) // 3
    return Drawn(Images.fromarray(pixels), drawn.whole)


def _colour(pixels: Array, kinds: Array) -> None:
    """Lay kinds over a picture in place, what becomes wrong in stripes."""
    rows, columns = np.indices(kinds.shape)
    stripe = (kinds == WORSE) & ((rows + columns) // (HATCH // 2) % 2 == 1)
    striped = np.where(stripe, WORSE + len(_KINDS), kinds).astype(np.uint8)
    blend(pixels, striped, _COLOURS)


def _kind_swatch(kind: int, height: int) -> Array:
    pixels = np.full((height, round(height * 1.6), 3), 235, np.uint8)
    _colour(pixels, np.full(pixels.shape[:2], kind, np.uint8))
    pixels[0] = pixels[-1] = pixels[:, 0] = pixels[:, -1] = 120
    return pixels


def _beside(panels: Sequence[Image], titles: Sequence[str]) -> Image:
    """Panels side by side, each under its title."""
    from PIL import Image as Images
    from PIL import ImageDraw as Draws

    text = Text(_LETTERS)
    wide = max(_NARROW, *(panel.width for panel in panels))
    wrapped = [text.wrapped(title, wide - _GAP) for title in titles]
    head = text.line * max(map(len, wrapped)) + _GAP
    size = len(panels) * (wide + _GAP) - _GAP, head + max(panel.height for panel in panels)
    whole = Images.new("RGB", size, (255, 255, 255))
    pen = Draws.Draw(whole)
    for number, (panel, lines) in enumerate(zip(panels, wrapped, strict=True)):
        left = number * (wide + _GAP)
        for row, line in enumerate(lines):
            text.draw(pen, left + _GAP // 2, (row + 0.8) * text.line + _GAP // 2, line, INK)
        whole.paste(panel, (left + (wide - panel.width) // 2, head))
    return whole


def _write(path: Path, image: Image, caption: str, cancel: threading.Event | None) -> None:
    from PIL import PngImagePlugin

    said = PngImagePlugin.PngInfo()
    said.add_itxt("notice", RESEARCH_USE_ONLY)
    said.add_itxt("Description", caption)
    with new_file(path, overwrite=True) as beside, beside.open("wb") as file:
        watched: Any = Watched(file, cancel)
        image.save(watched, format="PNG", pnginfo=said, compress_level=3)
        stop_if(cancel)
