"""How PyTorch's CPU threads wait for each other."""

from __future__ import annotations

import os
import sys

__all__ = ["let_threads_sleep"]


def let_threads_sleep() -> None:
    """Have PyTorch's threads sleep while they wait, instead of spinning.

    Spinning is OpenMP's default and ruins a machine that does anything else: with
    one other busy thread on two cores, a window of the demo model takes 1.5 s
    instead of 0.2 s, and a napari window freezes with it. The setting is read when
    PyTorch is loaded, so this has to be called before; a choice that the user has
    made in the environment stands.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
