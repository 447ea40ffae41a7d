"""`make bench`: every benchmark, or those named, each printing its table.

Names: engine_cpu, whole_slide, window_open, heartbeat, strokes, exports, paper.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ALL = ("engine_cpu", "whole_slide", "window_open", "heartbeat", "strokes", "exports", "paper")


def main() -> None:
    chosen = sys.argv[1:] or ALL
    unknown = [name for name in chosen if name not in ALL]
    if unknown:
        raise SystemExit(f"no benchmark called {', '.join(unknown)}; there are: {', '.join(ALL)}")
    for name in chosen:
        print(f"\n## {name}\n", flush=True)
        subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))], check=True)


if __name__ == "__main__":
    main()
