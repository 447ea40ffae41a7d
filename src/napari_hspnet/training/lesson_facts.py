"""What a fine-tuning would learn from and be judged by, as facts and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_hspnet.classes import BACKGROUND, CIN3, VALUE_NAMES
from napari_hspnet.errors import InputError
from napari_hspnet.slides import PixelBox

__all__ = ["Lesson", "LessonOptions", "LessonRegion", "LessonSource"]

_LABELS = CIN3 + 1


@dataclass(frozen=True)
class LessonSource:
    """A case, its slide's file, and which of its regions.

    Attributes
    ----------
    case, slide : Path
    patient : str
        Whose slide it is; empty where it is not said: the slide then counts as a
        patient of its own.
    regions : tuple of int or None
        Exactly these; without, those reviewed or signed off that have no tag.
    """

    case: Path
    slide: Path
    patient: str = ""
    regions: tuple[int, ...] | None = None


@dataclass(frozen=True)
class LessonOptions:
    """How regions become patches, and how many are held back.

    Attributes
    ----------
    mpp : float
        µm per pixel of the model; cases of another are refused.
    side, stride : int
        Of patches, in pixels.
    min_foreground : float
        Smallest proportion of a patch in one of the four classes.
    share : float
        Of each class that is held back, about.
    only_reviewed : bool
        Whether regions that are neither reviewed nor signed off are left out, where
        none are named.
    background : bool
        Whether "none of the four" is learned, too.
    seed : int
        Of the choice among equally good ones.

    Raises
    ------
    InputError
        If a number makes no sense.
    """

    mpp: float = 1.0
    side: int = 400
    stride: int = 100
    min_foreground: float = 0.2
    share: float = 0.25
    only_reviewed: bool = True
    background: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.seed < 0:
            raise InputError(
                f"A share of {self.share} cannot be held back with seed {self.seed}",
                advice="Give a share between 0 and 1, and a seed of 0 or more",
            )


@dataclass(frozen=True)
class LessonRegion:
    """A region, and how much of each class there is in it.

    Attributes
    ----------
    name : str
        As `open_case_regions` names its image.
    patient : str
    case, slide : Path
    number : int
        Of the region in its case.
    state : str
        See `napari_hspnet.cases.STATES`.
    box : PixelBox
    mpp : float
        µm per label pixel.
    corrected : tuple of int
        Label pixels by value, 0 to 4, that a reader changed: other than the runs on
        show predict, or where nothing was run.
    accepted : tuple of int
        Likewise, left as predicted or said to be right.
    patches : int
        That it gives.
    """

    name: str
    patient: str
    case: Path
    slide: Path
    number: int
    state: str
    box: PixelBox
    mpp: float
    corrected: tuple[int, ...]
    accepted: tuple[int, ...]
    patches: int

    @property
    def pixels(self) -> tuple[int, ...]:
        """Label pixels by value, 0 to 4."""
        return tuple(a + b for a, b in zip(self.corrected, self.accepted, strict=True))

    @property
    def mm2(self) -> float:
        """Of labels 1 to 4."""
        return sum(self.pixels[1:]) * (self.mpp / 1000) ** 2


@dataclass(frozen=True)
class Lesson:
    """What is learned from and what is held back. Made by `plan_lesson`.

    Attributes
    ----------
    learn, held : tuple of LessonRegion
        Never of one patient where `split` is "patient"; never of overlapping boxes.
    split : {"patient", "region"}
    options : LessonOptions
    entries : mapping of str to int
        By case folder, the last entry of its journal that counted.
    notes : tuple of str
        What else should be known, one sentence each.
    """

    learn: tuple[LessonRegion, ...]
    held: tuple[LessonRegion, ...]
    split: Literal["patient", "region"]
    options: LessonOptions
    entries: Mapping[str, int] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = ()

    @property
    def patches(self) -> int:
        """That are learned from."""
        return sum(region.patches for region in self.learn)

    def areas(self, held: bool = False) -> dict[str, tuple[float, float]]:
        """(corrected, accepted) mm² by class, of what is learned or held back."""
        regions = self.held if held else self.learn
        values = range(BACKGROUND if self.options.background else 1, _LABELS)
        square = (self.options.mpp / 1000) ** 2
        return {
            VALUE_NAMES[v]: (
                sum(r.corrected[v] for r in regions) * square,
                sum(r.accepted[v] for r in regions) * square,
            )
            for v in values
        }

    def text(self) -> str:
        """All of it for people, in short lines."""
        side = self.options.side
        patches = f"{self.patches:,} patch{'es' * (self.patches != 1)}"
        lines = [f"Learns from {_count(self.learn)}: {patches} of {side} px"]
        lines += _area_lines(self.areas())
        by = "whole patients" if self.split == "patient" else "whole regions"
        lines.append(f"Holds back {_count(self.held)} to judge by ({by})")
        lines += _area_lines(self.areas(held=True))
        return "\n".join((*lines, *self.notes))

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for a record; of patients and files it says nothing but
        regions' names, which begin with the slide's fingerprint."""
        return {
            "learn": [_region_json(r) for r in self.learn],
            "held": [_region_json(r) for r in self.held],
            "split": self.split,
            "patients": [len({r.patient for r in s}) for s in (self.learn, self.held)],
            "patches": self.patches,
            "um_per_pixel": self.options.mpp,
            "notes": list(self.notes),
        }


def _count(regions: Sequence[LessonRegion]) -> str:
    patients = len({r.patient for r in regions})
    return (
        f"{len(regions)} region{'s' * (len(regions) != 1)} of {patients} "
        f"patient{'s' * (patients != 1)}, {_mm2(sum(r.mm2 for r in regions))}"
    )


def _area_lines(areas: Mapping[str, tuple[float, float]]) -> list[str]:
    return [
        f"  {name}: {_mm2(corrected)} corrected, {_mm2(accepted)} accepted as it was"
        for name, (corrected, accepted) in areas.items()
        if corrected or accepted
    ]


def _mm2(area: float) -> str:
    if area < 0.005:
        return "less than 0.01 mm²" if area else "0 mm²"
    return f"{area:,.2f} mm²"


def _region_json(region: LessonRegion) -> dict[str, Any]:
    return {
        "name": region.name,
        "state": region.state,
        "mm2": region.mm2,
        "corrected_pixels": list(region.corrected),
        "accepted_pixels": list(region.accepted),
        "patches": region.patches,
    }
