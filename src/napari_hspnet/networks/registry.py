"""The models on this machine: which there are, who accepted them, which one is in use."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from napari_hspnet.errors import CheckpointError, InputError
from napari_hspnet.networks.checkpoint import load_checkpoint, read_card, write_atomically
from napari_hspnet.networks.inventory import Ancestor, Inventory, ModelRecord, sha256_of
from napari_hspnet.networks.shelf import STATES, Act, DamagedEntryError, Entry

__all__ = [
    "Ancestor",
    "ModelEntry",
    "ModelRecord",
    "Registry",
    "demo_model_path",
    "install_checkpoint",
    "known_models",
    "models_folder",
]


@dataclass(frozen=True)
class ModelEntry:
    """A line in the list of models.

    Attributes
    ----------
    title : str
        The card's name.
    path : Path
        The file.
    synthetic : bool
        Trained on synthetic slides alone.
    problem : str or None
        Why the file cannot be used, if it cannot.
    """

    title: str
    path: Path
    synthetic: bool
    problem: str | None = None


def demo_model_path() -> Path:
    """The demo model that the package carries.

    Raises
    ------
    CheckpointError
        If this copy of the package has none.
    """
    path = Path(str(resources.files("napari_hspnet") / "data" / "demo.safetensors"))
    if not path.is_file():
        raise CheckpointError(
            "this copy of napari-hspnet has no demo model",
            advice=f"Install it again, or make one: napari-hspnet train-demo --out {path.name}",
            path=path,
        )
    return path


def models_folder() -> Path:
    """The user's folder of models; it need not exist."""
    import platformdirs

    return Path(platformdirs.user_data_dir("napari-hspnet", appauthor=False)) / "models"


def known_models(folder: Path | None = None) -> tuple[ModelEntry, ...]:
    """The demo model, if there is one, and all in the user's folder, by name.

    Parameters
    ----------
    folder : Path, optional
        Instead of `models_folder`.
    """
    paths = sorted((models_folder() if folder is None else folder).glob("*.safetensors"))
    with contextlib.suppress(CheckpointError):
        paths.insert(0, demo_model_path())
    entries = []
    for path in paths:
        try:
            card = read_card(path)
        except CheckpointError as error:
            entries.append(ModelEntry(path.stem, path, False, str(error)))
        else:
            entries.append(ModelEntry(card.name, path, card.synthetic))
    return tuple(entries)


def install_checkpoint(path: Path | str, folder: Path | None = None) -> ModelEntry:
    """Copy a checkpoint into the user's folder of models, once it proved sound.

    Parameters
    ----------
    path : path
        A safetensors file with a card.
    folder : Path, optional
        Instead of `models_folder`.

    Raises
    ------
    CheckpointError
        If it cannot be loaded or has no card.
    OutputError
        If the folder does not take it.
    """
    path = Path(path)
    card = read_card(path)
    sha256 = load_checkpoint(path).sha256
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(
            "the checkpoint changed while it was read", advice="Try again", path=path
        )
    # The hash keeps two models of one name apart and finds one that is there.
    folder = models_folder() if folder is None else folder
    target = folder / f"{path.stem.removesuffix('-' + sha256[:8])}-{sha256[:8]}.safetensors"
    write_atomically(target, data)
    return ModelEntry(card.name, target, card.synthetic)


class Registry(Inventory):
    """The models of a folder and what was done with them.

    Reading never waits and never fails for one damaged file: the model concerned says
    what is wrong. Each act is one file moved into place, by one process at a time. A file
    that was put into the folder by hand is a candidate; its entry is made with the
    first act.

    Parameters
    ----------
    folder : Path, optional
        Instead of `models_folder`.
    patience : float
        Seconds to wait for another process that is writing.
    """

    def __init__(self, folder: Path | None = None, patience: float = 10.0) -> None:
        built_in = None
        with contextlib.suppress(CheckpointError):
            built_in = demo_model_path()
        super().__init__(models_folder() if folder is None else Path(folder), built_in, patience)

    def in_use(self) -> ModelRecord | None:
        """The model in use; None if nobody chose one yet.

        Raises
        ------
        DamagedEntryError
            If the note of it is damaged: nothing is guessed.
        """
        uses = self._shelf.uses()
        if not uses:
            return None
        sha256 = uses[-1].sha256
        for record in self.entries():
            if record.sha256 == sha256:
                return record
        gone = "the model in use is no longer here. Choose another: napari-hspnet models use."
        return ModelRecord(sha256, "not known", None, None, None, in_use=True, problem=gone)

    def history(self) -> tuple[Act, ...]:
        """Who added, accepted, refused or used what, and when; the first act first.

        What stands in damaged files is left out; `entries` and `in_use` name those.
        """
        acts = [act for entry in self._read_entries()[0].values() for act in entry.acts]
        with contextlib.suppress(CheckpointError):
            acts.extend(self._shelf.uses())
        return tuple(sorted(acts, key=lambda act: (act.number, act.when)))

    def acts_of(self, sha256: str) -> tuple[Act, ...]:
        """The part of `history` that is about one model."""
        return tuple(act for act in self.history() if act.sha256 == sha256)

    def lineage(self, sha256: str) -> tuple[Ancestor, ...]:
        """A model, its parent, its parent's parent and so on.

        The line ends with a model that was not fine-tuned, or with one that is missing.

        Raises
        ------
        InputError
            If there is no such model.
        """
        known = {record.sha256: record for record in self.entries()}
        if sha256 not in known:
            self.get(sha256)
        line: list[Ancestor] = []
        following: str | None = sha256
        while following and following not in {one.sha256 for one in line}:
            record = known.get(following)
            line.append(Ancestor(following, record))
            following = None if record is None or record.card is None else record.card.parent
        return tuple(line)

    def add(self, path: Path | str, state: str, by: str, note: str = "") -> ModelRecord:
        """Take a checkpoint in.

        One that is here already keeps its state; a lost file and a damaged entry are
        made good again, the damaged one being kept beside.

        Parameters
        ----------
        path : path
            A safetensors file with a card; it is copied.
        state : str
            Of a model that is new here, one of `shelf.STATES`.
        by : str
            Who does it.
        note : str
            Why, in words.

        Raises
        ------
        CheckpointError
            If it cannot be loaded or has no card.
        InputError
            If the state is unknown, or nobody is named.
        OutputError
            If the folder does not take it, or another process does not get done.
        """
        by, path = _person(by), Path(path)
        if state not in STATES:
            raise InputError(
                f"the state {state!r} is unknown", advice=f"Choose one of {', '.join(STATES)}"
            )
        # Before anything is made in the folder.
        card, sha256 = read_card(path), load_checkpoint(path).sha256
        with self._shelf.locked():
            place = self._place(sha256, path)
            try:
                entry = self._shelf.entry(sha256)
            except DamagedEntryError:
                aside = self._shelf.set_entry_aside(sha256)
                entry, said = None, f"the damaged entry before this one is {aside.name}"
                note = f"{note}; {said}" if note else said
            stamp = self._stamp(place)
            kept = state if entry is None else entry.state
            act = Act(self._number(), _now(), by, "added", sha256, kept, note)
            new = Entry(sha256, stamp, card, ()) if entry is None else replace(entry, stamp=stamp)
            self._shelf.put(new.with_act(act))
        return self.get(sha256)

    def decide(
        self,
        sha256: str,
        accepted: bool,
        by: str,
        reason: str = "",
        figures: Mapping[str, Any] | None = None,
    ) -> ModelRecord:
        """Accept or refuse a model; which one is in use stays as it is.

        Parameters
        ----------
        sha256 : str
            The model.
        accepted : bool
            False refuses it.
        by : str
            Who decides.
        reason : str
            In words.
        figures : Mapping, optional
            What the decision rests on (JSON values).

        Raises
        ------
        InputError
            If there is no such model, nobody is named, figures do not fit into JSON, or
            the model in use is to be refused.
        CheckpointError
            If its entry is damaged, or a model without a sound file is to be accepted.
        OutputError
            If the folder does not take it, or another process does not get done.
        """
        by = _person(by)
        with self._shelf.locked():
            record = self.get(sha256)
            if accepted:
                self._checked(record)
            else:
                _refuse_in_use(record, "refused")
            self._append(record, by, "accepted" if accepted else "refused", reason, figures)
        return self.get(sha256)

    def retire(self, sha256: str, by: str, reason: str = "") -> ModelRecord:
        """Put a model away; using it again brings it back.

        Raises
        ------
        InputError
            If there is no such model, nobody is named, or it is in use.
        CheckpointError
            If its entry is damaged.
        OutputError
            If the folder does not take it, or another process does not get done.
        """
        by = _person(by)
        with self._shelf.locked():
            record = self.get(sha256)
            _refuse_in_use(record, "retired")
            if record.state != "retired":
                self._append(record, by, "retired", reason)
        return self.get(sha256)

    def use(self, sha256: str, by: str, anyway: bool = False) -> ModelRecord:
        """Make a model the one in use; so one goes back to any earlier one.

        Parameters
        ----------
        sha256 : str
            The model.
        by : str
            Who chooses it.
        anyway : bool
            Also one that was refused.

        Raises
        ------
        InputError
            If there is no such model, nobody is named, or it was refused.
        CheckpointError
            If its file is missing or another one by now, or its entry is damaged.
        OutputError
            If the folder does not take it, or another process does not get done.
        """
        by = _person(by)
        with self._shelf.locked():
            record = self.get(sha256)
            self._checked(record)
            if record.state == "refused" and not anyway:
                refusal = record.decision or record.acts[-1]
                why = f": {refusal.note}" if refusal.note else ""
                raise InputError(
                    f"{record.label} was refused by {refusal.by} on {refusal.when[:10]}{why}",
                    advice="Choose another one, or say that you want it anyway",
                )
            note = ""
            try:
                uses = self._shelf.uses()
            except DamagedEntryError:
                aside = self._shelf.set_uses_aside()
                uses, note = (), f"the damaged list of earlier uses is {aside.name}"
            if record.state == "retired":
                self._append(record, by, "restored")
            elif not record.acts:
                self._append(record, by, "added")
            used = Act(self._number(), _now(), by, "used", sha256, note=note)
            self._shelf.put_uses((*uses, used))
        return self.get(sha256)

    def _place(self, sha256: str, path: Path) -> Path:
        """Where a checkpoint lies in the registry; it is copied unless it is there."""
        for file, found in self._files(self._read_entries()[0]).items():
            # The whole file: what an entry says of it may no longer hold.
            with contextlib.suppress(OSError):
                if found == sha256 and sha256_of(file) == sha256:
                    return file
        place = install_checkpoint(path, self.folder).path
        if sha256_of(place) != sha256:
            raise CheckpointError(
                "the checkpoint changed while it was read", advice="Try again", path=path
            )
        return place

    def _append(
        self,
        record: ModelRecord,
        by: str,
        what: str,
        note: str = "",
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        """Put an act into a model's entry, which is made where there is none."""
        entry = self._shelf.entry(record.sha256)
        number = self._number()
        if entry is None:
            if record.path is None:
                self._checked(record)
                return
            card, stamp = read_card(record.path), self._stamp(record.path)
            said = "came with the program" if record.built_in else "found in the folder"
            found = Act(number, _now(), by, "added", record.sha256, "candidate", said)
            entry, number = Entry(record.sha256, stamp, card, (found,)), number + 1
        if what != "added":
            state = what
            if what == "restored":
                earlier = [a.state for a in entry.acts if a.state not in (None, "retired")]
                state = earlier[-1] or "candidate" if earlier else "candidate"
            act = Act(number, _now(), by, what, record.sha256, state, note, dict(figures or {}))
            entry = entry.with_act(act)
        self._shelf.put(entry)

    def _number(self) -> int:
        return 1 + max((act.number for act in self.history()), default=0)


def _refuse_in_use(record: ModelRecord, what: str) -> None:
    if record.in_use:
        raise InputError(
            f"{record.label} is in use and cannot be {what}",
            advice="Choose another model first: napari-hspnet models use",
        )


def _person(by: str) -> str:
    by = by.strip()
    if not by:
        raise InputError(
            "nobody is named", advice="Say who does it: the registry keeps the name (--by)"
        )
    return by


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
