"""What an exported file says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from napari_hspnet import __version__
from napari_hspnet.cases import CaseSnapshot, RunInfo, SlideFacts
from napari_hspnet.classes import (
    BACKGROUND,
    DEMO_BANNER,
    NOT_RUN,
    PAPER,
    RESEARCH_USE_ONLY,
    SKIPPED,
    UNREADABLE,
    VALUE_NAMES,
    Colour,
    Palette,
)
from napari_hspnet.exchange.sources import What
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.types import Bounds

__all__ = ["ExportInfo", "colour_table", "value_names"]

_SAID_NOTHING: Mapping[What, str] = MappingProxyType(
    {"correction": "not corrected", "difference": "not changed"}
)
_WHAT: Mapping[What, str] = MappingProxyType(
    {
        "composite": "what is shown: corrections, else the topmost run",
        "prediction": "what the runs said",
        "correction": "what readers said",
        "difference": "what readers changed to another value than the runs gave",
    }
)

_OTHER_COLOURS = {
    BACKGROUND: (0, 0, 0),
    SKIPPED: (208, 208, 208),
    UNREADABLE: (255, 160, 0),
    NOT_RUN: (128, 128, 128),
}


@dataclass(frozen=True)
class ExportInfo:
    """Where a mask comes from, as every export records it.

    Attributes
    ----------
    slide_fingerprint : str
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
    what : {"composite", "prediction", "correction", "difference"}
        Which labels these are.
    entry : int
        The last entry of the case's journal that counts; 0 where there is none.
    slide_name : str
        The slide's file name, which can name a patient: empty unless asked for.
    exported : str
        When, UTC, ISO 8601.
    tool : str
        This program and its version.
    """

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
    what: What = "composite"
    entry: int = 0
    slide_name: str = ""
    exported: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    tool: str = f"napari-hspnet {__version__}"

    @classmethod
    def of(
        cls,
        slide: SlideFacts,
        grid: LabelGrid,
        runs: Iterable[RunInfo],
        *,
        readers: Iterable[str] = (),
        palette: Palette = PAPER,
        what: What = "composite",
        entry: int = 0,
        name_slide: bool = False,
    ) -> ExportInfo:
        """From the slide, the runs that made the mask (the topmost first), its readers.

        Parameters
        ----------
        name_slide : bool
            Whether the slide's file name is said; it can name a patient.
        """
        runs = tuple(runs)
        records = [run.record for run in runs]
        return cls(
            slide_fingerprint=slide.fingerprint,
            slide_mpp=slide.mpp,
            bounds=slide.bounds,
            grid=grid,
            model_name="; ".join(dict.fromkeys(r.title for r in records)),
            model_sha256="; ".join(dict.fromkeys(r.model_sha256 for r in records)),
            model_card=records[0].card if records else {},
            run_ids=tuple(run.id for run in runs),
            readers=tuple(dict.fromkeys(readers)),
            synthetic=any(r.synthetic for r in records),
            palette=palette,
            what=what,
            entry=entry,
            slide_name=slide.name if name_slide else "",
        )

    @classmethod
    def of_snapshot(
        cls,
        snapshot: CaseSnapshot,
        what: What = "composite",
        palette: Palette = PAPER,
        name_slide: bool = False,
    ) -> ExportInfo:
        """From a case as it was after an entry."""
        return cls.of(
            snapshot.slide,
            snapshot.grid,
            snapshot.runs,
            readers=snapshot.readers,
            palette=palette,
            what=what,
            entry=snapshot.seq,
            name_slide=name_slide,
        )

    @property
    def slide_title(self) -> str:
        """The slide for people: its name where that may be said, else its fingerprint."""
        return self.slide_name or f"slide {self.slide_fingerprint[:12]}"

    @property
    def notice(self) -> str:
        """What must be said wherever the mask is shown."""
        said = f"{RESEARCH_USE_ONLY}. Not a medical device"
        return f"{DEMO_BANNER}. {said}" if self.synthetic else said

    def facts(self) -> dict[str, str]:
        """All of it as texts, for formats that keep keys and values."""
        return {
            "notice": self.notice,
            "what": _WHAT[self.what],
            **({"slide": self.slide_name} if self.slide_name else {}),
            "slide_sha256": self.slide_fingerprint,
            "slide_um_per_pixel_x": repr(self.slide_mpp[1]),
            "slide_um_per_pixel_y": repr(self.slide_mpp[0]),
            "label_um_per_pixel": repr(self.grid.mpp),
            "model": self.model_name,
            "model_sha256": self.model_sha256,
            "model_card": json.dumps(dict(self.model_card), sort_keys=True, ensure_ascii=False),
            "runs": "; ".join(self.run_ids),
            "readers": "; ".join(self.readers),
            "journal_entry": str(self.entry),
            "exported": self.exported,
            "tool": self.tool,
            "values": "; ".join(f"{v} {name}" for v, name in value_names(self.what).items()),
        }


def value_names(what: What) -> dict[int, str]:
    """What the values of a mask stand for.

    Parameters
    ----------
    what : {"composite", "prediction", "correction", "difference"}
        Which labels it holds.
    """
    said_nothing = {NOT_RUN: _SAID_NOTHING[what]} if what in _SAID_NOTHING else {}
    return {**VALUE_NAMES, **said_nothing}


def colour_table(palette: Palette) -> dict[int, Colour]:
    """A colour (8-bit RGB) for every value of `VALUE_NAMES`."""
    return {value: palette.colours.get(value) or _OTHER_COLOURS[value] for value in VALUE_NAMES}
