"""Whole files or none: written beside, then put in place in one step."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from napari_hspnet.cases.failures import output_failures
from napari_hspnet.errors import CancelledError, OutputError

__all__ = [
    "Cancel",
    "Report",
    "Watched",
    "new_file",
    "new_folder",
    "refuse_existing",
    "refuse_existing_folder",
    "stop_if",
    "stretch",
]

Report = Callable[[float], None]
"""Called with the part that is done, 0 to 1."""

Cancel = threading.Event


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise where a file would be replaced that the user did not offer up.

    Raises
    ------
    OutputError
        If `path` exists and `overwrite` is False, or is a folder.
    """
    if path.is_dir():
        raise OutputError("The output is a folder", advice="Name a file", path=path)
    if path.exists() and not overwrite:
        raise OutputError(
            "The output exists already",
            advice="Choose another name, or allow overwriting",
            path=path,
        )


@contextmanager
def new_file(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A file to write that takes its name only when complete.

    Yields
    ------
    Path
        A file beside `path`; removed again when the block raises.

    Raises
    ------
    OutputError
        The file exists, the disk is full, or writing is not permitted.
    """
    refuse_existing(path, overwrite)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with output_failures(path):
        try:
            beside.touch(exist_ok=False)
            yield beside
            _sync(beside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def refuse_existing_folder(path: Path, overwrite: bool, ours: Callable[[Path], bool]) -> None:
    """Raise where a folder would be replaced that the user did not offer up, or not ours.

    Parameters
    ----------
    path : Path
        The folder to make.
    overwrite : bool
        Whether an earlier export may be replaced.
    ours : callable (Path) -> bool
        Whether a folder is such an export; nothing else is ever removed.

    Raises
    ------
    OutputError
        If so.
    """
    if not path.exists():
        return
    if not overwrite:
        raise OutputError(
            "The output exists already",
            advice="Choose another name, or allow overwriting",
            path=path,
        )
    if not path.is_dir() or (any(path.iterdir()) and not ours(path)):
        raise OutputError(
            "The output is no earlier export of this kind, so it is not replaced",
            advice="Choose another name",
            path=path,
        )


@contextmanager
def new_folder(
    path: Path,
    ours: Callable[[Path], bool],
    overwrite: bool = False,
    cancel: Cancel | None = None,
) -> Iterator[Path]:
    """A folder to fill that takes its name only when complete.

    Parameters
    ----------
    path, overwrite, ours
        As for `refuse_existing_folder`.
    cancel : threading.Event, optional
        Looked at while all is put on the disk: thousands of files take their time.

    Yields
    ------
    Path
        A folder beside `path`; removed again when the block raises.

    Raises
    ------
    OutputError
        The folder exists, the disk is full, or writing is not permitted.
    CancelledError
        If `cancel` was set.
    """
    refuse_existing_folder(path, overwrite, ours)
    mark = secrets.token_hex(4)
    beside = path.with_name(f".{path.name}.{mark}.part")
    former = path.with_name(f".{path.name}.{mark}.old")
    with output_failures(path):
        try:
            beside.mkdir()
            yield beside
            for file in beside.rglob("*"):
                stop_if(cancel)
                if file.is_file():
                    _sync(file)
            if path.exists():
                path.replace(former)
            try:
                beside.replace(path)
            except OSError:
                if former.exists():
                    former.replace(path)
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            if path.exists():
                shutil.rmtree(former, ignore_errors=True)


def stretch(progress: Report | None, start: float, stop: float) -> Report | None:
    """Tells the progress of one step as that of the whole, from `start` to `stop`."""
    if progress is None:
        return None
    return lambda part: progress(start + (stop - start) * min(1.0, part))


class Watched:
    """A file to write that stops whoever writes to it once the user has cancelled.

    Encoders of images have no other place where one could ask them to.
    """

    def __init__(self, file: IO[bytes], cancel: Cancel | None) -> None:
        self._file, self._cancel = file, cancel

    def write(self, data: bytes) -> int:
        """Write, unless cancelled.

        Raises
        ------
        CancelledError
            If cancelled.
        """
        stop_if(self._cancel)
        return self._file.write(data)

    def flush(self) -> None:
        """Hand on what is held."""
        self._file.flush()


def _sync(path: Path) -> None:
    """Have it on the disk; a full one may say so no earlier."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def stop_if(cancel: Cancel | None) -> None:
    """Raise `CancelledError` once the user has cancelled."""
    if cancel is not None and cancel.is_set():
        raise CancelledError
