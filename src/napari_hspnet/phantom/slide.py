"""Writing a phantom as a pyramidal slide that OpenSlide reads, and what is beside it."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from napari_hspnet.errors import InputError, OutputError
from napari_hspnet.phantom.bank import STEP, Plan, make_plan, truth_row
from napari_hspnet.phantom.bigtiff import DEFLATE, JPEG, Page, TiledTiff
from napari_hspnet.phantom.crew import Job, run_jobs, usable_cores
from napari_hspnet.phantom.job import Report, StoppedError, Work
from napari_hspnet.phantom.layout import TILE, PhantomSpec
from napari_hspnet.phantom.lines_file import write_lines
from napari_hspnet.phantom.oracle_slide import write_oracle
from napari_hspnet.phantom.stained import stained_steps, write_stained
from napari_hspnet.phantom.version import PHANTOM_VERSION, generator_hash
from napari_hspnet.slides.grid import LABEL_MPP

__all__ = ["PHANTOM_MARK", "PhantomResult", "write_phantom"]

PHANTOM_MARK = "napari-hspnet phantom"
"""Text in the image description by which a phantom is known."""

_TOP_SIDE = 1024
_MAX_LEVELS = 5
# Below so many tiles, starting processes takes longer than painting.
_WORTH_IT = 1500


@dataclass(frozen=True)
class PhantomResult:
    """What became of a call of `write_phantom`.

    Attributes
    ----------
    path : Path
        The slide.
    truth_path : Path or None
        The truth, where it was asked for.
    bytes_written : int
        All files together; 0 where it was cancelled.
    cancelled : bool
        If so, none of the files exists because of this call.
    lines_path : Path or None
        Surface and basement membrane, where they were asked for.
    """

    path: Path
    truth_path: Path | None
    bytes_written: int
    cancelled: bool = False
    lines_path: Path | None = None


def write_phantom(
    path: str | os.PathLike[str],
    spec: PhantomSpec,
    truth_path: str | os.PathLike[str] | None = None,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
    overwrite: bool = False,
    *,
    lines_path: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> PhantomResult:
    """Write a phantom slide as a pyramidal BigTIFF, and its truth beside it.

    Levels are true area averages, 4 apart. Memory does not grow with the slide
    beyond the tile tables. Files appear under their names when complete.

    Parameters
    ----------
    path : path
        The slide, usually ``.tiff``.
    spec : PhantomSpec
        What to write; the same on one platform gives the same bytes.
    truth_path : path, optional
        A tiled, deflated uint8 TIFF at 1 µm per pixel: the label grid, pixel
        by pixel, values 0 to 4 (see `truth_block`).
    progress : callable, optional
        Called with a share 0..1 and what is being done, from this thread.
    cancel : threading.Event, optional
        Stops within a second when set; nothing is left behind.
    overwrite : bool
        Whether existing files may be replaced.
    lines_path : path, optional
        GeoJSON: surface and basement membrane, µm from the slide's origin.
    workers : int, optional
        Processes that paint; 1 paints in this one. The usable cores where
        None, one for a small slide. The bytes do not depend on it.

    Returns
    -------
    PhantomResult

    Raises
    ------
    OutputError
        If the folder is missing or not writable, a file exists already, the
        disk is or gets full, or a process ends before its work.
    InputError
        If two paths are the same, or `workers` is below 1.
    """
    target = Path(path)
    truth_target = None if truth_path is None else Path(truth_path)
    lines_target = None if lines_path is None else Path(lines_path)
    targets = [t for t in (target, truth_target, lines_target) if t is not None]
    if len({t.resolve() for t in targets}) < len(targets):
        raise InputError(
            "slide, truth and lines cannot be the same file", advice="Give them different names"
        )
    if workers is not None and workers < 1:
        raise InputError(f"a phantom cannot be made by {workers} workers", advice="Give 1 or more")
    for t in targets:
        _check_target(t, overwrite)
    work = Work(progress, cancel, 0)
    parts = {t: t.with_name(f".{t.name}.{os.getpid()}.part") for t in targets}
    try:
        work.check()
        plan = make_plan(spec, work.check)
        pages = _pages(spec, plan)
        _check_space(target.parent, plan)
        work.total = sum(p.offsets.size for p in pages)
        painted = stained_steps(plan) if spec.style == "he" else 0
        work.total += painted
        if workers is None:
            workers = usable_cores() if painted >= _WORTH_IT else 1
        with parts[target].open("wb") as file:
            tiff = TiledTiff(file)
            write = write_stained if spec.style == "he" else write_oracle
            write(plan, tiff, pages, work, workers)
            size = tiff.finish(pages)
        if truth_target is not None:
            work.what = "truth"
            with parts[truth_target].open("wb") as file:
                size += _write_truth(plan, TiledTiff(file), work, workers)
        if lines_target is not None:
            with parts[lines_target].open("wb") as file:
                size += write_lines(plan.layout, file)
        work.check()
        for t, part in parts.items():
            part.replace(t)
    except StoppedError:
        return PhantomResult(target, truth_target, 0, cancelled=True, lines_path=lines_target)
    except OSError as error:
        raise OutputError(
            f"the phantom cannot be written: {error.strerror or error}",
            advice="Choose a folder that can be written and has room",
            path=target,
        ) from error
    finally:
        for part in parts.values():
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    return PhantomResult(target, truth_target, size, lines_path=lines_target)


def _check_target(path: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise OutputError(
            f"the folder {path.parent} does not exist",
            advice="Create it or choose another",
            path=path,
        )
    if path.is_dir() or (path.exists() and not overwrite):
        raise OutputError(
            f"{path} exists already", advice="Choose another name or remove it", path=path
        )


def _check_space(folder: Path, plan: Plan) -> None:
    """Refuse before an hour's work what the disk cannot hold; generous by a half."""
    layout = plan.layout
    stained = layout.spec.style == "he"
    tissue = sum(p.height * p.width for p in layout.placements)
    drawn = tissue
    if stained:
        ways = {(p.section, p.way): p.height * p.width for p in layout.placements}
        drawn = sum(ways.values()) + len(plan.special)
    tables = 16 * -(-layout.spec.height // TILE) * -(-layout.spec.width // TILE)
    need = (40_000 if stained else 3_000) * (drawn + tissue // 12) + 2 * tables + 4_000_000
    free = shutil.disk_usage(folder).free
    if free < need:
        raise OutputError(
            f"the phantom may need {need / 1e6:.0f} MB and {folder} has {free / 1e6:.0f} MB free",
            advice="Make room, choose another folder or a smaller phantom",
            path=folder,
        )


def _pages(spec: PhantomSpec, plan: Plan) -> list[Page]:
    """One page a level, sizes rounded up."""
    stained = spec.style == "he"
    compression = JPEG if stained else DEFLATE
    colour = 2 if plan.look.scanner.subsampling else 1
    look = f"domain={spec.domain} artefacts={int(spec.artefacts)} " if stained else ""
    text = (
        f"{PHANTOM_MARK} version={PHANTOM_VERSION} generator={generator_hash()} "
        f"seed={spec.seed} style={spec.style} {look}"
        f"mpp={spec.mpp} size={spec.width}x{spec.height} SYNTHETIC, not from a patient"
    )
    pages = [
        Page((spec.height, spec.width), 3, compression, TILE, spec.mpp, text, subsampling=colour)
    ]
    while max(pages[-1].shape) > _TOP_SIDE and len(pages) < _MAX_LEVELS:
        factor = STEP ** len(pages)
        shape = -(-spec.height // factor), -(-spec.width // factor)
        mpp = spec.mpp * factor
        pages.append(Page(shape, 3, compression, TILE, mpp, reduced=True, subsampling=colour))
    return pages


def _write_truth(plan: Plan, tiff: TiledTiff, work: Work, workers: int) -> int:
    spec = plan.layout.spec
    text = (
        f"{PHANTOM_MARK} truth version={PHANTOM_VERSION} generator={generator_hash()} "
        f"seed={spec.seed}"
    )
    page = Page(spec.label_shape, 1, DEFLATE, TILE, LABEL_MPP, text)
    jobs: list[Job] = [(truth_row, (row,)) for row in range(page.grid[0])]
    results = run_jobs((make_plan, (spec,)), jobs, workers, work.check, lambda _: work.check())
    with contextlib.closing(results):
        for row, tiles in results:
            for col, data in enumerate(tiles):
                page.put(row, col, tiff.add(data))
    return tiff.finish([page])
