"""Sets of label pixels, kept chunk by chunk: regions, shapes, what a tool changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.cases.store import CHUNK
from napari_hspnet.errors import RegionError
from napari_hspnet.slides.grid import LabelGrid
from napari_hspnet.slides.region import PixelBox, Region

__all__ = ["PackedMasks", "Place", "Selection", "around", "chunk_box", "chunks_of"]

Array = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Place = tuple[int, int]
"""(row, column) of a chunk of level 0."""


def chunk_box(place: Place, shape: tuple[int, int]) -> PixelBox:
    """The pixels of a chunk, cut at the grid's end."""
    y, x = place[0] * CHUNK, place[1] * CHUNK
    return PixelBox(y, x, min(y + CHUNK, shape[0]), min(x + CHUNK, shape[1]))


def chunks_of(box: PixelBox) -> Iterator[Place]:
    """The chunks that a box meets, row by row."""
    for row in range(box.y0 // CHUNK, -(-box.y1 // CHUNK)):
        for col in range(box.x0 // CHUNK, -(-box.x1 // CHUNK)):
            yield row, col


@dataclass(frozen=True)
class Selection:
    """Some label pixels of a slide.

    Attributes
    ----------
    shape : tuple of int
        The label grid's.
    masks : Mapping of (int, int) to ndarray of bool
        For each chunk that has some, which of its pixels, (height, width) of the
        chunk, cut at the grid's end. Chunks without any are absent.
    """

    shape: tuple[int, int]
    masks: Mapping[Place, Mask]

    @classmethod
    def of_region(cls, region: Region, grid: LabelGrid) -> Selection:
        """The pixels whose centres lie in a drawn region.

        Raises
        ------
        RegionError
            If it lies outside the slide or holds no pixel.
        """
        masks = {}
        whole = region.box(grid)
        for place in chunks_of(whole):
            box = chunk_box(place, grid.shape)
            mask = region.mask(box, grid)
            if mask is None:
                mask = np.ones((box.height, box.width), bool)
            if mask.any():
                masks[place] = mask
        if not masks:
            raise RegionError(
                "The region holds no label pixel", advice=f"Make it larger than {grid.mpp:g} µm"
            )
        return cls(grid.shape, masks)

    @classmethod
    def of_box(cls, box: PixelBox, shape: tuple[int, int]) -> Selection:
        """All pixels of a box, cut at the grid's border."""
        box = box.intersect(PixelBox(0, 0, *shape))
        masks = {}
        for place in chunks_of(box):
            own = chunk_box(place, shape)
            part = own.intersect(box)
            mask = np.zeros((own.height, own.width), bool)
            mask[part.y0 - own.y0 : part.y1 - own.y0, part.x0 - own.x0 : part.x1 - own.x0] = True
            if mask.any():
                masks[place] = mask
        return cls(shape, masks)

    @property
    def pixels(self) -> int:
        """How many."""
        return int(sum(np.count_nonzero(mask) for mask in self.masks.values()))

    @property
    def box(self) -> PixelBox:
        """The smallest box that holds them; of zero size where there is none."""
        boxes = []
        for (row, col), mask in self.masks.items():
            ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            if ys.size:
                y, x = row * CHUNK, col * CHUNK
                boxes.append((y + ys[0], x + xs[0], y + ys[-1] + 1, x + xs[-1] + 1))
        if not boxes:
            return PixelBox(0, 0, 0, 0)
        sides = np.asarray(boxes)
        low, high = sides[:, :2].min(axis=0), sides[:, 2:].max(axis=0)
        return PixelBox(int(low[0]), int(low[1]), int(high[0]), int(high[1]))

    def read(self, box: PixelBox) -> Mask:
        """Which pixels of a box belong to it; False beyond the grid."""
        out = np.zeros((box.height, box.width), bool)
        inside = box.intersect(PixelBox(0, 0, *self.shape))
        for place in chunks_of(inside):
            mask = self.masks.get(place)
            if mask is None:
                continue
            own = chunk_box(place, self.shape)
            part = own.intersect(inside)
            out[part.y0 - box.y0 : part.y1 - box.y0, part.x0 - box.x0 : part.x1 - box.x0] = mask[
                part.y0 - own.y0 : part.y1 - own.y0, part.x0 - own.x0 : part.x1 - own.x0
            ]
        return out


def around(boxes: Sequence[PixelBox]) -> PixelBox:
    return PixelBox(
        min(box.y0 for box in boxes),
        min(box.x0 for box in boxes),
        max(box.y1 for box in boxes),
        max(box.x1 for box in boxes),
    )


class PackedMasks(Mapping[Place, Mask]):
    """Masks of chunks, each cropped and a bit a pixel; unpacked whenever one is asked for."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._shape = shape
        self._packed: dict[Place, tuple[PixelBox, Array]] = {}

    @property
    def box(self) -> PixelBox:
        """The smallest that holds all of them."""
        return around([box for box, _ in self._packed.values()])

    def pack(self, place: Place, box: PixelBox, mask: Mask) -> None:
        """Enter what lies in one chunk: a box on the slide and its mask."""
        self._packed[place] = box, np.packbits(mask)

    def __getitem__(self, place: Place) -> Mask:
        box, packed = self._packed[place]
        own = chunk_box(place, self._shape)
        bits = np.unpackbits(packed, count=box.height * box.width).view(bool)
        mask = np.zeros((own.height, own.width), bool)
        at = np.s_[box.y0 - own.y0 : box.y1 - own.y0, box.x0 - own.x0 : box.x1 - own.x0]
        mask[at] = bits.reshape(box.height, box.width)
        return mask

    def __iter__(self) -> Iterator[Place]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)
