"""Values that take more than one number or word."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING

from napari_hspnet.errors import InputError

if TYPE_CHECKING:
    from napari_hspnet.slides import Region

__all__ = ["Where", "parse_formats", "parse_point", "parse_polygon", "parse_region", "parse_size"]


class Where(StrEnum):
    """Which point of a slide is (0, 0) in GeoJSON."""

    bounds = "bounds"
    level0 = "level0"


def parse_region(text: str | None) -> Region:
    """ "X,Y,W,H" in µm from the slide's upper left corner; None is the whole slide.

    Raises
    ------
    InputError
        If it is not four numbers.
    RegionError
        If it has no area.
    """
    from napari_hspnet.slides import Region

    if text is None:
        return Region.slide()
    numbers = _numbers(text, 4)
    if numbers is None:
        raise InputError(
            f"--region {text!r} is not understood", advice="Give X,Y,W,H in µm, as in 0,0,500,400"
        )
    x, y, width, height = numbers
    if width <= 0 or height <= 0:
        # A negative side would mirror the rectangle, which nobody means.
        width, height = max(width, 0.0), max(height, 0.0)
    return Region.rectangle(y, x, height, width)


def parse_polygon(text: str) -> Region:
    """ "X,Y X,Y X,Y …" in µm from the slide's upper left corner.

    Raises
    ------
    InputError
        If it is not three points or more.
    RegionError
        If it has no area.
    """
    from napari_hspnet.slides import Region

    points = [_numbers(point, 2) for point in text.split()]
    corners = [(point[1], point[0]) for point in points if point is not None]
    if len(corners) < 3 or len(corners) < len(points):
        raise InputError(
            f"--polygon {text!r} is not understood",
            advice='Give three points or more in µm, as in "0,0 500,0 500,400"',
        )
    return Region.shapes([corners])


def parse_point(text: str) -> tuple[float, float]:
    """ "X,Y" in µm from the slide's upper left corner, as (y, x).

    Raises
    ------
    InputError
        If it is not two numbers.
    """
    numbers = _numbers(text, 2)
    if numbers is None:
        raise InputError(f"--at {text!r} is not understood", advice="Give X,Y in µm, as in 500,400")
    return numbers[1], numbers[0]


def parse_size(text: str) -> tuple[int, int]:
    """ "W,H" in pixels, as (height, width).

    Raises
    ------
    InputError
        If it is not two whole numbers above zero.
    """
    numbers = _numbers(text, 2)
    if numbers is None or any(n < 1 or n != int(n) for n in numbers):
        raise InputError(
            f"--size {text!r} is not understood", advice="Give W,H in pixels, as in 4096,3072"
        )
    return int(numbers[1]), int(numbers[0])


def parse_formats(text: str) -> tuple[str, ...]:
    """Names between commas, each once; whether they exist is checked by the job.

    Raises
    ------
    InputError
        If there is none.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    if not names:
        raise InputError("--format names no format", advice="Give ome-tiff, for instance")
    return names


def _numbers(text: str, count: int) -> list[float] | None:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None
