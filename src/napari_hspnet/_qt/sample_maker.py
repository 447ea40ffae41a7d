"""Making the phantom sample in a worker, with its progress in napari's activity bar."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication

from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.errors import CancelledError

__all__ = ["make_phantom", "make_phantom_meanwhile"]


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


def make_phantom_meanwhile(path: Path) -> None:
    """Make the sample in a worker; the window goes on living until it is there.

    napari wants a sample's layers when the function returns, so this waits, in an
    event loop of its own.

    Raises
    ------
    CancelledError
        If napari was closed meanwhile.
    OutputError
        The user's cache cannot be written.
    """
    from napari.utils import progress

    application = QApplication.instance()
    if application is None:
        make_phantom(path, Job(lambda kind, value: None))
        return
    loop = QEventLoop()
    jobs = Jobs()
    failures: list[Exception] = []
    bar = progress(total=100, desc="Making the phantom slide")

    def failed(error: Exception) -> None:
        failures.append(error)
        loop.quit()

    jobs.start(
        "phantom",
        lambda job: make_phantom(path, job),
        done=lambda made: loop.quit(),
        error=failed,
        report=lambda told: bar.update(int(told[0] * 100) - bar.n),
        cancelled=loop.quit,
    )
    application.lastWindowClosed.connect(loop.quit)
    loop.exec_()
    application.lastWindowClosed.disconnect(loop.quit)
    unfinished = jobs.busy("phantom")
    jobs.close()
    bar.close()
    if failures:
        raise failures[0]
    if unfinished:
        raise CancelledError
