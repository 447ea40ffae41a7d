"""Review regions: what is to be looked at, by whom it was, and what is signed off."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.database import CaseDatabase
from napari_hspnet.cases.journal import (
    REGIONS,
    Entry,
    Journal,
    PackedTile,
    damaged_entry,
    pack_tile,
)
from napari_hspnet.cases.packing import stored_tile
from napari_hspnet.cases.schema import REGION_TABLE
from napari_hspnet.cases.selection import PackedMasks, Place, Selection, chunk_box
from napari_hspnet.cases.store import CHUNK
from napari_hspnet.errors import CaseError, InputError, RegionLockedError
from napari_hspnet.slides.region import PixelBox

__all__ = [
    "IN_PROGRESS",
    "KINDS",
    "REVIEWED",
    "SIGNED_OFF",
    "STATES",
    "TAGS",
    "TO_DO",
    "Comment",
    "Review",
    "ReviewRegion",
    "project",
]

Mask = npt.NDArray[np.bool_]

TO_DO, IN_PROGRESS, REVIEWED, SIGNED_OFF = "to do", "in progress", "reviewed", "signed off"
STATES = (TO_DO, IN_PROGRESS, REVIEWED, SIGNED_OFF)
"""In the order of the work."""

TAGS = ("uncertain", "invasion", "AIS", "metaplasia", "artefact", "other")
"""Apart from the grade; a tagged region stays out of training unless asked for."""

KINDS = ("drawn", "component", "tile")
"""An outline that was drawn, a connected part of the overlay, a tile of a grid."""

COLUMNS = "id, kind, pixels, y0, x0, y1, x1, state, state_reader, state_time, tag, comments"


@dataclass(frozen=True)
class Comment:
    """Something said about a region."""

    reader: str
    time: str
    text: str


@dataclass(frozen=True)
class ReviewRegion:
    """A place on the slide that is reviewed as one.

    Its pixels are fixed when it is made, whatever the overlay becomes there.

    Attributes
    ----------
    id : int
        Its number in the case.
    kind : str
        One of `KINDS`.
    pixels : int
        Label pixels.
    box : PixelBox
        That holds it.
    state : str
        One of `STATES`.
    state_reader, state_time : str
        Who put it into that state, and when (UTC, ISO 8601).
    tag : str
        One of `TAGS`, or empty.
    comments : tuple of Comment
        Oldest first.
    """

    id: int
    kind: str
    pixels: int
    box: PixelBox
    state: str
    state_reader: str
    state_time: str
    tag: str = ""
    comments: tuple[Comment, ...] = ()

    @property
    def locked(self) -> bool:
        """Whether its pixels cannot be corrected."""
        return self.state == SIGNED_OFF


class Review:
    """The review regions of one case; safe from any thread.

    Parameters
    ----------
    database : CaseDatabase
        The case's.
    journal : Journal
        Likewise; every change is an entry.
    """

    def __init__(self, database: CaseDatabase, journal: Journal) -> None:
        self._database, self._journal = database, journal
        self._shape = database.grid.shape

    @property
    def regions(self) -> tuple[ReviewRegion, ...]:
        """All regions, in the order in which they were made."""
        if not self._journal.there:
            return ()
        rows = self._database.query(f"SELECT {COLUMNS} FROM region ORDER BY id")
        return tuple(as_region(row) for row in rows)

    def region(self, region_id: int) -> ReviewRegion:
        """One region.

        Raises
        ------
        InputError
            If there is none of that number.
        """
        rows = []
        if self._journal.there:
            rows = self._database.query(f"SELECT {COLUMNS} FROM region WHERE id = ?", (region_id,))
        if not rows:
            raise InputError(
                f"The case has no region {region_id}", advice="List its regions to see which it has"
            )
        return as_region(rows[0])

    def selection(self, region_id: int) -> Selection:
        """The pixels of a region.

        Raises
        ------
        InputError
            If there is none of that number.
        """
        return selection_of(self._journal, self._shape, *self._entered(region_id))

    def tiles(self, region_id: int) -> tuple[PackedTile, ...]:
        """The same as the journal keeps them, to be entered as a single region.

        Raises
        ------
        InputError
            If there is none of that number.
        """
        tiles = self._journal.tiles(*self._entered(region_id))
        return tuple(replace(tile, part=0) for tile in tiles)

    def _entered(self, region_id: int) -> tuple[int, int]:
        """The entry that added a region, and which part of it that is."""
        self.region(region_id)
        rows = self._database.query("SELECT entry, part FROM region WHERE id = ?", (region_id,))
        return rows[0][0], rows[0][1]

    def locks(self, row: int, col: int) -> list[tuple[int, Mask]]:
        """Regions signed off that meet a chunk of level 0, with their pixels there."""
        if not self._journal.there:
            return []
        rows = self._database.query(
            "SELECT r.id, t.y, t.x, t.height, t.width, t.before, t.after FROM tile t "
            "JOIN region r ON r.entry = t.entry AND r.part = t.part "
            "WHERE t.row = ? AND t.col = ? AND r.state = ?",
            (row, col, SIGNED_OFF),
        )
        tiles = [(found[0], stored_tile(self._shape, (row, col), found[1:])) for found in rows]
        return [(region, _mask(tile, self._shape)) for region, tile in tiles]

    def at(self, y: int, x: int) -> tuple[int, ...]:
        """Numbers of the regions that hold a label pixel, the smallest region first."""
        if not self._journal.there:
            return ()
        rows = self._database.query(
            "SELECT id FROM region WHERE y0 <= ? AND y1 > ? AND x0 <= ? AND x1 > ? ORDER BY pixels",
            (y, y, x, x),
        )
        box = PixelBox(y, x, y + 1, x + 1)
        return tuple(row[0] for row in rows if self.selection(row[0]).read(box)[0, 0])

    def locked_error(self, region_ids: Iterable[int]) -> RegionLockedError:
        """Which regions stand in the way, and whose they are."""
        regions = [self.region(i) for i in sorted(region_ids)]
        names = ", ".join(f"{r.id} (by {r.state_reader})" for r in regions[:3])
        more = f" and {len(regions) - 3} more" if len(regions) > 3 else ""
        plural = "s" if len(regions) > 1 else ""
        return RegionLockedError(
            f"Region{plural} {names}{more} {'are' if plural else 'is'} signed off",
            advice="Unlock it first (section Review)",
        )

    def add(
        self,
        selections: Sequence[Selection],
        kind: str,
        reader: str,
        comments: Sequence[str] = (),
    ) -> tuple[ReviewRegion, ...]:
        """Enter regions to be reviewed, as one act.

        Parameters
        ----------
        selections : sequence of Selection
            Their pixels.
        kind : str
            One of `KINDS`.
        reader : str
            Who adds them.
        comments : sequence of str, optional
            What is said of each to begin with.

        Raises
        ------
        InputError
            An unknown kind, no pixels, or a reader without a name.
        OutputError
            Disk full or gone; nothing has changed.
        """
        _one_of(kind, KINDS, "kind of region")
        if not selections or not all(selection.pixels for selection in selections):
            raise InputError("A region holds no pixel", advice="Choose or draw a larger one")
        with self._database.transaction() as db:
            highest = db.execute("SELECT coalesce(max(id), 0) FROM region").fetchone()[0]
            # Numbers are not given twice, also where the last region was removed.
            first = max(highest, self._highest_ever()) + 1
            said, tiles = [], []
            for part, selection in enumerate(selections):
                box = selection.box
                said.append(
                    {
                        "id": first + part,
                        "pixels": selection.pixels,
                        "box": [box.y0, box.x0, box.y1, box.x1],
                    }
                )
                tiles += [_tile(place, mask, part) for place, mask in selection.masks.items()]
            self._enter({"do": "add", "kind": kind, "regions": said}, reader, tiles)
            for region, text in zip(said, comments, strict=bool(comments)):
                self.comment(region["id"], text, reader)
        return tuple(self.region(r["id"]) for r in said)

    def set_state(self, region_ids: Sequence[int], state: str, reader: str) -> None:
        """Put regions into a state; signing off locks them, any other state unlocks.

        Raises
        ------
        InputError
            An unknown state or region, or a reader without a name.
        OutputError
            Disk full or gone; nothing has changed.
        """
        _one_of(state, STATES, "state")
        self._change(region_ids, {"do": "state", "state": state}, reader)

    def set_tag(self, region_ids: Sequence[int], tag: str, reader: str) -> None:
        """Tag regions; an empty tag takes it away.

        Raises
        ------
        As for `set_state`, and RegionLockedError where one is signed off.
        """
        _one_of(tag, ("", *TAGS), "tag")
        self._refuse_locked(region_ids)
        self._change(region_ids, {"do": "tag", "tag": tag}, reader)

    def comment(self, region_id: int, text: str, reader: str) -> None:
        """Say something about a region.

        Raises
        ------
        As for `set_state`.
        """
        text = text.strip()
        if not text:
            raise InputError("The comment is empty", advice="Write something")
        self._change([region_id], {"do": "comment", "text": text}, reader)

    def remove(self, region_ids: Sequence[int], reader: str) -> None:
        """Take regions off the list; what was corrected in them stays.

        Raises
        ------
        As for `set_tag`.
        """
        self._refuse_locked(region_ids)
        self._change(region_ids, {"do": "remove"}, reader)

    def differs_from_journal(self) -> bool:
        """Whether the table of regions is not what the journal's entries add up to."""
        scratch = sqlite3.connect(":memory:")
        try:
            self._replay(scratch)
            wanted = scratch.execute("SELECT * FROM region ORDER BY id").fetchall()
        finally:
            scratch.close()
        return wanted != self._database.query("SELECT * FROM region ORDER BY id")

    def rebuild(self) -> None:
        """Make the table of regions anew from the journal.

        Raises
        ------
        CaseError
            If the journal is damaged; nothing has changed.
        """
        with self._database.transaction() as db:
            db.execute("DROP TABLE IF EXISTS region")
            self._replay(db)

    def _replay(self, db: sqlite3.Connection) -> None:
        db.execute(REGION_TABLE)
        for entry in self._journal.entries():
            if entry.kind == REGIONS:
                project(db, entry)

    def _change(self, region_ids: Sequence[int], said: dict[str, Any], reader: str) -> None:
        regions = [self.region(i) for i in dict.fromkeys(region_ids)]
        if regions:
            self._enter({**said, "regions": [r.id for r in regions]}, reader)

    def _enter(self, body: dict[str, Any], reader: str, tiles: Sequence[PackedTile] = ()) -> None:
        self._journal.append(REGIONS, reader, body, tiles, also=project)

    def _refuse_locked(self, region_ids: Sequence[int]) -> None:
        locked = [i for i in region_ids if self.region(i).locked]
        if locked:
            raise self.locked_error(locked)

    def _highest_ever(self) -> int:
        rows = self._database.query(
            'SELECT body FROM entry WHERE kind = ? AND body LIKE \'%"do":"add"%\' '
            "ORDER BY seq DESC LIMIT 1",
            (REGIONS,),
        )
        return max((r["id"] for r in json.loads(rows[0][0])["regions"]), default=0) if rows else 0


def selection_of(journal: Journal, shape: tuple[int, int], entry: int, part: int) -> Selection:
    """The pixels of the region that was added as a part of an entry."""
    masks = PackedMasks(shape)
    for tile in journal.tiles(entry, part):
        y, x = tile.row * CHUNK + tile.y, tile.col * CHUNK + tile.x
        box = PixelBox(y, x, y + tile.height, x + tile.width)
        masks.pack((tile.row, tile.col), box, tile.values() != 0)
    return Selection(shape, masks)


def project(db: sqlite3.Connection, entry: Entry) -> None:
    """Bring the table of regions up to an entry.

    Raises
    ------
    CaseError
        If the entry is damaged.
    """
    try:
        _project(db, entry)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise damaged_entry(entry.seq, f"{type(error).__name__}: {error}") from error


def not_listed(
    found: Sequence[Selection], kind: str, regions: Iterable[ReviewRegion]
) -> tuple[Selection, ...]:
    """Those of which there is no region of the same kind, box and size yet."""
    known = {(region.box, region.pixels) for region in regions if region.kind == kind}
    return tuple(each for each in found if (each.box, each.pixels) not in known)


def _project(db: sqlite3.Connection, entry: Entry) -> None:
    body = entry.body
    # A rescued case says again what others had said before.
    reader, time = body.get("said_by", (entry.reader, entry.time))
    if body["do"] == "add":
        db.executemany(
            "INSERT INTO region (id, entry, part, kind, pixels, y0, x0, y1, x1, state, "
            "state_reader, state_time) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    *(r["id"], entry.seq, part, body["kind"], r["pixels"], *r["box"]),
                    *(TO_DO, reader, time),
                )
                for part, r in enumerate(body["regions"])
            ],
        )
        return
    for region_id in body["regions"]:
        if body["do"] == "state":
            db.execute(
                "UPDATE region SET state = ?, state_reader = ?, state_time = ? WHERE id = ?",
                (body["state"], reader, time, region_id),
            )
        elif body["do"] == "tag":
            db.execute("UPDATE region SET tag = ? WHERE id = ?", (body["tag"], region_id))
        elif body["do"] == "comment":
            row = db.execute("SELECT comments FROM region WHERE id = ?", (region_id,)).fetchone()
            said = [*json.loads(row[0]), [reader, time, body["text"]]]
            db.execute(
                "UPDATE region SET comments = ? WHERE id = ?",
                (json.dumps(said, ensure_ascii=False), region_id),
            )
        elif body["do"] == "remove":
            db.execute("DELETE FROM region WHERE id = ?", (region_id,))


def as_region(row: Sequence[Any]) -> ReviewRegion:
    """From the values of `COLUMNS`."""
    number, kind, pixels, y0, x0, y1, x1, state, reader, time, tag, comments = row
    try:
        said = tuple(Comment(*comment) for comment in json.loads(comments))
    except (TypeError, ValueError) as error:
        raise CaseError(
            f"Review region {number} is damaged ({error})",
            advice="`napari-hspnet case verify --repair` makes it anew from the journal",
        ) from error
    box = PixelBox(y0, x0, y1, x1)
    return ReviewRegion(number, kind, pixels, box, state, reader, time, tag, said)


def _tile(place: Place, mask: Mask, part: int) -> PackedTile:
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    y0, y1, x0, x1 = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
    return pack_tile(*place, y0, x0, None, mask[y0:y1, x0:x1].astype(np.uint8), part)


def _mask(tile: PackedTile, shape: tuple[int, int]) -> Mask:
    box = chunk_box((tile.row, tile.col), shape)
    mask = np.zeros((box.height, box.width), bool)
    mask[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = tile.values() != 0
    return mask


def _one_of(value: str, known: Sequence[str], what: str) -> None:
    if value not in known:
        shown = ", ".join(repr(k) if k == "" else k for k in known)
        raise InputError(f"There is no {what} {value!r}", advice=f"Choose among {shown}")
