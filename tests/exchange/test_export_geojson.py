"""GeoJSON for QuPath, read back with json and shapely and held against QuPath's own reader."""

import json
import threading
import uuid
from dataclasses import replace

import numpy as np
import pytest
import shapely
from described_tools import (
    BOUNDS,
    MPP,
    SHAPE,
    Slow,
    burn,
    made_case,
    snapshot_of,
)
from export_tools import ArrayLabels, about, blobs
from rasterio.features import rasterize
from scipy.ndimage import label

from napari_hspnet.classes import CIN2, CIN3, ORDINAL, PAPER
from napari_hspnet.errors import CancelledError, InputError, OutputError
from napari_hspnet.exchange import CaseLabels, ExportInfo, write_geojson
from napari_hspnet.exchange.described import Describer
from napari_hspnet.exchange.outlines import outlines
from napari_hspnet.slides import Bounds

WHATS = ("composite", "prediction", "correction", "difference")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def shape_of(feature):
    return shapely.from_geojson(json.dumps(feature["geometry"]))


# QuPath's reader: qupath-core/src/main/java/qupath/lib/io of github.com/qupath/qupath at
# 1489180708c354ff8d67c821c98c65fce97f1081: QuPathTypeAdapters (PathObjectTypeAdapter.parseObject,
# MeasurementListTypeAdapter.read), GsonTools (PathClassTypeAdapter.read) and ROITypeAdapters
# (parseGeometry, parsePolygon). What it does not know it drops, so that must not be there.

PROPERTIES = {
    "objectType",
    "name",
    "color",
    "classification",
    "isLocked",
    "measurements",
    "metadata",
}


def check_qupath(document):
    assert document["type"] == "FeatureCollection"
    ids = [check_object(feature) for feature in document["features"]]
    assert len(set(ids)) == len(ids)


def check_object(feature):
    assert set(feature) == {"type", "id", "geometry", "properties"}
    assert feature["type"] == "Feature"
    # UUID.fromString; anything else is dropped.
    assert str(uuid.UUID(feature["id"])) == feature["id"]
    check_geometry(feature["geometry"])
    properties = feature["properties"]
    assert set(properties) <= PROPERTIES
    assert properties["objectType"] == "annotation"
    if "name" in properties:
        assert isinstance(properties["name"], str)
    if "isLocked" in properties:
        # Written for locked objects alone.
        assert properties["isLocked"] is True
    if "classification" in properties:
        kind = properties["classification"]
        assert set(kind) == {"name", "color"}
        assert isinstance(kind["name"], str)
        # ":" would make it a class derived from another.
        assert ":" not in kind["name"]
        assert len(kind["color"]) == 3
        assert all(type(c) is int and 0 <= c <= 255 for c in kind["color"])
    # Map<String, Double>
    assert all(type(v) in (int, float) for v in properties["measurements"].values())
    # Values that are no primitives are dropped, others become texts.
    assert all(type(v) is str for v in properties["metadata"].values())
    return feature["id"]


def check_geometry(geometry):
    assert set(geometry) == {"type", "coordinates"}
    parts = {
        "Polygon": lambda c: [c],
        "MultiPolygon": lambda c: c,
    }[geometry["type"]](geometry["coordinates"])
    for polygon in parts:
        for ring in polygon:
            # GeometryFactory.createLinearRing raises otherwise.
            assert len(ring) >= 4
            assert ring[0] == ring[-1]
            assert all(len(p) == 2 and all(type(n) in (int, float) for n in p) for p in ring)
    assert shapely.from_geojson(json.dumps(geometry)).is_valid


@pytest.mark.parametrize("palette", [PAPER, ORDINAL])
def test_feature_has_what_qupath_reads(tmp_path, palette):
    values = np.zeros((40, 60))
    values[10:20, 20:40] = CIN2
    values[12:14, 22:24] = CIN3
    labels = ArrayLabels(values, mpp=1.0)
    said = about(labels, palette=palette)
    data = read(write_geojson(tmp_path / "a.geojson", labels, said))
    check_qupath(data)
    assert data["hspnet"]["model"] == "demo"
    by_name = {f["properties"]["classification"]["name"]: f for f in data["features"]}
    assert set(by_name) == {"CIN2", "CIN3"}
    feature = by_name["CIN2"]
    assert feature["properties"]["classification"]["color"] == list(palette.colours[CIN2])
    assert feature["properties"]["measurements"] == {"Area µm^2": 196}
    assert "DEMO MODEL" in feature["properties"]["metadata"]["notice"]
    assert feature["properties"]["metadata"]["runs"] == "20261123-a"
    assert len(feature["geometry"]["coordinates"]) == 2
    # 0.25 µm per pixel across, 0.5 down: 4 and 2 level-0 pixels a label pixel.
    assert shape_of(feature).bounds == (80, 20, 160, 40)
    again = read(write_geojson(tmp_path / "b.geojson", labels, said))
    assert [f["id"] for f in again["features"]] == [f["id"] for f in data["features"]]


def test_bounds_are_subtracted_unless_level0_is_asked_for(tmp_path):
    values = np.zeros((40, 60))
    values[10:20, 20:40] = CIN2
    labels = ArrayLabels(values)
    said = about(labels, bounds=Bounds(y=7, x=13, height=70, width=200))
    boxes = {}
    for origin in ("bounds", "level0"):
        data = read(write_geojson(tmp_path / f"{origin}.geojson", labels, said, origin=origin))
        assert data["hspnet"]["origin"] == origin
        boxes[origin] = shape_of(data["features"][0]).bounds
    assert boxes["level0"] == (80, 20, 160, 40)
    assert boxes["bounds"] == (67, 13, 147, 33)


def test_odd_resolution_stays_valid_and_true(tmp_path):
    labels = ArrayLabels(blobs(np.random.default_rng(1), (400, 300)))
    said = about(labels, slide_mpp=(0.499, 0.499))
    data = read(write_geojson(tmp_path / "a.geojson", labels, said))
    check_qupath(data)
    assert len(data["features"]) == sum(label(labels.values == v)[1] for v in (1, 2, 3, 4))
    for feature in data["features"]:
        area = feature["properties"]["measurements"]["Area µm^2"]
        assert shape_of(feature).area * 0.499**2 == pytest.approx(area, rel=0.01)
        assert area == int(area)


def test_nothing_found_is_still_a_collection(tmp_path):
    labels = ArrayLabels(np.full((30, 30), 253))
    for um in (0, 5):
        data = read(
            write_geojson(
                tmp_path / "a.geojson", labels, about(labels), simplify_um=um, overwrite=True
            )
        )
        assert data["features"] == []


# Of a case


@pytest.fixture(params=[BOUNDS, None], ids=["bounds", "no bounds"])
def case(tmp_path, request):
    with made_case(tmp_path / "a.hspnet", request.param) as made:
        yield made


@pytest.mark.parametrize("what", WHATS)
def test_each_kind_of_labels_of_a_case(tmp_path, case, what):
    snapshot = snapshot_of(case)
    labels, said = CaseLabels(snapshot.composite, what), ExportInfo.of_snapshot(snapshot, what)
    describer = Describer.of(snapshot)
    path = write_geojson(tmp_path / "a.geojson", labels, said, describer=describer, regions=True)
    text = path.read_text(encoding="utf-8")
    assert "Jane" not in text
    assert "Secret" not in text
    data = json.loads(text)
    check_qupath(data)
    bounds = snapshot.slide.bounds
    offset = (0, 0) if bounds is None else (bounds.x, bounds.y)
    graded = [f for f in data["features"] if "classification" in f["properties"]]
    names = {"normal": 1, "CIN1": 2, "CIN2": 3, "CIN3": 4}
    shapes = [
        shapely.transform(shape_of(f), lambda points: (points + offset) * 0.25 / MPP)
        for f in graded
    ]
    values = [names[f["properties"]["classification"]["name"]] for f in graded]
    burned = rasterize(zip(shapes, values, strict=True), out_shape=SHAPE, fill=0)
    expected = labels.read(0, 0, *SHAPE)
    expected[expected > 4] = 0
    np.testing.assert_array_equal(burned, expected)
    slow = Slow(snapshot)
    readers, locked = set(), 0
    for feature, shape in zip(graded, shapes, strict=True):
        said = feature["properties"]
        pixels = burn(shape)
        corrected, who, regions = slow(pixels)
        assert said["measurements"]["Area µm^2"] == pixels.sum() * MPP**2
        assert said["measurements"]["Corrected µm^2"] == corrected * MPP**2
        assert said["metadata"].get("readers", "") == "; ".join(who)
        assert said["metadata"].get("region", "") == "; ".join(map(str, regions))
        assert ("isLocked" in said) == (1 in regions)
        readers |= set(who)
        locked += 1 in regions
        if regions == (1, 2):
            assert said["metadata"]["state"].startswith("1: signed off by B, 20")
            assert said["metadata"]["tag"] == "1: invasion"
    assert readers == {"A", "B"}
    assert locked >= 1
    named = {f["properties"]["name"]: f for f in data["features"] if "name" in f["properties"]}
    assert list(named) == [
        "Region 1, signed off",
        "Region 2, to do",
        "Region 3, to do",
        "Region 4, reviewed",
        "Region 5, to do",
    ]
    for region, feature in zip(snapshot.regions, named.values(), strict=True):
        shape = shapely.transform(shape_of(feature), lambda points: (points + offset) / 2)
        inside = snapshot.selection(region.id).read(replace(region.box, y0=0, x0=0))
        assert burn(shape)[: inside.shape[0], : inside.shape[1]].sum() == region.pixels
        np.testing.assert_array_equal(burn(shape)[: inside.shape[0], : inside.shape[1]], inside)


def test_comments_leave_when_asked_for(tmp_path, case):
    snapshot = snapshot_of(case)
    labels, said = CaseLabels(snapshot.composite), ExportInfo.of_snapshot(snapshot)
    describer = Describer.of(snapshot, comments=True)
    data = read(
        write_geojson(tmp_path / "a.geojson", labels, said, describer=describer, regions=True)
    )
    (first,) = [f for f in data["features"] if f["properties"].get("name", "")[:9] == "Region 1,"]
    assert first["properties"]["metadata"]["comments"].endswith(": asked Dr. Secret")


def test_simplified_outlines_keep_ids_and_areas_and_say_so(tmp_path, case):
    snapshot = snapshot_of(case)
    labels, said = CaseLabels(snapshot.composite), ExportInfo.of_snapshot(snapshot)
    exact, simple = (
        read(
            write_geojson(
                tmp_path / f"{um}.geojson",
                labels,
                said,
                simplify_um=um,
                describer=Describer.of(snapshot),
            )
        )
        for um in (0.0, 3.0)
    )
    check_qupath(simple)
    assert "simplified" not in exact["hspnet"]
    assert simple["hspnet"]["simplified"] == "by about 3 µm; areas are those of the labels"
    assert [f["id"] for f in simple["features"]] == [f["id"] for f in exact["features"]]
    for before, after in zip(exact["features"], simple["features"], strict=True):
        assert after["properties"]["measurements"] == before["properties"]["measurements"]
        metadata = dict(after["properties"]["metadata"])
        assert metadata.pop("simplified") == simple["hspnet"]["simplified"]
        assert metadata == before["properties"]["metadata"]
    shapes = np.array([shape_of(f) for f in simple["features"]], dtype=object)
    assert shapely.coverage_is_valid(shapes)
    assert shapely.get_num_coordinates(shapes).sum() < sum(
        shapely.get_num_coordinates(shape_of(f)) for f in exact["features"]
    )


@pytest.mark.parametrize("um", [-1.0, float("nan"), float("inf")])
def test_no_distance_to_simplify_by(tmp_path, um):
    labels = ArrayLabels(np.ones((30, 30)))
    with pytest.raises(InputError, match="no distance"):
        write_geojson(tmp_path / "a.geojson", labels, about(labels), simplify_um=um)
    assert list(tmp_path.iterdir()) == []


def test_cancelling_and_refusing_leave_nothing(tmp_path):
    labels = ArrayLabels(blobs(np.random.default_rng(1), (200, 200)))
    cancel = threading.Event()
    path = tmp_path / "a.geojson"
    for um in (0.0, 2.0):
        cancel.clear()
        with pytest.raises(CancelledError):
            write_geojson(
                path,
                labels,
                about(labels),
                simplify_um=um,
                progress=lambda part: cancel.set(),
                cancel=cancel,
            ) if um else write_geojson(
                path, Cancelling(labels, cancel), about(labels), cancel=cancel
            )
        assert list(tmp_path.iterdir()) == []
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        write_geojson(path, labels, about(labels))
    assert path.read_text() == "mine"


class Cancelling:
    """Sets an event once labels are read."""

    def __init__(self, labels, cancel):
        self.grid, self._labels, self._cancel = labels.grid, labels, cancel

    def read(self, *box):
        self._cancel.set()
        return self._labels.read(*box)


def test_a_description_is_cancelled(case):
    snapshot = snapshot_of(case)
    cancel = threading.Event()
    cancel.set()
    describer = Describer.of(snapshot)
    (largest,) = sorted(
        (p for _, p in outlines(CaseLabels(snapshot.composite, "correction"))),
        key=lambda p: p.area,
    )[-1:]
    with pytest.raises(CancelledError):
        describer.describe(largest, cancel)
