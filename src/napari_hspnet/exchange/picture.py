"""A picture of the slide with its overlay, a legend and a scale bar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.words import local_time
from napari_hspnet.classes import CLASSES, NOT_RUN, SKIPPED, UNREADABLE
from napari_hspnet.errors import InputError, RegionError
from napari_hspnet.exchange.about import ExportInfo
from napari_hspnet.exchange.frame import Frame
from napari_hspnet.exchange.legend import (
    ALARM,
    GREY,
    Entry,
    Line,
    ScaleBar,
    above,
    font_size,
    mm2_text,
    strip,
)
from napari_hspnet.exchange.output import (
    Cancel,
    Report,
    Watched,
    new_file,
    refuse_existing,
    stop_if,
    stretch,
)
from napari_hspnet.exchange.overlay import Drawn, Look, draw, line_scale, swatch
from napari_hspnet.exchange.png import PNG_PIXELS, checked_mpp
from napari_hspnet.exchange.seen import Inside, Seen
from napari_hspnet.exchange.sources import LabelSource
from napari_hspnet.slides import LabelGrid, PixelBox, Region, Slide

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["NOT_ANALYSED", "REASONS", "SIDE", "fitting_mpp", "write_picture"]

SIDE = 3000
"""Pixels of a picture's longer side, where none is asked for."""

REASONS: Mapping[int, str] = MappingProxyType(
    {SKIPPED: "no tissue found", UNREADABLE: "unreadable", NOT_RUN: "not run"}
)
"""Why something was not analysed."""

NOT_ANALYSED: Mapping[int, str] = MappingProxyType(
    {value: f"not analysed: {why}" for value, why in REASONS.items()}
)
"""What the legend says of the values that are no grade."""

Mask = npt.NDArray[np.bool_]


def fitting_mpp(slide: Slide | None, grid: LabelGrid, box: PixelBox, side: int = SIDE) -> float:
    """µm per pixel with which a box's longer side has `side` pixels, or the finest there is.

    That is the slide's own; the label grid's without a slide.
    """
    finest = grid.mpp if slide is None else max(slide.info.require_mpp())
    return max(finest, max(box.height, box.width) * grid.mpp / side)


def write_picture(
    path: Path,
    slide: Slide | None,
    labels: LabelSource,
    about: ExportInfo,
    *,
    region: Region | PixelBox | None = None,
    mpp: float | None = None,
    fill: bool = False,
    overwrite: bool = False,
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Path:
    """Write the slide with its overlay as PNG (RGB), a legend and a scale bar beneath.

    Outlines are drawn as in the window, wider with the grade; what was not
    analysed is hatched, and what lies outside a drawn region is lighter. Areas are
    counted on the labels themselves, however coarse the picture. Text chunks carry
    what `ExportInfo.facts` says, pHYs the µm per pixel.

    Parameters
    ----------
    path : Path
        The file.
    slide : Slide or None
        White without one. Its label and macro images are never read.
    labels : LabelSource
        What is drawn over it.
    about : ExportInfo
        What the file says of itself.
    region : Region or PixelBox, optional
        Which part, a box in label pixels; the whole slide without.
    mpp : float, optional
        µm per pixel. By default the longer side has `SIDE` pixels, but is never
        finer than the slide (the label grid without one).
    fill : bool
        Whether areas are filled beside their outlines.
    overwrite, progress, cancel
        As for `write_ome_tiff`.

    Raises
    ------
    InputError
        More than `PNG_PIXELS` pixels, or no resolution.
    RegionError
        The region lies outside the slide.
    OutputError
        The file exists, the disk is full, or writing is not permitted.
    CancelledError
        If `cancel` was set.
    """
    from PIL import PngImagePlugin

    path = Path(path)
    refuse_existing(path, overwrite)
    grid = labels.grid
    box = _box_of(region, grid)
    mpp = fitting_mpp(slide, grid, box) if mpp is None else checked_mpp(mpp)
    frame = Frame.around(box, grid, mpp)
    _refuse_large(frame)
    inside: Inside | None = None
    if isinstance(region, Region) and region.kind != "slide":
        drawn_region = region

        def inside(part: PixelBox) -> Mask | None:
            return drawn_region.mask(part, grid)

    seen = Seen.of(labels, frame, box, inside, stretch(progress, 0.0, 0.3), cancel)
    look = Look.of(about, fill)
    drawn = draw(slide, seen, look, stretch(progress, 0.3, 0.8), cancel)
    stop_if(cancel)
    image = _with_strip(drawn, seen, look, about, region is not None)
    text = PngImagePlugin.PngInfo()
    for key, said in about.facts().items():
        text.add_itxt(key, said)
    text.add_itxt("um_per_pixel", repr(mpp))
    with new_file(path, overwrite) as beside, beside.open("wb") as file:
        watched: Any = Watched(file, cancel)
        dots = (25400 / mpp, 25400 / mpp)
        image.save(watched, format="PNG", pnginfo=text, dpi=dots, compress_level=3)
        stop_if(cancel)
    if progress is not None:
        progress(1.0)
    return path


def _with_strip(drawn: Drawn, seen: Seen, look: Look, about: ExportInfo, part: bool) -> Image:
    frame = seen.frame
    size = font_size(frame.width, frame.height)
    beneath = strip(
        frame.width,
        size,
        _legend(seen, look, round(size * 1.15), line_scale(frame)),
        _lines(drawn, seen, about, part),
        ScaleBar.of(frame.width, frame.mpp),
    )
    return above(drawn.image, beneath)


def _legend(seen: Seen, look: Look, height: int, scale: int) -> list[Entry]:
    names = {c.value: c.name for c in CLASSES}
    for value, name in NOT_ANALYSED.items():
        if value in seen.mm2 and (look.veil or value != NOT_RUN):
            names[value] = name

    return [
        Entry(swatch(value, look, height, scale), f"{name} {mm2_text(seen.mm2.get(value, 0.0))}")
        for value, name in names.items()
    ]


def _lines(drawn: Drawn, seen: Seen, about: ExportInfo, part: bool) -> list[Line]:
    facts = about.facts()
    said = [
        Line(about.notice, ALARM),
        Line(f"{about.slide_title} · 1 pixel is {seen.frame.mpp:.4g} µm"),
        Line(
            f"Overlay: {facts['what']} · "
            + (f"journal entry {about.entry}" if about.entry else "no journal")
        ),
        Line(f"Model: {about.model_name or 'none'}{_hashes(about.model_sha256)}"),
    ]
    if about.readers:
        said.append(Line(f"Corrected by: {facts['readers']}"))
    if part:
        said.append(Line("Areas are those of the region shown", GREY))
    if seen.enlarged:
        said.append(Line("Foci that are smaller than a pixel are drawn larger", GREY))
    if not drawn.whole:
        said.append(Line("Grey squares are parts of the slide that cannot be read", ALARM))
    said.append(Line(f"{about.tool} · {local_time(about.exported)}", GREY))
    return said


def _hashes(sha256: str) -> str:
    known = [each[:12] for each in sha256.split("; ") if each]
    return f" (SHA-256 {', '.join(f'{each}…' for each in known)})" if known else ""


def _box_of(region: Region | PixelBox | None, grid: LabelGrid) -> PixelBox:
    whole = PixelBox(0, 0, *grid.shape)
    if region is None:
        return whole
    if isinstance(region, Region):
        return region.box(grid)
    box = region.intersect(whole)
    if not (box.height and box.width):
        raise RegionError(
            "The region lies outside the slide", advice="Choose a region that overlaps the slide"
        )
    return box


def _refuse_large(frame: Frame) -> None:
    pixels = frame.height * frame.width
    if pixels > PNG_PIXELS:
        coarser = math.ceil(frame.mpp * math.sqrt(pixels / PNG_PIXELS) * 10 + 0.1) / 10
        raise InputError(
            f"A picture of {frame.width:,} x {frame.height:,} pixels is more than most "
            "programs open",
            advice=f"Choose {coarser:g} µm per pixel or more for the picture",
        )
