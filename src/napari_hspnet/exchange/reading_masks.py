"""The pixels of a mask file, in pieces, and what it says of itself."""

from __future__ import annotations

import io
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError
from napari_hspnet.exchange.output import Cancel, Report, stop_if

__all__ = ["PNG_MOST", "MaskFile", "open_pixels"]

Pixels = npt.NDArray[Any]

PNG_MOST = 180_000_000
"""Pixels of a PNG, which is read whole."""

_SEGMENT_MOST = 256_000_000
_HELD_BYTES = 96 << 20
_COLOUR_ADVICE = "Save the classes as grey values 0 to 4 or as palette indices, not as colours"
# Pillow spreads grey values of few bits over 0 to 255: by (bits, colour type) how far.
_SPREAD = {(2, 0): 85, (4, 0): 17}
_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4}


class _Source(Protocol):
    def read(self, y0: int, x0: int, y1: int, x1: int) -> Pixels: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class MaskFile:
    """An open mask.

    Attributes
    ----------
    path : Path
        The file.
    shape : tuple of int
        (height, width) in its pixels.
    dtype : numpy.dtype
        Of its values, whole numbers or bool.
    mpp : tuple of float or None
        (y, x) µm per pixel where it says so.
    said : Mapping of str to str
        What it says of itself where it is one of ours.
    """

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    mpp: tuple[float, float] | None
    said: Mapping[str, str]
    _source: _Source = field(repr=False)

    def read(self, y0: int, x0: int, y1: int, x1: int) -> Pixels:
        """The values of a box inside it.

        Raises
        ------
        InputError
            If they cannot be decoded.
        """
        with _decoding(self.path):
            return self._source.read(y0, x0, y1, x1)

    def close(self) -> None:
        """Let go of the file."""
        self._source.close()


def open_pixels(
    path: Path, kind: str, progress: Report | None = None, cancel: Cancel | None = None
) -> MaskFile:
    """Open a PNG, which is read whole, or a TIFF, which is read as it is asked for.

    Raises
    ------
    InputError
        It is damaged, coloured, of several channels, or larger than can be read.
    CancelledError
        If `cancel` was set.
    """
    with _decoding(path):
        return _open_png(path, progress, cancel) if kind == "png" else _open_tiff(path)


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Tell what the libraries make of a damaged file, which is nearly any exception."""
    import zlib
    from struct import error as struct_error

    from tifffile import TiffFileError

    try:
        yield
    except (
        *(OSError, EOFError, SyntaxError, ValueError, TypeError, LookupError, AttributeError),
        *(ArithmeticError, RuntimeError, zlib.error, struct_error, TiffFileError),
    ) as error:
        raise InputError(
            f"The mask cannot be read ({' '.join(str(error).split()) or type(error).__name__})",
            advice="Save it again, as an uncompressed or deflate-compressed file",
            path=path,
        ) from error
    except MemoryError as error:
        raise InputError(
            "The mask does not fit in the memory",
            advice="Save it as a tiled TIFF, which is read piece by piece",
            path=path,
        ) from error


@dataclass
class _Whole:
    """Pixels in memory, or mapped from the file."""

    values: Pixels

    def read(self, y0: int, x0: int, y1: int, x1: int) -> Pixels:
        return self.values[y0:y1, x0:x1]

    def close(self) -> None:
        pass


class _Watched(io.RawIOBase):
    """A file that says how far it was read, and stops when the user wants to.

    Decoders of images have no other place where one could ask them to.
    """

    def __init__(
        self, file: IO[bytes], size: int, progress: Report | None, cancel: Cancel | None
    ) -> None:
        super().__init__()
        self._file, self._size = file, max(1, size)
        self._progress, self._cancel = progress, cancel

    def read(self, size: int = -1) -> bytes:
        stop_if(self._cancel)
        if self._progress is not None:
            self._progress(min(1.0, self._file.tell() / self._size))
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _open_png(path: Path, progress: Report | None, cancel: Cancel | None) -> MaskFile:
    # Not Image.open: it warns of large ones, and has one limit for the whole program.
    from PIL.PngImagePlugin import PngImageFile

    with path.open("rb") as file:
        header = file.read(26)
        file.seek(0)
        watched = _Watched(file, path.stat().st_size, progress, cancel)
        with PngImageFile(cast(IO[bytes], watched)) as image:
            width, height = image.size
            if width * height > PNG_MOST:
                raise InputError(
                    f"A PNG of {width:,} x {height:,} pixels is read whole, and is too large",
                    advice="Save the mask as a tiled TIFF, or with more µm per pixel",
                    path=path,
                )
            if image.mode not in ("1", "L", "P") and not image.mode.startswith("I"):
                raise InputError(
                    f"The PNG is a colour picture ({image.mode}), no mask",
                    advice=_COLOUR_ADVICE,
                    path=path,
                )
            image.load()
            # Pillow's bools are bytes of 255, which are no bools to all of NumPy.
            values = np.asarray(image.convert("L")) > 0 if image.mode == "1" else np.asarray(image)
            spread = _SPREAD.get((header[24], header[25]))
            values = values if spread is None else values // spread
            said = {key: str(text) for key, text in image.text.items()}
    mpp = None
    with suppress(KeyError, ValueError):
        mpp = _plausible(float(said["um_per_pixel"]), float(said["um_per_pixel"]))
    return MaskFile(path, values.shape[:2], values.dtype, mpp, said, _Whole(values))


class _Segments:
    """Tiles or strips of a TIFF's page, the latest kept decoded."""

    def __init__(self, file: Any, page: Any) -> None:
        self._file, self._page = file, page
        self._shape = page.shape[:2]
        self._size = page.chunks[:2]
        self._across = page.chunked[1]
        self._held: OrderedDict[int, Pixels] = OrderedDict()

    def read(self, y0: int, x0: int, y1: int, x1: int) -> Pixels:
        out = np.empty((y1 - y0, x1 - x0), self._page.dtype)
        height, width = self._size
        for row in range(y0 // height, -(-y1 // height)):
            for column in range(x0 // width, -(-x1 // width)):
                segment = self._segment(row * self._across + column)
                y, x = row * height, column * width
                top, left = max(y0, y), max(x0, x)
                bottom, right = min(y1, y + height), min(x1, x + width)
                out[top - y0 : bottom - y0, left - x0 : right - x0] = segment[
                    top - y : bottom - y, left - x : right - x
                ]
        return out

    def close(self) -> None:
        self._held.clear()
        self._file.close()

    def _segment(self, number: int) -> Pixels:
        known = self._held.get(number)
        if known is not None:
            self._held.move_to_end(number)
            return known
        page = self._page
        place = [page.dataoffsets[number]], [page.databytecounts[number]], [number]
        packed, index = next(self._file.filehandle.read_segments(*place))
        decoded, _, shape = page.decode(packed, index)
        if decoded is None:
            # One that was never written, as sparse files have them.
            decoded = np.full(shape, page.nodata, page.dtype)
        values: Pixels = decoded.reshape(decoded.shape[1:3])
        self._held[number] = values
        held = sum(segment.nbytes for segment in self._held.values())
        while held > _HELD_BYTES and len(self._held) > 1:
            held -= self._held.popitem(last=False)[1].nbytes
        return values


def _open_tiff(path: Path) -> MaskFile:
    import tifffile

    file = tifffile.TiffFile(path)
    try:
        if not file.series:
            raise InputError("The TIFF holds no image", advice=_COLOUR_ADVICE, path=path)
        series = file.series[0]
        page = series.keyframe
        colours = page.samplesperpixel > 1 or page.photometric in (2, 5, 6, 8)
        if colours or len(series.pages) > 1 or math.prod(series.shape) != math.prod(page.shape):
            raise InputError(
                f"The TIFF has several channels or planes ({series.axes} "
                f"{' x '.join(map(str, series.shape))}), so it is no mask",
                advice=f"Save one plane. {_COLOUR_ADVICE}",
                path=path,
            )
        if page.dtype is None or page.dtype.kind not in "uib":
            raise InputError(
                f"The TIFF holds {page.dtype} values, which are no classes",
                advice="Save the classes as whole numbers (uint8)",
                path=path,
            )
        # uint8 to int64 of either byte order, as arithmetic wants them.
        dtype = page.dtype.newbyteorder("=")
        source: _Source = _Segments(file, page)
        if page.is_memmappable:
            mapped = tifffile.memmap(path, page=page.index, mode="r")
            source = _Whole(mapped.reshape(page.shape[:2]))
        elif math.prod(page.chunks[:2]) > _SEGMENT_MOST:
            raise InputError(
                "The TIFF is compressed in one piece, which is too large to read",
                advice="Save it tiled",
                path=path,
            )
        said, mpp = _ome(file.ome_metadata) if file.is_ome else ({}, None)
        shape = (int(page.shape[0]), int(page.shape[1]))
        mask = MaskFile(path, shape, dtype, mpp, said, source)
    except BaseException:
        file.close()
        raise
    if isinstance(source, _Whole):
        file.close()
    return mask


def _ome(text: str | None) -> tuple[dict[str, str], tuple[float, float] | None]:
    """Our own facts, and (y, x) µm per pixel, of the first image in OME-XML."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(text or "")
    except ElementTree.ParseError:
        return {}, None
    said = {
        str(part.get("K")): part.text or ""
        for part in root.iter()
        if part.tag.rpartition("}")[2] == "M"
    }
    pixels = next((part for part in root.iter() if part.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return said, None
    sides = []
    for axis in "YX":
        unit = _UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        with suppress(TypeError, ValueError):
            size = float(pixels.get(f"PhysicalSize{axis}"))  # type: ignore[arg-type]
            sides.append(size * unit if unit is not None else math.nan)
    return said, _plausible(*sides) if len(sides) == 2 else None


def _plausible(y: float, x: float) -> tuple[float, float] | None:
    return (y, x) if all(math.isfinite(side) and side > 0 for side in (y, x)) else None
