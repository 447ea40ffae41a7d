"""Which back end: the one that a short measurement on this machine finds fastest."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.inference.predictors.agreement import as_near, same_labels
from napari_hspnet.inference.predictors.base import Predictor, Subject
from napari_hspnet.inference.predictors.compiled import Inductor, TorchScript
from napari_hspnet.inference.predictors.eager import (
    Eager,
    Folded,
    FoldedChannelsLast,
    FoldedWinograd,
)
from napari_hspnet.inference.predictors.fallback import WithFallback
from napari_hspnet.inference.predictors.graphs import CudaGraph
from napari_hspnet.inference.predictors.runtimes import OnnxRuntime, OpenVino
from napari_hspnet.inference.settings import default_batch, describe_device
from napari_hspnet.networks import ModelCard

__all__ = ["BACKENDS", "BUDGET", "Choice", "check_backend", "choose", "predictor_for"]

# In the order in which they are tried: what takes long to get ready comes last.
BACKENDS: tuple[type[Predictor], ...] = (
    Eager,
    Folded,
    FoldedChannelsLast,
    FoldedWinograd,
    CudaGraph,
    TorchScript,
    OpenVino,
    OnnxRuntime,
    Inductor,
)

BUDGET = 60.0
"""Seconds for a measurement, unless said otherwise."""

_FORMAT = 1
_REPEATS = 3
# Less is noise, and the plain network has least that can go wrong.
_WORTH = 0.97
_PACKAGES = ("napari-hspnet", "torch", "openvino", "onnxruntime")


@dataclass(frozen=True)
class Choice:
    """What a measurement found.

    Attributes
    ----------
    chosen : str
        Name of a back end.
    seconds : Mapping of str to float
        Best time of a batch, for each that ran.
    refused : Mapping of str to str
        Why, for each that is not in `seconds`.
    batch : int
        Windows in that batch.
    """

    chosen: str
    seconds: Mapping[str, float]
    refused: Mapping[str, str]
    batch: int

    def __str__(self) -> str:
        times = ", ".join(f"{name} {taken:.3g}" for name, taken in self.seconds.items())
        reasons = "".join(f"; {name}: {why}" for name, why in self.refused.items())
        return f"seconds for {self.batch} windows: {times}{reasons}"


def check_backend(name: str) -> None:
    """See that there is a back end of this name.

    Raises
    ------
    InputError
        If it is neither "auto" nor one of `BACKENDS`.
    """
    names = ["auto", *(kind.name for kind in BACKENDS)]
    if name not in names:
        raise InputError(
            f"There is no back end called {name!r}", advice=f"Choose one of {', '.join(names)}"
        )


def predictor_for(
    name: str,
    network: nn.Module,
    card: ModelCard,
    device: torch.device,
    *,
    window: int,
    precision: str,
    cancel: threading.Event,
    batch: int | None = None,
    cache_folder: Path | None = None,
    budget_seconds: float = BUDGET,
) -> Predictor:
    """The predictor of a run, still to be entered.

    Parameters
    ----------
    name : str
        "eager", another of `BACKENDS`, or "auto" for `choose`. One that cannot run
        here gives way to the plain network, which its `notes` say.
    network, card, device, window, precision, cancel, batch, cache_folder, budget_seconds
        As for `choose`.

    Raises
    ------
    InputError
        If there is no back end of this name.
    CancelledError
        If cancelled while measuring.
    """
    check_backend(name)
    if name == "auto":
        return choose(
            network,
            card,
            device,
            cache_folder,
            budget_seconds,
            window=window,
            precision=precision,
            cancel=cancel,
            batch=batch,
        )
    subject = Subject(network, card.mean, card.std, window, device, precision, cancel)
    kind = _kind(name)
    if kind is Eager:
        return Eager(subject)
    reason = kind.available(subject)
    if reason is not None:
        return WithFallback(Eager(subject), [f"{name} cannot run ({reason}), eager ran instead"])
    return WithFallback(kind(subject))


def choose(
    network: nn.Module,
    card: ModelCard,
    device: torch.device,
    cache_folder: Path | None,
    budget_seconds: float = BUDGET,
    *,
    window: int | None = None,
    precision: str = "float32",
    cancel: threading.Event | None = None,
    batch: int | None = None,
) -> Predictor:
    """The back end that is fastest on this machine, still to be entered.

    Each that is available runs a few batches; one whose labels are not the plain
    network's is refused. In 16 bits there are no such labels: two roundings of one
    network disagree wherever classes nearly tie. There one is refused whose logits,
    or labels, are clearly further from the plain network's in float32 than the plain
    network's in the same 16 bits are. What was found is kept for this machine, these versions
    and this architecture, and found again without measuring.

    Parameters
    ----------
    network : Module
        In evaluation mode or not.
    card : ModelCard
        Its card.
    device : torch.device
        Where to run.
    cache_folder : Path or None
        Where results are kept; None measures each time.
    budget_seconds : float
        For the measurement, about: no back end is begun that would exceed it.
    window : int, optional
        Side in pixels; the card's by default.
    precision : str
        See `Settings`.
    cancel : threading.Event, optional
        Of the run.
    batch : int, optional
        Windows at a time; `default_batch` by default.

    Returns
    -------
    Predictor
        With `Eager` behind it; its `notes` say what was measured.

    Raises
    ------
    CancelledError
        If cancelled while measuring.
    """
    side = window or card.window
    count = batch or default_batch(device)
    event = cancel or threading.Event()
    subject = Subject(network, card.mean, card.std, side, device, precision, event)
    key = _key(subject, card, count)
    file = None
    if cache_folder is not None:
        digest = sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        file = cache_folder / f"backend-{digest}.json"
    found = None if file is None else _read(file, key)
    notes = []
    if found is None:
        found = _measure_all(subject, count, budget_seconds)
        notes.append(f"chosen now, {found}")
        if file is not None and not _write(file, key, found):
            notes.append("the choice could not be kept")
    else:
        notes.append(f"chosen before, {found}")
    kind = _kind(found.chosen)
    reason = kind.available(subject)
    if reason is not None:
        notes.append(f"{kind.name} cannot run any more ({reason}), eager ran instead")
        kind = Eager
    return WithFallback(kind(subject), notes, failed=lambda: _forget(file))


def _measure_all(subject: Subject, batch: int, budget: float) -> Choice:
    begun = time.perf_counter()
    windows = _windows(batch, subject.window or 0)
    seconds: dict[str, float] = {}
    refused: dict[str, str] = {}
    expected: Tensor | None = None
    exact = _in_float32(subject, windows)
    for kind in BACKENDS:
        left = budget - (time.perf_counter() - begun)
        why = kind.available(subject)
        if why is None and kind is not Eager and left < kind.patience:
            why = f"not tried, it may need {kind.patience:.0f} s to get ready"
        if why is not None:
            refused[kind.name] = why
            continue
        try:
            with kind(subject) as predictor:
                logits, taken = _measure(predictor, windows, lambda: budget - _since(begun))
        except CancelledError:
            raise
        except Exception as error:
            if kind is Eager:
                raise
            said = (str(error).strip().splitlines() or [""])[0][:200]
            refused[kind.name] = f"{type(error).__name__}: {said}"
            continue
        if expected is None:
            expected = logits
        if exact is None and not same_labels(expected, logits):
            refused[kind.name] = "its labels are not the plain network's"
            continue
        if exact is not None and not as_near(exact, expected, logits):
            refused[kind.name] = "it is further from float32 than the plain network"
            continue
        seconds[kind.name] = taken
    chosen = min(seconds, key=lambda name: seconds[name])
    if seconds[chosen] > _WORTH * seconds[Eager.name]:
        chosen = Eager.name
    return Choice(chosen, seconds, refused, batch)


def _since(begun: float) -> float:
    return time.perf_counter() - begun


def _measure(
    predictor: Predictor, windows: Tensor, left: Callable[[], float]
) -> tuple[Tensor, float]:
    """Logits on the host, and the best time of a batch, in seconds."""
    # The first pass allocates and chooses kernels.
    logits = predictor(windows).cpu()
    times: list[float] = []
    while not times or (len(times) < _REPEATS and left() > 0):
        begun = time.perf_counter()
        # A device answers before it is done; a number on the host is waited for.
        predictor(windows).sum().item()
        times.append(_since(begun))
    return logits, min(times)


def _windows(batch: int, side: int) -> Tensor:
    """Something with coarse and fine structure; the same each time."""
    draw = np.random.default_rng(0)
    coarse = draw.integers(60, 200, (batch, side // 16 + 1, side // 16 + 1, 3))
    whole = coarse.repeat(16, 1).repeat(16, 2)[:, :side, :side]
    fine = draw.integers(-30, 31, whole.shape)
    return torch.from_numpy((whole + fine).astype(np.uint8))


def _in_float32(subject: Subject, windows: Tensor) -> Tensor | None:
    """What 16 bits are measured by: the plain network's logits; None for float32 itself."""
    if subject.precision == "float32":
        return None
    with Eager(replace(subject, precision="float32")) as plain:
        return plain(windows).cpu()


def _kind(name: str) -> type[Predictor]:
    return next(kind for kind in BACKENDS if kind.name == name)


def _key(subject: Subject, card: ModelCard, batch: int) -> dict[str, Any]:
    return {
        "machine": [platform.system(), platform.machine(), _processor(), os.cpu_count()],
        "device": describe_device(subject.device),
        "versions": {package: _version(package) for package in _PACKAGES},
        "backends": [kind.name for kind in BACKENDS],
        "network": type(subject.network).__name__,
        "architecture": card.architecture.to_json(),
        "window": subject.window,
        "batch": batch,
        "precision": subject.precision,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _read(file: Path, key: Mapping[str, Any]) -> Choice | None:
    """What was kept; None where nothing was, or nothing of use."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if document["format"] != _FORMAT or document["key"] != key:
            return None
        found = document["choice"]
        choice = Choice(
            _kind(str(found["chosen"])).name,
            {str(name): float(taken) for name, taken in found["seconds"].items()},
            {str(name): str(why) for name, why in found["refused"].items()},
            int(found["batch"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StopIteration):
        return None
    except RecursionError:
        return None
    return choice


def _write(file: Path, key: Mapping[str, Any], choice: Choice) -> bool:
    """Keep a choice, beside and renamed; False where that cannot be."""
    document = {
        "format": _FORMAT,
        "key": key,
        "choice": {
            "chosen": choice.chosen,
            "seconds": dict(choice.seconds),
            "refused": dict(choice.refused),
            "batch": choice.batch,
        },
    }
    beside = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(document, indent=1), encoding="utf-8")
        beside.replace(file)
    except OSError:
        return False
    return True


def _forget(file: Path | None) -> None:
    if file is not None:
        try:
            file.unlink(missing_ok=True)
        except OSError:
            return
