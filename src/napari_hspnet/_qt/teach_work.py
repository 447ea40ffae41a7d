"""What a fine-tuning started in the window does in its workers; knows no widget."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_hspnet._qt.work import Job
from napari_hspnet.errors import HspnetError, InputError
from napari_hspnet.jobs.finetune import (
    FinetuneFaultError,
    FinetuneOptions,
    FinetuneSource,
    finetune,
    plan_finetune,
)
from napari_hspnet.jobs.finetune_events import Event, Step, Told
from napari_hspnet.jobs.finetune_request import FinetuneRequest

if TYPE_CHECKING:
    from napari_hspnet.jobs.finetune import FinetuneResult
    from napari_hspnet.jobs.finetune_events import Prepared
    from napari_hspnet.networks import LoadedModel
    from napari_hspnet.networks.registry import ModelRecord

__all__ = [
    "Asked",
    "Parent",
    "accept",
    "can_go_on",
    "forget",
    "go_back",
    "learn",
    "pictures_of",
    "plan",
    "refuse",
    "remembered",
]

_LOG = logging.getLogger("napari_hspnet")
_REPORTS = 0.1


@dataclass(frozen=True)
class Parent:
    """The model that learned.

    Attributes
    ----------
    name : str
    path : Path
    sha256 : str
        "" where it was never loaded in this window.
    """

    name: str
    path: Path
    sha256: str = ""


@dataclass(frozen=True)
class Asked:
    """What the section says should be done.

    Attributes
    ----------
    sources : tuple of FinetuneSource
    parent : Path
    options : FinetuneOptions
        Without its config.
    config : Path or None
        File with finer settings.
    """

    sources: tuple[FinetuneSource, ...]
    parent: Path
    options: FinetuneOptions
    config: Path | None = None

    def whole_options(self) -> FinetuneOptions:
        """The options, with the file's text.

        Raises
        ------
        InputError
            If the file cannot be read.
        """
        if self.config is None:
            return self.options
        try:
            text = self.config.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"The settings cannot be read ({getattr(error, 'strerror', None) or error})",
                advice="Choose a TOML file in UTF-8, or none",
                path=self.config,
            ) from error
        return replace(self.options, config=text)


def plan(asked: Asked, cancel: threading.Event) -> Prepared:
    """What it would learn from.

    Raises
    ------
    HspnetError, CancelledError, FinetuneFaultError
        As `plan_finetune`.
    """
    return plan_finetune(asked.sources, asked.parent, asked.whole_options(), cancel)


def learn(
    job: Job,
    asked: Asked | FinetuneRequest,
    model: LoadedModel | None,
    network_in_use: threading.Lock,
    former: FinetuneRequest | None = None,
) -> FinetuneResult:
    """Fine-tune in a folder of its own, or go on in that of one that was broken off.

    Reports the request, then the events.

    Parameters
    ----------
    job : Job
    asked : Asked or FinetuneRequest
        What to do anew, or what to go on with.
    model : LoadedModel or None
        The window's own, which leaves the GPU.
    network_in_use : Lock
        Held by whoever runs it.
    former : FinetuneRequest, optional
        One that was broken off, and is forgotten now.

    Raises
    ------
    HspnetError, CancelledError, FinetuneFaultError
        As `finetune`.
    """
    if isinstance(asked, Asked):
        options = asked.whole_options()
        request = FinetuneRequest(asked.sources, asked.parent, options, _new_folder())
        if former is not None:
            forget(former.folder)
    else:
        request = asked
    job.check()
    job.report(request)
    if model is not None:
        _leave_gpu(model, network_in_use)
    try:
        return finetune(
            request.sources,
            request.parent,
            request.options,
            request.folder,
            _Teller(job.report),
            job.cancel,
        )
    except FinetuneFaultError as fault:
        _LOG.error("%s", fault.details)
        raise


def remembered(line: str) -> FinetuneRequest | None:
    """The request of a fine-tuning that was begun, if the line is one."""
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, HspnetError):
        return FinetuneRequest.from_line(line)
    return None


def can_go_on(request: FinetuneRequest) -> bool:
    """Whether something was learned that it can go on with."""
    from napari_hspnet.training.resume import SNAPSHOT

    return (request.folder / SNAPSHOT).is_file()


def forget(folder: Path) -> None:
    """Remove what one that was broken off has left, unless it is at work or has a result."""
    from napari_hspnet.jobs.finetune_job import CANDIDATE, LOCK
    from napari_hspnet.jobs.working_folder import working_folder

    if folder.parent != _folder() or not folder.is_dir() or (folder / CANDIDATE).exists():
        return
    try:
        with working_folder(folder, LOCK):
            pass
    except HspnetError:
        return
    shutil.rmtree(folder, ignore_errors=True)


def pictures_of(sha256: str, model: Path) -> list[list[str]]:
    """The pictures of a taught model's verdict, where its fine-tuning was begun in a window.

    Parameters
    ----------
    sha256 : str
        Of the model.
    model : Path
        Its file in the registry.

    Returns
    -------
    list of [str, str]
        Each file and its caption, as `Done.pictures`; empty where none were kept.
    """
    from napari_hspnet.jobs.finetune_job import CANDIDATE
    from napari_hspnet.jobs.finetune_pictures import FOLDER
    from napari_hspnet.networks.inventory import sha256_of

    with contextlib.suppress(OSError):
        size = model.stat().st_size
        for candidate in _folder().glob(f"*/{CANDIDATE}"):
            if candidate.stat().st_size == size and sha256_of(candidate) == sha256:
                files = sorted((candidate.parent / FOLDER).glob("*.png"))
                return [[str(file), _caption(file)] for file in files]
    return []


def _caption(picture: Path) -> str:
    from PIL import Image

    try:
        with Image.open(picture) as opened:
            return str(opened.info.get("Description", picture.stem))
    except (OSError, ValueError, SyntaxError):
        return picture.stem


def accept(sha256: str, by: str, why: str, verdict: dict[str, Any]) -> ModelRecord:
    """Take a candidate: it is accepted, and in use.

    Raises
    ------
    HspnetError
        As `Registry.decide` and `Registry.use`.
    """
    from napari_hspnet.networks.registry import Registry

    registry = Registry()
    registry.decide(sha256, True, by, why, verdict)
    return registry.use(sha256, by)


def refuse(sha256: str, by: str, why: str, verdict: dict[str, Any]) -> ModelRecord:
    """Refuse a candidate; what is in use stays.

    Raises
    ------
    HspnetError
        As `Registry.decide`.
    """
    from napari_hspnet.networks.registry import Registry

    return Registry().decide(sha256, False, by, why, verdict)


def go_back(parent: Parent, by: str) -> ModelRecord:
    """Use the model that learned, as it was; it is taken into the registry where it is not.

    Raises
    ------
    HspnetError
        As `Registry.add` and `Registry.use`.
    """
    from napari_hspnet.networks import load_checkpoint
    from napari_hspnet.networks.registry import Registry

    registry = Registry()
    sha256 = parent.sha256 or load_checkpoint(parent.path).sha256
    if all(record.sha256 != sha256 or record.path is None for record in registry.entries()):
        sha256 = registry.add(parent.path, "candidate", by, "gone back to").sha256
    # One that was refused long ago is what the user worked with, and asks for now.
    return registry.use(sha256, by, anyway=True)


class _Teller:
    """Passes events on; steps and stages ten times a second at most."""

    def __init__(self, report: Callable[[Any], None]) -> None:
        self._report = report
        self._last: tuple[str, float] = "", 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Step):
            what, ends = "learning", event.step == event.of
        elif isinstance(event, Told):
            what, ends = event.doing, False
        else:
            self._report(event)
            return
        now = time.monotonic()
        if ends or what != self._last[0] or now - self._last[1] >= _REPORTS:
            self._last = what, now
            self._report(event)


def _leave_gpu(model: LoadedModel, network_in_use: threading.Lock) -> None:
    """Give the GPU's memory to the process that learns, unless a run needs it just now."""
    import torch

    if not torch.cuda.is_initialized() or not network_in_use.acquire(blocking=False):
        return
    try:
        model.network.to("cpu")
        torch.cuda.empty_cache()
    finally:
        network_in_use.release()


def _folder() -> Path:
    from napari_hspnet.networks import models_folder

    return models_folder().parent / "fine-tunings"


def _new_folder() -> Path:
    """A folder that is not there yet, named by the time."""
    folder = _folder() / f"{datetime.now():%Y-%m-%d %H-%M-%S}"
    number, free = 2, folder
    while free.exists():
        number, free = number + 1, folder.with_name(f"{folder.name} ({number})")
    return free
