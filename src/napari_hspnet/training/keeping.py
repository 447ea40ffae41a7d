"""How a network keeps what it knew while it learns something new.

Three means, each of which can be left out:

* distillation: on every patch the network is also drawn towards what its parent says
  there, softly (`distillation`);
* replay: some patches of each batch come from earlier data (`ReplayReader`);
* frozen statistics of batch normalisation (`freeze_norms`), and, if wanted, a frozen
  encoder (`freeze_encoder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from napari_hspnet.errors import InputError
from napari_hspnet.training.data import Augment, LabelledImage, PatchIndex, PatchReader
from napari_hspnet.training.data.images import Array

__all__ = [
    "Frozen",
    "Keeping",
    "ReplayReader",
    "distillation",
    "freeze_encoder",
    "freeze_norms",
    "padding_of",
    "parent_of",
]

_WHITE = 255
# A word that `PatchReader` gives to none of its own random numbers.
_MIX = 3


@dataclass(frozen=True)
class Keeping:
    """How strongly old knowledge is kept, as plain values for a recipe and a card.

    Attributes
    ----------
    weight : float
        Of distillation beside the loss of the labels; 0 is none.
    temperature : float
        Of both softmaxes; the higher, the more small values count.
    replay : int
        Patches of each batch that come from earlier data.
    freeze_norms, freeze_encoder : bool
        See the functions of these names; a frozen encoder's statistics are frozen
        whatever the first says.

    Raises
    ------
    InputError
        If a value makes no sense.
    """

    weight: float = 1.0
    temperature: float = 2.0
    replay: int = 0
    freeze_norms: bool = True
    freeze_encoder: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1e6 or not 0.1 <= self.temperature <= 100 or self.replay < 0:
            raise InputError(
                f"Old knowledge cannot be kept with weight {self.weight}, temperature "
                f"{self.temperature}, {self.replay} patches replayed",
                advice="Give a weight and patches of 0 or more, a temperature from 0.1 to 100",
            )


def parent_of(network: nn.Module) -> nn.Module:
    """A copy that stays as the network is now: evaluation mode, no gradients."""
    return deepcopy(network).eval().requires_grad_(False)


def distillation(
    logits: Tensor, parent: Tensor, padding: Tensor | None = None, temperature: float = 2.0
) -> Tensor:
    """How far a network's scores are from its parent's.

    The Kullback-Leibler divergence of the softmax at a temperature T from the
    parent's, times T² so that its gradient does not shrink with T, averaged over
    pixels. Pixels without a label count like all others: what the parent says there
    is just what no label would keep. Only padding, which is no slide, does not.

    Parameters
    ----------
    logits, parent : Tensor
        (N, C, h, w), any float dtype; no gradient reaches the parent's.
    padding : Tensor, optional
        (N, h, w) of bool; see `padding_of`.
    temperature : float

    Returns
    -------
    Tensor
        Scalar, 0 or more; 0, with a gradient of 0, where all is padding.

    Raises
    ------
    InputError
        If the two differ in shape: the parent has other classes.
    """
    if logits.shape != parent.shape:
        raise InputError(
            f"The network gives scores of shape {tuple(logits.shape)}, its parent of "
            f"{tuple(parent.shape)}",
            advice="Distil from a network of the same classes",
        )
    rows, old = (_rows(scores, padding) for scores in (logits, parent.detach()))
    rows, old = rows / temperature, old / temperature
    total = F.kl_div(rows.log_softmax(1), old.log_softmax(1), reduction="sum", log_target=True)
    return total * temperature**2 / max(len(rows), 1)


def _rows(scores: Tensor, padding: Tensor | None) -> Tensor:
    rows = scores.movedim(1, -1).reshape(-1, scores.shape[1])
    if padding is not None:
        # Chosen, not masked by 0: NaN at padding would survive a product.
        rows = rows.index_select(0, (~padding).flatten().nonzero()[:, 0])
    return rows if rows.dtype == torch.float64 else rows.float()


def padding_of(rgb: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which pixels of patches are padding, whichever way the patches are turned.

    Rows and columns at a patch's edges that are pure white all along. Glass may look
    so, too: there is nothing to keep there, either.

    Parameters
    ----------
    rgb : ndarray of uint8, (N, h, w, 3)

    Returns
    -------
    ndarray of bool, (N, h, w)
    """
    white = (rgb == _WHITE).all(axis=-1)
    rows, columns = (_edges(white.all(axis=axis)) for axis in (2, 1))
    return rows[:, :, None] | columns[:, None, :]


def _edges(line: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The first and last entries that are set without a break, (N, length)."""
    first = np.logical_and.accumulate(line, axis=1)
    last = np.logical_and.accumulate(line[:, ::-1], axis=1)[:, ::-1]
    edges: np.ndarray[Any, np.dtype[np.bool_]] = first | last
    return edges


class ReplayReader(PatchReader):
    """Batches in which some patches come from earlier data.

    An epoch is once through the new patches; earlier ones go on from epoch to epoch,
    so that all have their turn. A batch depends on seeds and step alone, as
    `PatchReader` has it, and old and new stand mixed, so that parts of a batch hold
    both.

    Parameters
    ----------
    images, index, augment, seed
        Of the new data, see `PatchReader`.
    batch : int
        Patches of a step, earlier ones included.
    earlier : PatchReader
        Whose batches are the earlier patches; of the same side.
    images_at_once : int, optional
        See `PatchReader`.

    Raises
    ------
    InputError
        If no room is left for new patches, patches differ in side, or as
        `PatchReader`.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        index: PatchIndex,
        augment: Augment | None = None,
        seed: int = 0,
        *,
        batch: int = 16,
        earlier: PatchReader,
        images_at_once: int | None = None,
    ) -> None:
        count, side = earlier._batch, earlier._index.side
        if count >= batch or side != index.side:
            raise InputError(
                f"Batches of {batch} patches of {index.side} px cannot hold {count} earlier "
                f"ones of {side} px",
                advice="Replay fewer, of the same size",
            )
        super().__init__(
            images, index, augment, seed, batch=batch - count, images_at_once=images_at_once
        )
        self._earlier = earlier
        self._mix_seed = seed

    def batch(self, epoch: int, number: int) -> tuple[Array, Array]:
        """See `PatchReader.batch`."""
        new = super().batch(epoch, number)
        step = epoch * self.steps_per_epoch + number
        old = self._earlier.batch(*divmod(step, self._earlier.steps_per_epoch))
        rng = np.random.default_rng((_MIX, self._mix_seed, epoch, number))
        order = rng.permutation(len(new[0]) + len(old[0]))
        rgb, labels = (np.concatenate(pair)[order] for pair in zip(new, old, strict=True))
        return rgb, labels


@dataclass(frozen=True)
class Frozen:
    """What was frozen; `thaw` lets it go."""

    _hooks: tuple[RemovableHandle, ...] = ()
    _parameters: tuple[nn.Parameter, ...] = ()

    def thaw(self) -> None:
        """Undo the freezing; normalisation follows the next ``train()``."""
        for hook in self._hooks:
            hook.remove()
        for parameter in self._parameters:
            parameter.requires_grad_(True)


def _stay(module: nn.Module, inputs: Any) -> None:
    if module.training:
        module.eval()


def freeze_norms(network: nn.Module, affine: bool = False) -> Frozen:
    """Keep the running statistics of batch normalisation, whatever calls ``train()``.

    Fine-tuning sees few regions in small batches. The mean and variance of four
    patches of one slide are noise, and what they leave in the running statistics is
    the new slide alone: neither replay nor distillation could hold against that, since
    statistics follow no gradient. Frozen, they make training compute just what is
    judged and used afterwards, one patch does not depend on its neighbours in a batch,
    and batches can be cut into parts without changing the result.

    Scale and shift (the affine part) are trained by default. With them a frozen
    normalisation can still become any other (a change of mean or variance is a change
    of shift or scale), so nothing is lost that a new stain may need; and they follow
    the gradient, which holds what is old.

    Parameters
    ----------
    network : nn.Module
    affine : bool
        Whether scale and shift are frozen, too.

    Returns
    -------
    Frozen
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    parameters = [p for norm in norms for p in norm.parameters()] if affine else []
    return _frozen(norms, parameters)


def freeze_encoder(network: nn.Module) -> Frozen:
    """Keep a network's encoder as it is: weights, normalisation and statistics.

    For very few regions, and quicker; what the encoder cannot see in a new stain
    cannot be learned then.

    Parameters
    ----------
    network : nn.Module
        With a child ``encoder``.

    Returns
    -------
    Frozen
    """
    encoder = network.get_submodule("encoder")
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    return _frozen(norms, list(encoder.parameters()))


def _frozen(norms: list[_BatchNorm], parameters: list[nn.Parameter]) -> Frozen:
    # Those that were frozen before stay so when this is undone.
    mine = tuple(p for p in parameters if p.requires_grad)
    for parameter in mine:
        parameter.requires_grad_(False)
    for norm in norms:
        norm.eval()
    return Frozen(tuple(norm.register_forward_pre_hook(_stay) for norm in norms), mine)
