"""A ruler: lines that say how long they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from napari_hspnet._qt.slide_layer import KEY, MICROMETRES
from napari_hspnet._qt.slots import into_napari, slot
from napari_hspnet._qt.words import length

__all__ = ["Ruler"]


class Ruler:
    """Draws lines in a layer of its own, each with its length beside it.

    Parameters
    ----------
    viewer : napari.Viewer
        The window; its world units are µm.
    show : callable (bool) -> None
        Told whether the mouse draws lines.
    """

    def __init__(self, viewer: Any, show: Callable[[bool], None]) -> None:
        self._viewer, self._show = viewer, show
        self._layer: Any = None
        self._before: Any = None
        viewer.layers.selection.events.active.connect(self._selection_changed)

    @property
    def layer(self) -> Any:
        """The lines, if some were drawn."""
        return self._layer if self._layer in self._viewer.layers else None

    @property
    def texts(self) -> list[str]:
        """What stands beside the lines."""
        layer = self.layer
        return [] if layer is None else [str(said) for said in layer.features["length"]]

    @slot
    def set_on(self, on: bool) -> None:
        """Let the mouse draw lines, or let it move the slide again."""
        if on:
            self._start()
        elif self.layer is not None:
            with into_napari():
                self._layer.mode = "pan_zoom"
                if self._before in self._viewer.layers:
                    self._viewer.layers.selection.active = self._before

    def _start(self) -> None:
        self._before = self._viewer.layers.selection.active
        with into_napari():
            if self.layer is None:
                self._layer = self._viewer.add_shapes(
                    None,
                    ndim=2,
                    name="Ruler",
                    scale=(1.0, 1.0),
                    units=MICROMETRES,
                    edge_color="#00e5ff",
                    features={"length": np.empty(0, dtype=object)},
                    text={
                        "string": "{length}",
                        "color": "#00e5ff",
                        "size": 12,
                        "anchor": "upper_left",
                        "translation": (0.0, 4.0),
                    },
                    metadata={KEY: {"kind": "ruler"}},
                )
                self._layer.events.data.connect(self._measure)
            self._layer.current_edge_width = 2.0 / max(self._viewer.scene.camera.zoom, 1e-6)
            self._viewer.layers.selection.active = self._layer
            self._layer.mode = "add_line"
        # While it was being added, another one was active.
        self._show(True)

    @slot
    def _measure(self, event: Any = None) -> None:
        layer = self.layer
        if layer is None:
            return
        said = [length(_extent(layer, line)) for line in layer.data]
        if said != self.texts:
            with into_napari():
                layer.features = {"length": np.asarray(said, dtype=object)}

    @slot
    def _selection_changed(self, event: Any = None) -> None:
        self._show(self.layer is not None and event.value is self._layer)

    def close(self, viewer_stays: bool) -> None:
        """Let go of the viewer; take the lines out of it if it stays."""
        self._viewer.layers.selection.events.active.disconnect(self._selection_changed)
        if viewer_stays and self.layer is not None:
            with into_napari():
                self._viewer.layers.remove(self._layer)


def _extent(layer: Any, line: Any) -> float:
    points = np.asarray([layer.data_to_world(vertex) for vertex in np.asarray(line, float)])
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
