"""Compares the open reading of the active slide with another one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject

from napari_hspnet._qt.acts import Act, Acts
from napari_hspnet._qt.compare_view import CompareView
from napari_hspnet._qt.overlay_control import OverlayControl
from napari_hspnet._qt.review_control import ReviewControl
from napari_hspnet._qt.review_words import said_text
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.words import about_seconds, area
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.cases import Case

if TYPE_CHECKING:
    from napari_hspnet.cases.kappa import Agreement
    from napari_hspnet.cases.two_readings import Basis, TwoReadings

__all__ = ["CompareControl"]

_CHANNEL = "compare"
_LEAST_UM2 = 1000.0
_MOST_LISTED = 200


class CompareControl(QObject):
    """Offers the other readings, and shows what comparing gave.

    Parameters
    ----------
    view : CompareView
        Part of the section Review.
    jobs, acts, slides, overlay, reviewing
        The dock's.
    """

    def __init__(
        self,
        view: CompareView,
        jobs: Jobs,
        acts: Acts,
        slides: SlidesControl,
        overlay: OverlayControl,
        reviewing: ReviewControl,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._view, self._jobs, self._acts = view, jobs, acts
        self._slides, self._overlay, self._reviewing = slides, overlay, reviewing
        self._found: TwoReadings | None = None
        view.asked.connect(self.compare)
        view.cancel_asked.connect(lambda: self._jobs.ask_to_stop(_CHANNEL))
        view.place_asked.connect(self._place_asked)
        view.list_asked.connect(self._list_asked)
        slides.reader_changed.connect(self._allow)
        slides.active_changed.connect(self._slide_changed)
        slides.results_changed.connect(lambda entry: self.offer())
        slides.cases.looked.connect(self.offer)
        overlay.style_changed.connect(self._show)
        self.offer()

    @slot
    def _slide_changed(self) -> None:
        self._jobs.cancel(_CHANNEL)
        self._found = None
        self._view.show_idle()
        self._show()
        self.offer()

    @slot
    def offer(self) -> None:
        """Say which readings there are beside the open one."""
        entry = self._slides.active
        others = _others(entry)
        reading = None if entry is None else entry.session.reading
        self._view.offer(
            [name for name, _ in others],
            ""
            if reading is None
            else "This shows what the other reader said: from then on this reading is not blind.",
        )

    @slot
    def compare(self, number: int) -> None:
        """Compare with one of the readings offered."""
        entry = self._slides.active
        others = _others(entry)
        if entry is None or not 0 <= number < len(others):
            return
        case, (_, folder) = entry.session.case, others[number]
        assert case is not None
        ours_first = folder != entry.session.first
        began = time.monotonic()

        def work(job: Job) -> TwoReadings:
            from napari_hspnet.cases.two_readings import compare

            with Case.open(folder) as other:
                pair = (case, other) if ours_first else (other, case)
                return compare(*pair, _LEAST_UM2, job.progress, job.cancel)

        def report(part: float) -> None:
            left = (time.monotonic() - began) * (1 - part) / part if part > 0.02 else None
            text = f"Comparing, {part * 100:.0f} %"
            self._view.show_progress(
                text if left is None else f"{text} · {about_seconds(left)} left", part
            )

        self._found = None
        self._show()
        self._view.show_progress("Comparing", 0.0)
        self._jobs.start(
            _CHANNEL,
            work,
            report=report,
            done=self._done,
            error=self._failed,
            cancelled=self._view.show_idle,
        )

    @slot
    def _done(self, found: TwoReadings) -> None:
        self._view.show_idle()
        self._found = found
        self._show()
        self._view.come_to_sight()

    @slot
    def _failed(self, error: Exception) -> None:
        self._view.show_idle()
        self._view.show_error(notify(error))

    @slot
    def _show(self) -> None:
        found = self._found
        if found is None:
            self._view.show_result("", (), "", ())
            return
        style, square = self._overlay.style, (found.mpp / 1000) ** 2
        one, other = found.first.who, found.second.who
        places = [
            f"{area(each.pixels * square)}: {one} {said_text(each.first, style)}, "
            f"{other} {said_text(each.second, style)}"
            for each in found.differences[:_MOST_LISTED]
        ]
        self._allow()
        self._view.show_result(
            f"First: {one}. Second: {other}.", _rows(found), " ".join(_notes(found)), places
        )

    @slot
    def _place_asked(self, number: int) -> None:
        if self._found is not None and number < len(self._found.differences):
            self._reviewing.go_to_box(self._found.differences[number].box)

    @slot
    def _allow(self) -> None:
        self._view.allow_listing(self._slides.why_not_change())

    @slot
    def _list_asked(self) -> None:
        entry, found, reader = self._reviewing.ready(), self._found, self._slides.reader
        if entry is None or found is None:
            return

        def work(act: Act) -> int:
            from napari_hspnet.cases.two_readings import list_differences

            return len(list_differences(act.case.review, found, reader, _MOST_LISTED))

        def done(count: int) -> None:
            self._reviewing.adding.added.emit(entry)
            there = "All of them are in the list already." if not count else f"Added {count:,}."
            self._view.tail.say(there)

        def failed(error: Exception) -> None:
            self._view.tail.say(notify(error), "error")

        self._acts.do("Adding regions", entry, work, done, failed)


def _others(entry: OpenSlide | None) -> list[tuple[str, Path]]:
    """The readings beside the open one that are there: name and folder."""
    if entry is None or entry.session.case is None or entry.session.first is None:
        return []
    session = entry.session
    assert session.case is not None
    assert session.first is not None
    there = [("first reading", session.first)] if session.first.is_dir() else []
    there += [(each.reader, each.folder) for each in session.second]
    return [each for each in there if each[1] != session.case.folder]


_ROWS = ("", "mm²", "same CIN2+", "kappa", "same grade", "kappa", "weighted kappa")
_COLUMNS: dict[Basis, str] = {"said": "corrected", "reviewed": "reviewed", "analysed": "analysed"}


def _rows(found: TwoReadings) -> list[Sequence[str]]:
    from napari_hspnet.cases.kappa import agreement

    square = (found.mpp / 1000) ** 2
    columns: list[Sequence[str]] = [_ROWS]
    for basis, words in _COLUMNS.items():
        figures = agreement(found.tables[basis])
        size = area(figures.graded * square).removesuffix(" mm²")
        columns.append((words, size, *_cells(figures)))
    regions = agreement(found.worst_grades)
    if regions.graded:
        columns.append((f"{regions.graded:,} worst", "", *_cells(regions)))
    return list(zip(*columns, strict=True))


def _cells(figures: Agreement) -> tuple[str, ...]:
    def share(value: float) -> str:
        return "–" if math.isnan(value) else f"{value * 100:.0f} %"

    def kappa(value: float) -> str:
        return "–" if math.isnan(value) else f"{value:.2f}"

    return (
        share(figures.same_high),
        kappa(figures.kappa_high),
        share(figures.same),
        kappa(figures.kappa),
        kappa(figures.weighted),
    )


def _notes(found: TwoReadings) -> Iterator[str]:
    if found.first.model and found.second.model:
        yield "What neither touched is the model's word: there they agree by themselves."
    count = len(found.differences)
    if not count:
        yield "There is no place of 1,000 µm² or more where they differ."
        return
    total = area(sum(each.pixels for each in found.differences) * (found.mpp / 1000) ** 2)
    more = f"; the {_MOST_LISTED} largest are listed" if count > _MOST_LISTED else ""
    yield f"They differ at {count:,} place{'' if count == 1 else 's'}, {total}{more}."
