"""Honest opponents: a constant answer, and random forests without structure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_hspnet.classes import CLASSES
from napari_hspnet.errors import CancelledError, DependencyError, InputError
from napari_hspnet.training.features import FEATURE_SETS, FeatureSet, features_at
from napari_hspnet.training.intervals import Counts
from napari_hspnet.training.metrics import scores
from napari_hspnet.training.patches import LabelledField

__all__ = [
    "TREES",
    "Forest",
    "PixelSample",
    "best_constant",
    "constant_answer",
    "fit_forest",
    "require_forests",
    "sample_pixels",
]

TREES = 200
_AT_ONCE = 4
_PREDICTED = 20_000


def constant_answer(counts: Counts, value: int) -> Counts:
    """The confusion matrix of answering `value` everywhere.

    Parameters
    ----------
    counts : ndarray of int64, (5, 5)
        Of any answer on the same pixels: only how many of each class are there counts.
    value : int
        1 to 4.
    """
    out = np.zeros_like(counts)
    out[:, value] = counts.sum(axis=1)
    return out


def best_constant(counts: Sequence[Counts]) -> int:
    """The class whose constant answer has the highest mean Dice over these slides."""
    pooled = np.sum(np.stack(counts), axis=0)
    by_value = {c.value: scores(constant_answer(pooled, c.value)).mean_dice for c in CLASSES}
    return max(by_value, key=lambda value: by_value[value])


@dataclass(frozen=True)
class PixelSample:
    """Pixels to learn from, equally many of each class.

    Attributes
    ----------
    features : Mapping of str to ndarray of float32, (n, features)
        By key of the feature set.
    labels : ndarray of uint8, (n,)
        1 to 4.
    """

    features: Mapping[str, npt.NDArray[np.float32]]
    labels: npt.NDArray[np.uint8]


def sample_pixels(
    fields: Iterable[LabelledField],
    count: int,
    per_class: int = 10_000,
    seed: int = 0,
    kinds: Sequence[FeatureSet] = tuple(FEATURE_SETS.values()),
    cancel: threading.Event | None = None,
) -> PixelSample:
    """Draw pixels of the four classes from fields, equally many of each.

    Parameters
    ----------
    fields : iterable of LabelledField
        Looked at one after another; none is kept.
    count : int
        How many fields that are.
    per_class : int
        Pixels wanted of each class; the rarest one bounds all.
    seed : int
        Of the drawing.
    kinds : sequence of FeatureSet
    cancel : threading.Event, optional

    Raises
    ------
    CancelledError
        If `cancel` was set.
    InputError
        If fewer than two classes occur.
    """
    rng = np.random.default_rng([seed, 7])
    # A class may be in a third of the fields only, and fill little of some.
    share = -(-4 * per_class // max(1, count))
    found: dict[str, list[npt.NDArray[np.float32]]] = {kind.key: [] for kind in kinds}
    labels: list[npt.NDArray[np.uint8]] = []
    for field in fields:
        places = []
        for c in CLASSES:
            here = np.flatnonzero(field.truth == c.value)
            places.append(rng.choice(here, min(share, here.size), replace=False))
        chosen = np.sort(np.concatenate(places))
        if not chosen.size:
            continue
        rows, columns = np.divmod(chosen, field.truth.shape[1])
        labels.append(field.truth[rows, columns])
        for kind in kinds:
            found[kind.key].append(features_at(kind, field.rgb, rows, columns, cancel))
    every = np.concatenate(labels) if labels else np.zeros(0, np.uint8)
    sizes = [int(np.count_nonzero(every == c.value)) for c in CLASSES]
    present = [size for size in sizes if size]
    if len(present) < 2:
        raise InputError(
            "a forest cannot learn from fields of fewer than two classes",
            advice="Give more training fields",
        )
    equal = min(per_class, *present)
    kept = np.sort(
        np.concatenate(
            [
                rng.choice(np.flatnonzero(every == c.value), equal, replace=False)
                for c, size in zip(CLASSES, sizes, strict=True)
                if size
            ]
        )
    )
    return PixelSample(
        {key: np.concatenate(parts)[kept] for key, parts in found.items()}, every[kept]
    )


@dataclass(frozen=True)
class Forest:
    """A random forest on the features of single pixels.

    Attributes
    ----------
    kind : FeatureSet
        What it looks at.
    model : RandomForestClassifier
        scikit-learn's.
    """

    kind: FeatureSet
    model: Any

    def predict(
        self,
        rgb: npt.NDArray[np.uint8],
        rows: npt.NDArray[np.intp],
        columns: npt.NDArray[np.intp],
        cancel: threading.Event | None = None,
    ) -> npt.NDArray[np.uint8]:
        """Values 1 to 4 of some pixels of an image (h, w, 3); never 0.

        Raises
        ------
        CancelledError
            If `cancel` was set.
        """
        features = features_at(self.kind, rgb, rows, columns, cancel)
        out = np.zeros(rows.size, np.uint8)
        for start in range(0, rows.size, _PREDICTED):
            if cancel is not None and cancel.is_set():
                raise CancelledError
            part = slice(start, start + _PREDICTED)
            out[part] = self.model.predict(features[part])
        return out


def require_forests() -> None:
    """Find out before any work whether scikit-learn is there.

    Raises
    ------
    DependencyError
        If not, with how to install it.
    """
    try:
        import sklearn.ensemble  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            "Random forests need the package scikit-learn, which is not installed",
            advice='Install it (pip install "napari-hspnet[learn]"), or leave the baselines out',
        ) from error


def fit_forest(
    sample: PixelSample,
    kind: FeatureSet,
    seed: int = 0,
    trees: int = TREES,
    progress: Callable[[float], None] | None = None,
    cancel: threading.Event | None = None,
) -> Forest:
    """Grow a forest on a sample.

    Parameters
    ----------
    sample : PixelSample
        With the features of `kind`.
    kind : FeatureSet
    seed : int
        The same sample and seed give the same forest, on any number of cores.
    trees : int
    progress : callable, optional
        Gets the share of trees that stand.
    cancel : threading.Event, optional

    Raises
    ------
    CancelledError
        If `cancel` was set.
    DependencyError
        If scikit-learn is not installed.
    """
    require_forests()
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(
        n_estimators=0,
        # Leaves of one pixel learn the noise of neighbours by heart.
        min_samples_leaf=5,
        n_jobs=torch.get_num_threads(),
        random_state=seed,
        warm_start=True,
    )
    # A few trees at a time, so that it can be stopped; the forest is the same.
    for standing in range(0, trees, _AT_ONCE):
        if cancel is not None and cancel.is_set():
            raise CancelledError
        model.set_params(n_estimators=min(trees, standing + _AT_ONCE))
        model.fit(sample.features[kind.key], sample.labels)
        if progress is not None:
            progress(min(1.0, (standing + _AT_ONCE) / trees))
    return Forest(kind, model)
