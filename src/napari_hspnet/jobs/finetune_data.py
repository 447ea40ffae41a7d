"""The images of a fine-tuning, opened: learned from, held back, replayed, referred to."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from napari_hspnet.classes import BACKGROUND
from napari_hspnet.errors import InputError
from napari_hspnet.jobs.evaluation_data import Subject
from napari_hspnet.jobs.finetune_config import FinetuneConfig
from napari_hspnet.jobs.finetune_request import FinetuneRequest
from napari_hspnet.jobs.phantom_fields import FieldJob, draw_fields
from napari_hspnet.networks import ModelCard
from napari_hspnet.phantom.splits import seeds_of
from napari_hspnet.slides import PixelBox, Slide, open_slide
from napari_hspnet.training.data import (
    ArrayImage,
    LabelledImage,
    PatchIndex,
    PatchReader,
    RegionImage,
    images_that_fit,
    open_case_regions,
    open_pairs,
    patch_index,
)
from napari_hspnet.training.data.images import Array, check_box
from napari_hspnet.training.data.mtchi import Background
from napari_hspnet.training.keeping import ReplayReader
from napari_hspnet.training.lesson import Lesson, LessonOptions, LessonSource, plan_lesson
from napari_hspnet.training.losses import IGNORE

__all__ = [
    "FinetuneData",
    "SurroundedRegion",
    "batch_reader",
    "lesson_of",
    "opened_data",
    "replayed",
]

Tell = Callable[[str, float | None], None]

_FIELD = 800
_TOLERANCE = 0.02


@dataclass(frozen=True)
class SurroundedRegion:
    """A region's image, at least as large as a patch: the slide goes on around it.

    Padded with white instead, a small region would teach the network a border that it
    meets on no slide. Labels beyond the region are 255.

    Attributes
    ----------
    image : RegionImage
    side : int
        Of a patch.
    """

    image: RegionImage
    side: int
    _slide: Slide = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The region's."""
        return self.image.name

    @property
    def patient(self) -> str:
        """The region's."""
        return self.image.patient

    @property
    def height(self) -> int:
        """Label pixels."""
        return max(self.side, self.image.height)

    @property
    def width(self) -> int:
        """Label pixels."""
        return max(self.side, self.image.width)

    @property
    def mpp(self) -> float:
        """µm per pixel."""
        return self.image.mpp

    @property
    def _corner(self) -> tuple[int, int]:
        box = self.image.region.box
        return box.y0 - (self.height - box.height) // 2, box.x0 - (self.width - box.width) // 2

    def read(self, y: int, x: int, height: int, width: int) -> tuple[Array, Array]:
        """See `LabelledImage.read`."""
        check_box(self, y, x, height, width)
        top, left = self._corner
        rgb = self._slide.read_grid(top + y, left + x, height, width, self.mpp)
        return rgb, self.read_labels(y, x, height, width)

    def read_labels(self, y: int, x: int, height: int, width: int) -> Array:
        """See `LabelledImage.read_labels`."""
        check_box(self, y, x, height, width)
        top, left = self._corner
        asked = PixelBox(top + y, left + x, top + y + height, left + x + width)
        box = self.image.region.box
        common = asked.intersect(box)
        labels = np.full((height, width), IGNORE, np.uint8)
        if common.height and common.width:
            labels[
                common.y0 - asked.y0 : common.y1 - asked.y0,
                common.x0 - asked.x0 : common.x1 - asked.x0,
            ] = self.image.read_labels(
                common.y0 - box.y0, common.x0 - box.x0, common.height, common.width
            )
        return labels


@dataclass(frozen=True)
class FinetuneData:
    """What was opened.

    Attributes
    ----------
    learn : tuple of LabelledImage
    held, reference : tuple of Subject
        To judge by; the second may be empty.
    replay : tuple of LabelledImage
        Earlier data; may be empty.
    notes : tuple of str
        How reference and replay were read.
    """

    learn: tuple[LabelledImage, ...]
    held: tuple[Subject, ...]
    reference: tuple[Subject, ...]
    replay: tuple[LabelledImage, ...]
    notes: tuple[str, ...]


def lesson_of(request: FinetuneRequest, card: ModelCard, config: FinetuneConfig) -> Lesson:
    """What would be learned from; see `plan_lesson`."""
    sources = [LessonSource(s.case, s.slide, s.patient, s.regions) for s in request.sources]
    return plan_lesson(
        sources,
        LessonOptions(
            mpp=card.mpp,
            side=config.patches.side,
            stride=config.patches.stride,
            min_foreground=config.patches.min_foreground,
            background=BACKGROUND in card.values,
            seed=request.options.seed,
        ),
    )


@contextmanager
def opened_data(
    request: FinetuneRequest,
    lesson: Lesson,
    card: ModelCard,
    tell: Tell | None = None,
    cancel: threading.Event | None = None,
) -> Iterator[FinetuneData]:
    """Open what a lesson names, and the reference, until the block ends.

    Raises
    ------
    HspnetError
        As the openers do; or a reference of another resolution than the model's.
    CancelledError
        If `cancel` was set.
    """
    options = request.options
    with ExitStack() as stack:
        learn, held = _regions(request, lesson, stack)
        notes: list[str] = []
        reference: tuple[LabelledImage, ...] = ()
        if options.reference is not None:
            reference = _pairs(options.reference, card.mpp, "reference", notes)
        elif options.reference_phantoms:
            seeds = seeds_of("validation", 0, options.reference_phantoms)
            reference = _phantoms(seeds, card.mpp, "drawing the reference", tell, cancel)
        replay: tuple[LabelledImage, ...] = ()
        if options.keep > 0:
            replay = replayed(request, card, notes, tell, cancel)
        yield FinetuneData(
            learn, held, tuple(Subject(image) for image in reference), replay, tuple(notes)
        )


def replayed(
    request: FinetuneRequest,
    card: ModelCard,
    notes: list[str],
    tell: Tell | None,
    cancel: threading.Event | None,
) -> tuple[LabelledImage, ...]:
    """Earlier data to replay; none where none are named."""
    options = request.options
    if options.replay is not None:
        return _pairs(options.replay, card.mpp, "replay", notes)
    seeds = seeds_of("train", 0, options.replay_phantoms)
    return _phantoms(seeds, card.mpp, "drawing fields to replay", tell, cancel)


def batch_reader(
    data: FinetuneData, config: FinetuneConfig, keep: float
) -> tuple[PatchReader, PatchIndex, int]:
    """Batches to learn from.

    Returns
    -------
    tuple of PatchReader, PatchIndex and int
        The second of what is new; the third is how many patches of each batch are
        replayed.

    Raises
    ------
    InputError
        If there are too few patches, or they show one class only.
    """
    patches, recipe = config.patches, config.recipe
    index = patch_index(data.learn, patches.side, patches.stride, patches.min_foreground)
    # Few patches make smaller batches: two corrected regions may give three.
    if not data.replay:
        batch = min(recipe.batch, len(index))
        return (
            PatchReader(data.learn, index, config.changes, config.seeds.patches, batch=batch),
            index,
            0,
        )
    replay = min(recipe.batch - 1, max(1, round(recipe.batch * keep / 2)))
    earlier = PatchReader(
        data.replay,
        patch_index(data.replay, patches.side, patches.stride, patches.min_foreground),
        config.changes,
        config.seeds.patches,
        batch=replay,
        images_at_once=images_that_fit(data.replay),
    )
    batch = min(recipe.batch, len(index) + replay)
    mixed = ReplayReader(
        data.learn, index, config.changes, config.seeds.patches, batch=batch, earlier=earlier
    )
    return mixed, index, replay


def data_digest(data: FinetuneData, index: PatchIndex) -> str:
    """SHA-256 of what is learned from: regions, patients, each patch's labels counted."""
    mark = hashlib.sha256(index.digest.encode())
    for image in (*data.learn, *data.replay):
        mark.update(repr((image.name, image.patient, image.height, image.width)).encode())
    return mark.hexdigest()


def _regions(
    request: FinetuneRequest, lesson: Lesson, stack: ExitStack
) -> tuple[tuple[LabelledImage, ...], tuple[Subject, ...]]:
    learn: list[LabelledImage] = []
    held: list[Subject] = []
    background: Background = "class" if lesson.options.background else "ignore"
    back = {region.name for region in lesson.held}
    for source in request.sources:
        numbers = [r.number for r in (*lesson.learn, *lesson.held) if r.case == source.case]
        slide = stack.enter_context(open_slide(source.slide))
        found = stack.enter_context(
            open_case_regions(
                source.case, slide, regions=sorted(numbers), patient=source.patient or None
            )
        )
        for image in found.images:
            assert isinstance(image, RegionImage)
            if image.name in back:
                box = image.region.box
                held.append(Subject(image, background, slide, (box.y0, box.x0)))
            else:
                learn.append(SurroundedRegion(image, lesson.options.side, slide))
    return tuple(learn), tuple(held)


def _pairs(folder: Path, mpp: float, what: str, notes: list[str]) -> tuple[LabelledImage, ...]:
    found = open_pairs(folder)
    for image in found.images:
        if abs(image.mpp / mpp - 1) > _TOLERANCE:
            raise InputError(
                f"{image.name} of the {what} has {image.mpp:g} µm per pixel, the model works "
                f"at {mpp:g}",
                advice="Give pictures of the model's resolution",
                path=folder,
            )
    notes.extend(f"{what}: {note}" for note in found.notes)
    return found.images


def _phantoms(
    seeds: Sequence[int],
    mpp: float,
    doing: str,
    tell: Tell | None,
    cancel: threading.Event | None,
) -> tuple[LabelledImage, ...]:
    if seeds and abs(mpp - 1) > _TOLERANCE:
        raise InputError(
            f"Synthetic fields have 1 µm per pixel, the model works at {mpp:g}",
            advice="Give a folder of pictures and masks instead",
        )
    images: list[LabelledImage] = []
    jobs = [FieldJob(seed, _FIELD) for seed in seeds]
    # In this process: others below it would outlive a kill.
    for job, one in zip(jobs, draw_fields(jobs, 1, cancel), strict=True):
        name = f"phantom {job.seed}"
        images.append(ArrayImage(name, name, one.rgb, one.truth))
        if tell is not None:
            tell(doing, len(images) / len(jobs))
    return tuple(images)
