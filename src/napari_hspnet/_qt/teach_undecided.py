"""Taught models that nobody has decided on, found again in the registry; knows no widget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from napari_hspnet._qt.teach_words import alarming, joined, verdict_rows
from napari_hspnet._qt.teach_work import Parent, pictures_of
from napari_hspnet.errors import InputError
from napari_hspnet.jobs.finetune_events import Done, Prepared

if TYPE_CHECKING:
    from napari_hspnet.jobs.finetune import FinetuneResult
    from napari_hspnet.networks.registry import ModelRecord

__all__ = ["Undecided", "looked_at_again", "undecided"]

# What a fine-tuning tells the registry: a candidate that was handed on from elsewhere was
# judged on regions that nobody here knows, and waits for nobody.
_TAUGHT = "fine-tuned from "


@dataclass(frozen=True)
class Undecided:
    """A taught model that was neither accepted nor refused.

    Attributes
    ----------
    sha256 : str
    when : datetime
        When the registry took it.
    parent : Parent
        The model that learned.
    """

    sha256: str
    when: datetime
    parent: Parent


def undecided(chosen: Parent | None) -> tuple[Undecided, ...]:
    """What was taught from the model in use, or from the chosen one, and waits.

    Parameters
    ----------
    chosen : Parent or None
        The model that is chosen in this window.

    Returns
    -------
    tuple of Undecided
        The latest first.

    Raises
    ------
    CheckpointError
        If the registry's folder cannot be read.
    """
    from napari_hspnet.networks.registry import Registry

    records = Registry().entries()
    parents = {
        record.sha256: Parent(record.name, record.path, record.sha256)
        for record in records
        if record.in_use and record.path is not None
    }
    if chosen is not None:
        parents[chosen.sha256] = chosen
    found = []
    for record in records:
        parent = parents.get(record.card.parent or "") if record.card is not None else None
        if parent is not None and _waits(record):
            when = datetime.fromisoformat(record.acts[0].when)
            found.append((record.acts[0].number, Undecided(record.sha256, when, parent)))
    return tuple(one for _, one in sorted(found, key=lambda pair: -pair[0]))


def looked_at_again(one: Undecided) -> FinetuneResult:
    """The verdict that waits, as it was when it was found.

    Raises
    ------
    InputError
        If it was decided meanwhile, or is gone.
    CheckpointError
        If the registry's folder cannot be read.
    """
    from napari_hspnet.jobs.finetune import FinetuneResult
    from napari_hspnet.networks.registry import Registry

    record = Registry().get(one.sha256)
    if not _waits(record) or record.path is None:
        decision = record.decision
        how = "" if decision is None else f": {decision.what} by {decision.by}"
        raise InputError(
            f"{record.label} waits for no decision any more{how}",
            advice="The section Model lists it",
        )
    verdict = _verdict(record)
    pictures = pictures_of(one.sha256, record.path)
    gone = "" if pictures else "Pictures of where the overlay would change were not kept."
    decision_of_gate = str(verdict["decision"])
    done = Done(
        str(record.path),
        one.sha256,
        verdict,
        joined((str(verdict["text"]), gone)),
        decision_of_gate,
        decision_of_gate == "better",
        pictures,
    )
    return FinetuneResult(record.path, one.sha256, done, Prepared({}, "", ""), ())


def _waits(record: ModelRecord) -> bool:
    return (
        record.state == "candidate"
        and record.decision is None
        and record.path is not None
        and bool(record.acts)
        and record.acts[0].note.startswith(_TAUGHT)
        and _can_be_shown(_verdict(record))
    )


def _verdict(record: ModelRecord) -> Mapping[str, Any]:
    """What the gate said, as the candidate's card keeps it."""
    found = None if record.card is None else record.card.metrics.get("verdict")
    return found if isinstance(found, Mapping) else {}


def _can_be_shown(verdict: Mapping[str, Any]) -> bool:
    """Whether it is a verdict as this version writes them."""
    try:
        for part in (verdict["held_back"], verdict["reference"]):
            if part is not None:
                verdict_rows(part)
                bool(part["synthetic"])
        alarming(verdict)
        return isinstance(verdict["text"], str) and isinstance(verdict["decision"], str)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
