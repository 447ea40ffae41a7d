"""What an import would change, on the canvas: hatched in the colours of the grades."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet._qt.display import REACH, LabelLevel, outlined
from napari_hspnet._qt.slide_layer import KEY, MICROMETRES
from napari_hspnet._qt.slots import into_napari
from napari_hspnet._qt.style import HALO, LINE, OverlayStyle, overlay_colours
from napari_hspnet.classes import BACKGROUND, CIN3, CLASSES, NORMAL
from napari_hspnet.slides import LabelGrid, LazyLabels

__all__ = ["NAME", "NONE", "STRIPE", "ImportPreview", "PreviewLevel", "preview_colours"]

Array = npt.NDArray[np.uint8]

NAME = "Import preview"
NONE = 5
"""Displayed value of what would become none of the four."""

STRIPE = 30
"""Added to a displayed value on every other stripe of its hatch."""

_HATCH = 5
_STRONG, _WEAK = 0.55, 0.2


class PreviewLevel(LazyLabels):
    """Outlines and a hatch of what pixels would become; 0 where nothing changes.

    Unlike the overlay, which is lines or an even colour, so that the one is not
    taken for the other.

    Parameters
    ----------
    source : LabelLevel
        0 to 4 where that would be, 255 where nothing changes.
    """

    def __init__(self, source: LabelLevel) -> None:
        super().__init__((int(source.shape[0]), int(source.shape[1])))
        self._source = source
        self._table = np.zeros(256, np.uint8)
        self._table[NORMAL : CIN3 + 1] = range(NORMAL, CIN3 + 1)
        self._table[BACKGROUND] = NONE

    def _read(self, y: int, x: int, height: int, width: int) -> Array:
        top, left = max(0, y - REACH), max(0, x - REACH)
        bottom, right = (
            min(self.shape[0], y + height + REACH),
            min(self.shape[1], x + width + REACH),
        )
        values = self._table[np.asarray(self._source[top:bottom, left:right])]
        cut = np.s_[y - top : y - top + height, x - left : x - left + width]
        if not values.any():
            return np.zeros((height, width), np.uint8)
        drawn = outlined(values, True)[cut]
        inside = (drawn > 0) & (drawn <= NONE)
        stripe = (np.arange(y, y + height)[:, None] + np.arange(x, x + width)) // _HATCH % 2
        drawn[inside & (stripe == 1)] += STRIPE
        return drawn


def preview_colours(style: OverlayStyle) -> dict[int | None, Any]:
    """Colour of every displayed value, for a direct colour map."""
    colours: dict[int | None, Any] = dict(overlay_colours(style))
    greys = {NONE: (110, 110, 120)}
    for value, rgb in {
        c.value: style.colours.colours[c.value] for c in CLASSES
    }.items() | greys.items():
        r, g, b = (part / 255 for part in rgb)
        colours[value] = (r, g, b, _WEAK)
        colours[value + STRIPE] = (r, g, b, _STRONG)
    colours[NONE + LINE] = colours[NONE + HALO] = (0.2, 0.2, 0.25, 0.9)
    return colours


class ImportPreview:
    """The layer that shows it; it is no one's to select or change.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    """

    def __init__(self, viewer: Any) -> None:
        self._viewer = viewer
        self._layer: Any = None

    @property
    def layer(self) -> Any:
        """The layer, if it is there."""
        return self._layer

    def show(
        self,
        levels: Sequence[LabelLevel],
        grid: LabelGrid,
        fingerprint: str,
        style: OverlayStyle,
    ) -> None:
        """Show what pixels would become.

        Parameters
        ----------
        levels : sequence of LabelLevel
            0 to 4 where that would be, 255 where nothing changes; laid out as
            `Composite.levels`.
        grid : LabelGrid
            Of the first of them.
        fingerprint : str
            The slide's.
        style : OverlayStyle
            Whose colours are used.
        """
        shown = [PreviewLevel(level) for level in levels]
        data = shown if len(shown) > 1 else np.asarray(shown[0])
        if self._layer is not None and self._layer in self._viewer.layers:
            with into_napari():
                self._layer.data = data
                self._layer.colormap = _direct(style)
                self._layer.visible = True
            return
        layers = self._viewer.layers
        chosen, active = set(layers.selection), layers.selection.active
        with into_napari():
            self._layer = self._viewer.add_labels(
                data,
                name=NAME,
                multiscale=len(shown) > 1,
                scale=(grid.mpp, grid.mpp),
                translate=(grid.mpp / 2, grid.mpp / 2),
                units=MICROMETRES,
                colormap=_direct(style),
                opacity=1.0,
                metadata={KEY: {"kind": "import preview", "of": fingerprint}},
            )
            self._layer.editable = False
            # Adding a layer selects it; the user's own choice comes back.
            layers.selection = {layer for layer in chosen if layer in layers}
            if active in layers:
                layers.selection.active = active

    def set_style(self, style: OverlayStyle) -> None:
        """Use the overlay's colours."""
        if self._layer is not None and self._layer in self._viewer.layers:
            with into_napari():
                self._layer.colormap = _direct(style)

    def hold_hidden(self, hidden: bool) -> None:
        """Hide it while a key is held."""
        if self._layer is not None:
            with into_napari():
                self._layer.visible = not hidden

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._viewer.layers:
            with into_napari():
                self._viewer.layers.remove(layer)


def _direct(style: OverlayStyle) -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict=preview_colours(style))
