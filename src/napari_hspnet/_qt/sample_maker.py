"""Making the phantom sample in a worker, with its progress in napari's activity bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtWidgets import QApplication

from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.work import Job, Jobs

__all__ = ["make_phantom", "make_phantom_for"]


def make_phantom(path: Path, job: Job) -> Path:
    """Write the sample; a worker calls it.

    Raises
    ------
    CancelledError
        If cancelled; nothing is left of it.
    OutputError
        The user's cache cannot be written.
    """
    from napari_hspnet.errors import OutputError
    from napari_hspnet.phantom import sample_spec, write_phantom

    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The sample cannot be written ({error.strerror or error})",
            advice="Check the free space and permissions of your cache folder",
            path=path,
        ) from error
    last = [-1]

    def told(part: float, what: str) -> None:
        if int(part * 100) != last[0]:
            last[0] = int(part * 100)
            job.report((part, what))

    write_phantom(path, sample_spec(), progress=told, cancel=job.cancel, overwrite=True)
    job.check()
    return path


def make_phantom_for(viewer: Any, path: Path) -> Jobs:
    """Make the sample for a viewer, then open it there."""
    from napari import current_viewer
    from napari.utils import progress

    application = QApplication.instance()
    jobs = Jobs(application)
    application.aboutToQuit.connect(jobs.close)
    bar = progress(total=100, desc="Making the phantom slide")

    def report(value: tuple[float, str]) -> None:
        bar.update(int(value[0] * 100) - bar.n)

    def done(made: Path) -> None:
        bar.close()
        if current_viewer() is None:
            return  # the window was closed meanwhile
        viewer.open(str(made), plugin="napari-hspnet")

    def failed(error: Exception) -> None:
        bar.close()
        notify(error)

    viewer.status = "Making the phantom slide (once; about half a minute)"
    jobs.start(
        "phantom",
        lambda job: make_phantom(path, job),
        done=done,
        error=failed,
        report=report,
        cancelled=bar.close,
    )
    return jobs
