"""The checks of a case, each for itself: what one meets does not stop the others."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.audit import audit
from napari_hspnet.cases.cache import ChunkCache
from napari_hspnet.cases.corrections import UNTOUCHED, Corrections, PastCorrections
from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.journal import EDIT, RUNS, Journal
from napari_hspnet.cases.record import FINISHED, RunInfo
from napari_hspnet.cases.review import Review
from napari_hspnet.cases.sampling import level_shape, sample
from napari_hspnet.cases.schema import DEFINITIONS, expected_definitions
from napari_hspnet.cases.store import CHUNK, ChunkStore, CorrectionStore, Key, RunStore
from napari_hspnet.classes import NOT_RUN
from napari_hspnet.errors import CancelledError, CaseError

__all__ = ["CORRECTION", "DATABASE", "RUN_FOLDERS", "Checks", "Finding"]

Array = npt.NDArray[np.uint8]

DATABASE, CORRECTION, RUN_FOLDERS = "case.sqlite", "correction.zarr", "runs"

_SHOWN_ENTRIES = 3


class Finding(NamedTuple):
    """Something that does not hold.

    Attributes
    ----------
    seq : int
        The journal's entry that it concerns; 0 where it is none.
    what : str
        What is wrong.
    where : str
        The file, seen from the case folder.
    """

    seq: int
    what: str
    where: str


@dataclass
class Checks:
    """One look over a case.

    Parameters
    ----------
    folder : Path
        The case's.
    database : CaseDatabase
        Open, unchecked.
    progress : callable (float) -> None
        Told the part that is done, 0 to 1.
    cancel : threading.Event
        Stops it.

    Attributes
    ----------
    findings : list of Finding
        What was met.
    entries, chunks : int
        How much was looked at.
    pages_hold, entries_hold : bool
        Whether SQLite's pages with the tables' definitions, and all that entries say
        apart from pixels, are sound.
    bad_tiles : set of int
        Entries whose pixels are damaged.
    review_differs : bool
        Whether the table of regions is not what the journal adds up to.
    active : tuple of str or None
        The active runs as the journal has them, where the database says otherwise.
    wrong : list of Key
        Chunks of the corrections to be written anew.
    broken_metadata : list of str
        Files of the corrections' metadata, likewise.
    """

    folder: Path
    database: CaseDatabase
    progress: Callable[[float], None]
    cancel: threading.Event
    findings: list[Finding] = field(default_factory=list)
    entries: int = 0
    chunks: int = 0
    pages_hold: bool = True
    entries_hold: bool = True
    bad_tiles: set[int] = field(default_factory=set)
    review_differs: bool = False
    active: tuple[str, ...] | None = None
    wrong: list[Key] = field(default_factory=list)
    broken_metadata: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.journal = Journal(self.database)
        self.store = CorrectionStore(self.folder / CORRECTION, self.database.grid)
        self._standing: frozenset[int] = frozenset()

    def run(self) -> None:
        """Look at everything.

        Raises
        ------
        CancelledError
            If cancelled.
        """
        with self._going_on(DATABASE):
            self._pages()
        with self._going_on(DATABASE):
            self._entries()
        with self._going_on(DATABASE):
            self._tables()
        self._report(0.4)
        with self._going_on(CORRECTION):
            self._corrections()
        self._report(0.7)
        with self._going_on(RUN_FOLDERS):
            self._runs()
        self._report(1.0)

    @contextmanager
    def _going_on(self, where: str) -> Iterator[None]:
        try:
            yield
        except CancelledError:
            raise
        except CaseError as error:
            self._find(error.what, where)
        # Any byte can have been hit, and whatever comes of it, the report goes on.
        except Exception as error:
            self._find(f"cannot be read ({type(error).__name__}: {error})", where)

    def _find(self, what: str, where: str, seq: int = 0) -> None:
        self.findings.append(Finding(seq, what, where))

    def _report(self, part: float) -> None:
        if self.cancel.is_set():
            raise CancelledError
        self.progress(part)

    def _pages(self) -> None:
        self.pages_hold = False
        # The full check, for it sees also rows that an index has lost.
        said = [str(row[0]) for row in self.database.query("PRAGMA integrity_check")]
        lines = [line for text in said for line in text.splitlines() if line.strip()]
        self.pages_hold = lines == ["ok"]
        for line in () if self.pages_hold else lines:
            if not line.startswith("***"):
                self._find(line.strip(), DATABASE)
        # A damaged definition can let tables be read and not be written.
        if self.journal.there and self.database.query(DEFINITIONS) != expected_definitions():
            self.pages_hold = False
            self._find("the tables are not defined as they should be", DATABASE)

    def _entries(self) -> None:
        self.entries_hold = False
        if self.journal.there:
            found = list(audit(self.database, lambda part: self._report(0.4 * part)))
            self.bad_tiles = {damage.seq for damage in found if damage.tiles}
            for damage in found:
                self._find(damage.what, DATABASE, damage.seq)
            self.entries = int(self.database.query("SELECT count(*) FROM entry")[0][0])
            self.entries_hold = all(damage.tiles for damage in found)

    def _tables(self) -> None:
        rows = self.database.query("SELECT fingerprint, name FROM slide")
        if not all(isinstance(value, str) for value in rows[0]):
            self._find("the table of the slide is damaged", DATABASE)
        if not self.journal.there:
            return
        if self.database.query("PRAGMA user_version")[0][0] != self.database.format:
            self._find("the format number is not that of its tables", DATABASE)
        if len(self.database.query("SELECT seq FROM seen")) != 1:
            self._find("how far the corrections were written is not known", DATABASE)
        self.review_differs = Review(self.database, self.journal).differs_from_journal()
        if self.review_differs:
            self._find("the review regions are not what the journal adds up to", DATABASE)
        said: tuple[str, ...] = ()
        for entry in self.journal.entries():
            if entry.kind == RUNS:
                said = tuple(run["id"] for run in entry.body["active"])
        if said != self.database.active():
            self.active = said
            self._find("the active runs are not those that the journal names last", DATABASE)

    def _corrections(self) -> None:
        if not self.journal.there:
            return
        if not self.store.exists:
            if any(entry.kind == EDIT for entry in self.journal.entries(until=self.journal.seen)):
                self._find("is gone; opening the case makes it anew from the journal", CORRECTION)
            return
        self._metadata()
        for _ in range(3):
            last, before = self.journal.last, len(self.findings)
            self._compare(last)
            # Where another window has gone on meanwhile, what was met may be its work.
            if len(self.findings) == before or self.journal.last == last:
                return
            del self.findings[before:]

    def _metadata(self) -> None:
        for name in ("zarr.json", "class/zarr.json", *self._arrays()):
            try:
                text = (self.store.folder / name).read_bytes()
                if json.loads(text)["zarr_format"] != 3:
                    raise ValueError("of another format")
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._find(f"cannot be read ({error})", f"{CORRECTION}/{name}")
                self.broken_metadata.append(name)

    def _arrays(self) -> Iterable[str]:
        return (f"class/{level}/zarr.json" for level in range(self.store.levels))

    def _compare(self, last: int) -> None:
        """Every chunk of the corrections with what the journal gives."""
        self.wrong.clear()
        past = PastCorrections(self.journal, self.store, last)
        self._standing = past.standing
        now = Corrections(self.store, self.journal, ChunkCache(), read_only=True)
        coarse: dict[Key, Array] = {}
        untold: set[Key] = set()
        places = sorted({*self.journal.chunks(), *self.store.chunks()})
        for number, place in enumerate(places):
            self._report(0.4 + 0.25 * number / len(places))
            key = ("class", 0, *place)
            try:
                base = past.chunk(key)
            except CaseError as error:
                self._find(f"cannot be told from the journal ({error.what})", self._name(key))
                untold |= {self._above(key, level) for level in range(1, self.store.levels)}
                self._stored(key)
                continue
            if base is not None:
                self._sampled(base, place, coarse)
            self._one(key, base, now)
        for key in sorted({*coarse, *self._coarse_stored()} - untold):
            self._report(0.65)
            self._one(key, coarse.get(key), now)

    def _one(self, key: Key, wanted: Array | None, now: Corrections) -> None:
        self.chunks += 1
        if not self._stored(key):
            self.wrong.append(key)
            return
        shown = now.chunk(key)
        whole = np.full(self.store.extent(key), UNTOUCHED, np.uint8)
        differing = (whole if shown is None else shown) != (whole if wanted is None else wanted)
        count = int(np.count_nonzero(differing))
        if count:
            self.wrong.append(key)
            self._find(
                f"{count:,} pixels are not what the journal gives{self._writers(key)}",
                self._name(key),
            )

    def _stored(self, key: Key) -> bool:
        try:
            self.store.read(key)
        except CaseError as error:
            self._find(f"{error.what}{self._writers(key)}", self._name(key))
            return False
        return True

    def _writers(self, key: Key) -> str:
        """The last standing entries that wrote a chunk."""
        found: set[int] = set()
        for place in self.journal.chunks():
            if self._above(("class", 0, *place), key[1]) == key:
                found |= self._standing & set(self.journal.touching(*place))
        if not found:
            return "; no entry that stands wrote there"
        shown = sorted(found)[-_SHOWN_ENTRIES:]
        names = ", ".join(map(str, shown))
        return f"; written last by entr{'ies' if len(shown) > 1 else 'y'} {names}"

    @staticmethod
    def _above(key: Key, level: int) -> Key:
        return ("class", level, key[2] >> level, key[3] >> level)

    def _sampled(self, base: Array, place: tuple[int, int], coarse: dict[Key, Array]) -> None:
        for level in range(1, self.store.levels):
            y, x, part = sample(base, place[0] * CHUNK, place[1] * CHUNK, self.store.shape, level)
            if part.size == 0 or (part == UNTOUCHED).all():
                continue
            key = ("class", level, y // CHUNK, x // CHUNK)
            if key not in coarse:
                coarse[key] = np.full(self.store.extent(key), UNTOUCHED, np.uint8)
            y, x = y % CHUNK, x % CHUNK
            coarse[key][y : y + part.shape[0], x : x + part.shape[1]] = part

    def _coarse_stored(self) -> Iterator[Key]:
        for level in range(1, self.store.levels):
            for row, column in self.store.chunks(level):
                yield ("class", level, row, column)

    def _name(self, key: Key) -> str:
        return f"{CORRECTION}/{key[0]}/{key[1]}/c/{key[2]}/{key[3]}"

    def _runs(self) -> None:
        numbers = [row[0] for row in self.database.query("SELECT id FROM run ORDER BY id")]
        for number, run_id in enumerate(numbers):
            with self._going_on(f"{RUN_FOLDERS}/{run_id}"):
                self._run(self.database.run(run_id), 0.7 + 0.3 * number / len(numbers))

    def _run(self, run: RunInfo, part: float) -> None:
        if run.state != FINISHED:
            return
        where = f"{RUN_FOLDERS}/{run.id}"
        store = RunStore(self.folder / where, self.database.grid)
        if not store.folder.is_dir():
            self._find("the folder of a finished run is gone; segment that region again", where)
            return
        counts, whole = np.zeros(256, np.int64), True
        for key in _keys(store):
            self._report(part)
            self.chunks += 1
            try:
                chunk = store.read(key)
            except CaseError as error:
                self._find(error.what, f"{where}/{key[0]}/{key[1]}/c/{key[2]}/{key[3]}")
                whole = whole and key[:2] != ("class", 0)
                continue
            if chunk is not None and key[:2] == ("class", 0):
                counts += np.bincount(chunk.ravel(), minlength=256)
        found = {int(v): int(counts[v]) for v in np.flatnonzero(counts) if v != NOT_RUN}
        if whole and found != dict(run.pixels):
            self._find(
                f"its class map is not the one that was finished: {_pixels(found)} now, "
                f"{_pixels(run.pixels)} then",
                where,
            )


def _pixels(counts: Mapping[int, int]) -> str:
    named = ", ".join(f"{n:,} of {value}" for value, n in sorted(counts.items()))
    return f"pixels {named}" if named else "no pixel"


def _keys(store: ChunkStore) -> Iterator[Key]:
    """All chunks that could be there; reading an absent one costs next to nothing."""
    for name in store.maps:
        for level in range(store.levels):
            height, width = level_shape(store.shape, level)
            for row in range(-(-height // CHUNK)):
                for column in range(-(-width // CHUNK)):
                    yield (name, level, row, column)
