"""What an import would change, and what it changes: onto cases, with undo."""

import json
import threading

import numpy as np
import pytest
import tifffile
from export_tools import ArrayLabels, about, blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from import_tools import ANN, new_case, outline, overlay, plan_of, rectangle, write_features

from napari_hspnet.cases import Case, CaseSnapshot, Selection, SlideFacts
from napari_hspnet.cases.sampling import level_count, level_shape, sample
from napari_hspnet.cases.words import describe
from napari_hspnet.errors import CancelledError, InputError, RegionLockedError
from napari_hspnet.exchange import CaseLabels, ExportInfo, write_geojson, write_ome_tiff, write_png
from napari_hspnet.exchange.described import Describer
from napari_hspnet.exchange.importing import ImportOptions, import_plan, plan_import
from napari_hspnet.exchange.incoming import LEFT, open_incoming
from napari_hspnet.slides import Bounds, PixelBox

SHAPE = (600, 800)
WRITERS = {"m.geojson": write_geojson, "m.png": write_png, "m.ome.tif": write_ome_tiff}


@pytest.fixture
def shown():
    return blobs(np.random.default_rng(11), SHAPE)


@pytest.fixture
def case(tmp_path, shown):
    with new_case(tmp_path / "shown.hspnet", SHAPE, shown=shown) as made:
        yield made


@pytest.fixture
def empty(tmp_path):
    with new_case(tmp_path / "empty.hspnet", SHAPE) as made:
        yield made


def exported(path, case, **changes):
    labels = CaseLabels(case.composite())
    said = about(labels, **{"slide_mpp": case.slide_facts.mpp, **changes})
    return WRITERS[path.name](path, labels, said)


def graded(values):
    return (values >= 1) & (values <= 4)


# Our own exports


@pytest.mark.parametrize("name", WRITERS)
def test_our_exports_come_back_onto_an_empty_case(tmp_path, case, empty, shown, name):
    path = exported(tmp_path / name, case)
    plan = plan_of(empty, path)
    result = import_plan(empty, plan, ANN)
    # Outlines hold the four grades; masks say "none of the four", too.
    said = graded(shown) if name == "m.geojson" else shown <= 4
    expected = np.where(said, shown, 255)
    np.testing.assert_array_equal(overlay(empty, "correction"), expected)
    assert plan.pixels == said.sum()
    values, counts = np.unique(shown[said], return_counts=True)
    assert plan.changes == {(255, v): n for v, n in zip(values, counts, strict=True)}
    assert result.box == plan.box
    assert result.entry.body["changes"] == {f"255>{v}": n for (_, v), n in plan.changes.items()}


@pytest.mark.parametrize("name", WRITERS)
def test_our_exports_change_nothing_on_the_same_case(tmp_path, case, name):
    before = overlay(case)
    plan = plan_of(case, exported(tmp_path / name, case))
    assert (plan.pixels, len(plan), dict(plan.changes)) == (0, 0, {})
    assert plan.box == PixelBox(0, 0, 0, 0)
    assert list(plan.patches()) == []
    result = import_plan(case, plan, ANN)
    assert result.entry is None
    np.testing.assert_array_equal(overlay(case), before)
    assert (overlay(case, "correction") == 255).all()


@pytest.mark.parametrize("origin", ["bounds", "level0"])
@pytest.mark.parametrize("mpp", [0.25, 0.499, 1.7])
def test_outlines_come_back_whatever_their_origin(tmp_path, shown, origin, mpp):
    sides = tuple(int(n / mpp) for n in SHAPE)
    with new_case(tmp_path / "a.hspnet", sides, mpp, shown=None) as case:
        values = blobs(np.random.default_rng(3), case.grid.shape)
        bounds = Bounds(31, 57, sides[0] - 100, sides[1] - 100)
        slide = case.slide_facts
        slide = SlideFacts(slide.name, slide.fingerprint, sides, (mpp, mpp), bounds, True)
        labels = ArrayLabels(values)
        said = about(labels, slide_mpp=(mpp, mpp), bounds=bounds)
        path = write_geojson(tmp_path / "m.geojson", labels, said, origin)
        with open_incoming(path, slide, case.grid) as incoming:
            assert incoming.notes == ()
            plan = plan_import(incoming, case.composite())
        import_plan(case, plan, ANN)
        expected = np.where(graded(values), values, 255)
        np.testing.assert_array_equal(overlay(case, "correction"), expected)


@pytest.mark.parametrize("name", ["m.geojson", "m.ome.tif"])
def test_an_export_onto_the_slide_at_another_resolution(tmp_path, case, shown, name):
    path = exported(tmp_path / name, case)
    # The same slide saved with half the pixels, its labels twice as fine.
    with new_case(tmp_path / "b.hspnet", (300, 400), 2.0, 0.5) as other:
        if name == "m.geojson":
            document = json.loads(path.read_text())
            for feature in document["features"]:
                rings = feature["geometry"]["coordinates"]
                feature["geometry"]["coordinates"] = [
                    [[x / 2, y / 2] for x, y in ring] for ring in rings
                ]
            path.write_text(json.dumps(document))
        import_plan(other, plan_of(other, path), ANN)
        twice = shown.repeat(2, axis=0).repeat(2, axis=1)
        said = graded(twice) if name == "m.geojson" else twice <= 4
        np.testing.assert_array_equal(overlay(other, "correction"), np.where(said, twice, 255))


def test_review_regions_in_our_outlines_are_no_grades(tmp_path, case):
    drawn = Selection.of_box(PixelBox(10, 10, 300, 300), SHAPE)
    (region,) = case.review.add([drawn], "drawn", ANN)
    case.review.set_state([region.id], "signed off", ANN)
    snapshot = CaseSnapshot.of(case)
    labels, said = CaseLabels(snapshot.composite), ExportInfo.of_snapshot(snapshot)
    path = tmp_path / "m.geojson"
    write_geojson(path, labels, said, describer=Describer.of(snapshot), regions=True)
    with open_incoming(path, case.slide_facts, case.grid) as incoming:
        assert {n.key for n in incoming.names} == {"normal", "CIN1", "CIN2", "CIN3"}
        assert incoming.notes == ("Review regions have no grade and are left out: 1",)
        assert plan_import(incoming, case.composite()).pixels == 0


# What becomes a correction


def test_only_what_differs_becomes_a_correction_unless_it_is_accepted(tmp_path, case, shown):
    path = write_features(tmp_path / "a.json", rectangle(100, 100, 300, 250, "CIN2"))
    inside = np.zeros(SHAPE, bool)
    inside[100:250, 100:300] = True
    plan = plan_of(case, path)
    differs = inside & (shown != 3)
    assert plan.pixels == differs.sum()
    values, counts = np.unique(shown[differs], return_counts=True)
    assert plan.changes == {(v, 3): n for v, n in zip(values, counts, strict=True)}
    import_plan(case, plan, ANN)
    np.testing.assert_array_equal(overlay(case, "correction"), np.where(differs, 3, 255))
    accepted = plan_of(case, path, ImportOptions(agreeing="accept"))
    assert accepted.changes == {(3, 3): (inside & ~differs).sum()}
    import_plan(case, accepted, ANN)
    np.testing.assert_array_equal(overlay(case, "correction"), np.where(inside, 3, 255))
    assert plan_of(case, path, ImportOptions(agreeing="accept")).pixels == 0


def test_the_rest_of_outlines_where_a_grade_is_shown(tmp_path, case, shown):
    path = write_features(
        tmp_path / "a.json", rectangle(0, 0, 300, 300, "CIN2"), rectangle(400, 0, 500, 90, "x")
    )
    options = ImportOptions({"x": LEFT}, rest="none")
    import_plan(case, plan_of(case, path, options), ANN)
    expected = np.where(graded(shown), 0, 255)
    expected[:300, :300] = np.where(shown[:300, :300] == 3, 255, 3)
    np.testing.assert_array_equal(overlay(case, "correction"), expected)
    # Whatever is left out of the file is rest, but for what QuPath ignores.
    case.editing.undo(ANN)
    path = write_features(
        tmp_path / "a.json", rectangle(0, 0, 300, 300, "CIN2"), rectangle(400, 0, 500, 90, "x*")
    )
    import_plan(case, plan_of(case, path, ImportOptions(rest="none")), ANN)
    expected[:90, 400:500] = 255
    np.testing.assert_array_equal(overlay(case, "correction"), expected)


@pytest.mark.parametrize("rest", [None, "leave", "none"])
@pytest.mark.parametrize("ours", [True, False])
def test_the_zeros_of_a_mask(tmp_path, case, shown, rest, ours):
    path = tmp_path / "m.ome.tif"
    values = np.full(SHAPE, 3, np.uint8)
    values[:, 400:] = 0
    values[500:] = 255
    if ours:
        labels = ArrayLabels(values)
        write_ome_tiff(path, labels, about(labels))
    else:
        tifffile.imwrite(path, values)
    import_plan(case, plan_of(case, path, ImportOptions(rest=rest)), ANN)
    nothing = rest == "leave" or (rest is None and not ours)
    becomes = np.where(values == 0, 255, values) if nothing else values
    expected = np.where(becomes == shown, 255, becomes)
    np.testing.assert_array_equal(overlay(case, "correction"), expected)


def test_names_are_mapped_by_what_is_answered(tmp_path, case):
    path = write_features(
        tmp_path / "a.json",
        rectangle(0, 0, 50, 50, "Low grade"),
        rectangle(100, 0, 150, 50, "CIN3"),
        rectangle(200, 0, 250, 50),
    )
    before = case.journal.last
    with pytest.raises(InputError) as caught:
        plan_of(case, path)
    said = str(caught.value)
    assert "'Low grade'" in said
    assert "unclassified outlines ('')" in said
    assert "CIN3'" not in said
    assert "leave" in said
    with pytest.raises(InputError, match="Nothing in the file is called 'CIN9'"):
        plan_of(case, path, ImportOptions({"CIN9": 2}))
    for wrong in (5, 253, -1):
        with pytest.raises(InputError, match=f"grade {wrong} of 'CIN3'"):
            plan_of(case, path, ImportOptions({"CIN3": wrong, "Low grade": 2, "": 1}))
    assert case.journal.last == before
    options = ImportOptions({"Low grade": 2, "": LEFT, "CIN3": 1}, agreeing="accept")
    import_plan(case, plan_of(case, path, options), ANN)
    found = overlay(case, "correction")
    assert (found[:50, :50] == 2).all()
    assert (found[:50, 100:150] == 1).all()
    assert (found != 255).sum() == 5000


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            *(st.floats(-60, 1100, width=32) for _ in range(2)),
            *(st.floats(1, 700, width=32) for _ in range(2)),
            st.integers(0, 4),
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(["leave", "none"]),
    st.sampled_from(["leave", "accept"]),
)
def test_plan_and_case_agree_with_the_obvious(tmp_path_factory, boxes, rest, agreeing):
    shape = (530, 1030)
    shown = blobs(np.random.default_rng(len(boxes)), shape)
    names = ["none of the four", "normal", "CIN1", "CIN2", "CIN3"]
    folder = tmp_path_factory.mktemp("plan")
    features = [rectangle(x, y, x + w, y + h, names[v]) for x, y, w, h, v in boxes]
    # One that surely lies on the slide, beneath all others.
    features.append(rectangle(-1000, -1000, 2000, 2000, "Ground"))
    path = write_features(folder / "a.json", *features)
    expected = np.full(shape, 255, np.uint8)
    covered = np.zeros(shape, bool)
    ys, xs = (np.arange(n) + 0.5 for n in shape)
    for x, y, w, h, v in sorted(boxes, key=lambda box: -box[2] * box[3]):
        rows, columns = (ys >= y) & (ys < y + h), (xs >= x) & (xs < x + w)
        expected[np.ix_(rows, columns)], covered[np.ix_(rows, columns)] = v, True
    with new_case(folder / "c.hspnet", shape, shown=shown) as case:
        first, *_ = plan_of(case, path, ImportOptions({"Ground": 2})).patches()
        case.editing.correct([first], ANN, "brush")
        now, said = overlay(case), overlay(case, "correction")
        if rest == "none":
            expected[~covered & graded(now)] = 0
        options = ImportOptions({"Ground": LEFT}, rest, agreeing)
        plan = plan_of(case, path, options)
        written = (expected != 255) & (expected != (now if agreeing == "leave" else said))
        assert plan.pixels == written.sum() == sum(plan.changes.values())
        ahead = np.where(written, expected, 255)
        for level, lazy in enumerate(plan.levels):
            height, width = level_shape(shape, level)
            whole = np.asarray(lazy)
            assert lazy.shape == case.composite().levels[level].shape
            np.testing.assert_array_equal(
                whole[:height, :width], sample(ahead, 0, 0, shape, level)[2]
            )
            assert (whole[height:] == 255).all()
            assert (whole[:, width:] == 255).all()
        import_plan(case, plan, ANN)
        np.testing.assert_array_equal(
            overlay(case, "correction"), np.where(written, expected, said)
        )
        np.testing.assert_array_equal(overlay(case), np.where(written, expected, now))


def test_coarse_levels_of_the_preview(tmp_path):
    shape = (600, 9000)
    with new_case(tmp_path / "c.hspnet", shape) as case:
        values = blobs(np.random.default_rng(2), shape, (0, 1, 2, 3, 4, 255))
        path = tmp_path / "m.tif"
        tifffile.imwrite(path, values, compression="zlib")
        plan = plan_of(case, path, ImportOptions(rest="none"))
        assert len(plan.levels) == level_count(shape) == 5
        for level, lazy in enumerate(plan.levels):
            height, width = level_shape(shape, level)
            np.testing.assert_array_equal(
                lazy[:height, :width], sample(values, 0, 0, shape, level)[2]
            )
            if level:
                cut = np.s_[3 : height - 2 : 2, 40 : width // 2]
                np.testing.assert_array_equal(lazy[cut], np.asarray(lazy)[cut])


# In the case


def test_an_import_is_told_and_taken_back(tmp_path, case, shown):
    path = write_features(tmp_path / "biopsy outlines.geojson", rectangle(0, 0, 700, 550, "CIN2"))
    plan = plan_of(case, path)
    result = import_plan(case, plan, ANN)
    body = result.entry.body
    assert (body["tool"], body["file"], body["format"]) == (
        "import",
        "biopsy outlines.geojson",
        "geojson",
    )
    assert body["grades"] == {"CIN2": 3}
    assert (body["rest"], body["agreeing"], body["origin"]) == ("leave", "leave", "bounds")
    assert len(body["sha256"]) == 64
    assert json.loads(json.dumps(body)) == body
    assert describe(result.entry, 1.0).startswith("import of biopsy outlines.geojson ")
    changed = overlay(case)
    undone = case.editing.undo("Dr. Ben")
    assert "(import)" in describe(undone.entry, 1.0)
    np.testing.assert_array_equal(overlay(case), shown)
    assert (overlay(case, "correction") == 255).all()
    case.editing.redo("Dr. Ben")
    np.testing.assert_array_equal(overlay(case), changed)
    folder = case.folder
    case.close()
    with Case.open(folder) as again:
        np.testing.assert_array_equal(overlay(again), changed)


def test_a_plan_can_be_carried_out_later(tmp_path, case, shown):
    """It holds what it needs: the file may be closed, and the case worked on."""
    path = write_features(tmp_path / "a.json", outline([(0, 0), (300, 0), (0, 300)], "CIN3"))
    plan = plan_of(case, path)
    path.unlink()
    first = [(p.y, p.x, p.values.copy()) for p in plan.patches()]
    again = [(p.y, p.x, p.values.copy()) for p in plan.patches()]
    assert [(y, x) for y, x, _ in first] == [(y, x) for y, x, _ in again]
    import_plan(case, plan, ANN)
    ys, xs = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    inside = ys + xs < 300
    np.testing.assert_array_equal(overlay(case)[inside], 4)
    edge = ys + xs == 300
    np.testing.assert_array_equal(overlay(case)[~inside & ~edge], shown[~inside & ~edge])


def test_signed_off_regions_stay(tmp_path, case, shown):
    box = PixelBox(0, 0, 100, 100)
    (region,) = case.review.add([Selection.of_box(box, SHAPE)], "drawn", ANN)
    case.review.set_state([region.id], "signed off", ANN)
    path = write_features(tmp_path / "a.json", rectangle(50, 0, 200, 100, "CIN2"))
    result = import_plan(case, plan_of(case, path), ANN)
    assert result.locked == (region.id,)
    expected = shown.copy()
    expected[:100, 100:200] = 3
    np.testing.assert_array_equal(overlay(case), expected)
    path = write_features(tmp_path / "a.json", rectangle(0, 0, 90, 90, "CIN3"))
    with pytest.raises(RegionLockedError):
        import_plan(case, plan_of(case, path), ANN)
    np.testing.assert_array_equal(overlay(case), expected)


def test_stopping_changes_nothing(tmp_path, case, shown):
    path = write_features(tmp_path / "a.json", rectangle(0, 0, 700, 550, "CIN2"))
    before = case.journal.last
    told = []
    with open_incoming(path, case.slide_facts, case.grid) as incoming:
        plan = plan_import(incoming, case.composite(), progress=told.append)
        assert told == sorted(told)
        assert told[-1] == 1.0
        cancel = threading.Event()

        def stop(part):
            cancel.set()

        with pytest.raises(CancelledError):
            plan_import(incoming, case.composite(), progress=stop, cancel=cancel)
    with pytest.raises(CancelledError):
        import_plan(case, plan, ANN, progress=stop, cancel=cancel)
    with pytest.raises(InputError):
        import_plan(case, plan, " ")
    assert case.journal.last == before
    np.testing.assert_array_equal(overlay(case), shown)
    told.clear()
    import_plan(case, plan, ANN, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)


def test_ten_thousand_outlines(tmp_path):
    shape = (2000, 2500)
    rng = np.random.default_rng(4)
    with new_case(tmp_path / "c.hspnet", shape) as case:
        names = ["normal", "CIN1", "CIN2", "CIN3"]
        features, expected = [], np.full(shape, 255, np.uint8)
        for place in rng.permutation(10_000):
            y, x = 20 * int(place // 100), 25 * int(place % 100)
            value = int(rng.integers(1, 5))
            h, w = (int(n) for n in rng.integers(3, 20, 2))
            features.append(rectangle(x, y, x + w, y + h, names[value - 1]))
            expected[y : y + h, x : x + w] = value
        path = write_features(tmp_path / "a.json", *features)
        import_plan(case, plan_of(case, path), ANN)
        np.testing.assert_array_equal(overlay(case, "correction"), expected)
