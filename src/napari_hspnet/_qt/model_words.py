"""What the window says of a model: a line in the list, its card, what was done with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_hspnet._qt.words import elided

if TYPE_CHECKING:
    from napari_hspnet.networks import LoadedModel
    from napari_hspnet.networks.inventory import ModelRecord

__all__ = ["Listed", "card_tip", "describe_card", "list_line", "listed_models", "opened_model"]

_NAME, _NOTE = 40, 160
_STATES = {
    "candidate": "candidate",
    "accepted": "accepted",
    "refused": "refused",
    "retired": "put away",
}


@dataclass(frozen=True)
class Listed:
    """A model of the list.

    Attributes
    ----------
    name : str
        Its card's, with some of its hash where two have the same.
    path : Path or None
        Its file.
    sha256 : str
        Of the file; empty where it is not known.
    state : str
        As the list says it; empty where there is nothing to say.
    in_use : bool
        Whether it is the one that the registry says is in use.
    problem : str or None
        Why it cannot be used.
    parent : str
        What it was taught from; empty where it was not.
    story : str
        Who accepted or refused it, when and why, in sentences.
    opened : bool
        A file that the user opened and the registry does not know.
    """

    name: str
    path: Path | None
    sha256: str = ""
    state: str = ""
    in_use: bool = False
    problem: str | None = None
    parent: str = ""
    story: str = ""
    opened: bool = False

    @property
    def refused(self) -> bool:
        """Whether somebody refused it."""
        return self.state == _STATES["refused"]

    def is_model(self, model: LoadedModel) -> bool:
        """Whether a loaded model is this one."""
        if self.sha256:
            return self.sha256 == model.sha256
        return self.path is not None and self.path == model.path


def listed_models(records: Sequence[ModelRecord]) -> list[Listed]:
    """The registry's models as the list shows them, in the same order."""
    from napari_hspnet.networks.card_values import one_line

    shared = Counter(record.name for record in records)

    def title(record: ModelRecord) -> str:
        apart = f" ({record.short})" if shared[record.name] > 1 and record.short else ""
        return one_line(record.name) + apart

    titles = {record.sha256: title(record) for record in records}
    found = []
    for record in records:
        parent = None if record.card is None else record.card.parent
        # What came with the program waits for nobody's judgement.
        judged = not (record.built_in and record.state == "candidate")
        found.append(
            Listed(
                title(record),
                record.path,
                record.sha256,
                _STATES.get(record.state or "", "") if judged else "",
                record.in_use,
                record.problem,
                "" if not parent else titles.get(parent, f"a model not here ({parent[:8]})"),
                _story(record) if judged else "",
            )
        )
    return found


def opened_model(model: LoadedModel) -> Listed:
    """A model that the user opened from a file of his own."""
    return Listed(model.card.name, model.path, model.sha256, opened=True)


def list_line(model: Listed) -> str:
    """A model's line in the list: "Demo, taught 26 Nov · accepted · in use"."""
    name = ("(cannot be used) " if model.problem else "") + elided(model.name, _NAME)
    return " · ".join(part for part in (name, model.state, "in use" * model.in_use) if part)


def describe_card(model: LoadedModel) -> str:
    """What a reader must know of a model, in a few short sentences."""
    card = model.card
    parts = [f"Trained on {card.trained_on}.", f"{card.mpp:g} µm/px, windows of {card.window} px."]
    return " ".join(parts)


def card_tip(model: LoadedModel) -> str:
    """The rest of a model's card, a line each."""
    card = model.card
    lines = [
        card.name,
        f"Intended use: {card.intended_use}",
        f"Limitations: {card.limitations}",
        f"Licence: {card.licence}",
        f"SHA-256: {model.sha256[:16]}…",
        f"File: {model.path}",
    ]
    return "\n".join(lines)


def _story(record: ModelRecord) -> str:
    from napari_hspnet.networks.card_values import one_line

    if not record.acts:
        return ""
    last = record.acts[-1] if record.state == "retired" else record.decision
    if record.state == "candidate" or last is None:
        return "A candidate: nobody has accepted it yet."
    verb = {"accepted": "Accepted", "refused": "Refused", "retired": "Put away"}[last.what]
    why = one_line(last.note)[:_NOTE].rstrip(". ")
    worse = ", ".join(_fallen(last.figures))
    if worse and last.what == "refused":
        why = f"worse on {worse}"
    elif worse and last.what == "accepted":
        why = f"in spite of being worse on {worse}"
    said = f"{verb} by {one_line(last.by)} on {last.when[:10]}{': ' if why else ''}{why}."
    if last.what == "refused":
        said += " Runs made with it carry its name and hash."
    return said


def _fallen(figures: Mapping[str, Any]) -> Iterator[str]:
    """What the gate found to be worse, from what a decision rests on."""
    for key, where in (("held_back", ""), ("reference", " (reference set)")):
        part = figures.get(key)
        changes = part.get("changes") if isinstance(part, Mapping) else None
        for name, change in changes.items() if isinstance(changes, Mapping) else ():
            if isinstance(change, Mapping) and (
                change.get("decision") == "worse" or change.get("alarm") is True
            ):
                yield _measure(str(name)) + where


def _measure(key: str) -> str:
    if key.startswith("dice_"):
        return f"Dice for {key.removeprefix('dice_')}"
    kind, _, _ = key.removeprefix("cin2_").partition("_")
    return f"{kind} at CIN2+" if key.startswith("cin2_") else key.replace("_", " ")
