"""Whose corrections stand, checked pixel by pixel against the slow answer of `reader_at`."""

import numpy as np
import pytest
from case_tools import block, run_record, slide_info
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_hspnet.cases import Case, CaseSnapshot, Patch
from napari_hspnet.cases.attribution import Attribution
from napari_hspnet.slides import LabelGrid

SHAPE = (530, 540)
AT = 504
SIDE = 14
"""Acts fall around the corner where four chunks meet."""

acts = st.one_of(
    st.tuples(
        st.sampled_from("ABC"),
        st.integers(0, SIDE - 1),
        st.integers(0, SIDE - 1),
        st.integers(1, SIDE),
        st.sampled_from([0, 2, 3, 3, 4, 255]),
    ),
    st.sampled_from(["undo", "redo"]),
)


def new_case(folder):
    info = slide_info(*SHAPE)
    case = Case.open_or_create(folder, info, LabelGrid.of(info))
    writer = case.start_run(run_record())
    writer.write(block(0, 0, np.full((512, 512), 2, np.uint8)))
    writer.finish(1.0)
    return case


def paint(case, reader, y, x, side, value):
    values = np.full((side, side), value, np.uint8)
    case.editing.correct([Patch(AT + y, AT + x, values, values == value)], reader, "brush")


def names(attribution):
    """The reader of each label pixel of the slide, empty where there is none."""
    found = np.full(SHAPE, "", object)
    lookup = np.array(["", *attribution.readers], object)
    for row in range(2):
        for col in range(2):
            codes = attribution.chunk(row, col)
            if codes is not None:
                y, x = row * 512, col * 512
                found[y : y + codes.shape[0], x : x + codes.shape[1]] = lookup[codes]
    return found


def of(snapshot):
    return Attribution(snapshot.journal, snapshot.standing, SHAPE)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(acts, min_size=1, max_size=9))
def test_it_names_whom_reader_at_names(tmp_path_factory, done):
    with new_case(tmp_path_factory.mktemp("c") / "a.hspnet") as case:
        for act in done:
            if act == "undo":
                case.editing.undo("D")
            elif act == "redo":
                case.editing.redo("D")
            else:
                paint(case, *act)
        snapshot = CaseSnapshot.of(case)
        found = names(of(snapshot))
        said = snapshot.composite.read(0, 0, *SHAPE, what="correction")
        np.testing.assert_array_equal(found != "", said != 255)
        for y in range(AT, min(SHAPE[0], AT + 2 * SIDE)):
            for x in range(AT, min(SHAPE[1], AT + 2 * SIDE)):
                expected = case.editing.reader_at(y, x) if said[y, x] != 255 else ""
                assert found[y, x] == expected
        assert set(np.unique(found)) <= {"", *of(snapshot).readers}


def test_what_comes_after_the_snapshot_does_not_count(tmp_path):
    with new_case(tmp_path / "a.hspnet") as case:
        paint(case, "A", 0, 0, 6, 3)
        paint(case, "B", 3, 3, 6, 4)
        attribution = of(CaseSnapshot.of(case))
        paint(case, "C", 0, 0, 9, 1)
        case.editing.undo("C")
        case.editing.undo("C")
        found = names(attribution)
        assert attribution.readers == ("A", "B")
        assert (np.count_nonzero(found == "A"), np.count_nonzero(found == "B")) == (27, 36)
        assert of(CaseSnapshot.of(case)).readers == ("A",)


def test_who_agrees_with_a_reader_takes_nothing_over_and_giving_back_leaves_nobody(tmp_path):
    with new_case(tmp_path / "a.hspnet") as case:
        paint(case, "A", 0, 0, 6, 3)
        paint(case, "B", 0, 0, 9, 3)
        paint(case, "C", 4, 4, 4, 255)
        found = names(of(CaseSnapshot.of(case)))
        assert found[AT, AT] == "A"
        assert found[AT + 3, AT + 8] == "B"
        assert (found[AT + 4 : AT + 8, AT + 4 : AT + 8] == "").all()


@pytest.mark.parametrize("only", [True, False])
def test_nobody_corrected(tmp_path, only):
    with new_case(tmp_path / "a.hspnet") as case:
        if only:
            paint(case, "A", 0, 0, 6, 3)
        snapshot = CaseSnapshot.of(case, only=[case.active[0]] if only else None)
        attribution = of(snapshot)
        assert (attribution.readers, attribution.places) == ((), frozenset())
        assert attribution.chunk(0, 0) is None


def test_hundreds_of_readers(tmp_path):
    with new_case(tmp_path / "a.hspnet") as case:
        for number in range(260):
            values = np.full((1, 1), 3, np.uint8)
            case.editing.correct(
                [Patch(number, number % 7, values, values > 0)], f"R{number}", "brush"
            )
        attribution = of(CaseSnapshot.of(case))
        codes = attribution.chunk(0, 0)
        assert codes.dtype == np.uint16
        assert [codes[n, n % 7] for n in range(260)] == list(range(1, 261))
