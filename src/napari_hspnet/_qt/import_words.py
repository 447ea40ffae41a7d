"""What an import would change, in words."""

from __future__ import annotations

from collections.abc import Mapping

from napari_hspnet._qt.words import area
from napari_hspnet.cases.words import grade_name
from napari_hspnet.exchange.incoming import FoundName, Incoming

__all__ = ["changes_text", "locked_text", "name_words", "pairs"]


def changes_text(changes: Mapping[tuple[int, int], int], mpp: float) -> str:
    """ "CIN1 → CIN2 0.12 mm²", a line for each; the largest first.

    Parameters
    ----------
    changes : Mapping of (int, int) to int
        Label pixels by (shown, becomes).
    mpp : float
        µm per label pixel.
    """
    square = (mpp / 1000) ** 2
    lines = [
        f"{grade_name(shown)} → {grade_name(becomes)} {area(pixels * square)}"
        for (shown, becomes), pixels in sorted(changes.items(), key=lambda item: -item[1])
        if shown != becomes
    ]
    agreed = sum(pixels for (shown, becomes), pixels in changes.items() if shown == becomes)
    if agreed:
        lines.append(f"accepted as it is {area(agreed * square)}")
    return "\n".join(lines)


def locked_text(locked: Mapping[int, int], mpp: float) -> str:
    """ "2 regions are signed off: 0.12 mm² in them stays as it is."; empty where none is."""
    if not locked:
        return ""
    size = area(sum(locked.values()) * (mpp / 1000) ** 2)
    if len(locked) == 1:
        (region,) = locked
        return f"Region {region} is signed off: {size} in it stays as it is."
    return f"{len(locked):,} regions are signed off: {size} in them stays as it is."


def name_words(name: FoundName, incoming: Incoming) -> tuple[str, str, str]:
    """What a name is called on screen, short and in full, and how much of it there is."""
    if incoming.kind == "geojson":
        words = name.key or "without a class"
        return words, words, f"{name.count:,}"
    scale = incoming.said.get("um_per_pixel")
    tip = f"Value {name.key}, {name.count:,} pixels of the mask"
    if not isinstance(scale, list):
        return name.key, tip, f"{name.count:,} px"
    return name.key, tip, area(name.count * scale[0] * scale[1] / 1e6)


def pairs(said: Mapping[str, int]) -> dict[tuple[int, int], int]:
    """What the journal says was changed, label pixels by (shown, became)."""
    found = {}
    for pair, pixels in said.items():
        shown, becomes = pair.split(">")
        found[int(shown), int(becomes)] = pixels
    return found
