"""The case folder: runs, corrections, journal, review, and what is shown of them."""

from napari_hspnet.cases.case import Case
from napari_hspnet.cases.composite import Areas, Composite, CompositeLevel
from napari_hspnet.cases.corrections import UNTOUCHED
from napari_hspnet.cases.editing import Editing, EditResult, Patch, accepted, filled
from napari_hspnet.cases.facts import SlideFacts
from napari_hspnet.cases.journal import Entry, Journal
from napari_hspnet.cases.places import SUFFIX, FoundCases, default_case_folder, find_cases
from napari_hspnet.cases.readers import Reading, same_reader
from napari_hspnet.cases.reading import FoundReading, begin_reading, find_readings, reading_folder
from napari_hspnet.cases.record import FINISHED, WRITING, RunInfo, RunRecord
from napari_hspnet.cases.review import (
    IN_PROGRESS,
    REVIEWED,
    SIGNED_OFF,
    STATES,
    TAGS,
    TO_DO,
    Comment,
    Review,
    ReviewRegion,
)
from napari_hspnet.cases.selection import Selection
from napari_hspnet.cases.snapshot import CaseSnapshot
from napari_hspnet.cases.unfinished import RunLayout, RunProgress
from napari_hspnet.cases.writer import RunWriter

__all__ = [
    "FINISHED",
    "IN_PROGRESS",
    "REVIEWED",
    "SIGNED_OFF",
    "STATES",
    "SUFFIX",
    "TAGS",
    "TO_DO",
    "UNTOUCHED",
    "WRITING",
    "Areas",
    "Case",
    "CaseSnapshot",
    "Comment",
    "Composite",
    "CompositeLevel",
    "EditResult",
    "Editing",
    "Entry",
    "FoundCases",
    "FoundReading",
    "Journal",
    "Patch",
    "Reading",
    "Review",
    "ReviewRegion",
    "RunInfo",
    "RunLayout",
    "RunProgress",
    "RunRecord",
    "RunWriter",
    "Selection",
    "SlideFacts",
    "accepted",
    "begin_reading",
    "default_case_folder",
    "filled",
    "find_cases",
    "find_readings",
    "reading_folder",
    "same_reader",
]
