"""The sections of a training config, the paper's recipe by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from napari_hspnet.errors import InputError
from napari_hspnet.networks import DEMO_ARCHITECTURE, MIN_SIDE, Architecture, window_aware
from napari_hspnet.networks.card import IMAGENET_MEAN, IMAGENET_STD
from napari_hspnet.training.recipe import Recipe, Stage
from napari_hspnet.training.settings import check_section, refuse_unknown, setting

__all__ = [
    "PRESETS",
    "AugmentConfig",
    "CaseEntry",
    "DataConfig",
    "MachineConfig",
    "NetworkConfig",
    "PatchConfig",
    "RecipeConfig",
    "SeedConfig",
    "ValidationConfig",
]

_SEEDS = 2**31 - 1

_WINDOW_AWARE = "window-aware"
PRESETS: Mapping[str, Architecture] = MappingProxyType(
    {
        "paper-resnet34": Architecture(encoder="resnet34"),
        "paper-resnet101": Architecture(encoder="resnet101"),
        "demo": DEMO_ARCHITECTURE,
        # Dilations follow from the patches' side; see `NetworkConfig.architecture_for`.
        _WINDOW_AWARE: Architecture(encoder="resnet34"),
    }
)


@dataclass(frozen=True)
class CaseEntry:
    """A case folder with its slide, and whose slide it is.

    Attributes
    ----------
    case, slide : str
        Paths, from the config file's folder on where they are relative.
    patient : str
        Empty where it is not said: the slide then counts as a patient of its own.
    """

    PLACE: ClassVar[str] = "data.cases"

    case: str = setting(text="The case folder")
    slide: str = setting(text="Its slide")
    patient: str = setting("", "Whose slide it is")

    def __post_init__(self) -> None:
        check_section(self)


_OF_KIND = {
    "mtchi": ("folder", "part", "mpp", "memory_mb"),
    "pairs": ("folder", "mpp", "memory_mb"),
    "cases": ("cases", "only_reviewed"),
    "phantom": ("first_seed", "fields", "side", "domain"),
}


@dataclass(frozen=True)
class DataConfig:
    """What is learned from; keys of another kind keep their defaults."""

    PLACE: ClassVar[str] = "data"

    kind: Literal["mtchi", "pairs", "cases", "phantom"] = setting(
        text="The MTCHI download (its training part), a folder of pictures and masks, regions of "
        "cases, or synthetic fields"
    )
    background: Literal["ignore", "class"] = setting(
        "ignore", "Whether 0 of a mask is ignored, or a class of its own"
    )
    folder: str = setting(
        "", "mtchi, pairs: where it is, from this file's folder on if it is relative"
    )
    part: Literal["Training", "both"] = setting(
        "Training",
        "mtchi: both is for cross-validation, and has the test part's patients among them",
    )
    mpp: float = setting(
        0.0, "mtchi, pairs: µm per pixel; 0 is what the files say, else 1.0", low=0, high=10
    )
    memory_mb: int = setting(
        2048, "mtchi, pairs: megabytes of decoded images kept", low=0, high=1_000_000
    )
    cases: tuple[CaseEntry, ...] = setting(
        (), 'cases: such as { case = "a.hspnet", slide = "a.svs", patient = "P1" }'
    )
    only_reviewed: bool = setting(
        True, "cases: whether regions neither reviewed nor signed off are left out"
    )
    first_seed: int = setting(
        0,
        "phantom: the first field, counted within the seeds for training",
        low=0,
        high=999_999_999,
    )
    fields: int = setting(200, "phantom: how many fields", low=1, high=1_000_000)
    side: int = setting(800, "phantom: pixels of a field's side", low=MIN_SIDE, high=20_000)
    domain: str = setting("A", "phantom: stain and scanner")

    def __post_init__(self) -> None:
        check_section(self)
        own = ("kind", "background", *_OF_KIND[self.kind])
        for f in fields(self):
            if f.name not in own and getattr(self, f.name) != f.default:
                raise InputError(
                    f"[data] {f.name} says nothing about the kind {self.kind}",
                    advice=f"Leave it out; {self.kind} has {', '.join(_OF_KIND[self.kind])}",
                )
        for key in ("folder", "cases"):
            if key in own and not getattr(self, key):
                raise InputError(f"[data] {key} is empty", advice=f"{self.kind} needs it")


@dataclass(frozen=True)
class ValidationConfig:
    """What the finished network is judged on; nothing by default, as in the paper."""

    PLACE: ClassVar[str] = "validation"

    share: float = setting(
        0.0, "Of each class's pixels, set aside by patient; 0 is none", low=0, high=0.9
    )
    patients: tuple[str, ...] = setting((), "These patients are set aside, instead of a share")
    fields: int = setting(
        0, "phantom: how many fields, from seeds of their own, instead", low=0, high=100_000
    )
    stride: int = setting(
        0, "0 is windows side by side; else Gauss-like blending at this stride", low=0, high=4096
    )

    def __post_init__(self) -> None:
        check_section(self)
        if self.share > 0 and self.patients:
            raise InputError(
                "[validation] share and patients are both given", advice="Give one of them"
            )

    @property
    def wanted(self) -> bool:
        """Whether there is any."""
        return self.share > 0 or bool(self.patients) or self.fields > 0


@dataclass(frozen=True)
class NetworkConfig:
    """The network and what it starts from."""

    PLACE: ClassVar[str] = "network"

    preset: Literal["paper-resnet34", "paper-resnet101", "demo", "window-aware"] = setting(
        "paper-resnet34",
        "What [network.architecture] changes; window-aware is paper-resnet34 with dilations that "
        "fit the patches",
    )
    encoder_weights: str = setting(
        "imagenet",
        'The encoder\'s start: "imagenet" (from torch\'s cache), "none" (random numbers), or a '
        "file as torchvision publishes it",
    )
    download: bool = setting(False, "Whether ImageNet weights may be fetched from the internet")
    start: str = setting(
        "", "A checkpoint of this architecture to start from; encoder_weights must then be none"
    )
    mean: tuple[float, ...] = setting(
        IMAGENET_MEAN, "Of red, green and blue, in 0 to 1", low=0, high=1, size=3
    )
    std: tuple[float, ...] = setting(
        IMAGENET_STD, "Their standard deviations", above=0, high=10, size=3
    )
    architecture: Mapping[str, Any] = field(
        default_factory=dict,
        metadata={"text": "Fields that differ from the preset's"},
        hash=False,
    )

    def __post_init__(self) -> None:
        check_section(self)
        if not isinstance(self.architecture, Mapping):
            raise InputError(
                f"[network] architecture is {self.architecture!r}",
                advice="Write it as [network.architecture]",
            )
        known = {f.name: f for f in fields(Architecture)}
        refuse_unknown(self.architecture, known, "network.architecture")
        if self.preset == _WINDOW_AWARE and "ds_dilations" in self.architecture:
            raise InputError(
                "[network.architecture] ds_dilations contradicts the preset window-aware",
                advice="Choose another preset, or leave them out",
            )
        object.__setattr__(self, "architecture", dict(self.architecture))
        if self.start and self.encoder_weights != "none":
            raise InputError(
                "[network] start and encoder_weights are both given",
                advice='Set encoder_weights = "none": the checkpoint brings its own',
            )

    def architecture_for(self, side: int) -> Architecture:
        """The architecture for patches of this side.

        Raises
        ------
        InputError
            If its fields cannot make a network.
        """
        preset = PRESETS[self.preset].to_json()
        if self.architecture.get("name", "hspnet") != "hspnet":
            # Fields of the preset say nothing about the networks of others.
            preset = {key: preset[key] for key in ("encoder", "num_classes")}
        try:
            chosen = Architecture.from_json({**preset, **self.architecture})
            return window_aware(chosen, side) if self.preset == _WINDOW_AWARE else chosen
        except InputError as error:
            raise InputError(f"[network] {error.what}", advice=error.advice) from error


@dataclass(frozen=True)
class PatchConfig:
    """Which patches there are (paper, section 4.1)."""

    PLACE: ClassVar[str] = "patches"

    side: int = setting(400, "Pixels of a side", low=MIN_SIDE, high=4096)
    stride: int = setting(100, "Pixels from one to the next", low=1, high=4096)
    min_foreground: float = setting(
        0.2, "Those with a smaller proportion of the four classes are dropped", low=0, high=1
    )
    images_at_once: int = setting(
        0,
        "Patches are mixed among this many images at a time; 0 is all, or as many as fit into "
        "memory_mb",
        low=0,
        high=1_000_000,
    )

    def __post_init__(self) -> None:
        check_section(self)


@dataclass(frozen=True)
class RecipeConfig:
    """How it is trained (paper, section 4.1; momentum and decay are ours)."""

    PLACE: ClassVar[str] = "recipe"

    optimizer: Literal["sgd", "adamw"] = setting("sgd", "What changes the weights")
    learning_rate: float = setting(
        0.01, "Of everything but the encoder, at its highest", above=0, high=10
    )
    encoder_factor: float = setting(
        0.1, "What the encoder's rate is of that: a tenth is 0.001", low=0, high=100
    )
    schedule: Literal["cosine", "one-cycle"] = setting(
        "cosine", "Course of the rates, step by step, over the whole training"
    )
    momentum: float = setting(0.9, "Of SGD", low=0, high=0.9999)
    weight_decay: float = setting(1e-4, "Not on biases and batch normalisation", low=0, high=10)
    clip: float = setting(0.0, "Largest norm of the gradient; 0 is no limit", low=0, high=1e6)
    batch: int = setting(
        16, "Patches of a step; a last short batch of an epoch is dropped", low=2, high=4096
    )
    micro_batch: int = setting(
        0,
        "Patches in memory at once, their gradients added up to the batch's; 0 is the whole batch. "
        "Halved by itself where memory runs out. Batch normalisation takes its statistics from "
        "these patches alone, so fewer make it noisier: not quite the same training as batch 16 at "
        "once. Overlap losses pool these patches alone, too",
        low=0,
        high=4096,
    )
    epochs: int = setting(30, "The last one's weights are kept", low=1, high=100_000)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = setting(
        "auto",
        "Of the network's arithmetic; loss and weights stay float32. auto is bfloat16 where the "
        "machine has it, else float16 with a gradient scaler on CUDA, else float32",
    )

    def __post_init__(self) -> None:
        check_section(self)
        if self.micro_batch == 1:
            raise InputError(
                "[recipe] micro_batch is 1",
                advice="Give 0, or 2 or more: batch normalisation needs two patches",
            )

    def optimisation(self, side: int) -> Recipe:
        """Optimiser and rates, for patches of `side` pixels."""
        return Recipe(
            self.optimizer,
            self.learning_rate,
            self.encoder_factor,
            self.schedule,
            self.momentum,
            self.weight_decay,
            self.clip or None,
            (Stage(side, self.batch),),
        )


@dataclass(frozen=True)
class AugmentConfig:
    """What is changed about a patch before it is learned from."""

    PLACE: ClassVar[str] = "augment"

    orient: bool = setting(True, "Flips and right-angle turns, all eight alike")
    stain: float = setting(
        0.08, "Spread of each stain's strength, in optical density; 0 is none", low=0, high=0.99
    )

    def __post_init__(self) -> None:
        check_section(self)


@dataclass(frozen=True)
class SeedConfig:
    """What chance begins with."""

    PLACE: ClassVar[str] = "seeds"

    init: int = setting(0, "Of the network's random weights", low=0, high=_SEEDS)
    patches: int = setting(0, "Of the order of patches and their changes", low=0, high=_SEEDS)
    split: int = setting(0, "Of the choice of patients set aside", low=0, high=_SEEDS)

    def __post_init__(self) -> None:
        check_section(self)


@dataclass(frozen=True)
class MachineConfig:
    """How this machine works; it may change between two parts of one training."""

    PLACE: ClassVar[str] = "machine"

    device: str = setting("auto", '"auto", "cpu", "cuda", "cuda:1" or "mps"')
    workers: int = setting(
        2,
        "Threads that read patches, about one for each core beside a GPU; 0 reads in between",
        low=0,
        high=256,
    )
    ahead: int = setting(4, "Batches read ahead", low=1, high=1024)
    snapshot_seconds: float = setting(
        600.0, "How often a snapshot is written beside that of each epoch", above=0, high=1e9
    )

    def __post_init__(self) -> None:
        check_section(self)
