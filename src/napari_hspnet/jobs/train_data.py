"""What a training config says of its data, opened."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_hspnet.classes import BACKGROUND
from napari_hspnet.jobs.phantom_fields import FieldJob, draw_fields
from napari_hspnet.phantom import PHANTOM_VERSION, generator_hash
from napari_hspnet.phantom.domains import domain as known_domain
from napari_hspnet.phantom.splits import seeds_of
from napari_hspnet.slides import open_slide
from napari_hspnet.training.config import TrainConfig
from napari_hspnet.training.data import (
    ArrayImage,
    ImageSet,
    LabelledImage,
    PatchIndex,
    class_balance,
    open_case_regions,
    open_mtchi,
    open_mtchi_whole,
    open_pairs,
    split_by_patient,
    synthetic_origin,
)
from napari_hspnet.training.losses import IGNORE

__all__ = ["TrainData", "data_digest", "data_facts", "open_data"]

Tell = Callable[[str, float | None], None]
Array = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class TrainData:
    """Images to learn from, and to judge by.

    Attributes
    ----------
    train, validation : tuple of LabelledImage
        The second may be empty. No patient is in both.
    notes : tuple of str
        What was assumed, for the user.
    words : str
        What they are, for a card.
    facts : dict
        What else a card says of them (JSON values).
    synthetic : bool
        Whether they are phantoms, drawn or in files.
    """

    train: tuple[LabelledImage, ...]
    validation: tuple[LabelledImage, ...]
    notes: tuple[str, ...]
    words: str
    facts: dict[str, Any]
    synthetic: bool = False


@contextmanager
def open_data(
    config: TrainConfig,
    base: Path,
    tell: Tell | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[TrainData]:
    """Open the data of a config, until the block ends.

    Parameters
    ----------
    config : TrainConfig
    base : Path
        The folder that relative paths begin at.
    tell : callable, optional
        Called with what is done and the part of it, 0 to 1, while fields are drawn.
    cancel : threading.Event, optional

    Yields
    ------
    TrainData

    Raises
    ------
    InputError, SlideError, CaseError
        If they cannot be opened, or not be split as asked for.
    CancelledError
        If `cancel` was set.
    """
    data = config.data
    with ExitStack() as stack:
        if data.kind == "phantom":
            yield _phantom(config, tell, cancel)
            return
        if data.kind == "mtchi":
            yield _mtchi(config, base / data.folder)
            return
        if data.kind == "pairs":
            found = open_pairs(
                base / data.folder,
                mpp=data.mpp or None,
                zero=data.background,
                limit=data.memory_mb << 20,
            )
            words = "pictures with masks"
        else:
            found = _cases(config, base, stack)
            words = "review regions of cases"
        yield _split(config, found, words)


def data_digest(data: TrainData, index: PatchIndex) -> str:
    """SHA-256 of what is learned from: images, patients, and each patch's labels counted."""
    mark = hashlib.sha256(index.digest.encode())
    for image in data.train:
        said = (image.name, image.patient, image.height, image.width, image.mpp)
        mark.update(repr(said).encode())
    mark.update(repr(sorted(data.facts.items())).encode())
    return mark.hexdigest()


def data_facts(data: TrainData, index: PatchIndex) -> dict[str, Any]:
    """Counts for a card.

    Patients are named by the first digits of a hash: whoever knows a patient's name can
    see whether a model knows him, and nobody else learns it.
    """
    balance = class_balance(data.train, index)
    facts: dict[str, Any] = {
        "images": len(data.train),
        "patches": len(index),
        "windows_before_foreground_limit": index.windows,
        "classes": {
            row.name: {"pixels": row.pixels, "patches": row.patches, "images": row.images}
            for row in balance.rows
        },
        "patients": len({image.patient for image in data.train}),
    }
    if "seeds" not in data.facts:
        facts["patients_sha256"] = _pseudonyms(data.train)
    if data.validation:
        facts["validation_images"] = len(data.validation)
        if "seeds" not in data.facts:
            facts["validation_patients_sha256"] = _pseudonyms(data.validation)
    return {**facts, **data.facts}


def _pseudonyms(images: Sequence[LabelledImage]) -> list[str]:
    return sorted({hashlib.sha256(i.patient.encode()).hexdigest()[:12] for i in images})


def _split(config: TrainConfig, found: ImageSet, words: str) -> TrainData:
    wanted = config.validation
    if not wanted.wanted:
        return TrainData(found.images, (), found.notes, words, {})
    split = split_by_patient(found.images, wanted.patients or wanted.share, config.seeds.split)
    return TrainData(split.train, split.test, found.notes, words, {})


def _mtchi(config: TrainConfig, folder: Path) -> TrainData:
    data = config.data
    limit, mpp = data.memory_mb << 20, data.mpp or 1.0
    if data.part == "both":
        found = open_mtchi_whole(folder, data.background, mpp=mpp, limit=limit)
    else:
        found = open_mtchi(folder, data.part, data.background, mpp=mpp, limit=limit)
    origin = synthetic_origin(folder)
    if origin is None:
        part = "both parts" if data.part == "both" else "training part"
        return _split(config, found, f"MTCHI, Task 2, {part}")
    words = f"phantom fields (synthetic), version {origin.get('phantom_version', 'not said')}"
    return replace(_split(config, found, words), facts={"phantom": origin}, synthetic=True)


def _phantom(config: TrainConfig, tell: Tell | None, cancel: threading.Event | None) -> TrainData:
    data = config.data
    # Before any process is started for it.
    known_domain(data.domain)
    learn = seeds_of("train", data.first_seed, data.fields)
    judge = seeds_of("validation", 0, config.validation.fields)
    jobs = [FieldJob(seed, data.side, None, data.domain) for seed in (*learn, *judge)]
    images: list[LabelledImage] = []
    for job, one in zip(jobs, draw_fields(jobs, torch.get_num_threads(), cancel), strict=True):
        labels = one.truth
        if data.background == "ignore":
            labels = np.where(labels == BACKGROUND, np.uint8(IGNORE), labels)
        name = f"phantom {job.seed}"
        images.append(ArrayImage(name, name, one.rgb, labels))
        if tell is not None:
            tell("drawing fields", len(images) / len(jobs))
    facts: dict[str, Any] = {
        "phantom_version": PHANTOM_VERSION,
        "generator_hash": generator_hash(),
        "domain": data.domain,
        "field_side": data.side,
        "seeds": [learn[0], learn[-1]],
    }
    if judge:
        facts["validation_seeds"] = [judge[0], judge[-1]]
    words = (
        f"phantom fields (synthetic), version {PHANTOM_VERSION}, generator "
        f"{facts['generator_hash']}, domain {data.domain}"
    )
    count = len(learn)
    return TrainData(tuple(images[:count]), tuple(images[count:]), (), words, facts, True)


def _cases(config: TrainConfig, base: Path, stack: ExitStack) -> ImageSet:
    images: list[LabelledImage] = []
    notes: list[str] = []
    for entry in config.data.cases:
        slide = stack.enter_context(open_slide(base / entry.slide))
        found = stack.enter_context(
            open_case_regions(
                base / entry.case,
                slide,
                config.data.only_reviewed,
                patient=entry.patient or None,
            )
        )
        images.extend(found.images)
        notes.extend(f"{Path(entry.case).name}: {note}" for note in found.notes)
    if config.data.background == "ignore":
        images = [_WithoutBackground(image) for image in images]
    return ImageSet(tuple(images), tuple(notes))


@dataclass(frozen=True)
class _WithoutBackground:
    """An image whose label 0 is ignored."""

    image: LabelledImage

    @property
    def name(self) -> str:
        return self.image.name

    @property
    def patient(self) -> str:
        return self.image.patient

    @property
    def height(self) -> int:
        return self.image.height

    @property
    def width(self) -> int:
        return self.image.width

    @property
    def mpp(self) -> float:
        return self.image.mpp

    def read(self, y: int, x: int, height: int, width: int) -> tuple[Array, Array]:
        rgb, labels = self.image.read(y, x, height, width)
        return rgb, _ignored(labels)

    def read_labels(self, y: int, x: int, height: int, width: int) -> Array:
        return _ignored(self.image.read_labels(y, x, height, width))


def _ignored(labels: Array) -> Array:
    labels[labels == BACKGROUND] = np.uint8(IGNORE)
    return labels
