"""What is asked of a fine-tuning; plain values, so that nothing heavy is imported for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from napari_hspnet.errors import InputError

__all__ = ["FinetuneOptions", "FinetuneRequest", "FinetuneSource"]

_MOST_EPOCHS = 100


@dataclass(frozen=True)
class FinetuneSource:
    """A case to learn from.

    Attributes
    ----------
    case, slide : Path
        The case folder and its slide's file.
    patient : str
        Whose slide it is; empty where it is not said.
    regions : tuple of int or None
        Exactly these; without, those reviewed or signed off that have no tag.
    """

    case: Path
    slide: Path
    patient: str = ""
    regions: tuple[int, ...] | None = None


@dataclass(frozen=True)
class FinetuneOptions:
    """How to fine-tune.

    Attributes
    ----------
    epochs : int or None
        How often each patch is seen; None takes the config's, or 5.
    keep : float
        How strongly old knowledge is kept, 0 to 1: the weight of distillation, and
        twice the share of replayed patches where there are any to replay.
    freeze_encoder : bool
        Whether only what follows the encoder learns.
    replay : Path or None
        Pictures with masks of what the model has learned before.
    replay_phantoms : int
        So many synthetic fields to replay instead.
    reference : Path or None
        Pictures with masks on which nothing may be lost.
    reference_phantoms : int
        So many synthetic fields instead: no safety reference for real slides.
    config : str
        Text of a TOML file with more; see `finetune_config`.
    device : str
        As in `inference.choose_device`; empty takes the config's.
    name : str
        Of the candidate; empty makes one from the parent's.
    by : str
        Who asks for it; the registry keeps it.
    registry : Path or None
        Folder of the registry; None is the user's own.
    seed : int
        Of the choice of what is held back.

    Raises
    ------
    InputError
        If a value cannot be, or two contradict each other.
    """

    epochs: int | None = None
    keep: float = 0.5
    freeze_encoder: bool = False
    replay: Path | None = None
    replay_phantoms: int = 0
    reference: Path | None = None
    reference_phantoms: int = 0
    config: str = field(default="", repr=False)
    device: str = ""
    name: str = ""
    by: str = ""
    registry: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs is not None and not 1 <= self.epochs <= _MOST_EPOCHS:
            raise InputError(
                f"{self.epochs} epochs cannot be learned for",
                advice=f"Give 1 to {_MOST_EPOCHS}; 3 to 10 are usual",
            )
        if not 0 <= self.keep <= 1:
            raise InputError(
                f"Old knowledge cannot be kept by {self.keep}",
                advice="Give a number from 0, not at all, to 1, as strongly as can be",
            )
        for key in ("replay", "reference"):
            count = getattr(self, f"{key}_phantoms")
            if count < 0 or (count and getattr(self, key) is not None):
                raise InputError(
                    f"{key} phantoms are {count}" + (", beside a folder" if count > 0 else ""),
                    advice="Give either a folder or a number of phantoms",
                )
        if self.seed < 0:
            raise InputError(f"The seed is {self.seed}", advice="Give 0 or more")


@dataclass(frozen=True)
class FinetuneRequest:
    """Everything that the process needs to know.

    Attributes
    ----------
    sources : tuple of FinetuneSource
    parent : Path
        The checkpoint to begin with.
    options : FinetuneOptions
    folder : Path
        For all that comes out.
    only_plan : bool
        Whether it ends once the lesson is told.
    """

    sources: tuple[FinetuneSource, ...]
    parent: Path
    options: FinetuneOptions
    folder: Path
    only_plan: bool = False

    def to_line(self) -> str:
        """As one line of JSON, with its end."""
        values = {
            "sources": [_plain(source) for source in self.sources],
            "parent": str(self.parent),
            "options": _plain(self.options),
            "folder": str(self.folder),
            "only_plan": self.only_plan,
        }
        return json.dumps(values, allow_nan=False) + "\n"

    @classmethod
    def from_line(cls, line: str | bytes) -> FinetuneRequest:
        """The request that `to_line` wrote.

        Raises
        ------
        ValueError, KeyError, TypeError
            If the line is none.
        """
        values = json.loads(line)
        sources = []
        for one in values["sources"]:
            numbers = one.pop("regions")
            sources.append(
                FinetuneSource(
                    Path(one.pop("case")),
                    Path(one.pop("slide")),
                    regions=None if numbers is None else tuple(numbers),
                    **one,
                )
            )
        options = values["options"]
        for key in ("replay", "reference", "registry"):
            options[key] = None if options[key] is None else Path(options[key])
        return cls(
            tuple(sources),
            Path(values["parent"]),
            FinetuneOptions(**options),
            Path(values["folder"]),
            bool(values["only_plan"]),
        )


def _plain(value: FinetuneSource | FinetuneOptions) -> Mapping[str, Any]:
    found = {f.name: getattr(value, f.name) for f in fields(value)}
    return {k: str(v) if isinstance(v, Path) else v for k, v in found.items()}
