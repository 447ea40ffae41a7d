"""What can be undone and redone, and which edits stand: told by the journal alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from napari_hspnet.cases.journal import EDIT, REDO, UNDO, Entry

__all__ = ["History"]

Act = tuple[int, ...]
"""Numbers of the entries that are undone together: one stroke can have several."""


@dataclass
class History:
    """Acts that stand, and acts that were undone; the latest last.

    `final` are entries that cannot be undone.

    Undo goes back act by act over the whole case, so an act that stands was
    written on exactly what the standing acts before it left.
    """

    done: list[Act] = field(default_factory=list)
    undone: list[Act] = field(default_factory=list)
    final: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> History:
        """After these entries, from the journal's first."""
        history = cls()
        for entry in entries:
            history.take(entry)
        return history

    def take(self, entry: Entry) -> None:
        """Go on by one entry."""
        if entry.kind == EDIT and entry.body.get("final"):
            # What a rescue found is where undoing ends.
            self.final.append(entry.seq)
        elif entry.kind == EDIT:
            if entry.body.get("continues") and self.done and not self.undone:
                self.done[-1] += (entry.seq,)
            else:
                self.done.append((entry.seq,))
            self.undone.clear()
        elif entry.kind == UNDO and self.done:
            self.undone.append(self.done.pop())
        elif entry.kind == REDO and self.undone:
            self.done.append(self.undone.pop())

    def standing(self) -> frozenset[int]:
        """Numbers of all edits that stand."""
        return frozenset(self.final).union(*self.done)
