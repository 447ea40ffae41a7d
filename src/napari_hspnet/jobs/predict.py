"""From a slide file to mask files: open, segment into a case, export."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from napari_hspnet.cases import SUFFIX, Case, RunInfo
from napari_hspnet.cases.failures import output_failures
from napari_hspnet.classes import SKIPPED, UNREADABLE
from napari_hspnet.errors import InputError, OutputError
from napari_hspnet.exchange import Origin, png_shape
from napari_hspnet.inference import Plan, Progress, Settings, choose_device, prepare
from napari_hspnet.inference.modes import DEFAULT_MODE, mode_settings
from napari_hspnet.inference.predictors import check_backend
from napari_hspnet.jobs.export import export_case
from napari_hspnet.jobs.formats import ExportOptions, outputs_of, refuse_outputs
from napari_hspnet.jobs.segment import segment_into_case
from napari_hspnet.networks import LoadedModel
from napari_hspnet.slides import LabelGrid, Region, Slide, open_slide

__all__ = ["PredictOptions", "PredictResult", "check_outputs", "predict"]

Report = Callable[[Progress], None]


@dataclass(frozen=True)
class PredictOptions:
    """What to make of each slide.

    Attributes
    ----------
    out : Path
        Folder of the mask files.
    cases : Path or None
        Folder of the cases; None is `out`.
    formats : tuple of str
        Some of `FORMATS`.
    region : Region
        What to segment.
    stride : int or None
        As in `inference.Settings`; None is a quarter of the model's window, the paper's.
    blend, tissue_mask, skip_unreadable
        As in `inference.Settings`.
    mode : str
        One of `inference.modes.MODES`, instead of stride and blend; empty for none.
    device : str
        As in `inference.choose_device`.
    mpp : float or None
        µm per level-0 pixel as the user says it.
    png_mpp : float or None
        µm per pixel of the PNG; None is the label grid's.
    origin : {"bounds", "level0"}
        Of GeoJSON coordinates.
    overwrite : bool
        Whether mask files may be replaced. Runs of a case never are.
    backend : str
        What runs the model, as in `inference.segment`.
    fresh : bool
        Begin anew where a run of the same request was broken off, instead of going on.
    suspend : bool
        Whether a run that is cancelled is left in the case, to be gone on with.
    reuse : str or None
        Write the masks of a finished run of the same request if the case has one,
        begun then or later (UTC, ISO 8601, in seconds).
    """

    out: Path
    formats: tuple[str, ...] = ("ome-tiff", "geojson")
    cases: Path | None = None
    region: Region = field(default_factory=Region.slide)
    stride: int | None = None
    blend: str = "gaussian"
    tissue_mask: bool = True
    skip_unreadable: bool = False
    device: str = "auto"
    mpp: float | None = None
    png_mpp: float | None = None
    origin: Origin = "bounds"
    overwrite: bool = False
    backend: str = "eager"
    fresh: bool = False
    suspend: bool = False
    reuse: str | None = None
    mode: str = ""

    def settings(self, window: int) -> Settings:
        """The engine's settings for a model's window.

        Raises
        ------
        InputError
            If there is no such mode, or no run can have these settings.
        """
        chosen = mode_settings(self.mode or DEFAULT_MODE, window)
        if not self.mode:
            stride = chosen.stride if self.stride is None else self.stride
            chosen = Settings(window, stride=stride, blend=self.blend)
        return replace(chosen, tissue_mask=self.tissue_mask, skip_unreadable=self.skip_unreadable)

    def outputs(self, slide: Path) -> dict[str, Path]:
        """The mask file of each format for a slide."""
        return outputs_of(self.formats, self.out, slide.stem)

    def case_folder(self, slide: Path) -> Path:
        """The case folder for a slide."""
        return (self.cases or self.out) / f"{slide.stem}{SUFFIX}"


@dataclass(frozen=True)
class PredictResult:
    """What came of one slide.

    Attributes
    ----------
    slide : Path
        The slide.
    case : Path
        Its case folder.
    run : RunInfo
        The run, areas in mm² with it.
    outputs : Mapping of str to Path
        The file of each format.
    grid : LabelGrid
        Size and µm per pixel of the masks.
    windows : int
        Network inputs that were run, before a kill and after it.
    warnings : tuple of str
        What the user should know about the result.
    """

    slide: Path
    case: Path
    run: RunInfo
    outputs: Mapping[str, Path]
    grid: LabelGrid
    windows: int
    warnings: tuple[str, ...]


def check_outputs(slides: Sequence[Path], options: PredictOptions) -> None:
    """Find out before any work what would go wrong at its end.

    Raises
    ------
    InputError
        Two slides would write the same files, or a format is unknown.
    OutputError
        A file exists already, or a folder cannot be written.
    """
    seen: dict[str, Path] = {}
    for slide in slides:
        # Some file systems take A and a for the same name.
        other = seen.setdefault(slide.stem.casefold(), slide)
        if other is not slide:
            raise InputError(
                f"{other} and {slide} would write the same files",
                advice="Give each its own output folder",
            )
        refuse_outputs(options.outputs(slide), options.overwrite)
    for folder in {options.out, options.cases or options.out}:
        _check_writable(folder)


def predict(
    path: Path,
    model: LoadedModel,
    options: PredictOptions,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
    said: Callable[[str], None] | None = None,
) -> PredictResult:
    """Segment one slide and write its masks.

    The result is a run of the slide's case; the masks hold this run alone,
    whatever else the case holds. One that was broken off by a kill is gone on with.

    Parameters
    ----------
    path : Path
        The slide.
    model : LoadedModel
        Network and card.
    options : PredictOptions
        What to make of it; see `check_outputs`.
    progress : callable, optional
        Gets `Progress` from this thread.
    cancel : threading.Event, optional
        Stops within a second when set.
    said : callable, optional
        Gets a sentence for people where a run is gone on with.

    Raises
    ------
    CancelledError
        If cancelled; no file and no run is left of it, but for `PredictOptions.suspend`.
    HspnetError
        As opening, segmenting and exporting do.
    """
    tell = progress or (lambda report: None)
    settings = options.settings(model.card.window)
    choose_device(options.device)
    check_backend(options.backend)
    with open_slide(path, options.mpp) as slide:
        grid = LabelGrid.of(slide.info, model.card.mpp)
        if "png" in options.formats:
            png_shape(grid, options.png_mpp)
        tell(Progress("Finding tissue", 0, 0, 0.0, None))
        plan = prepare(slide, model.card.mpp, options.region, settings, cancel=cancel)
        with _case(options.case_folder(path), slide, grid, not options.fresh) as case:
            return _into(case, slide, model, settings, plan, options, tell, cancel, said)


def _into(
    case: Case,
    slide: Slide,
    model: LoadedModel,
    settings: Settings,
    plan: Plan,
    options: PredictOptions,
    tell: Report,
    cancel: threading.Event | None,
    said: Callable[[str], None] | None,
) -> PredictResult:
    result = segment_into_case(
        slide,
        model,
        options.region,
        case,
        settings=settings,
        device=options.device,
        backend=options.backend,
        plan=plan,
        resume=True,
        suspend=options.suspend,
        reuse=options.reuse,
        progress=tell,
        cancel=cancel,
        said=said,
    )
    written = export_case(
        case,
        ExportOptions(
            options.out,
            options.formats,
            name=slide.info.path.stem,
            png_mpp=options.png_mpp,
            origin=options.origin,
            overwrite=options.overwrite,
            runs=(result.run.id,),
        ),
        slide,
        lambda doing, part: tell(Progress(doing, int(part * 100), 100, 0.0, None)),
        cancel,
    )
    return PredictResult(
        slide.info.path,
        case.folder,
        result.run,
        written.outputs,
        case.grid,
        result.summary.windows,
        tuple(_warnings(slide, model, result.run)),
    )


def _warnings(slide: Slide, model: LoadedModel, run: RunInfo) -> Iterator[str]:
    areas = run.areas
    if areas and set(areas) <= {SKIPPED}:
        yield (
            "No tissue was found in the region: all of it is marked as skipped (value 253); "
            "leave the tissue mask out if there is some"
        )
    if areas.get(UNREADABLE):
        yield f"{areas[UNREADABLE]:.3g} mm² could not be read and are marked so (value 254)"
    if model.card.synthetic and not slide.info.phantom:
        yield "The model was trained on synthetic slides: what it says of this one means nothing"


@contextlib.contextmanager
def _case(folder: Path, slide: Slide, grid: LabelGrid, keep_unfinished: bool) -> Iterator[Case]:
    """The slide's case; one that was begun here and holds nothing in the end goes."""
    fresh = not folder.exists()
    empty = False
    try:
        with Case.open_or_create(folder, slide.info, grid, keep_unfinished=keep_unfinished) as case:
            try:
                yield case
            finally:
                empty = not case.runs
    finally:
        if fresh and empty:
            shutil.rmtree(folder, ignore_errors=True)


def _check_writable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError("The output folder is a file", advice="Name a folder", path=folder)
    with output_failures(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.probe"
        try:
            # A full disk lets a file be made but takes nothing into it.
            probe.write_bytes(bytes(4096))
        finally:
            probe.unlink(missing_ok=True)
