"""What an exported file says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_hspnet import __version__
from napari_hspnet.cases import Case, RunInfo
from napari_hspnet.cases.facts import SlideFacts
from napari_hspnet.cases.history import History
from napari_hspnet.classes import (
    BACKGROUND,
    CLASSES,
    DEMO_BANNER,
    NOT_RUN,
    PAPER,
    RESEARCH_USE_ONLY,
    SKIPPED,
    UNREADABLE,
    Colour,
    Palette,
)
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.types import Bounds, SlideInfo

__all__ = ["VALUE_NAMES", "ExportInfo", "LabelSource", "colour_table", "readers_of"]

VALUE_NAMES: Mapping[int, str] = MappingProxyType(
    {BACKGROUND: "none of the four"}
    | {c.value: c.name for c in CLASSES}
    | {SKIPPED: "skipped, no tissue", UNREADABLE: "unreadable", NOT_RUN: "not run"}
)
"""Every value that an exported mask can hold."""

_OTHER_COLOURS = {
    BACKGROUND: (0, 0, 0),
    SKIPPED: (208, 208, 208),
    UNREADABLE: (255, 160, 0),
    NOT_RUN: (128, 128, 128),
}


class LabelSource(Protocol):
    """Where labels are exported from: a case's composite, or anything like it."""

    @property
    def grid(self) -> LabelGrid:
        """The label grid."""

    def read(self, y: int, x: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Class values of a box of label pixels."""


@dataclass(frozen=True)
class ExportInfo:
    """Where a mask comes from, as every export records it.

    Attributes
    ----------
    slide_name, slide_fingerprint : str
        The slide.
    slide_mpp : tuple of float
        (y, x) µm per level-0 pixel.
    bounds : Bounds or None
        The slide's scanned area, in level-0 pixels.
    grid : LabelGrid
        The label grid.
    model_name, model_sha256 : str
        The checkpoints, joined with "; " where several runs made the mask.
    model_card : Mapping
        The topmost run's card, plain JSON values.
    run_ids : tuple of str
        The runs, the topmost first.
    readers : tuple of str
        Who corrected it.
    synthetic : bool
        A model among them was trained on synthetic slides only: every export
        then carries the demo banner.
    palette : Palette
        Colours of the four classes.
    tool : str
        This program and its version.
    """

    slide_name: str
    slide_fingerprint: str
    slide_mpp: tuple[float, float]
    bounds: Bounds | None
    grid: LabelGrid
    model_name: str
    model_sha256: str
    model_card: Mapping[str, Any] = field(default_factory=dict)
    run_ids: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    synthetic: bool = False
    palette: Palette = PAPER
    tool: str = f"napari-hspnet {__version__}"

    @classmethod
    def of(
        cls,
        info: SlideInfo,
        grid: LabelGrid,
        runs: Iterable[RunInfo],
        palette: Palette = PAPER,
        readers: Iterable[str] = (),
    ) -> ExportInfo:
        """From the slide, the runs that made the mask (the topmost first), its readers.

        Raises
        ------
        ResolutionError
            If the slide's µm per pixel is unknown.
        """
        slide = SlideFacts(info.name, info.fingerprint, info.shape, info.require_mpp())
        return cls._made(slide, info.bounds, grid, runs, palette, readers)

    @classmethod
    def of_case(
        cls,
        case: Case,
        runs: Iterable[RunInfo],
        until: int | None = None,
        palette: Palette = PAPER,
    ) -> ExportInfo:
        """From a case alone, its slide being elsewhere: the scanned area is not known.

        Parameters
        ----------
        case : Case
            What is exported.
        runs : iterable of RunInfo
            As `Composite.runs` gives them.
        until : int, optional
            The journal's last entry that counts; all of them without.
        """
        return cls._made(case.slide_facts, None, case.grid, runs, palette, readers_of(case, until))

    @classmethod
    def _made(
        cls,
        slide: SlideFacts,
        bounds: Bounds | None,
        grid: LabelGrid,
        runs: Iterable[RunInfo],
        palette: Palette,
        readers: Iterable[str],
    ) -> ExportInfo:
        runs = tuple(runs)
        records = [run.record for run in runs]
        return cls(
            slide_name=slide.name,
            slide_fingerprint=slide.fingerprint,
            slide_mpp=slide.mpp,
            bounds=bounds,
            grid=grid,
            model_name="; ".join(dict.fromkeys(r.model_name for r in records)),
            model_sha256="; ".join(dict.fromkeys(r.model_sha256 for r in records)),
            model_card=records[0].card if records else {},
            run_ids=tuple(run.id for run in runs),
            readers=tuple(dict.fromkeys(readers)),
            synthetic=any(r.synthetic for r in records),
            palette=palette,
        )

    @property
    def notice(self) -> str:
        """What must be said wherever the mask is shown."""
        said = f"{RESEARCH_USE_ONLY}. Not a medical device"
        return f"{DEMO_BANNER}. {said}" if self.synthetic else said

    def facts(self) -> dict[str, str]:
        """All of it as texts, for formats that keep keys and values."""
        return {
            "notice": self.notice,
            "slide": self.slide_name,
            "slide_sha256": self.slide_fingerprint,
            "slide_um_per_pixel_x": repr(self.slide_mpp[1]),
            "slide_um_per_pixel_y": repr(self.slide_mpp[0]),
            "label_um_per_pixel": repr(self.grid.mpp),
            "model": self.model_name,
            "model_sha256": self.model_sha256,
            "model_card": json.dumps(dict(self.model_card), sort_keys=True, ensure_ascii=False),
            "runs": "; ".join(self.run_ids),
            "readers": "; ".join(self.readers),
            "tool": self.tool,
            "values": "; ".join(f"{value} {name}" for value, name in VALUE_NAMES.items()),
        }


def readers_of(case: Case, until: int | None = None) -> tuple[str, ...]:
    """Whose corrections stand, in the order of their first ones.

    Parameters
    ----------
    case : Case
        The case.
    until : int, optional
        The journal's last entry that counts; all of them without.
    """
    entries = list(case.journal.entries(until=until))
    standing = History.of(entries).standing()
    return tuple(dict.fromkeys(entry.reader for entry in entries if entry.seq in standing))


def colour_table(palette: Palette) -> dict[int, Colour]:
    """A colour (8-bit RGB) for every value of `VALUE_NAMES`."""
    return {value: palette.colours.get(value) or _OTHER_COLOURS[value] for value in VALUE_NAMES}
