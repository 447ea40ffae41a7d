"""Splits by patient: nobody is on both sides."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError
from napari_hspnet.training.data.balance import class_pixels
from napari_hspnet.training.data.images import LabelledImage, patients_of

__all__ = ["Split", "check_split", "folds", "split_by_patient"]

Sizes = npt.NDArray[np.integer | np.floating]

_TRIES = 64


@dataclass(frozen=True)
class Split:
    """Images to learn from and images to judge by.

    Attributes
    ----------
    train, test : tuple of LabelledImage
        In the order in which they were given.

    Raises
    ------
    InputError
        If a patient is on both sides.
    """

    train: tuple[LabelledImage, ...]
    test: tuple[LabelledImage, ...]

    def __post_init__(self) -> None:
        check_split(self.train, self.test)


def check_split(train: Sequence[LabelledImage], test: Sequence[LabelledImage]) -> None:
    """Refuse a split that patients cross.

    Raises
    ------
    InputError
        Which names them, or the side that has no image.
    """
    for side, images in (("to learn from", train), ("to judge by", test)):
        if not images:
            raise InputError(f"There is no image {side}", advice="Give each side some patients")
    both = sorted(set(patients_of(train)) & set(patients_of(test)))
    if both:
        few = ", ".join(both[:8]) + (f" and {len(both) - 8} more" if len(both) > 8 else "")
        raise InputError(
            f"These patients are on both sides of the split: {few}",
            advice="Keep all images of a patient on one side",
        )


def split_by_patient(
    images: Sequence[LabelledImage],
    test: float | Collection[str] = 0.25,
    seed: int = 0,
    pixels: Sizes | None = None,
) -> Split:
    """Split images so that each patient is on one side.

    Parameters
    ----------
    images : sequence of LabelledImage
    test : float or collection of str
        The share of each class's pixels to judge by, as nearly as patients allow;
        or the patients.
    seed : int
        Of the choice.
    pixels : ndarray, (images, classes), optional
        By which it is balanced; pixels of labels 1 to 4 without.

    Raises
    ------
    InputError
        If there are fewer than two patients, one of those named is not there, or
        none is left on a side.
    """
    own = patients_of(images)
    if isinstance(test, (int, float)):
        if not 0 < test < 1:
            raise InputError(
                f"{test} is no share to judge by", advice="Give a number between 0 and 1"
            )
        shares = (1.0 - float(test), float(test))
        chosen: Collection[str] = _assigned(
            [image.patient for image in images], _sizes(images, pixels), shares, seed
        )[1]
    else:
        chosen = set(test)
        unknown = sorted(set(chosen) - set(own))
        if unknown:
            raise InputError(
                f"There is no image of {', '.join(unknown)}",
                advice=f"Those there are: {', '.join(own)}",
            )
    return Split(
        tuple(image for image in images if image.patient not in chosen),
        tuple(image for image in images if image.patient in chosen),
    )


def folds(
    patients: Sequence[str],
    k: int = 4,
    seed: int = 0,
    sizes: Sizes | None = None,
    *,
    first: Collection[str] | None = None,
) -> tuple[tuple[str, ...], ...]:
    """Divide patients into folds with about as many pixels of each class.

    Parameters
    ----------
    patients : sequence of str
        Of each image, or each once.
    k : int
        Folds, two or more.
    seed : int
        Of the choice; the same gives the same folds, whatever the order. Where few
        patients leave one best division, all seeds find it.
    sizes : ndarray, (len(patients), classes), optional
        What is balanced, such as `class_pixels`; without, the number of entries.
    first : collection of str, optional
        The patients of the first fold, as the paper's test set is one of the four
        (section 4.4); the others are divided into the rest.

    Returns
    -------
    tuple of tuple of str
        Each sorted.

    Raises
    ------
    InputError
        If there are fewer patients than folds.
    """
    if k < 2:
        raise InputError(f"{k} folds are none", advice="Give two or more")
    values = _checked(sizes, len(patients))
    if first is None:
        return _assigned(patients, values, (1 / k,) * k, seed)
    fixed = set(first)
    unknown = sorted(fixed - set(patients))
    if unknown or not fixed:
        raise InputError(
            f"There is no image of {', '.join(unknown) or 'the first fold'}",
            advice=f"Those there are: {', '.join(sorted(set(patients)))}",
        )
    rest = [i for i, patient in enumerate(patients) if patient not in fixed]
    others = _assigned([patients[i] for i in rest], values[rest], (1 / (k - 1),) * (k - 1), seed)
    return (tuple(sorted(fixed)), *others)


def _sizes(images: Sequence[LabelledImage], pixels: Sizes | None) -> Sizes:
    return class_pixels(images)[:, 1:] if pixels is None else _checked(pixels, len(images))


def _checked(sizes: Sizes | None, count: int) -> Sizes:
    if sizes is None:
        return np.ones((count, 1))
    values = np.asarray(sizes)
    if values.ndim != 2 or len(values) != count:
        raise InputError(
            f"The sizes are of shape {values.shape}, for {count} entries",
            advice="Give a row for each",
        )
    return values


def _assigned(
    patients: Sequence[str], sizes: Sizes, shares: Sequence[float], seed: int
) -> tuple[tuple[str, ...], ...]:
    """Patients in parts of given shares: the best of some greedy divisions.

    Large patients are placed first, and each where the parts come nearest to their
    shares of all classes, in squares; orders are varied a little between tries.
    """
    names = sorted(set(patients))
    parts = len(shares)
    if len(names) < parts:
        raise InputError(
            f"There are {len(names)} patients, fewer than {parts} parts",
            advice="Make fewer parts, or add patients; patients.csv says whose an image is",
        )
    place = {name: i for i, name in enumerate(names)}
    own = np.zeros((len(names), sizes.shape[1]))
    np.add.at(own, [place[patient] for patient in patients], sizes)
    total = own.sum(axis=0)
    # Beside the classes, the number of patients counts a little: it decides between
    # those that have none.
    weights = np.append(np.ones(int((total > 0).sum())), 0.1)
    own = np.column_stack([own[:, total > 0] / total[total > 0], np.full(len(names), 1.0)])
    own[:, -1] /= len(names)
    wanted = np.asarray(shares)[:, None]
    rng = np.random.default_rng(seed)
    best, least = np.zeros(len(names), np.intp), np.inf
    for _ in range(_TRIES):
        order = np.argsort(-own[:, :-1].sum(axis=1) * np.exp(rng.normal(0, 0.5, len(names))))
        into, off = _greedy(own, order, wanted, weights)
        if off < least:
            best, least = into, off
    return tuple(tuple(names[i] for i in np.flatnonzero(best == part)) for part in range(parts))


def _greedy(
    own: npt.NDArray[np.float64],
    order: npt.NDArray[np.intp],
    wanted: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.intp], float]:
    """The part of each patient, and how far the parts are from their shares."""
    parts = len(wanted)
    into = np.zeros(len(own), np.intp)
    sums = np.zeros((parts, own.shape[1]))
    members = np.zeros(parts, np.intp)
    for done, patient in enumerate(order):
        # What a part gains by this patient: the difference of the squares.
        gap = sums - wanted
        gain = (((gap + own[patient]) ** 2 - gap**2) * weights).sum(axis=1)
        if len(own) - done <= np.count_nonzero(members == 0):
            gain = np.where(members == 0, gain, np.inf)
        part = int(np.argmin(gain))
        into[patient] = part
        sums[part] += own[patient]
        members[part] += 1
    return into, float((((sums - wanted) ** 2) * weights).sum())
