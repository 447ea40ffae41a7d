"""``runs/<id>/``: one run's maps as an OME-Zarr 0.5."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.sampling import level_count, level_shape
from napari_hspnet.classes import CLASSES, NOT_RUN, PAPER, SKIPPED, UNREADABLE
from napari_hspnet.errors import CaseError
from napari_hspnet.slides.grid import LabelGrid

__all__ = ["CHUNK", "FILL", "MAPS", "Key", "RunStore"]

CHUNK = 512
"""Side of a chunk in pixels; none is sharded, and empty ones are not stored."""

MAPS = ("class", "score", "high")
FILL: Mapping[str, int] = MappingProxyType({"class": NOT_RUN, "score": 0, "high": 0})

Array = npt.NDArray[np.uint8]
Key = tuple[str, int, int, int]
"""(map, level, chunk row, chunk column)."""


class RunStore:
    """The chunks of one run on the disk.

    Parameters
    ----------
    folder : Path
        ``runs/<id>``.
    grid : LabelGrid
        The case's label grid.
    """

    def __init__(self, folder: Path, grid: LabelGrid) -> None:
        self.folder = folder
        self.shape = grid.shape
        self.levels = level_count(grid.shape)
        self._mpp = grid.mpp
        self._arrays: dict[tuple[str, int], Any] = {}

    def create(self, record: Mapping[str, Any]) -> None:
        """Make the empty OME-Zarr, its metadata with it.

        Parameters
        ----------
        record : Mapping
            The run's record as plain JSON values, kept in the root's attributes
            so that the folder explains itself without the database.
        """
        import zarr
        from zarr.codecs import ZstdCodec

        root = zarr.create_group(self.folder, zarr_format=3, attributes={"hspnet": dict(record)})
        for name in MAPS:
            group = root.create_group(name, attributes={"ome": self._ome(name)})
            for level in range(self.levels):
                self._arrays[name, level] = group.create_array(
                    str(level),
                    shape=level_shape(self.shape, level),
                    chunks=(CHUNK, CHUNK),
                    dtype="uint8",
                    fill_value=FILL[name],
                    # The frame's checksum tells a damaged chunk from a label.
                    compressors=ZstdCodec(level=1, checksum=True),
                    dimension_names=("y", "x"),
                )

    def _ome(self, name: str) -> dict[str, Any]:
        said: dict[str, Any] = {
            "version": "0.5",
            "multiscales": [
                {
                    "name": name,
                    "type": "sampled at pixel centres",
                    "axes": [
                        {"name": "y", "type": "space", "unit": "micrometer"},
                        {"name": "x", "type": "space", "unit": "micrometer"},
                    ],
                    "datasets": [
                        {
                            "path": str(level),
                            "coordinateTransformations": [
                                {"type": "scale", "scale": [scale, scale]},
                                {"type": "translation", "translation": [scale / 2, scale / 2]},
                            ],
                        }
                        for level in range(self.levels)
                        for scale in [self._mpp * (1 << level)]
                    ],
                }
            ],
        }
        if name == "class":
            others = {0: "none of the four", SKIPPED: "skipped, no tissue"}
            others |= {UNREADABLE: "unreadable", NOT_RUN: "not run"}
            said["image-label"] = {
                "version": "0.5",
                "colors": [
                    {"label-value": value, "rgba": [*colour, 255]}
                    for value, colour in PAPER.colours.items()
                ],
                "properties": [{"label-value": c.value, "class": c.name} for c in CLASSES]
                + [{"label-value": value, "class": title} for value, title in others.items()],
            }
        return said

    def extent(self, key: Key) -> tuple[int, int]:
        """(height, width) of a chunk, cut at the array's end."""
        _, level, row, column = key
        height, width = level_shape(self.shape, level)
        return min(CHUNK, height - row * CHUNK), min(CHUNK, width - column * CHUNK)

    def write(self, key: Key, chunk: Array) -> None:
        """Write one chunk, (height, width) as `extent` says; replaced in one step."""
        name, level, row, column = key
        height, width = chunk.shape
        y, x = row * CHUNK, column * CHUNK
        self._arrays[name, level][y : y + height, x : x + width] = chunk

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
        from numcodecs.zstd import Zstd

        name, level, row, column = key
        path = self.folder / name / str(level) / "c" / str(row) / str(column)
        try:
            packed = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            chunk = np.frombuffer(Zstd().decode(packed), np.uint8).reshape(CHUNK, CHUNK)
        except (RuntimeError, ValueError) as error:
            raise CaseError(
                f"A part of a result is damaged ({error})",
                advice="Segment that region again",
                path=path,
            ) from error
        height, width = self.extent(key)
        return chunk[:height, :width]

    def sync(self) -> None:
        """Have the operating system put all of it on the disk."""
        for folder, _, names in os.walk(self.folder):
            for name in names:
                _sync(Path(folder, name), os.O_RDWR)
            if os.name != "nt":
                _sync(Path(folder), os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    file = os.open(path, flags)
    try:
        os.fsync(file)
    finally:
        os.close(file)
