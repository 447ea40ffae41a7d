"""Training and losses."""

from napari_hspnet.training.evaluate import evaluate, predict_field
from napari_hspnet.training.loop import DivergedError, TrainProgress, train
from napari_hspnet.training.losses import cross_entropy
from napari_hspnet.training.metrics import Scores, confusion, scores
from napari_hspnet.training.patches import FieldPatches, LabelledField, PatchSource
from napari_hspnet.training.recipe import DEMO_RECIPE, PAPER_RECIPE, Recipe, Stage

__all__ = [
    "DEMO_RECIPE",
    "PAPER_RECIPE",
    "DivergedError",
    "FieldPatches",
    "LabelledField",
    "PatchSource",
    "Recipe",
    "Scores",
    "Stage",
    "TrainProgress",
    "confusion",
    "cross_entropy",
    "evaluate",
    "predict_field",
    "scores",
    "train",
]
