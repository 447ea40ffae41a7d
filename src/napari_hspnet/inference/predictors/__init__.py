"""Back ends that run a network: all give the same labels, at different cost."""

from napari_hspnet.inference.predictors.base import Predictor, Subject
from napari_hspnet.inference.predictors.choice import (
    BACKENDS,
    BUDGET,
    Choice,
    check_backend,
    choose,
    predictor_for,
)
from napari_hspnet.inference.predictors.compiled import Inductor, TorchScript
from napari_hspnet.inference.predictors.eager import (
    Eager,
    Folded,
    FoldedChannelsLast,
    FoldedWinograd,
)
from napari_hspnet.inference.predictors.fallback import WithFallback
from napari_hspnet.inference.predictors.graphs import CudaGraph
from napari_hspnet.inference.predictors.runtimes import OnnxRuntime, OpenVino

__all__ = [
    "BACKENDS",
    "BUDGET",
    "Choice",
    "CudaGraph",
    "Eager",
    "Folded",
    "FoldedChannelsLast",
    "FoldedWinograd",
    "Inductor",
    "OnnxRuntime",
    "OpenVino",
    "Predictor",
    "Subject",
    "TorchScript",
    "WithFallback",
    "check_backend",
    "choose",
    "predictor_for",
]
