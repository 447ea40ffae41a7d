"""Training, losses, what a network is worth, and what it is compared with."""

from napari_hspnet.training.average import WeightAverage
from napari_hspnet.training.baselines import (
    Forest,
    PixelSample,
    best_constant,
    constant_answer,
    fit_forest,
    require_forests,
    sample_pixels,
)
from napari_hspnet.training.evaluate import evaluate, predict_field
from napari_hspnet.training.features import FEATURE_SETS, FeatureSet
from napari_hspnet.training.intervals import Estimate, Estimates, bootstrap, paired_difference
from napari_hspnet.training.loop import DivergedError, TrainProgress, train
from napari_hspnet.training.losses import cross_entropy
from napari_hspnet.training.metrics import Scores, confusion, scores
from napari_hspnet.training.patches import FieldPatches, LabelledField, PatchSource
from napari_hspnet.training.recipe import DEMO_RECIPE, PAPER_RECIPE, Recipe, Stage

__all__ = [
    "DEMO_RECIPE",
    "FEATURE_SETS",
    "PAPER_RECIPE",
    "DivergedError",
    "Estimate",
    "Estimates",
    "FeatureSet",
    "FieldPatches",
    "Forest",
    "LabelledField",
    "PatchSource",
    "PixelSample",
    "Recipe",
    "Scores",
    "Stage",
    "TrainProgress",
    "WeightAverage",
    "best_constant",
    "bootstrap",
    "confusion",
    "constant_answer",
    "cross_entropy",
    "evaluate",
    "fit_forest",
    "paired_difference",
    "predict_field",
    "require_forests",
    "sample_pixels",
    "scores",
    "train",
]
