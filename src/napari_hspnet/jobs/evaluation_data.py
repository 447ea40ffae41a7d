"""What a network is evaluated on: MTCHI, pairs of files, regions of cases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from napari_hspnet.classes import BACKGROUND
from napari_hspnet.errors import InputError
from napari_hspnet.slides import Slide, open_slide
from napari_hspnet.training.data import (
    ImageSet,
    LabelledImage,
    RegionImage,
    open_case_regions,
    open_mtchi,
    open_mtchi_whole,
    open_pairs,
    synthetic_origin,
)
from napari_hspnet.training.data.images import Array
from napari_hspnet.training.data.mtchi import Background, Part
from napari_hspnet.training.losses import IGNORE

__all__ = [
    "CasesSource",
    "ChosenSource",
    "Data",
    "MtchiSource",
    "PairsSource",
    "Source",
    "Subject",
    "opened",
]


@dataclass(frozen=True)
class MtchiSource:
    """A part of MTCHI; see `open_mtchi`.

    Attributes
    ----------
    folder : Path
    part : {"Training", "Test", "both"}
    mpp : float
        µm per pixel.
    """

    folder: Path
    part: Part | Literal["both"] = "Test"
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
        Of each case; where empty, a slide is a patient of its own.

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


@dataclass(frozen=True)
class ChosenSource:
    """Only the images of some patients, as a fold has them.

    Attributes
    ----------
    source : MtchiSource, PairsSource or CasesSource
    patients : tuple of str
    """

    source: MtchiSource | PairsSource | CasesSource
    patients: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For records."""
        return {**self.source.to_json(), "chosen_patients": len(self.patients)}


Source = MtchiSource | PairsSource | CasesSource | ChosenSource


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
    synthetic : bool
        Whether they are phantoms in files that say so.
    """

    subjects: tuple[Subject, ...]
    notes: tuple[str, ...]
    synthetic: bool = False


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
        As the openers do, or if two images have one name, or a patient who was
        chosen has none.
    """
    if isinstance(source, ChosenSource):
        with opened(source.source, background) as whole:
            yield _chosen(whole, source.patients)
        return
    with contextlib.ExitStack() as stack:
        if isinstance(source, CasesSource):
            data = _of_cases(source, background, stack)
        elif isinstance(source, MtchiSource):
            if source.part == "both":
                found = open_mtchi_whole(source.folder, background, mpp=source.mpp)
            else:
                found = open_mtchi(source.folder, source.part, background, mpp=source.mpp)
            data = _of_images(found, background)
            synthetic = synthetic_origin(source.folder) is not None
            notes = data.notes if synthetic else (*data.notes, _BLACK)
            data = Data(data.subjects, notes, synthetic)
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


def _chosen(data: Data, patients: tuple[str, ...]) -> Data:
    left = tuple(s for s in data.subjects if s.image.patient in patients)
    unknown = sorted(set(patients) - {s.image.patient for s in left})
    if unknown or not left:
        raise InputError(
            f"There is no image of {', '.join(unknown) or 'nobody'}",
            advice="Choose patients of whom there are images",
        )
    return replace(data, subjects=left)


def _of_images(found: ImageSet, background: Background) -> Data:
    return Data(tuple(Subject(image, background) for image in found.images), found.notes)


def _of_cases(source: CasesSource, background: Background, stack: contextlib.ExitStack) -> Data:
    subjects: list[Subject] = []
    notes: list[str] = []
    patients = source.patients or ("",) * len(source.cases)
    for folder, path, patient in zip(source.cases, source.slides, patients, strict=True):
        slide = stack.enter_context(open_slide(path))
        regions = stack.enter_context(open_case_regions(folder, slide, patient=patient or None))
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
