"""Everything that a user may be told went wrong, each with what to do about it.

The command line prints ``str(error)`` as one line and exits with 2; the window
shows it as a notification. A message therefore says what happened and in which
file, and ``advice`` says what to do next.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "CancelledError",
    "CaseError",
    "CaseInUseError",
    "CaseMismatchError",
    "CheckpointError",
    "DependencyError",
    "DeviceError",
    "DisplayError",
    "HspnetError",
    "InputError",
    "OutOfMemoryError",
    "OutputError",
    "RegionError",
    "RegionLockedError",
    "ResolutionError",
    "SlideError",
    "SlideReadError",
]


class HspnetError(Exception):
    """Base of all errors that a user can cause and can act upon.

    Parameters
    ----------
    what : str
        What happened, one sentence without a full stop.
    advice : str
        What to do about it, one sentence without a full stop.
    path : Path, optional
        The file concerned.
    """

    def __init__(self, what: str, *, advice: str, path: Path | str | None = None) -> None:
        self.what = what
        self.advice = advice
        self.path = None if path is None else Path(path)
        super().__init__(what, advice, path)

    def __str__(self) -> str:
        where = "" if self.path is None or str(self.path) in self.what else f" [{self.path}]"
        return f"{self.what}{where}. {self.advice}."


class CancelledError(Exception):
    """The user stopped a job; not an error to be shown, exit code 130."""


class InputError(HspnetError):
    """An option or argument has a value that cannot be used."""


class SlideError(HspnetError):
    """A slide cannot be opened: absent, damaged, or no slide at all."""


class SlideReadError(SlideError):
    """A part of an open slide cannot be read.

    Parameters
    ----------
    y, x : int
        Level-0 pixel at which the unreadable part begins.
    height, width : int
        Its size in level-0 pixels.
    """

    def __init__(
        self,
        what: str,
        *,
        advice: str,
        path: Path | str | None = None,
        y: int = 0,
        x: int = 0,
        height: int = 0,
        width: int = 0,
    ) -> None:
        super().__init__(what, advice=advice, path=path)
        self.y, self.x, self.height, self.width = y, x, height, width


class ResolutionError(SlideError):
    """µm per pixel is missing, implausible, or too coarse for the model."""


class RegionError(HspnetError):
    """A region lies outside the slide or has no area."""


class CheckpointError(HspnetError):
    """A checkpoint is damaged, of another architecture, or not trusted."""


class DeviceError(HspnetError):
    """The device that was asked for is not there."""


class OutOfMemoryError(DeviceError):
    """Not even the smallest batch fits the device."""


class CaseError(HspnetError):
    """A case folder cannot be used."""


class CaseInUseError(CaseError):
    """Another process holds the case."""


class CaseMismatchError(CaseError):
    """The case belongs to another slide."""


class RegionLockedError(CaseError):
    """What would change lies in a region that is signed off."""


class OutputError(HspnetError):
    """An output cannot be written: exists already, disk full, read-only."""


class DisplayError(HspnetError):
    """A window was asked for where there is no display."""


class DependencyError(HspnetError):
    """An optional package is not installed."""
