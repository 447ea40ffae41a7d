"""A report of one case as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from napari_hspnet.cases.words import local_time
from napari_hspnet.classes import CIN3, DEMO_BANNER, NORMAL, RESEARCH_USE_ONLY
from napari_hspnet.exchange.about import ExportInfo
from napari_hspnet.exchange.legend import mm2_text
from napari_hspnet.exchange.output import Cancel, Report, new_file, refuse_existing, stop_if

__all__ = [
    "AreaRow",
    "Change",
    "Remark",
    "ReportContent",
    "ReportPicture",
    "ReportReader",
    "ReportRegion",
    "ReportRun",
    "SlideSize",
    "WorstGrade",
    "write_report",
]

_TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class ReportPicture:
    """An image within the report.

    Attributes
    ----------
    data : bytes
        The image file.
    kind : str
        Such as ``"image/jpeg"``.
    width, height : int
        In pixels.
    says : str
        What it shows, for who cannot see it.
    """

    data: bytes
    kind: str
    width: int
    height: int
    says: str

    @property
    def uri(self) -> str:
        """All of it as an address."""
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True)
class SlideSize:
    """How large the slide is.

    Attributes
    ----------
    shape : tuple of int
        (height, width) of level 0 in pixels.
    mpp : tuple of float
        (y, x) µm per pixel.
    """

    shape: tuple[int, int]
    mpp: tuple[float, float]

    @property
    def mm(self) -> tuple[float, float]:
        """(height, width) in mm."""
        return self.shape[0] * self.mpp[0] / 1000, self.shape[1] * self.mpp[1] / 1000


@dataclass(frozen=True)
class AreaRow:
    """How much there is of one value of the overlay, in mm².

    Attributes
    ----------
    value : int
        Of the overlay.
    name : str
        For people.
    shown, predicted : float
        As shown, corrections with it; as the runs said it.
    swatch : ReportPicture or None
        How it looks in the pictures.
    """

    value: int
    name: str
    shown: float
    predicted: float
    swatch: ReportPicture | None = None

    @property
    def graded(self) -> bool:
        """Whether it is one of the four classes."""
        return NORMAL <= self.value <= CIN3


@dataclass(frozen=True)
class Change:
    """What readers made of a predicted value, in mm²."""

    before: str
    after: str
    mm2: float


@dataclass(frozen=True)
class WorstGrade:
    """The worst grade on the slide, or in a region.

    Attributes
    ----------
    name : str or None
        None where there is no grade at all.
    two_tier : str
        LSIL or HSIL, or normal.
    mm2 : float
        How much there is of it.
    counts : bool
        False where there is less than `least_mm2` of every grade, and this is the
        most common one.
    least_mm2 : float
        From which area on a grade counts.
    """

    name: str | None
    two_tier: str
    mm2: float
    counts: bool
    least_mm2: float


@dataclass(frozen=True)
class Remark:
    """A comment on a region."""

    reader: str
    time: str
    text: str


@dataclass(frozen=True)
class ReportRegion:
    """A review region that is told of at length.

    Attributes
    ----------
    number : int
        In the case.
    kind : str
        What it is, in words.
    mm2 : float
        Its area.
    place : str
        Where its middle lies.
    state, reader, time : str
        Who put it into that state, and when (UTC).
    tag : str
        Empty without one.
    worst : WorstGrade
        Shown in it.
    areas : tuple of AreaRow
        What is shown in it.
    remarks : tuple of Remark
        Empty unless asked for.
    plain, overlay : ReportPicture or None
        The slide there, without and with the overlay; None without the slide.
    """

    number: int
    kind: str
    mm2: float
    place: str
    state: str
    reader: str
    time: str
    tag: str
    worst: WorstGrade
    areas: tuple[AreaRow, ...]
    remarks: tuple[Remark, ...] = ()
    plain: ReportPicture | None = None
    overlay: ReportPicture | None = None


@dataclass(frozen=True)
class ReportRun:
    """A run that is shown.

    Attributes
    ----------
    id : str
        In the case.
    model, sha256 : str
        The checkpoint.
    synthetic : bool
        Whether it has only ever seen synthetic slides.
    details : tuple of (str, str)
        What else is worth reading: settings, region, device, times.
    """

    id: str
    model: str
    sha256: str
    synthetic: bool
    details: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ReportReader:
    """What somebody did, by the journal.

    Attributes
    ----------
    name : str
        Who.
    corrections : int
        Corrections that stand in what is shown.
    acts : int
        All entries of the journal.
    first, last : str
        When (UTC).
    """

    name: str
    corrections: int
    acts: int
    first: str
    last: str


@dataclass(frozen=True)
class ReportContent:
    """All that a report says.

    Attributes
    ----------
    about : ExportInfo
        Where it comes from.
    slide : SlideSize
        The slide's.
    time : str
        Of the last journal entry that counts (UTC); empty where there is none.
    worst : WorstGrade
        On the whole slide.
    areas : tuple of AreaRow
        Of the whole slide: none of the four and the four classes.
    not_analysed : tuple of AreaRow
        Of the whole slide: what is no grade.
    changes : tuple of Change
        What readers changed, the most first.
    confirmed_mm2 : float
        What they looked at and left as predicted.
    states : tuple of (str, int)
        How many review regions are in each state.
    tagged : int
        How many of them have a tag.
    regions : tuple of ReportRegion
        Those told of at length.
    regions_left_out : int
        How many more there are of their kind.
    runs : tuple of ReportRun
        The topmost first.
    readers : tuple of ReportReader
        In the order of their first acts.
    picture : ReportPicture or None
        The whole slide; None without its file.
    notes : tuple of str
        What one should know of the pictures.
    """

    about: ExportInfo
    slide: SlideSize
    time: str
    worst: WorstGrade
    areas: tuple[AreaRow, ...]
    not_analysed: tuple[AreaRow, ...]
    changes: tuple[Change, ...]
    confirmed_mm2: float
    states: tuple[tuple[str, int], ...]
    tagged: int
    regions: tuple[ReportRegion, ...]
    regions_left_out: int
    runs: tuple[ReportRun, ...]
    readers: tuple[ReportReader, ...]
    picture: ReportPicture | None = None
    notes: tuple[str, ...] = ()

    @property
    def analysed_mm2(self) -> float:
        """What has a grade, or is none of the four, as shown."""
        return sum(row.shown for row in self.areas)

    @property
    def slide_mm2(self) -> float:
        """All of the label grid."""
        return self.analysed_mm2 + sum(row.shown for row in self.not_analysed)


def write_report(
    path: Path,
    content: ReportContent,
    *,
    overwrite: bool = False,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Path:
    """Write one HTML file: pictures and style within, no script, nothing fetched.

    Parameters
    ----------
    path : Path
        The file.
    content : ReportContent
        What it says.
    overwrite, progress, cancel
        As for `write_ome_tiff`.

    Raises
    ------
    OutputError
        The file exists, the disk is full, or writing is not permitted.
    CancelledError
        If `cancel` was set.
    """
    path = Path(path)
    refuse_existing(path, overwrite)
    stop_if(cancel)
    with new_file(path, overwrite) as beside, beside.open("w", encoding="utf-8") as file:
        for piece in _template().generate(_said(content)):
            stop_if(cancel)
            file.write(piece)
    if progress is not None:
        progress(1.0)
    return path


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["mm2"] = _mm2
    environment.filters["more"] = _more
    environment.filters["time"] = local_time
    environment.filters["share"] = _share
    here = resources.files("napari_hspnet.exchange")
    return environment.from_string((here / _TEMPLATE).read_text(encoding="utf-8"))


def _said(content: ReportContent) -> Mapping[str, Any]:
    return {
        "report": content,
        "about": content.about,
        "what": content.about.facts()["what"],
        "research": RESEARCH_USE_ONLY,
        "demo": DEMO_BANNER,
    }


def _mm2(mm2: float) -> str:
    """With one number of digits, since it is compared with others."""
    return f"{mm2:.3f} mm²" if 0.0005 <= mm2 < 9.9995 else mm2_text(mm2)


def _more(mm2: float) -> str:
    """A difference: "+0.012 mm²", "under 0.001 mm² less"."""
    if abs(mm2) < 1e-12:
        return "none"
    if abs(mm2) < 0.0005:
        return f"{_mm2(abs(mm2))} {'more' if mm2 > 0 else 'less'}"
    return f"{'+' if mm2 > 0 else '−'}{_mm2(abs(mm2))}"


def _share(part: float, whole: float) -> str:
    """ "12.3 %"; what is there is never said to be nothing, nor what lacks to be all."""
    if not whole or not part:
        return "0 %" if whole else "–"
    percent = 100 * part / whole
    if percent < 0.05:
        return "under 0.1 %"
    if 99.95 <= percent < 100:
        return "over 99.9 %"
    return f"{percent:.1f} %"
