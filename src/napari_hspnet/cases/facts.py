"""What a case knows of its slide without the slide's file."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SlideFacts"]


@dataclass(frozen=True)
class SlideFacts:
    """The slide that a case belongs to.

    Attributes
    ----------
    name : str
        Its file's name.
    fingerprint : str
        `SlideInfo.fingerprint`.
    shape : tuple of int
        (height, width) of level 0 in pixels.
    mpp : tuple of float
        (y, x) µm per level-0 pixel.
    """

    name: str
    fingerprint: str
    shape: tuple[int, int]
    mpp: tuple[float, float]
