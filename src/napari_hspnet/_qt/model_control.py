"""Which model is chosen, whether it is ready, and how fast it is here."""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog

from napari_hspnet._qt.model_view import ModelView
from napari_hspnet._qt.model_words import (
    Listed,
    card_tip,
    describe_card,
    list_line,
    listed_models,
    opened_model,
)
from napari_hspnet._qt.review_words import plain_tip
from napari_hspnet._qt.slots import slot
from napari_hspnet._qt.tell import notify
from napari_hspnet._qt.work import Job, Jobs
from napari_hspnet.errors import CheckpointError

if TYPE_CHECKING:
    from napari_hspnet.networks import LoadedModel

__all__ = ["ModelControl", "measure_rate"]

_WHERE_FROM = (
    "Models are files that you were given, or that you fine-tuned; open one here. "
    "The demo model has only seen synthetic slides."
)


@dataclass(frozen=True)
class _Devices:
    names: tuple[str, ...]
    described: dict[str, str]


@dataclass(frozen=True)
class _Found:
    models: list[Listed]
    problem: str
    devices: _Devices
    modes: Mapping[str, str]
    measured_on: str


class ModelControl(QObject):
    """The Model section's controller; torch is only ever imported in a worker.

    The list is the registry's. The model that it says is in use is chosen when the window
    opens: somebody decided that, under a name. To choose another holds for this window;
    "Use from now on" tells the registry.
    """

    changed = Signal()

    def __init__(self, view: ModelView, jobs: Jobs, parent: QObject) -> None:
        super().__init__(parent)
        self._view, self._jobs = view, jobs
        self._entries: list[Listed] = []
        self._picked: Listed | None = None
        self._begun = False
        self._problem = ""
        self._described: dict[str, str] = {}
        self._rates: dict[tuple[str, str, int], float] = {}
        self.loaded: LoadedModel | None = None
        self.loading = False
        self.device = "auto"
        self.mode = "exact"
        self._modes: Mapping[str, str] = {}
        self._measured_on = ""
        self.reader: Callable[[], str] | None = None
        """Says who reads, for the registry; without, nothing is told to it from here."""
        self.network_in_use = threading.Lock()
        """Held by the one job that runs the network: what cancels one hooks into it."""
        view.chosen.connect(self.choose)
        view.file_asked.connect(self.ask_for_file)
        view.none_chosen.connect(self.choose_none)
        view.device_chosen.connect(self.choose_device)
        view.mode_chosen.connect(self.choose_mode)
        view.use_asked.connect(self.use_from_now_on)
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

        def work(job: Job) -> _Found:
            # What a run and its layers need is loaded now: an import holds up the
            # window, and should not do so when the user presses Segment.
            for name in ("napari_hspnet.jobs.segment", "pandas"):
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
            from napari_hspnet.inference.modes import MEASURED_ON, MODES

            worth = {name: one.sentence() for name, one in MODES.items()}
            return _Found(*_registered(), _devices(), worth, MEASURED_ON)

        def done(found: _Found) -> None:
            known = {entry.sha256 for entry in found.models}
            kept = [e for e in self._entries if e.opened and e.sha256 not in known]
            self._entries = found.models + kept
            self._described = found.devices.described
            self._modes, self._measured_on = found.modes, found.measured_on
            self._show_mode()
            self._view.show_devices(list(found.devices.names), self.device)
            self._show_device()
            self._show_list()
            self._show_card()
            if found.problem or self._view.error.text() == self._problem:
                self._view.error.say(found.problem, "warning")
            self._problem = found.problem
            self._begin()

        def failed(error: Exception) -> None:
            self._view.error.say(notify(error), "error")

        self._jobs.start("models", work, done=done, error=failed)

    def _begin(self) -> None:
        """Choose what is in use, once, unless the user was faster."""
        begun, self._begun = self._begun, True
        used = next((e for e in self._entries if e.in_use and not e.problem), None)
        if not begun and used is not None and used.path is not None:
            self.load(used.path)

    @slot
    def choose(self, index: int) -> None:
        """Load the model of this place in the list."""
        entry = self._entries[index]
        self._picked = entry
        if entry.problem is not None or entry.path is None:
            self._jobs.cancel("load model")
            self._view.error.say(entry.problem or "Its file is missing.", "error")
            self._forget()
            return
        self.load(entry.path)

    @slot
    def choose_none(self) -> None:
        """Have no model chosen."""
        self._begun, self._picked = True, None
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
    def choose_mode(self, name: str) -> None:
        """Segment as carefully as this mode."""
        self.mode = name
        self._show_mode()
        self.changed.emit()

    @slot
    def choose_device(self, name: str) -> None:
        """Compute on this device."""
        self.device = name
        self._show_device()
        self.changed.emit()
        self._measure()

    def load(self, path: Path) -> None:
        """Load a checkpoint in a worker."""
        self._begun = True
        self._picked = next((entry for entry in self._entries if entry.path == path), None)
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
        self._begun = True
        self.loading = False
        self.loaded = model
        self._view.busy.hide()
        self._view.hint.say("")
        if not any(entry.is_model(model) for entry in self._entries):
            self._entries.append(opened_model(model))
        self._show_list()
        self._show_card()
        self.changed.emit()
        self._measure()

    def _forget(self, announce: bool = True) -> None:
        self.loaded, self.loading = None, False
        self._view.busy.hide()
        self._view.hint.say(_WHERE_FROM)
        self._show_list()
        self._show_card()
        if announce:
            self.changed.emit()

    @slot
    def use_from_now_on(self) -> None:
        """Tell the registry that the chosen model is the one in use."""
        entry = self._chosen()
        by = "" if self.reader is None else self.reader()
        if entry is None or not by:
            self._view.error.say("Give your name first (section Slide).", "error")
            return
        self._view.error.say("")

        def work(job: Job) -> None:
            from napari_hspnet.networks.registry import Registry

            Registry().use(entry.sha256, by)

        def done(_: None) -> None:
            self.list_models()

        def failed(error: Exception) -> None:
            self._view.error.say(notify(error), "error")

        self._jobs.start("use model", work, done=done, error=failed)

    def _chosen(self) -> Listed | None:
        """The chosen model in the list."""
        model = self.loaded
        if model is None:
            return None
        return next((entry for entry in self._entries if entry.is_model(model)), None)

    def _show_list(self) -> None:
        entry = self._chosen()
        if self.loaded is None and self._picked is not None:
            # While it loads, and where it cannot be used: with the arrow keys one would
            # otherwise never come past it.
            own = (self._picked.sha256, self._picked.path)
            entry = next((e for e in self._entries if (e.sha256, e.path) == own), None)
        chosen = -1 if entry is None else self._entries.index(entry)
        lines = [list_line(entry) for entry in self._entries]
        tips = [plain_tip(entry.problem or entry.story) for entry in self._entries]
        self._view.show_models(lines, chosen, tips)

    def _show_card(self) -> None:
        model, entry = self.loaded, self._chosen()
        if model is None or entry is None:
            self._view.show_card("", "", "", refused=False, can_use=False)
            return
        card = describe_card(model)
        if entry.parent:
            card += f" Taught from {entry.parent}."
        can_use = not (
            self.reader is None or entry.in_use or entry.refused or entry.opened or entry.problem
        )
        tip = plain_tip(card_tip(model))
        self._view.show_card(card, tip, entry.story, entry.refused, can_use)

    def _show_device(self) -> None:
        self._view.device_text.say(self._described.get(self.device, ""))

    def _show_mode(self) -> None:
        # The default needs no defence.
        worth = "" if self.mode == "exact" else self._modes.get(self.mode, "")
        if worth:
            worth = f"On synthetic slides: {worth}."
        if self.mode == "preview":
            worth = f"A rough look, not for grading. {worth}"
        tip = f"Measured on {self._measured_on}" if self._measured_on else ""
        self._view.show_mode(self.mode, worth, tip)

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


def _registered() -> tuple[list[Listed], str]:
    """The registry's models, and what is wrong with the registry; a worker calls it."""
    from napari_hspnet.networks import known_models
    from napari_hspnet.networks.registry import Registry

    registry = Registry()
    try:
        found = listed_models(registry.entries())
    except CheckpointError as error:
        # The folder cannot be read; the demo model lies elsewhere.
        known = known_models(registry.folder)
        return [Listed(e.title, e.path, problem=e.problem) for e in known], str(error)
    try:
        used = registry.in_use()
    except CheckpointError as error:
        return found, str(error)
    return found, (used.problem or "") if used is not None else ""


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
