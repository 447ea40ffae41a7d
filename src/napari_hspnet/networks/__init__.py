"""HSP-Net, checkpoints and model cards."""

from napari_hspnet.networks.architecture import DEMO_ARCHITECTURE, ENCODERS, Architecture
from napari_hspnet.networks.card import ModelCard, class_names
from napari_hspnet.networks.checkpoint import (
    LoadedModel,
    load_checkpoint,
    read_card,
    save_checkpoint,
)
from napari_hspnet.networks.hspnet import MIN_SIDE, DSBlock, HSPNet, build
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
    "MIN_SIDE",
    "Architecture",
    "DSBlock",
    "HSPNet",
    "LoadedModel",
    "ModelCard",
    "ModelEntry",
    "build",
    "class_names",
    "demo_model_path",
    "imagenet_weights",
    "install_checkpoint",
    "known_models",
    "load_checkpoint",
    "models_folder",
    "read_card",
    "save_checkpoint",
]
