"""The command line: everything that the window does, on a machine without a display."""

from napari_hspnet.cli.app import main

__all__ = ["main"]
