"""An open slide: what it is, and any part of it at any resolution."""

from __future__ import annotations

import math
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError, SlideError, SlideReadError
from napari_hspnet.slides.backends.base import COPY_AGAIN, Backend, Contents, ReadError, Refusal
from napari_hspnet.slides.factors import true_factors
from napari_hspnet.slides.fingerprint import fingerprint
from napari_hspnet.slides.resample import GRID_TILE, choose_level, resample_tile
from napari_hspnet.slides.tiles import TileCache
from napari_hspnet.slides.types import MPP_MAX, MPP_MIN, Level, SlideInfo

__all__ = ["PHANTOM_MARKER", "Slide", "open_slide", "with_mpp"]

PHANTOM_MARKER = "napari-hspnet phantom"
"""Text in the image description of every synthetic slide of ours."""

WHITE = 255
_ANY_SLIDE = "Choose a slide file (svs, ndpi, mrxs, scn, tiff, dcm, …) or an RGB image"

Pixels = npt.NDArray[np.uint8]


class _SharedFile:
    """An open backend that several `Slide` objects look through."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._users = 0
        self._lock = threading.Lock()

    def join(self) -> None:
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self.backend.close()


class Slide:
    """An open slide; a context manager. Reads are safe from several threads.

    Made by `open_slide` and `with_mpp`.

    Attributes
    ----------
    info : SlideInfo
        All that is known of it without reading pixels.
    """

    def __init__(self, info: SlideInfo, file: _SharedFile, cache_bytes: int = 64 << 20) -> None:
        self.info = info
        self._file = file
        self._tiles = TileCache(cache_bytes)
        self._open = True
        file.join()

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._open

    def close(self) -> None:
        """Release the file, once no other `Slide` looks through it too."""
        if self._open:
            self._open = False
            self._tiles.clear()
            self._file.leave()

    def read_level(self, level: int, y: int, x: int, height: int, width: int) -> Pixels:
        """Pixels of a stored level, white outside the slide.

        Parameters
        ----------
        level : int
            Index into ``info.levels``.
        y, x, height, width : int
            Box in that level's pixels; may lie partly or wholly outside.

        Returns
        -------
        ndarray of uint8, (height, width, 3)
            RGB.

        Raises
        ------
        SlideReadError
            If a part cannot be decoded; it holds the place in level-0 px.
        SlideError
            If the slide was closed.
        """
        if not self._open:
            raise SlideError("The slide was closed", advice="Open it again", path=self.info.path)
        rows, columns = self.info.levels[level].shape
        y0, x0 = max(0, y), max(0, x)
        y1, x1 = min(rows, y + height), min(columns, x + width)
        if y0 >= y1 or x0 >= x1:
            return np.full((height, width, 3), WHITE, np.uint8)
        try:
            inside = self._file.backend.read(level, y0, x0, y1 - y0, x1 - x0)
        except ReadError as error:
            raise self._unreadable(level, y0, x0, y1 - y0, x1 - x0, str(error)) from error
        if inside.shape[:2] == (height, width):
            return inside
        out = np.full((height, width, 3), WHITE, np.uint8)
        out[y0 - y : y1 - y, x0 - x : x1 - x] = inside
        return out

    def read_grid(self, y: int, x: int, height: int, width: int, mpp: float) -> Pixels:
        """Pixels of the grid of `mpp` µm anchored at the slide's origin.

        Grid pixel (i, j) covers ``[i mpp, (i+1) mpp) x [j mpp, (j+1) mpp)`` µm.
        It is made from the nearest level that is finer or equal (within
        `LEVEL_TOLERANCE`), anti-aliased; where the ratio is one it is a copy.
        Reading goes by tiles of `GRID_TILE` grid pixels, so a pixel's value does
        not depend, to the bit, on the box in which it is asked.

        Parameters
        ----------
        y, x, height, width : int
            Box in grid pixels; may be negative or beyond the slide.
        mpp : float
            Side of a grid pixel in µm, the same in y and x.

        Returns
        -------
        ndarray of uint8, (height, width, 3)
            RGB, white outside the slide.

        Raises
        ------
        ResolutionError
            If the slide's µm per pixel is unknown.
        SlideReadError
            If a part cannot be decoded.
        """
        stored = self.info.require_mpp()
        if not (math.isfinite(mpp) and mpp > 0):
            raise InputError(f"{mpp} µm/px is no resolution", advice="Give a number above zero")
        level, step = choose_level(self.info.levels, stored, mpp)
        rows, columns = self.info.levels[level].shape
        # Grid pixels beyond these see white alone, whatever the filter's reach.
        beyond = (math.ceil(rows / step[0]) + 3, math.ceil(columns / step[1]) + 3)
        out = np.full((height, width, 3), WHITE, np.uint8)
        for ty in range(y // GRID_TILE, -((-y - height) // GRID_TILE)):
            for tx in range(x // GRID_TILE, -((-x - width) // GRID_TILE)):
                top, left = ty * GRID_TILE, tx * GRID_TILE
                if min(top, left) < -GRID_TILE or top >= beyond[0] or left >= beyond[1]:
                    continue
                tile = self._tiles.get(
                    (mpp, ty, tx),
                    partial(resample_tile, partial(self.read_level, level), ty, tx, step),
                )
                y0, y1 = max(y, top), min(y + height, top + GRID_TILE)
                x0, x1 = max(x, left), min(x + width, left + GRID_TILE)
                out[y0 - y : y1 - y, x0 - x : x1 - x] = tile[
                    y0 - top : y1 - top, x0 - left : x1 - left
                ]
        return out

    def read_associated(self, name: str) -> Pixels:
        """A label, macro or thumbnail image, (h, w, 3) RGB.

        Labels can name a patient, so nothing reads them unless asked.

        Raises
        ------
        InputError
            If there is no image of that name.
        SlideReadError
            If it cannot be decoded.
        """
        if name not in self.info.associated:
            known = ", ".join(self.info.associated) or "none"
            raise InputError(
                f"The slide has no associated image {name!r}",
                advice=f"Those it has: {known}",
                path=self.info.path,
            )
        try:
            return self._file.backend.read_associated(name)
        except ReadError as error:
            raise SlideReadError(
                f"The slide's {name} image cannot be read ({error})",
                advice=COPY_AGAIN,
                path=self.info.path,
            ) from error

    def _unreadable(
        self, level: int, y: int, x: int, height: int, width: int, why: str
    ) -> SlideReadError:
        factor_y, factor_x = self.info.levels[level].downsample
        top, left = int(y * factor_y), int(x * factor_x)
        bottom = min(self.info.shape[0], math.ceil((y + height) * factor_y))
        right = min(self.info.shape[1], math.ceil((x + width) * factor_x))
        return SlideReadError(
            f"A part of the slide cannot be read: {right - left} x {bottom - top} px "
            f"at x {left}, y {top} ({why.rstrip('.')})",
            advice=COPY_AGAIN,
            path=self.info.path,
            y=top,
            x=left,
            height=bottom - top,
            width=right - left,
        )


def open_slide(path: Path | str, mpp: float | tuple[float, float] | None = None) -> Slide:
    """Open a slide or an RGB image. No pixels are read.

    OpenSlide is asked first, then tifffile (TIFF, OME-TIFF), then Pillow (PNG,
    JPEG, BMP).

    Parameters
    ----------
    path : path-like
        The file.
    mpp : float or (y, x), optional
        µm per level-0 pixel as the user says it; overrides the file's.

    Raises
    ------
    SlideError
        If the file is absent, empty, damaged or no slide.
    InputError
        If `mpp` is not within `MPP_MIN` and `MPP_MAX`.
    """
    path = Path(path)
    said = None if mpp is None else _checked(mpp)
    try:
        _check_file(path)
        mark = fingerprint(path)
        backend = _open_backend(path)
    except OSError as error:
        raise SlideError(
            f"The file cannot be read ({error.strerror or error})",
            advice="Check that it is there still and that you may read it",
            path=path,
        ) from error
    return Slide(_info(path, backend, mark, said), _SharedFile(backend))


def with_mpp(slide: Slide, mpp: float | tuple[float, float]) -> Slide:
    """The same open file with its µm per pixel said by the user.

    The file closes once both slides are closed.

    Parameters
    ----------
    slide : Slide
        An open slide.
    mpp : float or (y, x)
        µm per level-0 pixel.

    Raises
    ------
    InputError
        If `mpp` is not within `MPP_MIN` and `MPP_MAX`.
    """
    info = replace(slide.info, mpp=_checked(mpp), mpp_source="user", mpp_problem=None)
    return Slide(info, slide._file, slide._tiles.capacity)


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise SlideError("This is a folder, not a slide", advice=_ANY_SLIDE, path=path)
    if not path.exists():
        raise SlideError("There is no such file", advice="Check its name and folder", path=path)
    if not path.is_file():
        raise SlideError("This is a device or pipe, not a slide", advice=_ANY_SLIDE, path=path)
    if path.stat().st_size == 0:
        raise SlideError("The file is empty", advice=COPY_AGAIN, path=path)


def _open_backend(path: Path) -> Backend:
    from napari_hspnet.slides.backends.with_openslide import OpenSlideBackend
    from napari_hspnet.slides.backends.with_pillow import PillowBackend
    from napari_hspnet.slides.backends.with_tifffile import TiffBackend

    reasons = []
    for kind in (OpenSlideBackend, TiffBackend, PillowBackend):
        try:
            return kind(path)
        except Refusal as refusal:
            if refusal.advice:
                raise SlideError(
                    f"The slide cannot be opened: {refusal.reason}",
                    advice=refusal.advice,
                    path=path,
                ) from refusal
            reasons.append(refusal.reason)
    raise SlideError(
        f"The file cannot be opened as a slide: {'; '.join(dict.fromkeys(reasons))}",
        advice=_ANY_SLIDE,
        path=path,
    )


def _info(path: Path, backend: Backend, mark: str, said: tuple[float, float] | None) -> SlideInfo:
    contents = backend.contents
    base = contents.levels[0].shape
    levels = tuple(
        Level(stored.shape, true_factors(base, stored.shape), stored.tile)
        for stored in contents.levels
    )
    problem = None if said else _problem(contents)
    return SlideInfo(
        path=path,
        backend=backend.name,
        vendor=contents.vendor,
        levels=levels,
        mpp=said or (None if problem else contents.mpp),
        mpp_source="user" if said else "unknown" if problem else "file",
        mpp_problem=problem,
        objective=contents.objective if contents.objective and contents.objective > 0 else None,
        bounds=contents.bounds,
        fingerprint=mark,
        phantom=PHANTOM_MARKER in contents.description,
        associated=contents.associated,
        properties=contents.properties,
    )


def _problem(contents: Contents) -> str | None:
    if contents.mpp is None:
        return "The slide does not state its µm per pixel"
    if all(MPP_MIN <= value <= MPP_MAX for value in contents.mpp):
        return None
    y, x = contents.mpp
    return (
        f"The slide states {x:.4g} x {y:.4g} µm per pixel, which cannot be right "
        f"({MPP_MIN:g} to {MPP_MAX:g} is plausible)"
    )


def _checked(mpp: float | tuple[float, float]) -> tuple[float, float]:
    pair = mpp if isinstance(mpp, tuple) else (mpp, mpp)
    try:
        y, x = (float(value) for value in pair)
    except (TypeError, ValueError):
        y = x = math.nan
    if not (MPP_MIN <= y <= MPP_MAX and MPP_MIN <= x <= MPP_MAX):
        raise InputError(
            f"{mpp} µm per pixel cannot be right",
            advice=f"Give a number from {MPP_MIN:g} to {MPP_MAX:g}, such as 0.25 for x40",
        )
    return y, x
