"""The model card: what a checkpoint says about itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from napari_hspnet.classes import BACKGROUND, CLASSES
from napari_hspnet.errors import InputError
from napari_hspnet.networks.architecture import Architecture
from napari_hspnet.networks.base import MIN_SIDE

__all__ = ["CARD_VERSION", "IMAGENET_MEAN", "IMAGENET_STD", "ModelCard", "class_names"]

CARD_VERSION = 1
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def class_names(num_classes: int) -> tuple[str, ...]:
    """Names of the output channels: with "background" first if there are five."""
    names = tuple(c.name for c in CLASSES)
    return ("background", *names) if num_classes == len(names) + 1 else names


@dataclass(frozen=True)
class ModelCard:
    """What a checkpoint was made for, made from, and is worth.

    Attributes
    ----------
    name : str
        Short name, as in lists.
    architecture : Architecture
        How to build the network.
    classes : tuple of str
        Names of the output channels; by default those of `class_names`.
    mpp : float
        µm per pixel of the network's input.
    window : int
        Side in pixels of the windows that it was trained on.
    mean, std : tuple of float
        Normalisation of RGB in 0 to 1.
    trained_on : str
        The data, in words.
    recipe : Mapping
        How it was trained (JSON values).
    metrics : Mapping
        What was measured and on what (JSON values).
    parent : str or None
        SHA-256 of the checkpoint that it was fine-tuned from.
    licence, intended_use, limitations : str
        In words.
    synthetic : bool
        Whether it has only ever seen synthetic slides: such a model is never
        preselected on a real one.

    Raises
    ------
    InputError
        If fields contradict each other or cannot be right.
    """

    name: str
    architecture: Architecture = field(default_factory=Architecture)
    classes: tuple[str, ...] = ()
    mpp: float = 1.0
    window: int = 400
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    trained_on: str = "not stated"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    licence: str = "not stated"
    intended_use: str = "Research use only"
    synthetic: bool = False
    limitations: str = "not stated"

    def __post_init__(self) -> None:
        def fail(what: str, advice: str) -> None:
            raise InputError(f"model card: {what}", advice=advice)

        for key in ("classes", "mean", "std"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        count = self.architecture.num_classes
        if not self.classes:
            object.__setattr__(self, "classes", class_names(count))
        if self.classes != class_names(count):
            fail(
                f"classes are {list(self.classes)} for {count} output channels",
                f"They must be {list(class_names(count))}",
            )
        if not (_is_number(self.mpp) and self.mpp > 0):
            fail(f"mpp is {self.mpp!r}", "Give µm per pixel, such as 1.0")
        if not (_is_number(self.window, int) and self.window >= MIN_SIDE):
            fail(f"window is {self.window!r}", f"Give a whole number of {MIN_SIDE} or more")
        if len(self.mean) != 3 or not all(map(_is_number, self.mean)):
            fail(f"mean is {self.mean!r}", "Give three numbers, for R, G and B")
        if len(self.std) != 3 or not all(_is_number(v) and v > 0 for v in self.std):
            fail(f"std is {self.std!r}", "Give three positive numbers, for R, G and B")
        if self.synthetic not in (True, False):
            fail(f"synthetic is {self.synthetic!r}", "Give true or false")
        texts = ("name", "trained_on", "licence", "intended_use", "limitations")
        for key in texts:
            if not isinstance(getattr(self, key), str):
                fail(f"{key} is {getattr(self, key)!r}", "Give a text")
        if not self.name.strip():
            fail("it has no name", "Give one")

    @property
    def num_classes(self) -> int:
        """Output channels: 5 with background, 4 without."""
        return self.architecture.num_classes

    @property
    def values(self) -> tuple[int, ...]:
        """Value in a label array of each output channel."""
        numbers = tuple(c.value for c in CLASSES)
        return (BACKGROUND, *numbers) if self.num_classes == len(numbers) + 1 else numbers

    def to_json(self) -> str:
        """The card as one line of JSON.

        Raises
        ------
        InputError
            If the recipe or the metrics hold what JSON cannot.
        """
        values: dict[str, Any] = {"card_version": CARD_VERSION}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Architecture):
                value = value.to_json()
            elif isinstance(value, Mapping):
                value = dict(value)
            values[f.name] = value
        try:
            return json.dumps(values, allow_nan=False, ensure_ascii=False)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"model card {self.name!r} does not fit into JSON ({error})",
                advice="Keep to texts, finite numbers, lists and mappings in recipe and metrics",
            ) from error

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """The card that `to_json` wrote.

        Raises
        ------
        InputError
            If the text is no card, or one of a later version.
        """
        advice = "The file may come from another program or a later version of napari-hspnet"
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"model card: no JSON ({error})", advice=advice) from error
        if not isinstance(values, dict) or not isinstance(values.get("architecture"), dict):
            raise InputError("model card: no architecture in it", advice=advice)
        version = values.pop("card_version", None)
        if version != CARD_VERSION:
            raise InputError(
                f"model card: version {version!r}, this program reads version {CARD_VERSION}",
                advice="Update napari-hspnet",
            )
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise InputError(
                f"model card: unknown fields {', '.join(unknown)}", advice="Update napari-hspnet"
            )
        values["architecture"] = Architecture.from_json(values["architecture"])
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"model card: {error}", advice=advice) from error


def _is_number(value: object, *kinds: type) -> bool:
    # A card comes from a file: JSON's true is no number here.
    if isinstance(value, bool) or not isinstance(value, kinds or (int, float)):
        return False
    return isinstance(value, (int, float)) and math.isfinite(value)
