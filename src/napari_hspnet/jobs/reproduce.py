"""Repeat the paper's tables: train each row, judge it, set it beside the paper's.

The folder gets ``settings.json``, where no data are given ``data/`` with phantoms,
``models/<row>-seed-<n>/`` with each training and its evaluations, ``folds/`` for
the cross-validation, and of each table Markdown, CSV and JSON, written anew after
every row. Run again it goes on: tables share models, and what is finished is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_hspnet.errors import DependencyError, OutOfMemoryError, OutputError
from napari_hspnet.inference import choose_device, describe_device
from napari_hspnet.jobs.crossval import cross_validate, document_bytes
from napari_hspnet.jobs.evaluation_data import MtchiSource
from napari_hspnet.jobs.judging import Advance, Judged, judged
from napari_hspnet.jobs.reproduce_data import phantom_folder
from napari_hspnet.jobs.reproduce_rows import PaperTable, TableRow, Trained, table_named
from napari_hspnet.jobs.reproduce_scale import Scale, checked_seeds
from napari_hspnet.jobs.reproduce_tables import Filled, Outcome, write_table
from napari_hspnet.jobs.train import train_model
from napari_hspnet.jobs.working_folder import read_document, working_folder
from napari_hspnet.networks import imagenet_weights
from napari_hspnet.networks.checkpoint import write_atomically
from napari_hspnet.training import DivergedError
from napari_hspnet.training.config import TrainConfig
from napari_hspnet.training.data import open_mtchi_whole, synthetic_origin

__all__ = ["Reproduction", "reproduce"]

_FORMAT = "napari-hspnet reproduction"
# A row that these end has no figures and a reason; the others are run all the same.
_OF_A_ROW = (DependencyError, DivergedError, OutOfMemoryError)


@dataclass(frozen=True)
class Reproduction:
    """What to repeat, and how.

    Attributes
    ----------
    tables : tuple of str
        Names of `reproduce_rows.TABLES`.
    scale : Scale
    mtchi : Path or None
        The data; None draws phantoms.
    seeds : tuple of int
        Each row is trained once from each.
    device : str
    workers : int
        Threads that read patches, and processes that draw phantoms.
    download : bool
        Whether ImageNet weights may be fetched.
    """

    tables: tuple[str, ...]
    scale: Scale
    mtchi: Path | None = None
    seeds: tuple[int, ...] = (0,)
    device: str = "auto"
    workers: int = 2
    download: bool = False


def reproduce(
    wanted: Reproduction,
    out: Path | str,
    *,
    tell: Advance | None = None,
    say: Callable[[str], None] | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Outcome, ...]:
    """Fill tables, or go on where an earlier run ended.

    Parameters
    ----------
    wanted : Reproduction
    out : path-like
        The folder; made where it is missing.
    tell : callable, optional
        Told of progress.
    say : callable, optional
        Gets lines for people.
    cancel : threading.Event, optional
        Ends it; the training that runs goes on at its step next time.

    Returns
    -------
    tuple of Outcome
        One a table.

    Raises
    ------
    InputError
        If a table or a seed cannot be, or the data are not MTCHI's.
    OutputError
        If the folder holds tables of other data or another scale.
    CheckpointError
        If ImageNet weights lack.
    HspnetError, CancelledError
        As training and evaluating do. A library that is missing, a training that
        diverges, and too little memory only leave their row without figures.
    """
    folder = Path(out)
    tables = [table_named(name) for name in wanted.tables]
    checked_seeds(wanted.seeds)
    device = choose_device(wanted.device)
    with working_folder(folder, "reproduce.lock"):
        _note_settings(wanted, folder)
        _look_for_weights(wanted, tables)
        if wanted.mtchi is None:
            data = folder / "data"
            phantom_folder(
                data, wanted.scale.phantoms, workers=wanted.workers, tell=tell, cancel=cancel
            )
        else:
            data = wanted.mtchi.absolute()
            # Both parts must be there before hours go by.
            open_mtchi_whole(data)
        run = _Run(wanted, folder, data, describe_device(device), tell, say, cancel)
        return tuple(run.fill(table) for table in tables)


class _Run:
    def __init__(
        self,
        wanted: Reproduction,
        folder: Path,
        data: Path,
        device: str,
        tell: Advance | None,
        say: Callable[[str], None] | None,
        cancel: threading.Event | None,
    ) -> None:
        self._wanted, self._folder, self._data, self._device = wanted, folder, data, device
        self._tell, self._say, self._cancel = tell, say, cancel
        self._synthetic = synthetic_origin(data) is not None

    def fill(self, table: PaperTable) -> Outcome:
        filled: list[Filled | None] = [None] * len(table.rows)
        for place, row in enumerate(table.rows):
            label = f"{table.name}, row {place + 1} of {len(table.rows)}"
            if self._say is not None:
                self._say(f"{label}: {row.model.title}, {row.way.words(self._wanted.scale.side)}")
            filled[place] = self._row(table, row, label)
            outcome = self._outcome(table, filled)
            write_table(outcome, self._folder)
        return outcome

    def _outcome(self, table: PaperTable, filled: Sequence[Filled | None]) -> Outcome:
        scale, synthetic = self._wanted.scale, self._synthetic
        return Outcome(table, scale, tuple(filled), synthetic, self._device)

    def _row(self, table: PaperTable, row: TableRow, label: str) -> Filled:
        crosses, seeds = {}, {}
        try:
            for seed in self._wanted.seeds:
                own = f"{label}, seed {seed}"
                if table.folds:
                    crosses[seed] = cross_validate(
                        self._config(row.model, seed),
                        self._folder / "folds" / f"{row.model.key}-seed-{seed}",
                        ways=(row.way,),
                        tell=self._named(own),
                        cancel=self._cancel,
                    )
                else:
                    seeds[seed] = self._seed(row, seed, own)
        except _OF_A_ROW as error:
            return Filled({}, {}, str(error))
        return Filled.of_folds(crosses, row) if table.folds else Filled(seeds, {})

    def _seed(self, row: TableRow, seed: int, label: str) -> Judged:
        tell, place = self._named(label), self._folder / "models" / f"{row.model.key}-seed-{seed}"
        result = train_model(
            self._config(row.model, seed),
            place,
            progress=None if tell is None else lambda r: tell(r.doing, r.fraction, r.remaining),
            cancel=self._cancel,
        )
        return judged(
            result.path,
            MtchiSource(self._data, "Test"),
            row.way,
            place / row.way.name,
            device=self._wanted.device,
            tell=tell,
            cancel=self._cancel,
        )

    def _config(self, model: Trained, seed: int) -> TrainConfig:
        wanted = self._wanted
        return wanted.scale.config(
            model,
            seed,
            str(self._data.absolute()),
            device=wanted.device,
            workers=wanted.workers,
            download=wanted.download,
        )

    def _named(self, label: str) -> Advance | None:
        tell = self._tell
        if tell is None:
            return None
        return lambda doing, part, left: tell(f"{label}: {doing}", part, left)


def _note_settings(wanted: Reproduction, folder: Path) -> None:
    """Write down what the folder's tables are of, or refuse others."""
    path = folder / "settings.json"
    settings: dict[str, Any] = {
        "format": _FORMAT,
        "data": "phantoms" if wanted.mtchi is None else str(wanted.mtchi.absolute()),
        **wanted.scale.to_json(),
    }
    if wanted.mtchi is not None:
        del settings["phantoms"]
    there = read_document(path)
    if there is None:
        write_atomically(path, document_bytes(settings))
        return
    other = [k for k in {**there, **settings} if there.get(k) != settings.get(k)]
    if other:
        raise OutputError(
            "The folder holds tables of other settings: "
            + ", ".join(f"{k} is {there.get(k)}, not {settings.get(k)}" for k in other),
            advice="Choose another folder, or these settings",
            path=folder,
        )


def _look_for_weights(wanted: Reproduction, tables: Sequence[PaperTable]) -> None:
    """Miss ImageNet weights now, not after the rows before."""
    if wanted.scale.encoder_weights != "imagenet" or wanted.scale.quick:
        return
    for encoder in sorted({row.model.encoder for table in tables for row in table.rows}):
        imagenet_weights(encoder, download=wanted.download)
