"""What a brush stroke costs in the window, and a click that regrades a huge region.

A slide of 100,000 x 60,000 px. One window with the plugin, correcting; beside it,
each in a process of its own and interleaved, napari with the same slide and a
Labels layer of the same size that is painted in: alone, and with overlay and veil
drawn below it as in ours. Real mouse events, sent one by one: how long the handler
takes, and from the event to the end of the frame that shows it. Then, in ours, from
the release of the button until the stroke is in the case at all levels; and from a
click on a region that spans 20,000 x 20,000 px of the slide until it has its new
grade, and back by undo.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from children import interleaved, machine
from napari_hspnet.jobs.threads import let_threads_sleep

STROKES, MOVES, WIDTH = 12, 40, 20
CENTRE = (7000, 12000)
RADIUS = 2500


def _prepare(path: str) -> None:
    """A case whose one run has a region 5,000 x 5,000 µm wide, with holes in it."""
    from napari_hspnet.cases import Case, RunRecord, default_case_folder
    from napari_hspnet.slides import LabelBlock, LabelGrid, Region, open_slide

    with open_slide(path) as slide:
        info = slide.info
    grid = LabelGrid.of(info)
    record = RunRecord(
        "made up", "0" * 64, {}, {}, Region.slide().to_dict(), "cpu", {}, info.fingerprint,
        True, "2026-11-25T00:00:00+00:00",
    )  # fmt: skip
    with Case.open_or_create(default_case_folder(info), info, grid) as case:
        run = case.start_run(record)
        for y in range(CENTRE[0] - RADIUS, CENTRE[0] + RADIUS, 512):
            ys = np.arange(y, min(y + 512, CENTRE[0] + RADIUS))[:, None]
            xs = np.arange(CENTRE[1] - RADIUS, CENTRE[1] + RADIUS)[None]
            inside = np.hypot(ys - CENTRE[0], xs - CENTRE[1]) < RADIUS
            holes = np.sin(ys / 37.0) * np.sin(xs / 53.0) > 0.8
            classes = np.where(inside & ~holes, 2, 0).astype(np.uint8)
            score = np.full(classes.shape, 200, np.uint8)
            run.write(LabelBlock(y, int(xs[0, 0]), classes, score, score))
        run.finish(1.0)


class _Mouse:
    """Sends the canvas real mouse events, and knows when it has drawn."""

    def __init__(self, viewer, app) -> None:
        from qtpy.QtCore import QEvent, QPointF, Qt
        from qtpy.QtGui import QMouseEvent

        self._event, self._point, self._made, self._qt = QEvent, QPointF, QMouseEvent, Qt
        self._app = app
        scene = viewer.window._qt_viewer.canvas._scene_canvas
        self.native = scene.native
        self.frames = 0
        scene.events.draw.connect(self._drawn, position="last")

    def _drawn(self, event=None) -> None:
        self.frames += 1

    def send(self, kind: str, x: float, y: float, down: bool = True) -> tuple[float, float]:
        """ms of the handler, and from the event to the end of the next frame."""
        types = self._event.Type
        buttons = self._qt.MouseButton
        which = {
            "press": types.MouseButtonPress,
            "move": types.MouseMove,
            "release": types.MouseButtonRelease,
        }[kind]
        button = buttons.NoButton if kind == "move" else buttons.LeftButton
        held = buttons.LeftButton if down and kind != "release" else buttons.NoButton
        place = self._point(x, y)
        globally = self._point(self.native.mapToGlobal(place.toPoint()))
        event = self._made(
            which, place, globally, button, held, self._qt.KeyboardModifier.NoModifier
        )
        frames, begun = self.frames, time.perf_counter()
        self._app.sendEvent(self.native, event)
        handled = time.perf_counter()
        while self.frames == frames and time.perf_counter() - begun < 0.25:
            self._app.processEvents()
        return 1e3 * (handled - begun), 1e3 * (time.perf_counter() - begun)


def _strokes(mouse: _Mouse, after) -> dict[str, float]:
    handler, frame = [], []
    width, height = mouse.native.width(), mouse.native.height()
    for n in range(STROKES):
        y0 = height * (0.2 + 0.6 * n / STROKES)
        mouse.send("move", width * 0.2, y0, down=False)
        mouse.send("press", width * 0.2, y0)
        for k in range(1, MOVES + 1):
            x = width * (0.2 + 0.6 * k / MOVES)
            spent = mouse.send("move", x, y0 + 20 * math.sin(k / 4))
            handler.append(spent[0])
            frame.append(spent[1])
        mouse.send("release", width * 0.8, y0)
        after()
    cut = {
        "handler": statistics.quantiles(handler, n=20),
        "frame": statistics.quantiles(frame, n=20),
    }
    return {f"{name}_{p}": q[at] for name, q in cut.items() for p, at in (("p50", 9), ("p95", 18))}


def _settle(app, seconds: float, until=None) -> float:
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        app.processEvents()
        if until is not None and until():
            break
        time.sleep(0.001)
    return time.perf_counter() - begun


def _window(path: str, dock: bool):
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    app = QApplication.instance()
    viewer.window._qt_window.resize(1280, 800)
    viewer.window._qt_window.activateWindow()
    viewer.open(path, plugin="napari-hspnet")
    made = viewer.window.add_plugin_dock_widget("napari-hspnet")[1] if dock else None
    _settle(app, 4)
    viewer.scene.camera.zoom = 1.0
    viewer.scene.camera.center = (0, *CENTRE)
    _settle(app, 3)
    return viewer, app, made


def plugin(path: str) -> dict[str, float]:
    from napari_hspnet._qt.slots import RECORDER

    viewer, app, dock = _window(path, True)
    assert dock is not None
    _settle(app, 20, lambda: dock.slides.active.session.areas is not None)
    dock.slide_view.reader.setText("Benchmark")
    dock.painting.enter()
    _settle(app, 10, lambda: dock.painting._asked is None)
    dock.correct_view.brush.setValue(WIDTH)
    dock.painting.tools.choose_grade(3)
    _settle(app, 1)
    RECORDER.clear()
    RECORDER.on = True
    saved: list[float] = []

    def after() -> None:
        begun = time.perf_counter()
        app.processEvents()
        _settle(app, 5, lambda: dock.acts.waiting == 0)
        saved.append(1e3 * (time.perf_counter() - begun))
        _settle(app, 0.6)

    figures = _strokes(_Mouse(viewer, app), after)
    cuts = statistics.quantiles(saved, n=20)
    figures |= {"saved_p50": cuts[9], "saved_p95": cuts[18]}
    figures["slot_max"] = max(1e3 * t.ours for t in RECORDER.times)
    figures["slots"] = len(RECORDER.times)
    figures |= _regrade(viewer, app, dock)
    figures["slot_max_regrade"] = max(1e3 * t.ours for t in RECORDER.times)
    viewer.close()
    return figures


def _regrade(viewer, app, dock) -> dict[str, float]:
    case = dock.slides.active.session.case
    while case.editing.can_undo:
        dock.correcting.undo()
        _settle(app, 10, lambda: dock.acts.waiting == 0)
    reports: list[float] = []
    dock.acts.progressed.connect(lambda title, part: reports.append(part))
    dock.painting.tools.choose("region")
    viewer.scene.camera.zoom = 0.12
    _settle(app, 2)
    figures = {}
    for name, act in (
        ("regrade", lambda: dock.correcting.click(CENTRE[0] + 5.0, CENTRE[1] + 5.0)),
        ("undo", dock.correcting.undo),
    ):
        last, begun = case.journal.last, time.perf_counter()
        act()
        _settle(app, 60, lambda seq=last: case.journal.last > seq and dock.acts.waiting == 0)
        figures[name] = time.perf_counter() - begun
        _settle(app, 1)
    figures["reports"] = len(reports)
    return figures


def peer(path: str, below: bool) -> dict[str, float]:
    from napari.utils.colormaps import DirectLabelColormap

    from napari_hspnet._qt.display import overlay_levels, veil_levels
    from napari_hspnet._qt.style import OverlayStyle, overlay_colours, veil_colours
    from napari_hspnet.cases import Case, default_case_folder
    from napari_hspnet.slides import open_slide

    viewer, app, _ = _window(path, False)
    with open_slide(path) as slide:
        folder = default_case_folder(slide.info)
    case = Case.open(folder)
    composite = case.composite()
    half = 1024
    units = ("micrometer", "micrometer")
    if below:
        for levels, colours in (
            (veil_levels(composite.levels), veil_colours()),
            (overlay_levels(composite.levels, OverlayStyle()), overlay_colours(OverlayStyle())),
        ):
            viewer.add_labels(
                levels,
                multiscale=True,
                colormap=DirectLabelColormap(color_dict=colours),
                translate=(0.5, 0.5),
                units=units,
            )
    values = composite.read(CENTRE[0] - half, CENTRE[1] - half, 2 * half, 2 * half)
    clear = (0.0, 0.0, 0.0, 0.0)
    colours = {None: clear, 0: clear} | {n: (0.2 * n, 0.5, 1 - 0.2 * n, 0.42) for n in range(1, 5)}
    layer = viewer.add_labels(
        values,
        translate=(CENTRE[0] - half + 0.5, CENTRE[1] - half + 0.5),
        units=units,
        colormap=DirectLabelColormap(color_dict=colours),
        opacity=1.0,
    )
    layer.mode, layer.brush_size, layer.selected_label = "paint", WIDTH, 3
    _settle(app, 2)
    figures = _strokes(_Mouse(viewer, app), lambda: _settle(app, 0.7))
    viewer.close()
    case.close()
    return figures


def _child(kind: str, path: str) -> dict[str, float]:
    let_threads_sleep()
    if kind == "plugin":
        return plugin(path)
    return peer(path, kind == "layers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "PATH"))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_child(*options.child)))
        return
    from phantoms import large_phantom

    path = str(large_phantom())
    found: list[list[dict[str, float]]] = [[], [], []]
    for _ in range(options.repeats):
        # A case as it was yesterday, anew each time.
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_DATA_HOME"] = folder
            os.environ["XDG_CONFIG_HOME"] = str(Path(folder) / "config")
            _prepare(path)
            kinds = [("plugin", path), ("labels", path), ("layers", path)]
            for mine, one in zip(found, interleaved("strokes.py", kinds, 1), strict=True):
                mine += one
    _tell(*found)


def _tell(ours, labels, layers) -> None:
    print(f"ms a mouse event in a stroke, median of repeats ({machine()})")
    print("| window | handler p50 | handler p95 | event to frame p50 | event to frame p95 |")
    print("|---|---|---|---|---|")
    names = (
        "plugin, correcting",
        "napari's Labels on the slide",
        "the same, overlay and veil below",
    )
    keys = ("handler_p50", "handler_p95", "frame_p50", "frame_p95")
    for name, rows in zip(names, (ours, labels, layers), strict=True):
        cells = " | ".join(f"{statistics.median(r[key] for r in rows):.2f}" for key in keys)
        print(f"| {name} | {cells} |")
    for name, rows in (("Labels", labels), ("same layers", layers)):
        pairs = list(zip(ours, rows, strict=True))
        added = statistics.median(a["handler_p95"] - b["handler_p95"] for a, b in pairs)
        ratios = [
            statistics.median(a[key] / b[key] for a, b in pairs)
            for key in ("frame_p50", "frame_p95")
        ]
        print(
            f"\nAgainst {name}: handler p95 {added:+.2f} ms, event to frame {ratios[0]:.2f} "
            f"(p50) and {ratios[1]:.2f} (p95) times"
        )
    said = {key: statistics.median(r[key] for r in ours) for key in ours[0]}
    print(
        f"\nFrom release to saved at all levels: p50 {said['saved_p50']:.0f} ms, "
        f"p95 {said['saved_p95']:.0f} ms. Longest slot of ours: "
        f"{max(r['slot_max'] for r in ours):.1f} ms in {sum(r['slots'] for r in ours):.0f} calls."
    )
    print(
        f"\nA region over 20,000 x 20,000 px of the slide: regraded in {said['regrade']:.2f} s "
        f"after the click, back in {said['undo']:.2f} s ({said['reports']:.0f} progress reports); "
        f"longest slot {max(r['slot_max_regrade'] for r in ours):.1f} ms."
    )


if __name__ == "__main__":
    main()
