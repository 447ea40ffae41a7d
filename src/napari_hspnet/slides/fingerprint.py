"""Telling slides apart without reading gigabytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["fingerprint"]

_SAMPLE = 64 * 1024
_SAMPLES = 18


def fingerprint(path: Path) -> str:
    """SHA-256 (hex) over a file's size, head, tail and evenly spread samples.

    About 1.2 MB is read, so that it is quick on a network share. A small file
    is read whole. A MIRAX slide is a small picture beside a folder that holds
    the slide, so that folder's index counts too.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    digest = hashlib.sha256()
    size = path.stat().st_size
    digest.update(f"napari-hspnet 1 {size} ".encode())
    with path.open("rb") as file:
        if size <= _SAMPLE * _SAMPLES:
            digest.update(file.read())
        else:
            for index in range(_SAMPLES):
                file.seek((size - _SAMPLE) * index // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    companion = path.with_suffix("") / "Slidedat.ini"
    if path.suffix.lower() == ".mrxs" and companion.is_file():
        digest.update(companion.read_bytes())
    return digest.hexdigest()
