"""A folder that a long job writes into, one job at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_hspnet.cases.lock import CaseLock
from napari_hspnet.errors import CaseInUseError, OutputError

__all__ = ["read_document", "working_folder"]


@contextmanager
def working_folder(folder: Path, lock: str) -> Iterator[None]:
    """Make a folder where it is missing, and hold its lock until the block ends.

    Parameters
    ----------
    folder : Path
    lock : str
        Name of the lock file.

    Raises
    ------
    OutputError
        If it cannot be made, or another job works in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The folder cannot be made ({error.strerror or error})",
            advice="Choose a folder that you may write to",
            path=folder,
        ) from error
    try:
        held = CaseLock(folder / lock)
    except CaseInUseError as error:
        raise OutputError(
            error.what.replace("The case is being worked on by", "The folder is in use by"),
            advice="Wait for it to end, or choose another folder",
            path=folder,
        ) from error
    try:
        yield
    finally:
        held.release()


def read_document(path: Path) -> dict[str, Any] | None:
    """A JSON object that a job left in its folder; None where there is none.

    Raises
    ------
    OutputError
        If it cannot be read as one.
    """
    try:
        said = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputError(
            f"What an earlier run noted cannot be read ({error})",
            advice="Choose another folder, or remove that file if the folder is to begin anew",
            path=path,
        ) from error
    if not isinstance(said, dict):
        raise OutputError(
            "What an earlier run noted is no list of names and values",
            advice="Choose another folder",
            path=path,
        )
    return said
