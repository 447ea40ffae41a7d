"""Training crops: the slide and its labels in reviewed regions, pair by pair."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases import REVIEWED, SIGNED_OFF, CaseSnapshot, Selection
from napari_hspnet.cases.review import ReviewRegion
from napari_hspnet.classes import BACKGROUND, CIN3, CLASSES
from napari_hspnet.errors import InputError
from napari_hspnet.exchange.about import ExportInfo
from napari_hspnet.exchange.frame import Frame
from napari_hspnet.exchange.output import (
    Cancel,
    Report,
    Watched,
    new_folder,
    refuse_existing_folder,
    stop_if,
)
from napari_hspnet.exchange.png import checked_mpp, indexed
from napari_hspnet.exchange.sources import LabelSource
from napari_hspnet.slides import LEVEL_TOLERANCE, PixelBox, Slide

__all__ = ["IGNORE", "LARGEST", "is_training_folder", "regions_to_crop", "write_training"]

IGNORE = 255
"""Value of a mask where nothing is to be learned: outside the region, or not analysed."""

LARGEST = 4096
"""Pixels of a crop's longer side at most."""

FORMAT = "napari-hspnet training crops"

Array = npt.NDArray[np.uint8]

_NAMES: Mapping[int, str] = {BACKGROUND: "none"} | {c.value: c.name for c in CLASSES}


@dataclass(frozen=True)
class _Crop:
    """A tile of a region, and what it is called."""

    name: str
    region: ReviewRegion
    frame: Frame


def write_training(
    folder: Path,
    slide: Slide | None,
    labels: LabelSource,
    snapshot: CaseSnapshot,
    about: ExportInfo,
    *,
    mpp: float | None = None,
    regions: Sequence[int] | None = None,
    tile_um: float | None = None,
    overwrite: bool = False,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Path:
    """Write ``images/<id>.png`` (RGB) and ``masks/<id>.png`` (palette indices) in pairs.

    A mask has the label under each pixel's centre, 0 to 4, and `IGNORE` outside the
    region and where nothing was analysed; a crop without any label is left out.
    ``crops.csv`` and ``crops.json`` say of each where it lies and whose it is. All
    crops of a slide carry its fingerprint: whoever splits them keeps a slide, and
    all slides of a patient, on one side.

    Parameters
    ----------
    folder : Path
        To make.
    slide : Slide or None
        The case's slide.
    labels : LabelSource
        What is to be learned.
    snapshot : CaseSnapshot
        The case, for its review regions.
    about : ExportInfo
        What the crops say of themselves; they bear the slide's name only where it
        has one.
    mpp : float, optional
        µm per pixel; the label grid's by default.
    regions : sequence of int, optional
        Review regions; without, those reviewed or signed off that have no tag.
    tile_um : float, optional
        Side of a crop in µm; the whole region, up to `LARGEST` pixels, without.
    overwrite, progress, cancel
        As for `write_ome_zarr`.

    Raises
    ------
    InputError
        There is no slide, no such region, nothing reviewed, or a resolution or tile
        that cannot be had.
    CaseMismatchError
        The slide is not the case's.
    SlideReadError
        A part of the slide cannot be read.
    OutputError
        The folder exists, the disk is full, or writing is not permitted.
    CancelledError
        If `cancel` was set.
    """
    folder = Path(folder)
    if slide is None:
        raise InputError(
            "Training crops need the slide's file, which was not named", advice="Name it"
        )
    snapshot.slide.refuse_other(slide.info)
    refuse_existing_folder(folder, overwrite, is_training_folder)
    mpp = _checked(slide, labels, mpp)
    side = _side(tile_um, mpp)
    chosen = regions_to_crop(snapshot, regions)
    crops = [crop for region in chosen for crop in _crops(region, labels, about, mpp, side)]
    rows = []
    with new_folder(folder, is_training_folder, overwrite, cancel) as beside:
        for name in ("images", "masks"):
            (beside / name).mkdir()
        region_of: tuple[int, Selection] | None = None
        for number, crop in enumerate(crops):
            stop_if(cancel)
            if region_of is None or region_of[0] != crop.region.id:
                region_of = crop.region.id, snapshot.selection(crop.region.id)
            mask = _mask(crop.frame, labels, region_of[1], cancel)
            if (mask != IGNORE).any():
                _save_image(beside / "images" / f"{crop.name}.png", crop, slide, cancel)
                _save_mask(beside / "masks" / f"{crop.name}.png", mask, crop, about, cancel)
                rows.append(_row(crop, mask, about))
            if progress is not None:
                progress((number + 1) / len(crops))
        _write_tables(beside, rows, about, mpp, len(crops) - len(rows))
        stop_if(cancel)
    return folder


def is_training_folder(path: Path) -> bool:
    """Whether a folder was written by `write_training`."""
    try:
        said = json.loads((path / "crops.json").read_bytes())
        return bool(said["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _checked(slide: Slide, labels: LabelSource, mpp: float | None) -> float:
    if mpp is None:
        return labels.grid.mpp
    finest = min(labels.grid.mpp, max(slide.info.require_mpp()))
    if checked_mpp(mpp) < finest * (1 - LEVEL_TOLERANCE):
        raise InputError(
            f"Crops of {mpp:g} µm per pixel would be finer than the slide",
            advice=f"Choose {finest:.4g} µm per pixel or more",
        )
    return mpp


def _side(tile_um: float | None, mpp: float) -> int:
    if tile_um is None:
        return LARGEST
    if not (math.isfinite(tile_um) and tile_um >= mpp):
        raise InputError(
            f"A crop cannot have a side of {tile_um:g} µm",
            advice=f"Give {mpp:g} or more",
        )
    return min(LARGEST, max(1, round(tile_um / mpp)))


def regions_to_crop(
    snapshot: CaseSnapshot, numbers: Sequence[int] | None
) -> tuple[ReviewRegion, ...]:
    """The review regions that crops are made of.

    Parameters
    ----------
    snapshot : CaseSnapshot
        The case.
    numbers : sequence of int or None
        Of the regions; without, those reviewed or signed off that have no tag.

    Raises
    ------
    InputError
        There is no such region, or none at all.
    """
    done = (REVIEWED, SIGNED_OFF)
    if numbers is not None:
        chosen = snapshot.named(numbers)
    else:
        chosen = tuple(r for r in snapshot.regions if r.state in done and not r.tag)
    if not chosen:
        raise InputError(
            "No region without a tag is reviewed or signed off, so there is nothing to train on",
            advice="Review some regions, or name those to take",
        )
    return chosen


def _crops(
    region: ReviewRegion, labels: LabelSource, about: ExportInfo, mpp: float, side: int
) -> Iterator[_Crop]:
    whole = Frame.around(region.box, labels.grid, mpp)
    name = f"{_stem(about)}-r{region.id:05d}"
    several = max(whole.shape) > side
    for row, y in enumerate(range(0, whole.height, side)):
        for column, x in enumerate(range(0, whole.width, side)):
            part = whole.part(y, x, min(side, whole.height - y), min(side, whole.width - x))
            at = f"-{row:03d}-{column:03d}" if several else ""
            yield _Crop(name + at, region, part)


def _stem(about: ExportInfo) -> str:
    """What a file's name begins with: crops of many slides can then lie together."""
    named = re.sub(r"[^\w.-]+", "_", PurePath(about.slide_name).stem).strip("._")
    return named or about.slide_fingerprint[:12]


def _mask(frame: Frame, labels: LabelSource, selection: Selection, cancel: Cancel | None) -> Array:
    def read(box: PixelBox) -> Array:
        values = labels.read(box.y0, box.x0, box.height, box.width).copy()
        values[(values > CIN3) | ~selection.read(box)] = IGNORE
        return values

    mask: Array = frame.sampled(read, cancel)
    return mask


def _save_image(path: Path, crop: _Crop, slide: Slide, cancel: Cancel | None) -> None:
    from PIL import Image

    pixels = crop.frame.image(slide, cancel)
    _save(Image.fromarray(pixels), path, crop, cancel)


def _save_mask(
    path: Path, mask: Array, crop: _Crop, about: ExportInfo, cancel: Cancel | None
) -> None:
    _save(indexed(mask, about.palette), path, crop, cancel)


def _save(image: Any, path: Path, crop: _Crop, cancel: Cancel | None) -> None:
    dots = (25400 / crop.frame.mpp,) * 2
    with path.open("wb") as file:
        image.save(Watched(file, cancel), format="PNG", dpi=dots, compress_level=3)


def _row(crop: _Crop, mask: Array, about: ExportInfo) -> dict[str, Any]:
    frame, region = crop.frame, crop.region
    counts = np.bincount(mask.ravel(), minlength=256)
    mm2 = partial(_mm2, square=(frame.mpp / 1000) ** 2)
    return {
        "crop": crop.name,
        "image": f"images/{crop.name}.png",
        "mask": f"masks/{crop.name}.png",
        "slide_sha256": about.slide_fingerprint,
        **({"slide": about.slide_name} if about.slide_name else {}),
        "region": region.id,
        "kind": region.kind,
        "state": region.state,
        "reader": region.state_reader,
        "time": region.state_time,
        "tag": region.tag,
        "x_um": round(frame.x * frame.mpp, 6),
        "y_um": round(frame.y * frame.mpp, 6),
        "width_um": round(frame.width * frame.mpp, 6),
        "height_um": round(frame.height * frame.mpp, 6),
        "um_per_pixel": frame.mpp,
        "width_px": frame.width,
        "height_px": frame.height,
        **{f"{name}_mm2": mm2(counts[value]) for value, name in _NAMES.items()},
        "ignored_mm2": mm2(counts[IGNORE]),
        "model": about.model_name,
        "model_sha256": about.model_sha256,
        "runs": "; ".join(about.run_ids),
        "readers": "; ".join(about.readers),
        "journal_entry": about.entry,
        "tool": about.tool,
        "notice": about.notice,
    }


def _mm2(pixels: int, square: float) -> float:
    return round(float(pixels) * square, 9)


def _write_tables(
    folder: Path, rows: Sequence[Mapping[str, Any]], about: ExportInfo, mpp: float, empty: int
) -> None:
    if not rows:
        raise InputError(
            "The regions hold no label to train on: nothing was analysed in them",
            advice="Segment them, or choose others",
        )
    said = {
        "format": FORMAT,
        "version": 1,
        "about": about.facts(),
        "um_per_pixel": mpp,
        "values": {str(v): name for v, name in _NAMES.items()} | {str(IGNORE): "ignore"},
        "group_by": "slide_sha256",
        "splitting": "Keep all crops of a slide, and all slides of a patient, on one side",
        "left_out_as_empty": empty,
        "crops": list(rows),
    }
    text = json.dumps(said, ensure_ascii=False, indent=1)
    (folder / "crops.json").write_text(text, encoding="utf-8")
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    (folder / "crops.csv").write_text(table.getvalue(), encoding="utf-8", newline="")
