"""The files of the registry of models: one entry a model, who uses what, and a lock.

An entry is one JSON file of its own beside the models, named by the model's SHA-256: a
damaged one takes no other with it, and one that is renamed away takes no weights. Which
model is in use is one more file of the same kind, so that each act is one write: a crash
leaves all of it or nothing. Every file carries a checksum, is written beside its place
and moved there, and is changed by one process at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from napari_hspnet.errors import CheckpointError, InputError, OutputError
from napari_hspnet.networks.card import ModelCard
from napari_hspnet.networks.checkpoint import write_atomically

__all__ = ["ACTS", "STATES", "Act", "DamagedEntryError", "Entry", "Shelf", "Stamp"]

FORMAT = 1
STATES = ("candidate", "accepted", "refused", "retired")
ACTS = ("added", "accepted", "refused", "retired", "restored", "used")
_ENTRY = ".model.json"
_USES = "in-use.json"
_LOCK = "registry.lock"
_HASH = re.compile(r"[0-9a-f]{64}")
# Windows locks bytes against reading too.
_LOCKED_BYTE = 1 << 30
_PAUSE = 0.02


class DamagedEntryError(CheckpointError):
    """A file of the registry is not as it was written; other models are not concerned."""


@dataclass(frozen=True)
class Act:
    """Something that was done with a model.

    Attributes
    ----------
    number : int
        Grows from act to act over the whole registry, whatever the clock says.
    when : str
        UTC, ISO 8601.
    by : str
        Who did it.
    what : str
        One of `ACTS`.
    sha256 : str
        The model.
    state : str or None
        What the model was from then on, one of `STATES`; None for "used".
    note : str
        Why, in words.
    figures : Mapping
        What the decision rests on (JSON values).
    """

    number: int
    when: str
    by: str
    what: str
    sha256: str
    state: str | None = None
    note: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stamp:
    """A file as it was when its SHA-256 was taken.

    Attributes
    ----------
    name : str
        Of the file in the registry's folder; "" for a file of the package.
    size : int
        Bytes.
    mtime_ns : int
        When it was last changed.
    """

    name: str
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, name: str) -> Stamp:
        """The stamp of a file now; raises `OSError`."""
        found = path.stat()
        return cls(name, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class Entry:
    """What the registry keeps of one model.

    Attributes
    ----------
    sha256 : str
        Of its file.
    stamp : Stamp
        Of its file when it was last seen to be sound.
    card : ModelCard
        A copy, so that a model whose file is lost can still be told.
    acts : tuple of Act
        All but uses, the first one first.
    """

    sha256: str
    stamp: Stamp
    card: ModelCard
    acts: tuple[Act, ...]

    @property
    def state(self) -> str:
        """One of `STATES`."""
        return self.acts[-1].state or STATES[0]

    def with_act(self, act: Act) -> Entry:
        """The entry with one more act."""
        return replace(self, acts=(*self.acts, act))


class Shelf:
    """The registry's files in a folder; knows nothing of what they mean.

    Parameters
    ----------
    folder : Path
        Made when something is first written.
    patience : float
        Seconds to wait for another process that is writing.
    """

    def __init__(self, folder: Path, patience: float = 10.0) -> None:
        self.folder = folder
        self._patience = patience

    def names(self) -> list[str]:
        """Hashes of all models that have an entry, damaged ones too, sorted.

        Raises
        ------
        CheckpointError
            If the folder cannot be read.
        """
        return sorted(
            name.removesuffix(_ENTRY)
            for name in self._listed()
            if name.endswith(_ENTRY) and _HASH.fullmatch(name.removesuffix(_ENTRY))
        )

    def files(self) -> list[Path]:
        """The checkpoints in the folder, sorted by name.

        Raises
        ------
        CheckpointError
            If the folder cannot be read.
        """
        listed = sorted(n for n in self._listed() if n.endswith(".safetensors"))
        return [self.folder / n for n in listed if not n.startswith(".")]

    def _listed(self) -> list[str]:
        try:
            return [path.name for path in self.folder.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise CheckpointError(
                f"the folder of models cannot be read ({error.strerror or error})",
                advice="Check the folder, or make it anew",
                path=self.folder,
            ) from error

    def entry(self, sha256: str) -> Entry | None:
        """The entry of a model, if it has one.

        Raises
        ------
        DamagedEntryError
            If the entry is damaged.
        CheckpointError
            If a later version wrote it.
        """
        path = self._entry_path(sha256)
        body = _read(path)
        if body is None:
            return None
        with _damage(path):
            stamp, card = body["file"], body["card"]
            acts = tuple(_act(one) for one in body["acts"])
            if body["sha256"] != sha256 or not acts or acts[-1].state not in STATES:
                raise ValueError("its parts contradict each other")
            text = json.dumps(card)
            try:
                return Entry(sha256, Stamp(**stamp), ModelCard.from_json(text), acts)
            except InputError as error:
                # The checksum held: a later version wrote it, nothing damaged it.
                raise CheckpointError(error.what, advice=error.advice, path=path) from error

    def put(self, entry: Entry) -> None:
        """Write an entry; only while `locked`.

        Raises
        ------
        InputError
            If figures hold what JSON cannot.
        OutputError
            If the folder does not take it.
        """
        body = {
            "sha256": entry.sha256,
            "file": asdict(entry.stamp),
            "card": json.loads(entry.card.to_json()),
            "acts": [_plain(act) for act in entry.acts],
        }
        _write(self._entry_path(entry.sha256), body)

    def uses(self) -> tuple[Act, ...]:
        """Every use of a model, the one that holds now last.

        Raises
        ------
        DamagedEntryError
            If the file is damaged.
        CheckpointError
            If a later version wrote it.
        """
        path = self.folder / _USES
        body = _read(path)
        if body is None:
            return ()
        with _damage(path):
            return tuple(_act(one) for one in body["uses"])

    def put_uses(self, uses: tuple[Act, ...]) -> None:
        """Write who uses what; only while `locked`.

        Raises
        ------
        OutputError
            If the folder does not take it.
        """
        _write(self.folder / _USES, {"uses": [_plain(act) for act in uses]})

    def set_entry_aside(self, sha256: str) -> Path:
        """Move a damaged entry away and say where it lies now; only while `locked`."""
        return _set_aside(self._entry_path(sha256))

    def set_uses_aside(self) -> Path:
        """Move the damaged file of uses away and say where it lies; only while `locked`."""
        return _set_aside(self.folder / _USES)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one that writes; the operating system frees it in a crash.

        Raises
        ------
        OutputError
            If the folder cannot be written to, or another process does not get done.
        """
        path = self.folder / _LOCK
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OutputError(
                f"the folder of models cannot be written to ({error.strerror or error})",
                advice="Make it writable, or set XDG_DATA_HOME to a folder that is",
                path=self.folder,
            ) from error
        try:
            end = time.monotonic() + self._patience
            while not _take(handle):
                if time.monotonic() > end:
                    raise OutputError(
                        "another process is changing the registry of models",
                        advice="Wait until it is done, then try again",
                        path=path,
                    )
                time.sleep(_PAUSE)
            yield
        finally:
            os.close(handle)

    def _entry_path(self, sha256: str) -> Path:
        return self.folder / f"{sha256}{_ENTRY}"


def _take(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            # flock, not lockf: it also tells two threads of one process apart.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _plain(act: Act) -> dict[str, Any]:
    # asdict would go into the figures, and fail at what JSON is to refuse.
    return {**act.__dict__, "figures": dict(act.figures)}


def _act(values: Mapping[str, Any]) -> Act:
    act = Act(**values)
    texts = (act.when, act.by, act.sha256, act.note)
    if act.what not in ACTS or not all(isinstance(one, str) for one in texts):
        raise ValueError("an act in it cannot be right")
    if not isinstance(act.number, int) or not isinstance(act.figures, Mapping):
        raise ValueError("an act in it cannot be right")
    return act


def _text(body: Mapping[str, Any]) -> str:
    return json.dumps(body, allow_nan=False, ensure_ascii=False, sort_keys=True)


def _write(path: Path, body: Mapping[str, Any]) -> None:
    try:
        checksum = hashlib.sha256(_text(body).encode()).hexdigest()
        whole = {"format": FORMAT, "checksum": checksum, **body}
        text = json.dumps(whole, allow_nan=False, ensure_ascii=False, indent=1)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the figures do not fit into JSON ({error})",
            advice="Keep to texts, finite numbers, lists and mappings",
        ) from error
    write_atomically(path, text.encode())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _damaged(f"it cannot be read ({error.strerror or error})", path) from error
    with _damage(path):
        whole = json.loads(data)
        version, checksum = whole.pop("format"), whole.pop("checksum")
        if version != FORMAT:
            raise CheckpointError(
                f"the registry's file is of format {version!r}, this program reads {FORMAT}",
                advice="Update napari-hspnet",
                path=path,
            )
        if hashlib.sha256(_text(whole).encode()).hexdigest() != checksum:
            raise ValueError("its checksum does not hold")
        body: dict[str, Any] = whole
        return body


def _damaged(why: str, path: Path) -> DamagedEntryError:
    if path.name == _USES:
        what, advice = "the note of which model is in use", "Choose one: napari-hspnet models use"
    else:
        what = "the model's entry in the registry"
        advice = "Import its file again: napari-hspnet models import"
    return DamagedEntryError(f"{what} is damaged: {why}", advice=advice, path=path)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else "it is not whole"
        raise _damaged(why, path) from error


def _set_aside(path: Path) -> Path:
    number = 1
    while (target := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        path.replace(target)
    except OSError as error:
        raise OutputError(
            f"a damaged file cannot be moved aside ({error.strerror or error})",
            advice="Make the folder writable, or move the file away yourself",
            path=path,
        ) from error
    return target
