"""Maps on the label grid as an OME-Zarr 0.5: a run's three, or the corrections."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.codec import LEVEL, decoded, encoded
from napari_hspnet.cases.ome import VERSION, image_label, multiscale
from napari_hspnet.cases.sampling import level_count, level_shape
from napari_hspnet.classes import NOT_RUN, PAPER, VALUE_NAMES
from napari_hspnet.errors import CaseError
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.importing import import_zarr

__all__ = ["CHUNK", "FILL", "MAPS", "ChunkStore", "CorrectionStore", "Key", "RunStore"]

CHUNK = 512
"""Side of a chunk in pixels; none is sharded, and empty ones are not stored."""

MAPS = ("class", "score", "high")
FILL: Mapping[str, int] = MappingProxyType({"class": NOT_RUN, "score": 0, "high": 0})

Array = npt.NDArray[np.uint8]
Key = tuple[str, int, int, int]
"""(map, level, chunk row, chunk column)."""


class ChunkStore:
    """The chunks of some maps on the disk.

    Parameters
    ----------
    folder : Path
        The root of the OME-Zarr.
    grid : LabelGrid
        The case's label grid.
    """

    maps: tuple[str, ...] = MAPS
    damage_advice = "Segment that region again"

    def __init__(self, folder: Path, grid: LabelGrid) -> None:
        self.folder = folder
        self.shape = grid.shape
        self.levels = level_count(grid.shape)
        self._grid = grid

    def create(self, record: Mapping[str, Any]) -> None:
        """Make the empty OME-Zarr, its metadata with it.

        Parameters
        ----------
        record : Mapping
            What it is, as plain JSON values, kept in the root's attributes so
            that the folder explains itself without the database.
        """
        zarr = import_zarr()
        root = zarr.create_group(self.folder, zarr_format=3, attributes={"hspnet": dict(record)})
        for name in self.maps:
            group = root.create_group(name, attributes={"ome": self._ome(name)})
            for level in range(self.levels):
                group.create_array(
                    str(level),
                    shape=level_shape(self.shape, level),
                    chunks=(CHUNK, CHUNK),
                    dtype="uint8",
                    fill_value=FILL[name],
                    # The frame's checksum tells a damaged chunk from a label.
                    compressors=zarr.codecs.ZstdCodec(level=LEVEL, checksum=True),
                    dimension_names=("y", "x"),
                )

    def describe(self, record: Mapping[str, Any]) -> None:
        """Replace the record that `create` wrote."""
        path = self.folder / "zarr.json"
        said = json.loads(path.read_bytes())
        said["attributes"]["hspnet"] = dict(record)
        beside = path.with_name(f".{path.name}.part")
        beside.write_text(json.dumps(said, indent=2), encoding="utf-8")
        beside.replace(path)

    def _ome(self, name: str) -> dict[str, Any]:
        said: dict[str, Any] = {"version": VERSION, "multiscales": [multiscale(name, self._grid)]}
        if name == "class":
            # Opaque where there is a class, clear where there is none.
            colours = dict.fromkeys(VALUE_NAMES, (0, 0, 0, 0)) | {
                value: (*colour, 255) for value, colour in PAPER.colours.items()
            }
            said["image-label"] = image_label(VALUE_NAMES, colours)
        return said

    def extent(self, key: Key) -> tuple[int, int]:
        """(height, width) of a chunk, cut at the array's end."""
        _, level, row, column = key
        height, width = level_shape(self.shape, level)
        return min(CHUNK, height - row * CHUNK), min(CHUNK, width - column * CHUNK)

    def write(self, key: Key, chunk: Array) -> None:
        """Write one chunk, (height, width) as `extent` says; replaced in one step.

        Written here for the reason given in `read`. An empty chunk is removed.
        """
        path = self._path(key)
        fill = FILL[key[0]]
        if (chunk == fill).all():
            path.unlink(missing_ok=True)
            return
        if chunk.shape != (CHUNK, CHUNK):
            padded = np.full((CHUNK, CHUNK), fill, np.uint8)
            padded[: chunk.shape[0], : chunk.shape[1]] = chunk
            chunk = padded
        packed = encoded(chunk)
        beside = path.with_name(f".{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(packed)
        beside.replace(path)

    def remove(self, key: Key) -> None:
        """Make one chunk empty."""
        self._path(key).unlink(missing_ok=True)

    def read(self, key: Key) -> Array | None:
        """One chunk, or None where it is empty.

        Zarr's own reading passes every chunk through its event-loop thread, 1 ms
        and a hand-over of the interpreter lock each; a window needs twenty on the
        GUI thread. The codec is ours to know: `create` chose it.

        Raises
        ------
        CaseError
            If the chunk is damaged.
        """
        path = self._path(key)
        try:
            packed = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CaseError(
                f"A part of a result cannot be read ({error.strerror or error})",
                advice=self.damage_advice,
                path=path,
            ) from error
        try:
            chunk = np.frombuffer(decoded(packed), np.uint8).reshape(CHUNK, CHUNK)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise CaseError(
                f"A part of a result is damaged ({error})",
                advice=self.damage_advice,
                path=path,
            ) from error
        height, width = self.extent(key)
        return chunk[:height, :width]

    def sync(self, keys: Iterable[Key] | None = None) -> None:
        """Have the operating system put it on the disk: all of it, or some chunks."""
        if keys is None:
            for folder, _, names in os.walk(self.folder):
                for name in names:
                    _sync(Path(folder, name), os.O_RDWR)
                _sync_folder(Path(folder))
            return
        folders = set()
        for key in keys:
            path = self._path(key)
            folders |= {path.parent, path.parent.parent, path.parent.parent.parent}
            if path.exists():
                _sync(path, os.O_RDWR)
        for parent in folders:
            if parent.exists():
                _sync_folder(parent)

    def _path(self, key: Key) -> Path:
        name, level, row, column = key
        return self.folder / name / str(level) / "c" / str(row) / str(column)


class RunStore(ChunkStore):
    """``runs/<id>``: what one run said."""


class CorrectionStore(ChunkStore):
    """``correction.zarr``: what readers said; 255 where nobody said anything."""

    maps = ("class",)
    damage_advice = "Open the case for writing, which makes it anew from the journal"

    @property
    def exists(self) -> bool:
        """Whether it has been made."""
        return (self.folder / "zarr.json").is_file()

    def make(self, record: Mapping[str, Any]) -> None:
        """Make it where it is absent, whole or not at all."""
        if self.exists:
            return
        beside = CorrectionStore(self.folder.with_name(f".{self.folder.name}.part"), self._grid)
        shutil.rmtree(beside.folder, ignore_errors=True)
        beside.create(record)
        # Its absence on the next opening says that nothing is there to be seen.
        beside.sync()
        if self.folder.exists():
            # A foreign hand was here; should the journal be damaged too, it may be
            # all that is left.
            self.folder.replace(self.folder.with_name(f"{self.folder.name}.{os.urandom(4).hex()}"))
        beside.folder.replace(self.folder)
        _sync_folder(self.folder.parent)

    def chunks(self, level: int = 0) -> Iterator[tuple[int, int]]:
        """(row, column) of the chunks of a level that are there."""
        base = self.folder / "class" / str(level) / "c"
        # What else lies there, a file browser's for instance, is none of ours.
        height, width = level_shape(self.shape, level)
        for row in _numbers(base, height):
            for column in _numbers(base / str(row), width):
                yield row, column


def _numbers(folder: Path, size: int) -> Iterator[int]:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.name.isdecimal() and int(entry.name) * CHUNK < size:
            yield int(entry.name)


def _sync(path: Path, flags: int) -> None:
    file = os.open(path, flags)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _sync_folder(folder: Path) -> None:
    if os.name != "nt":
        _sync(folder, os.O_RDONLY)
