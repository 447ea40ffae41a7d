"""What sets two models apart: what their cards say, and how far their weights moved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_hspnet.errors import CheckpointError
from napari_hspnet.networks.card import ModelCard
from napari_hspnet.networks.card_values import data_of, flat, without_data
from napari_hspnet.networks.checkpoint import load_checkpoint

__all__ = ["Difference", "PartChange", "diff_cards", "diff_weights"]

_STATISTICS = "running statistics"
_ABOUT = (
    "name",
    "classes",
    "mpp",
    "window",
    "mean",
    "std",
    "synthetic",
    "licence",
    "intended_use",
    "limitations",
    "parent",
)


@dataclass(frozen=True)
class Difference:
    """Something that two cards state differently.

    Attributes
    ----------
    section : str
        "card", "architecture", "data", "recipe" or "metrics".
    key : str
        Dotted name within it.
    first, second : Any
        JSON values; None where a card does not state it.
    """

    section: str
    key: str
    first: Any
    second: Any


@dataclass(frozen=True)
class PartChange:
    """How far a part of a network moved.

    Attributes
    ----------
    part : str
        As "encoder" or "DS-Block 2"; the running statistics of normalisation, which no
        gradient moves, are a part of their own.
    numbers : int
        How many it has.
    changed : float
        Share of them that differ, 0 to 1.
    relative : float
        Euclidean length of the difference over that of the first model's numbers.
    """

    part: str
    numbers: int
    changed: float
    relative: float


def diff_cards(first: ModelCard, second: ModelCard) -> tuple[Difference, ...]:
    """All that two cards state differently, in the order of the card.

    Parameters
    ----------
    first, second : ModelCard
    """
    found = []
    ours, theirs = _sections(first), _sections(second)
    for section in ours:
        a, b = dict(flat(ours[section])), dict(flat(theirs[section]))
        for key in dict.fromkeys((*a, *b)):
            if a.get(key) != b.get(key):
                found.append(Difference(section, key, a.get(key), b.get(key)))
    return tuple(found)


def diff_weights(first: Path, second: Path) -> tuple[PartChange, ...]:
    """How far each part of a network moved from one checkpoint to another.

    Numbers are compared as float32: where one file keeps half precision and the other
    does not, rounding alone changes nearly all of them.

    Parameters
    ----------
    first, second : Path
        Checkpoints of one architecture.

    Raises
    ------
    CheckpointError
        If one cannot be read, or they are of different architectures.
    """
    a, b = load_checkpoint(first), load_checkpoint(second)
    if a.card.architecture != b.card.architecture:
        raise CheckpointError(
            "the two models are of different architectures, their weights cannot be compared",
            advice="Compare what their cards say",
            path=second,
        )
    learned = {name for name, _ in a.network.named_parameters()}
    ours, theirs = a.network.state_dict(), b.network.state_dict()
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for name, value in ours.items():
        if value.is_floating_point():
            part = _part(name) if name in learned else _STATISTICS
            parts.setdefault(part, []).append((value, theirs[name]))
    return tuple(_change(part, pairs) for part, pairs in sorted(parts.items(), key=_place))


def _sections(card: ModelCard) -> dict[str, Mapping[str, Any]]:
    values = json.loads(card.to_json())
    return {
        "card": {key: values[key] for key in _ABOUT},
        "architecture": values["architecture"],
        "data": {"trained_on": values["trained_on"], **data_of(values["recipe"])},
        "recipe": without_data(values["recipe"]),
        "metrics": values["metrics"],
    }


def _part(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"DS-Block {int(rest.partition('.')[0]) + 1}" if first == "ds" else first


def _place(item: tuple[str, Any]) -> int:
    # Along the network; others keep the order of the state dict, as sorting is stable.
    part = item[0]
    known = {"encoder": 0, "head": 2, _STATISTICS: 3}
    return known.get(part, 1)


def _change(part: str, pairs: list[tuple[Tensor, Tensor]]) -> PartChange:
    numbers = changed = 0
    moved = length = 0.0
    for a, b in pairs:
        numbers += a.numel()
        changed += int(torch.count_nonzero(a != b))
        moved += float((b.double() - a.double()).square().sum())
        length += float(a.double().square().sum())
    relative = (moved / length) ** 0.5 if length else float(moved > 0)
    return PartChange(part, numbers, changed / numbers, relative)
