"""What became of each slide of a job over many: a file of lines, appended to only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from napari_hspnet.cases.failures import output_failures
from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.errors import OutputError

__all__ = ["BEGUN", "DONE", "FAILED", "MANIFEST", "STOPPED", "Manifest", "SlideEntry"]

MANIFEST = "manifest.jsonl"

BEGUN, DONE, FAILED, STOPPED = "begun", "done", "failed", "stopped"

_FORMAT = 1


@dataclass(frozen=True)
class SlideEntry:
    """What became of one slide.

    Attributes
    ----------
    slide : str
        Its path, absolute.
    state : {"begun", "done", "failed", "stopped"}
        "begun" was handed to a worker; "stopped" by the user, to be gone on with.
    model : str
        SHA-256 of the checkpoint.
    settings : Mapping
        All else that decides what is written, as plain JSON values.
    time : str
        UTC, ISO 8601.
    fingerprint : str
        `slides.SlideInfo.fingerprint`; empty while it is not known.
    case, run : str
        Case folder, and the run's id.
    windows : int
        Network inputs.
    seconds : float
        That the run took.
    areas_mm2 : Mapping of str to float
        By class value.
    outputs : Mapping of str to str
        The file of each format.
    worker : str
        Which process of which machine did it.
    warnings : tuple of str
        What the user should know about the result.
    error : Mapping or None
        "kind", "what" and "advice" where it failed.
    """

    slide: str
    state: str
    model: str
    settings: Mapping[str, Any]
    time: str
    fingerprint: str = ""
    case: str = ""
    run: str = ""
    windows: int = 0
    seconds: float = 0.0
    areas_mm2: Mapping[str, float] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    worker: str = ""
    warnings: tuple[str, ...] = ()
    error: Mapping[str, str] | None = None

    def same_request(self, other: SlideEntry) -> bool:
        """Whether the same was to be made of it."""
        mine, its = ([e.slide, e.model, dict(e.settings)] for e in (self, other))
        return json.dumps(mine, sort_keys=True) == json.dumps(its, sort_keys=True)


class Manifest:
    """The newest entry of each slide; entries are on the disk when `add` returns.

    For one process at a time. A line that a kill cut short is no line.

    Parameters
    ----------
    path : Path
        Made with the first entry.

    Raises
    ------
    OutputError
        If it is no manifest, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, SlideEntry] = {}
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        self._size = data.rfind(b"\n") + 1
        for number, line in enumerate(data[: self._size].splitlines()):
            try:
                self._read(number, json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise self._unusable(f"line {number + 1} is none of ours") from error

    @property
    def entries(self) -> Mapping[str, SlideEntry]:
        """The newest entry of each slide, by its path."""
        return dict(self._entries)

    def add(self, entries: Iterable[SlideEntry]) -> None:
        """Append entries, all of them in one go.

        Raises
        ------
        OutputError
            Disk full, or writing not permitted; none of them counts.
        """
        new = list(entries)
        if not new:
            return
        lines = [_line({"format": _FORMAT, "notice": RESEARCH_USE_ONLY})] if not self._size else []
        lines += [_line(asdict(entry)) for entry in new]
        data = "".join(lines).encode()
        with output_failures(self.path), self.path.open("ab") as file:
            try:
                # What a kill cut short goes.
                file.truncate(self._size)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                file.truncate(self._size)
                raise
        self._size += len(data)
        self._entries |= {entry.slide: entry for entry in new}

    def _read(self, number: int, said: dict[str, Any]) -> None:
        if number == 0:
            if said["format"] != _FORMAT:
                raise ValueError(said["format"])
            return
        # What a newer version may add is left aside.
        known = {f.name: said[f.name] for f in fields(SlideEntry) if f.name in said}
        entry = SlideEntry(**known | {"warnings": tuple(known.get("warnings", ()))})
        self._entries[entry.slide] = entry

    def _unusable(self, why: str) -> OutputError:
        return OutputError(
            f"What an earlier job noted cannot be used ({why})",
            advice="Choose another output folder, or move that file away to begin anew",
            path=self.path,
        )


def _line(said: Mapping[str, Any]) -> str:
    return json.dumps(said, ensure_ascii=False, allow_nan=False) + "\n"
