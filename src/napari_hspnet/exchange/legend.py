"""What stands beneath a picture: the legend, a scale bar, what must be said."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["Entry", "Line", "ScaleBar", "Text", "above", "font_size", "mm2_text", "strip"]

Array = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

INK: Colour = (25, 25, 30)
GREY: Colour = (85, 85, 95)
ALARM: Colour = (176, 0, 32)
PAPER: Colour = (255, 255, 255)

_SMALLEST, _LARGEST = 14, 44
_COLUMNS = 24
"""A strip is at least as many times wider than its letters are high."""

_PLAIN = {
    "→": "->",
    "–": "-",
    "—": "-",
    "−": "-",
    "×": "x",
    "≥": ">=",
    "≤": "<=",
    "μ": "µ",
    "ß": "ss",
    "æ": "ae",
    "Æ": "AE",
    "ø": "o",
    "Ø": "O",
    "œ": "oe",
    "Œ": "OE",
    "đ": "d",
    "Đ": "D",
    "ł": "l",
    "Ł": "L",
    "ı": "i",
    "„": '"',
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "\u00a0": " ",
}


@dataclass(frozen=True)
class Entry:
    """A line of the legend.

    Attributes
    ----------
    swatch : ndarray of uint8, (h, w, 3)
        How it looks in the picture.
    text : str
        Its name, and how much there is of it.
    """

    swatch: Array
    text: str


@dataclass(frozen=True)
class Line:
    """Something said beneath the legend."""

    text: str
    colour: Colour = INK


@dataclass(frozen=True)
class ScaleBar:
    """A bar of a round length.

    Attributes
    ----------
    um : float
        How long it is on the slide.
    pixels : int
        How long it is in the picture.
    """

    um: float
    pixels: int

    @classmethod
    def of(cls, width: int, mpp: float) -> ScaleBar:
        """The longest of 1, 2 or 5 times a power of ten that takes up to a quarter.

        Parameters
        ----------
        width : int
            The picture's, in pixels.
        mpp : float
            Its µm per pixel.
        """
        most = max(1, width) * mpp / 4
        power = 10.0 ** math.floor(math.log10(most))
        um = max(n * power for n in (1, 2, 5) if n * power <= most * (1 + 1e-9))
        return cls(um, max(1, round(um / mpp)))

    @property
    def text(self) -> str:
        """ "500 µm", "2 mm"."""
        return f"{self.um / 1000:g} mm" if self.um >= 1000 else f"{self.um:g} µm"


def mm2_text(mm2: float) -> str:
    """An area in mm², with as many digits as it deserves."""
    if mm2 == 0:
        return "0 mm²"
    if mm2 < 0.0005:
        return "under 0.001 mm²"
    digits = 3 if mm2 < 0.0995 else 2 if mm2 < 9.995 else 1
    return f"{mm2:,.{digits}f} mm²"


def font_size(width: int, height: int) -> int:
    """Pixels of the letters beneath a picture: legible when all of it is on a screen."""
    return min(_LARGEST, max(_SMALLEST, round(max(width, height) / 70)))


class Text:
    """Letters that are there on every machine.

    Pillow's own font has neither µ nor ², which are drawn here out of its u and 2;
    of other letters that it lacks the accent goes, or a question mark stands there.

    Parameters
    ----------
    size : int
        In pixels.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._font, self._small = _font(size), _font(max(8, round(size * 0.62)))
        self.line = math.ceil(size * 1.35)
        """Pixels from one line to the next."""

    def shown(self, text: str) -> str:
        """The text in the letters that there are."""
        return "".join(self._letter(letter) for letter in unicodedata.normalize("NFC", text))

    def _letter(self, letter: str) -> str:
        if letter in "µ²":
            return letter
        if unicodedata.combining(letter):
            return ""
        plain = _PLAIN.get(letter, letter)
        if plain != letter:
            return plain
        if _has(letter):
            return letter
        base = unicodedata.normalize("NFKD", letter)[:1]
        return base if base and base != letter and _has(base) else "?"

    def length(self, text: str) -> float:
        """Pixels that `shown` text takes."""
        return sum(self._length(letter) for letter in _runs(text))

    def _length(self, run: str) -> float:
        if run == "²":
            return float(self._small.getlength("2"))
        return float(self._font.getlength("u" if run == "µ" else run))

    def draw(self, draw: ImageDraw, x: float, baseline: float, text: str, colour: Colour) -> None:
        """Write `shown` text from a point on its base line."""
        for run in _runs(text):
            if run == "²":
                raised = baseline - round(self.size * 0.32)
                draw.text((x, raised), "2", font=self._small, fill=colour, anchor="ls")
            elif run == "µ":
                draw.text((x, baseline), "u", font=self._font, fill=colour, anchor="ls")
                self._tail(draw, x, baseline, colour)
            else:
                draw.text((x, baseline), run, font=self._font, fill=colour, anchor="ls")
            x += self._length(run)

    def _tail(self, draw: ImageDraw, x: float, baseline: float, colour: Colour) -> None:
        """What makes an u a µ: its left stem goes on beneath the line."""
        (u, (u_left, u_top)), (stem, (left, top)) = (
            self._font.getmask2(letter, anchor="ls") for letter in "ul"
        )
        across = u_left + u.getbbox()[0] - left - stem.getbbox()[0]
        down = u_top + u.getbbox()[1] - top - stem.getbbox()[1]
        draw.text((x + across, baseline + down), "l", font=self._font, fill=colour, anchor="ls")

    def wrapped(self, text: str, width: float) -> list[str]:
        """The text in lines of at most so many pixels; a long word is cut, none is lost."""
        lines: list[str] = []
        held = ""
        for word in self.shown(text).split():
            longer = f"{held} {word}" if held else word
            if self.length(longer) <= width:
                held = longer
                continue
            if held:
                lines.append(held)
            while self.length(word) > width and len(word) > 1:
                fits = max(
                    1, next(n for n in range(len(word), 0, -1) if self._fits(word[:n], width))
                )
                lines.append(word[:fits])
                word = word[fits:]
            held = word
        return [*lines, held] if held else lines

    def _fits(self, text: str, width: float) -> bool:
        return len(text) == 1 or self.length(text) <= width


def strip(
    width: int,
    size: int,
    entries: Sequence[Entry],
    lines: Sequence[Line],
    bar: ScaleBar,
) -> Image:
    """The strip beneath a picture; as high as what it says needs.

    Parameters
    ----------
    width : int
        The picture's; a narrow one gets a wider strip.
    size : int
        Pixels of its letters.
    entries : sequence of Entry
        The legend, side by side as far as they fit.
    lines : sequence of Line
        Beneath it, each wrapped.
    bar : ScaleBar
        Comes first.
    """
    from PIL import Image as Images
    from PIL import ImageDraw as Draws

    text = Text(size)
    margin = round(size * 0.8)
    width = max(width, _COLUMNS * size, bar.pixels + 2 * margin)
    room = width - 2 * margin
    placed, bottom = _flow(text, entries, bar, margin, room)
    wrapped = [(line, part) for line in lines for part in text.wrapped(line.text, room)]
    height = bottom + len(wrapped) * text.line + margin
    image = Images.new("RGB", (width, height), PAPER)
    draw = Draws.Draw(image)
    for x, y, entry, said in placed:
        if entry is None:
            _draw_bar(draw, text, x, y, bar)
            continue
        side = text.size
        swatch = Images.fromarray(entry.swatch)
        image.paste(swatch, (x, y + (text.line - swatch.height) // 2))
        start = x + swatch.width + side // 2
        for number, part in enumerate(said):
            text.draw(draw, start, y + (number + 0.76) * text.line, part, INK)
    for number, (line, part) in enumerate(wrapped):
        text.draw(draw, margin, bottom + (number + 0.76) * text.line, part, line.colour)
    return image


def above(picture: Image, beneath: Image) -> Image:
    """A picture on its strip, in the middle where that is wider."""
    from PIL import Image as Images

    size = max(picture.width, beneath.width), picture.height + beneath.height
    whole = Images.new("RGB", size, PAPER)
    whole.paste(picture, ((size[0] - picture.width) // 2, 0))
    whole.paste(beneath, (0, picture.height))
    return whole


def _flow(
    text: Text, entries: Sequence[Entry], bar: ScaleBar, margin: int, room: int
) -> tuple[list[tuple[int, int, Entry | None, list[str]]], int]:
    """Where each entry goes (None: the bar), its lines of text, and where all of them end."""
    gap = round(text.size * 1.5)
    placed: list[tuple[int, int, Entry | None, list[str]]] = [(margin, margin, None, [])]
    y = margin + 2 * text.line
    x, tallest = margin, text.line
    for entry in entries:
        beside = entry.swatch.shape[1] + text.size // 2
        said = text.wrapped(entry.text, room - beside)
        wide = beside + math.ceil(max(map(text.length, said), default=0))
        if x > margin and x + wide > margin + room:
            x, y, tallest = margin, y + tallest, text.line
        placed.append((x, y, entry, said))
        tallest = max(tallest, len(said) * text.line, entry.swatch.shape[0] + 2)
        x += wide + gap
    return placed, y + (tallest if entries else 0) + round(text.size * 0.4)


def _draw_bar(draw: ImageDraw, text: Text, x: int, y: int, bar: ScaleBar) -> None:
    thick = max(3, text.size // 5)
    tick = thick * 3
    middle = y + tick // 2
    end = x + bar.pixels - 1
    draw.rectangle((x, middle - thick // 2, end, middle - thick // 2 + thick - 1), fill=INK)
    for at in (x, max(x, end - max(1, thick // 2) + 1)):
        draw.rectangle((at, y, min(end, at + max(1, thick // 2) - 1), y + tick), fill=INK)
    text.draw(draw, x, y + tick + text.line * 0.85, bar.text, INK)


def _runs(text: str) -> list[str]:
    """Cut at the letters that are drawn apart."""
    runs, held = [], ""
    for letter in text:
        if letter in "µ²":
            runs += [held, letter] if held else [letter]
            held = ""
        else:
            held += letter
    return [*runs, held] if held else runs


@cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


@cache
def _has(letter: str) -> bool:
    """Whether Pillow's font has a letter; what it lacks it draws as a box."""
    font = _font(_LARGEST)
    if letter.isspace():
        return letter == " "
    return bool(letter.isprintable() and bytes(font.getmask(letter)) != _box())


@cache
def _box() -> bytes:
    return bytes(_font(_LARGEST).getmask("\uffff"))
