"""Making review regions: drawn ones, parts of the overlay, tiles over tissue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_hspnet._qt.acts import Act, Acts
from napari_hspnet._qt.regions import chosen_shapes, outline
from napari_hspnet._qt.review_view import SOURCES, ReviewView
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.cases import Selection
from napari_hspnet.cases.review import not_listed
from napari_hspnet.cases.tiles import MOST_REGIONS
from napari_hspnet.classes import CIN1, CIN2, CIN3
from napari_hspnet.errors import InputError, RegionError
from napari_hspnet.jobs.review import tissue_tiles
from napari_hspnet.slides import LabelGrid, Region

__all__ = ["RegionAdding", "regions_from_shapes"]

_CHANNEL = "find regions"
_KINDS = {"drawn": "drawn", "parts": "component", "tiles": "tile"}
_STAGES = {
    "drawn": "Looking at what is drawn",
    "parts": "Looking for parts of the overlay",
    "tiles": "Looking for tissue",
}

Find = Callable[[Job], Sequence[Selection]]


class RegionAdding(QObject):
    """Finds regions in a worker and enters them as one act."""

    added = Signal(object)
    """(`OpenSlide`)"""

    state_changed = Signal()

    def __init__(
        self,
        view: ReviewView,
        jobs: Jobs,
        acts: Acts,
        slides: SlidesControl,
        ready: Callable[[], OpenSlide | None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._view, self._jobs, self._acts, self._slides = view, jobs, acts, slides
        self._ready = ready
        self._looking: OpenSlide | None = None
        view.add_asked.connect(self.add)
        view.cancel_asked.connect(self.cancel)
        slides.removed.connect(self._slide_removed)

    @property
    def busy(self) -> bool:
        """Whether regions are being looked for or entered."""
        return self._looking is not None

    def why_not(self, why_not: str) -> dict[str, str]:
        """Of each source why it cannot be used now; empty if it can.

        Parameters
        ----------
        why_not : str
            Why nothing can be changed at all.
        """
        entry = self._slides.active
        said = dict.fromkeys(
            SOURCES, why_not or ("Wait for what is under way." if self.busy else "")
        )
        if entry is None or said["tiles"]:
            return said
        layer = entry.layers.regions
        if layer is None or len(layer.data) == 0:
            said["drawn"] = "Draw a region first (section Segment)."
        composite = entry.session.composite
        if composite is None or not (composite.runs or _corrected(entry)):
            said["parts"] = "Nothing is segmented or painted yet."
        return said

    @slot
    def add(self, source: str, amount: int) -> None:
        """Look for regions of a kind, and add those that are not in the list yet.

        Parameters
        ----------
        source : str
            "drawn", "parts" or "tiles".
        amount : int
            Least µm² of a part, or a tile's side in µm.
        """
        entry = self._ready()
        if entry is None or self.busy:
            return
        try:
            find = self._finder(entry, source, amount)
        except RegionError as error:
            self._view.error.say(notify(error), "error")
            return
        self._looking = entry
        self._show(_STAGES[source], 0.0)
        self.state_changed.emit()
        self._jobs.start(
            _CHANNEL,
            find,
            report=lambda part: self._show(_STAGES[source], part),
            done=lambda found: self._found(entry, source, found),
            error=self._failed,
            cancelled=self._ended,
        )

    def _finder(self, entry: OpenSlide, source: str, amount: int) -> Find:
        session, grid = entry.session, entry.session.grid
        assert grid is not None
        if source == "drawn":
            return _drawn(regions_from_shapes(entry.layers.regions), grid)
        if source == "tiles":
            return lambda job: _tiles(session.tissue(), grid, amount, job)
        return lambda job: _parts(session.composite, amount, job)

    @slot
    def _found(self, entry: OpenSlide, source: str, found: Sequence[Selection]) -> None:
        if not found:
            self._ended()
            self._view.error.say("There is none. Choose a smaller size.", "warning")
            return
        if len(found) > MOST_REGIONS:
            self._failed(
                InputError(f"There would be {len(found):,} regions", advice="Choose a larger size")
            )
            return
        kind, reader = _KINDS[source], self._slides.reader
        self._show(f"Adding {_regions(len(found))}", None)

        def work(act: Act) -> int:
            fresh = not_listed(found, kind, act.case.review.regions)
            if fresh:
                act.case.review.add(fresh, kind, reader)
            return len(fresh)

        def done(count: int) -> None:
            self._ended()
            known = len(found) - count
            if known:
                there = "is" if known == 1 else "are"
                self._view.error.say(f"{_regions(known).capitalize()} {there} in the list already.")
            self.added.emit(entry)

        self._acts.do("Adding regions", entry, work, done, self._failed)

    @slot
    def cancel(self) -> None:
        """Stop looking; nothing is added."""
        self._jobs.ask_to_stop(_CHANNEL)

    @slot
    def _failed(self, error: Exception) -> None:
        self._ended()
        self._view.error.say(notify(error), "error")

    @slot
    def _ended(self) -> None:
        self._looking = None
        self._view.show_idle()
        self.state_changed.emit()

    @slot
    def _slide_removed(self, entry: OpenSlide) -> None:
        if entry is self._looking:
            self._jobs.cancel(_CHANNEL)
            self._looking = None
            self._view.show_idle()

    def _show(self, stage: str, part: float | None) -> None:
        share = "" if part is None else f", {part:.0%}".replace("%", " %")
        self._view.show_progress(f"{stage}{share}", part)


def _corrected(entry: OpenSlide) -> bool:
    case = entry.session.case
    return case is not None and bool(case.corrections.chunks)


def _regions(count: int) -> str:
    return f"{count:,} region{'' if count == 1 else 's'}"


def regions_from_shapes(layer: Any) -> tuple[Region, ...]:
    """One region in µm for every drawn shape that is meant.

    Raises
    ------
    RegionError
        If nothing is drawn, or a shape has no area.
    """
    if layer is None or len(layer.data) == 0:
        raise RegionError("No region is drawn", advice="Outline a region on the slide first")
    found = []
    for index in chosen_shapes(len(layer.data), layer.selected_data):
        shape = np.asarray(layer.data[index], float)
        world = np.asarray([layer.data_to_world(vertex) for vertex in shape])
        points = outline(layer.shape_type[index], world)
        found.append(Region.shapes([[(y, x) for y, x in points]]))
    return tuple(found)


def _drawn(regions: Sequence[Region], grid: LabelGrid) -> Find:
    def find(job: Job) -> Sequence[Selection]:
        found = []
        for number, region in enumerate(regions, start=1):
            job.check()
            found.append(Selection.of_region(region, grid))
            job.report(number / len(regions))
        return found

    return find


def _parts(composite: Any, least_um2: float, job: Job) -> Sequence[Selection]:
    from napari_hspnet.cases.components import components

    found = components(
        composite, least_um2, (CIN1, CIN2, CIN3), progress=job.progress, cancel=job.cancel
    )
    return [each.selection for each in found]


def _tiles(tissue: Any, grid: LabelGrid, side_um: float, job: Job) -> Sequence[Selection]:
    return tissue_tiles(tissue, grid, side_um, progress=job.progress, cancel=job.cancel)
