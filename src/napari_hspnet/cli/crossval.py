"""``napari-hspnet crossval``: a config trained and judged once a fold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_hspnet.cli.screen import note, progress_bar, stop_signals, warn
from napari_hspnet.cli.tables import print_table
from napari_hspnet.errors import CancelledError

__all__ = ["cross_validate"]


def cross_validate(
    config: Annotated[Path, typer.Argument(help="A config as `train` takes it.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="The folder for all that comes out; run again, it goes on."),
    ],
    folds: Annotated[
        int, typer.Option("--folds", help="Parts that patients are divided into.")
    ] = 4,
    plain: Annotated[
        bool, typer.Option("--plain", help="Judge without the Gauss-like post-processing only.")
    ] = False,
) -> None:
    """Train a config once a fold, judge it on those left out; MTCHI's test part is one fold."""
    from napari_hspnet.jobs.crossval import cross_validate as run
    from napari_hspnet.jobs.crossval import fold_table
    from napari_hspnet.jobs.judging import GAUSS, PLAIN
    from napari_hspnet.training.config import read_config

    read = read_config(config)
    with stop_signals() as cancel, progress_bar() as advance:
        try:
            cross = run(
                read,
                out,
                base=config.parent,
                count=folds,
                ways=(PLAIN,) if plain else (PLAIN, GAUSS),
                tell=advance,
                say=note,
                cancel=cancel,
            )
        except CancelledError:
            note(f"What is finished lies in {out}; run the command again and it goes on.")
            raise
    if cross.synthetic:
        warn("all images are synthetic: the figures say nothing of real tissue")
    print_table(fold_table(cross))
    typer.echo(f"\n{out}")
