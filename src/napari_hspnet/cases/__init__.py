"""The case folder: runs, their records, and the composite that is shown."""

from napari_hspnet.cases.case import Case
from napari_hspnet.cases.composite import Areas, Composite, CompositeLevel
from napari_hspnet.cases.places import SUFFIX, default_case_folder
from napari_hspnet.cases.record import FINISHED, WRITING, RunInfo, RunRecord
from napari_hspnet.cases.writer import RunWriter

__all__ = [
    "FINISHED",
    "SUFFIX",
    "WRITING",
    "Areas",
    "Case",
    "Composite",
    "CompositeLevel",
    "RunInfo",
    "RunRecord",
    "RunWriter",
    "default_case_folder",
]
