"""What a phantom slide shall be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_hspnet.errors import InputError
from napari_hspnet.phantom.domains import domain
from napari_hspnet.phantom.tissue import check_grades
from napari_hspnet.slides.grid import LABEL_MPP

__all__ = ["MAX_SIDE", "PhantomSpec", "sample_spec"]

MAX_SIDE = 200_000


@dataclass(frozen=True)
class PhantomSpec:
    """A phantom slide, fully determined.

    Attributes
    ----------
    height, width : int
        Level-0 pixels, 1 to `MAX_SIDE`.
    seed : int
        0 or more.
    mpp : float
        µm per level-0 pixel, 0.1 to 2.
    style : str
        ``"he"``: haematoxylin and eosin, JPEG. ``"oracle"``: flat colours of
        the truth, lossless; the geometry is that of "he".
    grades : tuple of int, optional
        Class values 1..4 along every fragment; None gives one fragment
        all four and the others random ones.
    bank : int
        How many different fragments at most; more pieces are these, turned and
        mirrored.
    quality : int, optional
        JPEG quality of "he", 30 to 100; the scanner's where None.
    domain : str
        Laboratory and scanner of "he", a name in `DOMAINS`. Geometry and truth
        do not depend on it.
    artefacts : bool
        Whether "he" has folds, pen, dust and the like, as often as the domain
        says. Truth keeps its labels under them.

    Raises
    ------
    InputError
        If a value is outside what is said above.
    """

    height: int
    width: int
    seed: int
    mpp: float = 0.25
    style: str = "he"
    grades: tuple[int, ...] | None = None
    bank: int = 6
    quality: int | None = None
    domain: str = "A"
    artefacts: bool = True

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("height", self.height, 1, MAX_SIDE),
            ("width", self.width, 1, MAX_SIDE),
            ("seed", self.seed, 0, 2**63 - 1),
            ("µm per pixel", self.mpp, 0.1, 2.0),
            ("bank", self.bank, 1, 64),
            ("quality", 100 if self.quality is None else self.quality, 30, 100),
        ):
            if not low <= value <= high:
                raise InputError(
                    f"a phantom's {name} cannot be {value}", advice=f"Give {low} to {high}"
                )
        if self.style not in ("he", "oracle"):
            raise InputError(
                f"there is no phantom style {self.style!r}", advice='Give "he" or "oracle"'
            )
        check_grades(self.grades)
        domain(self.domain)

    @property
    def label_shape(self) -> tuple[int, int]:
        """(height, width) of the label grid at 1 µm per pixel, rounded up."""
        rounding = 1e-6
        return (
            max(1, math.ceil(self.height * self.mpp / LABEL_MPP - rounding)),
            max(1, math.ceil(self.width * self.mpp / LABEL_MPP - rounding)),
        )


def sample_spec() -> PhantomSpec:
    """A small slide (12,000 x 8,000 px, 3 x 2 mm) for File > Open Sample."""
    return PhantomSpec(height=8000, width=12000, seed=12)
