"""An entry of the journal in plain words, for the window and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from napari_hspnet.cases.journal import BEGIN, EDIT, REDO, REGIONS, RUNS, SLIDE, UNDO, Entry
from napari_hspnet.classes import BACKGROUND, CLASSES, NOT_RUN, SKIPPED, UNREADABLE

__all__ = [
    "GRADE_NAMES",
    "REGION_KINDS",
    "area_text",
    "describe",
    "grade_name",
    "local_time",
    "place_text",
]

GRADE_NAMES: Mapping[int, str] = MappingProxyType(
    {BACKGROUND: "none of the four"}
    | {c.value: c.name for c in CLASSES}
    | {SKIPPED: "no tissue", UNREADABLE: "unreadable", NOT_RUN: "not run"}
)
"""Every value that the overlay can have, as one says it in a sentence."""

_TOOLS = {"shape": "set grade"}
_MOST_PAIRS = 4
REGION_KINDS: Mapping[str, str] = MappingProxyType(
    {"drawn": "drawn", "component": "part of the overlay", "tile": "tile of a grid"}
)
"""What a review region is, by `review.KINDS`."""


def grade_name(value: int) -> str:
    """ "CIN2", "none of the four", "no tissue"."""
    return GRADE_NAMES.get(value, f"value {value}")


def area_text(pixels: float, mpp: float) -> str:
    """An area in mm², a small one in µm², with as many digits as it deserves.

    Parameters
    ----------
    pixels : float
        Label pixels.
    mpp : float
        µm per label pixel.
    """
    um2 = pixels * mpp * mpp
    if um2 < 9_995:
        return f"{um2:,.0f} µm²"
    mm2 = um2 / 1e6
    digits = 3 if mm2 < 0.0995 else 2 if mm2 < 10 else 1
    return f"{mm2:,.{digits}f} mm²"


def place_text(box: Sequence[float], mpp: float) -> str:
    """The middle of a box (y0, x0, y1, x1) of label pixels: "x 3,120 y 4,510 µm"."""
    y, x = (box[0] + box[2]) / 2 * mpp, (box[1] + box[3]) / 2 * mpp
    return f"x {x:,.0f} y {y:,.0f} µm"


def local_time(time: str) -> str:
    """A time of the journal on this computer's clock, its offset from UTC with it."""
    return datetime.fromisoformat(time).astimezone().isoformat(" ", "seconds")


def describe(entry: Entry, mpp: float) -> str:
    """What an entry says was done, in one line.

    Parameters
    ----------
    entry : Entry
        Of the journal.
    mpp : float
        µm per label pixel.
    """
    try:
        said = _TELLERS.get(entry.kind, _unknown)(entry, mpp)
        if "said_by" in entry.body:
            reader, time = entry.body["said_by"]
            said += f", as {reader} had said on {time[:10]}"
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        # A log that stops at a damaged entry would hide all that follow it.
        return f"{entry.kind} (damaged: `napari-hspnet case verify` says more)"
    if "clock" in entry.body:
        said += f" (the clock had gone back to {entry.body['clock']})"
    return said


def _edit(entry: Entry, mpp: float) -> str:
    parts = [
        _tool(entry) or "correction",
        _changes(entry.body.get("changes", {}), mpp),
    ]
    said = " ".join(part for part in parts if part) + _at(entry, mpp)
    if entry.body.get("continues"):
        said += ", part of the act before it"
    left = entry.body.get("left_locked")
    if left:
        stayed = (
            "are signed off and stayed as they were"
            if len(left) > 1
            else ("is signed off and stayed as it was")
        )
        said += f"; {_regions(left)} {stayed}"
    return said


def _changes(changes: Mapping[str, int], mpp: float) -> str:
    """The largest changes first; what stays as it is was looked at, and counts."""
    ordered = sorted(changes.items(), key=lambda item: -item[1])
    texts = []
    for pair, pixels in ordered[:_MOST_PAIRS]:
        before, after = (grade_name(int(value)) for value in pair.split(">"))
        change = f"{before} unchanged" if before == after else f"{before} → {after}"
        texts.append(f"{change} {area_text(pixels, mpp)}")
    rest = sum(pixels for _, pixels in ordered[_MOST_PAIRS:])
    if rest:
        texts.append(f"others {area_text(rest, mpp)}")
    return ", ".join(texts)


def _again(entry: Entry, mpp: float) -> str:
    tool = _tool(entry)
    said = f"{entry.kind} of {_numbers(entry.body.get('of', ()))}" + (f" ({tool})" if tool else "")
    return said + _at(entry, mpp)


def _runs(entry: Entry, mpp: float) -> str:
    active = entry.body.get("active", [])
    if not active:
        return "no run is shown"
    top = active[-1]
    model = f" ({top['model']})" if top.get("model") else ""
    beneath = f", {len(active) - 1} beneath it" if len(active) > 1 else ""
    return f"run {top['id']}{model} is topmost{beneath}"


def _begin(entry: Entry, mpp: float) -> str:
    said = f"case begun for {_slide(entry.body)}"
    reading = entry.body.get("reading")
    if reading is not None:
        of = reading["of"]["entry"]
        model = "with what the model said" if reading["model"] else "without the model"
        said = (
            f"second reading by {reading['reader']} begun for {_slide(entry.body)}, {model}, "
            f"from a case of {of} entr{'y' if of == 1 else 'ies'}"
        )
    if "rescued_from" in entry.body:
        lost = len(entry.body.get("lost", ())) + entry.body.get("lost_more", 0)
        losses = f"{lost} loss{'' if lost == 1 else 'es'}" if lost else "without losses"
        return f"journal begun anew after damage for {_slide(entry.body)}, {losses}"
    old = entry.body.get("migrated_from")
    return (
        said if old is None else f"journal begun for {_slide(entry.body)}, a case of format {old}"
    )


def _attached(entry: Entry, mpp: float) -> str:
    return f"attached to {_slide(entry.body['to'])}, before that to {_slide(entry.body['from'])}"


def _review(entry: Entry, mpp: float) -> str:
    body = entry.body
    do, given = body.get("do"), body.get("regions", [])
    if do == "add":
        names = _regions(region["id"] for region in given)
        area = area_text(sum(region["pixels"] for region in given), mpp)
        kind = REGION_KINDS.get(body.get("kind", ""), body.get("kind", ""))
        at = f" at {place_text(given[0]['box'], mpp)}" if len(given) == 1 else ""
        each = "each a " if len(given) > 1 and kind != "drawn" else ""
        done = "taken over from the first reading" if body.get("taken_over") else "added"
        return f"{names} {done} ({each}{kind}, {area}){at}"
    names = _regions(given)
    if do == "state":
        return f"{names} {body.get('state')}"
    if do == "tag":
        tag = body.get("tag")
        return f"{names} tagged {tag}" if tag else f"{names} no longer tagged"
    if do == "comment":
        return f"comment on {names}: {' '.join(str(body.get('text', '')).split())}"
    if do == "remove":
        return f"{names} taken off the list"
    return f"{names}: {do}"


def _unknown(entry: Entry, mpp: float) -> str:
    return entry.kind


_TELLERS: Mapping[str, Callable[[Entry, float], str]] = {
    BEGIN: _begin,
    EDIT: _edit,
    UNDO: _again,
    REDO: _again,
    RUNS: _runs,
    REGIONS: _review,
    SLIDE: _attached,
}


def _tool(entry: Entry) -> str:
    tool, file = str(entry.body.get("tool", "")), entry.body.get("file")
    return f"import of {file}" if tool == "import" and file else _TOOLS.get(tool, tool)


def _at(entry: Entry, mpp: float) -> str:
    return "" if entry.box is None else f" at {place_text(entry.box, mpp)}"


def _slide(said: Mapping[str, Any]) -> str:
    return f"{said.get('name')} ({str(said.get('fingerprint'))[:12]}…)"


def _regions(numbers: Iterable[int]) -> str:
    numbers = list(numbers)
    return f"region{'s' if len(numbers) > 1 else ''} {_numbers(numbers)}"


def _numbers(numbers: Iterable[int]) -> str:
    """ "3", "3 to 7", "3, 5, 6"."""
    ordered = sorted(numbers)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{ordered[0]} to {ordered[-1]}"
    shown = ", ".join(map(str, ordered[:6]))
    return shown if len(ordered) <= 6 else f"{shown} and {len(ordered) - 6} more"
