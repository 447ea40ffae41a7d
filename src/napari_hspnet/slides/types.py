"""What is known of a slide without reading its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from napari_hspnet.errors import ResolutionError

__all__ = ["MPP_MAX", "MPP_MIN", "Bounds", "Level", "SlideInfo"]

MPP_MIN = 0.05
MPP_MAX = 50.0


@dataclass(frozen=True)
class Level:
    """One resolution stored in a slide.

    Attributes
    ----------
    shape : tuple of int
        (height, width) in this level's pixels.
    downsample : tuple of float
        (y, x) factors from level 0, the true ones (4.0) and not the ratio of
        rounded sizes (4.00405) where the two can be told apart.
    tile : tuple of int
        (height, width) of the file's tiles at this level, in its pixels; what
        a lazy reader should align its chunks to.
    """

    shape: tuple[int, int]
    downsample: tuple[float, float]
    tile: tuple[int, int]


@dataclass(frozen=True)
class Bounds:
    """Level-0 pixels that hold the scanned area (OpenSlide's bounds)."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class SlideInfo:
    """A slide's metadata; nothing here identifies a patient.

    Attributes
    ----------
    path : Path
        The image file.
    backend : str
        ``"openslide"``, ``"tifffile"`` or ``"pillow"``.
    vendor : str
        OpenSlide's vendor name ("aperio", "hamamatsu", …) or the file format.
    levels : tuple of Level
        Finest first; ``levels[0].downsample == (1.0, 1.0)``.
    mpp : tuple of float or None
        (y, x) µm per level-0 pixel; None where the file does not say so
        plausibly (see `mpp_problem`) and the user has not said it.
    mpp_source : str
        ``"file"``, ``"user"`` or ``"unknown"``.
    mpp_problem : str or None
        Why the file's µm per pixel cannot be used, in a sentence.
    objective : float or None
        Objective power as recorded (20.0, 40.0).
    bounds : Bounds or None
        Where the file records a non-empty scanned area.
    fingerprint : str
        SHA-256 (hex) over size and samples of the file: tells slides apart
        without reading gigabytes.
    phantom : bool
        Whether the file says of itself that it is a synthetic slide of ours.
    associated : tuple of str
        Names of label, macro, thumbnail images. Never read unless asked for.
    properties : Mapping of str to str
        Properties without patient data.
    """

    path: Path
    backend: str
    vendor: str
    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None
    mpp_source: str
    mpp_problem: str | None
    objective: float | None
    bounds: Bounds | None
    fingerprint: str
    phantom: bool = False
    associated: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """File name without folder."""
        return self.path.name

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of level 0 in pixels."""
        return self.levels[0].shape

    def require_mpp(self) -> tuple[float, float]:
        """(y, x) µm per level-0 pixel.

        Raises
        ------
        ResolutionError
            Where it is not known: it is asked for, never guessed.
        """
        if self.mpp is None:
            raise ResolutionError(
                self.mpp_problem or "the slide does not state its µm per pixel",
                advice="State it: --mpp on the command line, the µm/px field in the window",
                path=self.path,
            )
        return self.mpp
