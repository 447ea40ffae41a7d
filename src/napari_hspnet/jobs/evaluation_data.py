"""What a network is evaluated on: MTCHI, pairs of files, regions of cases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_hspnet.classes import BACKGROUND
from napari_hspnet.errors import InputError
from napari_hspnet.slides import Slide, open_slide
from napari_hspnet.training.data import (
    ImageSet,
    LabelledImage,
    RegionImage,
    open_case_regions,
    open_mtchi,
    open_pairs,
)
from napari_hspnet.training.data.images import Array
from napari_hspnet.training.data.mtchi import Background, Part
from napari_hspnet.training.losses import IGNORE

__all__ = ["CasesSource", "Data", "MtchiSource", "PairsSource", "Source", "Subject", "opened"]


@dataclass(frozen=True)
class MtchiSource:
    """A part of MTCHI; see `open_mtchi`.

    Attributes
    ----------
    folder : Path
    part : {"Training", "Test"}
    mpp : float
        µm per pixel.
    """

    folder: Path
    part: Part = "Test"
    mpp: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """For records."""
        return {"kind": "mtchi", "folder": str(self.folder), "part": self.part}


@dataclass(frozen=True)
class PairsSource:
    """Pictures with masks; see `open_pairs`.

    Attributes
    ----------
    folder : Path
    mpp : float or None
        µm per pixel; None takes what the folder says.
    """

    folder: Path
    mpp: float | None = None

    def to_json(self) -> dict[str, Any]:
        """For records."""
        return {"kind": "pairs", "folder": str(self.folder)}


@dataclass(frozen=True)
class CasesSource:
    """Reviewed regions of cases; see `open_case_regions`.

    Attributes
    ----------
    cases, slides : tuple of Path
        A slide for each case.
    patients : tuple of str
        Of each case; empty takes each slide for a patient of its own.

    Raises
    ------
    InputError
        If they are not equally many.
    """

    cases: tuple[Path, ...]
    slides: tuple[Path, ...]
    patients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.cases) != len(self.slides) or len(self.patients) not in (0, len(self.cases)):
            raise InputError(
                f"{len(self.cases)} cases come with {len(self.slides)} slides and "
                f"{len(self.patients)} patients",
                advice="Give each case its slide, in the same order, and either each a patient "
                "or none",
            )

    def to_json(self) -> dict[str, Any]:
        """For records."""
        return {
            "kind": "cases",
            "cases": [str(path) for path in self.cases],
            "slides": [str(path) for path in self.slides],
        }


Source = MtchiSource | PairsSource | CasesSource


@dataclass(frozen=True)
class Subject:
    """An image to evaluate on.

    Attributes
    ----------
    image : LabelledImage
    background : {"class", "ignore"}
        Whether truth 0 is counted in unmasked figures, or ignored.
    slide : Slide or None
        Where the image is a region of it; the network then sees what lies around.
    origin : tuple of int
        (y, x) of the image on the slide, in its own pixels.
    """

    image: LabelledImage
    background: Background = "class"
    slide: Slide | None = None
    origin: tuple[int, int] = (0, 0)

    @property
    def pixels(self) -> int:
        """How many it has."""
        return self.image.height * self.image.width

    def truth(self) -> Array:
        """Its labels, (h, w): 0 to 4, 255 ignored.

        Raises
        ------
        InputError
            If they cannot be read, or hold a value that stands for no class.
        """
        labels = self.image.read_labels(0, 0, self.image.height, self.image.width)
        if self.background == "ignore":
            labels[labels == BACKGROUND] = IGNORE
        return labels


@dataclass(frozen=True)
class Data:
    """What was opened.

    Attributes
    ----------
    subjects : tuple of Subject
        By name.
    notes : tuple of str
        How they were read, one sentence each.
    """

    subjects: tuple[Subject, ...]
    notes: tuple[str, ...]


@contextlib.contextmanager
def opened(source: Source, background: Background = "class") -> Iterator[Data]:
    """Open what a source names, and close it in the end.

    Parameters
    ----------
    source : Source
    background : {"class", "ignore"}
        See `Subject`. In MTCHI, 0 where the picture is pure black is ignored
        either way.

    Raises
    ------
    HspnetError
        As the openers do, or if two images have one name.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(source, CasesSource):
            data = _of_cases(source, background, stack)
        elif isinstance(source, MtchiSource):
            found = open_mtchi(source.folder, source.part, background, mpp=source.mpp)
            data = _of_images(found, background)
            data = Data(data.subjects, (*data.notes, _BLACK))
        else:
            found = open_pairs(source.folder, mpp=source.mpp, zero=background)
            data = _of_images(found, background)
        _refuse_twice([subject.image.name for subject in data.subjects])
        yield data


_BLACK = (
    "Outside the regions' polygons pictures are pure black: the network sees them so, and "
    "what is not annotated there counts nowhere"
)


_CORRECTED = (
    "The truth of cases is what readers corrected or let stand of a prediction, which favours "
    "the model that made it"
)


def _of_images(found: ImageSet, background: Background) -> Data:
    return Data(tuple(Subject(image, background) for image in found.images), found.notes)


def _of_cases(source: CasesSource, background: Background, stack: contextlib.ExitStack) -> Data:
    subjects: list[Subject] = []
    notes: list[str] = []
    patients: tuple[str | None, ...] = source.patients or (None,) * len(source.cases)
    for folder, path, patient in zip(source.cases, source.slides, patients, strict=True):
        slide = stack.enter_context(open_slide(path))
        regions = stack.enter_context(open_case_regions(folder, slide, patient=patient))
        notes += [f"{folder.name}: {note}" for note in regions.notes]
        for image in regions.images:
            assert isinstance(image, RegionImage)
            box = image.region.box
            subjects.append(Subject(image, background, slide, (box.y0, box.x0)))
    return Data(tuple(subjects), (*notes, _CORRECTED))


def _refuse_twice(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"{twice[0]} comes twice among the images", advice="Give each case or image once"
        )
