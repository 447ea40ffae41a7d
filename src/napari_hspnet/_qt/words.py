"""Numbers as people read them: sizes, areas, times, magnifications."""

from __future__ import annotations

from pathlib import Path

from napari_hspnet.slides import SlideInfo

__all__ = [
    "OBJECTIVES",
    "about_seconds",
    "area",
    "elided",
    "length",
    "magnification",
    "objective_text",
    "resolution",
    "size_text",
    "vendor_name",
    "windows_text",
]

OBJECTIVES = (2, 4, 10, 20, 40)
"""Objectives that keys go to; x10 is 1 µm on a screen pixel."""

_VENDORS = {
    "aperio": "Aperio",
    "dicom": "DICOM",
    "generic-tiff": "TIFF",
    "hamamatsu": "Hamamatsu",
    "leica": "Leica",
    "mirax": "MIRAX",
    "philips": "Philips",
    "sakura": "Sakura",
    "trestle": "Trestle",
    "ventana": "Ventana",
    "zeiss": "Zeiss",
}


def about_seconds(seconds: float) -> str:
    """A duration that nobody takes for exact: "about 12 s", "about 4 min"."""
    if seconds < 1:
        return "about 1 s"
    if seconds < 10:
        return f"about {seconds:.0f} s"
    if seconds < 60:
        step = 1 if seconds < 20 else 5
        return f"about {max(10, round(seconds / step) * step)} s"
    if seconds < 3570:
        return f"about {max(1, round(seconds / 60))} min"
    hours = seconds / 3600
    return f"about {hours:.1f} h" if hours < 10 else f"about {hours:.0f} h"


def windows_text(count: int) -> str:
    """ "1,482 windows"."""
    return f"{count:,} window{'' if count == 1 else 's'}"


def area(mm2: float) -> str:
    """An area in mm², with as many digits as it deserves."""
    if mm2 == 0:
        return "0 mm²"
    if mm2 < 0.0005:
        return "under 0.001 mm²"
    if mm2 < 10:
        return f"{mm2:.3f} mm²" if mm2 < 0.0995 else f"{mm2:.2f} mm²"
    return f"{mm2:,.1f} mm²" if mm2 < 100 else f"{mm2:,.0f} mm²"


def length(um: float) -> str:
    """A length: "83 µm", "1.24 mm"."""
    if um < 10:
        return f"{um:.1f} µm"
    return f"{um:,.0f} µm" if um < 1000 else f"{um / 1000:,.2f} mm"


def magnification(zoom: float) -> float:
    """The objective whose view `zoom` (screen pixels per µm) corresponds to."""
    return 10.0 * zoom


def objective_text(zoom: float) -> str:
    """ "x10", "x2.5"."""
    power = magnification(zoom)
    return f"x{power:.0f}" if power >= 9.5 else f"x{power:.2g}"


def resolution(mpp: tuple[float, float]) -> str:
    """µm per pixel, once where x and y agree."""
    y, x = mpp
    if abs(y - x) <= 0.002 * max(x, y):
        return f"{x:.4g} µm/px"
    return f"{x:.4g} x {y:.4g} µm/px"


def vendor_name(info: SlideInfo) -> str:
    """The scanner's maker, or the file's format."""
    return _VENDORS.get(info.vendor.lower(), info.vendor)


def size_text(info: SlideInfo) -> str:
    """ "2,220 x 2,967 px · 0.499 µm/px · x20 · Aperio"."""
    height, width = info.shape
    parts = [f"{width:,} x {height:,} px"]
    if info.mpp is not None:
        parts.append(resolution(info.mpp))
    if info.objective:
        parts.append(f"x{info.objective:g}")
    parts.append("synthetic slide" if info.phantom else vendor_name(info))
    return " · ".join(parts)


def elided(name: str | Path, most: int = 34) -> str:
    """A name cut in the middle, so that its beginning and its ending stay."""
    text = str(name)
    if len(text) <= most:
        return text
    keep = most - 1
    return f"{text[: keep - keep // 2]}…{text[-(keep // 2) :]}"
