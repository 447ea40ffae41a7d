"""Writes docs/images/teach-*.png: ten corrected regions taught in the window, as it really is.

    python docs/make_teach_pictures.py [--folder FOLDER]

The way that benchmarks/teach_window.py clicks, with a picture of each step. Takes about
a quarter of an hour on two cores; `--folder` keeps the slides for a next time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from make_screenshots import IMAGES, _save

# After it: that names the benchmarks' folder.
from teach_window import Moment, corrected_slides, teach

os.environ.setdefault("QT_API", "pyqt6")
PICTURES = {
    "what it learns from": "teach-plan",
    "learning": "teach-running",
    "learning, the verdict": "teach-verdict",
    "segmenting again": "teach-accepted",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="for slides and cases")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
            os.environ[name] = str(Path(folder) / name)
        teach(corrected_slides(given.folder or Path(folder) / "slides"), _picture)
    return 0


def _picture(moment: Moment) -> None:
    if moment.name in PICTURES:
        _save(moment.window, PICTURES[moment.name])
    if moment.name == "learning, the verdict":
        changes = Path(os.environ["XDG_DATA_HOME"]).rglob("changes/*.png")
        shutil.copyfile(min(changes), IMAGES / "teach-change.png")


if __name__ == "__main__":
    sys.exit(main())
