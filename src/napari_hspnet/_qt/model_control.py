"""Which model is chosen, whether it is ready, and how fast it is here."""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog

from napari_hspnet._qt.model_view import ModelView
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.words import elided
from napari_hspnet._qt.work import Job, Jobs

if TYPE_CHECKING:
    from napari_hspnet.networks import LoadedModel, ModelEntry

__all__ = ["ModelControl", "describe_card", "measure_rate"]

_WHERE_FROM = (
    "Models are files that you were given, or that you fine-tuned; open one here. "
    "The demo model has only seen synthetic slides."
)


@dataclass(frozen=True)
class _Devices:
    names: tuple[str, ...]
    described: dict[str, str]


class ModelControl(QObject):
    """The Model section's controller; torch is only ever imported in a worker."""

    changed = Signal()

    def __init__(self, view: ModelView, jobs: Jobs, parent: QObject) -> None:
        super().__init__(parent)
        self._view, self._jobs = view, jobs
        self._entries: list[ModelEntry] = []
        self._described: dict[str, str] = {}
        self._rates: dict[tuple[str, str, int], float] = {}
        self.loaded: LoadedModel | None = None
        self.loading = False
        self.device = "auto"
        self.network_in_use = threading.Lock()
        """Held by the one job that runs the network: what cancels one hooks into it."""
        view.chosen.connect(self.choose)
        view.file_asked.connect(self.ask_for_file)
        view.none_chosen.connect(self.choose_none)
        view.device_chosen.connect(self.choose_device)
        view.hint.say(_WHERE_FROM)
        self.list_models()

    @property
    def synthetic(self) -> bool:
        """Whether a model trained on synthetic slides is chosen."""
        return self.loaded is not None and self.loaded.card.synthetic

    @property
    def rate(self) -> float | None:
        """Seconds a window takes with this model on this device; None if not known yet."""
        if self.loaded is None:
            return None
        return self._rates.get(self._rate_key(self.loaded))

    def note_rate(self, model: LoadedModel, device: str, seconds: float) -> None:
        """Remember what a run has shown."""
        self._rates[model.sha256, device, model.card.window] = seconds

    def list_models(self) -> None:
        """Look for models and devices in a worker."""

        def work(job: Job) -> tuple[list[ModelEntry], _Devices]:
            # What a run and its layers need is loaded now: an import holds up the
            # window, and should not do so when the user presses Segment.
            for name in ("napari_hspnet.jobs.segment", "pandas"):
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
            from napari_hspnet.networks import known_models

            return list(known_models()), _devices()

        def done(found: tuple[list[ModelEntry], _Devices]) -> None:
            listed, devices = found
            paths = {entry.path for entry in listed}
            self._entries = listed + [e for e in self._entries if e.path not in paths]
            self._described = devices.described
            self._view.show_devices(list(devices.names), self.device)
            self._show_device()
            self._show_list()

        def failed(error: Exception) -> None:
            self._view.error.say(notify(error), "error")

        self._jobs.start("models", work, done=done, error=failed)

    @slot
    def choose(self, index: int) -> None:
        """Load the model of this place in the list."""
        entry = self._entries[index]
        if entry.problem is not None:
            self._view.error.say(entry.problem, "error")
            self._forget()
            return
        self.load(entry.path)

    @slot
    def choose_none(self) -> None:
        """Have no model chosen."""
        self._jobs.cancel("load model")
        self._view.error.say("")
        self._forget()

    @slot
    def ask_for_file(self) -> None:
        """Let the user choose a checkpoint."""
        name, _ = QFileDialog.getOpenFileName(
            self._view,
            "Open a model",
            "",
            "Models (*.safetensors *.pt *.pth);;All files (*)",
        )
        if name:
            self.load(Path(name))
        else:
            self._show_list()

    @slot
    def choose_device(self, name: str) -> None:
        """Compute on this device."""
        self.device = name
        self._show_device()
        self.changed.emit()
        self._measure()

    def load(self, path: Path) -> None:
        """Load a checkpoint in a worker."""
        self._forget(announce=False)
        self.loading = True
        self._view.error.say("")
        self._view.hint.say("Loading the model…")
        self._view.busy.show()
        self.changed.emit()

        def work(job: Job) -> LoadedModel:
            from napari_hspnet.networks import load_checkpoint

            return load_checkpoint(path)

        def failed(error: Exception) -> None:
            self._forget()
            self._view.error.say(notify(error), "error")

        self._jobs.start("load model", work, done=self.take, error=failed)

    @slot
    def take(self, model: LoadedModel) -> None:
        """Use a loaded model."""
        self.loading = False
        self.loaded = model
        self._view.busy.hide()
        self._view.hint.say("")
        self._view.card.say(describe_card(model))
        self._view.card.setToolTip(_whole_card(model))
        self._add_to_list(model)
        self._show_list()
        self.changed.emit()
        self._measure()

    def _forget(self, announce: bool = True) -> None:
        self.loaded, self.loading = None, False
        self._view.busy.hide()
        self._view.card.say("")
        self._view.hint.say(_WHERE_FROM)
        self._show_list()
        if announce:
            self.changed.emit()

    def _show_list(self) -> None:
        titles = [
            ("(cannot be used) " if entry.problem else "") + elided(entry.title, 40)
            for entry in self._entries
        ]
        chosen = -1
        if self.loaded is not None:
            paths = [entry.path for entry in self._entries]
            chosen = paths.index(_place(self.loaded)) if _place(self.loaded) in paths else -1
        self._view.show_models(titles, chosen)

    def _add_to_list(self, model: LoadedModel) -> None:
        from napari_hspnet.networks import ModelEntry

        if all(entry.path != _place(model) for entry in self._entries):
            entry = ModelEntry(model.card.name, _place(model), model.card.synthetic)
            self._entries.append(entry)

    def _show_device(self) -> None:
        self._view.device_text.say(self._described.get(self.device, ""))

    def _rate_key(self, model: LoadedModel) -> tuple[str, str, int]:
        return model.sha256, self.device, model.card.window

    def _measure(self) -> None:
        model, device = self.loaded, self.device
        if model is None or self.rate is not None or self._jobs.busy("segment"):
            return

        def done(seconds: float) -> None:
            self._rates.setdefault((model.sha256, device, model.card.window), seconds)
            self.changed.emit()

        # Without a rate the estimate names windows alone; an error will be told
        # by the run itself, to whom it matters.
        def work(job: Job) -> float:
            with self.network_in_use:
                job.check()
                return measure_rate(model, device, job)

        self._jobs.start("rate", work, done=done)


def measure_rate(model: LoadedModel, device: str, job: Job) -> float:
    """Seconds that one window takes, from three empty ones; a worker calls it."""
    import torch

    from napari_hspnet.inference import choose_device
    from napari_hspnet.inference.forward import Forward

    window = torch.zeros((1, model.card.window, model.card.window, 3), dtype=torch.uint8)
    target = choose_device(device)
    taken = []
    with (
        torch.inference_mode(),
        Forward(
            model.network, model.card.mean, model.card.std, target, "float32", job.cancel
        ) as forward,
    ):
        for _ in range(3):
            begun = time.perf_counter()
            forward(window).sum().item()
            taken.append(time.perf_counter() - begun)
            if sum(taken) > 3:
                break
    return min(taken)


def _place(model: LoadedModel) -> Path:
    return model.path or Path(f"({model.sha256[:12]})")


def describe_card(model: LoadedModel) -> str:
    """What a reader must know of a model, in a few short sentences."""
    card = model.card
    parts = [f"Trained on {card.trained_on}.", f"{card.mpp:g} µm/px, windows of {card.window} px."]
    return " ".join(parts)


def _whole_card(model: LoadedModel) -> str:
    card = model.card
    lines = [
        card.name,
        f"Intended use: {card.intended_use}",
        f"Limitations: {card.limitations}",
        f"Licence: {card.licence}",
        f"SHA-256: {model.sha256[:16]}…",
        f"File: {model.path}",
    ]
    return "\n".join(lines)


def _devices() -> _Devices:
    import torch

    from napari_hspnet.inference import choose_device, describe_device

    names = ["auto"]
    if torch.cuda.is_available():
        names += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    names.append("cpu")
    described: dict[str, Any] = {name: describe_device(choose_device(name)) for name in names}
    return _Devices(tuple(names), described)
