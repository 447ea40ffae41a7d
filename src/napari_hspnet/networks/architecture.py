"""What a network looks like, as plain values that a checkpoint can carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from napari_hspnet.errors import InputError

__all__ = ["DEMO_ARCHITECTURE", "ENCODERS", "FAMILIES", "PAPER_DILATIONS", "Architecture"]

_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
ENCODERS = (*_RESNETS, "small")
# Each family, and the encoders that it can have.
FAMILIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hspnet": ENCODERS,
        "unet": _RESNETS,
        "unetpp": _RESNETS,
        "deeplabv3plus": _RESNETS,
        "deeplabv3plus_full": _RESNETS,
        "fcn32s": ("vgg16",),
        "fcn16s": ("vgg16",),
    }
)
PAPER_DS_WIDTHS = (32, 64, 128, 256, 256)
PAPER_HEAD_WIDTHS = (256, 256)
PAPER_DILATIONS = (6, 12, 18)
SMALL_ENCODER_WIDTHS = (32, 64, 128, 256)


# A card comes from a file; padding grows with the dilation.
_MAX_DILATION = 1000


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes a network's shape; JSON goes in and out unchanged.

    Attributes
    ----------
    name : str
        The family, one of `FAMILIES`: ``"hspnet"``, or a network to compare it
        with (see `napari_hspnet.networks.baselines` and
        `napari_hspnet.networks.fcn`). Only the first three fields say something
        about these; the others keep their defaults.
    encoder : str
        One of the family's encoders. ``"small"`` has one basic block a stage.
    num_classes : int
        5 with a background channel, 4 without (paper, section 4.2).
    ds_blocks : tuple of bool
        For DS-Blocks 1 to 5: False puts a single 1x1 convolution in its place
        (the ablation of Table 3).
    ds_widths : tuple of int
        Channels c' that DS-Blocks 1 to 5 give.
    head_widths : tuple of int
        Channels after the first and second convolution of the head.
    encoder_widths : tuple of int
        Channels of the four stages of the ``"small"`` encoder; no other
        encoder looks at them.
    ds_dilations : tuple of tuple of int
        Dilations of the three atrous branches of DS-Blocks 1 to 5; weights have
        the same shapes whatever they are.

    Raises
    ------
    InputError
        If a value cannot make a network.
    """

    name: str = "hspnet"
    encoder: str = "resnet34"
    num_classes: int = 5
    ds_blocks: tuple[bool, ...] = (True,) * 5
    ds_widths: tuple[int, ...] = PAPER_DS_WIDTHS
    head_widths: tuple[int, ...] = PAPER_HEAD_WIDTHS
    encoder_widths: tuple[int, ...] = SMALL_ENCODER_WIDTHS
    ds_dilations: tuple[tuple[int, ...], ...] = (PAPER_DILATIONS,) * 5

    def __post_init__(self) -> None:
        for key, count, kind in (
            ("ds_blocks", 5, bool),
            ("ds_widths", 5, int),
            ("head_widths", 2, int),
            ("encoder_widths", 4, int),
        ):
            object.__setattr__(self, key, _series(key, getattr(self, key), count, kind))
        _check_row("ds_dilations", self.ds_dilations, 5, "three dilations each")
        dilations = tuple(
            _series(f"ds_dilations of DS-Block {number}", row, 3, int)
            for number, row in enumerate(self.ds_dilations, start=1)
        )
        object.__setattr__(self, "ds_dilations", dilations)
        if max(map(max, dilations)) > _MAX_DILATION:
            raise InputError(
                f"ds_dilations go up to {max(map(max, dilations))}",
                advice=f"Give {_MAX_DILATION} at most",
            )
        if not isinstance(self.name, str) or self.name not in FAMILIES:
            raise InputError(
                f"the architecture {self.name!r} is unknown",
                advice=f"Choose one of {', '.join(FAMILIES)}",
            )
        if self.encoder not in FAMILIES[self.name]:
            raise InputError(
                f"the encoder {self.encoder!r} is unknown to {self.name}",
                advice=f"Choose one of {', '.join(FAMILIES[self.name])}",
            )
        if self.num_classes not in (4, 5) or isinstance(self.num_classes, bool):
            raise InputError(
                f"num_classes is {self.num_classes!r}",
                advice="Choose 5 (with background) or 4 (without)",
            )
        foreign = [
            f.name
            for f in fields(self)
            if f.name not in self._own_fields() and getattr(self, f.name) != f.default
        ]
        if foreign:
            raise InputError(
                f"{', '.join(foreign)} say nothing about the architecture {self.name}",
                advice="Leave them out, they belong to hspnet",
            )

    def _own_fields(self) -> tuple[str, ...]:
        names = tuple(f.name for f in fields(self))
        return names if self.name == "hspnet" else names[:3]

    def to_json(self) -> dict[str, Any]:
        """The fields that say something about the family, as JSON values."""
        return {key: _plain(getattr(self, key)) for key in self._own_fields()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Architecture:
        """The architecture that `to_json` wrote.

        A field that is not there has its default: files older than
        `ds_dilations` are of the literal network.

        Raises
        ------
        InputError
            If a field is unknown or a value cannot make a network.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(
                f"the architecture has unknown fields: {', '.join(unknown)}",
                advice="Update napari-hspnet, or save the checkpoint again with this version",
            )
        return cls(**values)


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _check_row(key: str, value: object, count: int, wanted: str) -> None:
    if not isinstance(value, (tuple, list)):
        raise InputError(f"{key} is {value!r}", advice=f"Give {count} values, {wanted}")
    if len(value) != count:
        raise InputError(f"{key} is {list(value)!r}", advice=f"Give {count} values, {wanted}")


def _series(key: str, value: Any, count: int, kind: type) -> tuple[Any, ...]:
    wanted = "true or false each" if kind is bool else "positive whole numbers"
    _check_row(key, value, count, wanted)
    if not all(type(v) is kind for v in value) or (kind is int and min(value) < 1):
        raise InputError(f"{key} is {list(value)!r}", advice=f"Give {count} values, {wanted}")
    return tuple(value)


# Small enough for the package and for two cores.
DEMO_ARCHITECTURE = Architecture(
    encoder="small", ds_widths=(16, 32, 64, 128, 64), head_widths=(64, 64)
)
