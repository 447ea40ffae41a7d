"""What ten corrected regions teach, and what is lost: `make bench BENCH=teach`.

A scripted reviewer corrects two regions on each of seven phantom slides from another
laboratory (domain C: other stain, older scanner) to their truth. The demo model, which
knows domain A alone, is fine-tuned on them as in use, which holds four regions back and
learns from ten; then parent and candidate are judged on 24 other slides, each of another
patient, of the new domain and on the same 24 of the old one. With and without replay
and distillation, three seeds; each seed has slides of its own.

Takes about an hour on two cores, so that `make bench` alone leaves it out. What is done
is kept in a folder; broken off, it goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from children import machine, measure
from teach_run import JUDGED, OLD, VARIANTS

GAIN, LOSS = 0.10, 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domain", default="C")
    parser.add_argument("--patients", type=int, default=7, help="slides of two regions each")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--keep", type=float, default=0.5, help="as `finetune --keep`")
    parser.add_argument("--config", type=Path, help="TOML as `finetune --config` takes it")
    parser.add_argument("--folder", type=Path, help="for slides, cases and results")
    parser.add_argument("--results", type=Path, help="lines of JSON; in the folder without it")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread")
    given = parser.parse_args()
    variants = given.variants.split(",")
    if unknown := set(variants) - set(VARIANTS):
        parser.error(f"no variant {', '.join(unknown)}; there are: {', '.join(VARIANTS)}")
    folder = given.folder or _cache()
    folder.mkdir(parents=True, exist_ok=True)
    results = given.results or folder / "results.jsonl"
    config = given.config.read_text() if given.config else ""
    seeds = [int(seed) for seed in given.seeds.split(",")]
    wanted = [
        {
            "domain": given.domain,
            "patients": given.patients,
            "config": config,
            "keep": given.keep,
            "seed": seed,
            "variant": variant,
            **_made_with(),
        }
        for seed in seeds
        for variant in variants
    ]
    os.environ["OMP_NUM_THREADS"] = "1"
    parent = _prepare(folder, given.domain, seeds, given.patients, given.jobs)
    rows = _rows(wanted, folder, results, given.jobs)
    print(f"{machine()}\n")
    tell(parent, rows)


def _cache() -> Path:
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("napari-hspnet")) / "benchmarks" / "teach"


def _made_with() -> dict[str, str]:
    """What a result hangs on that no option says: what paints, and the parent."""
    from napari_hspnet.networks.registry import demo_model_path
    from napari_hspnet.phantom import generator_hash

    parent = hashlib.sha256(demo_model_path().read_bytes()).hexdigest()
    return {"generator": generator_hash(), "parent": parent}


def _prepare(
    folder: Path, domain: str, seeds: Sequence[int], patients: int, jobs: int
) -> dict[str, Any]:
    """Slides and cases, what is missing of them; what the parent says of those to judge on."""
    mark = folder / "made-with.json"
    if mark.exists() and json.loads(mark.read_text()) != _made_with():
        raise SystemExit(f"{folder} is of other phantoms or another parent: remove it")
    mark.write_text(json.dumps(_made_with()))
    where = {"folder": str(folder), "domain": domain}
    acts = [{"act": "judged", "folder": str(folder), "domain": name} for name in {domain, OLD}]
    acts += [{"act": "taught", **where, "seed": seed, "patients": patients} for seed in seeds]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(_child, acts))
    known = folder / f"parent-{domain}.json"
    if not known.exists():
        known.write_text(json.dumps(_child({"act": "parent", **where})))
    parent: dict[str, Any] = json.loads(known.read_text())
    return parent


def _rows(
    wanted: Sequence[dict[str, Any]], folder: Path, results: Path, jobs: int
) -> list[dict[str, Any]]:
    """A row for each run that is wanted, in order; each is on the disk as soon as it is there."""
    known = (
        [json.loads(line) for line in results.read_text().splitlines()]
        if (results.exists())
        else []
    )
    guard = threading.Lock()

    def row(key: dict[str, Any]) -> dict[str, Any]:
        for one in known:
            if one["key"] == key:
                return one
        asked = {name: v for name, v in key.items() if name not in ("generator", "parent")}
        made = {"key": key, **_child({"act": "teach", "folder": str(folder), **asked})}
        with guard, results.open("a") as file:
            file.write(json.dumps(made) + "\n")
        return made

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(row, wanted))


def _child(act: dict[str, Any]) -> dict[str, Any]:
    return measure("teach_run.py", json.dumps(act))


def tell(parent: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
    """Print what the parent does, a row for each run, and medians."""
    from napari_hspnet.training import bootstrap

    for kind, what in (("new", rows[0]["key"]["domain"]), ("old", OLD)):
        of = bootstrap(_matrices(parent[kind]))
        print(
            f"Before, domain {what}: mean Dice {of.mean_dice.value:.3f} "
            f"[{of.mean_dice.low:.3f}, {of.mean_dice.high:.3f}], agreement at CIN2+ "
            f"{of.high_grade.value:.3f}"
        )
    print(
        f"\n| kept by | seed | regions learned, held back | Dice gained, new domain | "
        f"CIN2+ gained | Dice, old domain | CIN2+, old | minutes | gate on {JUDGED} + {JUDGED} | "
        f"gate in use |\n|{'---|' * 10}"
    )
    told = [(row, _figures(parent, row)) for row in rows]
    for row, figures in told:
        key = row["key"]
        cells = [
            VARIANTS[key["variant"]].title,
            key["seed"],
            "{}, {}".format(*row["regions"]),
            *(_estimate(figures[name]) for name in ("gain", "cin2_gain", "change", "cin2_change")),
            f"{row['minutes']:.1f}",
            figures["gate"],
            row["own_verdict"],
        ]
        print("| " + " | ".join(map(str, cells)) + " |")
    print(
        "\n| kept by | seeds | Dice gained, median (least) | Dice, old domain, median (least) | "
        f"minutes | {GAIN:.2f} gained and {LOSS:.2f} lost at most |\n|{'---|' * 6}"
    )
    for variant, one in VARIANTS.items():
        mine = [(r, f) for r, f in told if r["key"]["variant"] == variant]
        if not mine:
            continue
        gains, changes = ([f[name].value for _, f in mine] for name in ("gain", "change"))
        met = sum(g >= GAIN and c >= -LOSS for g, c in zip(gains, changes, strict=True))
        minutes = statistics.median(r["minutes"] for r, _ in mine)
        print(
            f"| {one.title} | {len(mine)} | {statistics.median(gains):+.3f} ({min(gains):+.3f}) | "
            f"{statistics.median(changes):+.3f} ({min(changes):+.3f}) | {minutes:.1f} | "
            f"{met} of {len(mine)} |"
        )


def _figures(parent: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Differences to the parent, and what the gate says of them."""
    from napari_hspnet.training import gate, paired_difference

    found: dict[str, Any] = {}
    for kind, name in (("new", "gain"), ("old", "change")):
        after, before = (_matrices(counts[kind]) for counts in (row["counts"], parent))
        difference = paired_difference(after, before)
        found[name], found[f"cin2_{name}"] = difference.mean_dice, difference.high_grade
    judged = [
        gate.Judged(*(_units(counts[kind]) for kind in ("new", "old")))
        for counts in (row["counts"], parent)
    ]
    options = gate.GateOptions(synthetic_held=True, synthetic_reference=True)
    found["gate"] = gate.judge(*judged, options).decision
    return found


def _matrices(counts: dict[str, Any]) -> list[Any]:
    return _each(counts, lambda name, matrix: matrix)


def _units(counts: dict[str, Any]) -> tuple[Any, ...]:
    from napari_hspnet.training.gate import UnitCounts

    return tuple(_each(counts, lambda name, matrix: UnitCounts(name, name, matrix)))


def _each(counts: dict[str, Any], make: Callable[[str, Any], Any]) -> list[Any]:
    import numpy as np

    return [make(name, np.array(counts[name], np.int64)) for name in sorted(counts)]


def _estimate(one: Any) -> str:
    return f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"


if __name__ == "__main__":
    main()
