"""GeoJSON read as labels: against shapely at pixel centres, and whatever is wrong with a file."""

import json
import math
import threading

import numpy as np
import pytest
import shapely
from export_tools import ArrayLabels
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from import_tools import (
    centres_inside,
    facts,
    grades_of,
    grid_of,
    outline,
    read_all,
    rectangle,
    write_features,
)

from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.exchange.burning import Outlines
from napari_hspnet.exchange.incoming import LEFT, REST, guess_grade, open_incoming
from napari_hspnet.exchange.outlines import outlines
from napari_hspnet.slides import Bounds, PixelBox

from slide_files import SHARED_DATA

SLIDE = facts()
GRID = grid_of(SLIDE)


@pytest.fixture
def opened(tmp_path):
    """Write features and open them; gives what `open_incoming` does."""

    def run(*features, slide=SLIDE, grid=None, said=None, **how):
        path = write_features(tmp_path / "outlines.geojson", *features, **(said or {}))
        return open_incoming(path, slide, grid or grid_of(slide), **how)

    return run


# Burning


@st.composite
def polygons(draw, side=24):
    """Valid polygons with holes; whole and half numbers put edges on pixel centres."""
    number = st.one_of(
        st.integers(-8, 2 * side + 8).map(lambda n: n / 2),
        st.floats(-4, side + 4, allow_nan=False, width=32),
    )
    rings = draw(
        st.lists(
            st.lists(st.tuples(number, number), min_size=3, max_size=9), min_size=1, max_size=3
        )
    )
    # GEOS gives up where a ring that is only a line lies beside others.
    flat = [shapely.MultiPoint(ring).convex_hull.area == 0 for ring in rings]
    assume(not any(flat))
    shape = shapely.make_valid(shapely.MultiPolygon([shapely.Polygon(ring) for ring in rings]))
    parts = [part for part in shapely.get_parts([shape]) if part.geom_type == "Polygon"]
    shape = shapely.union_all(parts) if parts else shapely.Polygon()
    assume(shape.area > 0)
    return shape


@settings(max_examples=200, deadline=None)
@given(polygons())
def test_a_pixel_is_inside_where_its_centre_is(polygon):
    shape = (24, 24)
    found = Outlines([polygon]).inside(0, PixelBox(0, 0, *shape))
    expected, on_edge = centres_inside(polygon, shape)
    np.testing.assert_array_equal(found[~on_edge], expected[~on_edge])


@settings(max_examples=100, deadline=None)
@given(polygons(), st.integers(1, 24), st.integers(1, 24), st.integers(0, 10))
def test_the_window_that_is_asked_for_changes_nothing(polygon, height, width, start):
    outlines = Outlines([polygon])
    whole = outlines.inside(0, PixelBox(-12, -12, 36, 36))
    for y in range(start - 12, 36 - height, height):
        for x in range(start - 12, 36 - width, width):
            part = outlines.inside(0, PixelBox(y, x, y + height, x + width))
            expected = whole[y + 12 : y + 12 + height, x + 12 : x + 12 + width]
            np.testing.assert_array_equal(part, expected)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 40).map(lambda n: n / 2), st.integers(0, 40).map(lambda n: n / 2)),
        min_size=3,
        max_size=12,
        unique=True,
    )
)
@example([(0, 0), (20, 0), (0, 20), (20, 20), (9.5, 9.5)])
def test_neighbours_share_no_pixel_and_leave_none_out(points):
    triangles = shapely.get_parts(shapely.delaunay_triangles(shapely.MultiPoint(points)))
    assume(len(triangles))
    outlines = Outlines(list(triangles))
    box = PixelBox(0, 0, 20, 20)
    total = sum(outlines.inside(n, box).astype(int) for n in range(len(outlines)))
    assert total.max(initial=0) <= 1
    hull, on_edge = centres_inside(shapely.union_all(triangles), (20, 20))
    np.testing.assert_array_equal(total[~on_edge], hull[~on_edge])


def test_an_outline_of_many_points_over_many_chunks(opened):
    slide = facts((1700, 2100))
    turn = np.linspace(0, 2 * np.pi, 40_000, endpoint=False)
    reach = 700 + 60 * np.sin(37 * turn) + 5 * np.sin(4001 * turn)
    ring = np.column_stack([1050 + reach * np.cos(turn), 850 + reach * np.sin(turn)])
    polygon = shapely.Polygon(ring)
    assert polygon.is_valid
    incoming = opened(outline(polygon, "CIN2"), slide=slide)
    found = read_all(incoming, grid_of(slide))
    shapely.prepare(polygon)
    rng = np.random.default_rng(1)
    # Most near the outline, where there is something to get wrong.
    some = ring[rng.integers(0, len(ring), 20_000)] + rng.normal(0, 3, (20_000, 2))
    ys, xs = np.floor(some[:, 1]).astype(int), np.floor(some[:, 0]).astype(int)
    expected = shapely.contains_xy(polygon, xs + 0.5, ys + 0.5)
    assert 5_000 < expected.sum() < 15_000
    np.testing.assert_array_equal(found[ys, xs] == 3, expected)
    np.testing.assert_array_equal(read_all(incoming, grid_of(slide), block_side=700), found)
    # Asked in any order, what is kept of the last rows does not leak into others.
    for y, x in ((1100, 300), (0, 1000), (1100, 900), (512, 512), (0, 0)):
        part = incoming.read(y, x, 400, 500, grades_of(incoming))
        np.testing.assert_array_equal(part, found[y : y + 400, x : x + 500])


# Places


@pytest.mark.parametrize("mpp", [0.25, 0.499, 1.0, 3.1])
@pytest.mark.parametrize("label_mpp", [0.5, 1.0, 2.25])
def test_outlines_lie_in_level_0_pixels_whatever_the_label_grid(opened, mpp, label_mpp):
    slide = facts((100, 130), mpp)
    grid = grid_of(slide, label_mpp)
    polygon = shapely.Point(61.3, 43.7).buffer(30.2) - shapely.Point(55.1, 40.2).buffer(11.7)
    incoming = opened(outline(polygon, "CIN3"), slide=slide, grid=grid)
    found = read_all(incoming, grid)
    scaled = shapely.transform(polygon, lambda points: points * (mpp / label_mpp))
    expected, on_edge = centres_inside(scaled, grid.shape)
    np.testing.assert_array_equal((found == 4)[~on_edge], expected[~on_edge])
    assert set(np.unique(found)) == {4, REST}


def test_the_scanned_area_is_added_back_unless_the_file_counts_from_the_image(opened):
    slide = facts(bounds=Bounds(100, 200, 400, 500))
    square = rectangle(10, 20, 30, 50, "CIN1")

    def place(**how):
        incoming = opened(square, slide=slide, **how)
        assert incoming.notes == how.get("notes", ())
        return incoming.box

    assert place() == place(origin="bounds") == PixelBox(120, 210, 150, 230)
    assert place(origin="level0") == PixelBox(20, 10, 50, 30)
    assert place(said={"hspnet": {"origin": "level0"}}) == PixelBox(20, 10, 50, 30)
    incoming = opened(square, slide=slide, said={"hspnet": {"origin": "level0"}}, origin="bounds")
    assert incoming.box == PixelBox(120, 210, 150, 230)
    assert "origin is level0; it is read as bounds" in incoming.notes[0]
    assert incoming.said == {"origin": "bounds", "offset": [200, 100]}


def test_where_the_scanned_area_is_not_known_that_is_said(opened):
    slide = facts(known=False)
    (note,) = opened(rectangle(1, 1, 9, 9, "CIN1"), slide=slide).notes
    assert "does not know whether the slide has a scanned area" in note
    assert opened(rectangle(1, 1, 9, 9, "CIN1"), slide=slide, origin="level0").notes == ()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_smaller_of_two_outlines_lies_on_top(opened, order):
    features = [
        rectangle(0, 0, 100, 100, "normal"),
        rectangle(20, 20, 80, 80, "CIN2"),
        rectangle(40, 40, 60, 60, "none of the four"),
    ]
    incoming = opened(*(features[i] for i in order))
    expected = np.full(GRID.shape, REST, np.uint8)
    expected[:100, :100], expected[20:80, 20:80], expected[40:60, 40:60] = 1, 3, 0
    np.testing.assert_array_equal(read_all(incoming, GRID), expected)
    # What is left out is as if it were not there; what QuPath ignores lies on top.
    left = read_all(incoming, GRID, {"normal": 1, "CIN2": LEFT, "none of the four": 0})
    expected[20:80, 20:80], expected[40:60, 40:60] = 1, 0
    np.testing.assert_array_equal(left, expected)
    features[2] = rectangle(40, 40, 60, 60, "Ignore*")
    ignored = read_all(opened(*(features[i] for i in order)), GRID)
    assert (ignored[40:60, 40:60] == LEFT).all()
    assert (ignored == LEFT).sum() == 400


def test_of_outlines_of_one_size_the_later_lies_on_top(opened):
    incoming = opened(rectangle(0, 0, 20, 10, "CIN1"), rectangle(10, 0, 30, 10, "CIN3"))
    assert read_all(incoming, GRID)[5, [5, 15, 25]].tolist() == [2, 4, 4]


# Files


def geometry(feature):
    return feature["geometry"]


@pytest.mark.parametrize(
    "document",
    [
        {"type": "FeatureCollection", "features": [rectangle(2, 3, 7, 9, "CIN2")]},
        rectangle(2, 3, 7, 9, "CIN2"),
        [rectangle(2, 3, 7, 9, "CIN2")],
        [{"type": "FeatureCollection", "features": [rectangle(2, 3, 7, 9, "CIN2")]}],
        geometry(rectangle(2, 3, 7, 9)),
        [geometry(rectangle(2, 3, 7, 9))],
        outline(shapely.MultiPolygon([shapely.box(2, 3, 4, 9), shapely.box(4.2, 3, 7, 9)]), "CIN2"),
        outline(
            shapely.GeometryCollection(
                [shapely.box(2, 3, 5, 9), shapely.box(3, 3, 7, 9), shapely.Point(1, 1)]
            ),
            "CIN2",
        ),
        outline([(2, 3, 0), (7, 3, 0), (7, 9, 0), (2, 9, 0)], "CIN2"),
    ],
)
def test_what_qupath_and_others_write(tmp_path, document):
    path = tmp_path / "a.json"
    path.write_text("\ufeff \n" + json.dumps(document), encoding="utf-8")
    incoming = open_incoming(path, SLIDE, GRID)
    assert incoming.kind == "geojson"
    (name,) = incoming.names
    assert (name.key, name.grade) in {("CIN2", 3), ("", None)}
    found = read_all(incoming, GRID, {name.key: 3})
    expected = np.full(GRID.shape, REST, np.uint8)
    expected[3:9, 2:7] = 3
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("properties", "key"),
    [
        ({"classification": {"name": "CIN 2", "color": [1, 2, 3]}}, "CIN 2"),
        ({"classification": {"names": ["CIN 2", "Positive"]}}, "CIN 2: Positive"),
        ({"classification": {"names": ["CIN 2"]}}, "CIN 2"),
        ({"classification": {"name": "CIN 2", "colorRGB": -3670016}}, "CIN 2"),
        ({"classification": "CIN 2"}, "CIN 2"),
        ({"classification": None, "objectType": "annotation"}, ""),
        ({"objectType": "annotation", "name": "first one"}, ""),
        ({"class_name": " CIN  2 "}, "CIN 2"),
        ({"label": 7}, "7"),
        ({"name": "CIN 2"}, "CIN 2"),
        ({"classification": {"name": "CIN 2"}, "name": "first one"}, "CIN 2"),
        ({}, ""),
        (None, ""),
    ],
)
def test_what_an_outline_is_called(opened, properties, key):
    feature = rectangle(1, 1, 9, 9)
    feature["properties"] = properties
    assert [name.key for name in opened(feature).names] == [key]


@pytest.mark.parametrize(
    ("name", "grade"),
    [
        *((text, 2) for text in ("CIN1", "cin 1", "CIN-1", "CIN_I", "CIN grade 1", "LSIL")),
        *((text, 2) for text in ("LSIL (CIN1)", "CIN 1 / LSIL", "lsil: CIN-I", "Cin  i")),
        *((text, 3) for text in ("CIN2", "CIN II", "HSIL/CIN2", "HSIL (CIN 2)", "cin grade ii")),
        *((text, 4) for text in ("CIN3", "CIN III", "CIN3 (HSIL)")),
        *((text, 1) for text in ("normal", "Normal")),
        *((text, 0) for text in ("none of the four", "None of the four")),
        *((text, LEFT) for text in ("Ignore*", "Region*", "CIN2*")),
        *((text, None) for text in ("", "HSIL", "NILM", "CIN", "CIN4", "CIN2-3", "CIN 2/3", "CIS")),
        *(
            (text, None)
            for text in ("CIN1/CIN2", "LSIL/CIN2", "Tumor", "abnormal", "CIN2: Positive")
        ),
        *((text, None) for text in ("1", "CIN 1+", "CIN1, CIN2, CIN3", "none", "HSIL/LSIL")),
    ],
)
def test_only_what_is_certain_is_taken_for_a_grade(name, grade):
    assert guess_grade(name) == grade


def test_names_are_counted(opened):
    incoming = opened(
        rectangle(0, 0, 9, 9, "CIN 2"), rectangle(20, 0, 29, 9, "CIN 2"), rectangle(40, 0, 49, 9)
    )
    assert [(n.key, n.count, n.grade) for n in incoming.names] == [("", 1, None), ("CIN 2", 2, 3)]


def test_points_and_lines_are_left_out_and_said(opened):
    line = outline(shapely.LineString([(0, 0), (9, 9)]), "CIN1")
    incoming = opened(line, outline(shapely.Point(3, 3), "CIN1"), rectangle(0, 0, 9, 9, "CIN2"))
    assert [n.key for n in incoming.names] == ["CIN2"]
    assert incoming.notes == ("Points and lines have no area and are left out: 2",)


BROKEN = [
    {"type": "Polygon", "coordinates": [[[0, 0], [math.nan, 0], [9, 9], [0, 9], [0, 0]]]},
    {"type": "Polygon", "coordinates": [[[0, 0], [math.inf, 0], [9, 9], [0, 9], [0, 0]]]},
    {"type": "Polygon", "coordinates": [[[0, 0], [1e300, 0], [9, 9], [0, 9], [0, 0]]]},
    {"type": "Polygon", "coordinates": [[[0, 0], [9, 9]]]},
    {"type": "Polygon", "coordinates": [[[0, 0], [9, 9], [0, 0]]]},
    {"type": "Polygon", "coordinates": [[[0, 0], [5, 5], [9, 9], [0, 0]]]},
    {"type": "Polygon", "coordinates": [[[3, 3]] * 5]},
    {"type": "Polygon", "coordinates": [[[0, 0], [9], [9, 9], [0, 9]]]},
    {"type": "Polygon", "coordinates": [[["a", "b"], [9, 0], [9, 9], [0, 9]]]},
    {"type": "Polygon", "coordinates": [[None, [9, 0], [9, 9], [0, 9]]]},
    {"type": "Polygon", "coordinates": []},
    {"type": "Polygon", "coordinates": 5},
    {"type": "Polygon"},
    {"type": "MultiPolygon", "coordinates": []},
    {"type": "Circle", "coordinates": [3, 3], "radius": 5},
    {"type": "GeometryCollection", "geometries": [{"type": "Polygon", "coordinates": [[]]}]},
    {},
    None,
    "here",
]


@pytest.mark.parametrize("broken", BROKEN)
def test_outlines_without_a_shape_are_left_out_and_said(opened, broken):
    feature = {"type": "Feature", "geometry": broken, "properties": {}}
    good = rectangle(20, 20, 29, 29, "CIN2")
    incoming = opened(feature, good, feature)
    (note,) = incoming.notes
    assert note.startswith("2 outlines have no usable shape")
    np.testing.assert_array_equal(read_all(incoming, GRID), read_all(opened(good), GRID))
    with pytest.raises(InputError, match="none is an outline that has an area"):
        opened(feature)


def test_outlines_that_cross_themselves_are_mended_and_said(opened):
    bow = [(10, 10), (50, 50), (50, 10), (10, 50), (10, 10)]
    incoming = opened(outline(bow, "CIN3"))
    (note,) = incoming.notes
    # What the crossing made of the area: +400 and -400 µm² are now 800.
    assert note == (
        "1 outline crosses itself and was mended, which changed the area by 800 µm² in all"
    )
    mended = shapely.make_valid(shapely.Polygon(bow))
    expected, on_edge = centres_inside(mended, GRID.shape)
    found = read_all(incoming, GRID) == 4
    np.testing.assert_array_equal(found[~on_edge], expected[~on_edge])
    assert found.sum() == pytest.approx(800, abs=40)


def test_overlapping_parts_of_one_outline_are_one(opened):
    both = shapely.MultiPolygon([shapely.box(0, 0, 20, 20), shapely.box(10, 10, 30, 30)])
    found = read_all(opened(outline(both, "CIN1")), GRID)
    assert (found == 2).sum() == 700


def test_a_hole_of_two_points_is_none(opened):
    feature = rectangle(0, 0, 9, 9, "CIN2")
    feature["geometry"]["coordinates"].append([[3, 3], [4, 4]])
    assert (read_all(opened(feature), GRID) == 3).sum() == 81


def test_outlines_beyond_the_slide_are_cut_and_said(opened):
    incoming = opened(
        rectangle(-50, -50, 20, 30, "CIN1"),
        rectangle(790, 590, 900, 900, "CIN2"),
        rectangle(900, 0, 950, 50, "CIN3"),
        rectangle(0, -50, 50, -10, "CIN3"),
        rectangle(800, 0, 850, 50, "CIN3"),
    )
    assert incoming.notes == (
        "3 outlines lie outside the slide and are left out",
        "2 outlines reach beyond the slide and are cut there",
    )
    assert [n.key for n in incoming.names] == ["CIN1", "CIN2"]
    found = read_all(incoming, GRID)
    assert ((found == 2).sum(), (found == 3).sum()) == (600, 100)
    assert incoming.box == PixelBox(0, 0, 600, 800)


def test_outlines_too_small_to_be_seen_are_said(opened):
    incoming = opened(
        rectangle(1.6, 1.6, 2.4, 2.4, "CIN1"),
        rectangle(5.6, 1.6, 5.7, 9.4, "CIN1"),
        rectangle(3.4, 3.4, 3.6, 3.6, "CIN1"),
    )
    assert (read_all(incoming, GRID) == 2).sum() == 1
    (note,) = incoming.notes
    assert note.startswith("2 outlines are too small or thin")


@pytest.mark.parametrize(
    ("slide", "how", "corners", "words"),
    [
        (facts(mpp=3.0), {}, (900, 300, 2100, 1500), "taken as µm"),
        (facts(), {}, (1000, 2000, 3000, 2300), "divided by 4"),
        (
            facts(bounds=Bounds(300, 400, 300, 400)),
            {},
            (500, 350, 700, 500),
            "choose level0 as origin",
        ),
        (
            facts(bounds=Bounds(300, 400, 300, 400)),
            {"origin": "level0"},
            (-300, -200, -30, -10),
            "choose bounds as origin",
        ),
        (facts(), {}, (10, -500, 200, -10), "y grows upwards"),
        (facts(), {}, (-1e6, 1e6, -9e5, 2e6), "another slide"),
    ],
)
def test_all_outside_the_slide_is_an_error_that_says_what_is_likely(
    opened, slide, how, corners, words
):
    with pytest.raises(InputError, match="All 1 outlines lie outside") as caught:
        opened(rectangle(*corners, "CIN1"), slide=slide, **how)
    said = str(caught.value)
    assert words in said
    assert "outlines.geojson" in said
    assert f"x {corners[0]:,.0f} to {corners[2]:,.0f} and y {corners[1]:,.0f} to" in said
    assert "800 x 600" in said


def test_a_file_of_another_slide_is_said(opened):
    square = rectangle(0, 0, 9, 9, "CIN1")
    (note,) = opened(square, said={"hspnet": {"slide_sha256": "cd" * 32}}).notes
    assert "another slide (cdcdcdcdcdcd…), not for biopsy.svs (abababababab…)" in note
    assert opened(square, said={"hspnet": {"slide_sha256": "ab" * 32}}).notes == ()


def test_a_file_without_outlines_says_so(opened):
    incoming = opened()
    assert (incoming.notes, incoming.names) == (("The file holds no outlines",), ())
    assert (read_all(incoming, GRID) == REST).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello", "neither GeoJSON nor PNG nor TIFF"),
        (b"{", "no valid JSON"),
        (b'{"type": "FeatureCollection", "features": [', "no valid JSON"),
        (b'{"type": "FeatureCollection"}', "no GeoJSON"),
        (b'{"type": "FeatureCollection", "features": [5]}', "no GeoJSON"),
        (b'{"type": "FeatureCollection", "features": [{"type": "Thing"}]}', "no GeoJSON"),
        (b'{"a": 1}', "no GeoJSON"),
        (b"[1, 2]", "no GeoJSON"),
        (b'{"type": "\xff\xfe"}', "no UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\x1f\x8b\x08\0\0", "packed (gzip)"),
        (b"PK\x03\x04", "packed (zip)"),
        (b"\xff\xd8\xff\xe0", "a JPEG"),
    ],
)
def test_what_is_no_geojson(tmp_path, content, words):
    path = tmp_path / "a.geojson"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        open_incoming(path, SLIDE, GRID)
    assert words in str(caught.value)
    assert "a.geojson" in str(caught.value)


def test_no_file_and_options_of_masks(tmp_path, opened):
    for path in (tmp_path / "absent.geojson", tmp_path):
        with pytest.raises(InputError, match="cannot be read") as caught:
            open_incoming(path, SLIDE, GRID)
        assert str(path) in str(caught.value)
    for how in ({"mpp": 0.5}, {"at": (1.0, 2.0)}):
        with pytest.raises(InputError, match="pixels of the slide"):
            opened(rectangle(0, 0, 9, 9, "CIN1"), **how)


def test_reading_tells_its_progress_and_stops(opened):
    features = [rectangle(i % 700, i % 500, i % 700 + 9, i % 500 + 9, "CIN1") for i in range(999)]
    told = []
    opened(*features, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 4
    cancel = threading.Event()

    def stop(part):
        if part > 0.3:
            cancel.set()

    with pytest.raises(CancelledError):
        opened(*features, progress=stop, cancel=cancel)


# Real shapes


def real_outlines(name):
    path = SHARED_DATA / "annotations" / name
    if not path.exists():
        pytest.skip(f"real data absent: shared/data/annotations/{name}")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(path)
    return shapely.from_wkb(table["geometry"].to_numpy()), table["class_name"].to_pylist()


@pytest.mark.parametrize("name", ["cervix_tissue_crop.parquet", "cervix_biopsy_tissue.parquet"])
def test_real_outlines_keep_their_areas_in_and_out(opened, name):
    shapes, classes = real_outlines(name)
    x1, y1 = np.ceil(shapely.total_bounds(shapes)[2:]).astype(int)
    slide = facts((int(y1), int(x1)), 0.5)
    grid = grid_of(slide, 0.5)
    # Names that say nothing of a grade, so each has one only to tell it apart.
    kinds = sorted(set(classes))
    grades = {kind: number for number, kind in enumerate(kinds)}
    incoming = opened(
        *(outline(shape, kind) for shape, kind in zip(shapes, classes, strict=True)),
        slide=slide,
        grid=grid,
    )
    assert {n.key: n.count for n in incoming.names} == {k: classes.count(k) for k in kinds}
    assert all(n.grade is None for n in incoming.names)
    bands = range(0, grid.shape[0], 512)
    read = [incoming.read(y, 0, min(512, grid.shape[0] - y), grid.shape[1], grades) for y in bands]
    labels = np.concatenate(read)
    # By shapely: what lies on top takes its area from all beneath it.
    expected = dict.fromkeys(kinds, 0.0)
    covered = shapely.Polygon()
    for number in np.argsort(shapely.area(shapes), kind="stable"):
        own = shapes[number] - covered
        expected[classes[number]] += own.area
        covered = covered | shapes[number]
    for kind in kinds:
        came_in = labels == grades[kind]
        went_out = outlines(ArrayLabels(came_in.astype(np.uint8), mpp=0.5))
        area = sum(polygon.area for _, polygon in went_out)
        assert area == came_in.sum()
        assert area == pytest.approx(expected[kind], rel=1e-3)
