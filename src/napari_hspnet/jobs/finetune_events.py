"""What a fine-tuning tells while it runs, as values and as lines of JSON on a pipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = [
    "Done",
    "Event",
    "Failed",
    "Judged",
    "Prepared",
    "Started",
    "Step",
    "Stopped",
    "Told",
    "event_line",
    "read_event",
]


@dataclass(frozen=True)
class Started:
    """The process is there.

    Attributes
    ----------
    pid : int
    threads : int
        That it computes with.
    """

    pid: int
    threads: int


@dataclass(frozen=True)
class Prepared:
    """What it will learn from and be judged by.

    Attributes
    ----------
    lesson : mapping
        See `Lesson.to_json`.
    text : str
        The same for people, in lines.
    recipe : str
        How it will learn, for people.
    """

    lesson: Mapping[str, Any]
    text: str
    recipe: str


@dataclass(frozen=True)
class Told:
    """Where it stands before and after learning.

    Attributes
    ----------
    doing : str
        For people.
    fraction : float or None
        Of this stage; None while it cannot be told.
    remaining : float or None
        Seconds of this stage, about.
    """

    doing: str
    fraction: float | None = None
    remaining: float | None = None


@dataclass(frozen=True)
class Step:
    """A step of learning is done.

    Attributes
    ----------
    step, of : int
        Done, and in all.
    epoch, epochs : int
        The one it is in, from 1; all.
    loss : float
        Running mean over about 20 steps, of what is learned and what is kept.
    rate : float
        Learning rate of everything but the encoder.
    remaining : float or None
        Seconds of learning, about, with what is judged in between.
    """

    step: int
    of: int
    epoch: int
    epochs: int
    loss: float
    rate: float
    remaining: float | None


@dataclass(frozen=True)
class Judged:
    """An epoch was judged on the held-back regions, windows side by side.

    Attributes
    ----------
    epoch : int
        Done; 0 is the model that it began with.
    figures : mapping of str to float or None
        ``mean_dice``, ``dice_<class>``, ``cin2_agreement`` and others of
        `training.agreement.figures`, pooled.
    """

    epoch: int
    figures: Mapping[str, float | None]


@dataclass(frozen=True)
class Done:
    """It is over, and this came out.

    Attributes
    ----------
    path : str
        The candidate.
    sha256 : str
        Of it.
    verdict : mapping
        See `training.gate.Verdict.to_json`.
    text : str
        The verdict for people, in lines.
    decision : str
        "better", "worse", "no difference" or "too few to judge".
    advised : bool
        Whether the gate lets it pass.
    pictures : list of [str, str]
        Where the overlay would change, most change first: file and caption.
    """

    path: str
    sha256: str
    verdict: Mapping[str, Any]
    text: str
    decision: str
    advised: bool
    pictures: list[list[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Stopped:
    """It was cancelled; a snapshot lies in the folder if learning had begun."""


@dataclass(frozen=True)
class Failed:
    """It could not go on.

    Attributes
    ----------
    kind : str
        Name of the error's class; "Fault" where the program is wrong.
    message : str
    advice : str
    path : str or None
        The file concerned.
    """

    kind: str
    message: str
    advice: str = ""
    path: str | None = field(default=None)


Event = Started | Prepared | Told | Step | Judged | Done | Stopped | Failed

_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind for kind in (Started, Prepared, Told, Step, Judged, Done, Stopped, Failed)
}


def event_line(event: Event) -> str:
    """An event as one line, with its end.

    Raises
    ------
    ValueError
        If a number in it is not finite.
    """
    values = {"event": type(event).__name__, **asdict(event)}
    return json.dumps(values, allow_nan=False) + "\n"


def read_event(line: str | bytes) -> Event:
    """The event that `event_line` wrote.

    Raises
    ------
    ValueError
        If the line is none.
    """
    values = json.loads(line)
    kind = _KINDS.get(values.pop("event", "")) if isinstance(values, dict) else None
    if kind is None or set(values) != {f.name for f in fields(kind)}:
        raise ValueError(f"no event: {line[:200]!r}")
    event: Event = kind(**values)
    return event
