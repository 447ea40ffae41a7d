"""The table of `modes.py` and `dense.py`: cost, Dice and agreement with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.training import bootstrap, paired_difference


def read(results: Path) -> dict[tuple[str, int], dict]:
    """By (domain, seed), what was found of each way."""
    found: dict[tuple[str, int], dict] = {}
    if results.exists():
        for text in results.read_text().splitlines():
            line = json.loads(text)
            found.setdefault((line["domain"], line["seed"]), {}).update(line["ways"])
    return found


def agreement(counts: Sequence[np.ndarray], high: bool, resamples: int = 2000) -> str:
    """Share of epithelium on which two answers agree, with its interval by slides."""
    stack = np.stack(counts)
    if high:
        same = stack[:, :3, :3].sum((1, 2)) + stack[:, 3:, 3:].sum((1, 2))
    else:
        same = np.trace(stack, axis1=1, axis2=2)
    every = stack.sum((1, 2))
    drawn = np.random.default_rng(0).integers(0, len(stack), (resamples, len(stack)))
    low, upper = np.quantile(same[drawn].sum(1) / every[drawn].sum(1), [0.025, 0.975])
    return f"{100 * same.sum() / every.sum():.2f} [{100 * low:.2f}, {100 * upper:.2f}]"


def rows(found: Mapping[tuple[str, int], dict], domain: str, exact: str) -> Iterator[str]:
    """Lines of the table of a domain, cheapest last."""
    slides = [ways for (where, _), ways in sorted(found.items()) if where == domain]
    keys = list(dict.fromkeys(key for ways in slides for key in ways))

    def of(key: str, what: str, among: Sequence[dict]) -> list[np.ndarray]:
        return [np.array(ways[key][what]) for ways in among]

    lines = []
    for key in keys:
        there = [ways for ways in slides if key in ways and exact in ways]
        if not there:
            continue
        truth = of(key, "truth", there)
        cost = sum(w[key]["windows"] for w in there) / sum(w[exact]["windows"] for w in there)
        own = bootstrap(truth)
        gain = paired_difference(truth, of(exact, "truth", there)).mean_dice
        high = own.high_grade
        same = of(key, "exact", there)
        lines.append(
            (
                -cost,
                f"| {key} | {len(there)} | {100 * cost:.0f} % "
                f"| {own.mean_dice.value:.3f} [{own.mean_dice.low:.3f}, {own.mean_dice.high:.3f}] "
                f"| {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] "
                f"| {agreement(same, False)} | {agreement(same, True)} "
                f"| {100 * high.value:.2f} [{100 * high.low:.2f}, {100 * high.high:.2f}] |",
            )
        )
    yield from (line for _, line in sorted(lines))


def table(results: Path, exact: str) -> None:
    found = read(results)
    print(RESEARCH_USE_ONLY)
    for domain in sorted({where for where, _ in found}):
        print(f"\nDomain {domain}\n")
        print(
            "| way | slides | windows | mean Dice | difference to exact "
            "| labels as exact, % | CIN2+ as exact, % | CIN2+ as truth, % |"
        )
        print("|---|---|---|---|---|---|---|---|")
        print("\n".join(rows(found, domain, exact)))
