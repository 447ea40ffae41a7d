"""Whole files or none: written beside, then put in place in one step."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_hspnet.cases.failures import output_failures
from napari_hspnet.errors import CancelledError, OutputError

__all__ = ["Cancel", "Report", "new_file", "refuse_existing", "stop_if"]

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
            with beside.open("r+b") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def stop_if(cancel: Cancel | None) -> None:
    """Raise `CancelledError` once the user has cancelled."""
    if cancel is not None and cancel.is_set():
        raise CancelledError
