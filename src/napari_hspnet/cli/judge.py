"""``napari-hspnet judge-phantom``: a model beside opponents that know no structure."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hspnet.classes import CLASSES, RESEARCH_USE_ONLY
from napari_hspnet.cli.screen import note, progress_bar, stop_signals

if TYPE_CHECKING:
    from napari_hspnet.jobs.judge_phantom import Judgement
    from napari_hspnet.training import Estimate

__all__ = ["judge"]

_WIDE = 200


def judge(
    model: Annotated[
        Path | None, typer.Option("--model", help="The checkpoint; the demo model without it.")
    ] = None,
    slides: Annotated[int, typer.Option("--slides", min=1, help="How many test slides.")] = 24,
    domain: Annotated[str, typer.Option("--domain", help="Stain and scanner of all.")] = "A",
    train_fields: Annotated[
        int, typer.Option("--train-fields", min=1, help="Fields that the forests learn from.")
    ] = 120,
    out: Annotated[
        Path | None, typer.Option("--out", help="All figures, per slide too, as JSON.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
    no_baselines: Annotated[
        bool, typer.Option("--no-baselines", help="Leave the random forests out.")
    ] = False,
) -> None:
    """Judge a model on phantom test slides, beside a constant answer and random forests."""
    from napari_hspnet.jobs.judge_phantom import JudgeOptions, judge_phantom
    from napari_hspnet.jobs.outputs import check_output
    from napari_hspnet.networks import demo_model_path, load_checkpoint

    if out is not None:
        check_output(out, overwrite)
    if model is None:
        note("No --model is given: judging the demo model of this package.")
    loaded = load_checkpoint(demo_model_path() if model is None else model)
    options = JudgeOptions(
        slides=slides, domain=domain, train_fields=train_fields, baselines=not no_baselines
    )
    with stop_signals() as cancel, progress_bar() as advance:
        judgement = judge_phantom(
            loaded, options, lambda p: advance(p.doing, p.fraction, p.remaining), cancel
        )
    document = judgement.to_json()
    if out is not None:
        from napari_hspnet.networks.checkpoint import write_atomically

        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(out, f"{text}\n".encode())
    for line in _heading(document):
        typer.echo(line)
    typer.echo("")
    _print_table(judgement)
    if out is not None:
        typer.echo(f"\n{out}")


def _heading(about: dict[str, Any]) -> Iterator[str]:
    model, forests = about["model"], about["forests"]
    yield f"{RESEARCH_USE_ONLY}. Synthetic slides: these figures say nothing of real ones."
    yield (
        f"Phantom version {about['phantom_version']}, generator {about['generator_hash']}, "
        f"domain {about['domain']}"
    )
    height, width = about["slide_shape"]
    yield (
        f"{about['slides']} {about['split']} slides of {width} x {height} px at "
        f"{about['slide_mpp']:g} µm, seeds {about['seeds'][0]} to {about['seeds'][1]}"
    )
    classes = ", ".join(f"{name} {n}" for name, n in about["slides_with_class"].items())
    yield f"Slides with at least 1 % of a class: {classes}"
    if forests is not None:
        first, last = forests["seeds"]
        yield (
            f"Forests: {forests['trees']} trees, {forests['fields']} training fields of "
            f"{forests['field_side']} px (seeds {first} to {last}); answered "
            f"{forests['answered']}, the model all pixels"
        )
    if model is not None:
        yield f"Model {model['name']}, SHA-256 {model['sha256']}"
    yield f"Protocol: {about['protocol']}; in brackets {about['intervals']}"


def _print_table(judgement: Judgement) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.MARKDOWN)
    table.add_column("answer", no_wrap=True)
    names = [c.name for c in CLASSES]
    for title in ("mean Dice", *(f"Dice {n}" for n in names), "pixel accuracy", "CIN2+ agreement"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in judgement.rows:
        of = row.estimates
        table.add_row(
            row.title,
            _with_interval(of.mean_dice),
            *(_figure(of.dice[name].value) for name in names),
            _figure(of.accuracy.value),
            _figure(of.high_grade.value),
        )
    # A table that is piped into a file is not cut to 80 columns.
    wide = None if sys.stdout.isatty() else _WIDE
    console = Console(file=sys.stdout, highlight=False, markup=False, width=wide)
    with console.capture() as caught:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in caught.get().splitlines() if line.strip()))


def _figure(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _with_interval(one: Estimate) -> str:
    return f"{_figure(one.value)} [{_figure(one.low)}, {_figure(one.high)}]"
