"""What an import would change, before anything is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import UNTOUCHED, Case, Composite, EditResult, Patch
from napari_hspnet.cases.codec import decoded, encoded
from napari_hspnet.cases.sampling import level_count, level_shape, padded_shape, sample
from napari_hspnet.cases.selection import Place, around, chunk_box, chunks_of
from napari_hspnet.cases.store import CHUNK
from napari_hspnet.classes import BACKGROUND, CIN3, CLASS_BY_VALUE
from napari_hspnet.errors import InputError
from napari_hspnet.exchange.incoming import LEFT, REST, Incoming
from napari_hspnet.exchange.output import Cancel, Report, stop_if
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.lazy import LazyLabels
from napari_hspnet.slides.region import PixelBox

__all__ = ["ImportOptions", "ImportPlan", "PlannedLevel", "import_plan", "plan_import"]

Array = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

Locks = Callable[[int, int], Iterable[tuple[int, Mask]]]

_KEPT_FROM = 3


@dataclass(frozen=True)
class ImportOptions:
    """How a file is taken.

    Attributes
    ----------
    grades : Mapping of str to int
        By name, over what the file's own `FoundName.grade` says: 0 to 4, or 255 to
        leave out what has that name.
    rest : {"leave", "none"} or None
        What no outline covers, or a mask's 0: left as it is, or "none of the four";
        as the file means it without. Around outlines only where a grade is shown,
        for they do not say where there was something to look at.
    agreeing : {"leave", "accept"}
        What is shown so already: left as it is, or accepted, as a reader does.
    """

    grades: Mapping[str, int] = field(default_factory=dict)
    rest: Literal["leave", "none"] | None = None
    agreeing: Literal["leave", "accept"] = "leave"


class _Packed:
    """Values of chunks, each cropped to what changes and compressed."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._packed: dict[Place, tuple[PixelBox, bytes]] = {}

    def __len__(self) -> int:
        return len(self._packed)

    @property
    def box(self) -> PixelBox:
        boxes = [box for box, _ in self._packed.values()]
        return around(boxes) if boxes else PixelBox(0, 0, 0, 0)

    def pack(self, place: Place, own: PixelBox, values: Array) -> None:
        there = values != UNTOUCHED
        ys, xs = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
        y0, y1, x0, x1 = int(ys[0]), int(ys[-1]) + 1, int(xs[0]), int(xs[-1]) + 1
        box = PixelBox(own.y0 + y0, own.x0 + x0, own.y0 + y1, own.x0 + x1)
        self._packed[place] = box, encoded(values[y0:y1, x0:x1])

    def __iter__(self) -> Iterator[tuple[PixelBox, Array]]:
        for place in self._packed:
            yield self._unpacked(place)

    def _unpacked(self, place: Place) -> tuple[PixelBox, Array]:
        box, packed = self._packed[place]
        return box, np.frombuffer(decoded(packed), np.uint8).reshape(box.height, box.width)

    def read(self, box: PixelBox) -> Array:
        """A box of level 0, `UNTOUCHED` where nothing changes and beyond the grid."""
        out = np.full((box.height, box.width), UNTOUCHED, np.uint8)
        for place in chunks_of(box.intersect(PixelBox(0, 0, *self._shape))):
            if place not in self._packed:
                continue
            own, values = self._unpacked(place)
            part = own.intersect(box)
            out[part.y0 - box.y0 : part.y1 - box.y0, part.x0 - box.x0 : part.x1 - box.x0] = values[
                part.y0 - own.y0 : part.y1 - own.y0, part.x0 - own.x0 : part.x1 - own.x0
            ]
        return out


class ImportPlan:
    """What an import would change; made by `plan_import`.

    Attributes
    ----------
    grid : LabelGrid
        The case's label grid.
    pixels : int
        Label pixels that would be written.
    box : PixelBox
        The smallest box that holds them; of zero size where there is none.
    changes : Mapping of (int, int) to int
        Label pixels by (value shown, value that it becomes).
    locked : Mapping of int to int
        Label pixels that would have changed but are signed off, by region.
    warnings : tuple of str
        What the user should know, in sentences.
    said : Mapping
        What the journal will say of it, plain JSON values.
    """

    def __init__(
        self,
        grid: LabelGrid,
        packed: _Packed,
        coarse: Mapping[int, Array],
        changes: Mapping[tuple[int, int], int],
        locked: Mapping[int, int],
        warnings: tuple[str, ...],
        said: Mapping[str, Any],
    ) -> None:
        self.grid = grid
        self.pixels = sum(changes.values())
        self.box = packed.box
        self.changes, self.locked = dict(changes), dict(locked)
        self.warnings = warnings
        self.said = dict(said)
        self._packed, self._coarse = packed, coarse

    def __len__(self) -> int:
        """How many patches it has."""
        return len(self._packed)

    def patches(self) -> Iterator[Patch]:
        """The corrections, chunk by chunk."""
        for box, values in self._packed:
            yield Patch(box.y0, box.x0, values, values != UNTOUCHED)

    @property
    def levels(self) -> list[LazyLabels]:
        """What pixels would become, 255 where nothing changes; laid out as `Composite.levels`."""
        return [PlannedLevel(self, level) for level in range(level_count(self.grid.shape))]

    def read(self, y: int, x: int, height: int, width: int, level: int = 0) -> Array:
        """What the pixels of a box of a level would become, 255 where nothing changes.

        Parameters
        ----------
        y, x, height, width : int
            In that level's pixels; may reach beyond the grid.
        level : int
            0 is the label grid, each next one half of it, sampled at pixel centres.
        """
        out = np.full((height, width), UNTOUCHED, np.uint8)
        box = PixelBox(y, x, y + height, x + width)
        box = box.intersect(PixelBox(0, 0, *level_shape(self.grid.shape, level)))
        if box.height == 0 or box.width == 0:
            return out
        if level in self._coarse:
            part = self._coarse[level][box.y0 : box.y1, box.x0 : box.x1]
        else:
            rows, columns = self.grid.shape
            step = 1 << level
            base = PixelBox(
                box.y0 * step, box.x0 * step, min(box.y1 * step, rows), min(box.x1 * step, columns)
            )
            part = sample(self._packed.read(base), base.y0, base.x0, self.grid.shape, level)[2]
        out[box.y0 - y : box.y1 - y, box.x0 - x : box.x1 - x] = part
        return out


class PlannedLevel(LazyLabels):
    """One level of what would change, padded with 255 as a `CompositeLevel` is."""

    def __init__(self, plan: ImportPlan, level: int) -> None:
        super().__init__(padded_shape(plan.grid.shape, level))
        self._plan, self._level = plan, level

    def _read(self, y: int, x: int, height: int, width: int) -> Array:
        return self._plan.read(y, x, height, width, self._level)


def plan_import(
    incoming: Incoming,
    composite: Composite,
    options: ImportOptions | None = None,
    progress: Report | None = None,
    cancel: Cancel | None = None,
    locks: Locks | None = None,
) -> ImportPlan:
    """Find out what an import would change.

    Parameters
    ----------
    incoming : Incoming
        The open file.
    composite : Composite
        What is shown now.
    options : ImportOptions, optional
        How it is taken.
    progress, cancel
        Called with the part done; stops the work.
    locks : callable (row, col), optional
        Regions signed off that meet a chunk, with their pixels there (`Review.locks`):
        what lies in them stays.

    Raises
    ------
    InputError
        A name whose grade is not known, or an option that means nothing here.
    CancelledError
        If `cancel` was set.
    """
    options = ImportOptions() if options is None else options
    grades = _grades(incoming, options)
    rest = options.rest or ("none" if incoming.rest_is_none else "leave")
    shape = composite.grid.shape
    around_outlines = rest == "none" and incoming.kind == "geojson"
    area = PixelBox(0, 0, *shape) if around_outlines else incoming.box
    packed, changes, locked = _Packed(shape), Counter[tuple[int, int]](), Counter[int]()
    # From level 3 on all are a 48th of the slide together and may be held.
    coarse = {
        level: np.full(level_shape(shape, level), UNTOUCHED, np.uint8)
        for level in range(_KEPT_FROM, level_count(shape))
    }
    places = list(chunks_of(area))
    for number, place in enumerate(places, start=1):
        stop_if(cancel)
        own = chunk_box(place, shape)
        values = _becomes(incoming, composite, own, grades, rest, around_outlines)
        if values is not None:
            where = _differing(composite, own, values, options.agreeing)
            for region, mask in () if locks is None else locks(*place):
                held = int(np.count_nonzero(where & mask))
                if held:
                    locked[region] += held
                    where &= ~mask
            _count(composite, own, values, where, changes)
            if where.any():
                values[~where] = UNTOUCHED
                packed.pack(place, own, values)
                _into(coarse, place, values, shape)
        if progress is not None:
            progress(number / len(places))
    said = {
        "file": incoming.path.name,
        "sha256": incoming.sha256,
        "format": incoming.kind,
        **incoming.said,
        "grades": {name.key: grades[name.key] for name in incoming.names},
        "rest": rest,
        "agreeing": options.agreeing,
        # The log says of what was left alone, as for any other correction.
        **({"left_locked": sorted(locked)} if locked else {}),
    }
    return ImportPlan(composite.grid, packed, coarse, changes, locked, incoming.notes, said)


def import_plan(
    case: Case,
    plan: ImportPlan,
    reader: str,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> EditResult:
    """Write what was planned as corrections: one act, undone as one.

    Parameters
    ----------
    case : Case
        Open for writing.
    plan : ImportPlan
        Of its overlay.
    reader : str
        Who imports.
    progress, cancel
        As for `Editing.correct`.

    Raises
    ------
    As for `Editing.correct`; nothing has changed then.
    """
    return case.editing.correct(
        plan.patches(),
        reader,
        "import",
        plan.said,
        total=len(plan),
        progress=progress,
        cancel=cancel,
    )


def _grades(incoming: Incoming, options: ImportOptions) -> dict[str, int]:
    known = {name.key for name in incoming.names}
    for key, grade in options.grades.items():
        if key not in known:
            found = ", ".join(_shown(name.key) for name in incoming.names) or "no names"
            raise InputError(
                f"Nothing in the file is called {_shown(key)}",
                advice=f"It holds {found}",
                path=incoming.path,
            )
        if not (BACKGROUND <= grade <= CIN3 or grade == LEFT):
            raise InputError(
                f"The grade {grade} of {_shown(key)} is none",
                advice="Use 0 (none of the four) to 4 (CIN3), or 255 to leave it out",
            )
    taken = {n.key: options.grades.get(n.key, n.grade) for n in incoming.names}
    unknown = [_shown(key) for key, grade in taken.items() if grade is None]
    if unknown:
        raise InputError(
            f"It is not known which grade is meant by {', '.join(unknown)}",
            advice="Say for each: none, normal, CIN1, CIN2, CIN3, or leave",
            path=incoming.path,
        )
    return {key: grade for key, grade in taken.items() if grade is not None}


def _shown(key: str) -> str:
    return repr(key) if key else "unclassified outlines ('')"


def _becomes(
    incoming: Incoming,
    composite: Composite,
    own: PixelBox,
    grades: Mapping[str, int],
    rest: str,
    around_outlines: bool,
) -> Array | None:
    """What the file says of a chunk, `UNTOUCHED` where nothing; None where nothing at all."""
    values = incoming.read(own.y0, own.x0, own.height, own.width, grades)
    others = values == REST
    if others.any():
        becomes = UNTOUCHED if rest == "leave" else BACKGROUND
        if around_outlines:
            shown = composite.read(own.y0, own.x0, own.height, own.width)
            graded = (shown >= min(CLASS_BY_VALUE)) & (shown <= max(CLASS_BY_VALUE))
            values[others & ~graded] = UNTOUCHED
            others &= graded
        values[others] = becomes
    return values if (values != UNTOUCHED).any() else None


def _differing(composite: Composite, own: PixelBox, values: Array, agreeing: str) -> Mask:
    """Where that is to be written."""
    box = own.y0, own.x0, own.height, own.width
    # Accepting is a reader's word on a pixel, also where it is the prediction's.
    now = composite.read(*box, what="classes" if agreeing == "leave" else "correction")
    return np.asarray((values != UNTOUCHED) & (values != now))


def _count(
    composite: Composite,
    own: PixelBox,
    values: Array,
    where: Mask,
    changes: Counter[tuple[int, int]],
) -> None:
    """Count by what is shown and what it becomes."""
    if not where.any():
        return
    shown = composite.read(own.y0, own.x0, own.height, own.width)
    pairs = np.bincount(shown[where].astype(np.intp) * 256 + values[where])
    for pair in np.flatnonzero(pairs):
        changes[int(pair) // 256, int(pair) % 256] += int(pairs[pair])


def _into(coarse: Mapping[int, Array], place: Place, values: Array, shape: tuple[int, int]) -> None:
    for level, kept in coarse.items():
        y, x, part = sample(values, place[0] * CHUNK, place[1] * CHUNK, shape, level)
        kept[y : y + part.shape[0], x : x + part.shape[1]] = part
