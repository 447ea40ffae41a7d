"""Many phantom fields, drawn by several processes."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass

from napari_hspnet.errors import CancelledError
from napari_hspnet.jobs.children import deaf_to_ctrl_c
from napari_hspnet.phantom import Field, domain_field

__all__ = ["FieldJob", "draw_field", "draw_fields"]

# Below this, starting processes takes longer than drawing.
_WORTH_IT = 16


@dataclass(frozen=True)
class FieldJob:
    """A field to draw, at 1 µm per pixel.

    Attributes
    ----------
    seed : int
        From `phantom.splits`.
    side : int
        Pixels.
    grades : tuple of int or None
        Along the band; random where None.
    domain : str
        Stain and scanner.
    """

    seed: int
    side: int
    grades: tuple[int, ...] | None = None
    domain: str = "A"


def draw_field(job: FieldJob) -> Field:
    """Draw one field.

    Raises
    ------
    InputError
        If there is no such domain.
    """
    return domain_field(job.seed, job.side, job.side, 1.0, job.grades, domain=job.domain)


def draw_fields(
    jobs: Sequence[FieldJob], workers: int = 1, cancel: threading.Event | None = None
) -> Generator[Field, None, None]:
    """Draw fields, in the order of the jobs whatever the number of workers.

    Parameters
    ----------
    jobs : sequence of FieldJob
    workers : int
        Processes; 1 draws in this one, and so do few jobs.
    cancel : threading.Event, optional

    Yields
    ------
    Field
        Closing the iterator early ends the processes.

    Raises
    ------
    CancelledError
        If `cancel` was set.
    """
    if len(jobs) < _WORTH_IT or workers < 2:
        for job in jobs:
            _stop_if(cancel)
            yield draw_field(job)
        return
    # Never a fork: torch's threads do not survive one.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        # Few ahead, so that whoever takes fields slowly does not fill the memory.
        ahead: list[Future[Field]] = []
        left = iter(jobs)
        while True:
            for job in left:
                with deaf_to_ctrl_c():
                    ahead.append(pool.submit(draw_field, job))
                if len(ahead) >= 3 * workers:
                    break
            if not ahead:
                return
            first = ahead.pop(0)
            while not first.done():
                _stop_if(cancel)
                wait([first], 0.2, FIRST_COMPLETED)
            _stop_if(cancel)
            yield first.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _stop_if(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise CancelledError
