"""Segmenting: what is meant, how long it takes, the run and its progress."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_hspnet._qt import camera
from napari_hspnet._qt.estimate import Estimate, coarse_problem, estimate, estimate_text
from napari_hspnet._qt.model_control import ModelControl
from napari_hspnet._qt.regions import chosen_shapes, region_from_shapes
from napari_hspnet._qt.segment_view import SegmentView
from napari_hspnet._qt.session import CaseState
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify, sentence
from napari_hspnet._qt.words import about_seconds, elided
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.errors import HspnetError, RegionError
from napari_hspnet.slides import Region

if TYPE_CHECKING:
    from napari_hspnet.inference import Progress
    from napari_hspnet.jobs.segment import SegmentResult

__all__ = ["SegmentControl"]

_REFRESH = 330
_REPORTS = 0.1


class SegmentControl(QObject):
    """The Segment section's controller; one run at a time."""

    running_changed = Signal()
    landed = Signal(object)
    """Blocks of a running job have landed in an `OpenSlide`."""

    finished = Signal(object, object)
    """(`OpenSlide`, `SegmentResult`)."""

    def __init__(
        self,
        viewer: Any,
        view: SegmentView,
        jobs: Jobs,
        slides: SlidesControl,
        models: ModelControl,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._view, self._jobs = viewer, view, jobs
        self._slides, self._models = slides, models
        self._estimate: Estimate | None = None
        self._estimate_why = ""
        self.running: OpenSlide | None = None
        self._pixels_seen = -1
        self._watched: Any = None
        self._asking = QTimer(self)
        self._asking.setSingleShot(True)
        self._asking.setInterval(300)
        self._asking.timeout.connect(self._ask_for_estimate)
        self._watching = QTimer(self)
        self._watching.setInterval(_REFRESH)
        self._watching.timeout.connect(self._look_at_live_run)
        view.target_changed.connect(lambda target: self.refresh())
        view.draw_asked.connect(self.draw)
        view.segment_asked.connect(self.segment)
        view.cancel_asked.connect(self.cancel)
        slides.active_changed.connect(self._slide_changed)
        slides.view_changed.connect(self._view_moved)
        slides.removed.connect(self._slide_removed)
        models.changed.connect(self.refresh)
        self.refresh()

    # What is meant

    def region(self) -> Region:
        """The region that Segment would run on now.

        Raises
        ------
        RegionError
            If there is none.
        """
        entry = self._slides.active
        if entry is None:
            raise RegionError("No slide is open", advice="Open one")
        target = self._view.target
        if target == "slide":
            return Region.slide()
        if target == "shapes":
            return region_from_shapes(entry.layers.regions)
        seen = camera.clipped(camera.view_of(self._viewer), entry.session.slide.info)
        if seen is None:
            raise RegionError("The slide is out of sight", advice="Move it into view, or press fit")
        y0, x0, y1, x1 = seen
        return Region.rectangle(y0, x0, y1 - y0, x1 - x0)

    def why_not(self, region: Region | None = None) -> str:
        """Why this region, or what is chosen, cannot be segmented now; empty if it can."""
        entry, model = self._slides.active, self._models.loaded
        if entry is None:
            return "Open a slide first."
        info = entry.session.slide.info
        if info.mpp is None:
            return "Say the slide's µm per pixel first (section Slide)."
        if self._models.loading:
            return "The model is being loaded."
        if model is None:
            return "Choose a model first (section Model)."
        coarse = coarse_problem(info, model.card.mpp)
        if coarse:
            return coarse
        if entry.session.read_only_because:
            return f"{entry.session.read_only_because}; results can only be looked at here."
        if self.running is not None:
            return "A run is under way."
        if region is None:
            try:
                self.region()
            except RegionError as error:
                return sentence(error)
        return ""

    @slot
    def refresh(self) -> None:
        """Bring button and estimate up to date with slide, model and target."""
        why_not = self.why_not()
        entry = self._slides.active
        self._view.allow(why_not, primary=entry is None or not entry.session.has_results)
        known = entry is not None and entry.session.slide.info.mpp is not None
        self._view.draw.setEnabled(known)
        if self.running is not None:
            return
        self._jobs.cancel("estimate")
        if why_not:
            self._estimate = None
            self._view.estimate.say(why_not)
            return
        if self._estimate is None:
            self._view.estimate.say("Counting windows…")
        self._asking.start()

    @slot
    def _view_moved(self) -> None:
        if self._view.target == "view":
            self.refresh()

    @slot
    def _slide_changed(self) -> None:
        self._view.error.say("")
        entry = self._slides.active
        layer = None if entry is None else entry.layers.regions
        self._watch_regions(layer)
        self._view.set_drawing(False)
        self.refresh()

    def _watch_regions(self, layer: Any) -> None:
        if layer is self._watched:
            return
        for emitter in self._region_events(self._watched):
            emitter.disconnect(self._regions_changed)
        self._watched = layer
        for emitter in self._region_events(layer):
            emitter.connect(self._regions_changed)

    @staticmethod
    def _region_events(layer: Any) -> list[Any]:
        return [] if layer is None else [layer.events.data, layer.events.highlight]

    @slot
    def _regions_changed(self, event: Any = None) -> None:
        if self._view.target == "shapes" and not self._asking.isActive():
            self.refresh()

    @slot
    def draw(self, on: bool) -> None:
        """Turn the drawing tool on or off."""
        entry = self._slides.active
        if entry is None:
            return
        if on:
            entry.layers.start_drawing()
            self._watch_regions(entry.layers.regions)
            self._view.set_target("shapes")
        else:
            entry.layers.stop_drawing()
        self._view.set_drawing(on)
        self.refresh()

    # The estimate

    @slot
    def _ask_for_estimate(self) -> None:
        entry, model = self._slides.active, self._models.loaded
        if entry is None or model is None or self.why_not():
            self.refresh() if self.why_not() else None
            return
        region, session, mode = self.region(), entry.session, self._models.mode
        slide = session.slide

        def work(job: Job) -> Estimate:
            return estimate(slide, model, region, session.tissue(), job.cancel, mode)

        def done(found: Estimate) -> None:
            self._estimate = found
            count = self._shape_count()
            text = estimate_text(found.windows, self._models.rate)
            self._view.estimate.say(f"{count}{text}")
            self._view.estimate.setVisible(self.running is None)

        def failed(error: Exception) -> None:
            self._estimate = None
            self._view.estimate.say(sentence(error), "error")

        self._jobs.start("estimate", work, done=done, error=failed)

    def _shape_count(self) -> str:
        entry = self._slides.active
        if self._view.target != "shapes" or entry is None or entry.layers.regions is None:
            return ""
        layer = entry.layers.regions
        total = len(layer.data)
        chosen = len(chosen_shapes(total, layer.selected_data))
        if total < 2:
            return ""
        return f"{chosen} of {total} regions · " if chosen < total else f"{total} regions · "

    # The run

    def choose(self, target: str) -> None:
        """Choose what to segment."""
        self._view.set_target(target)

    @slot
    def segment(self, region: Region | None = None) -> None:
        """Start a run.

        Parameters
        ----------
        region : Region, optional
            On this; without, on what is chosen.
        """
        why_not = self.why_not(region)
        entry, model = self._slides.active, self._models.loaded
        if why_not or entry is None or model is None:
            self._view.error.say(why_not, "error")
            return
        if region is None:
            region = self.region()
        if self._view.target == "shapes":
            entry.layers.stop_drawing()
            self._view.set_drawing(False)
        ready, mode = self._estimate, self._models.mode
        plan = (
            ready.plan
            if ready is not None
            and ready.region == region
            and ready.model_sha256 == model.sha256
            and ready.mode == mode
            and ready.plan.grid == entry.session.grid
            else None
        )
        session, device = entry.session, self._models.device
        slide = session.slide
        for channel in ("estimate", "rate"):
            self._jobs.cancel(channel)

        def work(job: Job) -> SegmentResult:
            from napari_hspnet.jobs.segment import segment_into_case

            state = session.writable_case()
            job.report(("case", state))
            job.check()
            known = plan
            if known is None:
                job.report(("stage", "Finding tissue"))
                known = estimate(slide, model, region, session.tissue(), job.cancel, mode).plan
            last = [0.0]

            def progress(told: Progress) -> None:
                now = time.monotonic()
                if now - last[0] >= _REPORTS or told.done == told.total:
                    last[0] = now
                    job.report(("progress", told))

            with self._models.network_in_use:
                return segment_into_case(
                    slide,
                    model,
                    region,
                    state.case,
                    settings=known.settings,
                    plan=known,
                    # Worth it where one waits for rows; a whole slide has enough of them.
                    preview=region.kind != "slide",
                    device=device,
                    progress=progress,
                    cancel=job.cancel,
                    started=lambda writer: job.report(("started", writer)),
                )

        self.running = entry
        self._pixels_seen = -1
        self._view.show_running()
        self._view.show_progress(self._named("Preparing"), 0, 0)
        self._jobs.start(
            "segment",
            work,
            report=self._reported,
            done=self._done,
            error=self._failed,
            cancelled=self._cancelled,
        )
        self._watching.start()
        self.running_changed.emit()

    @slot
    def cancel(self) -> None:
        """Stop the run; nothing of it stays."""
        if self.running is not None:
            self._view.cancel.setEnabled(False)
            self._view.stage.say("Stopping")
            self._jobs.ask_to_stop("segment")

    @slot
    def _reported(self, message: tuple[str, Any]) -> None:
        kind, value = message
        entry = self.running
        if entry is None:
            return
        if kind == "case":
            state: CaseState = value
            self._slides.cases.take(entry, state, reopened=False)
        elif kind == "stage":
            self._view.show_progress(self._named(value), 0, 0)
        elif kind == "started":
            entry.session.show_runs(live=value)
            self._slides.results_changed.emit(entry)
        elif kind == "progress":
            self._show_progress(value)

    def _show_progress(self, told: Progress) -> None:
        text = told.stage
        if told.total:
            text += f", {told.done / told.total:.0%}".replace("%", " %")
        if told.remaining is not None and told.done < told.total:
            text += f" · {about_seconds(told.remaining)} left"
        if self._view.cancel.isEnabled():
            self._view.show_progress(self._named(text), told.done, told.total)

    def _named(self, text: str) -> str:
        """With the slide's name, where another one is on screen."""
        if self.running is None or self.running is self._slides.active:
            return text
        return f"{elided(self.running.session.slide.info.name, 20)}: {text}"

    @slot
    def _look_at_live_run(self) -> None:
        entry = self.running
        if entry is None or entry.session.live is None:
            return
        seen = sum(entry.session.live.pixels.values())
        if seen != self._pixels_seen:
            self._pixels_seen = seen
            self.landed.emit(entry)

    @slot
    def _done(self, result: SegmentResult) -> None:
        entry = self._end()
        model = self._models.loaded
        if model is not None and result.summary.windows >= 4:
            seconds = result.summary.seconds / result.summary.windows
            self._models.note_rate(model, self._models.device, seconds)
        if entry is not None:
            entry.session.reopened = False
            self._slides.results_changed.emit(entry)
            self._slides.cases.show()
            self.finished.emit(entry, result)
        self.refresh()

    @slot
    def _failed(self, error: Exception) -> None:
        entry = self._end()
        self._view.error.say(notify(error), "error")
        if entry is not None:
            self._slides.results_changed.emit(entry)
        self.refresh()

    @slot
    def _cancelled(self) -> None:
        entry = self._end()
        if entry is not None:
            self._slides.results_changed.emit(entry)
        self.refresh()
        self._view.estimate.say("Stopped; nothing of the run was kept")

    def _end(self) -> OpenSlide | None:
        entry, self.running = self.running, None
        self._watching.stop()
        self._view.show_idle()
        if entry is not None:
            try:
                entry.session.show_runs()
            except HspnetError as error:
                self._view.error.say(notify(error), "error")
        self.running_changed.emit()
        return entry

    @slot
    def _slide_removed(self, entry: OpenSlide) -> None:
        if self.running is entry:
            self._jobs.cancel("segment")
            self.running = None
            self._watching.stop()
            self._view.show_idle()
            self.running_changed.emit()

    def close(self) -> None:
        """Let go of layers and timers."""
        self._asking.stop()
        self._watching.stop()
        self._watch_regions(None)
