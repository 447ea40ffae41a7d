"""Logits of windows that two bands need, put by so that none is run twice."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import torch
from torch import Tensor

__all__ = ["Shelf"]

_MOST_BYTES = 2**30

Key = tuple[int, int]


@dataclass(frozen=True)
class _Kept:
    """Where the columns of a window's logits from `first` on are kept."""

    first: int
    shape: tuple[int, int, int]
    place: int | Tensor


class Shelf:
    """Right-hand parts of logits: of a processor in a scratch file, else on the device.

    In memory, those of a high slide would take more than all else that a run holds. The
    file has no name, so that nothing is left where the process is killed. What does not
    fit is not kept, and has to be run again.

    Parameters
    ----------
    folder : Path, optional
        Where the scratch file is made; without, where the system has such files.
    most : int
        Bytes that may be kept.
    """

    def __init__(self, folder: Path | None = None, most: int = _MOST_BYTES) -> None:
        self._folder, self._left = folder, most
        self._kept: dict[Key, _Kept] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Shelf:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __contains__(self, key: Key) -> bool:
        return key in self._kept

    def put(self, key: Key, logits: Tensor, first: int) -> bool:
        """Keep what lies right of a border; whether that could be done.

        Parameters
        ----------
        key : tuple of int
            The window's first row and column.
        logits : Tensor (channels, h, w), float32
        first : int
            The column of the window in which the border lies.
        """
        if key in self._kept:
            return True
        part = logits[:, :, first:]
        size = part.numel() * part.element_size()
        place = self._written(part, size) if part.device.type == "cpu" else self._copied(part, size)
        if place is None:
            return False
        self._left -= size
        channels, height, width = logits.shape
        self._kept[key] = _Kept(first, (channels, height, width), place)
        return True

    def take(self, key: Key) -> Tensor:
        """Logits of a window that is kept, zeros left of the border; it is kept no more.

        Raises
        ------
        OSError
            If the file cannot be read.
        """
        kept = self._kept.pop(key)
        if isinstance(kept.place, Tensor):
            part = kept.place
        else:
            channels, height, width = kept.shape
            part = self._read(kept.place, (channels, height, width - kept.first))
        logits = part.new_zeros(kept.shape)
        logits[:, :, kept.first :] = part
        return logits

    def close(self) -> None:
        """Give back disk and memory."""
        self._kept.clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _copied(self, part: Tensor, size: int) -> Tensor | None:
        return part.clone() if size <= self._left else None

    def _written(self, part: Tensor, size: int) -> int | None:
        """Where in the file it lies; None where it does not fit."""
        try:
            if self._file is None:
                folder = self._folder or tempfile.gettempdir()
                # What others write there must not fail for its sake.
                self._left = min(self._left, shutil.disk_usage(folder).free // 4)
                self._file = tempfile.TemporaryFile(prefix=".logits-", dir=folder)  # noqa: SIM115
            if size > self._left:
                return None
            place = self._file.seek(0, 2)
            self._file.write(part.contiguous().numpy().tobytes())
            self._file.flush()
        except OSError:
            self._left = 0
            return None
        return place

    def _read(self, place: int, shape: tuple[int, int, int]) -> Tensor:
        assert self._file is not None
        values = np.empty(shape, dtype=np.float32)
        self._file.seek(place)
        if self._file.readinto(values.data.cast("B")) != values.nbytes:  # type: ignore[attr-defined]
            raise OSError("A scratch file is shorter than what was written to it")
        return torch.from_numpy(values)
