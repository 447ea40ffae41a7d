"""``napari-hspnet predict`` over many slides at once: one table at the end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_hspnet.classes import CLASS_BY_VALUE, DEMO_BANNER, RESEARCH_USE_ONLY
from napari_hspnet.cli.screen import duration, note, print_json, progress_bar, warn
from napari_hspnet.cli.tables import print_table

if TYPE_CHECKING:
    from napari_hspnet.jobs.crew import Crew
    from napari_hspnet.jobs.manifest import SlideEntry
    from napari_hspnet.jobs.predict import PredictOptions
    from napari_hspnet.jobs.predict_many import ManyResult
    from napari_hspnet.networks import LoadedModel

__all__ = ["AREA_NAMES", "predict_with_crew"]

AREA_NAMES = {0: "none of the four", 253: "no tissue", 254: "unreadable"}


def predict_with_crew(
    slides: Sequence[Path],
    model: LoadedModel,
    options: PredictOptions,
    crew: Crew,
    as_json: bool,
    cancel: threading.Event,
) -> None:
    """Segment slides side by side.

    Raises
    ------
    typer.Exit
        With code 2 where a slide failed.
    CancelledError
        If stopped.
    HspnetError
        Where it fails before the first slide.
    """
    from napari_hspnet.jobs.predict_many import predict_many

    with progress_bar(not as_json) as advance:

        def told(entry: SlideEntry, ended: int, total: int) -> None:
            advance(f"{ended} of {total} slides", ended / total, None)
            name = Path(entry.slide).name
            for text in entry.warnings:
                warn(f"{name}: {text}.")
            note(f"{name}: {entry.state} ({ended} of {total})")

        advance("Segmenting", None, None)
        result = predict_many(slides, model, options, crew, told, cancel)
    failed = [entry for entry in result.entries if entry.error is not None]
    if as_json:
        print_json(_document(result, model))
    else:
        print_table(_table(result))
    for entry in failed:
        error = entry.error or {}
        note(f"Error: {entry.slide}: {error['what']}. {error['advice']}.")
    if failed:
        note(f"{len(failed)} of {len(slides)} slides failed.")
        raise typer.Exit(2)


def _table(result: ManyResult) -> list[list[str]]:
    values = sorted({int(value) for entry in result.entries for value in entry.areas_mm2})
    kinds = [CLASS_BY_VALUE.get(value) for value in values]
    names = [
        AREA_NAMES[value] if kind is None else kind.name
        for value, kind in zip(values, kinds, strict=True)
    ]
    rows = [["slide", "state", "windows", *(f"{n} mm²" for n in names), "time", "worker"]]
    for entry in result.entries:
        done = entry.error is None
        rows.append(
            [
                Path(entry.slide).name,
                "done before" if entry.slide in result.before else entry.state,
                f"{entry.windows:,}" if done else "",
                *(f"{entry.areas_mm2.get(str(v), 0.0):.3f}" if done else "" for v in values),
                duration(entry.seconds) if done else "",
                entry.worker,
            ]
        )
    return rows


def _document(result: ManyResult, model: LoadedModel) -> dict[str, Any]:
    return {
        "notice": RESEARCH_USE_ONLY,
        "demo": DEMO_BANNER if model.card.synthetic else None,
        "model": {"name": model.card.name, "sha256": model.sha256},
        "results": [
            {**asdict(entry), "done_before": entry.slide in result.before}
            for entry in result.entries
        ],
    }
