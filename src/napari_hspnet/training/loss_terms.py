"""A loss as plain values that go into a recipe and a model card."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from napari_hspnet.errors import InputError
from napari_hspnet.training.losses import cross_entropy
from napari_hspnet.training.ordinal import ae_r, cdw_ce, squared_emd
from napari_hspnet.training.overlap import dice, focal, wasserstein_dice

__all__ = ["LOSSES", "Loss", "LossTerm", "loss_options", "make_loss"]


def _ce(logits: Tensor, target: Tensor, *, background: float = 1.0) -> Tensor:
    channels = logits.shape[1]
    if background == 1 or channels != 5:
        return cross_entropy(logits, target)
    weights = torch.ones(channels, device=logits.device)
    weights[0] = background
    return cross_entropy(logits, target, weights=weights)


# The limits keep values within float32; they are no recommendation.
_MOST = 1e6
# What computes a loss, and the highest value of each of its options; the lowest is 0.
_KINDS: Mapping[str, tuple[Callable[..., Tensor], Mapping[str, float]]] = {
    "ce": (_ce, {"background": _MOST}),
    "ae_r": (ae_r, {"lam": _MOST, "d0": _MOST, "background": _MOST}),
    "cdw_ce": (cdw_ce, {"alpha": 20, "d0": _MOST, "background": _MOST}),
    "squared_emd": (squared_emd, {"d0": _MOST, "background": _MOST}),
    "wasserstein_dice": (wasserstein_dice, {"smooth": _MOST}),
    "dice": (dice, {"smooth": _MOST}),
    "focal": (focal, {"gamma": 20, "background": _MOST}),
}

LOSSES = tuple(_KINDS)


def loss_options(name: str) -> tuple[str, ...]:
    """Names of a loss's options.

    Raises
    ------
    InputError
        If the loss is unknown.
    """
    # Among a tuple's items: a config may name a loss by a list, which has no hash.
    if name not in LOSSES:
        raise InputError(
            f"the loss {name!r} is unknown", advice=f"Choose one of {', '.join(LOSSES)}"
        )
    return tuple(_KINDS[name][1])


@dataclass(frozen=True)
class LossTerm:
    """One loss of a weighted sum; JSON goes in and out unchanged.

    Attributes
    ----------
    name : str
        One of `LOSSES`.
    weight : float
        Above 0.
    options : mapping of str to float
        Of this loss, see `loss_options` and the function of that name; what is not
        given has that function's default. ``d0`` and ``background`` have no effect
        where there is no background channel.

    Raises
    ------
    InputError
        If the name, an option or a value cannot be.
    """

    name: str
    weight: float = 1.0
    options: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        known = loss_options(self.name)
        if not _number(self.weight) or not 0 < self.weight <= _MOST:
            raise InputError(
                f"the loss {self.name} has the weight {self.weight!r}",
                advice=f"Give a number above 0, at most {_MOST:g}, or leave this loss out",
            )
        if not isinstance(self.options, Mapping):
            raise InputError(
                f"the options of the loss {self.name} are {self.options!r}",
                advice="Give names and numbers",
            )
        highest = _KINDS[self.name][1]
        for option, value in self.options.items():
            if option not in known:
                raise InputError(
                    f"the loss {self.name} has no option {option!r}",
                    advice=f"It has {', '.join(known)}",
                )
            if not _number(value) or not 0 <= value <= highest[option]:
                raise InputError(
                    f"the option {option} of the loss {self.name} is {value!r}",
                    advice=f"Give a number from 0 to {highest[option]:g}",
                )
        object.__setattr__(self, "weight", float(self.weight))
        # A copy: what the caller does to his own no longer reaches a frozen term.
        object.__setattr__(self, "options", {k: float(v) for k, v in self.options.items()})

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"name": self.name, "weight": self.weight, "options": dict(self.options)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LossTerm:
        """The term that `to_json` wrote.

        Raises
        ------
        InputError
            If a field is unknown or missing, or a value cannot be.
        """
        advice = "Give a name, and a weight and options if wanted"
        if not isinstance(values, Mapping) or "name" not in values:
            raise InputError(f"{values!r} is no loss", advice=advice)
        unknown = sorted(str(k) for k in set(values) - {"name", "weight", "options"})
        if unknown:
            raise InputError(f"a loss has unknown fields: {', '.join(unknown)}", advice=advice)
        return cls(**values)


@dataclass(frozen=True)
class Loss:
    """A weighted sum of losses; made by `make_loss`.

    Attributes
    ----------
    terms : tuple of LossTerm
    num_classes : int
        Output channels, 4 or 5.
    """

    terms: tuple[LossTerm, ...]
    num_classes: int

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Parameters
        ----------
        logits : Tensor
            (N, num_classes, h, w), any float dtype.
        target : Tensor
            (N, h, w) of int64: output channels, 255 ignored.

        Returns
        -------
        Tensor
            Scalar; 0, with a gradient of 0, where no pixel counts.

        Raises
        ------
        InputError
            If there is another number of channels.
        """
        if logits.shape[1] != self.num_classes:
            raise InputError(
                f"a loss for {self.num_classes} classes got {logits.shape[1]} channels",
                advice="Give the loss the network's number of classes",
            )
        first, *others = (
            term.weight * _KINDS[term.name][0](logits, target, **term.options)
            for term in self.terms
        )
        return sum(others, first)


def make_loss(terms: Iterable[LossTerm], num_classes: int = 5) -> Loss:
    """The weighted sum of some losses.

    Parameters
    ----------
    terms : iterable of LossTerm
        One or more.
    num_classes : int
        Output channels: 5 with background, 4 without.

    Returns
    -------
    Loss

    Raises
    ------
    InputError
        If there is no term, or neither 4 nor 5 classes.
    """
    terms = tuple(terms)
    if not terms:
        raise InputError("a loss needs a term", advice=f"Choose one of {', '.join(LOSSES)}")
    if num_classes not in (4, 5) or isinstance(num_classes, bool):
        raise InputError(
            f"num_classes is {num_classes!r}",
            advice="Choose 5 (with background) or 4 (without)",
        )
    return Loss(terms, num_classes)


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
