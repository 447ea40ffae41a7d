"""The MTCHI data set in the layout of its public download (paper, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from napari_hspnet.errors import InputError
from napari_hspnet.training.data.decoded import BYTES, ImageStore, Zero, file_pair
from napari_hspnet.training.data.images import ImageSet, LabelledImage
from napari_hspnet.training.data.pairs import files_by_key, paired

__all__ = [
    "PAPER_COUNTS",
    "PUBLIC_COUNTS",
    "Background",
    "MtchiCounts",
    "Part",
    "mtchi_counts",
    "open_mtchi",
]

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
    notes = (
        *counts.beside(part),
        "background: ignored"
        if background == "ignore"
        else "background: a class, ignored where the picture is pure black",
        f"{mpp:g} µm per pixel is assumed; the files do not say it",
    )
    return ImageSet(found.images, notes)


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
