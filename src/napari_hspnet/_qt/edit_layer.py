"""The edit view: the piece of the overlay that one paints in, and what changed in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet._qt.slide_layer import KEY, MICROMETRES
from napari_hspnet._qt.slots import into_napari
from napari_hspnet._qt.words import elided
from napari_hspnet.cases import UNTOUCHED, Patch
from napari_hspnet.classes import BACKGROUND, CIN3, CLASSES, Palette
from napari_hspnet.slides import LabelGrid, PixelBox

__all__ = ["LARGEST", "USUAL", "EditView", "edit_box"]

Array = npt.NDArray[np.uint8]

USUAL, LARGEST = 2048, 4096
"""Side of the edit view in label pixels, and where a wide view needs more."""

_FILL = 0.42


def edit_box(seen: PixelBox, grid: LabelGrid) -> PixelBox | None:
    """Where the edit view should lie so that it covers what is seen.

    Parameters
    ----------
    seen : PixelBox
        What the canvas shows of the slide, in label pixels.
    grid : LabelGrid
        The slide's.

    Returns
    -------
    PixelBox or None
        Centred on what is seen, inside the grid; None where too much is seen.
    """
    need = max(seen.height, seen.width)
    if need > LARGEST:
        return None
    side = USUAL if need <= USUAL else LARGEST
    starts = []
    for low, high, size in (
        (seen.y0, seen.y1, grid.shape[0]),
        (seen.x0, seen.x1, grid.shape[1]),
    ):
        starts.append(min(max(0, (low + high) // 2 - side // 2), max(0, size - side)))
    y, x = starts
    return PixelBox(y, x, min(y + side, grid.shape[0]), min(x + side, grid.shape[1]))


class EditView:
    """One layer that is moved along; it lives in memory, as napari's painting needs.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    grid : LabelGrid
        The slide's.
    name, fingerprint : str
        The slide.
    palette : Palette
        Colours of the grades.
    """

    def __init__(
        self, viewer: Any, grid: LabelGrid, name: str, fingerprint: str, palette: Palette
    ) -> None:
        self._viewer, self._grid = viewer, grid
        self.box = PixelBox(0, 0, 0, 0)
        self._palette = palette
        side = [min(USUAL, size) for size in grid.shape]
        self._saved: Array = np.full(side, UNTOUCHED, np.uint8)
        with into_napari():
            self.layer = viewer.add_labels(
                self._saved.copy(),
                name=f"Correcting · {elided(name, 20)}",
                scale=(grid.mpp, grid.mpp),
                units=MICROMETRES,
                colormap=_colours(palette),
                opacity=1.0,
                blending="translucent",
                visible=False,
                metadata={KEY: {"kind": "edit", "of": fingerprint}},
            )

    def set_palette(self, palette: Palette) -> None:
        """Take other colours."""
        if palette is not self._palette:
            self._palette = palette
            with into_napari():
                self.layer.colormap = _colours(palette)

    def load(self, box: PixelBox, values: Array) -> None:
        """Show another box; what was changed in the former one must have been taken."""
        self._saved = values.copy()
        mode = str(self.layer.mode)
        with into_napari():
            if self.layer.data.shape == values.shape:
                np.copyto(self.layer.data, values)
            else:
                self.layer.data = values.copy()
            if box != self.box:
                mpp = self._grid.mpp
                self.layer.translate = ((box.y0 + 0.5) * mpp, (box.x0 + 0.5) * mpp)
            # napari's own undo would put pixels of the former box here.
            self.layer.editable = False
            self.layer.editable = True
            self.layer.mode = mode
            self.layer.refresh(extent=False, thumbnail=False)
        self.box = box

    def take_changes(self) -> tuple[Patch | None, int]:
        """What was changed since the last time, by whatever tool.

        Returns
        -------
        (Patch or None, int)
            The change, and how many pixels got a value that no grade has; these
            are as before again.
        """
        data = self.layer.data
        if data.shape != self._saved.shape or self.box.height == 0:
            return None, 0
        changed = data != self._saved
        ys = np.flatnonzero(changed.any(axis=1))
        if not ys.size:
            return None, 0
        y0, y1 = int(ys[0]), int(ys[-1]) + 1
        xs = np.flatnonzero(changed[y0:y1].any(axis=0))
        at = np.s_[y0:y1, int(xs[0]) : int(xs[-1]) + 1]
        where, values = changed[at], np.asarray(data[at])
        wrong = where & (values > CIN3) & (values != UNTOUCHED)
        rejected = int(np.count_nonzero(wrong))
        if rejected:
            data[at] = np.where(wrong, self._saved[at], values)
            with into_napari():
                self.layer.refresh(extent=False, thumbnail=False)
            where = where & ~wrong
        values = np.asarray(data[at]).astype(np.uint8)
        self._saved[at] = values
        if not where.any():
            return None, rejected
        return Patch(self.box.y0 + y0, self.box.x0 + int(xs[0]), values, where), rejected

    def put(self, box: PixelBox, values: Array) -> None:
        """Bring a part up to date, but for what has just been painted there."""
        part = box.intersect(self.box)
        if part.height == 0 or part.width == 0:
            return
        values = values[part.y0 - box.y0 : part.y1 - box.y0, part.x0 - box.x0 : part.x1 - box.x0]
        at = np.s_[
            part.y0 - self.box.y0 : part.y1 - self.box.y0,
            part.x0 - self.box.x0 : part.x1 - self.box.x0,
        ]
        data = self.layer.data
        untouched = data[at] == self._saved[at]
        if (values == self._saved[at])[untouched].all():
            return
        data[at] = np.where(untouched, values, data[at])
        self._saved[at] = np.where(untouched, values, self._saved[at])
        with into_napari():
            self.layer.refresh(extent=False, thumbnail=False)

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        if self.layer in self._viewer.layers:
            with into_napari():
                self._viewer.layers.remove(self.layer)


def _colours(palette: Palette) -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    clear = (0.0, 0.0, 0.0, 0.0)
    colours: dict[int | None, Any] = {None: clear, BACKGROUND: clear}
    for c in CLASSES:
        rgb = palette.colours[c.value]
        colours[c.value] = (rgb[0] / 255, rgb[1] / 255, rgb[2] / 255, _FILL)
    return DirectLabelColormap(color_dict=colours)
