"""How a run is made: everything that changes its result, recorded with it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from napari_hspnet.errors import DeviceError, InputError

__all__ = [
    "MAX_WINDOW",
    "MIN_WINDOW",
    "Settings",
    "choose_device",
    "default_batch",
    "describe_device",
]

MIN_WINDOW = 64
MAX_WINDOW = 4096


@dataclass(frozen=True)
class Settings:
    """Settings of one run (paper, section 4.5).

    Attributes
    ----------
    window : int
        Side of a network input in label pixels.
    stride : int
        Distance between windows; ignored by ``"plain"``, whose stride is the window.
    blend : str
        ``"gaussian"``: softmax of overlapping windows averaged with Gaussian
        weights. ``"plain"``: stitched without overlap, the last column and row
        shifted inwards and supplying what is left.
    sigma : float or None
        Of the Gaussian in label pixels; None is window / 8. The paper does not
        state it; this is the convention of nnU-Net and MONAI.
    tissue_mask : bool
        Whether windows without tissue are left out (value 253).
    skip_unreadable : bool
        Whether unreadable tiles are marked 254 instead of ending the run.
    precision : str
        ``"float32"``, ``"float16"`` or ``"bfloat16"``.
    """

    window: int = 400
    stride: int = 100
    blend: str = "gaussian"
    sigma: float | None = None
    tissue_mask: bool = True
    skip_unreadable: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not MIN_WINDOW <= self.window <= MAX_WINDOW:
            raise InputError(
                f"A window of {self.window} px cannot be used",
                advice=f"Choose {MIN_WINDOW} to {MAX_WINDOW}",
            )
        if not 1 <= self.stride <= self.window:
            raise InputError(
                f"A stride of {self.stride} px cannot be used with a window of {self.window} px",
                advice=f"Choose 1 to {self.window}",
            )
        if self.blend not in ("gaussian", "plain"):
            raise InputError(
                f"There is no blending called {self.blend!r}", advice="Choose gaussian or plain"
            )
        if self.precision not in ("float32", "float16", "bfloat16"):
            raise InputError(
                f"There is no precision called {self.precision!r}",
                advice="Choose float32, float16 or bfloat16",
            )
        if self.sigma is not None and not self.sigma > 0:
            raise InputError("Sigma must be above zero", advice="Leave it out for window / 8")

    @property
    def effective_stride(self) -> int:
        """The stride that is used."""
        return self.window if self.blend == "plain" else self.stride

    @property
    def effective_sigma(self) -> float:
        """The sigma that is used, in label pixels."""
        return self.window / 8 if self.sigma is None else self.sigma

    def to_dict(self) -> dict[str, Any]:
        """For the run's record, with what the defaults came to."""
        record = asdict(self)
        record["stride"] = self.effective_stride
        record["sigma"] = self.effective_sigma if self.blend == "gaussian" else None
        record["averaged"] = "softmax"
        record["colour_correction"] = "none"
        return record


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; "auto" is the first of cuda, mps, cpu that is there.

    Raises
    ------
    DeviceError
        If it is not there or has no such name.
    """
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if has_mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    present = device is not None and (
        device.type == "cpu"
        or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
        or (device.type == "mps" and has_mps)
    )
    if device is None or not present:
        raise DeviceError(
            f"There is no device {name!r} on this machine",
            advice="Choose auto, cpu, or a CUDA or MPS device that PyTorch can see",
        )
    return device


def describe_device(device: torch.device) -> str:
    """A name for people and records: "cuda: NVIDIA H200", "cpu: 2 threads"."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type == "mps":
        return "mps: Apple GPU"
    return f"cpu: {torch.get_num_threads()} threads"


def default_batch(device: torch.device) -> int:
    """Windows at a time: one on a CPU, where more gains nothing and delays cancelling."""
    return {"cuda": 16, "mps": 4}.get(device.type, 1)
