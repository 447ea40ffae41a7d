"""Processes that work on slides: a cluster of dask.distributed, the user's or our own."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from napari_hspnet.errors import DependencyError, InputError
from napari_hspnet.jobs.children import deaf_to_ctrl_c

__all__ = ["Crew", "crew_client", "import_distributed"]

_CONNECT = 15


@dataclass(frozen=True)
class Crew:
    """Who works.

    Attributes
    ----------
    workers : int or None
        Processes on this machine.
    scheduler : str or None
        Address of a scheduler that runs already, such as "tcp://10.0.0.1:8786";
        instead of `workers`.
    """

    workers: int | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if (self.workers is None) == (self.scheduler is None):
            raise InputError(
                "Give either a number of workers or the address of a scheduler",
                advice="Leave one of them out",
            )
        if self.workers is not None and self.workers < 1:
            raise InputError(
                f"{self.workers} workers cannot work", advice="Choose 1 or more workers"
            )


def import_distributed() -> Any:
    """The module.

    Raises
    ------
    DependencyError
        If it is not installed.
    """
    try:
        import distributed
    except ImportError as error:
        raise DependencyError(
            "Working on several slides at once needs dask.distributed, which is not installed",
            advice="Install it with `pip install 'napari-hspnet[cluster]'`, or leave out "
            "--workers and --scheduler",
        ) from error
    return distributed


@contextlib.contextmanager
def crew_client(crew: Crew) -> Iterator[Any]:
    """A client of the cluster; a cluster of our own ends with it.

    Raises
    ------
    DependencyError
        If dask.distributed is not installed.
    InputError
        If no scheduler answers at the address.
    """
    distributed = import_distributed()
    with contextlib.ExitStack() as stack:
        if crew.scheduler is None:
            where: Any = stack.enter_context(_own_cluster(distributed, crew.workers or 1))
        else:
            where = crew.scheduler
        try:
            client = distributed.Client(where, timeout=_CONNECT, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(
                f"No scheduler answers at {where} ({str(error) or type(error).__name__})",
                advice="Start one with `dask scheduler`, or use --workers on this machine",
            ) from error
        stack.enter_context(client)
        # `distributed.wait` asks for the current one.
        stack.enter_context(client.as_current())
        yield client


@contextlib.contextmanager
def _own_cluster(distributed: Any, workers: int) -> Iterator[Any]:
    import dask

    # Dask gives each process one thread for arithmetic, whatever there is.
    threads = max(1, (os.cpu_count() or 1) // workers)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    calm = {name: os.environ.get(name, str(threads)) for name in names}
    calm["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
    with dask.config.set({"distributed.nanny.pre-spawn-environ": calm}):
        # The cluster's thread, begun here, begins the workers, lost ones' successors too.
        with deaf_to_ctrl_c():
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                # A run's memory is bounded; a worker that is held up or ended for what
                # it takes would only begin again.
                memory_limit=0,
                dashboard_address=None,
                # What goes wrong reaches the caller as an error. A client that is gone in
                # the middle of a message is "critical" to it, with a traceback.
                silence_logs=logging.CRITICAL + 1,
            )
        with cluster:
            yield cluster
