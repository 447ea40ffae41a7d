"""Folders of pictures and masks, however they were named, our own exports among them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_hspnet.errors import InputError
from napari_hspnet.training.data.decoded import BYTES, ImageStore, Zero, file_pair
from napari_hspnet.training.data.images import ImageSet, LabelledImage

__all__ = ["CROPS_FORMAT", "files_by_key", "open_pairs", "paired"]

CROPS_FORMAT = "napari-hspnet training crops"
"""As ``exchange.training_crops`` writes it; training may not import that room."""

_SUFFIXES = frozenset((".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg"))
_FOLDERS = (("images", "masks"), ("Img", "Truth"))
_PATIENTS = "patients.csv"


def open_pairs(
    folder: Path | str,
    *,
    mpp: float | None = None,
    zero: Zero = "class",
    limit: int = BYTES,
) -> ImageSet:
    """Open a folder of pictures with masks; only headers are read now.

    Three layouts are known: training crops as we export them (with ``crops.json``);
    ``images/`` with ``masks/``, or ``Img/`` with ``Truth/``, of equal names or
    ``Crop_x`` with ``Mask_x``; and pairs ``x.png`` with ``x_mask.png``. A
    ``patients.csv`` with the columns ``name`` and ``patient`` says whose they are
    (in a folder of training crops a name can also be a slide's SHA-256). Without,
    the crops of one slide are one patient, and every other image is its own.

    Parameters
    ----------
    folder : path-like
    mpp : float, optional
        µm per pixel of all of them; what the folder says, else 1.0.
    zero : {"class", "ignore", "black"}
        What 0 of a mask becomes; see `Zero`.
    limit : int
        Bytes of decoded images kept in memory.

    Returns
    -------
    ImageSet
        Its notes say what was assumed.

    Raises
    ------
    InputError
        No image, one without its partner, sizes that differ, a file that cannot be
        read, or a list of patients that leaves some out.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("There is no such folder", advice="Check its name", path=folder)
    said, store = _crops(folder), ImageStore(limit)
    if said is not None:
        return _exported(folder, said, mpp, zero, store)
    pairs = _found(folder)
    patients = _patients(folder)
    notes = []
    if patients is None:
        patients = {}
        notes.append(
            f"There is no {_PATIENTS}, so each image counts as a patient of its own "
            f"({len(pairs)} here)"
        )
    else:
        _refuse_left_out([(name,) for name in pairs], patients, folder)
    if mpp is None:
        notes.append("The folder does not say its µm per pixel; 1.0 is assumed")
    images: list[LabelledImage] = [
        file_pair(name, patients.get(name, name), *pair, store, mpp=mpp or 1.0, zero=zero)
        for name, pair in sorted(pairs.items())
    ]
    return ImageSet(tuple(images), tuple(notes))


def files_by_key(folder: Path, key: Callable[[str], str | None]) -> dict[str, Path]:
    """The image files of a folder, by what `key` makes of their names without suffix.

    Files for which it gives None, hidden ones and those of other kinds are left out.

    Raises
    ------
    InputError
        If two have the same key.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith("."):
            continue
        name = key(path.stem)
        if name is None:
            continue
        if name in found:
            raise InputError(
                f"{found[name].name} and {path.name} are both called {name}",
                advice="Keep one of them",
                path=folder,
            )
        found[name] = path
    return found


def paired(
    pictures: Mapping[str, Path], masks: Mapping[str, Path], folder: Path
) -> dict[str, tuple[Path, Path]]:
    """Each picture with its mask.

    Raises
    ------
    InputError
        If there is none, or one lacks its partner.
    """
    alone = sorted(pictures.keys() - masks.keys())
    if alone:
        raise InputError(
            f"There is no mask for {_few(pictures[n].name for n in alone)}",
            advice="Add the masks, or take the pictures out",
            path=pictures[alone[0]],
        )
    alone = sorted(masks.keys() - pictures.keys())
    if alone:
        raise InputError(
            f"There is no picture for {_few(masks[n].name for n in alone)}",
            advice="Add the pictures, or take the masks out",
            path=masks[alone[0]],
        )
    if not pictures:
        raise InputError(
            "There is no image in the folder",
            advice="Choose a folder with pictures and their masks",
            path=folder,
        )
    return {name: (pictures[name], masks[name]) for name in pictures}


def _few(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _found(folder: Path) -> dict[str, tuple[Path, Path]]:
    for first, second in _FOLDERS:
        if (folder / first).is_dir() and (folder / second).is_dir():
            pictures = files_by_key(folder / first, _picture_key)
            return paired(pictures, files_by_key(folder / second, _mask_key), folder)
    pictures = files_by_key(folder, lambda stem: None if stem.endswith("_mask") else stem)
    masks = files_by_key(folder, lambda s: s.removesuffix("_mask") if s.endswith("_mask") else None)
    return paired(pictures, masks, folder)


def _picture_key(stem: str) -> str:
    return stem.removeprefix("Crop_")


def _mask_key(stem: str) -> str:
    return stem.removeprefix("Mask_").removeprefix("Crop_").removesuffix("_mask")


def _patients(folder: Path) -> dict[str, str] | None:
    """Patients by name of image; None without a list."""
    path = folder / _PATIENTS
    if not path.is_file():
        return None
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"The list of patients cannot be read ({error})",
            advice="Save it as CSV in UTF-8",
            path=path,
        ) from error
    found: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        name, patient = ((row.get(key) or "").strip() for key in ("name", "patient"))
        if not name or not patient:
            raise InputError(
                f"Line {number} of the list of patients lacks a name or a patient",
                advice="Give each line both, under the headings name and patient",
                path=path,
            )
        if Path(name).suffix.lower() in _SUFFIXES:
            name = Path(name).stem
        if found.setdefault(name, patient) != patient:
            raise InputError(
                f"The list gives {name} to {found[name]} and to {patient}",
                advice="Give each image one patient",
                path=path,
            )
    return found


def _refuse_left_out(
    names: Sequence[tuple[str, ...]], patients: Mapping[str, str], folder: Path
) -> None:
    """Refuse a list in which none of an image's names stands."""
    absent = [own[0] for own in names if not any(name in patients for name in own)]
    if absent:
        raise InputError(
            f"The list of patients leaves out {_few(absent)}",
            advice="Add a line for each image",
            path=folder / _PATIENTS,
        )


def _crops(folder: Path) -> dict[str, Any] | None:
    """What ``crops.json`` says; None where it is absent or somebody else's."""
    path = folder / "crops.json"
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            f"The list of crops cannot be read ({error})", advice="Export them again", path=path
        ) from error
    if not isinstance(said, dict) or said.get("format") != CROPS_FORMAT:
        return None
    if said.get("version") != 1:
        raise InputError(
            f"The crops are of version {said.get('version')}, which is not known here",
            advice="Update napari-hspnet, or export them again",
            path=path,
        )
    return said


def _exported(
    folder: Path, said: Mapping[str, Any], mpp: float | None, zero: Zero, store: ImageStore
) -> ImageSet:
    path = folder / "crops.json"
    try:
        rows = [
            (str(c["crop"]), str(c["slide_sha256"]), folder / c["image"], folder / c["mask"])
            for c in said["crops"]
        ]
        own_mpp = float(said["um_per_pixel"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"The list of crops is not as it was exported ({type(error).__name__}: {error})",
            advice="Export them again",
            path=path,
        ) from error
    if mpp is not None and abs(mpp / own_mpp - 1) > 1e-6:
        raise InputError(
            f"The crops have {own_mpp:g} µm per pixel, not {mpp:g}",
            advice="Leave it out, or export them at that resolution",
            path=path,
        )
    if not rows:
        raise InputError("There is no image in the folder", advice="Export crops", path=folder)
    patients = _patients(folder)
    notes = []
    if patients is None:
        notes.append(
            f"There is no {_PATIENTS}, so each slide counts as a patient of its own "
            f"({len({row[1] for row in rows})} here)"
        )
        patients = {}
    else:
        _refuse_left_out([row[:2] for row in rows], patients, folder)
    images: list[LabelledImage] = [
        file_pair(
            name,
            patients.get(name, patients.get(slide, slide)),
            picture,
            mask,
            store,
            mpp=own_mpp,
            zero=zero,
        )
        for name, slide, picture, mask in sorted(rows)
    ]
    return ImageSet(tuple(images), tuple(notes))
