"""``napari-hspnet train-demo``: how the demo model was made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_hspnet.cli.screen import progress_bar, stop_signals

__all__ = ["train"]


def train(
    out: Annotated[Path, typer.Option("--out", help="The checkpoint to write (safetensors).")],
    minutes: Annotated[float, typer.Option("--minutes", help="How long it may take.")] = 45.0,
    init_seed: Annotated[
        int, typer.Option("--init-seed", help="Of the network's start and the patches.")
    ] = 0,
    data_seed: Annotated[int, typer.Option("--data-seed", help="Of the training fields.")] = 0,
    domain: Annotated[str, typer.Option("--domain", help="Stain and scanner of all.")] = "A",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a checkpoint that exists.")
    ] = False,
) -> None:
    """Train the demo model on phantoms, from nothing."""
    from napari_hspnet.exchange import refuse_existing

    refuse_existing(out, overwrite)
    from napari_hspnet.jobs.train_demo import DemoOptions, train_demo

    options = DemoOptions(minutes, init_seed, data_seed, domain)
    with stop_signals() as cancel, progress_bar() as advance:
        result = train_demo(
            out,
            options,
            lambda p: advance(
                p.doing if p.loss is None else f"{p.doing}, loss {p.loss:.3f}",
                p.fraction,
                p.remaining,
            ),
            cancel,
        )
    typer.echo(f"{result.path} (SHA-256 {result.sha256})")
    slides = result.card.metrics["slides"]
    for key, figures in result.card.metrics.items():
        if key == "plain" or key.startswith("gaussian"):
            mean = figures["mean_dice"]
            typer.echo(
                f"{key}: mean Dice {mean['value']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}] "
                f"on {slides} test phantoms"
            )
