"""The journal: every act one entry, each bound to the one before by its hash."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from napari_hspnet.cases.audit import Damage, audit
from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.packing import (
    FIRST,
    PackedTile,
    canonical,
    entry_hash,
    pack_tile,
    stored_tile,
    tiles_hash,
)
from napari_hspnet.cases.readers import Reading
from napari_hspnet.errors import CaseError, InputError

__all__ = [
    "BEGIN",
    "EDIT",
    "REDO",
    "REGIONS",
    "RUNS",
    "SLIDE",
    "UNDO",
    "Damage",
    "Entry",
    "Journal",
    "PackedTile",
    "damaged_entry",
    "moment",
    "pack_tile",
]

BEGIN, EDIT, UNDO, REDO = "begin", "edit", "undo", "redo"
RUNS, REGIONS, SLIDE = "runs", "regions", "slide"

_COLUMNS = "seq, time, reader, kind, body, tiles, previous, hash"
_BY_READERS = {EDIT, UNDO, REDO, REGIONS, SLIDE}
_READING = {EDIT, UNDO, REDO, REGIONS}


@dataclass(frozen=True)
class Entry:
    """One act.

    Attributes
    ----------
    seq : int
        Its number, from 1, without gaps.
    time : str
        UTC, ISO 8601; never before that of the entry before. Where the clock said
        something else, `body` has it under "clock".
    reader : str
        Who did it; empty for what the program did by itself.
    kind : str
        "begin", "edit", "undo", "redo", "runs", "regions" or "slide".
    body : Mapping
        What was done, as plain JSON values.
    tiles : str
        Hash over its tiles.
    previous, hash : str
        SHA-256 of the entry before, and of this one.
    """

    seq: int
    time: str
    reader: str
    kind: str
    body: Mapping[str, Any]
    tiles: str
    previous: str
    hash: str

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """(y0, x0, y1, x1) of what it concerns, in label pixels."""
        box = self.body.get("box")
        return None if box is None else (box[0], box[1], box[2], box[3])


@dataclass
class _Head:
    """The journal's end."""

    seq: int = 0
    hash: str = FIRST
    time: str = ""


def moment() -> str:
    """Now, UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass
class Journal:
    """The entries of one case. Appending is durable when it returns.

    Parameters
    ----------
    database : CaseDatabase
        The case's.
    clock : callable () -> str
        Gives the time as `moment` does.
    """

    database: CaseDatabase
    clock: Callable[[], str] = moment
    _head: _Head | None = field(default=None, init=False)
    _reading: tuple[Reading | None] | None = field(default=None, init=False)

    @property
    def there(self) -> bool:
        """Whether the case has one; a read-only case of an old format has not."""
        return self.database.format >= 2

    def append(
        self,
        kind: str,
        reader: str,
        body: Mapping[str, Any],
        tiles: Sequence[PackedTile] = (),
        also: Callable[[sqlite3.Connection, Entry], None] | None = None,
    ) -> Entry:
        """Add an entry.

        Parameters
        ----------
        kind, reader, body : str, str, Mapping
            As in `Entry`.
        tiles : sequence of PackedTile
            What it changed, where that is pixels.
        also : callable (connection, Entry), optional
            Changes other tables in the same transaction.

        Raises
        ------
        InputError
            A reader's act without a name, or in the second reading of another.
        CaseError
            The case is read-only.
        OutputError
            Disk full or not writable; nothing has changed.
        """
        reader = " ".join(reader.encode("utf-8", "replace").decode().split())
        if kind in _BY_READERS and not reader:
            raise InputError(
                "Nobody is named as reader", advice="Say who corrects (--reader, or section Slide)"
            )
        self.database.require_writable()
        if kind in _READING and self.reading is not None:
            self.reading.refuse_other(reader)
        ordered = sorted(tiles, key=lambda t: (t.part, t.row, t.col))
        # Held beyond the commit: another thread's entry must not come between it
        # and the new head.
        with self.database.held() as nested:
            entry = self._appended(kind, reader, body, ordered, also)
            # What an outer transaction may yet take back is no head.
            self._head = None if nested else _Head(entry.seq, entry.hash, entry.time)
        return entry

    def _appended(
        self,
        kind: str,
        reader: str,
        body: Mapping[str, Any],
        ordered: Sequence[PackedTile],
        also: Callable[[sqlite3.Connection, Entry], None] | None,
    ) -> Entry:
        with self.database.transaction() as db:
            head = self._read_head()
            now = self.clock()
            said = dict(body)
            if now < head.time:
                said["clock"] = now
                now = head.time
            text, digest = canonical(said), tiles_hash(ordered)
            seq = head.seq + 1
            own = entry_hash(head.hash, seq, now, reader, kind, text, digest)
            entry = Entry(seq, now, reader, kind, json.loads(text), digest, head.hash, own)
            db.execute(
                "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (seq, now, reader, kind, text, digest, head.hash, own),
            )
            db.executemany(
                "INSERT INTO tile VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (seq, t.part, t.row, t.col, t.y, t.x, t.height, t.width, t.before, t.after)
                    for t in ordered
                ],
            )
            # Only the commit makes it the head.
            self._head = None
            if also is not None:
                also(db, entry)
        return entry

    def _read_head(self) -> _Head:
        head = self._head
        if head is not None:
            return head
        with self.database.held() as nested:
            rows = self.database.query(
                "SELECT seq, hash, time FROM entry ORDER BY seq DESC LIMIT 1"
            )
            head = _Head(*rows[0]) if rows else _Head()
            if not self.database.read_only and not nested:
                self._head = head
        return head

    @property
    def last(self) -> int:
        """Number of the last entry; 0 where there is none."""
        return self._read_head().seq if self.there else 0

    @property
    def reading(self) -> Reading | None:
        """What makes the case a second reading; None where it is none, or damaged there."""
        if self._reading is None:
            try:
                if not self.last:
                    return None
                said = self.entry(1).body.get("reading")
                of = {} if said is None else said["of"]
                self._reading = (
                    None
                    if said is None
                    else Reading(said["reader"], bool(said["model"]), of["entry"], of["hash"]),
                )
            except (CaseError, KeyError, TypeError):
                return None
        return self._reading[0]

    def entries(self, after: int = 0, until: int | None = None) -> Iterator[Entry]:
        """Entries in order, those with ``after < seq <= until``."""
        if not self.there:
            return
        rows = self.database.query(
            f"SELECT {_COLUMNS} FROM entry WHERE seq > ? AND seq <= ? ORDER BY seq",
            (after, self.last if until is None else until),
        )
        for row in rows:
            yield _entry(row)

    def entry(self, seq: int) -> Entry:
        """One entry.

        Raises
        ------
        CaseError
            If there is none of that number.
        """
        rows = self.database.query(f"SELECT {_COLUMNS} FROM entry WHERE seq = ?", (seq,))
        if not rows:
            raise CaseError(
                f"The journal has no entry {seq}", advice=f"It has entries 1 to {self.last}"
            )
        return _entry(rows[0])

    def at(self, time: str) -> int:
        """Number of the last entry up to a time (ISO 8601); 0 where there is none.

        Raises
        ------
        InputError
            If it is no time.
        """
        try:
            wanted = datetime.fromisoformat(time)
            if wanted.tzinfo is None:
                wanted = wanted.astimezone()
            limit = wanted.astimezone(UTC).isoformat(timespec="milliseconds")
        except (ValueError, OverflowError, OSError) as error:
            raise InputError(
                f"{time!r} is no time", advice="Give one such as 2026-11-25T14:30:00+01:00"
            ) from error
        if not self.there:
            return 0
        rows = self.database.query("SELECT max(seq) FROM entry WHERE time <= ?", (limit,))
        return int(rows[0][0] or 0)

    def tiles(self, seq: int, part: int = 0) -> Iterator[PackedTile]:
        """What an entry changed, chunk by chunk."""
        rows = self.database.query(
            "SELECT row, col FROM tile WHERE entry = ? AND part = ? ORDER BY row, col", (seq, part)
        )
        for row, col in rows:
            found = self.tile(seq, row, col, part)
            if found is not None:
                yield found

    def tile(self, seq: int, row: int, col: int, part: int = 0) -> PackedTile | None:
        """What an entry changed in one chunk; None where it did not."""
        rows = self.database.query(
            "SELECT y, x, height, width, before, after FROM tile "
            "WHERE entry = ? AND part = ? AND row = ? AND col = ?",
            (seq, part, row, col),
        )
        if not rows:
            return None
        return stored_tile(self.database.grid.shape, (row, col), rows[0], part)

    def tile_count(self, seqs: Iterable[int]) -> int:
        """How many chunks some edits changed, each counted for each of them."""
        sql = "SELECT count(*) FROM tile WHERE entry = ? AND part = 0"
        return sum(int(self.database.query(sql, (seq,))[0][0]) for seq in seqs)

    def touching(self, row: int, col: int) -> list[int]:
        """Numbers of the edits that changed a chunk, in order."""
        if not self.there:
            return []
        rows = self.database.query(
            "SELECT t.entry FROM tile t JOIN entry e ON e.seq = t.entry "
            "WHERE t.row = ? AND t.col = ? AND e.kind = ? ORDER BY t.entry",
            (row, col, EDIT),
        )
        return [row[0] for row in rows]

    def chunks(self) -> list[tuple[int, int]]:
        """(row, column) of all chunks that an edit ever changed."""
        if not self.there:
            return []
        return [
            (row, col)
            for row, col in self.database.query(
                "SELECT DISTINCT t.row, t.col FROM tile t JOIN entry e ON e.seq = t.entry "
                "WHERE e.kind = ?",
                (EDIT,),
            )
        ]

    @property
    def seen(self) -> int:
        """The last entry that the stored corrections are known to hold."""
        rows = self.database.query("SELECT seq FROM seen") if self.there else []
        # Where that is not known, all of it is replayed.
        return rows[0][0] if rows and isinstance(rows[0][0], int) else 0

    def set_seen(self, seq: int) -> None:
        """Say that the stored corrections hold all entries up to this one."""
        with self.database.transaction() as db:
            db.execute("DELETE FROM seen")
            db.execute("INSERT INTO seen VALUES (?)", (seq,))

    def verify(self) -> Iterator[Damage]:
        """What does not hold: unreadable, changed, missing or reordered entries."""
        return audit(self.database) if self.there else iter(())


def _entry(row: tuple[Any, ...]) -> Entry:
    seq, time, reader, kind, body, tiles, previous, own = row
    try:
        if not all(isinstance(text, str) for text in row[1:]):
            raise ValueError("it holds what is no text")
        said = json.loads(body)
        if not isinstance(said, dict):
            raise ValueError("it says nothing")
    except (ValueError, RecursionError) as error:
        raise damaged_entry(seq, str(error)) from error
    return Entry(seq, time, reader, kind, said, tiles, previous, own)


def damaged_entry(seq: int, how: str) -> CaseError:
    """What a damaged entry means to the user."""
    return CaseError(
        f"Entry {seq} of the journal is damaged ({how})",
        advice="`napari-hspnet case verify` says what else is",
    )
