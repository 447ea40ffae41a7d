"""What is known of a run: its record, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import Any

__all__ = ["FINISHED", "WRITING", "RunInfo", "RunRecord", "active_runs"]

WRITING, FINISHED = "writing", "finished"


@dataclass(frozen=True)
class RunRecord:
    """What a run was made with; written before its first pixel.

    Only `backend` and `notes` are stated anew when it is finished: what was asked
    for may have given way to another. Nothing changes after that.

    Attributes
    ----------
    model_name, model_sha256 : str
        The checkpoint; its file's SHA-256 is its identity.
    card : Mapping
        The model card as plain JSON values.
    settings : Mapping
        The engine's settings, likewise.
    region : Mapping
        `Region.to_dict`.
    device : str
        Such as ``"cpu"`` or ``"cuda:0 NVIDIA …"``.
    versions : Mapping of str to str
        Of this package and of what computes (torch, numpy, openslide).
    slide_fingerprint : str
        `SlideInfo.fingerprint`.
    synthetic : bool
        Whether the model was trained on synthetic slides only.
    started : str
        UTC, ISO 8601.
    backend : str
        What ran the network, see `inference.predictors`; all give the same labels.
    notes : tuple of str
        How that was chosen, what failed, and whether the run was broken off.
    mode : str
        Name of the mode that its settings are, see `inference.modes`; empty for none.
    preview : bool
        Whether the mode is a rough one that is not for grading.
    """

    model_name: str
    model_sha256: str
    card: Mapping[str, Any]
    settings: Mapping[str, Any]
    region: Mapping[str, Any]
    device: str
    versions: Mapping[str, str]
    slide_fingerprint: str
    synthetic: bool
    started: str
    backend: str = "eager"
    notes: tuple[str, ...] = ()
    mode: str = ""
    preview: bool = False

    @property
    def title(self) -> str:
        """The model, and that it was only a preview where it was: for screens and exports."""
        return f"{self.model_name} (preview)" if self.preview else self.model_name

    def to_json(self) -> str:
        """As JSON; `from_json` gives an equal record."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> RunRecord:
        """The record that `to_json` wrote.

        Raises
        ------
        KeyError, ValueError
            If the text is no such record.
        """
        data = json.loads(text)
        # What was added later is missing in older cases.
        known = {
            f.name: data[f.name] for f in fields(cls) if f.name in data or f.default is MISSING
        }
        return cls(**known | {"notes": tuple(known.get("notes", ()))})

    def same_request(self, other: RunRecord) -> bool:
        """Whether another run, whenever it began, would give the same labels."""
        return self._request() == other._request()

    def same_labels(self, other: RunRecord) -> bool:
        """The same, whatever back ends ran: all of them give the same labels."""
        return replace(self, backend=other.backend).same_request(other)

    def _request(self) -> str:
        return replace(self, started="", notes=()).to_json()


@dataclass(frozen=True)
class RunInfo:
    """A run of a case.

    Attributes
    ----------
    id : str
        Its name in the case folder, sorted by time.
    record : RunRecord
        What it was made with.
    state : str
        ``"writing"`` or ``"finished"``.
    finished : str or None
        UTC, ISO 8601.
    seconds : float or None
        How long it took.
    pixels : Mapping of int to int
        Label pixels per class value, 255 (not run) left out.
    areas : Mapping of int to float
        The same in mm².
    """

    id: str
    record: RunRecord
    state: str
    finished: str | None = None
    seconds: float | None = None
    pixels: Mapping[int, int] = field(default_factory=dict)
    areas: Mapping[int, float] = field(default_factory=dict)


def active_runs(runs: Iterable[RunInfo], active: Iterable[str]) -> dict[str, Any]:
    """Which runs are active, the topmost last, and where, as the journal says it."""
    known = {run.id: run.record for run in runs}
    return {
        "active": [
            {
                "id": run_id,
                "model": known[run_id].model_name,
                "sha256": known[run_id].model_sha256,
                "region": known[run_id].region,
            }
            for run_id in active
        ]
    }
