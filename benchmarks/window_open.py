"""How long a slide of 100,000 x 60,000 px takes to open in the window.

From File > Open to the first drawn picture of it, in a window that stands
already, beside the time that napari takes to open a tiny image in the same way.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from children import interleaved, machine, spread
from phantoms import large_phantom


def child(kind: str, path: str) -> dict[str, float]:
    import napari
    import numpy as np
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    app = QApplication.instance()
    if kind == "slide":
        viewer.window.add_plugin_dock_widget("napari-hspnet", "HSP-Net review")
    end = time.perf_counter() + 3
    while time.perf_counter() < end:
        app.processEvents()
    begun = time.perf_counter()
    if kind == "slide":
        viewer.open(path, plugin="napari-hspnet")
    else:
        from PIL import Image

        with tempfile.TemporaryDirectory() as folder:
            small = Path(folder) / "small.png"
            Image.fromarray(np.full((300, 500, 3), 200, np.uint8)).save(small)
            viewer.open(small, plugin="napari")
    added = time.perf_counter() - begun
    while True:
        app.processEvents()
        shot = viewer.screenshot(canvas_only=True, flash=False)
        if shot[..., :3].std() > 1:
            break
        if time.perf_counter() - begun > 60:
            raise SystemExit("nothing was drawn in a minute")
    drawn = time.perf_counter() - begun
    viewer.close()
    return {"added": added, "drawn": drawn}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "PATH"))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    path = str(large_phantom())
    slide, small = interleaved(
        "window_open.py", [("slide", path), ("small", path)], options.repeats
    )
    print(f"Opening in a window that stands; seconds, minimum / median ({machine()})")
    print("| what | layer added | first picture |")
    print("|---|---|---|")
    for name, found in (("slide, 100,000 x 60,000 px", slide), ("image, 500 x 300 px", small)):
        print(
            f"| {name} | {spread([r['added'] for r in found])} "
            f"| {spread([r['drawn'] for r in found])} |"
        )
    beyond = statistics.median(a["drawn"] - b["drawn"] for a, b in zip(slide, small, strict=True))
    print(f"\nBeyond napari's own, median of pairs: {beyond:.2f} s")


if __name__ == "__main__":
    main()
