"""Segment a region into a case: what the Segment button and `predict` both do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_hspnet.cases import FINISHED, Case, RunInfo, RunLayout, RunRecord
from napari_hspnet.errors import CancelledError, CaseError
from napari_hspnet.inference import (
    Plan,
    Progress,
    Settings,
    Summary,
    choose_device,
    describe_device,
    prepare,
    run_plan,
)
from napari_hspnet.inference.modes import mode_of
from napari_hspnet.inference.predictors import check_backend
from napari_hspnet.inference.settings import default_batch
from napari_hspnet.networks import LoadedModel
from napari_hspnet.slides import Region, Slide

if TYPE_CHECKING:
    from napari_hspnet.cases import RunProgress, RunWriter

__all__ = ["SegmentResult", "backend_cache", "run_record", "segment_into_case", "versions"]

_PACKAGES = ("napari-hspnet", "torch", "torchvision", "numpy", "openslide-python", "tifffile")


@dataclass(frozen=True)
class SegmentResult:
    """A finished run, and how it went.

    Attributes
    ----------
    run : RunInfo
        As the case keeps it.
    summary : Summary
        Windows, seconds, device, areas; all parts of a run that was broken off together.
    """

    run: RunInfo
    summary: Summary


def backend_cache() -> Path:
    """Folder in which the choice of a back end is kept for this machine."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-hspnet", appauthor=False)) / "backends"


def versions() -> dict[str, str]:
    """Versions of what a result depends on, by package name."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def run_record(
    slide: Slide,
    model: LoadedModel,
    region: Region,
    settings: Settings,
    device: str,
    backend: str = "eager",
) -> RunRecord:
    """The record of a run about to begin: which model, on what, how."""
    card: dict[str, Any] = json.loads(model.card.to_json())
    mode = mode_of(settings)
    return RunRecord(
        model_name=model.card.name,
        model_sha256=model.sha256,
        card=card,
        settings=settings.to_dict(),
        region=region.to_dict(),
        device=device,
        versions=versions(),
        slide_fingerprint=slide.info.fingerprint,
        synthetic=model.card.synthetic,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        backend=backend,
        mode="" if mode is None else mode.name,
        preview=mode is not None and mode.preview,
    )


def segment_into_case(
    slide: Slide,
    model: LoadedModel,
    region: Region,
    case: Case,
    *,
    settings: Settings | None = None,
    device: str = "auto",
    backend: str = "eager",
    plan: Plan | None = None,
    preview: bool = False,
    resume: bool = False,
    suspend: bool = False,
    reuse: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    started: Callable[[RunWriter], None] | None = None,
    said: Callable[[str], None] | None = None,
) -> SegmentResult:
    """Run a model over a region and keep the result as a run of the case.

    Parameters
    ----------
    slide, model, region, settings, device, backend, progress, cancel
        As for `inference.segment`; "auto" keeps its choice in `backend_cache`.
    case : Case
        Open for writing, of this slide, with the model's µm per pixel.
    plan : Plan, optional
        From `inference.prepare` for the same arguments, to save doing it again.
    preview : bool
        Whether to show rows before they are final, for someone who watches; the
        run that is kept is the same.
    resume : bool
        Whether a run of the same request that was broken off by a kill is gone on
        with, if the case was opened with ``keep_unfinished``; and whether this one
        can be. The result is that of a run that was never broken off.
    suspend : bool
        With `resume`, whether a run that is cancelled is left to be gone on with.
    reuse : str, optional
        Take a finished run of the same request instead, one begun then or later
        (UTC, ISO 8601, in seconds).
    started : callable, optional
        Gets the run's writer before the first block, to show what lands in it.
    said : callable, optional
        Gets a sentence for people where a run is gone on with.

    Returns
    -------
    SegmentResult

    Raises
    ------
    CancelledError
        If cancelled; the case is as it was, but for `suspend`.
    HspnetError
        As `inference.segment` and the case's writer do; the case is as it was.
    """
    settings = settings or Settings(window=model.card.window)
    if case.grid.mpp != model.card.mpp:
        raise CaseError(
            f"The case holds labels of {case.grid.mpp:g} µm per pixel, the model gives "
            f"{model.card.mpp:g}",
            advice="Use a model of the same resolution, or another case folder",
            path=case.folder,
        )
    begun = time.monotonic()
    if plan is None:
        if progress is not None:
            progress(Progress("Finding tissue", 0, 0, 0.0, None))
        plan = prepare(slide, model.card.mpp, region, settings, cancel=cancel)
    target = choose_device(device)
    check_backend(backend)
    record = run_record(slide, model, region, settings, describe_device(target), backend)
    finished = None if reuse is None else _finished(case, record, reuse)
    if finished is not None:
        return _again(finished, plan, default_batch(target))
    writer, earlier = _writer(case, record, plan, resume)
    try:
        if started is not None:
            started(writer)
        rest = plan
        notes: tuple[str, ...] = ()
        if earlier is not None:
            begun -= earlier.seconds
            rest = plan.rest(earlier.rows, default_batch(target))
            gone_on = f"broken off and gone on with at {earlier.part:.0%}".replace("%", " %")
            notes = (gone_on,)
            if said is not None:
                said(f"The run was {gone_on}")
        summary = run_plan(
            slide,
            model,
            rest,
            writer,
            device=device,
            backend=backend,
            backend_cache=backend_cache(),
            preview=preview,
            progress=progress,
            cancel=cancel,
            reached=writer.reached,
            scratch=writer.folder,
        )
        run = writer.finish(
            time.monotonic() - begun,
            replace(writer.info.record, backend=summary.backend, notes=(*summary.notes, *notes)),
        )
    except BaseException as error:
        if suspend and isinstance(error, CancelledError):
            writer.suspend()
        writer.discard()
        raise
    if earlier is not None:
        summary = replace(
            summary,
            windows=summary.windows + plan.windows - rest.windows,
            seconds=summary.seconds + earlier.seconds,
            area_mm2=dict(run.areas),
        )
    return SegmentResult(run, summary)


def _finished(case: Case, record: RunRecord, since: str) -> RunInfo | None:
    """The newest finished run of the same request."""
    for run in reversed(case.runs):
        same = run.state == FINISHED and run.record.same_labels(record)
        if same and run.record.started >= since:
            return run
    return None


def _again(run: RunInfo, plan: Plan, batch: int) -> SegmentResult:
    """What a finished run came to, as if it had just been finished."""
    record, seconds = run.record, run.seconds or 0.0
    areas = dict(run.areas)
    return SegmentResult(
        run,
        Summary(plan.windows, seconds, record.device, batch, areas, record.backend, record.notes),
    )


def _writer(
    case: Case, record: RunRecord, plan: Plan, resume: bool
) -> tuple[RunWriter, RunProgress | None]:
    """Where the run is written; and how far it had come, if it was broken off."""
    if not resume:
        return case.start_run(record), None
    layout = RunLayout(
        tuple((band.x0, band.x1) for band in plan.bands), plan.box.y0, plan.box.y1, plan.windows
    )
    writer = case.take_up(record, layout)
    if writer is None:
        return case.start_run(record, layout), None
    return writer, writer.progress
