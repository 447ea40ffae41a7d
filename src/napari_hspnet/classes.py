"""The four classes, the values of a label array, and their colours."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "BACKGROUND",
    "CIN1",
    "CIN2",
    "CIN3",
    "CLASSES",
    "CLASS_BY_VALUE",
    "NORMAL",
    "NOT_RUN",
    "ORDINAL",
    "PALETTES",
    "PAPER",
    "RESEARCH_USE_ONLY",
    "SKIPPED",
    "UNREADABLE",
    "VALUE_NAMES",
    "DEMO_BANNER",
    "LabelClass",
    "Palette",
]

BACKGROUND, NORMAL, CIN1, CIN2, CIN3 = 0, 1, 2, 3, 4
SKIPPED, UNREADABLE, NOT_RUN = 253, 254, 255

RESEARCH_USE_ONLY = "Research use only"
DEMO_BANNER = "DEMO MODEL, SYNTHETIC TRAINING"

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LabelClass:
    """One of the four classes (paper, section 4.2).

    Attributes
    ----------
    value : int
        Its value in a label array.
    name : str
        As on screen and in every export.
    two_tier : str
        The LAST grouping: "normal", "LSIL" or "HSIL".
    """

    value: int
    name: str
    two_tier: str


CLASSES: tuple[LabelClass, ...] = (
    LabelClass(NORMAL, "normal", "normal"),
    LabelClass(CIN1, "CIN1", "LSIL"),
    LabelClass(CIN2, "CIN2", "HSIL"),
    LabelClass(CIN3, "CIN3", "HSIL"),
)
CLASS_BY_VALUE = MappingProxyType({c.value: c for c in CLASSES})

VALUE_NAMES = MappingProxyType(
    {BACKGROUND: "none of the four"}
    | {c.value: c.name for c in CLASSES}
    | {SKIPPED: "skipped, no tissue", UNREADABLE: "unreadable", NOT_RUN: "not run"}
)
"""What every value of a label array stands for, as files say it."""


@dataclass(frozen=True)
class Palette:
    """A colour (8-bit RGB) a class value, and a line weight that grows with grade."""

    key: str
    title: str
    colours: MappingProxyType[int, Colour]


PAPER = Palette(
    "paper",
    "Paper (white, green, blue, red)",
    MappingProxyType(
        {NORMAL: (255, 255, 255), CIN1: (0, 200, 0), CIN2: (0, 60, 255), CIN3: (230, 0, 0)}
    ),
)
# Lightness falls with severity, so that the order survives every kind of colour
# blindness, and none of the four is the pink or purple of H&E.
ORDINAL = Palette(
    "ordinal",
    "Colour-blind safe (light to dark)",
    MappingProxyType(
        {NORMAL: (255, 245, 160), CIN1: (80, 220, 200), CIN2: (0, 120, 200), CIN3: (20, 10, 70)}
    ),
)
PALETTES = MappingProxyType({p.key: p for p in (PAPER, ORDINAL)})
