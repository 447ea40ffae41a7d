"""The chosen region on the canvas: an outline beside it, as thin at any zoom."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject

from napari_hspnet._qt.slide_layer import KEY, MICROMETRES
from napari_hspnet._qt.slides_control import OpenSlide, SlidesControl
from napari_hspnet._qt.slots import into_napari, slot
from napari_hspnet._qt.work import Jobs
from napari_hspnet.cases import ReviewRegion, Selection
from napari_hspnet.cases.sampling import level_count, padded_shape
from napari_hspnet.cases.selection import chunk_box
from napari_hspnet.slides import LabelGrid, LazyLabels, PixelBox

__all__ = ["MarkControl", "MarkLevel", "RegionMark", "RegionPicture"]

Array = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_FINER = 2
"""Levels finer than the labels, so that the line stays thin at x40."""

_MOST_PIXELS = 32 << 20
_REACH = 6
_DASH, _STRIPE = 9, 18
DARK, LIGHT, RIM, LOCKED = 1, 2, 3, 4


class RegionPicture:
    """A region's pixels at every level, any of them counting for a coarser one.

    However small it is, something of it is left on the coarsest level. Made in a
    worker.

    Parameters
    ----------
    selection : Selection
        The region.
    grid : LabelGrid
        The slide's.
    """

    def __init__(self, selection: Selection, grid: LabelGrid) -> None:
        self.grid = grid
        self.box = selection.box
        self.finest = 0
        while (self.box.height >> self.finest) * (self.box.width >> self.finest) > _MOST_PIXELS:
            self.finest += 1
        self._masks = {self.finest: _gathered(selection, self.box, self.finest)}
        for level in range(self.finest + 1, level_count(grid.shape)):
            y, x, mask = self._masks[level - 1]
            self._masks[level] = (y >> 1, x >> 1, _any_of_four(mask, y & 1, x & 1))

    def read(self, level: int, y: int, x: int, height: int, width: int) -> Mask | None:
        """A box of a level, also of a finer one than there is; None where it is empty."""
        known = max(level, self.finest)
        top, left, mask = self._masks[known]
        up = known - level
        rows = (np.arange(y, y + height) >> up) - top
        columns = (np.arange(x, x + width) >> up) - left
        ys = (rows >= 0) & (rows < mask.shape[0])
        xs = (columns >= 0) & (columns < mask.shape[1])
        if not ys.any() or not xs.any():
            return None
        out = np.zeros((height, width), bool)
        out[np.ix_(ys, xs)] = mask[np.ix_(rows[ys], columns[xs])]
        return out if out.any() else None


def _gathered(selection: Selection, box: PixelBox, level: int) -> tuple[int, int, Mask]:
    """First row and column on a level, and the pixels of which any is the region's."""
    y, x = box.y0 >> level, box.x0 >> level
    out = np.zeros((-(-box.y1 >> level) - y, -(-box.x1 >> level) - x), bool)
    for place, mask in selection.masks.items():
        own = chunk_box(place, selection.shape)
        for _ in range(level):
            mask = _any_of_four(mask, 0, 0)
        top, left = (own.y0 >> level) - y, (own.x0 >> level) - x
        here = out[max(0, top) : top + mask.shape[0], max(0, left) : left + mask.shape[1]]
        here |= mask[max(0, -top) :, max(0, -left) :][: here.shape[0], : here.shape[1]]
    return y, x, out


def _any_of_four(mask: Mask, top: int, left: int) -> Mask:
    """The next coarser level, of a mask that begins in the middle of a pixel or not."""
    height, width = mask.shape
    padded = np.zeros((2 * math.ceil((height + top) / 2), 2 * math.ceil((width + left) / 2)), bool)
    padded[top : top + height, left : left + width] = mask
    return np.asarray(padded.reshape(padded.shape[0] // 2, 2, -1, 2).any(axis=(1, 3)))


class MarkLevel(LazyLabels):
    """One displayed level: a dashed line around the region, a plain one if it is locked."""

    def __init__(self, picture: RegionPicture, level: int, locked: bool) -> None:
        height, width = padded_shape(picture.grid.shape, max(level, 0))
        finer = 1 << max(0, -level)
        super().__init__((height * finer, width * finer))
        self._picture, self._level, self._locked = picture, level, locked

    def _read(self, y: int, x: int, height: int, width: int) -> Array:
        out = np.zeros((height, width), np.uint8)
        around = self._picture.read(
            self._level, y - _REACH, x - _REACH, height + 2 * _REACH, width + 2 * _REACH
        )
        if around is None:
            return out
        cut = np.s_[_REACH:-_REACH, _REACH:-_REACH]
        rows, columns = np.arange(y, y + height)[:, None], np.arange(x, x + width)
        inside = around[cut]
        if self._locked:
            out[inside & ((rows + columns) % _STRIPE == 0)] = LOCKED
        taken = around
        for step in range(_REACH):
            grown = _grown(taken, step)
            ring = (grown & ~taken)[cut]
            if step in (0, 4):
                out[ring] = RIM
            elif step < 4:
                dark = self._locked or (rows // _DASH + columns // _DASH) % 2 == 0
                out[ring] = DARK
                if not self._locked:
                    out[ring & ~dark] = LIGHT
            taken = grown
        return out


def _grown(mask: Mask, step: int) -> Mask:
    """A pixel larger: along rows and columns, every other time along diagonals too."""
    down = mask.copy()
    down[1:] |= mask[:-1]
    down[:-1] |= mask[1:]
    out = down.copy()
    source = down if step % 2 else mask
    out[:, 1:] |= source[:, :-1]
    out[:, :-1] |= source[:, 1:]
    return out


class RegionMark:
    """The layer that shows which region is chosen; it is no one's to select or change.

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

    def show(self, picture: RegionPicture, locked: bool, fingerprint: str, name: str) -> None:
        """Mark a region."""
        levels = [
            MarkLevel(picture, level, locked)
            for level in range(-_FINER, level_count(picture.grid.shape))
        ]
        finest = picture.grid.mpp / (1 << _FINER)
        if self._layer is None or self._layer not in self._viewer.layers:
            self._add(levels, finest, fingerprint, name)
            return
        with into_napari():
            self._layer.data = levels
            self._layer.scale, self._layer.translate = (finest,) * 2, (finest / 2,) * 2
            self._layer.metadata = {KEY: {"kind": "mark", "of": fingerprint}}
            self._layer.name = name
            self._layer.visible = True

    def hide(self) -> None:
        """Nothing is chosen."""
        if self._layer is not None and self._layer.visible:
            with into_napari():
                self._layer.visible = False

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._viewer.layers:
            with into_napari():
                self._viewer.layers.remove(layer)

    def _add(self, levels: list[MarkLevel], scale: float, fingerprint: str, name: str) -> None:
        from napari.utils.colormaps import DirectLabelColormap

        clear = (0.0, 0.0, 0.0, 0.0)
        colours: dict[int | None, Any] = {
            None: clear,
            0: clear,
            DARK: (0.03, 0.03, 0.06, 1.0),
            LIGHT: (1.0, 1.0, 1.0, 1.0),
            RIM: (1.0, 1.0, 1.0, 0.55),
            LOCKED: (0.03, 0.03, 0.06, 0.45),
        }
        layers = self._viewer.layers
        chosen, active = set(layers.selection), layers.selection.active
        with into_napari():
            self._layer = self._viewer.add_labels(
                levels,
                name=name,
                multiscale=True,
                scale=(scale, scale),
                translate=(scale / 2, scale / 2),
                units=MICROMETRES,
                colormap=DirectLabelColormap(color_dict=colours),
                opacity=1.0,
                metadata={KEY: {"kind": "mark", "of": fingerprint}},
            )
            self._layer.editable = False
            # Adding a layer selects it; the user's own choice comes back.
            layers.selection = {layer for layer in chosen if layer in layers}
            if active in layers:
                layers.selection.active = active


class MarkControl(QObject):
    """Marks the chosen region of the active slide, once a worker has read its pixels."""

    def __init__(self, viewer: Any, jobs: Jobs, slides: SlidesControl, parent: QObject) -> None:
        super().__init__(parent)
        self.mark = RegionMark(viewer)
        self._jobs, self._slides = jobs, slides
        self._region: ReviewRegion | None = None
        self._of: tuple[int, int] | None = None
        self._picture: RegionPicture | None = None
        slides.removed.connect(self._slide_removed)

    def follow(self, region: ReviewRegion | None) -> None:
        """Mark this region; none with None."""
        entry, before = self._slides.active, self._region
        case = None if entry is None else entry.session.case
        grid = None if entry is None else entry.session.grid
        self._region = region
        if entry is None or region is None or case is None or grid is None:
            self._jobs.cancel("mark")
            self._of = self._picture = None
            self.mark.hide()
            return
        if self._of == (entry.number, region.id):
            if before is None or before.locked != region.locked:
                self._show(entry)
            return
        self._of, self._picture = (entry.number, region.id), None
        number = region.id

        def done(picture: RegionPicture) -> None:
            self._picture = picture
            self._show(entry)

        self._jobs.start(
            "mark",
            lambda job: RegionPicture(case.review.selection(number), grid),
            done=done,
            # The list is about to say that it is gone.
            error=lambda error: self.mark.hide(),
        )

    def _show(self, entry: OpenSlide) -> None:
        region = self._region
        if self._picture is not None and region is not None:
            info = entry.session.slide.info
            self.mark.show(self._picture, region.locked, info.fingerprint, f"Region {region.id}")

    @slot
    def _slide_removed(self, entry: OpenSlide) -> None:
        if self._of is not None and self._of[0] == entry.number:
            self._jobs.cancel("mark")
            self._of = self._picture = self._region = None
            self.mark.remove()

    def close(self, viewer_stays: bool) -> None:
        """Take it off the canvas, if that stays."""
        if viewer_stays:
            self.mark.remove()
