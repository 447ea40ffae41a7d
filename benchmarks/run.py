"""`make bench`: every usual benchmark, or those named, each printing its table.

Those in `LONG` take from ten minutes to hours and run only where they are named.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

USUAL = (
    "stitching",
    "engine_peers",
    "engine_cpu",
    "predictors",
    "whole_slide",
    "window_open",
    "first_overlay",
    "heartbeat",
    "strokes",
    "exports",
    "paper",
)
LONG = ("largest_slide", "modes", "teach", "teach_window", "panning")
ALL = (*USUAL, *LONG)


def main() -> None:
    chosen = sys.argv[1:] or USUAL
    unknown = [name for name in chosen if name not in ALL]
    if unknown:
        raise SystemExit(f"no benchmark called {', '.join(unknown)}; there are: {', '.join(ALL)}")
    for name in chosen:
        print(f"\n## {name}\n", flush=True)
        subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))], check=True)


if __name__ == "__main__":
    main()
