"""One writer at a time, by a lock that a crash releases."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
from pathlib import Path

from napari_hspnet.cases.failures import output_failures
from napari_hspnet.errors import CaseInUseError

__all__ = ["CaseLock"]

# Windows locks bytes against reading too, so the locked byte lies behind the
# text that tells others who holds the lock.
_LOCKED_BYTE = 1 << 30


class CaseLock:
    """The operating system's lock on ``case.lock``, held until `release`.

    It is bound to the open file: when the process ends, however it ends, the
    lock is free. The file itself stays, and says who held it last.

    Parameters
    ----------
    path : Path
        The lock file; made where absent.

    Raises
    ------
    CaseInUseError
        If another process, or another `Case` in this one, holds it.
    OutputError
        If the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        with output_failures(path.parent):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _take(self._file)
        except OSError as error:
            os.close(self._file)
            raise CaseInUseError(
                f"The case is being worked on by {_holder(path)}",
                advice="Close it there, or open it read-only",
                path=path.parent,
            ) from error
        said = {"user": _user(), "pid": os.getpid(), "host": socket.gethostname()}
        try:
            with output_failures(path.parent):
                os.ftruncate(self._file, 0)
                os.write(self._file, json.dumps(said).encode())
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _take(file: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
    else:
        import fcntl

        # flock, not lockf: it also tells two cases in one process apart.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown user"


def _holder(path: Path) -> str:
    try:
        said = json.loads(path.read_text())
        return f"{said['user']} (process {said['pid']} on {said['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
