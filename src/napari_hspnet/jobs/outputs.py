"""Finding out before long work that its result has nowhere to go."""

from __future__ import annotations

from pathlib import Path

from napari_hspnet.exchange import refuse_existing
from napari_hspnet.networks.checkpoint import write_atomically

__all__ = ["check_output"]


def check_output(path: Path, overwrite: bool = True) -> None:
    """Refuse now, not after half an hour, a file that cannot be written.

    Parameters
    ----------
    path : Path
        Its folder is made where it is missing.
    overwrite : bool
        Whether a file that exists may be replaced.

    Raises
    ------
    OutputError
        If it exists and may not be replaced, is a folder, or cannot be written.
    """
    refuse_existing(path, overwrite)
    probe = path.with_name(f".{path.name}.probe")
    write_atomically(probe, b"")
    probe.unlink()
