"""Where cases may live: on local disks, under the user's data folder by default."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from napari_hspnet.cases.failures import case_failures
from napari_hspnet.errors import CaseError, HspnetError
from napari_hspnet.slides.types import SlideInfo

__all__ = [
    "MARK",
    "SUFFIX",
    "FoundCases",
    "default_case_folder",
    "find_cases",
    "network_filesystem",
    "refuse_network",
]

SUFFIX = ".hspnet"

MARK = "~"
"""Stands between a case's name and a second reader's; no slide's case has it by itself."""

_NETWORK = {
    "afpfs",
    "afs",
    "ceph",
    "cifs",
    "davfs",
    "davfs2",
    "fuse.davfs2",
    "fuse.glusterfs",
    "fuse.rclone",
    "fuse.sshfs",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "smb2",
    "smb3",
    "smbfs",
    "webdav",
}


def default_case_folder(info: SlideInfo) -> Path:
    """Where a slide's case lies unless the user says otherwise; makes nothing."""
    return _cases() / f"{_name(info)}-{info.fingerprint[:8]}{SUFFIX}"


@dataclass(frozen=True)
class FoundCases:
    """Cases in the user's folder that concern a slide.

    Attributes
    ----------
    own : Path or None
        The slide's, under whatever name; a slide can be moved and renamed.
    namesakes : tuple of Path
        Of other files of the same name: the slide may have been saved anew.
    """

    own: Path | None
    namesakes: tuple[Path, ...]


def find_cases(info: SlideInfo) -> FoundCases:
    """Look in the user's folder for a slide's case; second readings lie beside it.

    Raises
    ------
    OutputError
        If the folder cannot be read.
    """
    from napari_hspnet.cases.database import CaseDatabase

    folder, usual = _cases(), default_case_folder(info)
    if (usual / "case.sqlite").is_file():
        return FoundCases(usual, ())
    namesakes = []
    with case_failures(folder):
        for found in sorted(folder.glob(f"*{SUFFIX}")):
            if MARK in found.name or not (found / "case.sqlite").is_file():
                continue
            try:
                path = found / "case.sqlite"
                with closing(CaseDatabase(path, read_only=True, check=False)) as database:
                    fingerprint, _ = database.slide()
            except HspnetError:
                # Whose it was cannot be told; `case verify` says what it has.
                continue
            if fingerprint == info.fingerprint:
                return FoundCases(found, ())
            if found.name.startswith(f"{_name(info)}-"):
                namesakes.append(found)
    return FoundCases(None, tuple(namesakes))


def _cases() -> Path:
    import platformdirs

    return Path(platformdirs.user_data_dir("napari-hspnet", appauthor=False)) / "cases"


def _name(info: SlideInfo) -> str:
    return (re.sub(r"[^\w.+-]+", "_", info.path.stem).strip("._") or "slide")[:80]


def network_filesystem(path: Path) -> str | None:
    """The type of the network file system that `path` lies on; None where local."""
    import psutil

    place = path.resolve()
    if str(place).startswith("\\\\"):
        return "network share"
    best, found = -1, None
    for partition in psutil.disk_partitions(all=True):
        mount = Path(partition.mountpoint)
        depth = len(mount.parts)
        if depth >= best and place.is_relative_to(mount):
            best = depth
            remote = "remote" in partition.opts.lower().split(",")
            kind = partition.fstype.lower()
            found = (kind or "network share") if kind in _NETWORK or remote else None
    return found


def refuse_network(folder: Path, info: SlideInfo | None = None) -> None:
    """Raise where SQLite's write-ahead log and our lock would not hold.

    Raises
    ------
    CaseError
        If `folder` lies on a network file system.
    """
    kind = network_filesystem(folder)
    if kind is not None:
        raise CaseError(
            f"A case cannot be kept on a network share ({kind})",
            advice="Keep it on this computer"
            + ("" if info is None else f", for instance in {default_case_folder(info)}"),
            path=folder,
        )
