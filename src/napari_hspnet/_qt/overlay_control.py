"""The overlay on screen: its style, its areas, what is under the pointer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_hspnet._qt.model_control import ModelControl
from napari_hspnet._qt.overlay_view import OverlayView
from napari_hspnet._qt.overview import Overview
from napari_hspnet._qt.picture import overlay_picture
from napari_hspnet._qt.segment_control import SegmentControl
from napari_hspnet._qt.session import count_areas, count_changes
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import into_napari, slot
from napari_hspnet._qt.style import OverlayStyle
from napari_hspnet._qt.words import elided
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.cases import UNTOUCHED
from napari_hspnet.classes import (
    BACKGROUND,
    CLASS_BY_VALUE,
    DEMO_BANNER,
    SKIPPED,
    UNREADABLE,
)

__all__ = ["OverlayControl", "under_pointer"]

_BANNER_LOOK = {
    "text": DEMO_BANNER,
    "visible": True,
    "position": "top_center",
    "font_size": 14.0,
    "color": (0.85, 0.1, 0.1, 1.0),
}


class OverlayControl(QObject):
    """The Overlay section's controller."""

    areas_changed = Signal()
    style_changed = Signal()

    def __init__(
        self,
        viewer: Any,
        view: OverlayView,
        overview: Overview,
        jobs: Jobs,
        slides: SlidesControl,
        models: ModelControl,
        segmenting: SegmentControl,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._view, self._overview, self._jobs = viewer, view, overview, jobs
        self._slides, self._models = slides, models
        self.style = OverlayStyle()
        self._text_before: dict[str, Any] | None = None
        self._again: set[int] = set()
        self._who: tuple[tuple[float, ...], str] = ((), "")
        view.class_toggled.connect(
            lambda values, on: self.set_style(self.style.shown(tuple(values), on))
        )
        view.overlay_toggled.connect(lambda on: self.set_style(replace(self.style, visible=on)))
        view.veil_toggled.connect(lambda on: self.set_style(replace(self.style, veil=on)))
        view.tiers_toggled.connect(self._set_tiers)
        view.fill_toggled.connect(lambda on: self.set_style(replace(self.style, fill=on)))
        view.palette_chosen.connect(lambda key: self.set_style(replace(self.style, palette=key)))
        view.opacity_changed.connect(lambda v: self.set_style(replace(self.style, opacity=v)))
        slides.active_changed.connect(self._slide_changed)
        slides.results_changed.connect(self.refresh)
        segmenting.landed.connect(self.refresh)
        models.changed.connect(self._show_banner)
        viewer.events.status.connect(self._status_changed)
        self._slide_changed()

    def close(self, viewer_stays: bool) -> None:
        """Let go of the viewer, and give its text back if it stays."""
        self._viewer.events.status.disconnect(self._status_changed)
        if viewer_stays:
            self._take_banner_down()

    @slot
    def set_style(self, style: OverlayStyle) -> None:
        """Draw the overlay so, on every slide."""
        before, self.style = self.style, style
        self._view.show_style(style)
        self.style_changed.emit()
        entry = self._slides.active
        if entry is None:
            return
        # The others follow when they become active. Labels may have landed while
        # the overlay was hidden.
        shown_again = (style.visible and not before.visible) or (style.veil and not before.veil)
        entry.layers.show(style, changed=shown_again)
        if entry.session.areas is not None:
            self._view.show_areas(entry.session.areas)
            if not style.pixels_equal(before) or style.palette != before.palette:
                self._count(entry)

    def show_changes(self, on: bool) -> None:
        """Outline where the overlay is not what the model said, or no longer."""
        self.set_style(replace(self.style, changes=on))

    def _set_tiers(self, on: bool) -> None:
        # What was hidden in one terminology has no counterpart in the other.
        self.set_style(replace(self.style, two_tier=on, hidden=frozenset()))

    @slot
    def hold_hidden(self, hidden: bool) -> None:
        """Hide everything but the slide while a key is held."""
        entry = self._slides.active
        if entry is not None:
            entry.layers.hold_hidden(hidden)

    @slot
    def refresh(self, entry: OpenSlide) -> None:
        """Show what has landed in a slide."""
        entry.layers.show(self.style)
        self._count(entry)
        self._show_banner()

    @slot
    def _slide_changed(self) -> None:
        entry = self._slides.active
        self._view.show_areas(None if entry is None else entry.session.areas)
        self._overview.set_overlay(None)
        if entry is not None:
            entry.layers.show(self.style)
            self._count(entry)
        self._show_banner()

    def _count(self, entry: OpenSlide) -> None:
        composite, style = entry.session.composite, self.style
        if composite is None or not entry.session.has_results:
            entry.session.areas, entry.session.changes = None, {}
            if entry is self._slides.active:
                self._view.show_areas(None)
                self._overview.set_overlay(None)
                self.areas_changed.emit()
            return
        channel = f"areas {entry.number}"
        if self._jobs.busy(channel):
            # Counting goes on; what has landed meanwhile is counted after it.
            self._again.add(entry.number)
            return

        def work(job: Job) -> Any:
            return (
                count_areas(composite),
                overlay_picture(composite, style),
                count_changes(composite),
            )

        def done(counted: Any) -> None:
            if entry.session.composite is not None:
                entry.session.areas, entry.session.changes = counted[0], counted[2]
                if entry is self._slides.active:
                    self._view.show_areas(counted[0])
                    self._overview.set_overlay(counted[1])
                    self.areas_changed.emit()
            if entry.number in self._again:
                self._again.discard(entry.number)
                self._count(entry)

        self._jobs.start(channel, work, done=done)

    # The banner

    @slot
    def _show_banner(self) -> None:
        entry = self._slides.active
        shown = entry is not None and entry.session.synthetic_shown
        if self._models.synthetic or shown:
            self._put_banner_up()
        else:
            self._take_banner_down()
        self._view.demo.say(
            "Demo model: trained on synthetic slides only; what it says of real tissue "
            "means nothing."
            if shown and entry is not None and not entry.session.slide.info.phantom
            else "",
            "warning",
        )

    def _put_banner_up(self) -> None:
        text = self._viewer.canvas.overlays.text
        if self._text_before is None:
            self._text_before = {name: getattr(text, name) for name in _BANNER_LOOK}
        with into_napari():
            for name, value in _BANNER_LOOK.items():
                setattr(text, name, value)

    def _take_banner_down(self) -> None:
        if self._text_before is None:
            return
        before, self._text_before = self._text_before, None
        with into_napari():
            for name, value in before.items():
                setattr(self._viewer.canvas.overlays.text, name, value)

    # The status bar

    @slot
    def _status_changed(self, event: Any) -> None:
        status = self._viewer.status
        entry = self._slides.active
        if entry is None or not self._viewer.mouse_over_canvas or not isinstance(status, dict):
            return
        place = tuple(self._viewer.cursor.position[-2:])
        by = self._who[1] if self._who[0] == place else ""
        said = under_pointer(entry, place, self.style, by)
        if said and not str(status.get("coordinates", "")).endswith(said):
            self._viewer.status = {**status, "coordinates": f"{status['coordinates']}   {said}"}
        if not by and ("corrected" in said or "accepted" in said):
            self._ask_who(entry, place)

    def _ask_who(self, entry: OpenSlide, place: tuple[float, ...]) -> None:
        """Look in the journal, which can be busy, for who corrected a place."""
        case, grid = entry.session.case, entry.session.grid
        if case is None or grid is None:
            return
        y, x = (int(value // grid.mpp) for value in place)

        def done(reader: str) -> None:
            status = self._viewer.status
            if tuple(self._viewer.cursor.position[-2:]) != place or not isinstance(status, dict):
                return
            self._who = place, f" by {reader}" if reader else ""
            for word in ("corrected", "accepted"):
                text = str(status.get("coordinates", ""))
                if reader and f" {word} ·" in text:
                    said = text.replace(f" {word} ·", f" {word} by {reader} ·", 1)
                    self._viewer.status = {**status, "coordinates": said}

        self._jobs.start("who", lambda job: case.editing.reader_at(y, x), done=done)


def under_pointer(entry: OpenSlide, position: Any, style: OverlayStyle, by: str = "") -> str:
    """Class, score and run at a place in µm; empty where there is nothing to say.

    Parameters
    ----------
    entry : OpenSlide
        The slide.
    position : (float, float)
        The place.
    style : OverlayStyle
        Whose words are used.
    by : str
        " by …", who corrected it, where that is known.
    """
    composite = entry.session.composite
    if composite is None:
        return ""
    y, x = (int(value // composite.grid.mpp) for value in position)
    height, width = composite.grid.shape
    if not (0 <= y < height and 0 <= x < width):
        return ""
    value = int(composite.read(y, x, 1, 1)[0, 0])
    words = {BACKGROUND: "none of the four", SKIPPED: "no tissue", UNREADABLE: "unreadable"}
    if value in CLASS_BY_VALUE:
        words[value] = style.name_of(value)
    if value not in words:
        return "not analysed"
    run = composite.run_at(y, x)
    parts = [words[value]]
    said = int(composite.read(y, x, 1, 1, what="correction")[0, 0])
    if said != UNTOUCHED:
        predicted = int(composite.read(y, x, 1, 1, what="prediction")[0, 0])
        was = words.get(predicted) or (
            style.name_of(predicted) if predicted in CLASS_BY_VALUE else "not analysed"
        )
        parts.append(("corrected" if predicted != said else "accepted") + by)
        parts.append(f"model: {was}")
    if value not in (SKIPPED, UNREADABLE):
        score = composite.read(y, x, 1, 1, what="score")[0, 0] / 255
        parts.append(f"model score {score:.2f}, not calibrated")
    if run is not None:
        parts.append(elided(run.record.title, 30))
    return " · ".join(parts)
