"""How free the window stays while a job runs.

Two windows, each in a process of its own, interleaved: one with the plugin
segmenting a whole slide, one with napari alone, the same layers, and the same
network running in a thread. In both the view is panned all the time, and a
10 ms timer notes the gaps between its ticks. Beside it: how long our own slots
held the GUI thread, calls into napari counted apart.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from children import interleaved, machine, spread
from hands import wait
from napari_hspnet.jobs.threads import let_threads_sleep

SECONDS = 20.0


def _pan(viewer, begun: float, extent: tuple[float, float]) -> None:
    phase = (time.perf_counter() - begun) / 4.0
    viewer.scene.camera.center = (
        extent[0] * (0.5 + 0.2 * math.sin(phase * 2.1)),
        extent[1] * (0.5 + 0.2 * math.cos(phase)),
    )


def _beat(app, viewer, extent: tuple[float, float]) -> list[float]:
    """Gaps between ticks of a 10 ms timer in ms, while the view is panned."""
    from qtpy.QtCore import QTimer

    gaps: list[float] = []
    begun = last = time.perf_counter()

    def tick() -> None:
        nonlocal last
        now = time.perf_counter()
        gaps.append(1000 * (now - last))
        last = now

    beat, pan = QTimer(), QTimer()
    beat.setTimerType(beat.timerType().PreciseTimer)
    beat.timeout.connect(tick)
    pan.timeout.connect(lambda: _pan(viewer, begun, extent))
    beat.start(10)
    pan.start(50)
    while time.perf_counter() - begun < SECONDS:
        app.processEvents()
        time.sleep(0.0005)
    beat.stop()
    pan.stop()
    return gaps[20:]


def _figures(gaps: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(gaps, n=100)
    return {"p50": cuts[49], "p99": cuts[98], "max": max(gaps), "ticks": len(gaps)}


def plugin(path: str) -> dict[str, float]:
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_hspnet._qt.slots import RECORDER

    viewer = napari.Viewer(show=True)
    app = QApplication.instance()
    viewer.window._qt_window.resize(1280, 800)
    viewer.open(path, plugin="napari-hspnet")
    _, dock = viewer.window.add_plugin_dock_widget("napari-hspnet", "HSP-Net review")
    wait(6)
    control = dock.control
    control.choose_demo_model()
    wait(4)
    viewer.scene.camera.zoom = 0.4
    control.segment("slide")
    wait(4)
    assert control.running, "the run did not start"
    layer = viewer.layers[0]
    extent = tuple(float(v) for v in layer.extent.world[1][:2])
    RECORDER.clear()
    RECORDER.on = True
    figures = _figures(_beat(app, viewer, extent))
    assert control.running, "the run ended before the measurement"
    ours = [t.ours * 1000 for t in RECORDER.times]
    figures["slot_max"] = max(ours, default=0.0)
    figures["slots"] = len(ours)
    slowest = max(RECORDER.times, key=lambda t: t.ours, default=None)
    print(f"slowest slot: {slowest}", file=sys.stderr)
    viewer.close()
    return figures


def peer(path: str) -> dict[str, float]:
    import napari
    import torch
    from napari.utils.colormaps import DirectLabelColormap
    from qtpy.QtWidgets import QApplication

    from napari_hspnet._qt.display import overlay_levels, veil_levels
    from napari_hspnet._qt.slide_layer import slide_layer_data
    from napari_hspnet._qt.style import OverlayStyle, overlay_colours, veil_colours
    from napari_hspnet.cases import Case
    from napari_hspnet.inference import Settings
    from napari_hspnet.jobs.segment import segment_into_case
    from napari_hspnet.networks import demo_model_path, load_checkpoint
    from napari_hspnet.slides import LabelGrid, Region, open_slide

    slide = open_slide(path)
    model = load_checkpoint(demo_model_path())
    grid = LabelGrid.of(slide.info)
    stop = threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        case = Case.open_or_create(Path(folder) / "c.hspnet", slide.info, grid)
        middle = Region.rectangle(grid.shape[0] / 2 - 200, grid.shape[1] / 2 - 200, 400, 400)
        segment_into_case(slide, model, middle, case, settings=Settings(stride=200))
        viewer = napari.Viewer(show=True)
        app = QApplication.instance()
        viewer.window._qt_window.resize(1280, 800)
        data, about, _ = slide_layer_data(slide)
        viewer.add_image(data, **about)
        levels = case.composite().levels
        style = OverlayStyle()
        where = {"units": ("micrometer", "micrometer"), "translate": (0.5, 0.5)}
        viewer.add_labels(
            veil_levels(levels),
            multiscale=True,
            colormap=DirectLabelColormap(color_dict=veil_colours()),
            **where,
        )
        viewer.add_labels(
            overlay_levels(levels, style),
            multiscale=True,
            colormap=DirectLabelColormap(color_dict=overlay_colours(style)),
            **where,
        )
        viewer.scale_bar.visible = True

        def load() -> None:
            with torch.inference_mode():
                window = torch.zeros(1, 3, 400, 400).to(memory_format=torch.channels_last)
                while not stop.is_set():
                    model.network(window)

        thread = threading.Thread(target=load)
        thread.start()
        wait(6)
        viewer.scene.camera.zoom = 0.4
        wait(4)
        extent = tuple(float(v) for v in viewer.layers[0].extent.world[1][:2])
        figures = _figures(_beat(app, viewer, extent))
        stop.set()
        thread.join()
        viewer.close()
        case.close()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "PATH"))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if options.child:
        kind, path = options.child
        let_threads_sleep()
        print(json.dumps({"plugin": plugin, "peer": peer}[kind](path)))
        return
    from phantoms import large_phantom

    path = str(large_phantom(30_000, 20_000))
    ours, theirs = interleaved("heartbeat.py", [("plugin", path), ("peer", path)], options.repeats)
    print(f"Gaps between the ticks of a 10 ms timer in ms, minimum / median ({machine()})")
    print("| window | p50 | p99 | max |")
    print("|---|---|---|---|")
    for name, found in (("plugin, segmenting", ours), ("napari alone, same load", theirs)):
        cells = " | ".join(spread([r[key] for r in found]) for key in ("p50", "p99", "max"))
        print(f"| {name} | {cells} |")
    ratio = statistics.median(a["p99"] / b["p99"] for a, b in zip(ours, theirs, strict=True))
    print(f"\np99 ratio, median of pairs: {ratio:.2f}")
    print(
        f"Our slots: {sum(r['slots'] for r in ours):.0f} calls, "
        f"longest {max(r['slot_max'] for r in ours):.1f} ms without napari's own work"
    )


if __name__ == "__main__":
    main()
