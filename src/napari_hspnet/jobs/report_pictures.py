"""The pictures of a report, as files in memory."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_hspnet.cases import CaseSnapshot
from napari_hspnet.cases.review import ReviewRegion
from napari_hspnet.exchange.frame import Frame
from napari_hspnet.exchange.legend import ScaleBar, above, strip
from napari_hspnet.exchange.output import stretch
from napari_hspnet.exchange.overlay import Look, draw, swatch
from napari_hspnet.exchange.picture import fitting_mpp
from napari_hspnet.exchange.report import ReportPicture
from napari_hspnet.exchange.seen import Seen
from napari_hspnet.exchange.sources import CaseLabels
from napari_hspnet.slides import PixelBox, Slide

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Pictures", "swatch_of"]

Report = Callable[[float], None]
Cancel = threading.Event

_OVERVIEW, _REGION = 1400, 700
_LETTERS = 14
_SWATCH = 16
_MARGIN_UM = 40.0


class Pictures:
    """Makes the pictures; none without the slide."""

    def __init__(
        self, snapshot: CaseSnapshot, slide: Slide | None, look: Look, cancel: Cancel | None
    ) -> None:
        self._snapshot, self._slide, self._look, self._cancel = snapshot, slide, look, cancel
        self._labels = CaseLabels(snapshot.composite)
        self.notes: list[str] = []

    def overview(self, progress: Report | None) -> ReportPicture | None:
        """The whole slide."""
        slide = self._slide
        if slide is None:
            return None
        grid = self._snapshot.grid
        whole = PixelBox(0, 0, *grid.shape)
        frame = Frame.around(whole, grid, fitting_mpp(slide, grid, whole, _OVERVIEW))
        seen = Seen.of(self._labels, frame, whole, None, stretch(progress, 0.0, 0.5), self._cancel)
        drawn = draw(slide, seen, self._look, stretch(progress, 0.5, 1.0), self._cancel)
        if seen.enlarged:
            self._note("In the picture of the slide, foci smaller than a pixel are drawn larger")
        self._whole(drawn.whole)
        return _jpeg(_with_bar(drawn.image, frame), "The whole slide with its overlay")

    def region(self, region: ReviewRegion) -> tuple[ReportPicture | None, ReportPicture | None]:
        """A review region and what is around it, without and with the overlay."""
        slide, grid = self._slide, self._snapshot.grid
        if slide is None:
            return None, None
        around = _around(region.box, grid.shape, round(_MARGIN_UM / grid.mpp))
        frame = Frame.around(around, grid, fitting_mpp(slide, grid, around, _REGION))
        selection = self._snapshot.selection(region.id)
        seen = Seen.of(self._labels, frame, around, selection.read, None, self._cancel)
        pictures = []
        for look, says in ((None, "the slide alone"), (self._look, "with the overlay")):
            drawn = draw(slide, seen, look, None, self._cancel)
            self._whole(drawn.whole)
            image = _with_bar(drawn.image, frame)
            pictures.append(_jpeg(image, f"Region {region.id}, {says}"))
        return pictures[0], pictures[1]

    def _whole(self, whole: bool) -> None:
        if not whole:
            self._note("Grey squares are parts of the slide that cannot be read")

    def _note(self, said: str) -> None:
        if said not in self.notes:
            self.notes.append(said)


def _around(box: PixelBox, shape: tuple[int, int], margin: int) -> PixelBox:
    wider = PixelBox(box.y0 - margin, box.x0 - margin, box.y1 + margin, box.x1 + margin)
    return wider.intersect(PixelBox(0, 0, *shape))


def _with_bar(image: Image, frame: Frame) -> Image:
    bar = ScaleBar.of(frame.width, frame.mpp)
    return above(image, strip(frame.width, _LETTERS, [], [], bar))


def _jpeg(image: Image, says: str) -> ReportPicture:
    # Without chroma subsampling, which would smear thin lines.
    return _picture(image, "JPEG", says, quality=88, subsampling=0)


def swatch_of(value: int, look: Look) -> ReportPicture:
    from PIL import Image as Images

    return _picture(Images.fromarray(swatch(value, look, _SWATCH)), "PNG", "")


def _picture(image: Image, kind: str, says: str, **how: Any) -> ReportPicture:
    held = io.BytesIO()
    image.save(held, format=kind, **how)
    return ReportPicture(held.getvalue(), f"image/{kind.lower()}", image.width, image.height, says)
