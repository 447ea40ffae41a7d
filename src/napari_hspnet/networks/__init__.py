"""HSP-Net, networks to compare it with, checkpoints and model cards."""

from napari_hspnet.networks.architecture import (
    DEMO_ARCHITECTURE,
    ENCODERS,
    FAMILIES,
    Architecture,
)
from napari_hspnet.networks.base import MIN_SIDE, Network, parameter_count
from napari_hspnet.networks.card import ModelCard, class_names
from napari_hspnet.networks.checkpoint import (
    LoadedModel,
    load_checkpoint,
    read_card,
    save_checkpoint,
)
from napari_hspnet.networks.dilations import TapRow, dead_taps, window_aware
from napari_hspnet.networks.families import build
from napari_hspnet.networks.hspnet import DSBlock, HSPNet
from napari_hspnet.networks.registry import (
    ModelEntry,
    demo_model_path,
    install_checkpoint,
    known_models,
    models_folder,
)
from napari_hspnet.networks.weights import imagenet_weights

__all__ = [
    "DEMO_ARCHITECTURE",
    "ENCODERS",
    "FAMILIES",
    "MIN_SIDE",
    "Architecture",
    "DSBlock",
    "HSPNet",
    "LoadedModel",
    "ModelCard",
    "ModelEntry",
    "Network",
    "TapRow",
    "build",
    "class_names",
    "dead_taps",
    "demo_model_path",
    "imagenet_weights",
    "install_checkpoint",
    "known_models",
    "load_checkpoint",
    "models_folder",
    "parameter_count",
    "read_card",
    "save_checkpoint",
    "window_aware",
]
