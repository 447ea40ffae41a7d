"""What the gate found, for the window, the card and the registry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from napari_hspnet.classes import CLASSES
from napari_hspnet.training.intervals import Estimate

__all__ = [
    "AGREEMENT",
    "BETTER",
    "GUARDED",
    "MEAN",
    "MEASURES",
    "SAME",
    "TOO_FEW",
    "WORSE",
    "Change",
    "Decision",
    "SetVerdict",
    "Verdict",
]

Decision = Literal["better", "worse", "no difference", "too few to judge"]

BETTER: Decision = "better"
WORSE: Decision = "worse"
SAME: Decision = "no difference"
TOO_FEW: Decision = "too few to judge"

MEAN, AGREEMENT = "mean_dice", "cin2_agreement"
GUARDED = (*(f"dice_{c.name}" for c in CLASSES), AGREEMENT)
"""What must not become worse."""

MEASURES = (*GUARDED, MEAN, "cin2_sensitivity", "cin2_specificity")
"""All that is told; see `agreement.figures`. The mean Dice is over the classes of which
there is enough to judge."""

_NAMES: Mapping[str, str] = MappingProxyType(
    {f"dice_{c.name}": f"Dice for {c.name}" for c in CLASSES}
    | {
        AGREEMENT: "agreement at CIN2+",
        MEAN: "mean Dice",
        "cin2_sensitivity": "sensitivity at CIN2+",
        "cin2_specificity": "specificity at CIN2+",
    }
)


@dataclass(frozen=True)
class Change:
    """One measure, before and after; NaN where it cannot be told.

    Attributes
    ----------
    before, after : float
        Of all units together.
    difference : Estimate
        After less before, and its interval. "better" and "worse" ask more than that this
        excludes 0, see `gate`.
    decision : Decision
    alarm : bool
        Too few to judge, but fallen so far that it should not be accepted unseen.
    doubt : bool
        No certain difference, but the interval lies below 0.
    """

    before: float
    after: float
    difference: Estimate
    decision: Decision
    alarm: bool = False
    doubt: bool = False


@dataclass(frozen=True)
class SetVerdict:
    """What was found on one set of regions.

    Attributes
    ----------
    changes : mapping of str to Change
        By the keys of `MEASURES`.
    units, patients : int
    mm2 : float
        Annotated as one of the four classes.
    too_small : str
        Why nothing can be judged on it; empty where something can.
    drawn : str
        What the intervals rest on, for people.
    synthetic : bool
        Whether it is of phantoms.
    """

    changes: Mapping[str, Change]
    units: int
    patients: int
    mm2: float
    too_small: str
    drawn: str
    synthetic: bool

    @property
    def losses(self) -> tuple[str, ...]:
        """Guarded measures that became worse, or fell alarmingly."""
        return tuple(
            key for key in GUARDED if self.changes[key].decision == WORSE or self.changes[key].alarm
        )

    @property
    def doubts(self) -> tuple[str, ...]:
        """Guarded measures that may have become worse."""
        return tuple(key for key in GUARDED if self.changes[key].doubt)

    @property
    def gains(self) -> tuple[str, ...]:
        """Guarded measures that became better."""
        return tuple(key for key in GUARDED if self.changes[key].decision == BETTER)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; null where a figure cannot be told."""
        return {
            "units": self.units,
            "patients": self.patients,
            "mm2": self.mm2,
            "too_small": self.too_small,
            "intervals": self.drawn,
            "synthetic": self.synthetic,
            "changes": {
                key: {
                    "before": _number(c.before),
                    "after": _number(c.after),
                    "difference": _number(c.difference.value),
                    "interval": [_number(c.difference.low), _number(c.difference.high)],
                    "decision": c.decision,
                    "alarm": c.alarm,
                    "doubt": c.doubt,
                }
                for key, c in self.changes.items()
            },
        }


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate should be taken. Made by `gate.judge`.

    Attributes
    ----------
    decision : Decision
    held : SetVerdict
        On the regions held back.
    reference : SetVerdict or None
        On the reference set; None where there is none.
    level : float
        Probability of the intervals.
    """

    decision: Decision
    held: SetVerdict
    reference: SetVerdict | None
    level: float

    @property
    def refused(self) -> bool:
        """Whether it is refused by default; a person may overrule it."""
        return self.decision == WORSE

    @property
    def recommended(self) -> bool:
        """Whether taking it is what the figures say."""
        return self.decision == BETTER

    def text(self) -> str:
        """All of it for people: what was found, what it rests on, what to do."""
        lines = [self._found(), *self._cautions()]
        lines.append(f"({self._basis()})")
        lines.append(self._advice())
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for the card and the registry."""
        return {
            "decision": self.decision,
            "refused": self.refused,
            "level": self.level,
            "held_back": self.held.to_json(),
            "reference": None if self.reference is None else self.reference.to_json(),
            "text": self.text(),
        }

    def _found(self) -> str:
        held, level = self.held, self.level
        told = [key for key in (*held.gains, *held.losses) if key != AGREEMENT]
        if not told:
            told = [MEAN]
        told.append(AGREEMENT)
        parts = [_told(held.changes[key], key, level, first=i == 0) for i, key in enumerate(told)]
        return f"On the regions held back {', '.join(parts)}; {self._elsewhere()}."

    def _elsewhere(self) -> str:
        reference = self.reference
        if reference is None:
            return "there is no reference set, so what was lost elsewhere is not known"
        losses = [_told(reference.changes[key], key, self.level) for key in reference.losses]
        if losses:
            return f"on the reference set {', '.join(losses)}"
        if reference.too_small:
            return f"the reference set is too small to tell what was lost ({reference.too_small})"
        unsure = [
            key.removeprefix("dice_")
            for key in GUARDED
            if key != AGREEMENT and reference.changes[key].decision == TOO_FEW
        ]
        but = f" (too little of {', '.join(unsure)} to tell)" if unsure else ""
        certain = " for certain" if reference.doubts else ""
        return f"on the reference set nothing was lost{certain}{but}"

    def _cautions(self) -> list[str]:
        said = []
        for place, one in (
            ("in what was held back", self.held),
            ("in the reference set", self.reference),
        ):
            if one is None:
                continue
            few = [key for key in one.losses if one.changes[key].alarm]
            if few:
                names = ", ".join(_NAMES[key] for key in few)
                said.append(f"There is too little {place} to judge {names}, but it fell far.")
            if one.doubts:
                what = ", ".join(_told(one.changes[key], key, self.level) for key in one.doubts)
                said.append(f"Perhaps worse {place}: {what}.")
            missed = one.changes["cin2_sensitivity"]
            if missed.decision == WORSE:
                what = _told(missed, "cin2_sensitivity", self.level)
                said.append(f"More high grade is missed {place}: {what}.")
        few = [
            key.removeprefix("dice_")
            for key in GUARDED
            if key != AGREEMENT and self.held.changes[key].decision == TOO_FEW
        ]
        if few and not self.held.too_small:
            said.append(f"Too little was held back to judge {', '.join(few)}.")
        if self.held.synthetic:
            said.append("The regions held back are synthetic: this says nothing of real slides.")
        if self.reference is not None and self.reference.synthetic:
            said.append(
                "The reference set is synthetic: phantoms alone are no safety reference for real "
                "slides."
            )
        return said

    def _basis(self) -> str:
        held = self.held
        where = (
            f"{held.units} region{'s' * (held.units != 1)} of {held.patients} "
            f"patient{'s' * (held.patients != 1)}, {held.mm2:.2f} mm²"
        )
        return f"{where}; {held.drawn}"

    def _advice(self) -> str:
        if self.decision == BETTER:
            return "Accept?"
        if self.decision == WORSE:
            return "Refused: the current model stays, unless you overrule this."
        if self.decision == SAME:
            stays = "The current model stays unless you accept."
            if any(self.held.changes[key].difference.low > 0 for key in (MEAN, AGREEMENT)):
                sets = (self.held, self.reference)
                doubt = any(one.doubts for one in sets if one is not None)
                why = "something may have been lost" if doubt else "on too few to be sure of it"
                return f"A gain, but {why}. {stays}"
            return f"No difference overall that could be told. {stays}"
        why = self.held.too_small or "too little of every class"
        return f"Too few to judge: {why}. The current model stays unless you accept."


def _told(change: Change, key: str, level: float, first: bool = False) -> str:
    name = _NAMES[key]
    if math.isnan(change.difference.value):
        return f"{name} cannot be told"
    before, after = f"{change.before:.2f}", f"{change.after:.2f}"
    if before == after:
        moved = f"stayed at {after}"
    else:
        moved = f"{'rose' if change.after > change.before else 'fell'} from {before} to {after}"
    difference = change.difference
    if math.isnan(difference.low):
        return f"{name} {moved}"
    of = f"{level * 100:g} % interval of the difference " if first else ""
    return f"{name} {moved} ({of}{difference.low:+.2f} to {difference.high:+.2f})"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
