"""What a network looks like, as plain values that a checkpoint can carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from napari_hspnet.errors import InputError

__all__ = ["DEMO_ARCHITECTURE", "ENCODERS", "Architecture"]

ENCODERS = ("resnet18", "resnet34", "resnet50", "resnet101", "small")
PAPER_DS_WIDTHS = (32, 64, 128, 256, 256)
PAPER_HEAD_WIDTHS = (256, 256)
SMALL_ENCODER_WIDTHS = (32, 64, 128, 256)


@dataclass(frozen=True)
class Architecture:
    """Everything that fixes a network's shape; JSON goes in and out unchanged.

    Attributes
    ----------
    name : str
        The family; ``"hspnet"`` is the one there is.
    encoder : str
        One of `ENCODERS`. ``"small"`` has one basic block a stage.
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

    def __post_init__(self) -> None:
        for key, count, kind in (
            ("ds_blocks", 5, bool),
            ("ds_widths", 5, int),
            ("head_widths", 2, int),
            ("encoder_widths", 4, int),
        ):
            value = getattr(self, key)
            if not isinstance(value, (tuple, list)):
                raise InputError(f"{key} is {value!r}", advice=f"Give {count} values")
            object.__setattr__(self, key, tuple(value))
            whole = len(value) == count and all(type(v) is kind for v in value)
            if not whole or (kind is int and min(value) < 1):
                wanted = "true or false each" if kind is bool else "positive whole numbers"
                raise InputError(
                    f"{key} is {list(value)!r}", advice=f"Give {count} values, {wanted}"
                )
        if self.name != "hspnet":
            raise InputError(
                f"the architecture {self.name!r} is unknown", advice="The one known is hspnet"
            )
        if self.encoder not in ENCODERS:
            raise InputError(
                f"the encoder {self.encoder!r} is unknown",
                advice=f"Choose one of {', '.join(ENCODERS)}",
            )
        if self.num_classes not in (4, 5) or isinstance(self.num_classes, bool):
            raise InputError(
                f"num_classes is {self.num_classes!r}",
                advice="Choose 5 (with background) or 4 (without)",
            )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Architecture:
        """The architecture that `to_json` wrote.

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


# Small enough for the package and for two cores.
DEMO_ARCHITECTURE = Architecture(
    encoder="small", ds_widths=(16, 32, 64, 128, 64), head_widths=(64, 64)
)
