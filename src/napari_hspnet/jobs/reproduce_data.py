"""Phantoms as files, in the layout of MTCHI, to train and to test on."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.errors import OutputError
from napari_hspnet.exchange.output import new_folder, stop_if
from napari_hspnet.jobs.judging import Advance
from napari_hspnet.jobs.phantom_fields import FieldJob, draw_fields
from napari_hspnet.jobs.reproduce_scale import PhantomPlan
from napari_hspnet.phantom import PHANTOM_VERSION, generator_hash
from napari_hspnet.phantom.domains import domain as known_domain
from napari_hspnet.phantom.splits import seeds_of
from napari_hspnet.training.data import PHANTOM_MARK, synthetic_origin

__all__ = ["phantom_folder"]


def phantom_folder(
    folder: Path,
    plan: PhantomPlan,
    *,
    workers: int = 1,
    tell: Advance | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Draw a plan's fields into a folder, or find them there.

    ``Task2/{Training,Test}/{Img,Truth}`` as MTCHI has it, and ``Task2/phantom.json``,
    by which training and evaluating know them for what they are. The folder takes
    its name only when complete.

    Parameters
    ----------
    folder : Path
    plan : PhantomPlan
    workers : int
        Processes that draw; the fields are the same whatever their number.
    tell : callable, optional
        Told of progress.
    cancel : threading.Event, optional

    Returns
    -------
    dict
        What ``phantom.json`` says.

    Raises
    ------
    OutputError
        If the folder holds other phantoms or something else, or cannot be written.
    InputError
        If the plan cannot be drawn.
    CancelledError
        If `cancel` was set.
    """
    known_domain(plan.domain)
    parts = {
        "Training": seeds_of("train", 0, plan.train),
        "Test": seeds_of("test", 0, plan.test),
    }
    said = {
        "notice": f"Synthetic. {RESEARCH_USE_ONLY}",
        "phantom_version": PHANTOM_VERSION,
        "generator_hash": generator_hash(),
        "domain": plan.domain,
        "field_side": plan.side,
        "seeds": {part: [seeds[0], seeds[-1]] for part, seeds in parts.items()},
    }
    if folder.exists():
        there = synthetic_origin(folder)
        if there != said:
            raise OutputError(
                "The folder holds other phantoms than were asked for, or something else",
                advice="Choose another folder",
                path=folder,
            )
        return said
    # Left by a run that was killed in here; the caller holds the folder's lock.
    for rest in folder.parent.glob(f".{folder.name}.*.part"):
        shutil.rmtree(rest, ignore_errors=True)
    with new_folder(folder, lambda _: False, cancel=cancel) as to:
        jobs = [
            (part, FieldJob(s, plan.side, None, plan.domain))
            for part, own in parts.items()
            for s in own
        ]
        fields = draw_fields([job for _, job in jobs], workers, cancel)
        for number, ((part, job), field) in enumerate(zip(jobs, fields, strict=True), start=1):
            stop_if(cancel)
            own = to / "Task2" / part
            _save(field.rgb, own / "Img" / f"Crop_P{job.seed:010}-1-1.png")
            _save(field.truth, own / "Truth" / f"Mask_P{job.seed:010}-1-1.png")
            if tell is not None:
                tell("drawing phantoms", number / len(jobs), None)
        mark = to / "Task2" / PHANTOM_MARK
        mark.write_text(f"{json.dumps(said, indent=2)}\n", encoding="utf-8")
    return said


def _save(array: Any, path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, format="PNG", compress_level=1)
