"""Segment a region into a case: what the Segment button and `predict` both do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from napari_hspnet.cases import Case, RunInfo, RunRecord
from napari_hspnet.errors import CaseError
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
from napari_hspnet.networks import LoadedModel
from napari_hspnet.slides import Region, Slide

if TYPE_CHECKING:
    from napari_hspnet.cases import RunWriter

__all__ = ["SegmentResult", "run_record", "segment_into_case", "versions"]

_PACKAGES = ("napari-hspnet", "torch", "torchvision", "numpy", "openslide-python", "tifffile")


@dataclass(frozen=True)
class SegmentResult:
    """A finished run, and how it went.

    Attributes
    ----------
    run : RunInfo
        As the case keeps it.
    summary : Summary
        Windows, seconds, device, areas.
    """

    run: RunInfo
    summary: Summary


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
    slide: Slide, model: LoadedModel, region: Region, settings: Settings, device: str
) -> RunRecord:
    """The record of a run about to begin: which model, on what, how."""
    card: dict[str, Any] = json.loads(model.card.to_json())
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
    )


def segment_into_case(
    slide: Slide,
    model: LoadedModel,
    region: Region,
    case: Case,
    *,
    settings: Settings | None = None,
    device: str = "auto",
    plan: Plan | None = None,
    preview: bool = False,
    progress: Callable[[Progress], None] | None = None,
    cancel: threading.Event | None = None,
    started: Callable[[RunWriter], None] | None = None,
) -> SegmentResult:
    """Run a model over a region and keep the result as a run of the case.

    Parameters
    ----------
    slide, model, region, settings, device, progress, cancel
        As for `inference.segment`.
    case : Case
        Open for writing, of this slide, with the model's µm per pixel.
    plan : Plan, optional
        From `inference.prepare` for the same arguments, to save doing it again.
    preview : bool
        Whether to show rows before they are final, for someone who watches; the
        run that is kept is the same.
    started : callable, optional
        Gets the run's writer before the first block, to show what lands in it.

    Returns
    -------
    SegmentResult

    Raises
    ------
    CancelledError
        If cancelled; the case is as it was.
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
    described = describe_device(choose_device(device))
    writer = case.start_run(run_record(slide, model, region, settings, described))
    try:
        if started is not None:
            started(writer)
        summary = run_plan(
            slide,
            model,
            plan,
            writer,
            device=device,
            preview=preview,
            progress=progress,
            cancel=cancel,
        )
        run = writer.finish(time.monotonic() - begun)
    except BaseException:
        writer.discard()
        raise
    return SegmentResult(run, summary)
