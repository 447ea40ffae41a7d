"""What a fine-tuning would learn from, and what it would be judged by, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import REVIEWED, SIGNED_OFF, CaseSnapshot, Composite
from napari_hspnet.classes import CIN3, CLASSES, NOT_RUN, VALUE_NAMES
from napari_hspnet.errors import InputError
from napari_hspnet.slides import open_slide
from napari_hspnet.training.data import (
    CaseRegions,
    LabelledImage,
    RegionImage,
    open_case_regions,
    patch_index,
)
from napari_hspnet.training.gate import GateOptions
from napari_hspnet.training.holding_back import Needs, hold_back
from napari_hspnet.training.lesson_facts import (
    Lesson,
    LessonOptions,
    LessonRegion,
    LessonSource,
)

__all__ = ["Lesson", "LessonOptions", "LessonRegion", "LessonSource", "plan_lesson"]

Sizes = npt.NDArray[np.int64]

_ROWS = 1024
_MORE = 0.1
_LABELS = CIN3 + 1


def plan_lesson(sources: Sequence[LessonSource], options: LessonOptions | None = None) -> Lesson:
    """Look at cases and say what would be learned; labels are read, pictures are not.

    About a quarter is held back, whole patients where there are several, else whole
    regions; regions whose boxes overlap stay on one side. More is held back where the
    gate needs it to judge and there is at least twice as much: of eight regions or more
    at least four, and of each class two regions and the area that it asks for; but not
    more than half, unless whole patients leave no other choice. It is balanced by class
    and by how much was corrected: what was accepted as it was is right by the current
    model's own word, so no gain can show there.

    Parameters
    ----------
    sources : sequence of LessonSource
    options : LessonOptions, optional

    Raises
    ------
    InputError
        There is no case, no such region, nothing corrected, one class only, too few
        regions to hold any back, a case of another resolution than the model's, a
        slide given twice, or no patch with enough foreground.
    SlideError
        A slide is missing or damaged.
    CaseMismatchError
        A slide is not the case's.
    CaseError
        A case is damaged, or none.
    """
    options = options or LessonOptions()
    if not sources:
        raise InputError("No case was chosen to learn from", advice="Choose at least one")
    with ExitStack() as stack:
        images: list[LabelledImage] = []
        opened: list[tuple[LessonSource, CaseRegions, CaseSnapshot]] = []
        for source in sources:
            slide = stack.enter_context(open_slide(source.slide))
            found = stack.enter_context(
                open_case_regions(
                    source.case,
                    slide,
                    options.only_reviewed,
                    regions=source.regions,
                    patient=source.patient or None,
                )
            )
            assert found.case is not None
            snapshot = CaseSnapshot.of(found.case)
            _refuse_resolution(snapshot.grid.mpp, options.mpp, source)
            _refuse_twice(opened, snapshot, source)
            opened.append((source, found, snapshot))
            images.extend(found.images)
        counts = [
            _counted(image, snapshot.composite)
            for _, found, snapshot in opened
            for image in found.images
        ]
        _refuse_counts(np.array(counts), options)
        index = patch_index(images, options.side, options.stride, options.min_foreground)
        taught = index.counts[:, 0 if options.background else 1 :].sum(axis=1) > 0
        patches = np.bincount(index.image[taught], minlength=len(images))
    regions = tuple(
        _region(image, source, own, int(number))
        for (source, image), own, number in zip(
            ((source, image) for source, found, _ in opened for image in found.images),
            counts,
            patches,
            strict=True,
        )
    )
    entries = {str(source.case): snapshot.seq for source, _, snapshot in opened}
    return _divided(regions, options, entries, sum(not s.patient for s, _, _ in opened))


def _counted(image: LabelledImage, composite: Composite) -> tuple[Sizes, Sizes]:
    """Pixels that were corrected and accepted, by label."""
    assert isinstance(image, RegionImage)
    box = image.region.box
    found = np.zeros((2, _LABELS), np.int64)
    for y in range(0, image.height, _ROWS):
        height = min(_ROWS, image.height - y)
        labels = image.read_labels(y, 0, height, image.width)
        where = box.y0 + y, box.x0, height, image.width
        said = composite.read(*where, what="correction")
        predicted = composite.read(*where, what="prediction")
        changed = (said != NOT_RUN) & (said != predicted)
        for i, part in enumerate((changed, ~changed)):
            found[i] += np.bincount(labels[part], minlength=256)[:_LABELS]
    return found[0], found[1]


def _region(
    image: LabelledImage, source: LessonSource, counts: tuple[Sizes, Sizes], patches: int
) -> LessonRegion:
    assert isinstance(image, RegionImage)
    corrected, accepted = (tuple(int(n) for n in part) for part in counts)
    return LessonRegion(
        image.name,
        image.patient,
        source.case,
        source.slide,
        image.region.id,
        image.region.state,
        image.region.box,
        image.mpp,
        corrected,
        accepted,
        patches,
    )


def _refuse_resolution(own: float, wanted: float, source: LessonSource) -> None:
    # As segmenting has it: a case holds the labels of one resolution.
    if own != wanted:
        raise InputError(
            f"The case holds labels of {own:g} µm per pixel, the model works at {wanted:g}",
            advice="Choose a model of that resolution",
            path=source.case,
        )


def _refuse_twice(
    opened: Sequence[tuple[LessonSource, CaseRegions, CaseSnapshot]],
    snapshot: CaseSnapshot,
    source: LessonSource,
) -> None:
    for other, _, known in opened:
        if known.slide.fingerprint == snapshot.slide.fingerprint:
            raise InputError(
                f"{other.case.name} and {source.case.name} are of one slide, which would then be "
                "learned from and held back at once",
                advice="Choose one of them",
                path=source.case,
            )


def _refuse_counts(counts: Sizes, options: LessonOptions) -> None:
    """Refuse what teaches nothing; (regions, 2, labels)."""
    total = counts[:, :, 0 if options.background else 1 :].sum(axis=0)
    if not total[0].sum():
        raise InputError(
            "No reader corrected anything in these regions, so there is nothing new to learn",
            advice="Correct what is wrong in them, or choose others",
        )
    present = np.flatnonzero(total.sum(axis=0))
    if len(present) < 2:
        only = VALUE_NAMES[int(present[0]) + (0 if options.background else 1)]
        raise InputError(
            f"These regions show one class only, {only}, so there is nothing to tell apart",
            advice="Add regions with other classes",
        )


def _divided(
    regions: tuple[LessonRegion, ...],
    options: LessonOptions,
    entries: dict[str, int],
    unnamed: int,
) -> Lesson:
    several = len({region.patient for region in regions}) > 1
    group = _patients(regions) if several else _overlapping(regions)
    first = 0 if options.background else 1
    member = np.zeros((max(group) + 1, len(regions)), np.int64)
    member[group, np.arange(len(regions))] = 1
    pixels = np.array([r.pixels[first:] for r in regions], np.int64)
    changed = np.array([[sum(r.corrected[first:])] for r in regions], np.int64)
    # A region without a patch teaches nothing.
    taught = np.where([[r.patches > 0] for r in regions], pixels, 0)
    sizes = member @ np.hstack([pixels, changed])
    needs = _needs(pixels[:, 1 - first :], member, options)
    mask = hold_back(sizes, member @ taught, options.share, options.seed, needs)
    held = [bool(mask[unit]) for unit in group]
    lesson = Lesson(
        tuple(r for r, back in zip(regions, held, strict=True) if not back),
        tuple(r for r, back in zip(regions, held, strict=True) if back),
        "patient" if several else "region",
        options,
        entries,
    )
    return replace(lesson, notes=_notes(lesson, unnamed))


def _needs(grades: Sizes, member: Sizes, options: LessonOptions) -> Needs:
    """What the gate asks for: regions, area, and of each class both; (regions, 4)."""
    gate, square = GateOptions(), (options.mpp / 1000) ** 2
    count, classes = grades.shape
    have = np.hstack(
        [np.ones((count, 1), np.int64), grades.sum(axis=1, keepdims=True), grades > 0, grades]
    )
    least = [
        gate.least_units,
        int(np.ceil(gate.least_mm2 / square)),
        *[gate.least_class_units] * classes,
        *[int(np.ceil(gate.least_class_mm2 / square))] * classes,
    ]
    return Needs(member @ have, np.array(least, np.int64))


def _patients(regions: Sequence[LessonRegion]) -> list[int]:
    number: dict[str, int] = {}
    return [number.setdefault(region.patient, len(number)) for region in regions]


def _overlapping(regions: Sequence[LessonRegion]) -> list[int]:
    """The group of each region: boxes of one case that meet, directly or by others."""
    group = list(range(len(regions)))
    for i, one in enumerate(regions):
        for j, other in enumerate(regions[:i]):
            common = one.box.intersect(other.box)
            if one.case == other.case and common.height and common.width:
                old, new = group[i], group[j]
                group = [new if g == old else g for g in group]
    number: dict[int, int] = {}
    return [number.setdefault(g, len(number)) for g in group]


def _notes(lesson: Lesson, unnamed: int) -> tuple[str, ...]:
    notes = []
    if lesson.split == "region":
        notes.append(
            "All regions are of one patient, so they are divided by region: what comes out says "
            "nothing of other patients."
        )
    elif unnamed:
        if unnamed == 1:
            slides = "1 slide has no patient named and counts as a patient of its own"
        else:
            slides = f"{unnamed} slides have no patient named and count as patients of their own"
        notes.append(f"{slides}: name them where two slides are of one patient.")
    notes += _size_notes(lesson)
    learned, held = lesson.areas(), lesson.areas(held=True)
    for name in (c.name for c in CLASSES):
        if not sum(learned[name]) and not sum(held[name]):
            notes.append(f"{name} is in none of these regions: it is not taught and not judged.")
        elif not sum(learned[name]):
            notes.append(f"{name} is only in what is held back: it is not taught.")
        elif not sum(held[name]):
            notes.append(f"{name} is in nothing that is held back: it cannot be judged.")
    if not any(corrected for corrected, _ in held.values()):
        notes.append(
            "Nothing that is held back was corrected: the current model is right there by its own "
            "word, so no gain can show."
        )
    one = len({r.case for r in (*lesson.learn, *lesson.held)}) == 1
    small = [f"region {r.number}" if one else r.name for r in lesson.learn if not r.patches]
    if small:
        few = ", ".join(small[:4]) + (f" and {len(small) - 4} more" if len(small) > 4 else "")
        notes.append(f"Too little in one of the four classes to give a patch: {few}.")
    open_ = sum(r.state not in (REVIEWED, SIGNED_OFF) for r in (*lesson.learn, *lesson.held))
    if open_:
        are = "1 region is" if open_ == 1 else f"{open_} regions are"
        notes.append(f"{are} not reviewed: what nobody corrected there counts as accepted.")
    return tuple(notes)


def _size_notes(lesson: Lesson) -> list[str]:
    """Whether what is held back suffices for a verdict, and what it took."""
    gate, options = GateOptions(), lesson.options
    count, mm2 = len(lesson.held), sum(region.mm2 for region in lesson.held)
    asked = f"{gate.least_units} regions and {gate.least_mm2:g} mm²"
    if count < gate.least_units or mm2 < gate.least_mm2:
        return [
            f"A verdict needs {asked} held back, and this is less: it will be too few to judge "
            "whether the model became better."
        ]
    every = (*lesson.learn, *lesson.held)
    part = max(count / len(every), mm2 / sum(region.mm2 for region in every))
    if part > options.share + _MORE:
        return [
            f"More than {options.share:.0%} is held back, so that there can be a verdict: it "
            f"needs {asked}."
        ]
    return []
