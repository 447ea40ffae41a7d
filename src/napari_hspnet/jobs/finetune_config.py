"""The finer settings of a fine-tuning: sections of a training config, with other defaults.

Data, network and validation are not among them: they follow from the cases, from the
model that it begins with, and from what is held back.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from napari_hspnet.errors import InputError
from napari_hspnet.networks import ModelCard
from napari_hspnet.training.config_sections import (
    AugmentConfig,
    MachineConfig,
    PatchConfig,
    RecipeConfig,
    SeedConfig,
)
from napari_hspnet.training.data import Augment
from napari_hspnet.training.loss_terms import LossTerm
from napari_hspnet.training.recipe import Recipe
from napari_hspnet.training.settings import read_section, refuse_unknown

__all__ = ["FinetuneConfig", "finetune_config"]

EPOCHS = 5

# AdamW: steps are few, and its do not hang on how large gradients are, which differ
# from model to model. Rates are a fraction of what a training from scratch takes, the
# encoder's smaller still: what it knows of tissue is to stay. Batches are small, which
# frozen statistics of batch normalisation allow.
_RECIPE: Mapping[str, Any] = {
    "optimizer": "adamw",
    "learning_rate": 3e-4,
    "encoder_factor": 0.3,
    "schedule": "one-cycle",
    "clip": 5.0,
    "batch": 4,
    "epochs": EPOCHS,
}
_MACHINE: Mapping[str, Any] = {"workers": 1, "snapshot_seconds": 120.0}


@dataclass(frozen=True)
class FinetuneConfig:
    """How a fine-tuning learns.

    Attributes
    ----------
    patches, recipe, augment, seeds, machine
        As in a training config.
    loss : tuple of LossTerm
        Summed up; what keeps old knowledge comes on top.
    """

    patches: PatchConfig
    recipe: RecipeConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seeds: SeedConfig = field(default_factory=SeedConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    loss: tuple[LossTerm, ...] = (LossTerm("ce"),)

    @property
    def changes(self) -> Augment:
        """What is changed about a patch."""
        return Augment(self.augment.orient, self.augment.stain)

    @property
    def optimisation(self) -> Recipe:
        """Optimiser and rates."""
        return self.recipe.optimisation(self.patches.side)

    def to_json(self) -> dict[str, Any]:
        """All that decides the result, as JSON values."""
        return {
            "patches": asdict(self.patches),
            "recipe": asdict(self.recipe),
            "augment": asdict(self.augment),
            "seeds": asdict(self.seeds),
            "loss": [term.to_json() for term in self.loss],
        }

    def words(self) -> str:
        """How it learns, for people."""
        r = self.recipe
        name = {"adamw": "AdamW", "sgd": "SGD"}[r.optimizer]
        times = f"{r.epochs} epochs" if r.epochs > 1 else "1 epoch"
        return (
            f"{times} of batches of {r.batch}; {name}, rate {r.learning_rate:g} "
            f"(encoder {r.learning_rate * r.encoder_factor:g}), {r.schedule}"
        )


def digest_of(values: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values."""
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def finetune_config(
    text: str, card: ModelCard, epochs: int | None = None, device: str = ""
) -> FinetuneConfig:
    """A config from TOML; what is not there has its default.

    Parameters
    ----------
    text : str
        May be empty.
    card : ModelCard
        Of the model to begin with: patches are as large as its window, a quarter of
        that apart.
    epochs : int, optional
        Instead of the config's.
    device : str
        Instead of the config's, unless empty.

    Raises
    ------
    InputError
        If it is no TOML, a key is unknown, or a value cannot be.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"The config is no TOML: {error}", advice="Mend that line, or leave the config out"
        ) from error
    for key in ("data", "validation", "network", "name", "format"):
        if key in values:
            raise InputError(
                f"[{key}] says nothing to a fine-tuning",
                advice="Leave it out: cases, model and name are given beside the config",
            )
    sections: dict[str, tuple[type[Any], Mapping[str, Any]]] = {
        "patches": (PatchConfig, {"side": card.window, "stride": max(1, card.window // 4)}),
        "recipe": (RecipeConfig, _RECIPE),
        "augment": (AugmentConfig, {}),
        "seeds": (SeedConfig, {}),
        "machine": (MachineConfig, _MACHINE),
    }
    refuse_unknown(values, {**dict.fromkeys(sections), "loss": None}, "")
    found: dict[str, Any] = {}
    for key, (section, defaults) in sections.items():
        own = values.get(key, {})
        if not isinstance(own, Mapping):
            raise InputError(f"{key} is {own!r}", advice=f"Write it as [{key}]")
        given = {**defaults, **own}
        if key == "recipe" and epochs is not None:
            given["epochs"] = epochs
        if key == "machine" and device:
            given["device"] = device
        found[key] = read_section(section, given)
    if "loss" in values:
        terms = values["loss"]
        if not isinstance(terms, list) or not terms:
            raise InputError(f"loss is {terms!r}", advice="Write it as [[loss]]")
        found["loss"] = tuple(LossTerm.from_json(term) for term in terms)
    return FinetuneConfig(**found)
