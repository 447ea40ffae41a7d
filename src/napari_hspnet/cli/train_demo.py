"""``napari-hspnet train-demo``: how the demo model was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_hspnet.cli.screen import progress_bar, stop_signals

__all__ = ["train"]


def train(
    out: Annotated[Path, typer.Option("--out", help="The checkpoint to write (safetensors).")],
    minutes: Annotated[float, typer.Option("--minutes", help="How long it may take.")] = 25.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the start and the fields.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a checkpoint that exists.")
    ] = False,
) -> None:
    """Train the demo model on phantoms, from nothing."""
    from napari_hspnet.exchange import refuse_existing

    refuse_existing(out, overwrite)
    from napari_hspnet.jobs.train_demo import train_demo

    with stop_signals() as cancel, progress_bar() as advance:
        result = train_demo(
            out,
            minutes,
            seed,
            lambda p: advance(
                p.doing if p.loss is None else f"{p.doing}, loss {p.loss:.3f}",
                p.fraction,
                p.remaining,
            ),
            cancel,
        )
    figures = result.card.metrics.get("gaussian_stride_200", {})
    typer.echo(f"{result.path} (SHA-256 {result.sha256})")
    typer.echo(f"Mean Dice on held-out phantoms: {figures.get('mean_dice', 'not judged')}")
