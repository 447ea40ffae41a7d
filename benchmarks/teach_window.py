"""How long our slots hold the GUI thread while the window teaches and is taught.

Five phantoms of another stain and scanner (domain C) are segmented with the demo model
and two regions of each corrected to their truth; then the window opens and is clicked:
what it learns from, the fine-tuning in its own process, the verdict, accepting, the new
overlay. Takes about a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from children import machine
from hands import click, wait

PATIENTS = 5
BOUND_MS = 50.0


@dataclass(frozen=True)
class Moment:
    """The window at a step of the way.

    Attributes
    ----------
    name : str
        The step that has just ended.
    window, dock : QWidget
        napari's window; ours.
    """

    name: str
    window: Any
    dock: Any


def corrected_slides(folder: Path) -> list[Path]:
    """The slides, their cases where the window looks for them; kept in the folder."""
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


def teach(slides: list[Path], seen: Callable[[Moment], None]) -> None:
    """Click through the section Teach, from corrected slides to the new overlay.

    Parameters
    ----------
    slides : list of Path
        From `corrected_slides`.
    seen : callable
        Called after each step.
    """
    import napari

    viewer = napari.Viewer(show=True)
    window = viewer.window._qt_window
    window.resize(1280, 800)
    _, dock = viewer.window.add_plugin_dock_widget("napari-hspnet")
    view, bar = dock.teach_view, dock._area.verticalScrollBar()

    def told(name: str) -> None:
        wait(2.0)
        seen(Moment(name, window, dock))

    dock.slide_view.reader.setText("Dr. Ann")
    dock.control.choose_demo_model()
    wait(60, lambda: dock.control.model is not None)
    for path in slides:
        viewer.open(str(path), plugin="napari-hspnet")
        wait(120, lambda: dock.slides.active.session.areas is not None)
    for name in ("slide", "model", "segment", "overlay", "correct", "review", "export"):
        dock.sections[name].set_open(False)
    dock.sections["teach"].set_open(True)
    dock.slides.fit()
    wait(60, view.plan.isEnabled)
    told("opening the slides")
    click(view.plan)
    wait(300, lambda: view.learns.text() != "")
    told("what it learns from")
    click(view.teach)
    wait(300, lambda: dock.teaching.running)
    wait(1800, lambda: len(view.curves.figures["mean_dice"]) > 3)
    dock._area.ensureWidgetVisible(view.curves)
    told("learning")
    wait(3000, lambda: not dock.teaching.running)
    wait(2.0)
    bar.setValue(bar.maximum())
    told("learning, the verdict")
    click(view.verdict.accept)
    wait(60, view.verdict.after_row.isVisible)
    wait(60, view.verdict.again.isEnabled)
    told("accepting")
    click(view.verdict.again)
    wait(60, lambda: dock.control.running)
    wait(600, lambda: not dock.control.running)
    wait(2.0)
    dock.sections["model"].set_open(True)
    bar.setValue(0)
    told("segmenting again")
    viewer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keeps slides and cases for a next time")
    options = parser.parse_args()
    from napari_hspnet._qt.slots import RECORDER

    print(f"Our slots, calls into napari counted apart ({machine()})\n")
    print("| until | calls | longest ms | which | over 50 ms | load |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
            os.environ[name] = str(Path(folder) / name)
        slides = corrected_slides(options.folder or Path(folder) / "slides")
        RECORDER.on = True

        def tell(moment: Moment) -> None:
            times = sorted(RECORDER.times, key=lambda one: -one.ours)
            over = sum(1000 * one.ours > BOUND_MS for one in times)
            print(
                f"| {moment.name} | {len(times)} | {1000 * times[0].ours:.1f} "
                f"| `{times[0].name}` | {over} | {os.getloadavg()[0]:.1f} |",
                flush=True,
            )
            RECORDER.clear()

        teach(slides, tell)


if __name__ == "__main__":
    main()
