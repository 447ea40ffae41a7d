"""At what size the tables are run: as the paper does, or as a check of the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from napari_hspnet.errors import InputError
from napari_hspnet.jobs.reproduce_rows import Trained
from napari_hspnet.networks import Architecture
from napari_hspnet.training.config import (
    DataConfig,
    MachineConfig,
    NetworkConfig,
    PatchConfig,
    RecipeConfig,
    SeedConfig,
    TrainConfig,
)

__all__ = ["FULL", "NO_RANKING", "QUICK", "PhantomPlan", "Scale", "checked_seeds"]

NO_RANKING = (
    "CHECK OF THE PIPELINE ONLY: tiny networks, a few steps. These figures rank nothing and "
    "say nothing of any network"
)


@dataclass(frozen=True)
class PhantomPlan:
    """Which phantoms are drawn, seeds for training and testing apart.

    Attributes
    ----------
    train, test : int
        Fields; each is a patient of its own.
    side : int
        Pixels, 1 µm each.
    domain : str
        Stain and scanner.
    """

    train: int
    test: int
    side: int
    domain: str = "A"


@dataclass(frozen=True)
class Scale:
    """Sizes of networks, patches and trainings; all that decides a result.

    Attributes
    ----------
    name : {"full", "quick"}
        Quick has tiny stand-ins for the networks and ranks nothing.
    side, stride : int
        Of patches, pixels.
    epochs, batch, micro_batch : int
        See `RecipeConfig`.
    phantoms : PhantomPlan
        Where no data are given.
    encoder_weights : {"imagenet", "none"}
        What encoders start from.
    """

    name: Literal["full", "quick"]
    side: int
    stride: int
    epochs: int
    batch: int
    phantoms: PhantomPlan
    micro_batch: int = 0
    encoder_weights: Literal["imagenet", "none"] = "none"

    @property
    def quick(self) -> bool:
        """Whether networks are tiny, and trained for a few steps."""
        return self.name == "quick"

    def title(self, model: Trained) -> str:
        """The network as a table calls it, and what stands in for it."""
        if not self.quick:
            return model.title
        if model.encoder == "vgg16":
            return f"{model.title} (full size, a few steps)"
        return f"{model.title} (tiny stand-in)"

    def config(
        self,
        model: Trained,
        seed: int,
        folder: str,
        *,
        device: str = "auto",
        workers: int = 2,
        download: bool = False,
    ) -> TrainConfig:
        """The training of a row.

        Parameters
        ----------
        model : Trained
        seed : int
            Of initial weights and of the order of patches.
        folder : str
            Data in MTCHI's layout.
        device : str
        workers : int
            Threads that read patches.
        download : bool
            Whether ImageNet weights may be fetched.

        Raises
        ------
        InputError
            If a size cannot be.
        """
        changes = self._architecture(model)
        weights = "none" if changes.get("encoder") == "small" else self.encoder_weights
        adamw: dict[str, Any] = (
            {
                "optimizer": "adamw",
                "schedule": "one-cycle",
                "learning_rate": 1e-3,
                "weight_decay": 1e-2,
            }
            if model.adamw
            else {}
        )
        return TrainConfig(
            DataConfig("mtchi", folder=folder),
            network=NetworkConfig(
                "window-aware" if model.window_aware else "paper-resnet101",
                weights,
                download,
                architecture=changes,
            ),
            patches=PatchConfig(self.side, self.stride),
            recipe=RecipeConfig(
                batch=self.batch, micro_batch=self.micro_batch, epochs=self.epochs, **adamw
            ),
            loss=model.loss,
            seeds=SeedConfig(init=seed, patches=seed),
            machine=MachineConfig(device, workers),
            name=f"{model.key}-seed-{seed}" + ("-quick" if self.quick else ""),
        )

    def _architecture(self, model: Trained) -> dict[str, Any]:
        if model.network != "hspnet":
            encoder = "resnet18" if self.quick and model.encoder != "vgg16" else model.encoder
            return {"name": model.network, "encoder": encoder}
        changes: dict[str, Any] = {"encoder": model.encoder, "ds_blocks": list(model.blocks)}
        if self.quick:
            deep = 32 if model.encoder == "resnet101" else 16
            changes |= {
                "encoder": "small",
                "encoder_widths": [8, 16, deep, deep],
                "ds_widths": [8] * 5,
                "head_widths": [16, 16],
            }
        # What is as by default need not clutter the config.
        default = Architecture().to_json()
        return {k: v for k, v in changes.items() if k == "encoder" or v != default[k]}

    def for_mtchi(self) -> Scale:
        """The same for MTCHI, whose regions are large: few patches if it is to be quick."""
        if self.quick:
            return replace(self, stride=384)
        return replace(self, encoder_weights="imagenet")

    def to_json(self) -> dict[str, Any]:
        """For records."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plan = self.phantoms
        values["phantoms"] = {f.name: getattr(plan, f.name) for f in fields(plan)}
        return values

    def words(self) -> str:
        """For people."""
        if self.quick:
            return (
                "Stand-ins for the networks: an encoder of four narrow stages, in networks of the "
                f"library ResNet-18 (FCN is whole); patches of {self.side} px, "
                f"{self.epochs} epoch, random weights"
            )
        start = "ImageNet weights" if self.encoder_weights == "imagenet" else "random weights"
        return (
            f"The paper's recipe: patches of {self.side} px at a stride of {self.stride}, SGD, "
            f"batch {self.batch}, {self.epochs} epochs; encoders start from {start}"
        )


FULL = Scale("full", 400, 100, 30, 16, PhantomPlan(160, 60, 800))
QUICK = Scale("quick", 96, 80, 1, 4, PhantomPlan(9, 3, 256))


def checked_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Seeds, each once.

    Raises
    ------
    InputError
        If there is none, or one is below 0 or comes twice.
    """
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InputError(
            f"{', '.join(map(str, seeds)) or 'nothing'} is no list of seeds",
            advice="Give whole numbers of 0 or more, each once, such as 0,1,2",
        )
    return seeds
