"""A scripted reviewer: phantom slides of a domain, segmented, corrected to their truth.

And the slides that models are judged on, kept as pictures with masks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import Case, Patch, Selection
from napari_hspnet.classes import BACKGROUND, CIN3
from napari_hspnet.inference import Settings
from napari_hspnet.jobs.finetune_request import FinetuneSource
from napari_hspnet.jobs.phantom_fields import FieldJob, draw_field
from napari_hspnet.jobs.phantom_slides import SLIDE_SHAPE, slide_spec
from napari_hspnet.jobs.segment import segment_into_case
from napari_hspnet.networks import LoadedModel
from napari_hspnet.phantom import truth_block, write_phantom
from napari_hspnet.phantom.splits import seeds_of
from napari_hspnet.slides import LabelGrid, PixelBox, Region, open_slide
from napari_hspnet.slides.grid import LABEL_MPP

__all__ = ["REGIONS", "SIDE", "fields_to_replay", "judged_slides", "taught_slide"]

SIDE, REGIONS = 800, 2
"""µm of a region's side; regions of a slide."""

_READER = "scripted reviewer"
_STEP = 100
# Small, all four classes on it.
_JUDGED_SHAPE = (1800, 2400)
# Far from the seeds that the demo model learned from, 0 to 449.
_TAUGHT_FIRST, _PER_SEED = 100_000, 1000
_FIELD = 800

Labels = npt.NDArray[np.uint8]


def taught_slide(
    folder: Path, model: LoadedModel, domain: str, seed: int, number: int
) -> FinetuneSource:
    """A slide, its case, and in it two reviewed regions whose errors were corrected.

    Parameters
    ----------
    folder : Path
        Gets ``slide.tiff`` and ``case.hspnet``.
    model : LoadedModel
        Segments the slide.
    domain : str
    seed, number : int
        Which slide: patients of one seed are on no other's.
    """
    (first,) = seeds_of("train", _TAUGHT_FIRST + seed * _PER_SEED + number, 1)
    spec = slide_spec(first, domain, SLIDE_SHAPE)
    path, patient = folder / "slide.tiff", f"patient {seed}.{number}"
    folder.mkdir(parents=True)
    write_phantom(path, spec, workers=1)
    truth = truth_block(spec, 0, 0, *spec.label_shape)
    settings = Settings(model.card.window, stride=model.card.window // 2)
    with (
        open_slide(path) as slide,
        Case.open_or_create(folder / "case.hspnet", slide.info, LabelGrid.of(slide.info)) as case,
    ):
        segment_into_case(slide, model, Region.slide(), case, settings=settings, device="cpu")
        boxes = _boxes(truth)
        added = case.review.add([Selection.of_box(b, truth.shape) for b in boxes], "tile", _READER)
        for box in boxes:
            case.editing.correct([_correction(case, truth, box)], _READER, "brush")
        case.review.set_state([region.id for region in added], "reviewed", _READER)
    return FinetuneSource(folder / "case.hspnet", path, patient)


def _correction(case: Case, truth: Labels, box: PixelBox) -> Patch:
    """The truth where the reader sees another grade; what the mask left out shows none."""
    right = truth[box.y0 : box.y1, box.x0 : box.x1]
    shown = case.composite().read(box.y0, box.x0, box.height, box.width)
    seen = np.where(shown > CIN3, np.uint8(BACKGROUND), shown)
    return Patch(box.y0, box.x0, right, seen != right)


def _boxes(truth: Labels) -> tuple[PixelBox, ...]:
    """Boxes that do not overlap, together with as much epithelium as can be."""
    inside = np.pad((truth != BACKGROUND).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    height, width = truth.shape
    corners = [
        (y, x)
        for y in range(0, height - SIDE + 1, _STEP)
        for x in range(0, width - SIDE + 1, _STEP)
    ]
    area = {
        (y, x): int(
            inside[y + SIDE, x + SIDE] - inside[y, x + SIDE] - inside[y + SIDE, x] + inside[y, x]
        )
        for y, x in corners
    }
    apart = (
        pair
        for pair in itertools.combinations(corners, REGIONS)
        if max(abs(pair[0][axis] - pair[1][axis]) for axis in (0, 1)) >= SIDE
    )
    best = max(apart, key=lambda pair: sum(area[corner] for corner in pair))
    return tuple(PixelBox(y, x, y + SIDE, x + SIDE) for y, x in best)


def judged_slides(folder: Path, domain: str, count: int) -> Path:
    """Slides of the test seeds, whole, as pictures with masks; each another patient's.

    Tissue and truth of a number are the same in each domain.
    """
    return _pairs(folder, _slides(folder, domain, count))


def fields_to_replay(folder: Path, domain: str, count: int) -> Path:
    """Fields of the first train seeds, as the parent learned from them."""
    drawn = (
        (f"field{seed}", one.rgb, one.truth)
        for seed in seeds_of("train", 0, count)
        for one in (draw_field(FieldJob(seed, _FIELD, None, domain)),)
    )
    return _pairs(folder, drawn)


def _slides(folder: Path, domain: str, count: int) -> Iterator[tuple[str, Labels, Labels]]:
    path = folder.with_suffix(".tiff")
    path.parent.mkdir(parents=True, exist_ok=True)
    for seed in seeds_of("test", 0, count):
        spec = slide_spec(seed, domain, _JUDGED_SHAPE)
        write_phantom(path, spec, workers=1, overwrite=True)
        shape = spec.label_shape
        with open_slide(path) as slide:
            rgb = slide.read_grid(0, 0, *shape, LABEL_MPP)
        yield f"slide{seed}", rgb, truth_block(spec, 0, 0, *shape)
    path.unlink(missing_ok=True)


def _pairs(folder: Path, drawn: Iterator[tuple[str, Labels, Labels]]) -> Path:
    """A folder of pairs; complete where it is there."""
    from PIL import Image

    if folder.exists():
        return folder
    part = folder.with_name(f".{folder.name}.part")
    for kind in ("images", "masks"):
        (part / kind).mkdir(parents=True, exist_ok=True)
    for name, rgb, truth in drawn:
        Image.fromarray(rgb).save(part / "images" / f"{name}.png")
        Image.fromarray(truth).save(part / "masks" / f"{name}.png")
    return part.rename(folder)
