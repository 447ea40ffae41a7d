"""Which generator made a phantom: its version, and a hash of its sources."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["PHANTOM_VERSION", "generator_hash"]

PHANTOM_VERSION = "1"
"""Names the generator. Version 1 is frozen: a test holds its hash."""

_NO_PIXELS = frozenset(
    {
        "__init__.py",
        "bigtiff.py",
        "crew.py",
        "job.py",
        "lines_file.py",
        "slide.py",
        "splits.py",
    }
)


def generator_hash() -> str:
    """Twelve hex digits that change whenever phantoms might.

    SHA-256 over the names and bytes of the sources in this folder that decide a
    pixel or a truth value, in sorted order, line ends as on Unix: this module
    too, because it names the version. Left out are those that only name, order
    or write what others made: ``__init__``, bigtiff, crew (processes), job
    (progress and cancelling), lines_file, slide (files and their names) and
    splits (which seeds are for what). A module that is new counts unless it is
    left out here.

    Returns
    -------
    str
        Twelve lower-case hex digits.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source.name not in _NO_PIXELS:
            digest.update(source.name.encode() + b"\0")
            digest.update(source.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:12]
