"""The operating system's and SQLite's errors as sentences for people."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_hspnet.errors import CaseError, HspnetError, OutputError

__all__ = ["case_failures", "output_failures", "output_problem"]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def output_problem(error: OSError, path: Path) -> OutputError:
    """What a failed write means to the user.

    Parameters
    ----------
    error : OSError
        As raised by the operating system.
    path : Path
        What was being written.
    """
    if error.errno in _FULL:
        return OutputError(
            "The disk is full", advice="Free some space or choose another folder", path=path
        )
    if error.errno in _DENIED:
        return OutputError(
            "Writing is not permitted there",
            advice="Choose a folder that you may write to",
            path=path,
        )
    return OutputError(
        f"Writing failed: {error.strerror or error}",
        advice="Check the folder or choose another one",
        path=path,
    )


@contextmanager
def output_failures(path: Path) -> Iterator[None]:
    """Turn an `OSError` inside into an `OutputError` about `path`."""
    try:
        yield
    except OSError as error:
        raise output_problem(error, path) from error


@contextmanager
def case_failures(path: Path) -> Iterator[None]:
    """Turn errors of the disk and of SQLite inside into errors about the case.

    Raises
    ------
    OutputError
        Disk full, or writing not permitted.
    CaseError
        The database is damaged or no case at all.
    """
    try:
        yield
    except HspnetError:
        raise
    except OSError as error:
        raise output_problem(error, path) from error
    except sqlite3.OperationalError as error:
        said = str(error)
        if "full" in said:
            raise output_problem(OSError(errno.ENOSPC, said), path) from error
        if "readonly" in said or "unable to open" in said:
            raise output_problem(OSError(errno.EACCES, said), path) from error
        raise CaseError(
            f"The case cannot be used ({said})",
            advice="Check the disk, then open it again",
            path=path,
        ) from error
    except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
        raise CaseError(
            f"The case is damaged ({error})",
            advice="`napari-hspnet case verify` says what is damaged, `case rescue` begins it "
            "anew from all that can be read; or restore the folder from a backup",
            path=path,
        ) from error
