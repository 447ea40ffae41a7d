"""Reviewed regions of a case, read from slide and case as they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import numpy as np

from napari_hspnet.cases import (
    REVIEWED,
    SIGNED_OFF,
    Case,
    CaseSnapshot,
    Composite,
    ReviewRegion,
    Selection,
)
from napari_hspnet.classes import CIN3
from napari_hspnet.errors import InputError
from napari_hspnet.slides import PixelBox, Slide
from napari_hspnet.training.data.images import Array, ImageSet, LabelledImage, check_box
from napari_hspnet.training.losses import IGNORE

__all__ = ["CaseRegions", "RegionImage", "open_case_regions"]


@dataclass(frozen=True)
class RegionImage:
    """The box of a review region, at the case's label grid.

    Labels are the composite's inside the region, 255 outside it and where nothing
    was analysed. Made by `open_case_regions`; usable until that is closed.

    Attributes
    ----------
    name, patient : str
        See `LabelledImage`.
    region : ReviewRegion
    mpp : float
        µm per pixel.
    """

    name: str
    patient: str
    region: ReviewRegion
    mpp: float
    _slide: Slide = field(repr=False, compare=False)
    _labels: Composite = field(repr=False, compare=False)
    _inside: Selection = field(repr=False, compare=False)

    @property
    def height(self) -> int:
        """Label pixels."""
        return self.region.box.height

    @property
    def width(self) -> int:
        """Label pixels."""
        return self.region.box.width

    def read(self, y: int, x: int, height: int, width: int) -> tuple[Array, Array]:
        """See `LabelledImage.read`."""
        box = self._box(y, x, height, width)
        rgb = self._slide.read_grid(box.y0, box.x0, height, width, self.mpp)
        return rgb, self.read_labels(y, x, height, width)

    def read_labels(self, y: int, x: int, height: int, width: int) -> Array:
        """See `LabelledImage.read_labels`."""
        box = self._box(y, x, height, width)
        labels = self._labels.read(box.y0, box.x0, height, width)
        labels[(labels > CIN3) | ~self._inside.read(box)] = np.uint8(IGNORE)
        return labels

    def _box(self, y: int, x: int, height: int, width: int) -> PixelBox:
        check_box(self, y, x, height, width)
        y0, x0 = self.region.box.y0 + y, self.region.box.x0 + x
        return PixelBox(y0, x0, y0 + height, x0 + width)


@dataclass(frozen=True)
class CaseRegions(ImageSet):
    """Regions of an open case; close it, or use it in a ``with`` statement.

    The slide is the caller's to close, later.
    """

    case: Case | None = field(default=None, repr=False, compare=False)

    def close(self) -> None:
        """Close the case; its images cannot be read any more."""
        if self.case is not None:
            self.case.close()

    def __enter__(self) -> CaseRegions:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_case_regions(
    case_folder: Path | str,
    slide: Slide,
    only_reviewed: bool = True,
    *,
    regions: Sequence[int] | None = None,
    patient: str | None = None,
) -> CaseRegions:
    """Open the review regions of a case as they are now; another process may go on with it.

    Parameters
    ----------
    case_folder : path-like
        Opened to look only.
    slide : Slide
        The case's.
    only_reviewed : bool
        Whether regions that are neither reviewed nor signed off are left out.
    regions : sequence of int, optional
        Exactly these, whatever their state and tag. Without, those with a tag are
        left out.
    patient : str, optional
        Whose slide it is; the slide's fingerprint without, so that slides of one
        patient are not known as such.

    Raises
    ------
    InputError
        If there is no such region, or none at all.
    CaseMismatchError
        If the slide is not the case's.
    CaseError
        If the case is damaged, or none.
    """
    folder = Path(case_folder)
    case = Case.open(folder)
    try:
        snapshot = CaseSnapshot.of(case)
        snapshot.slide.refuse_other(slide.info)
        chosen, notes = _chosen(snapshot, only_reviewed, regions, folder)
        fingerprint = snapshot.slide.fingerprint
        if patient is None:
            notes = (*notes, "No patient was named, so the slide counts as one of its own")
        images: tuple[LabelledImage, ...] = tuple(
            RegionImage(
                f"{fingerprint[:12]}-r{region.id:05d}",
                fingerprint if patient is None else patient,
                region,
                snapshot.grid.mpp,
                slide,
                snapshot.composite,
                snapshot.selection(region.id),
            )
            for region in chosen
        )
    except BaseException:
        case.close()
        raise
    return CaseRegions(images, notes, case)


def _chosen(
    snapshot: CaseSnapshot, only_reviewed: bool, numbers: Sequence[int] | None, folder: Path
) -> tuple[tuple[ReviewRegion, ...], tuple[str, ...]]:
    if numbers is not None:
        chosen, left_out = snapshot.named(numbers), 0
    else:
        states = (REVIEWED, SIGNED_OFF)
        done = [r for r in snapshot.regions if not only_reviewed or r.state in states]
        chosen = tuple(region for region in done if not region.tag)
        left_out = len(done) - len(chosen)
    if not chosen:
        what = "is reviewed or signed off" if only_reviewed else "is there"
        raise InputError(
            f"No region without a tag {what}, so there is nothing to train on",
            advice="Review some regions, or name those to take",
            path=folder,
        )
    return chosen, (f"Regions with a tag that are left out: {left_out}",) if left_out else ()
