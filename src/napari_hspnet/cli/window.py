"""``napari-hspnet open``: the window, with slides and the review dock."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_hspnet.cli.screen import note
from napari_hspnet.errors import DependencyError, DisplayError

__all__ = ["open_window"]

PLUGIN = "napari-hspnet"
WIDGET = "HSP-Net review"


def open_window(
    slides: Annotated[
        list[Path] | None, typer.Argument(metavar="[SLIDE…]", help="Slide files to open.")
    ] = None,
) -> None:
    """Open napari with the review dock, and slides in it."""
    _require_display()
    if importlib.util.find_spec("napari") is None:
        raise DependencyError(
            "napari is not installed", advice='Install it: pip install "napari-hspnet[all]"'
        )
    from napari_hspnet.slides import open_slide

    paths = slides or []
    for path in paths:
        # A file that is no slide is told here, in a line, not in a window that
        # has just begun to open.
        open_slide(path).close()
    note("Opening napari …")
    files = ["--plugin", PLUGIN, *map(str, paths)] if paths else []
    # A process of its own: this room knows no napari.
    done = subprocess.run(
        [sys.executable, "-m", "napari", *files, "--with", PLUGIN, WIDGET], check=False
    )
    if done.returncode:
        raise typer.Exit(1)


def _require_display() -> None:
    elsewhere = sys.platform in ("win32", "darwin")
    if elsewhere or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return
    raise DisplayError(
        "There is no display to open a window on",
        advice="Set DISPLAY, or use `napari-hspnet predict`, which needs none",
    )
