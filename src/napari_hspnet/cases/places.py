"""Where cases may live: on local disks, under the user's data folder by default."""

from __future__ import annotations

import re
from pathlib import Path

from napari_hspnet.errors import CaseError
from napari_hspnet.slides.types import SlideInfo

__all__ = ["SUFFIX", "default_case_folder", "network_filesystem", "refuse_network"]

SUFFIX = ".hspnet"

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
    import platformdirs

    name = re.sub(r"[^\w.+-]+", "_", info.path.stem).strip("._") or "slide"
    base = Path(platformdirs.user_data_dir("napari-hspnet", appauthor=False))
    return base / "cases" / f"{name[:80]}-{info.fingerprint[:8]}{SUFFIX}"


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
