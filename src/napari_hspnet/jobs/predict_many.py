"""Many slides on many processes or machines; what is done is not done again."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_hspnet.errors import (
    CancelledError,
    CaseInUseError,
    CheckpointError,
    HspnetError,
    InputError,
)
from napari_hspnet.inference import choose_device
from napari_hspnet.inference.predictors import check_backend
from napari_hspnet.jobs.crew import Crew, crew_client, import_distributed
from napari_hspnet.jobs.formats import refuse_outputs
from napari_hspnet.jobs.manifest import (
    BEGUN,
    DONE,
    FAILED,
    MANIFEST,
    STOPPED,
    Manifest,
    SlideEntry,
)
from napari_hspnet.jobs.predict import PredictOptions, PredictResult, check_outputs, predict
from napari_hspnet.jobs.working_folder import working_folder
from napari_hspnet.networks import LoadedModel, load_checkpoint
from napari_hspnet.slides.fingerprint import fingerprint

__all__ = ["ManyResult", "predict_many"]

_LOCK = ".predict.lock"
_POLL = 0.5
_STOP_WITHIN = 20.0
_BUSY_FOR = 60.0
_ASK_AGAIN = 5.0

Told = Callable[[SlideEntry, int, int], None]


@dataclass(frozen=True)
class ManyResult:
    """What came of a job over many slides.

    Attributes
    ----------
    entries : tuple of SlideEntry
        One a slide, in the order given.
    before : frozenset of str
        Paths of slides that an earlier job had done.
    """

    entries: tuple[SlideEntry, ...]
    before: frozenset[str]


def predict_many(
    slides: Sequence[Path],
    model: LoadedModel,
    options: PredictOptions,
    crew: Crew,
    told: Told | None = None,
    cancel: threading.Event | None = None,
) -> ManyResult:
    """Segment slides side by side and write their masks, one slide a task.

    The manifest in the output folder says what became of each. Called again, only
    what is missing, failed or stopped is done, and a run that was broken off is gone
    on with. A slide whose worker is lost is given to another.

    Parameters
    ----------
    slides : sequence of Path
        As this machine and all workers see them.
    model : LoadedModel
        From a file, likewise.
    options : PredictOptions
        Folders likewise; with `overwrite` what is done already is done again.
    crew : Crew
        Who works.
    told : callable (entry, slides ended, slides in all), optional
        Called from this thread whenever a slide has ended.
    cancel : threading.Event, optional
        Ends the job when set; what is running is left to be gone on with.

    Raises
    ------
    CancelledError
        If cancelled. The manifest says what was done.
    DependencyError
        If dask.distributed is not installed.
    InputError, OutputError
        What `predict` would find in every slide is found before the first.
    """
    import_distributed()
    stop = cancel or threading.Event()
    if model.path is None:
        raise InputError(
            "A model that is in no file cannot be handed to workers", advice="Save it first"
        )
    check_backend(options.backend)
    if crew.scheduler is None:
        choose_device(options.device)
    check_outputs(slides, replace(options, overwrite=True))
    with working_folder(options.out, _LOCK):
        manifest = Manifest(options.out / MANIFEST)
        asked = [_asked(path, model, options) for path in slides]
        before = [] if options.overwrite else [e for e in asked if _is_done(e, manifest)]
        todo = [entry for entry in asked if entry not in before]
        for entry in todo:
            earlier = manifest.entries.get(entry.slide)
            ours = earlier is not None and earlier.same_request(entry)
            refuse_outputs(options.outputs(Path(entry.slide)), options.overwrite or ours)
        job = _Job(manifest, model.path.absolute(), options, told, stop, len(asked))
        if todo:
            job.carry_out(todo, crew)
        if stop.is_set():
            raise CancelledError
        known = manifest.entries
        return ManyResult(
            tuple(known[entry.slide] for entry in asked),
            frozenset(entry.slide for entry in before),
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _asked(path: Path, model: LoadedModel, options: PredictOptions) -> SlideEntry:
    """What a slide is to be given to a worker with."""
    settings: Mapping[str, Any] = {
        "region": options.region.to_dict(),
        "engine": options.settings(model.card.window).to_dict(),
        "formats": sorted(options.formats),
        "png_mpp": options.png_mpp,
        "origin": options.origin,
        "mpp": options.mpp,
        "backend": options.backend,
    }
    return SlideEntry(str(path.absolute()), BEGUN, model.sha256, settings, _now())


def _is_done(asked: SlideEntry, manifest: Manifest) -> bool:
    found = manifest.entries.get(asked.slide)
    if found is None or found.state != DONE or not found.same_request(asked):
        return False
    with contextlib.suppress(OSError):
        # A slide that only the workers see is taken for what it was.
        if fingerprint(Path(asked.slide)) != found.fingerprint:
            return False
    return all(Path(path).exists() for path in found.outputs.values())


class _Job:
    """Slides handed out, and what comes back."""

    def __init__(
        self,
        manifest: Manifest,
        checkpoint: Path,
        options: PredictOptions,
        told: Told | None,
        stop: threading.Event,
        total: int,
    ) -> None:
        self._manifest = manifest
        self._checkpoint = checkpoint
        self._told = told
        self._stop = stop
        self._total = total
        self._ended = 0
        self._options = replace(
            options,
            out=options.out.absolute(),
            cases=None if options.cases is None else options.cases.absolute(),
            # What may not be replaced has been refused; a worker that is lost can leave
            # masks behind, and a finished run.
            overwrite=True,
            suspend=True,
            reuse=_now() if options.overwrite or options.fresh else "",
        )

    def carry_out(self, todo: Sequence[SlideEntry], crew: Crew) -> None:
        self._ended = self._total - len(todo)
        with crew_client(crew) as client:
            self._manifest.add(todo)
            name = f"hspnet-stop-{secrets.token_hex(4)}"
            flag = import_distributed().Event(name, client=client)
            waiting = {
                client.submit(
                    segment_one,
                    entry,
                    self._checkpoint,
                    self._options,
                    name,
                    key=f"{Path(entry.slide).name}-{secrets.token_hex(4)}",
                    pure=False,
                ): entry
                for entry in todo
            }
            while waiting and not self._stop.is_set():
                self._take(waiting, _POLL)
            if waiting:
                flag.set()
                # What a worker holds ends by itself, files and all.
                held = {key for keys in client.processing().values() for key in keys}
                client.cancel([f for f in waiting if f.key not in held])
                deadline = time.monotonic() + _STOP_WITHIN
                while waiting and time.monotonic() < deadline:
                    self._take(waiting, _POLL)

    def _take(self, waiting: dict[Any, SlideEntry], seconds: float) -> None:
        """Enter what has ended."""
        distributed = import_distributed()
        cancelled = distributed.client.FuturesCancelledError
        with contextlib.suppress(TimeoutError, distributed.TimeoutError, cancelled):
            distributed.wait(list(waiting), timeout=seconds, return_when="FIRST_COMPLETED")
        for future in [f for f in waiting if f.status != "pending"]:
            entry = _ended(future, waiting.pop(future), self._stop.is_set())
            self._manifest.add([entry])
            if entry.state in (DONE, FAILED):
                self._ended += 1
                if self._told is not None:
                    self._told(entry, self._ended, self._total)


def _ended(future: Any, asked: SlideEntry, stopping: bool) -> SlideEntry:
    """What a task gave, or why it gave nothing."""
    if future.status == "finished":
        entry: SlideEntry = future.result()
        return entry
    if stopping:
        return replace(asked, state=STOPPED, time=_now())
    if future.status == "error":
        error = future.exception()
        lost = type(error).__name__ == "KilledWorker"
        what = (
            "Every worker that was given this slide was lost"
            if lost
            else f"{type(error).__name__}: {error}"
        )
        advice = (
            "Look whether their memory ran out, and run the command again"
            if lost
            else "Report this: it is a fault of the program"
        )
        return _failed(asked, type(error).__name__, what, advice)
    return _failed(
        asked,
        "LostTask",
        "The scheduler was lost",
        "Look whether it runs, then run the command again",
    )


def _failed(asked: SlideEntry, kind: str, what: str, advice: str) -> SlideEntry:
    error = {"kind": kind, "what": what, "advice": advice}
    return replace(asked, state=FAILED, time=_now(), error=error)


def segment_one(
    asked: SlideEntry, checkpoint: Path, options: PredictOptions, stop_name: str
) -> SlideEntry:
    """The task of one slide, in a worker's process; what became of it.

    Parameters
    ----------
    asked : SlideEntry
        The slide.
    checkpoint : Path
        The model.
    options : PredictOptions
        What to make of it.
    stop_name : str
        Of the `distributed.Event` that ends it.
    """
    asked = replace(asked, worker=f"{socket.gethostname()}:{os.getpid()}")
    path = Path(asked.slide)
    try:
        with _stopped_by(stop_name) as stop:
            model = load_checkpoint(checkpoint)
            if model.sha256 != asked.model:
                raise CheckpointError(
                    "The model's file is another one than when the job began",
                    advice="Run the command again",
                    path=checkpoint,
                )
            result = _predicted(path, model, options, stop)
    except CancelledError:
        return replace(asked, state=STOPPED, time=_now())
    except HspnetError as error:
        return _failed(asked, type(error).__name__, error.what, error.advice)
    return replace(
        asked,
        state=DONE,
        time=_now(),
        fingerprint=result.run.record.slide_fingerprint,
        case=str(result.case),
        run=result.run.id,
        windows=result.windows,
        seconds=result.run.seconds or 0.0,
        areas_mm2={str(value): area for value, area in result.run.areas.items()},
        outputs={name: str(file) for name, file in result.outputs.items()},
        warnings=result.warnings,
    )


def _predicted(
    path: Path, model: LoadedModel, options: PredictOptions, stop: threading.Event
) -> PredictResult:
    """Predict, once whoever has the case lets go of it: a worker that is taken for lost, say."""
    deadline = time.monotonic() + _BUSY_FOR
    while True:
        try:
            return predict(path, model, options, cancel=stop)
        except CaseInUseError:
            if time.monotonic() > deadline or stop.wait(1.0):
                raise


@contextlib.contextmanager
def _stopped_by(name: str) -> Iterator[threading.Event]:
    """An event that is set when the cluster's of that name is."""
    stop, over = threading.Event(), threading.Event()
    flag = import_distributed().Event(name)

    def watch() -> None:
        while not (stop.is_set() or over.is_set()):
            try:
                if flag.wait(timeout=_ASK_AGAIN):
                    stop.set()
            except Exception:
                # A scheduler that does not answer is not a reason to end a long run.
                over.wait(1.0)

    # A slide that is begun after the job was stopped is not worked on.
    with contextlib.suppress(Exception):
        if flag.is_set():
            stop.set()
    watching = threading.Thread(target=watch, name="hspnet-stop", daemon=True)
    watching.start()
    try:
        yield stop
    finally:
        over.set()
