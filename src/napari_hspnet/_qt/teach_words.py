"""What is learned from, how far it is and what came of it, in words and figures for the dock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from napari_hspnet._qt.words import about_seconds
from napari_hspnet.classes import CIN3, CLASSES, VALUE_NAMES
from napari_hspnet.jobs.finetune_events import Prepared, Step, Told

__all__ = [
    "Account",
    "AccountRow",
    "VerdictRow",
    "account_of",
    "alarming",
    "count_text",
    "joined",
    "step_text",
    "told_text",
    "verdict_rows",
    "waiting_text",
]

_NONE = "–"


@dataclass(frozen=True)
class AccountRow:
    """A class, and how much of it there is.

    Attributes
    ----------
    name : str
    corrected, accepted, held : str
        mm² that are learned from, as corrected and as the model had it, and that are
        held back; see `_mm2`.
    """

    name: str
    corrected: str
    accepted: str
    held: str


@dataclass(frozen=True)
class Account:
    """What a fine-tuning would learn from, short enough for the dock.

    Attributes
    ----------
    learns, holds : str
        A sentence each.
    rows : tuple of AccountRow
    notes : tuple of str
        What else should be known.
    whole : str
        All of it, with how it will learn.
    """

    learns: str
    holds: str
    rows: tuple[AccountRow, ...]
    notes: tuple[str, ...]
    whole: str


@dataclass(frozen=True)
class VerdictRow:
    """A measure before and after.

    Attributes
    ----------
    name, before, after, change : str
        As shown; the change as its interval.
    decision : str
        As the gate says it.
    tip : str
        All of it in a sentence.
    """

    name: str
    before: str
    after: str
    change: str
    decision: str
    tip: str


def account_of(prepared: Prepared) -> Account:
    """What the process said that it would learn from, see `Lesson.to_json`."""
    lesson = prepared.lesson
    learn, held = lesson["learn"], lesson["held"]
    patients = lesson["patients"]
    square = (lesson["um_per_pixel"] / 1000) ** 2
    by = "patients" if lesson["split"] == "patient" else "regions"
    rows = []
    for value in range(CIN3 + 1):
        corrected = sum(r["corrected_pixels"][value] for r in learn) * square
        accepted = sum(r["accepted_pixels"][value] for r in learn) * square
        back = sum(r[k][value] for r in held for k in ("corrected_pixels", "accepted_pixels"))
        if corrected or accepted or back:
            areas = (_mm2(corrected), _mm2(accepted), _mm2(back * square))
            # "none of the four" would not fit beside three figures.
            rows.append(AccountRow(VALUE_NAMES[value] if value else "none", *areas))
    return Account(
        f"Learns from {count_text(len(learn), 'region')} of "
        f"{count_text(patients[0], 'patient')}: {count_text(lesson['patches'], 'patch', 'es')}.",
        f"Holds back {count_text(len(held), 'region')} of "
        f"{count_text(patients[1], 'patient')} to judge by; divided by whole {by}.",
        tuple(rows),
        tuple(lesson["notes"]),
        f"{prepared.text}\n{prepared.recipe}",
    )


def count_text(count: int, what: str, more: str = "s") -> str:
    """ "1 region", "1,204 patches"."""
    return f"{count:,} {what}{'' if count == 1 else more}"


def step_text(step: Step) -> str:
    """ "Learning, round 2 of 5 · about 3 min left"."""
    text = f"Learning, round {step.epoch} of {step.epochs}"
    return f"{text}{_left(step.remaining)}"


def waiting_text(count: int, when: datetime) -> str:
    """ "A model taught on 26 Nov waits for your decision."

    Parameters
    ----------
    count : int
        How many wait.
    when : datetime
        When the latest was taught, aware of its zone.
    """
    at = when.astimezone()
    year = "" if at.year == datetime.now().year else f" {at.year}"
    day = f"{at.day} {at:%b}{year}"
    if count == 1:
        return f"A model taught on {day} waits for your decision."
    return f"{count} taught models wait for your decision, the latest of {day}."


def told_text(told: Told) -> str:
    """ "Judging the candidate, 40 % · about 5 s left"."""
    text = told.doing[:1].upper() + told.doing[1:]
    if told.fraction is not None:
        text += f", {100 * told.fraction:.0f} %"
    return f"{text}{_left(told.remaining)}"


def verdict_rows(found: Mapping[str, Any]) -> tuple[VerdictRow, ...]:
    """A set's measures that could be told; see `SetVerdict.to_json`."""
    names = {f"dice_{c.name}": c.name for c in CLASSES}
    names |= {"mean_dice": "mean", "cin2_agreement": "CIN2+"}
    rows = []
    for key, name in names.items():
        change = found["changes"].get(key)
        if change is None or (change["before"] is None and change["after"] is None):
            continue
        rows.append(_row(name, key, change))
    return tuple(rows)


def alarming(verdict: Mapping[str, Any]) -> tuple[str, ...]:
    """What fell, a sentence each, where a verdict refuses."""
    found = []
    for place, part in (("held back", "held_back"), ("reference set", "reference")):
        one = verdict.get(part)
        for key, change in () if one is None else one["changes"].items():
            if change["decision"] == "worse" or change["alarm"]:
                found.append(
                    f"{_measure(key)} fell from {_figure(change['before'])} to "
                    f"{_figure(change['after'])} ({place})."
                )
    return tuple(found)


def _row(name: str, key: str, change: Mapping[str, Any]) -> VerdictRow:
    low, high = change["interval"]
    before, after = _figure(change["before"]), _figure(change["after"])
    span = _NONE if low is None or high is None else f"{_signed(low)} to {_signed(high)}"
    said = change["decision"]
    if change["alarm"]:
        said += ", but it fell far"
    elif change["doubt"]:
        said += ", perhaps worse"
    return VerdictRow(name, before, after, span, change["decision"], f"{_measure(key)}: {said}")


def _measure(key: str) -> str:
    """A measure's name in a sentence of its own."""
    fixed = {
        "mean_dice": "Mean Dice",
        "cin2_agreement": "Agreement at CIN2+",
        "cin2_sensitivity": "Sensitivity at CIN2+",
        "cin2_specificity": "Specificity at CIN2+",
    }
    return fixed.get(key, f"Dice for {key.removeprefix('dice_')}")


def _figure(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _signed(value: float) -> str:
    # A minus as wide as the plus, and none before a zero.
    text = f"{value:+.2f}".replace("-", "−")
    return "0.00" if text in ("+0.00", "−0.00") else text


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f" · {about_seconds(seconds)} left"


def _mm2(area: float) -> str:
    if area == 0:
        return _NONE
    return "< 0.01" if area < 0.005 else f"{area:,.2f}"


def joined(parts: Iterable[str]) -> str:
    """Sentences one below the other, without the empty ones."""
    return "\n".join(part for part in parts if part)
