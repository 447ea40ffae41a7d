"""``napari-hspnet models``: which models there are, who accepted them, which one is in use."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hspnet.classes import DEMO_BANNER, RESEARCH_USE_ONLY
from napari_hspnet.cli.screen import note, print_json, warn
from napari_hspnet.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from napari_hspnet.networks.inventory import ModelRecord
    from napari_hspnet.networks.model_diff import Difference, PartChange
    from napari_hspnet.networks.registry import Registry
    from napari_hspnet.networks.shelf import Act

__all__ = ["app"]

_WIDE = 240
_LONG = 60

app = typer.Typer(
    help="The models on this machine: list, show, compare, choose, hand on.",
    no_args_is_help=True,
)

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Its name, or four or more digits of its hash.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Note = Annotated[str, typer.Option("--note", help="Why; the registry keeps it.")]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who does it.")]


@app.command("list")
def list_models(
    history: Annotated[
        bool, typer.Option("--history", help="Instead: who added, accepted, used what, and when.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List all models, with their state and the one in use."""
    registry = _registry()
    records = registry.entries()
    try:
        registry.in_use()
    except CheckpointError as error:
        warn(str(error))
    if history:
        _tell_history(registry.history(), records, as_json)
        return
    if as_json:
        facts = [_facts(record) for record in records]
        print_json({"notice": RESEARCH_USE_ONLY, "folder": str(registry.folder), "models": facts})
        return
    titles = (
        "name",
        "hash",
        "made or added",
        "parent",
        "Dice held back",
        "Dice reference",
        "state",
        "",
    )
    _print(titles, [_row(record) for record in records], numbers=(4, 5))
    for record in records:
        if record.problem is not None:
            warn(f"{record.label}: {record.problem}")
    note(f"Folder: {registry.folder}")


@app.command("show")
def show_model(model: Model, as_json: AsJson = False) -> None:
    """Show a model's card in words, what was done with it and what it comes from."""
    from napari_hspnet.networks.card_text import card_text

    registry = _registry()
    record = registry.find(model)
    line = registry.lineage(record.sha256) if record.sha256 else ()
    if as_json:
        ancestors = [
            {"sha256": one.sha256, "name": None if one.record is None else one.record.name}
            for one in line[1:]
        ]
        card = _card(record)
        print_json(
            {"notice": RESEARCH_USE_ONLY, **_facts(record), "card": card, "ancestors": ancestors}
        )
        return
    if record.problem is not None:
        warn(record.problem)
    if record.card is None:
        raise CheckpointError(
            f"{record.label} has no card that can be read",
            advice="Import its file again: napari-hspnet models import",
            path=record.path,
        )
    state = f"State: {record.state or 'not known'}{', in use' if record.in_use else ''}"
    typer.echo(f"{state}. File: {record.path or 'missing'}\n")
    text = card_text(record.card, record.sha256, registry.acts_of(record.sha256), line[1:])
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(text))
    else:
        typer.echo(text, nl=False)


@app.command("diff")
def diff_models(first: Model, second: Model, as_json: AsJson = False) -> None:
    """Compare two models: what their cards say differently, and how far weights moved."""
    from napari_hspnet.networks.model_diff import diff_cards, diff_weights

    registry = _registry()
    a, b = registry.find(first), registry.find(second)
    for record in (a, b):
        if record.card is None:
            raise CheckpointError(
                f"{record.label} has no card that can be read",
                advice="Import its file again: napari-hspnet models import",
                path=record.path,
            )
    assert a.card is not None
    assert b.card is not None
    differences = diff_cards(a.card, b.card)
    parts: tuple[PartChange, ...] | None = None
    why = None
    try:
        parts = diff_weights(registry.check(a.sha256), registry.check(b.sha256))
    except CheckpointError as error:
        # What the cards say can be compared all the same.
        why = str(error)
    if as_json:
        print_json(_diff_facts(a, b, differences, parts, why))
        return
    _tell_diff(a, b, differences, parts, why)


@app.command("use")
def use_model(
    model: Model,
    by: By,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also a model that was refused.")
    ] = False,
) -> None:
    """Make a model the one in use; so one goes back to any earlier one."""
    registry = _registry()
    record = registry.use(registry.find(model).sha256, by, anyway)
    if record.card is not None and record.card.synthetic:
        warn(DEMO_BANNER)
    typer.echo(f"In use: {record.label}")


@app.command("accept")
def accept_model(
    model: Model,
    by: By,
    text: Note = "",
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also a model that the gate or somebody refused.")
    ] = False,
) -> None:
    """Accept a model; `models use` makes it the one in use."""
    registry = _registry()
    record = registry.find(model)
    if not anyway:
        _refuse_refused(record)
    record = registry.decide(record.sha256, True, by, text, _verdict(record))
    if record.card is not None and record.card.synthetic:
        warn(DEMO_BANNER)
    typer.echo(f"Accepted: {record.label}{', in use' if record.in_use else ''}")


@app.command("refuse")
def refuse_model(model: Model, by: By, text: Note = "") -> None:
    """Refuse a model; it stays, and can be accepted later."""
    registry = _registry()
    record = registry.find(model)
    record = registry.decide(record.sha256, False, by, text, _verdict(record))
    typer.echo(f"Refused: {record.label}")


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint with a card.")],
    by: By,
    text: Annotated[str, typer.Option("--note", help="Where it comes from, why it is here.")] = "",
) -> None:
    """Take a checkpoint in; a model that is new here is a candidate."""
    record = _registry().add(file, "candidate", by, text)
    typer.echo(f"{record.label}, {record.state}: {record.path}")


@app.command("export")
def export_file(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="….safetensors; its card goes beside it.")],
    card_only: Annotated[
        bool, typer.Option("--card-only", help="The card alone: --out is a ….md.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write a model's checkpoint and its card as Markdown."""
    from napari_hspnet.networks.model_export import export_model

    registry = _registry()
    sha256 = registry.find(model).sha256
    for path in export_model(registry, sha256, out, card_only, overwrite):
        typer.echo(path)


def _registry() -> Registry:
    from napari_hspnet.networks.registry import Registry

    return Registry()


def _verdict(record: ModelRecord) -> Mapping[str, Any]:
    """What the gate said of it, if it was fine-tuned here."""
    found = None if record.card is None else record.card.metrics.get("verdict")
    return found if isinstance(found, Mapping) else {}


def _refuse_refused(record: ModelRecord) -> None:
    advice = "Choose another one, or say that you want it anyway: --anyway"
    if record.state == "refused" and record.decision is not None:
        act = record.decision
        why = f": {act.note}" if act.note else ""
        raise InputError(
            f"{record.label} was refused by {act.by} on {act.when[:10]}{why}", advice=advice
        )
    if _verdict(record).get("refused") is True:
        raise InputError(
            f"The gate found {record.label} worse than the model that it was taught from",
            advice=advice,
        )


def _dice(record: ModelRecord, on: str) -> float | None:
    """Of the last decision, which is about this machine's own regions; else of the card."""
    from napari_hspnet.networks.card_values import mean_dice_of

    decision = record.decision
    found = None if decision is None else mean_dice_of(decision.figures, on)
    if found is None and record.card is not None:
        found = mean_dice_of(record.card.metrics, on)
    return found


def _made(record: ModelRecord) -> str | None:
    """When it was made, where its card says so."""
    made = None if record.card is None else record.card.recipe.get("made")
    return made if isinstance(made, str) else None


def _added(record: ModelRecord) -> str | None:
    return record.acts[0].when if record.acts else None


def _facts(record: ModelRecord) -> dict[str, Any]:
    card = record.card
    return {
        "name": record.name,
        "sha256": record.sha256,
        "made": _made(record),
        "added": _added(record),
        "parent": None if card is None else card.parent,
        "mean_dice": {on: _dice(record, on) for on in ("held_back", "reference")},
        "state": record.state,
        "in_use": record.in_use,
        "synthetic": None if card is None else card.synthetic,
        "built_in": record.built_in,
        "path": None if record.path is None else str(record.path),
        "problem": record.problem,
        "acts": [_act_facts(act) for act in record.acts],
    }


def _act_facts(act: Act) -> dict[str, Any]:
    return {**act.__dict__, "figures": dict(act.figures)}


def _card(record: ModelRecord) -> Any:
    import json

    return None if record.card is None else json.loads(record.card.to_json())


def _row(record: ModelRecord) -> tuple[str, ...]:
    from napari_hspnet.networks.card_values import one_line

    card = record.card
    marks = [
        word
        for word, holds in (
            ("IN USE", record.in_use),
            ("synthetic", card is not None and card.synthetic),
            ("built in", record.built_in),
            ("PROBLEM", record.problem is not None),
        )
        if holds
    ]
    figures = (_dice(record, on) for on in ("held_back", "reference"))
    return (
        one_line(record.name),
        record.short,
        (_made(record) or _added(record) or "-")[:10],
        "-" if card is None or card.parent is None else card.parent[:8],
        *("-" if figure is None else f"{figure:.3f}" for figure in figures),
        record.state or "not known",
        ", ".join(marks),
    )


def _tell_history(acts: Sequence[Act], records: Sequence[ModelRecord], as_json: bool) -> None:
    from napari_hspnet.networks.card_text import act_line

    if as_json:
        facts = [_act_facts(act) for act in acts]
        print_json({"notice": RESEARCH_USE_ONLY, "history": facts})
        return
    names = {record.sha256: record.label for record in records}
    for act in acts:
        typer.echo(f"{names.get(act.sha256, act.sha256[:8])}: {act_line(act)}")


def _diff_facts(
    a: ModelRecord,
    b: ModelRecord,
    differences: Sequence[Difference],
    parts: Sequence[PartChange] | None,
    why: str | None,
) -> dict[str, Any]:
    return {
        "notice": RESEARCH_USE_ONLY,
        "first": {"name": a.name, "sha256": a.sha256},
        "second": {"name": b.name, "sha256": b.sha256},
        "differences": [asdict(one) for one in differences],
        "weights": None if parts is None else [asdict(one) for one in parts],
        "weights_problem": why,
    }


def _tell_diff(
    a: ModelRecord,
    b: ModelRecord,
    differences: Sequence[Difference],
    parts: Sequence[PartChange] | None,
    why: str | None,
) -> None:
    from napari_hspnet.networks.card_values import said

    def cell(value: object) -> str:
        text = "-" if value is None else said(value)
        return text if len(text) <= _LONG else f"{text[: _LONG - 1]}…"

    if differences:
        rows = [(d.section, d.key, cell(d.first), cell(d.second)) for d in differences]
        _print(("part", "what", a.label, b.label), rows)
    else:
        typer.echo("Their cards say the same.")
    typer.echo("")
    if parts is None:
        warn(f"Weights were not compared: {why}")
        return
    rows = [(p.part, f"{p.numbers:,}", f"{p.changed:.1%}", f"{p.relative:.2%}") for p in parts]
    _print(("part", "numbers", "changed", "moved by"), rows, numbers=(1, 2, 3))


def _print(
    titles: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.MARKDOWN)
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place in numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A table that is piped into a file is not cut to 80 columns.
    wide = None if sys.stdout.isatty() else _WIDE
    console = Console(file=sys.stdout, highlight=False, markup=False, width=wide)
    with console.capture() as caught:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in caught.get().splitlines() if line.strip()))
