"""What is known of each slide's review regions, brought up to date in a worker."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, Signal

from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.cases import REVIEWED, SIGNED_OFF, ReviewRegion
from napari_hspnet.cases.grades import Counts, Grades, counts_of, grades_of
from napari_hspnet.cases.selection import Place, chunks_of
from napari_hspnet.jobs.review import Coverage, Footprint, coverage, footprint, read_tissue
from napari_hspnet.slides import PixelBox

__all__ = ["DONE_STATES", "Known", "RegionBook"]

DONE_STATES = frozenset((REVIEWED, SIGNED_OFF))
_REPORTS = 0.25


@dataclass
class Known:
    """One slide's regions.

    Attributes
    ----------
    regions : tuple of ReviewRegion
        All, in the order in which they were made.
    grades : dict of int to Grades
        What is shown in each, as far as it was counted.
    counts : dict of int to Counts
        The same, chunk by chunk.
    stale : dict of int to set of (int, int)
        Which chunks of which regions are to be counted again.
    footprints : dict of int to Footprint
        A region's pixels never change.
    tissue : ndarray of bool or None
        The slide's, once it was read.
    covered : Coverage or None
        What is reviewed of it.
    """

    regions: tuple[ReviewRegion, ...] = ()
    grades: dict[int, Grades] = field(default_factory=dict)
    counts: dict[int, Counts] = field(default_factory=dict)
    stale: dict[int, set[Place]] = field(default_factory=dict)
    footprints: dict[int, Footprint] = field(default_factory=dict)
    tissue: npt.NDArray[np.bool_] | None = None
    covered: Coverage | None = None

    def forget(self, box: PixelBox | None) -> None:
        """Let what was counted in a box, or anywhere, be counted again."""
        if box is None:
            self.counts.clear()
            self.stale.clear()
            return
        for region in self.regions:
            common = region.box.intersect(box)
            if region.id in self.counts and common.height and common.width:
                self.stale.setdefault(region.id, set()).update(chunks_of(common))

    def take_regions(self, regions: tuple[ReviewRegion, ...]) -> bool:
        """Take the list as it is now; whether it is another one."""
        if regions == self.regions:
            return False
        there = {region.id for region in regions}
        for known in (self.grades, self.counts, self.stale, self.footprints):
            for gone in known.keys() - there:
                del known[gone]
        self.regions = regions
        return True


class RegionBook(QObject):
    """Keeps `Known` for every open slide."""

    changed = Signal(object)
    """(`OpenSlide`): regions or their grades."""

    covered_changed = Signal(object)
    """(`OpenSlide`): how much of it is reviewed."""

    def __init__(self, jobs: Jobs, slides: SlidesControl, parent: QObject) -> None:
        super().__init__(parent)
        self._jobs = jobs
        self._known: dict[int, Known] = {}
        slides.removed.connect(self._forget)

    def of(self, entry: OpenSlide | None) -> Known:
        """What is known of a slide so far."""
        return Known() if entry is None else self._known.setdefault(entry.number, Known())

    @slot
    def _forget(self, entry: OpenSlide) -> None:
        self._jobs.cancel(f"review {entry.number}")
        self._known.pop(entry.number, None)

    def refresh(self, entry: OpenSlide, box: PixelBox | None = None) -> None:
        """Look what the list says now, and count again what may have changed.

        Parameters
        ----------
        entry : OpenSlide
            The slide.
        box : PixelBox, optional
            Where the overlay changed, in label pixels; what was counted elsewhere
            stays. Everywhere without it, nowhere with a box of no size.
        """
        known = self.of(entry)
        case, composite, grid = entry.session.case, entry.session.composite, entry.session.grid
        channel = f"review {entry.number}"
        if case is None or composite is None or grid is None:
            self._jobs.cancel(channel)
            self._known[entry.number] = Known()
            self.changed.emit(entry)
            self.covered_changed.emit(entry)
            return
        known.forget(box)
        counts, tissue = dict(known.counts), known.tissue
        stale = {number: frozenset(places) for number, places in known.stale.items()}
        footprints, session = dict(known.footprints), entry.session

        def work(job: Job) -> None:
            regions = case.review.regions
            job.report(("regions", regions))
            found: dict[int, tuple[Counts, Footprint]] = {}
            told = time.monotonic()
            for region in regions:
                number = region.id
                if number in counts and number not in stale:
                    continue
                job.check()
                selection = case.review.selection(number)
                part = counts_of(composite, selection, stale.get(number), job.cancel)
                if number not in footprints:
                    footprints[number] = footprint(selection, grid)
                found[number] = {**counts.get(number, {}), **part}, footprints[number]
                if time.monotonic() - told > _REPORTS:
                    job.report(("counted", found))
                    found, told = {}, time.monotonic()
            job.report(("counted", found))
            there = session.tissue()
            if not regions or there is None:
                job.report(("covered", (tissue, None)))
                return
            mask = read_tissue(there, grid, cancel=job.cancel) if tissue is None else tissue
            done = [footprints[r.id] for r in regions if r.state in DONE_STATES]
            job.report(("covered", (mask, coverage(mask, done))))

        def report(message: tuple[str, Any]) -> None:
            kind, value = message
            if kind == "regions":
                if known.take_regions(value):
                    self.changed.emit(entry)
            elif kind == "counted":
                for number, (counted, place) in value.items():
                    known.counts[number], known.footprints[number] = counted, place
                    known.grades[number] = grades_of(counted, grid.mpp)
                    known.stale.pop(number, None)
                if value:
                    self.changed.emit(entry)
            else:
                known.tissue, known.covered = value
                self.covered_changed.emit(entry)

        self._jobs.start(channel, work, report=report, error=self._not_read)

    @slot
    def _not_read(self, error: Exception) -> None:
        notify(error)
