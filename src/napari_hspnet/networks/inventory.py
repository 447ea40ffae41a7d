"""Which models lie in a folder, and what its registry knows of each."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from napari_hspnet.errors import CheckpointError, InputError
from napari_hspnet.networks.card import ModelCard
from napari_hspnet.networks.checkpoint import load_checkpoint, read_card
from napari_hspnet.networks.shelf import Act, Entry, Shelf, Stamp

__all__ = ["Ancestor", "Inventory", "ModelRecord", "sha256_of"]

_SHORT = 8
_SHORTEST = 4


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex; raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class ModelRecord:
    """What is known of a model.

    Attributes
    ----------
    sha256 : str
        Of its file; "" for a file that cannot be read at all.
    name : str
        The card's name, the file's where there is no card.
    path : Path or None
        The file; None if it is missing or no longer the one that was registered.
    card : ModelCard or None
        None if neither file nor entry can be read.
    state : str or None
        "candidate" (also: nobody judged it here), "accepted", "refused" or "retired";
        None if its entry is damaged.
    acts : tuple of Act
        What was done with it but using it, the first act first; empty for a file that
        was only put into the folder.
    in_use : bool
        Whether it is the model in use.
    problem : str or None
        Why it cannot be used or trusted, a sentence with advice.
    built_in : bool
        The demo model of the package.
    """

    sha256: str
    name: str
    path: Path | None
    card: ModelCard | None
    state: str | None
    acts: tuple[Act, ...] = ()
    in_use: bool = False
    problem: str | None = None
    built_in: bool = False

    @property
    def short(self) -> str:
        """The first digits of its hash, as in lists."""
        return self.sha256[:_SHORT]

    @property
    def label(self) -> str:
        """Name and short hash, as errors name it."""
        return f"{self.name} ({self.short})"

    @property
    def decision(self) -> Act | None:
        """The last time that it was accepted or refused."""
        judged = [act for act in self.acts if act.what in ("accepted", "refused")]
        return judged[-1] if judged else None


@dataclass(frozen=True)
class Ancestor:
    """A model in the line that another comes from.

    Attributes
    ----------
    sha256 : str
        As the younger model's card names it.
    record : ModelRecord or None
        None if it is not on this machine.
    """

    sha256: str
    record: ModelRecord | None


class Inventory:
    """What is there; changes nothing.

    Parameters
    ----------
    folder : Path
        Where the models are; it need not exist.
    built_in : Path, optional
        The model that the package carries.
    patience : float
        Seconds that those who write wait for another process.
    """

    def __init__(self, folder: Path, built_in: Path | None = None, patience: float = 10.0) -> None:
        self.folder = folder
        self._built_in = built_in
        self._shelf = Shelf(folder, patience)
        # Of large files, for as long as size and time of change stay.
        self._hashes: dict[tuple[Path, int, int], str] = {}

    def entries(self) -> tuple[ModelRecord, ...]:
        """All models: the demo model, then by name and hash.

        A file whose size and time of change are those of its entry is taken to be
        unchanged; `check`, `use` and every export compare the whole hash.

        Raises
        ------
        CheckpointError
            If the folder cannot be read.
        """
        entries, problems = self._read_entries()
        files = self._files(entries)
        # The first of several copies of a file stands for all.
        places = {sha256: path for path, sha256 in reversed(files.items()) if sha256}
        records = [self._registered(entry, places.get(sha)) for sha, entry in entries.items()]
        records += [_unclear(sha, places.get(sha), why) for sha, why in problems.items()]
        told = {record.sha256 for record in records}
        # A file that changed under its entry is no new model.
        changed = {entries[r.sha256].stamp.name for r in records if r.path is None and r.card}
        for path, sha256 in files.items():
            if sha256 in told or (path != self._built_in and path.name in changed):
                continue
            told |= {sha256} - {""}
            records.append(_unregistered(path, sha256))
        current = self._current()
        marked = [
            replace(
                record,
                in_use=record.sha256 != "" and record.sha256 == current,
                built_in=record.path is not None and record.path == self._built_in,
            )
            for record in records
        ]
        return tuple(sorted(marked, key=lambda r: (not r.built_in, r.name.casefold(), r.sha256)))

    def find(self, text: str) -> ModelRecord:
        """The model of this name or of a hash that begins so.

        Parameters
        ----------
        text : str
            The card's name, the file's name, or four or more digits of the hash.

        Raises
        ------
        InputError
            If there is none, or more than one.
        """
        text = text.strip()
        records = self.entries()
        found = [record for record in records if _is_called(record, text)]
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"{text!r} may be any of {', '.join(r.label for r in found)}",
                advice="Name it by its hash",
            )
        names = list(dict.fromkeys(r.name for r in records))
        near = difflib.get_close_matches(text, names, n=3) or names[:5]
        raise InputError(
            f"no model here is called {text!r}",
            advice=f"Choose one of {', '.join(near)}, or the first digits of a hash"
            if near
            else "Import one first: napari-hspnet models import",
        )

    def get(self, sha256: str) -> ModelRecord:
        """The model of a hash.

        Raises
        ------
        InputError
            If there is none.
        """
        for record in self.entries():
            if sha256 and record.sha256 == sha256:
                return record
        raise InputError(
            f"no model here has the hash {sha256[:16]}…",
            advice="Import it first: napari-hspnet models import",
        )

    def check(self, sha256: str) -> Path:
        """The file of a model, once its whole hash was compared.

        Raises
        ------
        InputError
            If there is no such model.
        CheckpointError
            If its file is missing, cannot be read, or is another one by now.
        """
        return self._checked(self.get(sha256))

    def _checked(self, record: ModelRecord) -> Path:
        entry = self._shelf.entry(record.sha256)
        if record.path is None:
            raise _gone(record.label, self.folder) if entry is None else self._lost(entry)
        if entry is None:
            found = load_checkpoint(record.path).sha256
        else:
            try:
                found = sha256_of(record.path)
            except OSError as error:
                raise CheckpointError(
                    f"the file of {record.label} cannot be read ({error.strerror or error})",
                    advice="Choose another model, or make the file readable",
                    path=record.path,
                ) from error
        if found != record.sha256:
            raise _changed(record.label, record.sha256, found, record.path)
        return record.path

    def _registered(self, entry: Entry, path: Path | None) -> ModelRecord:
        problem = str(self._lost(entry)) if path is None else None
        name, acts = entry.card.name, entry.acts
        return ModelRecord(entry.sha256, name, path, entry.card, entry.state, acts, problem=problem)

    def _lost(self, entry: Entry) -> CheckpointError:
        """Why no file is the one of an entry."""
        label = f"{entry.card.name} ({entry.sha256[:_SHORT]})"
        path = self.folder / entry.stamp.name
        if entry.stamp.name and path.is_file():
            return _changed(label, entry.sha256, self._hash(path), path)
        return _gone(label, path)

    def _read_entries(self) -> tuple[dict[str, Entry], dict[str, CheckpointError]]:
        """Entries by hash, and what is wrong with those that cannot be read."""
        entries, problems = {}, {}
        for sha256 in self._shelf.names():
            try:
                entry = self._shelf.entry(sha256)
            except CheckpointError as error:
                problems[sha256] = error
            else:
                # It may be gone since it was listed.
                if entry is not None:
                    entries[sha256] = entry
        return entries, problems

    def _files(self, entries: Mapping[str, Entry]) -> dict[Path, str]:
        """Hash of every file, the built-in one first; "" where it cannot be read."""
        stamps = {entry.stamp: sha256 for sha256, entry in entries.items()}
        paths = self._shelf.files()
        if self._built_in is not None:
            paths.insert(0, self._built_in)
        found = {}
        for path in paths:
            # What goes while one looks is not there.
            with contextlib.suppress(FileNotFoundError):
                name = "" if path == self._built_in else path.name
                found[path] = stamps.get(Stamp.of(path, name)) or self._hash(path)
        return found

    def _hash(self, path: Path) -> str:
        try:
            stamp = Stamp.of(path, path.name)
            key = (path, stamp.size, stamp.mtime_ns)
            if key not in self._hashes:
                self._hashes[key] = sha256_of(path)
        except OSError:
            return ""
        return self._hashes[key]

    def _stamp(self, path: Path) -> Stamp:
        try:
            return Stamp.of(path, "" if path == self._built_in else path.name)
        except OSError as error:
            raise _gone(path.stem, path) from error

    def _current(self) -> str | None:
        with contextlib.suppress(CheckpointError):
            uses = self._shelf.uses()
            return uses[-1].sha256 if uses else None
        return None


def _unregistered(path: Path, sha256: str) -> ModelRecord:
    try:
        card = read_card(path)
    except CheckpointError as error:
        return ModelRecord(sha256, path.stem, path, None, "candidate", problem=str(error))
    return ModelRecord(sha256, card.name, path, card, "candidate")


def _unclear(sha256: str, path: Path | None, why: CheckpointError) -> ModelRecord:
    """A model whose entry cannot be read; its file may be sound."""
    record = ModelRecord(sha256, "not known", path, None, None, problem=str(why))
    if path is not None:
        with contextlib.suppress(CheckpointError):
            card = read_card(path)
            record = replace(record, name=card.name, card=card)
    return record


def _is_called(record: ModelRecord, text: str) -> bool:
    if len(text) >= _SHORTEST and record.sha256.startswith(text.lower()):
        return True
    names = {record.name} | ({record.path.name, record.path.stem} if record.path else set())
    return text in names


def _changed(label: str, sha256: str, found: str, path: Path) -> CheckpointError:
    return CheckpointError(
        f"the file of {label} is no longer the one that was registered: its SHA-256 is "
        f"{found[:16]}… instead of {sha256[:16]}…",
        advice="Get the right file and import it: napari-hspnet models import",
        path=path,
    )


def _gone(label: str, path: Path) -> CheckpointError:
    return CheckpointError(
        f"the file of {label} is missing",
        advice="Put it back, or import it: napari-hspnet models import",
        path=path,
    )
