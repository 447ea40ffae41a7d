"""Readers by name, and what binds a case to one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_hspnet.errors import InputError

__all__ = ["Reading", "reader_name", "same_reader"]


@dataclass(frozen=True)
class Reading:
    """What makes a case a second reading.

    Attributes
    ----------
    reader : str
        Who alone corrects and reviews there.
    model : bool
        Whether it began with what the model said.
    entry, hash : int, str
        The last entry of the first case's journal when it was made; 0 and empty
        where that had none.
    """

    reader: str
    model: bool
    entry: int
    hash: str

    def body(self) -> dict[str, Any]:
        """As the journal's first entry says it."""
        of = {"entry": self.entry, "hash": self.hash}
        return {"reader": self.reader, "model": self.model, "of": of}

    def refuse_other(self, reader: str) -> None:
        """Raise where somebody else acts.

        Raises
        ------
        InputError
            If so.
        """
        if not same_reader(reader, self.reader):
            raise InputError(
                f"This is the second reading of {self.reader}, and {reader} is named as reader",
                advice=f"Only {self.reader} corrects and reviews here; go to your own reading",
            )


def reader_name(reader: str) -> str:
    """A reader's name without needless spaces.

    Raises
    ------
    InputError
        If there is none.
    """
    name = " ".join(reader.split())
    if not name:
        raise InputError("Nobody is named as reader", advice="Say who it is, as in --reader NAME")
    return name


def same_reader(one: str, other: str) -> bool:
    """Whether two names are the same but for spaces and capitals."""
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
