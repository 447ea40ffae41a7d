"""From a case to files: masks, outlines, tables, pictures, a report, training crops."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_hspnet.cases import Case, CaseSnapshot, SlideFacts
from napari_hspnet.cases.failures import output_failures
from napari_hspnet.cases.grades import worst_grade
from napari_hspnet.errors import InputError
from napari_hspnet.exchange import (
    CaseLabels,
    ExportInfo,
    png_shape,
)
from napari_hspnet.exchange.output import stretch
from napari_hspnet.jobs.formats import FORMATS, ExportOptions, ExportResult, Format, refuse_outputs
from napari_hspnet.slides import LabelGrid, Slide

if TYPE_CHECKING:
    from napari_hspnet.exchange.described import Describer

__all__ = ["FORMATS", "ExportOptions", "ExportResult", "Format", "check_export", "export_case"]

Report = Callable[[str, float], None]
"""Told what is being done, and the part of all that is done, 0 to 1."""


def check_export(
    options: ExportOptions, facts: SlideFacts, grid: LabelGrid, slide: Slide | None
) -> dict[str, Path]:
    """Find out before any work what would go wrong at its end; the outputs.

    Parameters
    ----------
    options : ExportOptions
        What to write.
    facts : SlideFacts
        The slide that the case belongs to.
    grid : LabelGrid
        The case's.
    slide : Slide or None
        The slide's file, where it is at hand.

    Raises
    ------
    InputError
        An unknown format, one that needs the slide, or too large a PNG.
    CaseMismatchError
        The file is another slide's.
    OutputError
        Something is there already, or the folder cannot be written.
    """
    outputs = options.outputs(facts)
    if slide is not None:
        facts.refuse_other(slide.info)
    for key in options.formats:
        if FORMATS[key].needs_slide and slide is None:
            raise InputError(
                f"{FORMATS[key].title} needs the slide's file", advice="Name it (--slide FILE)"
            )
    offset_known = slide is not None or facts.bounds_known or options.origin == "level0"
    if "geojson" in options.formats and not offset_known:
        raise InputError(
            "The case does not know which part of the slide was scanned, where QuPath begins",
            advice="Name the slide's file (--slide FILE), or use --origin level0",
        )
    if "png" in options.formats:
        png_shape(grid, options.png_mpp)
    refuse_outputs(outputs, options.overwrite)
    with output_failures(options.out):
        options.out.mkdir(parents=True, exist_ok=True)
    return outputs


def export_case(
    case: Case,
    options: ExportOptions,
    slide: Slide | None = None,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> ExportResult:
    """Write a case in the formats that are asked for.

    The case is read as it is at the start; what is done to it meanwhile is not in
    the files. A file that is complete stays when a later one fails.

    Parameters
    ----------
    case : Case
        Open; read-only will do, and another process may be writing to it.
    options : ExportOptions
        What to write.
    slide : Slide, optional
        Its slide, for pictures and training crops.
    progress : callable (str, float) -> None, optional
        Told from this thread.
    cancel : threading.Event, optional
        Stops within a second when set; the file under way is not left behind.

    Raises
    ------
    InputError, CaseMismatchError
        As for `check_export`.
    CaseError
        The case is damaged.
    OutputError
        Something is there already, the disk is full, or writing is not permitted.
    DependencyError
        A format needs a package that is not installed.
    CancelledError
        If cancelled.
    """
    snapshot = CaseSnapshot.of(case, options.entry, options.runs)
    if slide is not None:
        snapshot = replace(snapshot, slide=SlideFacts.of(slide.info))
    snapshot.named(options.regions or ())
    if "training" in options.formats:
        from napari_hspnet.exchange.training_crops import regions_to_crop

        regions_to_crop(snapshot, options.regions)
    outputs = check_export(options, case.slide_facts, case.grid, slide)
    about = ExportInfo.of_snapshot(snapshot, options.what, options.palette, options.name_slide)
    writing = _Writing(
        options, snapshot, about, CaseLabels(snapshot.composite, options.what), slide
    )
    total = sum(FORMATS[key].share for key in outputs)
    before = 0.0
    for key, path in outputs.items():
        share = FORMATS[key].share
        told = _named(progress, f"Writing {path.name}", before / total, (before + share) / total)
        told(0.0)
        writing.write(key, path, told, cancel)
        before += share
    return ExportResult(outputs, about, tuple(writing.warnings))


def _named(
    progress: Report | None, doing: str, begun: float, ended: float
) -> Callable[[float], None]:
    told = None if progress is None else partial(progress, doing)
    return stretch(told, begun, ended) or (lambda part: None)


class _Writing:
    """What the writers of one export share."""

    def __init__(
        self,
        options: ExportOptions,
        snapshot: CaseSnapshot,
        about: ExportInfo,
        labels: CaseLabels,
        slide: Slide | None,
    ) -> None:
        self._options, self._snapshot, self._about = options, snapshot, about
        self._labels, self._slide = labels, slide
        self._describer: Describer | None = None
        self.warnings: list[str] = []

    def write(
        self,
        key: str,
        path: Path,
        progress: Callable[[float], None],
        cancel: threading.Event | None,
    ) -> None:
        """Write one format."""
        how = {"overwrite": self._options.overwrite, "progress": progress, "cancel": cancel}
        kinds: Mapping[str, Callable[..., Any]] = {
            "ome-tiff": self._tiff,
            "ome-zarr": self._zarr,
            "png": self._png,
            "geojson": self._geojson,
            "csv": partial(self._table, "csv"),
            "parquet": partial(self._table, "parquet"),
            "json": partial(self._table, "json"),
            "picture": self._picture,
            "report": self._report,
            "training": self._training,
        }
        kinds[key](path, **how)

    def _tiff(self, path: Path, **how: Any) -> None:
        from napari_hspnet.exchange.tiff import write_ome_tiff

        write_ome_tiff(path, self._labels, self._about, **how)

    def _zarr(self, path: Path, **how: Any) -> None:
        from napari_hspnet.exchange.zarr_labels import write_ome_zarr

        write_ome_zarr(path, self._labels, self._about, **how)

    def _png(self, path: Path, **how: Any) -> None:
        from napari_hspnet.exchange.png import write_png

        write_png(path, self._labels, self._about, self._options.png_mpp, **how)

    def _geojson(self, path: Path, **how: Any) -> None:
        from napari_hspnet.exchange.geojson import write_geojson

        write_geojson(
            path,
            self._labels,
            self._about,
            self._options.origin,
            simplify_um=self._options.simplify_um,
            describer=self._description(),
            regions=self._options.review_regions,
            **how,
        )

    def _table(self, kind: Literal["csv", "parquet", "json"], path: Path, **how: Any) -> None:
        from napari_hspnet.exchange.table import write_table

        write_table(
            path, self._labels, self._about, self._description(), kind, worst=worst_grade, **how
        )

    def _picture(self, path: Path, **how: Any) -> None:
        from napari_hspnet.exchange.picture import write_picture

        options = self._options
        write_picture(
            path,
            self._slide,
            self._labels,
            self._about,
            region=options.picture_region,
            mpp=options.picture_mpp,
            fill=options.picture_fill,
            **how,
        )

    def _report(self, path: Path, **how: Any) -> None:
        from napari_hspnet.exchange.report import write_report
        from napari_hspnet.jobs.report import gather

        options, progress, cancel = self._options, how.pop("progress"), how["cancel"]
        content = gather(
            self._snapshot,
            self._slide,
            options.regions,
            name_slide=options.name_slide,
            comments=options.comments,
            palette=options.palette,
            progress=progress,
            cancel=cancel,
        )
        write_report(path, content, **how)
        if self._slide is None:
            self.warnings.append("The report has no pictures, as the slide's file was not named")

    def _training(self, path: Path, **how: Any) -> None:
        from napari_hspnet.exchange.training_crops import write_training

        write_training(
            path,
            self._slide,
            self._labels,
            self._snapshot,
            self._about,
            mpp=self._options.training_mpp,
            regions=self._options.regions,
            tile_um=self._options.training_tile_um,
            **how,
        )

    def _description(self) -> Describer:
        """What is known of outlines; made once for all formats that tell it."""
        if self._describer is None:
            from napari_hspnet.exchange.described import Describer

            self._describer = Describer.of(self._snapshot, comments=self._options.comments)
        return self._describer
