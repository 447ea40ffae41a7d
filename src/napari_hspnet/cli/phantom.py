"""``napari-hspnet phantom``: a synthetic slide with known truth."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from napari_hspnet.cli.options import parse_size
from napari_hspnet.cli.screen import progress_bar, stop_signals
from napari_hspnet.errors import CancelledError

__all__ = ["make_phantom"]


class Style(StrEnum):
    """What a phantom looks like."""

    he = "he"
    oracle = "oracle"


def make_phantom(
    out: Annotated[Path, typer.Option("--out", help="The slide to write, such as p.tiff.")],
    size: Annotated[str, typer.Option("--size", metavar="W,H", help="In pixels.")],
    seed: Annotated[int, typer.Option("--seed", help="Another number, another slide.")] = 0,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="Its true classes, a TIFF at 1 µm per pixel.")
    ] = None,
    mpp: Annotated[float, typer.Option("--mpp", help="µm per pixel.")] = 0.25,
    style: Annotated[
        Style, typer.Option("--style", help="Like H&E, or flat colours that tell the truth.")
    ] = Style.he,
    domain: Annotated[
        str, typer.Option("--domain", help="Laboratory and scanner, A to F; A is the usual one.")
    ] = "A",
    artefacts: Annotated[
        bool, typer.Option("--artefacts/--no-artefacts", help="Folds, pen, bubbles, dust.")
    ] = True,
    lines: Annotated[
        Path | None,
        typer.Option("--lines", help="Surface and basement membrane, a GeoJSON in µm."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that paint; all cores if left out.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
) -> None:
    """Write a synthetic cervical slide of any size, and its truth."""
    height, width = parse_size(size)
    from napari_hspnet.phantom import PhantomSpec, write_phantom

    spec = PhantomSpec(height, width, seed, mpp, style.value, domain=domain, artefacts=artefacts)
    with stop_signals() as cancel, progress_bar() as advance:
        result = write_phantom(
            out,
            spec,
            truth,
            lambda part, doing: advance(doing, part, None),
            cancel,
            overwrite,
            lines_path=lines,
            workers=workers,
        )
    if result.cancelled:
        raise CancelledError
    typer.echo(f"{result.path} ({result.bytes_written / 1e6:.1f} MB)")
    for beside in (result.truth_path, result.lines_path):
        if beside is not None:
            typer.echo(str(beside))
