"""The Review section's controller: the list, its regions' states, going to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QMessageBox

from napari_hspnet._qt import camera
from napari_hspnet._qt.acts import Act, Acts
from napari_hspnet._qt.overlay_control import OverlayControl
from napari_hspnet._qt.region_adding import RegionAdding
from napari_hspnet._qt.region_book import RegionBook
from napari_hspnet._qt.region_mark import MarkControl
from napari_hspnet._qt.region_table import OPEN_STATES, RegionRow
from napari_hspnet._qt.review_figures import ReviewFigures
from napari_hspnet._qt.review_view import ReviewView
from napari_hspnet._qt.review_words import comment_text, covered_text, grade_text, state_text
from napari_hspnet._qt.segment_control import SegmentControl
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.words import area
from napari_hspnet._qt.work import Jobs
from napari_hspnet.cases import IN_PROGRESS, SIGNED_OFF, TAGS, Review, ReviewRegion
from napari_hspnet.slides import PixelBox

__all__ = ["ReviewControl"]

_NOWHERE = PixelBox(0, 0, 0, 0)
_MARGIN = 1.3
_CLOSEST = 4.0
"""Screen pixels per µm of x40: no region is shown larger than that."""


class ReviewControl(QObject):
    """What a reader does with review regions."""

    changed = Signal(object)
    """(`OpenSlide`): its list of regions, or their states, are others."""

    def __init__(
        self,
        viewer: Any,
        view: ReviewView,
        jobs: Jobs,
        acts: Acts,
        slides: SlidesControl,
        overlay: OverlayControl,
        segmenting: SegmentControl,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._view, self._jobs, self._acts = viewer, view, jobs, acts
        self._slides, self._overlay = slides, overlay
        self.marking = MarkControl(viewer, jobs, slides, self)
        self.book = RegionBook(jobs, slides, self)
        self.adding = RegionAdding(view, jobs, acts, slides, self.ready, self)
        self.figures = ReviewFigures(viewer, view, jobs, slides, overlay, segmenting, self)
        view.table.chosen.connect(self._chosen)
        view.table.jump_asked.connect(self.go_to_region)
        view.menu.aboutToShow.connect(self._allow)
        view.filter_chosen.connect(self._filter_chosen)
        view.step_asked.connect(self._step)
        view.state_asked.connect(self.set_state)
        view.tag_asked.connect(self.set_tag)
        view.comment_asked.connect(self.say)
        view.remove_asked.connect(self.remove)
        view.place_asked.connect(self._go_to_place)
        self.book.changed.connect(self._book_changed)
        self.book.covered_changed.connect(self._show_covered)
        self.adding.added.connect(lambda entry: self.refresh(entry, _NOWHERE))
        self.adding.state_changed.connect(self._allow)
        slides.active_changed.connect(self._slide_changed)
        slides.results_changed.connect(self._results_changed)
        slides.reader_changed.connect(self._allow)
        overlay.style_changed.connect(self._style_changed)
        self._slide_changed()

    def refresh(self, entry: OpenSlide, box: PixelBox | None = None) -> None:
        """Follow what was done to a slide's case.

        Parameters
        ----------
        entry : OpenSlide
            The slide.
        box : PixelBox, optional
            Where its overlay changed; everywhere without it.
        """
        self.book.refresh(entry, box)
        if entry is self._slides.active:
            self.figures.refresh()

    def close(self, viewer_stays: bool) -> None:
        """Let go of the viewer."""
        self.figures.close()
        self.marking.close(viewer_stays)

    # What one does

    @property
    def chosen(self) -> tuple[int, ...]:
        """Numbers of the selected regions, the current one last."""
        return self._view.table.chosen_ids

    @slot
    def next_region(self) -> None:
        """Go to the next region of the list; after the last comes the first."""
        self._step(1)

    @slot
    def previous_region(self) -> None:
        """Go to the region before; before the first comes the last."""
        self._step(-1)

    @slot
    def sign_off(self) -> None:
        """Sign the selected regions off."""
        self.set_state(SIGNED_OFF)

    @slot
    def unlock(self) -> None:
        """Take signatures off the selected regions."""
        self.set_state(IN_PROGRESS)

    @slot
    def cycle_tag(self) -> None:
        """Give the selected regions the next tag; after the last comes none."""
        tags = {region.tag for region in self._regions()}
        every = ("", *TAGS)
        now = tags.pop() if len(tags) == 1 else TAGS[-1]
        self.set_tag(every[(every.index(now) + 1) % len(every)])

    @slot
    def set_state(self, state: str) -> None:
        """Put the selected regions into a state; those that are in it stay as they are."""
        ids = [r.id for r in self._regions() if r.state != state]
        locked = [r for r in self._regions() if r.locked]
        if locked and state != SIGNED_OFF:
            # Mixed choices: what is open keeps its state, only the locks come off.
            ids = [r.id for r in locked]
        reader = self._slides.reader
        self._do("Saving the state", ids, lambda review: review.set_state(ids, state, reader))

    @slot
    def set_tag(self, tag: str) -> None:
        """Tag the selected regions; an empty tag takes it away."""
        ids = [r.id for r in self._regions() if r.tag != tag]
        reader = self._slides.reader
        self._do("Saving the tag", ids, lambda review: review.set_tag(ids, tag, reader))

    @slot
    def say(self, text: str) -> None:
        """Comment on the current region."""
        ids = self.chosen[-1:]
        reader = self._slides.reader
        if self._do("Saving the comment", ids, lambda r: r.comment(ids[0], text, reader)):
            self._view.comment.clear()

    @slot
    def remove(self) -> None:
        """Take the selected regions off the list, after a question where work is in them."""
        regions = self._regions()
        worked = [r for r in regions if r.state not in OPEN_STATES or r.comments or r.tag]
        if worked and not self._sure(len(worked)):
            return
        ids, reader = [r.id for r in regions], self._slides.reader
        self._do("Taking off the list", ids, lambda review: review.remove(ids, reader))

    def _sure(self, count: int) -> bool:
        what = "One of these regions has" if count == 1 else f"{count:,} of these regions have"
        answer = QMessageBox.question(
            self._view,
            "Take off the list",
            f"{what} a state, a tag or comments. Take them off the list? The log keeps them.",
        )
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _do(self, title: str, ids: Sequence[int], work: Callable[[Review], None]) -> bool:
        """Order an act on the review; whether it was ordered."""
        entry = self.ready() if self._view.table.chosen_ids else None
        if entry is None or not ids:
            return False
        self._acts.do(
            title,
            entry,
            lambda act: _review(act, work),
            done=lambda result: self._done(entry),
            failed=lambda error: self._failed(entry, error),
        )
        return True

    @slot
    def _done(self, entry: OpenSlide) -> None:
        self.refresh(entry, _NOWHERE)

    @slot
    def _failed(self, entry: OpenSlide, error: Exception) -> None:
        self._view.error.say(notify(error), "error")
        self.refresh(entry, _NOWHERE)

    def ready(self) -> OpenSlide | None:
        """The slide to work on; None, and a word why, where that cannot be."""
        why_not = self._slides.why_not_change()
        if not why_not and not self._slides.reader:
            why_not = "Say who reviews first: the field Reader above."
            self._slides.ask_for_reader()
        self._view.error.say(why_not, "warning" if why_not else "")
        return None if why_not else self._slides.active

    # Going there

    def _step(self, step: int) -> None:
        table = self._view.table
        ids = table.regions.ids
        if not ids:
            return
        current = self.chosen[-1:]
        place = table.regions.place(current[0]) if current else None
        if place is None:
            place = -1 if step > 0 else 0
        wanted = ids[(place + step) % len(ids)]
        table.regions.keep([wanted])
        table.choose(wanted)
        # What is done leaves the list of open ones once one has gone on.
        self._show_rows()
        self.go_to_region(wanted)

    @slot
    def go_to_region(self, region_id: int) -> None:
        """Select a region and show it, all of it and not closer than x40."""
        row = self._view.table.regions.row(region_id)
        if row is None:
            return
        if region_id not in self.chosen:
            self._view.table.choose(region_id)
        self.go_to_box(row.region.box)

    @slot
    def _go_to_place(self, number: int) -> None:
        box = self.figures.place(number)
        if box is not None:
            self.go_to_box(box)

    def go_to_box(self, box: PixelBox) -> None:
        """Show a place of the active slide."""
        entry = self._slides.active
        grid = None if entry is None else entry.session.grid
        if grid is None:
            return
        middle = [(box.y0 + box.y1) * grid.mpp / 2, (box.x0 + box.x1) * grid.mpp / 2]
        # The canvas at x40 is the smallest view, whatever the region.
        least = [size / (_CLOSEST * _MARGIN) for size in self._viewer.canvas.size]
        half = [
            max(extent * grid.mpp, smallest) / 2
            for extent, smallest in zip((box.height, box.width), least, strict=True)
        ]
        camera.show_box(
            self._viewer,
            (middle[0] - half[0], middle[1] - half[1], middle[0] + half[0], middle[1] + half[1]),
            _MARGIN,
        )

    # Showing

    @slot
    def _slide_changed(self) -> None:
        entry = self._slides.active
        self._view.error.say("")
        self._show_rows()
        self._show_chosen()
        self._show_covered()
        self._allow()
        if entry is not None and entry.session.case is not None:
            self.book.refresh(entry, _NOWHERE)

    @slot
    def _results_changed(self, entry: OpenSlide) -> None:
        if entry.session.live is None:
            self.book.refresh(entry)
        if entry is self._slides.active:
            self._allow()

    @slot
    def _book_changed(self, entry: OpenSlide) -> None:
        if entry is self._slides.active:
            self._show_rows()
            self._show_chosen()
        self.changed.emit(entry)

    @slot
    def _style_changed(self) -> None:
        self._view.table.regions.set_style(self._overlay.style)
        self._show_chosen()

    @slot
    def _filter_chosen(self, open_only: bool) -> None:
        table = self._view.table
        table.regions.keep(())
        table.regions.set_open_only(open_only)
        self._view.show_count(table.regions.rowCount(), len(self._known.regions))

    @property
    def _known(self) -> Any:
        return self.book.of(self._slides.active)

    def _show_rows(self) -> None:
        entry, known = self._slides.active, self._known
        grid = None if entry is None else entry.session.grid
        square = 0.0 if grid is None else (grid.mpp / 1000) ** 2
        rows = {
            region.id: RegionRow(region, region.pixels * square, known.grades.get(region.id))
            for region in known.regions
        }
        self._view.table.show_rows(rows)
        self._view.show_count(self._view.table.regions.rowCount(), len(rows))

    @slot
    def _show_covered(self) -> None:
        self._view.reviewed.say(covered_text(self._known.covered))

    def _regions(self) -> list[ReviewRegion]:
        rows = (self._view.table.regions.row(i) for i in self.chosen)
        return [row.region for row in rows if row is not None]

    @slot
    def _chosen(self) -> None:
        # It stays listed while one works on it, whatever becomes of its state.
        self._view.table.regions.keep(self.chosen)
        self._view.comment.clear()
        self._show_chosen()

    def _show_chosen(self) -> None:
        regions = self._regions()
        single = len(regions) == 1
        if single:
            row = self._view.table.regions.row(regions[0].id)
            assert row is not None
            grade = grade_text(row.grades, self._overlay.style)
            detail = f"Region {row.region.id}: {grade}, {area(row.mm2)}\n{state_text(row.region)}"
            comments = [comment_text(c) for c in regions[0].comments]
        else:
            detail = f"{len(regions):,} regions are selected" if regions else ""
            comments = []
        self._view.show_chosen(
            detail, {r.state for r in regions}, {r.tag for r in regions}, comments, single
        )
        self._allow()
        self.marking.follow(regions[-1] if regions else None)

    @slot
    def _allow(self) -> None:
        why_not = self._slides.why_not_change()
        self._view.allow_adding(self.adding.why_not(why_not))
        regions = self._regions()
        locked = [r for r in regions if r.locked]
        because = ""
        if locked:
            which = "It is" if len(regions) == 1 else f"{len(locked)} of them are"
            because = f"{which} signed off: unlock first."
        self._view.allow(
            why_not or ("" if regions else "Select a region in the list first."), because
        )


def _review(act: Act, work: Callable[[Review], None]) -> None:
    work(act.case.review)
