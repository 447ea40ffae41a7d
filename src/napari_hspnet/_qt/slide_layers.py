"""The layers that belong to one slide: overlay, what was not analysed, regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from napari_hspnet._qt.display import change_levels, overlay_levels, veil_levels
from napari_hspnet._qt.session import SlideSession
from napari_hspnet._qt.slide_layer import KEY, MICROMETRES, mark
from napari_hspnet._qt.slots import into_napari
from napari_hspnet._qt.style import (
    OverlayStyle,
    change_colours,
    overlay_colours,
    veil_colours,
)
from napari_hspnet._qt.words import elided

__all__ = ["SlideLayers"]


class SlideLayers:
    """One slide's layers in the viewer, made when first needed.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    slide_layer : napari.layers.Image
        The slide.
    session : SlideSession
        What it shows.
    """

    def __init__(self, viewer: Any, slide_layer: Any, session: SlideSession) -> None:
        self.slide_layer = slide_layer
        self.session = session
        self._viewer = viewer
        self._overlay: Any = None
        self._veil: Any = None
        self._changes: Any = None
        self._regions: Any = None
        self._style = OverlayStyle()
        self._active = True
        self._held = False
        self._veil_needed = True

    @property
    def overlay(self) -> Any:
        """The overlay's layer, if it is there."""
        return self._overlay

    @property
    def veil(self) -> Any:
        """The layer of what was not analysed, if it is there."""
        return self._veil

    @property
    def regions(self) -> Any:
        """The layer of drawn regions, if it is there."""
        return self._regions

    def owns(self, layer: Any) -> bool:
        """Whether a layer is one of this slide's."""
        return any(layer is own for own in self._all())

    def forget(self, layer: Any) -> None:
        """Take note that the user removed a layer."""
        if layer is self._overlay:
            self._overlay = None
        elif layer is self._veil:
            self._veil = None
        elif layer is self._changes:
            self._changes = None
        elif layer is self._regions:
            self._regions = None

    def adopt_regions(self, layer: Any) -> None:
        """Take over a layer of regions that was there before the dock."""
        self._regions = layer

    def show(self, style: OverlayStyle, changed: bool = True) -> None:
        """Bring overlay and veil up to date.

        Parameters
        ----------
        style : OverlayStyle
            How.
        changed : bool
            Whether the labels themselves may have changed.
        """
        before, self._style = self._style, style
        if self.session.composite is None:
            self.remove_results()
            return
        # What is hidden is brought up to date when it is shown.
        fresh_overlay = self._overlay is None
        if fresh_overlay:
            self._add_results()
        pixels = changed or not style.pixels_equal(before)
        with into_napari():
            if not fresh_overlay:
                if pixels and style.visible and self._active:
                    self._overlay.data = _shown(
                        overlay_levels(self.session.composite.levels, style)
                    )
                if changed and style.veil and self._active and self._veil is not None:
                    self._veil.data = _shown(veil_levels(self.session.composite.levels))
                if changed and style.changes and self._active and self._changes is not None:
                    self._changes.data = _shown(change_levels(self.session.composite))
                if style.palette != before.palette:
                    self._overlay.colormap = _direct(overlay_colours(style))
            if self._overlay.opacity != style.opacity:
                self._overlay.opacity = style.opacity
        if style.changes and self._changes is None:
            self._add_changes()
        self._show_or_hide()

    def hold_hidden(self, hidden: bool) -> None:
        """Hide overlay and veil while a key is held."""
        self._held = hidden
        self._show_or_hide()

    def need_veil(self, needed: bool) -> None:
        """Say whether anything in view was not analysed; drawing nothing costs time too."""
        if needed != self._veil_needed:
            self._veil_needed = needed
            self._show_or_hide()

    def set_active(self, active: bool) -> None:
        """Show this slide's layers, or hide them because another slide is meant."""
        if active == self._active:
            return
        self._active = active
        with into_napari():
            self.slide_layer.visible = active
            if self._regions is not None:
                self._regions.visible = active
        if active:
            self.show(self._style)
        else:
            self._show_or_hide()

    def start_drawing(self) -> None:
        """Make the layer of regions active, ready for a rectangle."""
        with into_napari():
            if self._regions is None:
                self._regions = self._viewer.add_shapes(
                    None,
                    ndim=2,
                    name=f"Regions · {elided(self._name, 24)}",
                    scale=(1.0, 1.0),
                    units=MICROMETRES,
                    edge_color="#ffb000",
                    face_color=[1.0, 0.69, 0.0, 0.02],
                    edge_width=self._line(),
                    metadata={KEY: {"kind": "regions", "of": self.session.slide.info.fingerprint}},
                )
            self._regions.visible = True
            self._viewer.layers.selection.active = self._regions
            self._regions.current_edge_width = self._line()
            self._regions.mode = "add_rectangle"

    def stop_drawing(self) -> None:
        """Leave the drawing tool, so that the mouse pans again."""
        if self._regions is not None:
            with into_napari():
                self._regions.mode = "pan_zoom"

    def remove_results(self) -> None:
        """Take overlay and veil out of the viewer."""
        for layer in (self._overlay, self._veil, self._changes):
            if layer is not None and layer in self._viewer.layers:
                with into_napari():
                    self._viewer.layers.remove(layer)
        self._overlay = self._veil = self._changes = None

    @property
    def _name(self) -> str:
        return self.session.slide.info.path.stem

    def _all(self) -> Iterator[Any]:
        for layer in (
            self.slide_layer,
            self._overlay,
            self._veil,
            self._changes,
            self._regions,
        ):
            if layer is not None:
                yield layer

    def _line(self) -> float:
        """Two screen pixels in µm, so that an outline is seen at any zoom."""
        return float(2.0 / max(self._viewer.scene.camera.zoom, 1e-6))

    def _add_results(self) -> None:
        assert self.session.composite is not None
        levels = self.session.composite.levels
        with _keeping_selection(self._viewer), into_napari():
            self._veil = self._add(
                veil_levels(levels),
                "veil",
                f"Not analysed · {elided(self._name, 20)}",
                veil_colours(),
                self._style.veil,
            )
            self._overlay = self._add(
                overlay_levels(levels, self._style),
                "overlay",
                f"Overlay · {elided(self._name, 24)}",
                overlay_colours(self._style),
                self._style.visible,
            )
            self._overlay.opacity = self._style.opacity
            self._sort(self._veil, above=self.slide_layer)
            self._sort(self._overlay, above=self._veil)

    def _add_changes(self) -> None:
        assert self.session.composite is not None
        with _keeping_selection(self._viewer), into_napari():
            self._changes = self._add(
                change_levels(self.session.composite),
                "changes",
                f"Changed · {elided(self._name, 24)}",
                change_colours(),
                True,
            )
            self._sort(self._changes, above=self._overlay)

    def _add(self, levels: Sequence[Any], kind: str, name: str, colours: Any, visible: bool) -> Any:
        session = self.session
        assert session.composite is not None
        assert session.case is not None
        mpp = session.composite.grid.mpp
        layer = self._viewer.add_labels(
            _shown(levels),
            name=name,
            colormap=_direct(colours),
            opacity=1.0,
            visible=self._wanted(visible),
            metadata=mark(kind, session.slide.info.fingerprint, session.case.folder),
            scale=(mpp, mpp),
            translate=(mpp / 2, mpp / 2),
            units=MICROMETRES,
            multiscale=len(levels) > 1,
        )
        layer.editable = False
        return layer

    def _sort(self, layer: Any, above: Any) -> None:
        """Put a new layer right above another one."""
        layers = self._viewer.layers
        place = layers.index(above) + 1
        at = layers.index(layer)
        if at != place:
            layers.move(at, place)

    def _wanted(self, visible: bool) -> bool:
        return visible and self._active and not self._held

    def _show_or_hide(self) -> None:
        for layer, visible in (
            (self._overlay, self._style.visible),
            (self._veil, self._style.veil and self._veil_needed),
            (self._changes, self._style.changes),
        ):
            if layer is not None and layer.visible != self._wanted(visible):
                with into_napari():
                    layer.visible = self._wanted(visible)


def _shown(levels: Sequence[Any]) -> Any:
    """What napari takes: it does not know a list of one level for a pyramid."""
    return list(levels) if len(levels) > 1 else np.asarray(levels[0])


def _direct(colours: dict[int | None, Any]) -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict=colours)


@contextmanager
def _keeping_selection(viewer: Any) -> Iterator[None]:
    """Adding a layer selects it; the user's own choice comes back."""
    chosen, active = set(viewer.layers.selection), viewer.layers.selection.active
    yield
    viewer.layers.selection = {layer for layer in chosen if layer in viewer.layers}
    if active in viewer.layers:
        viewer.layers.selection.active = active
