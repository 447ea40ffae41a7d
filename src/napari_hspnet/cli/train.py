"""``napari-hspnet train``: a network trained as a config file says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_hspnet.cli.screen import note, progress_bar, stop_signals
from napari_hspnet.errors import CancelledError, InputError

__all__ = ["train"]


def train(
    config: Annotated[
        Path | None, typer.Argument(help="The config file (TOML); see --example.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder for all that comes out; run again, it goes on."),
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print a config, the paper's recipe, and end.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only read the config, say its hash, and end.")
    ] = False,
) -> None:
    """Train a network as a config file says; interrupted or killed, run it again to go on."""
    from napari_hspnet.training.config import example_config, read_config

    if example:
        typer.echo(example_config().to_toml(comments=True), nl=False)
        return
    if config is None:
        raise InputError(
            "No config was given",
            advice="Print one: napari-hspnet train --example > config.toml",
        )
    read = read_config(config)
    if check:
        typer.echo(f"{config}: a config; its hash is {read.digest}")
        return
    if out is None:
        raise InputError("No folder was given", advice="Give one: --out FOLDER")
    from napari_hspnet.jobs.train import train_model

    with stop_signals() as cancel, progress_bar() as advance:
        try:
            result = train_model(
                read,
                out,
                base=config.parent,
                progress=lambda p: advance(p.doing, p.fraction, p.remaining),
                say=note,
                cancel=cancel,
            )
        except CancelledError:
            note(f"The training lies in {out}; run the command again and it goes on.")
            raise
    if result.sha256 is None:
        typer.echo(f"{result.path}: finished before")
    else:
        typer.echo(f"{result.path} (SHA-256 {result.sha256})")
    figures = result.card.metrics
    if figures.get("mean_dice") is not None:
        typer.echo(
            f"validation, {figures['blend']}: mean Dice {figures['mean_dice']:.3f} on "
            f"{figures['images']} images"
        )
