"""Tables of ours beside the paper's, as Markdown, CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.jobs.crossval import Crossval, in_words
from napari_hspnet.jobs.judging import Judged, pooled
from napari_hspnet.jobs.reproduce_rows import PaperTable, TableRow
from napari_hspnet.jobs.reproduce_scale import NO_RANKING, Scale
from napari_hspnet.networks.checkpoint import write_atomically
from napari_hspnet.training.agreement import drawn_units, figures
from napari_hspnet.training.comparison import MAIN, Spread, difference, repeated, spread
from napari_hspnet.training.intervals import Estimate
from napari_hspnet.training.paper_rows import FoldRow, PaperRow
from napari_hspnet.training.report import Table, as_csv, as_markdown, with_interval

__all__ = ["Filled", "Outcome", "markdown", "result_table", "write_table"]


@dataclass(frozen=True)
class Filled:
    """What came of a row.

    Attributes
    ----------
    seeds : dict of int to Judged
        Of a cross-validation all folds pooled.
    folds : dict of int to tuple of float
        Mean Dice of each fold, of a cross-validation.
    problem : str
        Why it has no figures; empty where it has.
    """

    seeds: Mapping[int, Judged]
    folds: Mapping[int, tuple[float, ...]]
    problem: str = ""

    @classmethod
    def of_folds(cls, crosses: Mapping[int, Crossval], row: TableRow) -> Filled:
        """A row of a cross-validation."""
        parts = {seed: cross.found[row.way] for seed, cross in crosses.items()}
        return cls(
            {seed: pooled(each) for seed, each in parts.items()},
            {
                seed: tuple(
                    float(figures(np.sum(part.counts, axis=0))["mean_dice"]) for part in each
                )
                for seed, each in parts.items()
            },
        )


@dataclass(frozen=True)
class Outcome:
    """A table as far as it is filled.

    Attributes
    ----------
    table : PaperTable
    scale : Scale
    filled : tuple of Filled or None
        One a row; None where it is not done yet.
    synthetic : bool
        Whether the images are phantoms.
    device : str
        For people.
    """

    table: PaperTable
    scale: Scale
    filled: tuple[Filled | None, ...]
    synthetic: bool
    device: str


def result_table(outcome: Outcome) -> Table:
    """Rows of ours with intervals, the paper's figures in the last columns."""
    table, window = outcome.table, outcome.scale.side
    reference = outcome.filled[table.reference]
    heads = ["network", "windows", "M parameters", "Dice", "mIoU", "AP", "Dice of each seed"]
    heads += [f"Dice less row {table.reference + 1}'s"]
    if table.folds:
        heads += ["Dice, mean ± spread of folds", "paper's"]
    else:
        heads += ["paper's Dice", "paper's mIoU", "paper's AP"]
    lines = [["", *heads]]
    for number, (row, found) in enumerate(zip(table.rows, outcome.filled, strict=True), start=1):
        cells = [str(number), outcome.scale.title(row.model), row.way.words(window)]
        cells += _ours(found, reference if number != table.reference + 1 else None, table.folds)
        lines.append([*cells, *_theirs(row.paper, table.folds)])
    return lines


def markdown(outcome: Outcome) -> str:
    """The table with all that has to be known to read it."""
    table = outcome.table
    parts = [f"## {table.title}\n"]
    if outcome.scale.quick:
        parts.append(f"**{NO_RANKING}.**\n")
    parts += [as_markdown(result_table(outcome)), _list(_notes(outcome))]
    if table.lacking:
        lacking = (f"{', '.join(r.title for r in one.rows)}: {one.why}" for one in table.lacking)
        parts += ["Rows of the paper that are not here, and why:\n", _list(lacking)]
    return "\n".join(parts)


def write_table(outcome: Outcome, folder: Path) -> None:
    """Write ``<name>.md``, ``<name>.csv`` and ``<name>.json``.

    Raises
    ------
    OutputError
        If the disk does not take them.
    """
    name = outcome.table.name
    text = f"{RESEARCH_USE_ONLY}.\n\n{markdown(outcome)}"
    write_atomically(folder / f"{name}.md", text.encode())
    write_atomically(folder / f"{name}.csv", as_csv(result_table(outcome)).encode())
    data = json.dumps(_json(outcome), indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / f"{name}.json", f"{data}\n".encode())


def _ours(found: Filled | None, reference: Filled | None, folds: bool) -> list[str]:
    empty = 6 + folds
    if found is None:
        return ["not yet", *("",) * (empty - 1)]
    if found.problem:
        return ["none: see below", *("",) * (empty - 1)]
    first = next(iter(found.seeds.values()))
    own = repeated([one.counts for one in found.seeds.values()], drawn_units(first.patients))
    cells = [f"{first.parameters / 1e6:.2f}", *(with_interval(own[key].mean) for key in MAIN)]
    cells.append(" ".join(f"{v:.4f}" if np.isfinite(v) else "-" for v in own["mean_dice"].each))
    apart = _difference(found, reference)
    cells.append("" if apart is None else _signed(apart))
    if folds:
        cells.append(in_words(_of_folds(found)))
    return cells


def _theirs(paper: PaperRow | FoldRow | None, folds: bool) -> list[str]:
    if isinstance(paper, FoldRow):
        return [in_words(Spread(paper.dice, paper.spread))]
    if paper is None:
        return [""] * (1 if folds else 3)
    return [f"{value:.4f}" for value in (paper.dice, paper.iou, paper.accuracy)]


def _difference(found: Filled, reference: Filled | None) -> Estimate | None:
    if reference is None or reference.problem:
        return None
    # Both answers need the same images in the same order, and the same seeds are fair.
    seeds = [seed for seed in found.seeds if seed in reference.seeds]
    mine, other = ([side.seeds[s] for s in seeds] for side in (found, reference))
    if not seeds or mine[0].names != other[0].names:
        return None
    drawn = drawn_units(mine[0].patients)
    return difference([m.counts for m in mine], [o.counts for o in other], drawn)["mean_dice"]


def _signed(one: Estimate) -> str:
    if not np.isfinite(one.value):
        return "-"
    if not np.isfinite(one.low):
        return f"{one.value:+.4f}"
    return f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"


def _of_folds(found: Filled) -> Spread:
    """Over folds, of the means over seeds."""
    each = np.asarray(list(found.folds.values()), np.float64)
    return spread(each.mean(axis=0).tolist())


def _notes(outcome: Outcome) -> list[str]:
    table = outcome.table
    notes = [outcome.scale.words(), f"Run on {outcome.device}"]
    if outcome.synthetic:
        notes.append(
            "All images are synthetic phantoms: the figures say nothing of real tissue, and the "
            "paper's, which are of MTCHI, are no yardstick for them"
        )
    done = next((f for f in outcome.filled if f is not None and not f.problem), None)
    if done is not None:
        first = next(iter(done.seeds.values()))
        drawn = drawn_units(first.patients)
        notes.append(
            f"{len(first.names)} images; figures pooled and masked, means over the seeds "
            f"{', '.join(map(str, done.seeds))}; in brackets 95 % {drawn.words()}"
        )
        notes.append(
            "Differences draw the same patients for both rows: an interval without 0 says that "
            "patients agree, not that other seeds would"
        )
    for number, (row, found) in enumerate(zip(table.rows, outcome.filled, strict=True), start=1):
        if row.note:
            notes.append(f"Row {number}: {row.note}")
        if found is not None and found.problem:
            notes.append(f"Row {number} has no figures: {found.problem}")
    return notes


def _list(lines: Any) -> str:
    return "".join(f"- {line}\n" for line in lines)


def _json(outcome: Outcome) -> dict[str, Any]:
    return {
        "format": "napari-hspnet table",
        "version": 1,
        "notice": RESEARCH_USE_ONLY,
        "table": outcome.table.name,
        "title": outcome.table.title,
        "ranks_nothing": outcome.scale.quick,
        "synthetic": outcome.synthetic,
        "scale": outcome.scale.to_json(),
        "device": outcome.device,
        "rows": [
            {
                "model": row.model.key,
                "title": row.model.title,
                "windows": row.way.name,
                **_row_json(found),
            }
            for row, found in zip(outcome.table.rows, outcome.filled, strict=True)
        ],
        "lacking": [
            {"rows": [r.title for r in one.rows], "why": one.why} for one in outcome.table.lacking
        ],
    }


def _row_json(found: Filled | None) -> dict[str, Any]:
    if found is None:
        return {"state": "not yet"}
    if found.problem:
        return {"state": "none", "why": found.problem}
    first = next(iter(found.seeds.values()))
    own = repeated([one.counts for one in found.seeds.values()], drawn_units(first.patients))
    return {
        "state": "done",
        "parameters": first.parameters,
        "seeds": list(found.seeds),
        "figures": {
            key: {
                "value": _finite(one.mean.value),
                "low": _finite(one.mean.low),
                "high": _finite(one.mean.high),
                "each": [_finite(v) for v in one.each],
            }
            for key, one in own.items()
        },
        "folds": {str(seed): [_finite(v) for v in each] for seed, each in found.folds.items()},
        "confusion": {
            str(seed): np.sum(one.counts, axis=0).tolist() for seed, one in found.seeds.items()
        },
    }


def _finite(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
