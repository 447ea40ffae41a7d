"""Batches of patches by epoch, the same whoever reads them and wherever one begins."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError
from napari_hspnet.training.augment import orient, stain_jitter
from napari_hspnet.training.data.balance import check_classes, class_balance
from napari_hspnet.training.data.images import Array, LabelledImage
from napari_hspnet.training.data.patches import PatchIndex

__all__ = ["Augment", "Batch", "PatchReader"]

_WHITE = 255
# SeedSequence takes (1, 2) and (1, 2, 0) for the same, so each use has a first word.
_ORDER, _CHANGE = 1, 2


@dataclass(frozen=True)
class Augment:
    """What is changed about a patch before it is learned from.

    Attributes
    ----------
    orient : bool
        Whether it is flipped and turned by right angles, all eight ways alike.
    stain : float
        See `stain_jitter`; 0 leaves colours alone.
    """

    orient: bool = True
    stain: float = 0.08

    def __post_init__(self) -> None:
        if not 0 <= self.stain < 1:
            raise InputError(
                f"Stains cannot vary by {self.stain}", advice="Give a number from 0 to below 1"
            )

    def __call__(self, rgb: Array, labels: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """A patch changed, (s, s, 3) and (s, s)."""
        if self.orient:
            rgb, labels = orient(rgb, labels, int(rng.integers(8)))
        return stain_jitter(rgb, rng, self.stain), labels


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches of one step.

    Attributes
    ----------
    step : int
        Counted through all epochs from 0.
    rgb : ndarray of uint8, (n, side, side, 3)
    labels : ndarray of uint8, (n, side, side)
        0 to 4, 255 ignored.
    """

    step: int
    rgb: Array
    labels: Array


class PatchReader:
    """Batches of patches, each patch once an epoch, a last short batch dropped.

    A batch depends on seed, epoch and its place therein alone: a training can go on
    at any step, and threads change nothing.

    Parameters
    ----------
    images : sequence of LabelledImage
        Those of the index, in the same order.
    index : PatchIndex
    augment : Augment, optional
        None leaves patches as they are.
    seed : int
        0 or more.
    batch : int
        Patches of a step.
    images_at_once : int, optional
        For images that do not fit into memory together, where each patch would
        decode one anew (see `images_that_fit`): the images are shuffled and taken
        this many at a time, and patches are shuffled among these. Batches are then
        less mixed. None mixes all.

    Raises
    ------
    InputError
        If there are fewer patches than a batch holds, or they show one class only.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        index: PatchIndex,
        augment: Augment | None = None,
        seed: int = 0,
        *,
        batch: int = 16,
        images_at_once: int | None = None,
    ) -> None:
        if seed < 0 or batch < 1 or (images_at_once is not None and images_at_once < 1):
            raise InputError(
                f"Patches cannot be read with seed {seed}, {batch} a batch, {images_at_once} "
                "images at once",
                advice="Give a seed of 0 or more and at least one of the others",
            )
        if len(index) < batch:
            raise InputError(
                f"There are {len(index)} patches, fewer than a batch of {batch}",
                advice="Make batches smaller, or add images",
            )
        check_classes(class_balance(images, index))
        self._images = tuple(images)
        self._index = index
        self._augment = augment
        self._seed = seed
        self._batch = batch
        self._at_once = images_at_once
        self._lock = threading.Lock()
        self._order: tuple[int, npt.NDArray[np.intp]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return len(self._index) // self._batch

    def order(self, epoch: int) -> npt.NDArray[np.intp]:
        """Numbers of the patches in the order of an epoch; read-only."""
        with self._lock:
            if self._order is not None and self._order[0] == epoch:
                return self._order[1]
        rng = np.random.default_rng((_ORDER, self._seed, epoch))
        order = rng.permutation(len(self._index))
        if self._at_once is not None:
            rank = rng.permutation(len(self._images)) // self._at_once
            order = order[np.argsort(rank[self._index.image[order]], kind="stable")]
        order.flags.writeable = False
        with self._lock:
            self._order = epoch, order
        return order

    def batch(self, epoch: int, number: int) -> tuple[Array, Array]:
        """A batch of an epoch.

        Parameters
        ----------
        epoch : int
            From 0.
        number : int
            0 to `steps_per_epoch` - 1.

        Returns
        -------
        tuple of ndarray of uint8
            (batch, side, side, 3) and (batch, side, side).

        Raises
        ------
        IndexError
            If there is no such batch.
        InputError, SlideReadError
            If an image cannot be read.
        """
        if epoch < 0 or not 0 <= number < self.steps_per_epoch:
            raise IndexError(f"no batch {number} of epoch {epoch}")
        first, side = number * self._batch, self._index.side
        rgb = np.empty((self._batch, side, side, 3), np.uint8)
        labels = np.empty((self._batch, side, side), np.uint8)
        order = self.order(epoch)
        for i in range(self._batch):
            picture, truth = self.patch(int(order[first + i]))
            if self._augment is not None:
                rng = np.random.default_rng((_CHANGE, self._seed, epoch, first + i))
                picture, truth = self._augment(picture, truth, rng)
            rgb[i], labels[i] = picture, truth
        return rgb, labels

    def patch(self, number: int) -> tuple[Array, Array]:
        """A patch of the index as it is in its image, (side, side, 3) and (side, side)."""
        index, side = self._index, self._index.side
        image = self._images[index.image[number]]
        y, x = int(index.y[number]), int(index.x[number])
        height, width = min(side, image.height - y), min(side, image.width - x)
        rgb, labels = image.read(y, x, height, width)
        if (height, width) == (side, side):
            return rgb, labels
        pad = (0, side - height), (0, side - width)
        return (
            np.pad(rgb, (*pad, (0, 0)), constant_values=_WHITE),
            np.pad(labels, pad, constant_values=index.outside),
        )

    def stream(
        self, first: int = 0, stop: int | None = None, *, workers: int = 2, ahead: int = 4
    ) -> Iterator[Batch]:
        """Batches from a step on, read ahead by threads.

        Close the iterator, or end it, to let the threads go.

        Parameters
        ----------
        first : int
            The step, counted through all epochs.
        stop : int, optional
            The step before which it ends; without, it never does.
        workers : int
            Threads; 0 reads in the caller's.
        ahead : int
            Batches that are read before they are asked for, at most.
        """
        if first < 0 or workers < 0 or ahead < 1:
            raise InputError(
                f"Patches cannot be read from step {first} by {workers} threads, {ahead} ahead",
                advice="Give 0 or more, and at least one ahead",
            )
        return self._stream(first, stop, workers, ahead)

    def _stream(self, first: int, stop: int | None, workers: int, ahead: int) -> Iterator[Batch]:
        step = first
        if workers == 0:
            while stop is None or step < stop:
                yield self._at(step)
                step += 1
            return
        pool = ThreadPoolExecutor(workers, thread_name_prefix="hspnet-patches")
        waiting: deque[Future[Batch]] = deque()
        try:
            while True:
                while len(waiting) < ahead and (stop is None or step < stop):
                    waiting.append(pool.submit(self._at, step))
                    step += 1
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _at(self, step: int) -> Batch:
        return Batch(step, *self.batch(*divmod(step, self.steps_per_epoch)))
