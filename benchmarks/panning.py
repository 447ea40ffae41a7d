"""Pan and zoom in napari: our reader beside napari-lazy-openslide's and napari-wsi's.

The same napari, window, slide and 40 moves of the camera for each, one process a run, all
readers in turn and then all again; napari's settings are those it starts with. A peer
that needs other versions lives in an environment of its own, whose interpreter is named.

Every frame that napari draws is read back. A picture is complete with the first frame
that equals the one that stays. The time that reading back takes is on no one's clock.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from children import machine, measure, spread

OURS = "ours"
KINDS = {
    OURS: "ours",
    "lazy-openslide": "napari-lazy-openslide",
    "wsi": "napari-wsi, as it opens the file",
    "wsi-openslide": "napari-wsi, through OpenSlide",
}
PLUGINS = {
    OURS: "napari-hspnet",
    "lazy-openslide": "napari-lazy-openslide",
    "wsi": "napari-wsi",
    "wsi-openslide": "napari-wsi",
}
QUIET = 0.4
LONGEST = 120.0
ANOTHER = 20.0
WINDOW = (1280, 800)

Found = dict[str, Any]


@dataclass(frozen=True)
class Move:
    """Where the camera goes.

    Attributes
    ----------
    kind : str
        Under which moves are summed up.
    y, x : float
        Centre of the view as a share of the slide's height and width.
    zoom : float
        Pixels of the canvas for a pixel of level 0.
    """

    kind: str
    y: float
    x: float
    zoom: float


def path_of(slide: tuple[int, int], canvas: tuple[int, int]) -> list[Move]:
    """The 40 moves: zooming in, panning at three zooms, jumping at full resolution."""
    whole = min(c / s for c, s in zip(canvas, slide, strict=True))
    moves = [Move("zoom in", 0.5, 0.5, whole ** (1 - step / 8)) for step in range(1, 9)]
    for kind, zoom, steps in (
        ("pan, level 0", 1.0, 8),
        ("pan, between", whole**0.5, 8),
        ("pan, coarse", 2 * whole, 6),
    ):
        # Half a view to the right and a quarter down, each time.
        down, right = (
            share * c / zoom / s for share, c, s in zip((0.25, 0.5), canvas, slide, strict=True)
        )
        for step in range(steps):
            y = 0.3 + (step * down) % 0.4
            moves.append(Move(kind, y, 0.3 + (step * right) % 0.4, zoom))
    places = np.random.default_rng(0).uniform(0.2, 0.8, (10, 2))
    moves += [Move("jump, level 0", float(y), float(x), 1.0) for y, x in places]
    return moves


class Watch:
    """Clock, ticks and frames of a viewer; reading frames back stops the clock."""

    def __init__(self, viewer: Any, app: Any) -> None:
        from qtpy.QtCore import QTimer

        self._app = app
        self._viewer = viewer
        self._read = 0.0
        self._last_tick = self.now()
        self.longest = 0.0
        self.frames: list[tuple[float, bytes]] = []
        self.picture = np.zeros((0, 0, 3), np.uint8)
        self._scene = viewer.window._qt_viewer.canvas._scene_canvas
        self._scene.events.draw.connect(self._drawn, position="last")
        self._timer = QTimer()
        self._timer.setTimerType(self._timer.timerType().PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(5)

    def now(self) -> float:
        return time.perf_counter() - self._read

    def _tick(self) -> None:
        now = self.now()
        self.longest = max(self.longest, now - self._last_tick)
        self._last_tick = now

    def _drawn(self, event: object) -> None:
        from vispy import gloo

        # Without this the drawing itself would be paid for by reading back.
        self._scene.context.finish()
        when, begun = self.now(), time.perf_counter()
        self.picture = np.ascontiguousarray(gloo.read_pixels()[..., :3])
        self.frames.append((when, hashlib.blake2b(self.picture.data).digest()))
        self._read += time.perf_counter() - begun

    def settle(self) -> None:
        """Run the event loop until nothing has happened for `QUIET` seconds."""
        begun = quiet = self.now()
        while self.now() - quiet < QUIET:
            before, frames = self.now(), len(self.frames)
            self._app.processEvents()
            time.sleep(0.0005)
            # A long turn of the loop may have left a frame to be drawn in the next.
            loaded = all(layer.loaded for layer in self._viewer.layers)
            if not loaded or len(self.frames) > frames or self.now() - before > 0.05:
                quiet = self.now()
            if self.now() - begun > LONGEST:
                raise SystemExit(f"the picture still changes after {LONGEST:.0f} s")

    def act(self, what: Any) -> tuple[float, float]:
        """Do something; seconds the GUI thread was held at most, and to the whole picture."""
        self.settle()
        self.frames.clear()
        self.longest = 0.0
        begun = self._last_tick = self.now()
        what()
        self.settle()
        if not self.frames:
            return self.longest, 0.0
        last = self.frames[-1][1]
        # The first of the frames at the end that all are the one that stays.
        complete = self.frames[-1][0]
        for when, mark in reversed(self.frames):
            if mark != last:
                break
            complete = when
        return self.longest, complete - begun


def child(kind: str, path: str, height: int, width: int, folder: str) -> Found:
    import napari
    from qtpy.QtWidgets import QApplication

    viewer = napari.Viewer(show=True)
    app = QApplication.instance()
    viewer.window._qt_window.resize(*WINDOW)
    # Their width goes by the layer's name, and the canvas would have what is left.
    viewer.window._qt_viewer.dockLayerList.hide()
    viewer.window._qt_viewer.dockLayerControls.hide()
    watch = Watch(viewer, app)
    watch.settle()
    before = _peak_gb()
    blocked, opened = watch.act(lambda: viewer.open(path, plugin=PLUGINS[kind]))
    layer = viewer.layers[0]
    origin = np.asarray(layer.data_to_world((0, 0)))
    per_pixel = np.asarray(layer.data_to_world((1, 1))) - origin
    canvas = tuple(int(side) for side in viewer.canvas.size)
    moves = path_of((height, width), (canvas[0], canvas[1]))

    def go(move: Move) -> None:
        camera = viewer.scene.camera
        pixel = np.array([move.y * height, move.x * width]) - 0.5
        camera.zoom = move.zoom / per_pixel[0]
        camera.center = tuple(origin + pixel * per_pixel)

    found = []
    for number, move in enumerate(moves):
        held, complete = watch.act(lambda move=move: go(move))
        found.append((move.kind, held, complete))
        np.save(Path(folder) / f"{kind}-{number:02}.npy", watch.picture)
    viewer.close()
    return {
        "opened": opened,
        "opening_blocked": blocked,
        "moves": found,
        "canvas": canvas,
        "before_gb": before,
        "peak_gb": _peak_gb(),
        "load": os.getloadavg()[0],
    }


def _peak_gb() -> float:
    """The most memory that this process has held; peers.py would bring torch along."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _unlike(kind: str, folder: Path, count: int) -> list[float]:
    """Mean absolute difference, 0 to 255, of each move's picture to ours."""
    found = []
    for number in range(count):
        ours, this = (
            np.load(folder / f"{k}-{number:02}.npy").astype(np.int16) for k in (OURS, kind)
        )
        found.append(float(np.abs(this - ours).mean()))
    return found


def _keep(kinds: Sequence[str], folder: Path, count: int, shots: Path) -> None:
    """Every fifth picture as PNG, to be looked at."""
    from PIL import Image

    shots.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        for number in range(0, count, 5):
            picture = np.load(folder / f"{kind}-{number:02}.npy")
            Image.fromarray(picture).save(shots / f"{kind}-{number:02}.png")


def _size(path: Path) -> tuple[int, int]:
    from napari_hspnet.slides import open_slide

    with open_slide(path) as slide:
        return slide.info.levels[0].shape


def _rounds(
    kinds: Sequence[str], pythons: dict[str, str], path: Path, folder: Path, repeats: int
) -> tuple[dict[str, list[Found]], dict[str, str]]:
    """Runs of each reader, and why those without any have none."""
    height, width = _size(path)
    # The readers differ, the disk shall not: the file lies in memory for all.
    path.read_bytes()
    # napari-wsi goes by the name's ending: TIFF to rasterio, SVS to OpenSlide.
    renamed = folder / f"{path.stem}.svs"
    renamed.symlink_to(path.resolve())
    why: dict[str, str] = {}
    for kind in kinds:
        if kind != OURS and not pythons[kind]:
            why[kind] = "not installed here"
    if path.suffix == ".svs" and "wsi-openslide" in kinds:
        why["wsi-openslide"] = "the row above"
    results: dict[str, list[Found]] = {kind: [] for kind in kinds if kind not in why}
    for _ in range(repeats):
        for kind in [kind for kind in kinds if kind not in why]:
            opened = str(renamed if kind == "wsi-openslide" else path)
            size = (str(height), str(width))
            try:
                found: Found = measure(
                    "panning.py", kind, opened, *size, str(folder), python=pythons[kind]
                )
            except SystemExit as failed:
                if kind == OURS:
                    raise
                why[kind] = str(failed).strip().splitlines()[-1].replace(str(path), path.name)
                del results[kind]
                continue
            results[kind].append(found)
    return results, why


def _column(found: Found, column: int) -> list[float]:
    return [move[column] for move in found["moves"]]


def _percentiles(runs: Sequence[Found], column: int) -> str:
    """Median, ninth decile and maximum over the moves, in ms, each the median of runs."""
    values = np.array([_column(found, column) for found in runs]) * 1000
    cuts = np.percentile(values, (50, 90, 100), axis=1)
    return " / ".join(f"{value:.0f}" for value in np.median(cuts, axis=1))


def _ratio(this: Sequence[Found], ours: Sequence[Found], column: int) -> float:
    """All moves together, this over ours of the same round; median over rounds."""
    return statistics.median(
        sum(_column(t, column)) / sum(_column(o, column)) for t, o in zip(this, ours, strict=True)
    )


def _tables(path: Path, kinds: list[str], pythons: dict[str, str], options: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results, why = _rounds(kinds, pythons, path, folder, options.repeats)
        ours = results[OURS]
        count = len(ours[0]["moves"])
        unlike = {kind: _unlike(kind, folder, count) for kind in results}
        # A reader that shows nothing is fast: its times are not comparable.
        for kind, differences in unlike.items():
            if statistics.median(differences) > ANOTHER:
                why[kind] = (
                    "another picture, no time is comparable: "
                    f"{statistics.median(differences):.0f} of 255 unlike ours"
                )
        if options.shots:
            _keep(list(results), folder, count, Path(options.shots) / path.stem)
    height, width = ours[0]["canvas"]
    print(
        f"\n{path.name}, canvas {width} x {height} px, {count} moves, {options.repeats} repeats "
        f"({machine()})\n"
    )
    print(
        "| reader | opened, s (min / median) | GUI thread held by a move, ms (median / p90 / max) "
        "| whole picture after a move, ms (median / p90 / max) | this / ours, held "
        "| this / ours, whole picture | peak memory GB | of it before opening "
        "| picture unlike ours, 0 to 255 (median / max of moves) | load |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind in kinds:
        if kind in why:
            print(f"| {KINDS[kind]} | {why[kind]} | | | | | | | | |")
            continue
        runs = results[kind]
        loads = [found["load"] for found in runs]
        print(
            f"| {KINDS[kind]} | {spread([found['opened'] for found in runs])} "
            f"| {_percentiles(runs, 1)} | {_percentiles(runs, 2)} "
            f"| {_ratio(runs, ours, 1):.2f} | {_ratio(runs, ours, 2):.2f} "
            f"| {max(found['peak_gb'] for found in runs):.2f} | {runs[0]['before_gb']:.2f} "
            f"| {statistics.median(unlike[kind]):.2f} / {max(unlike[kind]):.2f} "
            f"| {min(loads):.1f} to {max(loads):.1f} |"
        )
    sorts = list(dict.fromkeys(move[0] for move in ours[0]["moves"]))
    print(f"\n| whole picture, ms, median | {' | '.join(sorts)} |")
    print("|---|" + "---|" * len(sorts))
    for kind in [kind for kind in results if kind not in why]:
        runs = results[kind]
        cells = [
            statistics.median(m[2] * 1000 for found in runs for m in found["moves"] if m[0] == sort)
            for sort in sorts
        ]
        print(f"| {KINDS[kind]} | {' | '.join(f'{cell:.0f}' for cell in cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=5, metavar=("KIND", "PATH", "HEIGHT", "WIDTH", "FOLDER"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", default=",".join(KINDS), help="ours is always run")
    parser.add_argument(
        "--slides", nargs="*", default=[], help="beside a phantom of 40,000 x 30,000 px"
    )
    parser.add_argument("--no-phantom", action="store_true")
    parser.add_argument("--shots", default="", metavar="FOLDER", help="pictures to look at")
    for name, variable in (
        ("--lazy-openslide", "NAPARI_LAZY_OPENSLIDE_PYTHON"),
        ("--napari-wsi", "NAPARI_WSI_PYTHON"),
    ):
        parser.add_argument(
            name,
            metavar="PYTHON",
            default=os.environ.get(variable, ""),
            help="the interpreter of an environment that holds it",
        )
    options = parser.parse_args()
    if options.child:
        kind, path, height, width, folder = options.child
        print(json.dumps(child(kind, path, int(height), int(width), folder)))
        return
    if os.name == "posix" and "DISPLAY" not in os.environ and shutil.which("xvfb-run"):
        raise SystemExit("no display: run it under tools/with-display.sh")
    pythons = {
        OURS: "",
        "lazy-openslide": options.lazy_openslide,
        "wsi": options.napari_wsi,
        "wsi-openslide": options.napari_wsi,
    }
    kinds = list(dict.fromkeys([OURS, *options.kinds.split(",")]))
    slides = [Path(slide) for slide in options.slides]
    if not options.no_phantom:
        from phantoms import large_phantom

        slides.append(large_phantom(40_000, 30_000))
    print("Pan and zoom in napari, napari's own settings; every picture read back")
    for slide in slides:
        _tables(slide, kinds, pythons, options)


if __name__ == "__main__":
    main()
