"""A fine-tuning from its lesson to the registry, in the process that calls it.

`finetune.finetune` runs this in a process of its own.
"""

from __future__ import annotations

import getpass
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from napari_hspnet.errors import OutputError
from napari_hspnet.inference.settings import choose_device
from napari_hspnet.jobs.finetune_card import candidate_card
from napari_hspnet.jobs.finetune_config import FinetuneConfig, digest_of, finetune_config
from napari_hspnet.jobs.finetune_data import (
    FinetuneData,
    batch_reader,
    data_digest,
    lesson_of,
    opened_data,
)
from napari_hspnet.jobs.finetune_events import Done, Event, Judged, Prepared, Step, Told
from napari_hspnet.jobs.finetune_judging import as_model, judged, pooled_figures, unit_counts
from napari_hspnet.jobs.finetune_pictures import FOLDER, Answers, change_pictures
from napari_hspnet.jobs.finetune_request import FinetuneRequest
from napari_hspnet.jobs.finetune_training import LearnProgress, learn
from napari_hspnet.jobs.working_folder import working_folder
from napari_hspnet.networks import LoadedModel, load_checkpoint, save_checkpoint
from napari_hspnet.networks.registry import Registry
from napari_hspnet.training import gate
from napari_hspnet.training.keeping import Keeping, freeze_encoder, freeze_norms, parent_of
from napari_hspnet.training.lesson import Lesson
from napari_hspnet.training.resume import SNAPSHOT

__all__ = ["CANDIDATE", "run_finetune"]

CANDIDATE, LOCK = "candidate.safetensors", "finetune.lock"

_LISTEN = 0.1

Emit = Callable[[Event], None]


def run_finetune(
    request: FinetuneRequest, emit: Emit, cancel: threading.Event | None = None
) -> Done | None:
    """Fine-tune; see `finetune.finetune`.

    Parameters
    ----------
    request : FinetuneRequest
    emit : callable
        Gets the events; `Done`, too.
    cancel : threading.Event, optional

    Returns
    -------
    Done or None
        None where only a plan was asked for.

    Raises
    ------
    HspnetError, CancelledError
        As `finetune.finetune`.
    """
    emit(Told("reading the model"))
    parent = load_checkpoint(request.parent)
    options = request.options
    config = finetune_config(options.config, parent.card, options.epochs, options.device)
    emit(Told("looking at the regions"))
    lesson = lesson_of(request, parent.card, config)
    if request.only_plan:
        emit(Prepared(lesson.to_json(), lesson.text(), config.words()))
        return None
    with working_folder(request.folder, LOCK):
        if (request.folder / CANDIDATE).exists():
            raise OutputError(
                "The folder holds a candidate of an earlier fine-tuning",
                advice="Fine-tune into another folder; the registry has that candidate",
                path=request.folder / CANDIDATE,
            )
        return _Job(request, parent, config, lesson, emit, cancel).run()


@dataclass(frozen=True)
class _Job:
    request: FinetuneRequest
    parent: LoadedModel
    config: FinetuneConfig
    lesson: Lesson
    emit: Emit
    cancel: threading.Event | None

    def run(self) -> Done:
        request, parent, lesson = self.request, self.parent, self.lesson
        options, card = request.options, parent.card
        device = choose_device(self.config.machine.device)
        with opened_data(request, lesson, card, self._tell, self.cancel) as data:
            reader, index, replay = batch_reader(data, self.config, options.keep)
            keeping = Keeping(
                weight=2 * options.keep, replay=replay, freeze_encoder=options.freeze_encoder
            )
            text = "\n".join((lesson.text(), *data.notes))
            self.emit(
                Prepared(lesson.to_json(), text, self._words(keeping, reader.steps_per_epoch))
            )
            old = parent_of(parent.network).to(device)
            before = replace(parent, network=old)
            self._epoch(0, before, data, device)
            network = parent.network.to(device)
            freeze_norms(network)
            if keeping.freeze_encoder:
                freeze_encoder(network)
            end = learn(
                network,
                old,
                reader,
                self.config,
                keeping,
                card,
                request.folder,
                (self._digest(), data_digest(data, index)),
                progress=self._report,
                epoch_done=lambda n: self._epoch(n, as_model(network, card), data, device),
                cancel=self.cancel,
            )
            model = as_model(network, card)
            old_answers, new_answers = Answers(data.held), Answers(data.held)
            current = self._judged(before, "judging the model of now", data, device, old_answers)
            candidate = self._judged(model, "judging the candidate", data, device, new_answers)
            options_of_gate = gate.GateOptions(
                synthetic_held=all(s.slide is not None and s.slide.info.phantom for s in data.held),
                synthetic_reference=options.reference_phantoms > 0,
            )
            verdict = gate.judge(candidate, current, options_of_gate)
            made = candidate_card(
                parent,
                options,
                self.config,
                keeping,
                lesson,
                data,
                end,
                candidate,
                verdict,
                device,
            )
            pictures = change_pictures(
                request.folder / FOLDER,
                data.held,
                old_answers,
                new_answers,
                (card.name, made.name),
                card.synthetic,
                self._part("drawing where the overlay would change"),
                self.cancel,
            )
        path = request.folder / CANDIDATE
        sha256 = save_checkpoint(path, network, made)
        try:
            Registry(options.registry).add(
                path,
                "candidate",
                options.by or _user(),
                f"fine-tuned from {parent.sha256[:12]}",
            )
        except BaseException:
            # The same request again then only has to judge once more.
            path.unlink(missing_ok=True)
            raise
        # The candidate says all that it did, but how to go on, and there is nowhere to go.
        (request.folder / SNAPSHOT).unlink(missing_ok=True)
        done = Done(
            str(path),
            sha256,
            verdict.to_json(),
            verdict.text(),
            verdict.decision,
            verdict.recommended,
            pictures,
        )
        self.emit(done)
        return done

    def _epoch(
        self, number: int, model: LoadedModel, data: FinetuneData, device: torch.device
    ) -> None:
        units = unit_counts(model, data.held, device, True, None, self.cancel)
        self.emit(Judged(number, pooled_figures(units)))

    def _judged(
        self,
        model: LoadedModel,
        doing: str,
        data: FinetuneData,
        device: torch.device,
        answers: Answers,
    ) -> gate.Judged:
        return judged(model, data, device, self._part(doing), self.cancel, answers.keep)

    def _digest(self) -> str:
        """SHA-256 of all that decides the result beside the data."""
        options = self.request.options
        return digest_of(
            {
                "config": self.config.to_json(),
                "parent": self.parent.sha256,
                "keep": options.keep,
                "freeze_encoder": options.freeze_encoder,
            }
        )

    def _words(self, keeping: Keeping, steps: int) -> str:
        said = [f"{self.config.words()}; {steps} step{'s' * (steps != 1)} an epoch"]
        if keeping.weight:
            said.append(f"old knowledge kept by distillation, weight {keeping.weight:g}")
        if keeping.replay:
            said.append(f"{keeping.replay} of each batch replayed from earlier data")
        if keeping.freeze_encoder:
            said.append("the encoder stays as it is")
        return "; ".join(said)

    def _report(self, state: LearnProgress) -> None:
        epochs = self.config.recipe.epochs
        self.emit(
            Step(
                state.step,
                state.steps,
                state.epoch,
                epochs,
                state.loss,
                state.rate,
                state.remaining,
            )
        )

    def _tell(self, doing: str, fraction: float | None) -> None:
        self.emit(Told(doing, fraction))

    def _part(self, doing: str) -> Callable[[float], None]:
        begun, told = time.monotonic(), float("-inf")

        def tell(part: float) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told >= _LISTEN or part >= 1:
                told = now
                left = (now - begun) * (1 - part) / part if part > 0 else None
                self.emit(Told(doing, part, left))

        return tell


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown user"
