"""Masks and outlines into the case: what a file says, on the label grid."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import SlideFacts
from napari_hspnet.classes import BACKGROUND, CIN1, CIN2, CIN3, NORMAL
from napari_hspnet.errors import InputError
from napari_hspnet.exchange.geojson import Origin
from napari_hspnet.exchange.output import Cancel, Report, stop_if, stretch
from napari_hspnet.exchange.png import checked_mpp
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.region import PixelBox

__all__ = [
    "LEFT",
    "REST",
    "Closing",
    "FoundName",
    "Incoming",
    "guess_grade",
    "ignored_name",
    "open_incoming",
    "other_slide_note",
]

Array = npt.NDArray[np.uint8]

LEFT = 255
"""As a grade: what has this name stays as it is. As a value: nothing is said there."""
REST = 252
"""Value where a file says nothing of its own: outside all outlines, or a mask's 0."""

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHERS = {
    b"\xff\xd8\xff": "a JPEG, which changes the values of a mask",
    b"\x1f\x8b": "packed (gzip)",
    b"PK\x03\x04": "packed (zip)",
}
_ADVICE = "Choose outlines as GeoJSON, or a mask as PNG or TIFF"
_PIECE = 8 << 20

_GRADES = {
    "normal": NORMAL,
    "none of the four": BACKGROUND,
    "cin1": CIN1,
    "cini": CIN1,
    "cin2": CIN2,
    "cinii": CIN2,
    "cin3": CIN3,
    "ciniii": CIN3,
    "lsil": CIN1,
}
_TWO_TIER = {"lsil": (CIN1,), "hsil": (CIN2, CIN3)}


@dataclass(frozen=True)
class FoundName:
    """What a file calls a part of what it holds.

    Attributes
    ----------
    key : str
        The class's name in a GeoJSON ("CIN 2", empty for unclassified outlines),
        or the value in a mask ("7").
    count : int
        Outlines, or pixels of the mask.
    grade : int or None
        What it is taken for: 0 to 4, or 255 where it is left out. None where that
        is unknown and has to be asked.
    """

    key: str
    count: int
    grade: int | None


class Incoming(Protocol):
    """A file with masks or outlines, open; close it, or use it in a ``with`` statement."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def kind(self) -> str:
        """ "geojson", "png" or "tiff"."""

    @property
    def sha256(self) -> str:
        """Of the file."""

    @property
    def names(self) -> tuple[FoundName, ...]:
        """What occurs in it; the rest (a mask's 0, what no outline covers) is no name."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, in sentences."""

    @property
    def rest_is_none(self) -> bool:
        """Whether its rest is a statement, "none of the four", as in our own masks."""

    @property
    def box(self) -> PixelBox:
        """The label pixels where it can say anything."""

    @property
    def said(self) -> Mapping[str, object]:
        """How it was laid onto the slide, plain JSON values for the journal."""

    def read(self, y: int, x: int, height: int, width: int, grades: Mapping[str, int]) -> Array:
        """What it says in a box of label pixels.

        Parameters
        ----------
        y, x, height, width : int
            The box; may reach beyond the grid.
        grades : Mapping of str to int
            For the key of each of `names` 0 to 4, or `LEFT`.

        Returns
        -------
        ndarray of uint8, (height, width)
            0 to 4; `REST` where it has its rest; `LEFT` where it says nothing at all.
        """

    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Closing(AbstractContextManager[Any]):
    """Closed at the end of a ``with`` statement."""

    def close(self) -> None:
        """Let go of the file."""

    def __exit__(self, *error: object) -> None:
        self.close()


def open_incoming(
    path: Path,
    slide: SlideFacts,
    grid: LabelGrid,
    *,
    origin: Origin | None = None,
    mpp: float | None = None,
    at: tuple[float, float] | None = None,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Incoming:
    """Open a file to be imported onto a slide; its content says what it is, not its name.

    Parameters
    ----------
    path : Path
        GeoJSON, PNG or TIFF.
    slide : SlideFacts
        The slide.
    grid : LabelGrid
        Its label grid.
    origin : {"bounds", "level0"}, optional
        For outlines, which point is (0, 0); without, as the file says, else the
        corner of the scanned area, as QuPath has it.
    mpp : float, optional
        For masks, µm per pixel, whatever the file says.
    at : tuple of float, optional
        For masks, (y, x) in µm of the first pixel's corner; the slide's without.
    progress, cancel
        Called with the part done; stops the reading.

    Raises
    ------
    InputError
        It cannot be read, is of another kind, or cannot lie on this slide.
    CancelledError
        If `cancel` was set.
    """
    path = Path(path).absolute()
    if mpp is not None:
        checked_mpp(mpp)
    if at is not None and not all(map(math.isfinite, at)):
        raise InputError("The place of the mask is no point", advice="Give two numbers in µm")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
        mask = head.startswith(_PNG) or head[:4] in _TIFFS
        if not mask and not _looks_like_json(head):
            raise _other_kind(path, head)
        sha256 = _sha256(path, stretch(progress, 0, 0.2), cancel)
    except OSError as error:
        raise InputError(
            f"The file cannot be read ({error.strerror or error})",
            advice="Check its name and that you may read it",
            path=path,
        ) from error
    rest = stretch(progress, 0.2, 1)
    if not mask:
        if mpp is not None or at is not None:
            raise InputError(
                "Outlines are in pixels of the slide: they take no µm per pixel and no place",
                advice="Leave both out",
                path=path,
            )
        from napari_hspnet.exchange.incoming_outlines import open_outlines

        return open_outlines(path, sha256, slide, grid, origin, rest, cancel)
    if origin is not None:
        raise InputError(
            "An origin is for outlines; a mask lies where its first pixel is said to be",
            advice="Leave the origin out",
            path=path,
        )
    from napari_hspnet.exchange.incoming_mask import open_mask

    kind = "png" if head.startswith(_PNG) else "tiff"
    return open_mask(path, kind, sha256, slide, grid, mpp, at, rest, cancel)


def guess_grade(name: str) -> int | None:
    """The grade that a class's name stands for; None where it is not certain.

    "CIN1", "cin 1", "CIN-I", "CIN grade 1", "normal" and "none of the four" are
    certain, and LSIL, which LAST equates with CIN1; also both together, as in
    "LSIL (CIN1)" or "HSIL/CIN3". HSIL alone is CIN2 or CIN3, NILM is a cytological
    report, "CIN2/3" is two grades: these are asked. QuPath ignores classes whose
    names end in an asterisk ("Ignore*", "Region*"), and so do we.

    Returns
    -------
    int or None
        0 to 4, or `LEFT`.
    """
    if ignored_name(name):
        return LEFT
    words = " ".join(re.sub(r"[_.\-]+", " ", name.casefold()).split())
    if words in _GRADES:
        return _GRADES[words]
    parts = [part for part in re.split(r"[/(),;:]| = ", words) if part.strip()]
    found = [_one_grade(part) for part in parts]
    if len(parts) == 1:
        return found[0]
    if len(parts) == 2:
        for tier, grade in ((parts[0], found[1]), (parts[1], found[0])):
            if grade in _TWO_TIER.get(tier.strip(), ()):
                return grade
    return None


def ignored_name(name: str) -> bool:
    """Whether QuPath ignores what is of this class: what lies inside stays as it is."""
    return name.strip().endswith("*")


def other_slide_note(sha256: object, slide: SlideFacts) -> list[str]:
    """What to say where a file of ours was made for another slide."""
    if not isinstance(sha256, str) or not sha256 or sha256 == slide.fingerprint:
        return []
    return [
        f"The file was made for another slide ({sha256[:12]}…), not for {slide.name} "
        f"({slide.fingerprint[:12]}…)"
    ]


def _one_grade(words: str) -> int | None:
    return _GRADES.get(re.sub(r"^cin (grade )?", "cin", words.strip()))


def _looks_like_json(head: bytes) -> bool:
    return head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")


def _other_kind(path: Path, head: bytes) -> InputError:
    if not head:
        return InputError("The file is empty", advice=_ADVICE, path=path)
    what = next((said for start, said in _OTHERS.items() if head.startswith(start)), None)
    if what is not None and what.startswith("packed"):
        return InputError(f"The file is {what}", advice="Unpack it first", path=path)
    if what is not None:
        return InputError(f"The file is {what}", advice=_ADVICE, path=path)
    return InputError("The file is neither GeoJSON nor PNG nor TIFF", advice=_ADVICE, path=path)


def _sha256(path: Path, progress: Report | None, cancel: Cancel | None) -> str:
    found = hashlib.sha256()
    size, done = max(1, path.stat().st_size), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            stop_if(cancel)
            found.update(piece)
            done += len(piece)
            if progress is not None:
                progress(done / size)
    return found.hexdigest()
