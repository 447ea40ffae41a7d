"""Judge a model on images, and keep what was judged: a job that is run again goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.inference import Settings
from napari_hspnet.jobs.evaluate import EvaluateOptions, evaluate_source
from napari_hspnet.jobs.evaluation_data import ChosenSource, Source
from napari_hspnet.jobs.evaluation_result import DOCUMENT, is_evaluation
from napari_hspnet.networks import load_checkpoint, read_card
from napari_hspnet.training.data.mtchi import Background

__all__ = ["GAUSS", "PLAIN", "Advance", "Judged", "Way", "judged", "pooled"]

Advance = Callable[[str, float | None, float | None], None]
"""Called with what is being done, the part done, and seconds left."""


@dataclass(frozen=True)
class Way:
    """How a network's windows become a prediction (paper, section 4.5).

    Attributes
    ----------
    stride : float
        Between windows, as a share of one; 1 is side by side, without blending.
    sigma : float
        Of the Gaussian, as a share of a window.
    """

    stride: float = 1.0
    sigma: float = 1 / 8

    @property
    def plain(self) -> bool:
        """Whether nothing is blended."""
        return self.stride >= 1

    @property
    def name(self) -> str:
        """For folders."""
        if self.plain:
            return "plain"
        return f"gauss-stride-{self.stride:g}-sigma-{self.sigma:g}"

    def words(self, window: int) -> str:
        """For tables."""
        if self.plain:
            return "plain"
        return f"Gauss-like, stride {self.pixels(window)}, sigma {self.sigma * window:g}"

    def pixels(self, window: int) -> int:
        """The stride in pixels."""
        return max(1, round(self.stride * window))

    def options(
        self, window: int, device: str, background: Background, out: Path
    ) -> EvaluateOptions:
        """As the evaluation takes it."""
        return EvaluateOptions(
            background=background,
            stride=None if self.plain else self.pixels(window),
            sigma=None if self.plain else self.sigma * window,
            plain=self.plain,
            device=device,
            out=out,
            overwrite=True,
        )


PLAIN = Way()
GAUSS = Way(1 / 4, 1 / 8)
"""The paper's: stride 100 of 400; sigma, which it does not give, an eighth."""


@dataclass(frozen=True)
class Judged:
    """What an evaluation left.

    Attributes
    ----------
    names, patients : tuple of str
        Of the images.
    counts : tuple of ndarray of int64, (5, 5)
        Of each image; see `training.confusion`.
    parameters : int
        Of the network.
    """

    names: tuple[str, ...]
    patients: tuple[str, ...]
    counts: tuple[npt.NDArray[np.int64], ...]
    parameters: int


def judged(
    model: Path,
    source: Source,
    way: Way,
    out: Path,
    *,
    background: Background = "ignore",
    device: str = "auto",
    tell: Advance | None = None,
    cancel: threading.Event | None = None,
) -> Judged:
    """What a model is worth on images; an evaluation of it that lies there is kept.

    Parameters
    ----------
    model : Path
    source : Source
    way : Way
    out : Path
        The evaluation's folder; made, or replaced where it is of another model,
        other images or other settings.
    background : {"class", "ignore"}
    device : str
    tell : callable, optional
    cancel : threading.Event, optional

    Raises
    ------
    HspnetError, CancelledError
        As `evaluate_source`.
    """
    options = way.options(read_card(model).window, device, background, out)
    kept = _kept(model, source, options, out)
    if kept is None:
        # Left by a run that was killed in here; the caller holds the folder's lock.
        for rest in out.parent.glob(f".{out.name}.*.part"):
            shutil.rmtree(rest, ignore_errors=True)
        loaded = load_checkpoint(model)
        evaluate_source(
            source,
            loaded,
            options,
            None if tell is None else lambda r: tell(r.doing, r.fraction, r.remaining),
            cancel,
        )
        kept = json.loads((out / DOCUMENT).read_bytes())
    images = kept["images"]
    return Judged(
        tuple(str(image["name"]) for image in images),
        tuple(str(image["patient"]) for image in images),
        tuple(np.array(image["confusion"], np.int64) for image in images),
        int(kept["model"]["parameters"]),
    )


def pooled(parts: tuple[Judged, ...]) -> Judged:
    """Several of them as one, such as the folds of a cross-validation."""
    return Judged(
        tuple(name for part in parts for name in part.names),
        tuple(patient for part in parts for patient in part.patients),
        tuple(counts for part in parts for counts in part.counts),
        parts[0].parameters,
    )


def _kept(model: Path, source: Source, options: EvaluateOptions, out: Path) -> Any:
    """An evaluation that is of this model, these images and settings; else None."""
    if not is_evaluation(out):
        return None
    said = json.loads((out / DOCUMENT).read_bytes())
    wanted: Settings = options.settings(read_card(model).window)
    data = {**source.to_json(), "background": options.background}
    with model.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    same = (
        isinstance(said.get("model"), dict)
        and said["model"]["sha256"] == sha256
        and said["settings"] == json.loads(json.dumps(wanted.to_dict()))
        and all(said["data"].get(key) == value for key, value in data.items())
    )
    if isinstance(source, ChosenSource):
        same = same and {image["patient"] for image in said["images"]} == set(source.patients)
    return said if same else None
