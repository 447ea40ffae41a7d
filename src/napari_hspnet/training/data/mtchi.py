"""The MTCHI data set in the layout of its public download (paper, section 4.1)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from napari_hspnet.errors import InputError
from napari_hspnet.training.data.decoded import BYTES, ImageStore, Zero, file_pair
from napari_hspnet.training.data.images import ImageSet, LabelledImage
from napari_hspnet.training.data.pairs import files_by_key, paired

__all__ = [
    "PAPER_COUNTS",
    "PHANTOM_MARK",
    "PUBLIC_COUNTS",
    "Background",
    "MtchiCounts",
    "Part",
    "mtchi_counts",
    "open_mtchi",
    "open_mtchi_whole",
    "synthetic_origin",
]

PHANTOM_MARK = "phantom.json"
"""A file in ``Task2`` that says: these are phantoms, laid out as MTCHI is."""

Part = Literal["Training", "Test"]
Background = Literal["ignore", "class"]


@dataclass(frozen=True)
class MtchiCounts:
    """How much there is of a part of MTCHI.

    Attributes
    ----------
    regions : int
        Annotated pictures.
    patients : int or None
        None where it is not said.
    patches : int or None
        Patches of 400 px at a stride of 100 with 20 % foreground; None where not
        counted.
    """

    regions: int
    patients: int | None = None
    patches: int | None = None

    def beside(self, part: Part) -> tuple[str, ...]:
        """A line for each figure, with the paper's and the public descriptions' ones."""
        paper, public = PAPER_COUNTS[part], PUBLIC_COUNTS[part]
        lines = [
            f"regions: {self.regions} (paper: {paper.regions}; public descriptions of the "
            f"download: {public.regions})",
            f"patients: {_number(self.patients)} (paper: {_number(paper.patients)})",
        ]
        if self.patches is not None or paper.patches is not None:
            lines.append(f"patches: {_number(self.patches)} (paper: {_number(paper.patches)})")
        return tuple(lines)


# Section 4.1: 101 annotated regions, 39 of them for testing.
PAPER_COUNTS: dict[Part, MtchiCounts] = {
    "Training": MtchiCounts(62, None, 7724),
    "Test": MtchiCounts(39),
}
PUBLIC_COUNTS: dict[Part, MtchiCounts] = {"Training": MtchiCounts(15), "Test": MtchiCounts(5)}
"""As two users of the download describe it."""


def _number(value: int | None) -> str:
    return "not said" if value is None else f"{value:,}"


def open_mtchi(
    folder: Path | str,
    part: Part = "Training",
    background: Background = "ignore",
    *,
    mpp: float = 1.0,
    limit: int = BYTES,
) -> ImageSet:
    """Open a part of MTCHI: ``Task2/<part>/Img/Crop_*.png``, ``Truth/Mask_*.png``.

    Only epithelium is annotated, so 0 of a mask mixes black, glass, stroma and
    glands. Outside the region's polygon a picture is pure black, and stays so.

    Parameters
    ----------
    folder : path-like
        The download, or its ``Task2``.
    part : {"Training", "Test"}
    background : {"ignore", "class"}
        Whether 0 is ignored, or a class of its own except where the picture is
        pure black.
    mpp : float
        µm per pixel. The files do not say it; the paper works at x10, about 1.0.
    limit : int
        Bytes of decoded images kept in memory.

    Returns
    -------
    ImageSet
        The patient of a region is its name up to the first hyphen.

    Raises
    ------
    InputError
        If the layout is another one, an image lacks its partner, or a file cannot
        be read.
    """
    folder = Path(folder)
    for value, known, what in (
        (part, get_args(Part), "part"),
        (background, get_args(Background), "way to take the background"),
    ):
        if value not in known:
            raise InputError(
                f"MTCHI has no {what} {value!r}", advice=f"Choose {' or '.join(known)}"
            )
    own = _part(folder, part)
    pictures = files_by_key(own / "Img", _region)
    masks = files_by_key(own / "Truth", _region_of_mask)
    zero: Zero = "ignore" if background == "ignore" else "black"
    store = ImageStore(limit)
    images: list[LabelledImage] = [
        file_pair(name, name.split("-")[0], *pair, store, mpp=mpp, zero=zero)
        for name, pair in sorted(paired(pictures, masks, own).items())
    ]
    found = ImageSet(tuple(images))
    counts = mtchi_counts(found)
    synthetic = synthetic_origin(folder) is not None
    beside = (f"{_SYNTHETIC}: {len(images)} fields",) if synthetic else counts.beside(part)
    notes = (
        *beside,
        "background: ignored"
        if background == "ignore"
        else "background: a class, ignored where the picture is pure black",
        f"{mpp:g} µm per pixel is assumed; the files do not say it",
    )
    return ImageSet(found.images, notes)


def open_mtchi_whole(
    folder: Path | str, background: Background = "ignore", *, mpp: float = 1.0, limit: int = BYTES
) -> ImageSet:
    """Open both parts together, as a cross-validation does (paper, section 4.4).

    Parameters and errors as for `open_mtchi`; each part may use half of `limit`.
    """
    parts: tuple[Part, ...] = ("Training", "Test")
    found = [open_mtchi(folder, p, background, mpp=mpp, limit=limit // 2) for p in parts]
    notes = [f"{p}: {note}" for p, one in zip(parts, found, strict=True) for note in one.notes]
    images = sorted((i for one in found for i in one.images), key=lambda image: image.name)
    return ImageSet(tuple(images), tuple(notes))


def synthetic_origin(folder: Path | str) -> dict[str, Any] | None:
    """What ``phantom.json`` says; None where there is none: then they are no phantoms.

    Raises
    ------
    InputError
        If it cannot be read: whether pictures are real must not be guessed.
    """
    folder = Path(folder)
    for own in (folder / "Task2", folder):
        path = own / PHANTOM_MARK
        if not path.is_file():
            continue
        try:
            said = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise InputError(
                f"The file that says how the phantoms were made cannot be read ({error})",
                advice="Make them again",
                path=path,
            ) from error
        return dict(said) if isinstance(said, dict) else {}
    return None


_SYNTHETIC = "synthetic phantoms in the layout of MTCHI, no tissue of anybody"


def mtchi_counts(found: ImageSet, patches: int | None = None) -> MtchiCounts:
    """Counts of what was opened.

    Parameters
    ----------
    found : ImageSet
    patches : int, optional
        The length of its `patch_index`.
    """
    return MtchiCounts(len(found.images), len(found.patients), patches)


def _part(folder: Path, part: Part) -> Path:
    for own in (folder / "Task2" / part, folder / part):
        if (own / "Img").is_dir() and (own / "Truth").is_dir():
            return own
    raise InputError(
        f"The folder is not laid out as MTCHI: there is no Task2/{part} with Img and Truth",
        advice="Name the folder that holds Task2",
        path=folder,
    )


def _region(stem: str) -> str | None:
    return stem.removeprefix("Crop_") if stem.startswith("Crop_") else None


def _region_of_mask(stem: str) -> str | None:
    # "Mask_<same name>" can be read in two ways, and both are harmless.
    return stem.removeprefix("Mask_").removeprefix("Crop_") if stem.startswith("Mask_") else None
