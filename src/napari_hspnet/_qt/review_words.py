"""Regions, grades and their review in words."""

from __future__ import annotations

import html
from datetime import datetime

from napari_hspnet._qt.style import OverlayStyle
from napari_hspnet._qt.words import area
from napari_hspnet.cases import Comment, ReviewRegion
from napari_hspnet.cases.grades import LEAST_MM2, Grades
from napari_hspnet.cases.words import grade_name
from napari_hspnet.classes import BACKGROUND
from napari_hspnet.jobs.review import Coverage

__all__ = [
    "comment_text",
    "covered_text",
    "grade_text",
    "grades_text",
    "plain_tip",
    "said_text",
    "state_text",
    "worst_text",
]


def plain_tip(text: str) -> str:
    """A tooltip in which what somebody wrote is no markup."""
    if "<" not in text:
        return text
    return f"<p>{html.escape(text)}</p>".replace("\n", "<br>")


def grade_text(grades: Grades | None, style: OverlayStyle) -> str:
    """The grade of a region in the words of the legend."""
    if grades is None:
        return "…"
    if grades.worst is not None:
        return style.name_of(grades.worst)
    return "none" if grades.mm2.get(0) else "–"


def grades_text(grades: Grades | None, style: OverlayStyle) -> str:
    """All that is shown in a region, for its tooltip."""
    if grades is None:
        return "Being counted"
    graded = {v: style.name_of(v) for v in grades.mm2 if 1 <= v <= 4}
    merged: dict[str, float] = {}
    for value, mm2 in grades.mm2.items():
        name = graded.get(value, grade_name(value))
        merged[name] = merged.get(name, 0.0) + mm2
    parts = sorted(merged.items(), key=lambda item: -item[1])
    return "On view there now: " + ", ".join(f"{name} {area(mm2)}" for name, mm2 in parts)


def state_text(region: ReviewRegion) -> str:
    """ "reviewed by Dr. Ito, 25 Nov 2026 10:31"."""
    when = datetime.fromisoformat(region.state_time).astimezone()
    who = f" by {region.state_reader}" if region.state_reader else ""
    locked = "; locked" if region.locked else ""
    return f"{region.state}{who}, {when:%d %b %Y %H:%M}{locked}"


def worst_text(grades: Grades | None, style: OverlayStyle) -> tuple[str, str]:
    """ "Worst grade on view: CIN2", and of how much that is said; empty if nothing is known."""
    if grades is None:
        return "", ""
    if grades.worst is None:
        reader = grades.mm2.get(BACKGROUND)
        return f"Worst grade on view: {'none' if reader else 'nothing analysed'}", ""
    mm2 = area(grades.mm2[grades.worst])
    return (
        f"Worst grade on view: {grade_text(grades, style)}",
        f"{mm2} in view; counts from {area(LEAST_MM2)} on",
    )


def said_text(value: int, style: OverlayStyle) -> str:
    """A grade that a reader or a run gave, in the words of the legend."""
    return "none" if value == BACKGROUND else style.name_of(value)


def covered_text(covered: Coverage | None) -> str:
    """ "Reviewed 34 % of the tissue (12.3 of 36.0 mm²)"."""
    if covered is None:
        return ""
    if not covered.tissue_mm2:
        return "No tissue was found on the slide"
    share, total = covered.share, covered.tissue_mm2
    if 0 < share < 0.005:
        percent = "under 1"
    elif 0.995 <= share < 1:
        percent = "over 99"
    else:
        percent = f"{share:.0%}".rstrip("%")
    digits = 0 if total >= 100 else 1 if total >= 10 else 2
    return (
        f"Reviewed {percent} % of the tissue "
        f"({covered.covered_mm2:,.{digits}f} of {total:,.{digits}f} mm²)"
    )


def comment_text(said: Comment) -> str:
    """ "Dr. Ito, 25 Nov 10:31: looks like metaplasia"."""
    when = datetime.fromisoformat(said.time).astimezone()
    return f"{said.reader}, {when:%d %b %H:%M}: {said.text}"
