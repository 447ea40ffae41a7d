"""How soon the window shows labels: from the click on Segment to what the eye sees.

A view of 1,500 µm on a large phantom slide, the demo model, the mode "exact". Without the
first look of all of it rows come alone, each shown when it was run, from a little above
the middle.
"""

from __future__ import annotations

import argparse
import json
import time
from contextlib import nullcontext
from unittest import mock

import numpy as np

from children import interleaved, machine, spread
from hands import wait
from napari_hspnet.classes import SKIPPED
from napari_hspnet.jobs.threads import let_threads_sleep
from phantoms import large_phantom

VIEW_UM = 1500.0
KINDS = {"looks": "first look, then from the middle", "rows": "rows alone"}


def _tissue(viewer) -> tuple[float, float]:
    """World (y, x) amid tissue."""
    layer = viewer.layers[0]
    coarse = np.asarray(layer.data[-1]).mean(axis=2)
    ys, xs = np.nonzero(coarse < np.percentile(coarse, 20))
    middle = np.argmin((ys - np.median(ys)) ** 2 + (xs - np.median(xs)) ** 2)
    height, width = layer.data[0].shape[:2]
    place = ys[middle] / coarse.shape[0] * height, xs[middle] / coarse.shape[1] * width
    return place[0] * layer.scale[0], place[1] * layer.scale[1]


def child(kind: str, path: str) -> dict[str, float]:
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    app = QApplication.instance()
    viewer.window._qt_window.resize(1280, 800)
    viewer.open(path, plugin="napari-hspnet")
    _, dock = viewer.window.add_plugin_dock_widget("napari-hspnet", "HSP-Net review")
    wait(5)
    control = dock.control
    control.choose_demo_model()
    wait(5)
    canvas = viewer.window._qt_viewer.canvas.native
    viewer.scene.camera.zoom = canvas.width() / VIEW_UM
    viewer.scene.camera.center = (0.0, *_tissue(viewer))
    wait(3)
    looks = "napari_hspnet.inference.run.first_looks"
    with mock.patch(looks, return_value=[]) if kind == "rows" else nullcontext():
        return _watch(app, viewer, dock)


def _watch(app, viewer, dock) -> dict[str, float]:
    def picture() -> np.ndarray:
        return viewer.screenshot(canvas_only=True, flash=False)[..., :3]

    session = dock.slides.active.session
    empty, seen = picture(), []
    begun = time.perf_counter()
    dock.control.segment("view")
    drawn = 0.0
    while dock.control.running:
        app.processEvents()
        now = time.perf_counter() - begun
        live = {} if session.live is None else session.live.pixels
        # Glass that no window reaches is said only in the end.
        pixels = sum(count for value, count in live.items() if value < SKIPPED)
        if pixels and not drawn and not np.array_equal(picture(), empty):
            drawn = time.perf_counter() - begun
        seen.append((now, pixels))
        time.sleep(0.002)
    complete = time.perf_counter() - begun
    most = max(pixels for _, pixels in seen)
    if not drawn:
        raise SystemExit("nothing was drawn before the end")
    covered = next(now for now, pixels in seen if pixels >= 0.9 * most)
    viewer.close()
    return {"drawn": drawn, "covered": covered, "complete": complete, "pixels": most}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "PATH"))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    let_threads_sleep()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    path = str(large_phantom(30_000, 20_000))
    found = interleaved("first_overlay.py", [(kind, path) for kind in KINDS], options.repeats)
    print(f"From the click to labels on screen; seconds, minimum / median ({machine()})")
    print("| order | first labels drawn | nine tenths of the labels | complete | label pixels |")
    print("|---|---|---|---|---|")
    for kind, results in zip(KINDS, found, strict=True):
        figures = (spread([r[key] for r in results]) for key in ("drawn", "covered", "complete"))
        print(f"| {KINDS[kind]} | {' | '.join(figures)} | {results[0]['pixels']:,.0f} |")


if __name__ == "__main__":
    main()
