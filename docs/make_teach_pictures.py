"""Writes docs/images/teach-*.png: ten corrected regions taught in the window, as it really is.

    python docs/make_teach_pictures.py [--folder FOLDER]

Five phantoms of another stain and scanner (domain C) are segmented with the demo model
and two regions of each corrected to their truth; then the window opens and is clicked.
Takes about a quarter of an hour on two cores; `--folder` keeps the slides for a next time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from make_screenshots import IMAGES, _click, _save, _wait

os.environ.setdefault("QT_API", "pyqt6")
PATIENTS = 5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="for slides and cases")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
            os.environ[name] = str(Path(folder) / name)
        slides = _slides(given.folder or Path(folder) / "slides")
        return _teach(slides)


def _slides(folder: Path) -> list[Path]:
    """The slides, their cases where the window looks for them."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
    from napari_hspnet.cases import default_case_folder
    from napari_hspnet.networks import demo_model_path, load_checkpoint
    from napari_hspnet.slides import open_slide
    from teach_reviewer import taught_slide

    found = []
    for number in range(PATIENTS):
        own = folder / f"0-{number}"
        if not own.exists():
            taught_slide(own, load_checkpoint(demo_model_path()), "C", 0, number)
        named = folder / f"biopsy {number + 1}.tiff"
        if not named.exists():
            shutil.copyfile(own / "slide.tiff", named)
        with open_slide(named) as slide:
            place = default_case_folder(slide.info)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(own / "case.hspnet", place)
        found.append(named)
    return found


def _teach(slides: list[Path]) -> int:
    import napari

    viewer = napari.Viewer(show=True)
    window = viewer.window._qt_window
    window.resize(1280, 800)
    _, dock = viewer.window.add_plugin_dock_widget("napari-hspnet")
    dock.slide_view.reader.setText("Dr. Ann")
    dock.control.choose_demo_model()
    _wait(60, lambda: dock.control.model is not None)
    for path in slides:
        viewer.open(str(path), plugin="napari-hspnet")
        _wait(120, lambda: dock.slides.active.session.areas is not None)
    for name in ("slide", "model", "segment", "overlay", "correct", "review", "export"):
        dock.sections[name].set_open(False)
    dock.sections["teach"].set_open(True)
    dock.slides.fit()
    view = dock.teach_view
    _wait(60, view.plan.isEnabled)
    _click(view.plan)
    _wait(300, lambda: view.learns.text() != "")
    _wait(2.0)
    _save(window, "teach-plan")
    _click(view.teach)
    _wait(300, lambda: dock.teaching.running)
    _wait(1800, lambda: len(view.curves.figures["mean_dice"]) > 3)
    _wait(1.0)
    dock._area.ensureWidgetVisible(view.curves)
    _wait(1.0)
    _save(window, "teach-running")
    _wait(3000, lambda: not dock.teaching.running)
    _wait(2.0)
    dock._area.verticalScrollBar().setValue(dock._area.verticalScrollBar().maximum())
    _wait(1.0)
    _save(window, "teach-verdict")
    change = next(iter(sorted(Path(os.environ["XDG_DATA_HOME"]).rglob("changes/*.png"))))
    shutil.copyfile(change, IMAGES / "teach-change.png")
    _click(view.verdict.accept)
    _wait(60, view.verdict.after_row.isVisible)
    _wait(60, view.verdict.again.isEnabled)
    _click(view.verdict.again)
    _wait(60, lambda: dock.control.running)
    _wait(600, lambda: not dock.control.running)
    _wait(2.0)
    dock.sections["model"].set_open(True)
    dock._area.verticalScrollBar().setValue(0)
    _wait(1.0)
    _save(window, "teach-accepted")
    viewer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
