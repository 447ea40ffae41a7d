"""What a report of one case says, gathered from the case and its slide."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_hspnet.cases import REVIEWED, SIGNED_OFF, STATES, UNTOUCHED, CaseSnapshot, Composite
from napari_hspnet.cases.grades import LEAST_MM2, Grades, counts_of, grades_of, worst_grade
from napari_hspnet.cases.journal import EDIT
from napari_hspnet.cases.record import RunInfo
from napari_hspnet.cases.review import ReviewRegion
from napari_hspnet.cases.words import REGION_KINDS, grade_name, local_time, place_text
from napari_hspnet.classes import (
    BACKGROUND,
    CLASS_BY_VALUE,
    CLASSES,
    PAPER,
    Palette,
)
from napari_hspnet.exchange.about import ExportInfo
from napari_hspnet.exchange.output import stop_if, stretch
from napari_hspnet.exchange.overlay import Look
from napari_hspnet.exchange.picture import NOT_ANALYSED, REASONS
from napari_hspnet.exchange.report import (
    AreaRow,
    Change,
    Remark,
    ReportContent,
    ReportReader,
    ReportRegion,
    ReportRun,
    SlideSize,
    WorstGrade,
)
from napari_hspnet.jobs.report_pictures import Pictures, swatch_of
from napari_hspnet.slides import PixelBox, Region, Slide

__all__ = ["MOST_REGIONS", "gather"]

Report = Callable[[float], None]
Cancel = threading.Event

MOST_REGIONS = 12
"""Review regions that are told of at length, where none are named."""

_BLOCK = 2048
_SETTINGS: Mapping[str, str] = {
    "window": "window (px)",
    "stride": "stride (px)",
    "blend": "overlapping windows",
    "sigma": "sigma (px)",
    "tissue_mask": "tissue only",
    "skip_unreadable": "unreadable parts left out",
}


def gather(
    snapshot: CaseSnapshot,
    slide: Slide | None = None,
    regions: Sequence[int] | None = None,
    *,
    name_slide: bool = False,
    comments: bool = False,
    palette: Palette = PAPER,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> ReportContent:
    """All that a report of a case says.

    Parameters
    ----------
    snapshot : CaseSnapshot
        The case, as it was.
    slide : Slide, optional
        Its slide; no pictures without.
    regions : sequence of int, optional
        Review regions to tell of at length; without, those reviewed or signed off,
        the worst first, at most `MOST_REGIONS`.
    name_slide, comments : bool
        Whether the slide's file name, and comments on regions, are said: both can
        name a patient.
    palette : Palette
        Colours of the four classes.
    progress : callable (float) -> None, optional
        Told the part that is done, 0 to 1.
    cancel : threading.Event, optional
        Stops within a second when set.

    Raises
    ------
    InputError
        The case has no region of such a number.
    CaseMismatchError
        The slide is not the case's.
    CaseError
        The case is damaged.
    CancelledError
        If cancelled.
    """
    facts = snapshot.slide
    if slide is not None:
        facts.refuse_other(slide.info)
    chosen = None if regions is None else snapshot.named(regions)
    about = ExportInfo.of_snapshot(snapshot, "composite", palette, name_slide)
    look = Look.of(about)
    counted = _Counted.of(snapshot.composite, stretch(progress, 0.0, 0.4), cancel)
    square = (snapshot.grid.mpp / 1000) ** 2
    shown = {value: n * square for value, n in counted.shown.items()}
    left_out = 0
    if chosen is None:
        ranked = _worst_first(snapshot, cancel)
        chosen, left_out = ranked[:MOST_REGIONS], max(0, len(ranked) - MOST_REGIONS)
    if progress is not None:
        progress(0.45)
    drawing = Pictures(snapshot, slide, look, cancel)
    picture = drawing.overview(stretch(progress, 0.45, 0.7))
    told = []
    for number, region in enumerate(chosen):
        stop_if(cancel)
        told.append(_region(snapshot, region, drawing, comments, cancel))
        if progress is not None:
            progress(0.7 + 0.3 * (number + 1) / len(chosen))
    states = Counter(region.state for region in snapshot.regions)
    return ReportContent(
        about=about,
        slide=SlideSize(facts.shape, facts.mpp),
        time=snapshot.time,
        worst=_worst(shown),
        areas=tuple(
            _row(value, grade_name(value), counted, square, look)
            for value in (BACKGROUND, *(c.value for c in CLASSES))
        ),
        not_analysed=tuple(
            _row(value, name, counted, square, look) for value, name in REASONS.items()
        ),
        changes=tuple(
            Change(grade_name(before), grade_name(after), n * square)
            for (before, after), n in counted.changes.most_common()
            if before != after
        ),
        confirmed_mm2=square * sum(n for (a, b), n in counted.changes.items() if a == b),
        states=tuple((state, states[state]) for state in STATES),
        tagged=sum(1 for region in snapshot.regions if region.tag),
        regions=tuple(told),
        regions_left_out=left_out,
        runs=tuple(_run(run) for run in snapshot.runs),
        readers=_readers(snapshot),
        picture=picture,
        notes=tuple(drawing.notes),
    )


@dataclass(frozen=True)
class _Counted:
    """Label pixels of the whole slide, all of them counted."""

    predicted: Counter[int]
    changes: Counter[tuple[int, int]]

    @classmethod
    def of(cls, composite: Composite, progress: Report | None, cancel: Cancel | None) -> _Counted:
        predicted: Counter[int] = Counter()
        changes: Counter[tuple[int, int]] = Counter()
        boxes = list(_boxes(composite.grid.shape))
        for number, box in enumerate(boxes):
            stop_if(cancel)
            at = box.y0, box.x0, box.height, box.width
            values = composite.read(*at, what="prediction")
            counts = np.bincount(values.ravel(), minlength=256)
            predicted.update({int(v): int(counts[v]) for v in np.flatnonzero(counts)})
            stop_if(cancel)
            said = composite.read(*at, what="correction")
            there = said != UNTOUCHED
            if there.any():
                pairs = np.bincount(values[there].astype(np.intp) * 256 + said[there])
                found = np.flatnonzero(pairs)
                changes.update({(int(n) // 256, int(n) % 256): int(pairs[n]) for n in found})
            if progress is not None:
                progress((number + 1) / len(boxes))
        return cls(predicted, changes)

    @property
    def shown(self) -> Counter[int]:
        """With what readers said."""
        shown = Counter(self.predicted)
        for (before, after), n in self.changes.items():
            shown[before] -= n
            shown[after] += n
        return Counter({value: n for value, n in shown.items() if n})


def _boxes(shape: tuple[int, int]) -> Iterator[PixelBox]:
    for y in range(0, shape[0], _BLOCK):
        for x in range(0, shape[1], _BLOCK):
            yield PixelBox(y, x, min(y + _BLOCK, shape[0]), min(x + _BLOCK, shape[1]))


def _row(value: int, name: str, counted: _Counted, square: float, look: Look) -> AreaRow:
    seen = None if value == BACKGROUND else swatch_of(value, look)
    return AreaRow(
        value, name, counted.shown[value] * square, counted.predicted[value] * square, seen
    )


def _worst(mm2: Mapping[int, float]) -> WorstGrade:
    value = worst_grade(mm2)
    if value is None:
        return WorstGrade(None, "", 0.0, False, LEAST_MM2)
    grade = CLASS_BY_VALUE[value]
    area = mm2[value]
    return WorstGrade(grade.name, grade.two_tier, area, area >= LEAST_MM2, LEAST_MM2)


def _grades(snapshot: CaseSnapshot, region: ReviewRegion, cancel: Cancel | None) -> Grades:
    selection = snapshot.selection(region.id)
    counts = counts_of(snapshot.composite, selection, cancel=cancel)
    return grades_of(counts, snapshot.grid.mpp)


def _worst_first(snapshot: CaseSnapshot, cancel: Cancel | None) -> tuple[ReviewRegion, ...]:
    done = [r for r in snapshot.regions if r.state in (REVIEWED, SIGNED_OFF)]
    severity = {r.id: _grades(snapshot, r, cancel).severity for r in done}
    return tuple(sorted(done, key=lambda r: severity[r.id], reverse=True))


def _region(
    snapshot: CaseSnapshot,
    region: ReviewRegion,
    drawing: Pictures,
    comments: bool,
    cancel: Cancel | None,
) -> ReportRegion:
    mm2 = _grades(snapshot, region, cancel).mm2
    names = {BACKGROUND: grade_name(BACKGROUND)} | {c.value: c.name for c in CLASSES}
    names |= NOT_ANALYSED
    plain, overlay = drawing.region(region)
    box, mpp = region.box, snapshot.grid.mpp
    return ReportRegion(
        number=region.id,
        kind=REGION_KINDS.get(region.kind, region.kind),
        mm2=region.pixels * (mpp / 1000) ** 2,
        place=place_text((box.y0, box.x0, box.y1, box.x1), mpp),
        state=region.state,
        reader=region.state_reader,
        time=region.state_time,
        tag=region.tag,
        worst=_worst(mm2),
        areas=tuple(
            AreaRow(value, name, mm2[value], mm2[value])
            for value, name in names.items()
            if value in mm2
        ),
        remarks=tuple(Remark(c.reader, c.time, c.text) for c in region.comments)
        if comments
        else (),
        plain=plain,
        overlay=overlay,
    )


def _run(run: RunInfo) -> ReportRun:
    record = run.record
    details = [("Region", _region_text(record.region)), ("Device", record.device)]
    if record.mode:
        details.append(("Mode", record.mode))
    details.append(("Back end", "; ".join((record.backend, *record.notes))))
    details.append(("Begun", local_time(record.started)))
    if run.finished:
        took = "" if run.seconds is None else f", {run.seconds:,.0f} s"
        details.append(("Finished", local_time(run.finished) + took))
    details.append(("Settings", ", ".join(_settings(record.settings)) or "not stated"))
    for key, name in (
        ("trained_on", "Trained on"),
        ("intended_use", "Intended use"),
        ("limitations", "Limitations"),
        ("licence", "Licence"),
    ):
        said = str(record.card.get(key) or "")
        if said and said != "not stated":
            details.append((name, said))
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    details.append(("Made with", versions or "not stated"))
    return ReportRun(run.id, record.title, record.model_sha256, record.synthetic, tuple(details))


def _settings(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        if value is not None:
            said = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
            yield f"{_SETTINGS.get(key, key.replace('_', ' '))}: {said}"


def _region_text(said: Mapping[str, Any]) -> str:
    try:
        region = Region.from_dict(said)
        if region.kind == "slide":
            return "the whole slide"
        points = np.concatenate([np.asarray(p, dtype=float) for p in region.polygons])
        (y0, x0), (y1, x1) = points.min(axis=0), points.max(axis=0)
    except (KeyError, TypeError, ValueError):
        return "not stated"
    count = len(region.polygons)
    kind = "a view" if region.kind == "view" else f"{count} drawn shape{'s' if count > 1 else ''}"
    return f"{kind}, {x1 - x0:,.0f} x {y1 - y0:,.0f} µm at x {x0:,.0f} y {y0:,.0f} µm"


def _readers(snapshot: CaseSnapshot) -> tuple[ReportReader, ...]:
    acts: dict[str, list[str]] = {}
    corrections: Counter[str] = Counter()
    for entry in snapshot.journal.entries(until=snapshot.seq):
        # A rescued case says again what others had said before.
        reader, time = _said_by(entry.body.get("said_by"), entry.reader, entry.time)
        if not reader:
            continue
        acts.setdefault(reader, []).append(time)
        if entry.kind == EDIT and entry.seq in snapshot.standing:
            corrections[reader] += 1
    return tuple(
        ReportReader(reader, corrections[reader], len(times), min(times), max(times))
        for reader, times in acts.items()
    )


def _said_by(said: Any, reader: str, time: str) -> tuple[str, str]:
    if isinstance(said, Iterable) and not isinstance(said, str | Mapping):
        told = [str(part) for part in said]
        if len(told) == 2:
            return told[0], told[1]
    return reader, time
