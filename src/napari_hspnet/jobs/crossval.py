"""Cross-validation by patient: a config trained once a fold, judged on who was left out.

Where the data are MTCHI's, its test part is the first fold, as in the paper
(section 4.4). The folder gets ``folds.json``, ``fold-<n>/`` with the training and
its evaluations, and ``crossval.md``, ``crossval.csv``, ``crossval.json``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.errors import InputError, OutputError
from napari_hspnet.jobs.evaluation_data import (
    CasesSource,
    ChosenSource,
    Data,
    MtchiSource,
    PairsSource,
    opened,
)
from napari_hspnet.jobs.judging import GAUSS, PLAIN, Advance, Judged, Way, judged, pooled
from napari_hspnet.jobs.train import MODEL, train_model
from napari_hspnet.jobs.working_folder import read_document, working_folder
from napari_hspnet.networks.checkpoint import write_atomically
from napari_hspnet.training.agreement import drawn_units, figures
from napari_hspnet.training.comparison import MAIN, Spread, repeated, spread
from napari_hspnet.training.config import TrainConfig, ValidationConfig
from napari_hspnet.training.data import class_pixels, folds
from napari_hspnet.training.paper_rows import TABLE_2
from napari_hspnet.training.report import (
    FIGURE_NAMES,
    Table,
    as_csv,
    as_markdown,
    with_interval,
)

__all__ = ["Crossval", "cross_validate", "document_bytes", "fold_table", "in_words"]

_FOLDS, _NAME = "folds.json", "crossval"


@dataclass(frozen=True)
class Crossval:
    """What came out.

    Attributes
    ----------
    config : TrainConfig
    patients : tuple of tuple of str
        Of each fold.
    found : dict of Way to tuple of Judged
        Of each fold.
    synthetic : bool
        Whether the images are phantoms.
    mtchi : bool
        Whether they are MTCHI's.
    """

    config: TrainConfig
    patients: tuple[tuple[str, ...], ...]
    found: dict[Way, tuple[Judged, ...]]
    synthetic: bool
    mtchi: bool

    def spread(self, way: Way, key: str = "mean_dice") -> Spread:
        """Over folds, of their pooled figures."""
        return spread(_of_folds(self.found[way], key))


def cross_validate(
    config: TrainConfig,
    out: Path | str,
    *,
    base: Path | str = ".",
    count: int = 4,
    ways: Sequence[Way] = (PLAIN, GAUSS),
    tell: Advance | None = None,
    say: Callable[[str], None] | None = None,
    cancel: threading.Event | None = None,
) -> Crossval:
    """Train and judge each fold, or go on where an earlier run ended.

    Parameters
    ----------
    config : TrainConfig
        Its [validation] is replaced by each fold's patients; ``seeds.split`` divides.
    out : path-like
        The folder. Folds that are finished there are kept, one that was begun goes
        on at its step.
    base : path-like
        The folder that the config's relative paths begin at.
    count : int
        Folds.
    ways : sequence of Way
        Each fold is judged in.
    tell : callable, optional
        Told of progress.
    say : callable, optional
        Gets lines for people.
    cancel : threading.Event, optional

    Raises
    ------
    InputError
        If there are fewer patients than folds, or phantoms are not in files.
    OutputError
        If the folder holds a cross-validation of another config or other folds.
    HspnetError, CancelledError
        As training and evaluating do.
    """
    folder, base = Path(out), Path(base)
    config = _whole(config, say)
    source = _source(config, base)
    with working_folder(folder, f"{_NAME}.lock"):
        parts, synthetic = _divided(config, source, count, folder)
        _tell_folds(parts, say)
        found: dict[Way, list[Judged]] = {way: [] for way in ways}
        for number, patients in enumerate(parts, start=1):
            own = folder / f"fold-{number}"
            label = f"fold {number} of {len(parts)}"
            result = train_model(
                replace(
                    config,
                    validation=ValidationConfig(patients=patients, stride=config.validation.stride),
                    name=f"{config.name}-fold-{number}",
                ),
                own,
                base=base,
                progress=_training(label, tell),
                say=_labelled(label, say),
                cancel=cancel,
            )
            for way in ways:
                found[way].append(
                    judged(
                        result.path,
                        ChosenSource(source, patients),
                        way,
                        own / way.name,
                        background=config.data.background,
                        device=config.machine.device,
                        tell=_prefixed(label, tell),
                        cancel=cancel,
                    )
                )
            assert result.path == own / MODEL
        cross = Crossval(
            config,
            parts,
            {way: tuple(each) for way, each in found.items()},
            synthetic,
            config.data.kind == "mtchi" and not synthetic,
        )
        _write(cross, folder)
    return cross


def fold_table(cross: Crossval) -> Table:
    """Each fold, their mean and spread, all pooled with intervals; the paper's Table 2."""
    table = [["fold", "patients", "images", *(FIGURE_NAMES[key] for key in MAIN)]]
    everybody = str(sum(map(len, cross.patients)))
    window = cross.config.patches.side
    for way, parts in cross.found.items():
        how = way.words(window)
        for number, (patients, part) in enumerate(zip(cross.patients, parts, strict=True), 1):
            own = figures(np.sum(part.counts, axis=0))
            cells = ("-" if not np.isfinite(own[key]) else f"{own[key]:.4f}" for key in MAIN)
            table.append([f"{number}, {how}", str(len(patients)), str(len(part.names)), *cells])
        whole = pooled(parts)
        images = str(len(whole.names))
        spreads = (in_words(cross.spread(way, key)) for key in MAIN)
        table.append([f"mean ± spread of folds, {how}", everybody, images, *spreads])
        all_ = repeated([whole.counts], drawn_units(whole.patients))
        cells = (with_interval(all_[key].mean) for key in MAIN)
        table.append([f"all pooled, {how}", everybody, images, *cells])
    if cross.mtchi and len(cross.patients) == 4:
        for row in TABLE_2:
            told = in_words(Spread(row.dice, row.spread))
            table.append([f"paper, Table 2: {row.title}", "", "", told, "", ""])
    return table


def in_words(found: Spread) -> str:
    """ "0.5125 ± 0.1551"."""
    if not np.isfinite(found.mean):
        return "-"
    return f"{found.mean:.4f}" + (
        f" ± {found.deviation:.4f}" if np.isfinite(found.deviation) else ""
    )


def _of_folds(parts: Sequence[Judged], key: str) -> list[float]:
    return [float(figures(np.sum(part.counts, axis=0))[key]) for part in parts]


def _whole(config: TrainConfig, say: Callable[[str], None] | None) -> TrainConfig:
    if config.data.kind == "phantom":
        raise InputError(
            "Phantoms that are drawn for each training cannot be divided by patient",
            advice="`napari-hspnet reproduce table2 --phantom` writes them as files, and a "
            'config with kind = "mtchi" reads these',
        )
    if say is not None and (config.validation.share or config.validation.patients):
        say("[validation] of the config is left out: each fold is judged on its own patients")
    if config.data.kind == "mtchi":
        return replace(config, data=replace(config.data, part="both"))
    return config


def _source(config: TrainConfig, base: Path) -> MtchiSource | PairsSource | CasesSource:
    data = config.data
    if data.kind == "mtchi":
        return MtchiSource(base / data.folder, "both", data.mpp or 1.0)
    if data.kind == "pairs":
        return PairsSource(base / data.folder, data.mpp or None)
    return CasesSource(
        tuple(base / entry.case for entry in data.cases),
        tuple(base / entry.slide for entry in data.cases),
        tuple(entry.patient for entry in data.cases),
    )


def _divided(
    config: TrainConfig,
    source: MtchiSource | PairsSource | CasesSource,
    count: int,
    folder: Path,
) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """The folds: those of an earlier run in the folder, or new ones, which are noted."""
    digest = replace(config, validation=ValidationConfig()).digest
    with opened(source, config.data.background) as data:
        synthetic = data.synthetic
        there = {s.image.patient for s in data.subjects}
        said = read_document(folder / _FOLDS)
        if said is None:
            parts = _new_folds(data, source, count, config.seeds.split)
            note = {"config": digest, "folds": parts}
            write_atomically(folder / _FOLDS, document_bytes(note))
            return parts, synthetic
    parts = tuple(tuple(map(str, part)) for part in said.get("folds", ()))
    if said.get("config") != digest or len(parts) != count:
        raise OutputError(
            f"The folder holds a cross-validation of {len(parts)} folds with the config "
            f"{str(said.get('config'))[:16]}…; this one has {count} and {digest[:16]}…",
            advice="Choose another folder, or the config and number of folds of that one",
            path=folder,
        )
    if {patient for part in parts for patient in part} != there:
        raise OutputError(
            "The patients are not those that the folder's folds were made of",
            advice="Bring the data back as they were, or choose another folder",
            path=folder,
        )
    return parts, synthetic


def _new_folds(
    data: Data, source: MtchiSource | PairsSource | CasesSource, count: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    images = [subject.image for subject in data.subjects]
    first = None
    if isinstance(source, MtchiSource):
        with opened(replace(source, part="Test")) as tested:
            first = {subject.image.patient for subject in tested.subjects}
    return folds(
        [image.patient for image in images],
        count,
        seed,
        class_pixels(images)[:, 1:],
        first=first,
    )


def _tell_folds(parts: Sequence[Sequence[str]], say: Callable[[str], None] | None) -> None:
    if say is not None:
        sizes = ", ".join(str(len(part)) for part in parts)
        say(f"{len(parts)} folds of {sizes} patients; nobody is in two")


def _training(label: str, tell: Advance | None) -> Callable[[Any], None] | None:
    if tell is None:
        return None
    return lambda r: tell(f"{label}: {r.doing}", r.fraction, r.remaining)


def _prefixed(label: str, tell: Advance | None) -> Advance | None:
    if tell is None:
        return None
    return lambda doing, part, left: tell(f"{label}: {doing}", part, left)


def _labelled(label: str, say: Callable[[str], None] | None) -> Callable[[str], None] | None:
    return None if say is None else lambda line: say(f"{label}: {line}")


def document_bytes(document: Any) -> bytes:
    """A JSON file."""
    return f"{json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)}\n".encode()


def _write(cross: Crossval, folder: Path) -> None:
    table = fold_table(cross)
    notes = [
        "Figures are pooled over a fold's images and masked; ± is the sample standard deviation "
        "over folds; pooled, each image is judged by the network that has not seen its patient",
        drawn_units(pooled(next(iter(cross.found.values()))).patients).words(),
    ]
    if cross.synthetic:
        notes.append("All images are synthetic: the figures say nothing of real tissue")
    listed = "".join(f"- {note}\n" for note in notes)
    text = f"# {cross.config.name}\n\n{RESEARCH_USE_ONLY}.\n\n{as_markdown(table)}\n{listed}"
    write_atomically(folder / f"{_NAME}.md", text.encode())
    write_atomically(folder / f"{_NAME}.csv", as_csv(table).encode())
    document = {
        "notice": RESEARCH_USE_ONLY,
        "config": cross.config.digest,
        "synthetic": cross.synthetic,
        "folds": [list(part) for part in cross.patients],
        "ways": {
            way.name: {
                "folds": [
                    {
                        "images": list(part.names),
                        "confusion": [counts.tolist() for counts in part.counts],
                    }
                    for part in parts
                ],
                "mean_dice": [_finite(v) for v in _of_folds(parts, "mean_dice")],
            }
            for way, parts in cross.found.items()
        },
    }
    write_atomically(folder / f"{_NAME}.json", document_bytes(document))


def _finite(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None
