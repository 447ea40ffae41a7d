"""Data to learn from: images with labels, patches of them, splits by patient."""

from napari_hspnet.training.data.balance import (
    ClassBalance,
    ClassCount,
    check_classes,
    class_balance,
    class_pixels,
)
from napari_hspnet.training.data.case_regions import CaseRegions, RegionImage, open_case_regions
from napari_hspnet.training.data.decoded import FileImage, ImageStore, images_that_fit
from napari_hspnet.training.data.images import ArrayImage, ImageSet, LabelledImage
from napari_hspnet.training.data.mtchi import (
    PAPER_COUNTS,
    PHANTOM_MARK,
    PUBLIC_COUNTS,
    MtchiCounts,
    mtchi_counts,
    open_mtchi,
    open_mtchi_whole,
    synthetic_origin,
)
from napari_hspnet.training.data.pairs import open_pairs
from napari_hspnet.training.data.patches import PatchIndex, patch_index
from napari_hspnet.training.data.reader import Augment, Batch, PatchReader
from napari_hspnet.training.data.split import Split, check_split, folds, split_by_patient

__all__ = [
    "PAPER_COUNTS",
    "PHANTOM_MARK",
    "PUBLIC_COUNTS",
    "ArrayImage",
    "Augment",
    "Batch",
    "CaseRegions",
    "ClassBalance",
    "ClassCount",
    "FileImage",
    "ImageSet",
    "ImageStore",
    "LabelledImage",
    "MtchiCounts",
    "PatchIndex",
    "PatchReader",
    "RegionImage",
    "Split",
    "check_classes",
    "check_split",
    "class_balance",
    "class_pixels",
    "folds",
    "images_that_fit",
    "mtchi_counts",
    "open_case_regions",
    "open_mtchi",
    "open_mtchi_whole",
    "open_pairs",
    "patch_index",
    "split_by_patient",
    "synthetic_origin",
]
