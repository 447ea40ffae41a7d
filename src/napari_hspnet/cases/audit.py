"""Checking the journal entry by entry, whatever bytes of it were hit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.packing import FIRST, PackedTile, entry_hash, tiles_hash
from napari_hspnet.errors import CaseError

__all__ = ["Damage", "audit"]

# MemoryError: a damaged length can ask SQLite for any amount.
_UNREADABLE = (CaseError, MemoryError, TypeError, ValueError)

_SMALLEST_ENTRY = 200
"""Bytes: three hashes of 64 digits and a time."""


@dataclass(frozen=True)
class Damage:
    """Something about the journal that does not hold.

    Attributes
    ----------
    seq : int
        The entry, 0 where it concerns none.
    what : str
        What is wrong.
    tiles : bool
        Whether it concerns the entry's pixels alone, and not what else it says.
    """

    seq: int
    what: str
    tiles: bool = False


def audit(
    database: CaseDatabase, progress: Callable[[float], None] | None = None
) -> Iterator[Damage]:
    """What does not hold: unreadable, changed, missing or reordered entries.

    Parameters
    ----------
    database : CaseDatabase
        The case's.
    progress : callable (float) -> None, optional
        Told the part that is done, 0 to 1.

    Yields
    ------
    Damage
        In the order of the entries; those in a row that cannot be read as one.
    """
    last, lost_end = _last(database)
    gap: tuple[int, str] | None = None
    previous, time = FIRST, ""
    for seq in range(1, last + 1):
        if progress is not None and seq % 16 == 0:
            progress(seq / last)
        try:
            row = _row(database, seq)
            why = "is missing" if row is None else ""
        except _UNREADABLE as error:
            row, why = None, f"cannot be read ({_said(error)})"
        if gap is not None and gap[1] != why:
            yield _gap(*gap, seq - 1)
            gap = None
        if row is None:
            gap = gap or (seq, why)
            previous, time = "", ""
            continue
        if previous and row[5] != previous:
            yield Damage(seq, "does not follow from the entry before it")
        if row[0] < time:
            yield Damage(seq, "is dated before the entry before it")
        yield from _own(database, seq, row)
        previous, time = row[6], row[0]
    if gap is not None:
        yield _gap(*gap, last)
    if lost_end:
        yield Damage(0, f"{lost_end}; entries after {last} may be lost")
    yield from _orphans(database, last)


def _gap(first: int, why: str, last: int) -> Damage:
    return Damage(first, why if first == last else f"{why}, like all up to entry {last}")


def _row(database: CaseDatabase, seq: int) -> tuple[str, ...] | None:
    """Time, reader, kind, body, tiles, previous, hash of an entry; all are texts."""
    rows = database.query(
        "SELECT time, reader, kind, body, tiles, previous, hash FROM entry WHERE seq = ?", (seq,)
    )
    if not rows:
        return None
    row: tuple[str, ...] = rows[0]
    if not all(isinstance(value, str) for value in row):
        raise ValueError("it holds what is no text")
    return row


def _own(database: CaseDatabase, seq: int, row: tuple[str, ...]) -> Iterator[Damage]:
    time, reader, kind, body, tiles, previous, own = row
    try:
        if not isinstance(json.loads(body), dict):
            raise ValueError("it says nothing")
    except (ValueError, RecursionError) as error:
        yield Damage(seq, f"its text is damaged ({error})")
    try:
        if tiles_hash(_tiles(database, seq)) != tiles:
            yield Damage(seq, "its tiles are not those that were entered", tiles=True)
    except _UNREADABLE as error:
        yield Damage(seq, f"its tiles cannot be read ({_said(error)})", tiles=True)
    if entry_hash(previous, seq, time, reader, kind, body, tiles) != own:
        yield Damage(seq, "is not as it was entered")


def _tiles(database: CaseDatabase, seq: int) -> Iterator[PackedTile]:
    for row in database.query(
        "SELECT row, col, y, x, height, width, before, after, part FROM tile "
        "WHERE entry = ? ORDER BY part, row, col",
        (seq,),
    ):
        yield PackedTile(*row)


def _last(database: CaseDatabase) -> tuple[int, str]:
    """The last entry that there must have been; what stands in the way of knowing it."""
    # A damaged number must not have millions of entries looked for.
    most = database.size() // _SMALLEST_ENTRY + 1
    ends, trouble = [0], ""
    for where in ("max(seq) FROM entry", "max(entry) FROM tile", "max(seq) FROM seen"):
        try:
            end = database.query(f"SELECT {where}")[0][0] or 0
            if not (isinstance(end, int) and 0 <= end <= most):
                raise ValueError(f"{end!r} is no number of an entry")
            ends.append(end)
        except _UNREADABLE as error:
            trouble = trouble or f"the journal's end cannot be found ({_said(error)})"
    if trouble:
        ends.append(next((seq for seq in range(most, 0, -1) if _there(database, seq)), 0))
    return max(ends), trouble


def _there(database: CaseDatabase, seq: int) -> bool:
    try:
        return bool(database.query("SELECT 1 FROM entry WHERE seq = ?", (seq,)))
    except _UNREADABLE:
        return False


def _orphans(database: CaseDatabase, last: int) -> Iterator[Damage]:
    try:
        rows: list[Any] = database.query(
            "SELECT DISTINCT entry FROM tile WHERE entry < 1 OR entry > ?", (last,)
        )
    except _UNREADABLE as error:
        yield Damage(0, f"the tiles cannot be listed ({_said(error)})")
        return
    if rows:
        yield Damage(0, f"there are tiles of {len(rows)} entries that do not exist")


def _said(error: BaseException) -> str:
    return error.what if isinstance(error, CaseError) else str(error) or type(error).__name__
