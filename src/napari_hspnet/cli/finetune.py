"""``napari-hspnet finetune``: a model taught by what readers corrected, and judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hspnet.cli.screen import note, print_json, progress_bar, stop_signals
from napari_hspnet.cli.tables import print_table
from napari_hspnet.errors import CancelledError, InputError

if TYPE_CHECKING:
    from napari_hspnet.jobs.finetune import FinetuneResult, FinetuneSource
    from napari_hspnet.jobs.finetune_events import Event, Prepared

__all__ = ["finetune"]

_NAMES = {
    "mean_dice": "mean Dice",
    "cin2_agreement": "agreement at CIN2+",
    "cin2_sensitivity": "sensitivity at CIN2+",
    "cin2_specificity": "specificity at CIN2+",
}


def finetune(
    cases: Annotated[list[Path], typer.Argument(help="Cases with corrected, reviewed regions.")],
    slide: Annotated[
        list[Path] | None, typer.Option("--slide", help="A case's slide, in the same order.")
    ] = None,
    patient: Annotated[
        list[str] | None, typer.Option("--patient", help="A case's patient, in the same order.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="The checkpoint to begin with.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder for all that comes out; broken off, it goes on."),
    ] = None,
    regions: Annotated[
        list[str] | None,
        typer.Option(
            "--regions", help="Exactly these of a case, as 1,3,4, in the same order; else reviewed."
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="How often each patch is seen; 5 without it.")
    ] = None,
    keep: Annotated[
        float, typer.Option("--keep", help="How strongly to keep old knowledge, 0 to 1.")
    ] = 0.5,
    freeze_encoder: Annotated[
        bool, typer.Option("--freeze-encoder", help="Teach only what follows the encoder.")
    ] = False,
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="Pictures and masks on which nothing may be lost."),
    ] = None,
    reference_phantoms: Annotated[
        int,
        typer.Option(
            "--reference-phantoms",
            help="So many synthetic fields instead: no safety reference for real slides.",
        ),
    ] = 0,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", help="Pictures and masks of earlier data, learned again beside."),
    ] = None,
    replay_phantoms: Annotated[
        int, typer.Option("--replay-phantoms", help="So many synthetic fields instead.")
    ] = 0,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="TOML with tables of `train`: recipe, patches, augment …"),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps …")] = "",
    name: Annotated[str, typer.Option("--name", help="Of the candidate.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would learn from, and end.")
    ] = False,
    accept_if_better: Annotated[
        bool,
        typer.Option(
            "--accept-if-better",
            help="Use the candidate if the gate calls it better, refuse it if worse.",
        ),
    ] = False,
    by: Annotated[str, typer.Option("--by", help="Who does it; the registry keeps it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Fine-tune a model on corrected regions, and judge it on regions held back."""
    sources = _sources(cases, slide or [], patient or [], regions or [])
    if model is None:
        raise InputError("No model was given to begin with", advice="Name one: --model FILE")
    if out is None and not dry_run:
        raise InputError("No folder was given", advice="Give one: --out FOLDER")
    if accept_if_better and not by.strip():
        raise InputError("Nobody is named who accepts", advice="Say who does: --by NAME")
    from napari_hspnet.jobs.finetune import (
        FinetuneOptions,
        finetune,
        plan_finetune,
        settle,
    )

    options = FinetuneOptions(
        epochs=epochs,
        keep=keep,
        freeze_encoder=freeze_encoder,
        replay=replay,
        replay_phantoms=replay_phantoms,
        reference=reference,
        reference_phantoms=reference_phantoms,
        config="" if config is None else _text(config),
        device=device,
        name=name,
        by=by,
    )
    if out is None or dry_run:
        with stop_signals() as cancel:
            plan = plan_finetune(sources, model, options, cancel)
        if as_json:
            print_json({"lesson": plan.lesson, "recipe": plan.recipe})
        else:
            _say_plan(plan)
        return
    with stop_signals() as cancel, progress_bar(not as_json) as advance:

        def tell(event: Event) -> None:
            _tell(event, advance, not as_json)

        try:
            result = finetune(sources, model, options, out, tell, cancel)
        except CancelledError:
            note(f"What was learned lies in {out}; run the command again and it goes on.")
            raise
    state = settle(result, by) if accept_if_better else "candidate"
    if as_json:
        print_json(
            {
                "path": str(result.path),
                "sha256": result.sha256,
                "state": state,
                "verdict": result.done.verdict,
                "lesson": result.prepared.lesson,
            }
        )
        return
    _say(result, state)


def _sources(
    cases: list[Path], slides: list[Path], patients: list[str], regions: list[str]
) -> list[FinetuneSource]:
    from napari_hspnet.jobs.finetune import FinetuneSource

    if len(slides) != len(cases):
        raise InputError(
            f"{len(cases)} case{'s' * (len(cases) != 1)} came with {len(slides)} "
            f"slide{'s' * (len(slides) != 1)}",
            advice="Give each case its slide, in the same order: --slide FILE",
        )
    for what, given in (("patients", patients), ("regions", regions)):
        if len(given) not in (0, len(cases)):
            raise InputError(
                f"{len(cases)} cases came with {len(given)} {what}",
                advice="Give either each case its own, in the same order, or none",
            )
    return [
        FinetuneSource(
            case,
            slide,
            patients[i] if patients else "",
            _numbers(regions[i]) if regions else None,
        )
        for i, (case, slide) in enumerate(zip(cases, slides, strict=True))
    ]


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--regions {text!r} is not understood", advice="Give numbers, as in 1,3,4"
        ) from error
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The config cannot be read ({getattr(error, 'strerror', None) or error})",
            advice="Give a TOML file in UTF-8",
            path=path,
        ) from error


def _tell(event: Event, advance: Any, wordy: bool) -> None:
    from napari_hspnet.jobs.finetune_events import Judged, Prepared, Step, Told

    if isinstance(event, Told):
        advance(event.doing, event.fraction, event.remaining)
    elif isinstance(event, Step):
        text = f"learning, epoch {event.epoch}/{event.epochs}, loss {event.loss:.3f}"
        advance(text, event.step / event.of, event.remaining)
    elif isinstance(event, Prepared) and wordy:
        note(event.text)
        note(event.recipe)
    elif isinstance(event, Judged) and wordy:
        dice = event.figures.get("mean_dice")
        when = f"after epoch {event.epoch}" if event.epoch else "before"
        note(f"Mean Dice held back, {when}: {'not known' if dice is None else f'{dice:.3f}'}")


def _say_plan(plan: Prepared) -> None:
    typer.echo(plan.text)
    typer.echo(plan.recipe)


def _say(result: FinetuneResult, state: str) -> None:
    verdict = result.done.verdict
    _table("Held back", verdict["held_back"])
    if verdict["reference"] is not None:
        kind = "Reference, synthetic" if verdict["reference"]["synthetic"] else "Reference"
        _table(kind, verdict["reference"])
    typer.echo(result.done.text)
    typer.echo(f"\n{result.path} (SHA-256 {result.sha256}): {state}")


def _table(title: str, found: dict[str, Any]) -> None:
    rows = [(title, "before", "after", "difference", "95 %", "judged")]
    for key, change in found["changes"].items():
        low, high = change["interval"]
        rows.append(
            (
                _NAMES.get(key, key.replace("dice_", "Dice ")),
                _figure(change["before"]),
                _figure(change["after"]),
                _figure(change["difference"], "+.3f"),
                "" if low is None or high is None else f"{low:+.3f} to {high:+.3f}",
                change["decision"],
            )
        )
    print_table(rows)
    typer.echo("")


def _figure(value: float | None, form: str = ".3f") -> str:
    return "—" if value is None else format(value, form)
