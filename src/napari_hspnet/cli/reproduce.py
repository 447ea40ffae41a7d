"""``napari-hspnet reproduce``: the paper's tables, ours beside them."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_hspnet.cli.screen import note, progress_bar, stop_signals, warn
from napari_hspnet.cli.tables import print_table
from napari_hspnet.errors import CancelledError, InputError

if TYPE_CHECKING:
    from napari_hspnet.jobs.reproduce_scale import Scale

__all__ = ["reproduce"]


class TableName(StrEnum):
    """A table of the paper, or what goes beyond it."""

    table2 = "table2"
    table3 = "table3"
    table4 = "table4"
    table5 = "table5"
    beyond = "beyond"


class StartName(StrEnum):
    """What encoders start from."""

    imagenet = "imagenet"
    none = "none"


def reproduce(
    tables: Annotated[list[TableName], typer.Argument(help="Which; several share what they can.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="The folder for all that comes out; run again, it goes on."),
    ],
    mtchi: Annotated[
        Path | None, typer.Option("--mtchi", help="The folder that holds MTCHI's Task2.")
    ] = None,
    phantom: Annotated[
        bool, typer.Option("--phantom", help="Instead: synthetic fields, drawn into the folder.")
    ] = False,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A check of the pipeline in minutes, tiny networks: ranks nothing."
        ),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="The paper's networks and recipe; wants a GPU.")
    ] = False,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Between commas; a training each. Full: 0,1,2.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Instead of the paper's 30.")
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option("--micro-batch", help="Patches in memory at once, for a small GPU."),
    ] = None,
    fields: Annotated[
        str | None, typer.Option("--fields", help="Phantoms to train and test on, as in 160,60.")
    ] = None,
    weights: Annotated[
        StartName | None,
        typer.Option(
            "--encoder-weights", help="What encoders start from; imagenet for MTCHI, else none."
        ),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Allow ImageNet weights to be fetched.")
    ] = False,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps …")
    ] = "auto",
    workers: Annotated[
        int, typer.Option("--workers", help="Threads that read, processes that draw.")
    ] = 2,
) -> None:
    """Repeat the paper's tables on MTCHI, or show the same machinery at work on phantoms."""
    if (mtchi is None) != phantom:
        raise InputError(
            "Exactly one of --mtchi and --phantom is needed",
            advice="Name the folder that holds MTCHI's Task2, or take phantoms",
        )
    if quick and full:
        raise InputError("--quick and --full contradict each other", advice="Give one of them")
    from napari_hspnet.inference import choose_device
    from napari_hspnet.jobs.reproduce import Reproduction
    from napari_hspnet.jobs.reproduce import reproduce as run
    from napari_hspnet.jobs.reproduce_scale import FULL, NO_RANKING, QUICK
    from napari_hspnet.jobs.reproduce_tables import result_table

    if not (quick or full):
        # On two cores the paper's networks take days.
        quick = phantom and choose_device(device).type == "cpu"
    scale = QUICK if quick else FULL
    if mtchi is not None:
        scale = scale.for_mtchi()
    if weights is not None:
        scale = replace(scale, encoder_weights=weights.value)
    scale = _changed(scale, epochs, micro_batch, fields, phantom)
    chosen = _numbers(seeds, "--seeds") if seeds is not None else ((0,) if quick else (0, 1, 2))
    if quick:
        warn(f"{NO_RANKING}.")
    wanted = Reproduction(
        tuple(dict.fromkeys(name.value for name in tables)),
        scale,
        mtchi,
        chosen,
        device,
        workers,
        download,
    )
    with stop_signals() as cancel, progress_bar() as advance:
        try:
            outcomes = run(wanted, out, tell=advance, say=note, cancel=cancel)
        except CancelledError:
            note(f"What is finished lies in {out}; run the command again and it goes on.")
            raise
    for outcome in outcomes:
        typer.echo(f"\n{outcome.table.title}\n")
        print_table(result_table(outcome))
        for row, found in zip(outcome.table.rows, outcome.filled, strict=True):
            if found is not None and found.problem:
                typer.echo(f"No figures of {row.model.title}: {found.problem}")
        typer.echo(f"\n{out / outcome.table.name}.md")
    if quick:
        warn(f"{NO_RANKING}.")


def _changed(
    scale: Scale,
    epochs: int | None,
    micro_batch: int | None,
    fields: str | None,
    phantom: bool,
) -> Scale:
    if epochs is not None:
        scale = replace(scale, epochs=epochs)
    if micro_batch is not None:
        scale = replace(scale, micro_batch=micro_batch)
    if fields is None:
        return scale
    numbers = _numbers(fields, "--fields")
    if not phantom or len(numbers) != 2 or min(numbers) < 1:
        raise InputError(
            f"--fields {fields!r} is not understood",
            advice="Give two numbers above zero with --phantom, as in 160,60",
        )
    train, test = numbers
    return replace(scale, phantoms=replace(scale.phantoms, train=train, test=test))


def _numbers(text: str, option: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{option} {text!r} is not understood", advice="Give whole numbers, as in 0,1,2"
        ) from None
