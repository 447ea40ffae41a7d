"""What a case knows of its slide without the slide's file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.failures import case_failures
from napari_hspnet.errors import CaseMismatchError
from napari_hspnet.slides.types import Bounds, Level, SlideInfo

__all__ = ["SlideFacts", "read_facts", "said_bounds"]


@dataclass(frozen=True)
class SlideFacts:
    """The slide that a case belongs to.

    Attributes
    ----------
    name : str
        Its file's name.
    fingerprint : str
        `SlideInfo.fingerprint`.
    shape : tuple of int
        (height, width) of level 0 in pixels.
    mpp : tuple of float
        (y, x) µm per level-0 pixel.
    bounds : Bounds or None
        The scanned area in level-0 pixels; None where the file records none, or
        where it is not known.
    bounds_known : bool
        Whether it is: cases begun before this was noted do not know it.
    """

    name: str
    fingerprint: str
    shape: tuple[int, int]
    mpp: tuple[float, float]
    bounds: Bounds | None = None
    bounds_known: bool = False

    @classmethod
    def of(cls, info: SlideInfo) -> SlideFacts:
        """Of an open slide.

        Raises
        ------
        ResolutionError
            If its µm per pixel is unknown.
        """
        return cls(info.name, info.fingerprint, info.shape, info.require_mpp(), info.bounds, True)

    def info(self) -> SlideInfo:
        """As if it were open, as far as a case needs that; it has no file."""
        return SlideInfo(
            path=Path(self.name),
            backend="",
            vendor="",
            levels=(Level(self.shape, (1.0, 1.0), (1, 1)),),
            mpp=self.mpp,
            mpp_source="user",
            mpp_problem=None,
            objective=None,
            bounds=self.bounds,
            fingerprint=self.fingerprint,
        )

    def refuse_other(self, info: SlideInfo) -> None:
        """Raise where an open slide is another one.

        Raises
        ------
        CaseMismatchError
            If so.
        """
        if info.fingerprint != self.fingerprint:
            raise CaseMismatchError(
                f"The case belongs to {self.name} ({self.fingerprint[:12]}…), the slide is "
                f"{info.name} ({info.fingerprint[:12]}…)",
                advice="Name that slide",
                path=info.path,
            )


def said_bounds(info: SlideInfo) -> dict[str, Any]:
    """A slide's scanned area as the journal says it when a case begins or is attached."""
    bounds = info.bounds
    sides = None if bounds is None else [bounds.y, bounds.x, bounds.height, bounds.width]
    return {"bounds": sides}


def read_facts(database: CaseDatabase, journal_there: bool) -> SlideFacts:
    """All that a case knows of its slide.

    Raises
    ------
    CaseError
        If the database is damaged.
    """
    name, fingerprint, height, width, mpp_y, mpp_x = database.query(
        "SELECT name, fingerprint, height, width, mpp_y, mpp_x FROM slide"
    )[0]
    bounds, known = None, False
    with case_failures(database.folder):
        for body in _bodies(database) if journal_there else ():
            said = body.get("to", body)
            known = "bounds" in said
            bounds = Bounds(*said["bounds"]) if known and said["bounds"] else None
    return SlideFacts(name, fingerprint, (height, width), (mpp_y, mpp_x), bounds, known)


def _bodies(database: CaseDatabase) -> list[Mapping[str, Any]]:
    """What was said of the slide, in the order of the journal."""
    rows = database.query("SELECT body FROM entry WHERE kind IN ('begin', 'slide') ORDER BY seq")
    return [json.loads(row[0]) for row in rows]
