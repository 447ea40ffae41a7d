"""The one file that says everything about a training; the paper's recipe by default."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from napari_hspnet.classes import RESEARCH_USE_ONLY
from napari_hspnet.errors import InputError
from napari_hspnet.networks import Architecture
from napari_hspnet.training.config_sections import (
    PRESETS,
    AugmentConfig,
    CaseEntry,
    DataConfig,
    MachineConfig,
    NetworkConfig,
    PatchConfig,
    RecipeConfig,
    SeedConfig,
    ValidationConfig,
)
from napari_hspnet.training.data import Augment
from napari_hspnet.training.loss_terms import LossTerm
from napari_hspnet.training.recipe import Recipe
from napari_hspnet.training.settings import (
    read_section,
    refuse_unknown,
    toml_value,
    write_section,
)

__all__ = [
    "CONFIG_VERSION",
    "PRESETS",
    "AugmentConfig",
    "CaseEntry",
    "DataConfig",
    "MachineConfig",
    "NetworkConfig",
    "PatchConfig",
    "RecipeConfig",
    "SeedConfig",
    "TrainConfig",
    "ValidationConfig",
    "example_config",
    "parse_config",
    "read_config",
]

CONFIG_VERSION = 1

_SECTIONS = (
    ("data", DataConfig),
    ("validation", ValidationConfig),
    ("network", NetworkConfig),
    ("patches", PatchConfig),
    ("recipe", RecipeConfig),
    ("augment", AugmentConfig),
    ("seeds", SeedConfig),
    ("machine", MachineConfig),
)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training depends on.

    Attributes
    ----------
    data, validation, network, patches, recipe, augment, seeds, machine
        Its sections.
    loss : tuple of LossTerm
        Summed up.
    name : str
        Of the model, in its card.

    Raises
    ------
    InputError
        If a value cannot be, or two contradict each other.
    """

    data: DataConfig
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    patches: PatchConfig = field(default_factory=PatchConfig)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)
    loss: tuple[LossTerm, ...] = field(default=(LossTerm("ce"),))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seeds: SeedConfig = field(default_factory=SeedConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    name: str = "hsp-net"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(f"name is {self.name!r}", advice="Give a text")
        if not self.loss:
            raise InputError("there is no [[loss]]", advice='Give one, such as name = "ce"')
        phantom = self.data.kind == "phantom"
        wrong = ("share", "patients") if phantom else ("fields",)
        for key in wrong:
            if getattr(self.validation, key):
                raise InputError(
                    f"[validation] {key} says nothing about the kind {self.data.kind}",
                    advice="Give fields" if phantom else "Give share or patients",
                )
        if self.validation.stride > self.patches.side:
            raise InputError(
                f"[validation] stride is {self.validation.stride}",
                advice=f"Give {self.patches.side} at most, the side of a patch",
            )
        if self.recipe.micro_batch > self.recipe.batch:
            raise InputError(
                f"[recipe] micro_batch is {self.recipe.micro_batch}",
                advice=f"Give {self.recipe.batch} at most, the batch",
            )
        # What makes no network is found now, not after the data are read.
        if self.architecture.encoder == "small" and self.network.encoder_weights != "none":
            raise InputError(
                f"[network] encoder_weights is {self.network.encoder_weights!r}, and there are "
                "none for the encoder small",
                advice='Give "none"',
            )

    @property
    def architecture(self) -> Architecture:
        """Of the network."""
        return self.network.architecture_for(self.patches.side)

    @property
    def changes(self) -> Augment:
        """What is changed about a patch."""
        return Augment(self.augment.orient, self.augment.stain)

    @property
    def optimisation(self) -> Recipe:
        """Optimiser and rates."""
        return self.recipe.optimisation(self.patches.side)

    def to_json(self) -> dict[str, Any]:
        """All values, as JSON has them."""
        values: dict[str, Any] = {"format": CONFIG_VERSION, "name": self.name}
        for key, _ in _SECTIONS:
            section = getattr(self, key)
            values[key] = {f.name: _plain(getattr(section, f.name)) for f in fields(section)}
        values["loss"] = [term.to_json() for term in self.loss]
        return values

    @property
    def digest(self) -> str:
        """SHA-256 of all that decides the result: everything but ``machine``."""
        values = self.to_json()
        del values["machine"]
        text = json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_toml(self, comments: bool = False) -> str:
        """The file that `parse_config` reads back as an equal config."""
        parts = [
            f"# napari-hspnet training config. {RESEARCH_USE_ONLY}.\n"
            f"format = {CONFIG_VERSION}\nname = {toml_value(self.name)}\n"
        ]
        for key, _ in _SECTIONS:
            section = getattr(self, key)
            if not isinstance(section, NetworkConfig):
                parts.append(write_section(_listed(section), comments))
                continue
            parts.append(write_section(section, comments, ("architecture",)))
            lines = ["[network.architecture]"]
            if comments:
                lines += _ARCHITECTURE_HELP
            lines += [f"{k} = {toml_value(v)}" for k, v in section.architecture.items()]
            parts.append("\n".join(lines) + "\n")
        for term in self.loss:
            about = _LOSS_HELP if comments and term is self.loss[0] else ""
            parts.append(
                f"{about}[[loss]]\nname = {toml_value(term.name)}\nweight = {term.weight!r}\n"
                f"options = {toml_value(term.options)}\n"
            )
        return "\n".join(parts)


_ARCHITECTURE_HELP = (
    "# Fields that differ from the preset's, such as num_classes = 4 (no background",
    '# channel), or name = "unet" for a network to compare with. All there are:',
    f"# {', '.join(f.name for f in fields(Architecture))}",
)
_LOSS_HELP = (
    "# One or more, summed up with their weights. ce is cross-entropy; ae_r our reconstruction\n"
    "# of the paper's AE-Loss, whose formula is not public. Others: cdw_ce, squared_emd,\n"
    "# wasserstein_dice, dice, focal. Options are each loss's own, such as { gamma = 2.0 }.\n"
)


def _listed(section: Any) -> Any:
    """A section as `write_section` takes it: case entries are tables."""
    if not isinstance(section, DataConfig):
        return section
    plain = replace(section)
    object.__setattr__(plain, "cases", _plain(section.cases))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, CaseEntry):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    return dict(value) if isinstance(value, Mapping) else value


def example_config() -> TrainConfig:
    """The paper's recipe on MTCHI; only the folder has to be said."""
    return TrainConfig(DataConfig("mtchi", folder="path/to/MTCHI"))


def parse_config(text: str) -> TrainConfig:
    """A config from TOML; what is not there has its default.

    Raises
    ------
    InputError
        If it is no TOML, a key is unknown or lacks, or a value cannot be.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f"The config is no TOML: {error}",
            advice="Mend that line; `napari-hspnet train --example` shows how it is written",
        ) from error
    sections = dict(_SECTIONS)
    known = {"format": None, "name": None, "loss": None, **dict.fromkeys(sections)}
    refuse_unknown(values, known, "")
    if values.pop("format", CONFIG_VERSION) != CONFIG_VERSION:
        raise InputError(
            "format is of a version that is not known here",
            advice=f"Write format = {CONFIG_VERSION}, or update napari-hspnet",
        )
    if "data" not in values:
        raise InputError("there is no [data]", advice='Give it, with kind = "mtchi" for instance')
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key == "loss":
            given[key] = _losses(value)
        elif key == "name":
            given[key] = value
        else:
            extra = {}
            if key == "data" and isinstance(value, Mapping) and "cases" in value:
                extra["cases"] = _cases(value["cases"])
            given[key] = read_section(sections[key], value, extra)
    return TrainConfig(**given)


def _losses(value: Any) -> tuple[LossTerm, ...]:
    if not isinstance(value, list):
        raise InputError(f"loss is {value!r}", advice="Write it as [[loss]]")
    terms = []
    for number, term in enumerate(value, start=1):
        try:
            terms.append(LossTerm.from_json(term))
        except InputError as error:
            what = f"[[loss]] number {number}: {error.what}"
            raise InputError(what, advice=error.advice) from error
    return tuple(terms)


def _cases(value: Any) -> tuple[CaseEntry, ...]:
    if not isinstance(value, list):
        raise InputError(f"[data] cases is {value!r}", advice="Give a list of tables")
    return tuple(read_section(CaseEntry, entry) for entry in value)


def read_config(path: Path | str) -> TrainConfig:
    """A config file.

    Raises
    ------
    InputError
        As `parse_config`, with the file's name; or if it cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The config cannot be read ({getattr(error, 'strerror', None) or error})",
            advice="Give a TOML file in UTF-8; `napari-hspnet train --example` prints one",
            path=path,
        ) from error
    try:
        return parse_config(text)
    except InputError as error:
        raise InputError(error.what, advice=error.advice, path=path) from error
