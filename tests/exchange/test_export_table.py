"""Tables read back with pandas, json and geopandas."""

import builtins
import json
import threading
from collections import defaultdict

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
from described_tools import MPP, SHAPE, Slow, burn, made_case, snapshot_of

from napari_hspnet.errors import CancelledError, DependencyError, InputError, OutputError
from napari_hspnet.exchange import CaseLabels, ExportInfo, write_geojson
from napari_hspnet.exchange import table_files as files
from napari_hspnet.exchange.described import Describer
from napari_hspnet.exchange.outlines import outlines
from napari_hspnet.exchange.table import write_table

WHATS = ("composite", "prediction", "correction", "difference")
NAMES = {1: "normal", 2: "CIN1", 3: "CIN2", 4: "CIN3"}
SQUARE = (MPP / 1000) ** 2


def worst(mm2):
    """The worst grade of 200 pixels or more."""
    return max((v for v, area in mm2.items() if v <= 4 and area >= 200 * SQUARE), default=None)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    with made_case(tmp_path_factory.mktemp("c") / "a.hspnet") as made:
        yield made


class Export:
    def __init__(self, case, what="composite", comments=False, **how):
        self.snapshot = snapshot_of(case)
        self.labels = CaseLabels(self.snapshot.composite, what)
        self.about = ExportInfo.of_snapshot(self.snapshot, what, **how)
        self.describer = Describer.of(self.snapshot, comments)
        self.values = self.labels.read(0, 0, *SHAPE)

    def write(self, path, kind, **how):
        how = {"worst": worst, **how}
        return write_table(path, self.labels, self.about, self.describer, kind, **how)


def texts(joined):
    return [] if pd.isna(joined) else str(joined).split("; ")


def listed(values):
    return [] if values is None or np.isscalar(values) else list(values)


def from_csv(path):
    frame = pd.read_csv(path)
    frame["readers"] = frame["readers"].map(texts)
    frame["regions"] = frame["regions"].map(lambda t: [int(float(n)) for n in texts(t)])
    return frame


def from_json(path):
    data = json.loads(path.read_text(encoding="utf-8"))
    assert list(data) == ["hspnet", "slide", "regions", "outlines"]
    frame = pd.DataFrame([data["slide"], *data["regions"], *data["outlines"]])
    for name in {"readers", "regions"} & set(frame.columns):
        frame[name] = frame[name].map(listed)
    return frame


def from_parquet(path):
    frame = geopandas.read_parquet(path)
    assert frame.crs is None
    for name in ("readers", "regions"):
        frame[name] = frame[name].map(listed)
    return frame


READ = {"csv": from_csv, "json": from_json, "parquet": from_parquet}


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_rows_say_what_the_labels_hold(tmp_path, case, kind, what):
    export = Export(case, what)
    frame = READ[kind](export.write(tmp_path / f"a.{kind}", kind))
    kinds = frame["kind"].tolist()
    assert kinds == sorted(kinds, key=["slide", "region", "outline"].index)
    slide = frame.iloc[0]
    said = defaultdict(int)
    for row in frame[frame.kind == "outline"].itertuples():
        said[int(row.class_value)] += int(row.pixels)
        assert row.area_mm2 == round(int(row.pixels) * SQUARE, 12)
    # Exactly, not nearly: the outlines are the labels.
    for value, name in NAMES.items():
        pixels = int(np.count_nonzero(export.values == value))
        assert said[value] == pixels
        assert slide[f"{name}_mm2"] == round(pixels * SQUARE, 12)
    assert slide["pixels"] == export.values.size
    zero = np.count_nonzero(export.values == 0)
    assert slide["none_of_the_four_mm2"] == round(zero * SQUARE, 12)
    missing = int(np.count_nonzero(export.values >= 253))
    if what in ("composite", "prediction"):
        assert slide["not_analysed_mm2"] == round(missing * SQUARE, 12)
        assert missing > 0
    else:
        rest = {"correction": "not_corrected_mm2", "difference": "not_changed_mm2"}[what]
        untouched = int(np.count_nonzero(export.values == 255))
        assert slide[rest] == round(untouched * SQUARE, 12)
        assert "not_analysed_mm2" not in frame.columns


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_region_rows(tmp_path, case, kind):
    export = Export(case)
    frame = READ[kind](export.write(tmp_path / f"a.{kind}", kind))
    rows = frame[frame.kind == "region"]
    assert rows["region"].tolist() == [1, 2, 3, 4, 5]
    slow = Slow(export.snapshot)
    for (_, row), region in zip(rows.iterrows(), export.snapshot.regions, strict=True):
        inside = slow.regions[region.id]
        values = export.values[inside]
        assert row["pixels"] == inside.sum()
        for value, name in NAMES.items():
            assert row[f"{name}_mm2"] == round(int((values == value).sum()) * SQUARE, 12)
        areas = {int(v): float((values == v).sum() * SQUARE) for v in np.unique(values)}
        expected = worst(areas)
        assert (None if pd.isna(row["worst_grade"]) else row["worst_grade"]) == NAMES.get(expected)
        corrected, who, _ = slow(inside)
        assert row["corrected_mm2"] == round(corrected * SQUARE, 12)
        assert tuple(row["readers"]) == who
        assert (row["state"], row["state_reader"]) == (region.state, region.state_reader)
        assert row["state_time"] == region.state_time
        assert (row["x0_um"], row["y1_um"]) == (region.box.x0 * MPP, region.box.y1 * MPP)
        ys, xs = np.nonzero(inside)
        assert row["centroid_x_um"] == pytest.approx((xs.mean() + 0.5) * MPP, abs=1e-3)
        assert row["centroid_y_um"] == pytest.approx((ys.mean() + 0.5) * MPP, abs=1e-3)
    assert rows.iloc[0]["tag"] == "invasion"
    assert rows.iloc[0]["worst_grade"] == "CIN3"


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_outline_rows(tmp_path, case, kind):
    export = Export(case)
    frame = READ[kind](export.write(tmp_path / f"a.{kind}", kind))
    rows = frame[frame.kind == "outline"]
    data = json.loads(
        write_geojson(tmp_path / "a.geojson", export.labels, export.about).read_text("utf-8")
    )
    assert rows["id"].tolist() == [f["id"] for f in data["features"]]
    slow = Slow(export.snapshot)
    found = list(outlines(export.labels))
    for (_, row), (value, polygon) in zip(rows.iterrows(), found, strict=True):
        assert row["class"] == NAMES[value]
        mask = burn(polygon)
        corrected, who, regions = slow(mask)
        assert row["corrected_mm2"] == round(corrected * SQUARE, 12)
        assert tuple(row["readers"]) == who
        assert tuple(row["regions"]) == regions
        ys, xs = np.nonzero(mask)
        box = [row[name] for name in ("x0_um", "y0_um", "x1_um", "y1_um")]
        assert box == [xs.min() * MPP, ys.min() * MPP, (xs.max() + 1) * MPP, (ys.max() + 1) * MPP]
        assert row["centroid_x_um"] == pytest.approx((xs.mean() + 0.5) * MPP, abs=1e-3)
        assert row["centroid_y_um"] == pytest.approx((ys.mean() + 0.5) * MPP, abs=1e-3)


def test_a_csv_row_alone_says_where_it_is_from(tmp_path, case):
    export = Export(case)
    path = export.write(tmp_path / "a.csv", "csv")
    frame = pd.read_csv(path, dtype=str)
    for name in ("what", "model", "model_sha256", "runs", "tool", "notice", "slide_sha256"):
        assert set(frame[name]) == {export.about.facts()[name]}
    assert "DEMO MODEL" in frame["notice"].iloc[-1]
    text = path.read_bytes().decode("utf-8")
    assert "Jane" not in text
    assert "Secret" not in text
    named = Export(case, name_slide=True, comments=True)
    frame = pd.read_csv(named.write(tmp_path / "b.csv", "csv"), dtype=str)
    assert set(frame["slide"]) == {"Jane Doe.svs"}
    assert frame["comments"].dropna().tolist() == [
        f"B, {named.snapshot.regions[0].comments[0].time[:10]}: asked Dr. Secret"
    ]


def test_geoparquet_has_outlines_in_um_and_facts_in_its_metadata(tmp_path, case, monkeypatch):
    monkeypatch.setattr(files, "_ROWS", 10)
    export = Export(case)
    path = export.write(tmp_path / "a.parquet", "parquet")
    stored = pq.ParquetFile(path)
    assert stored.num_row_groups == -(-stored.metadata.num_rows // 10)
    geo = json.loads(stored.metadata.metadata[b"geo"])
    assert (geo["version"], geo["columns"]["geometry"]["crs"]) == ("1.1.0", None)
    assert json.loads(stored.schema_arrow.metadata[b"hspnet"]) == export.about.facts()
    frame = geopandas.read_parquet(path)
    assert frame.geometry.iloc[0] is None
    found = list(outlines(export.labels))
    shapes = frame[frame.kind == "outline"].geometry
    for shape, (_, polygon) in zip(shapes, found, strict=True):
        assert shape.equals(shapely.transform(polygon, lambda points: points * MPP))
        assert shape.exterior.is_ccw
    for row in frame[frame.kind != "slide"].itertuples():
        assert row.geometry.is_valid
        assert row.geometry.area / 1e6 == pytest.approx(row.area_mm2)
        assert row.geometry.bounds == (row.x0_um, row.y0_um, row.x1_um, row.y1_um)


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_a_case_without_anything(tmp_path, case, kind):
    export = Export(case)
    bare = Describer.of(type(export.snapshot).of(case, only=[case.active[0]]))
    empty = type(
        "Empty",
        (),
        {
            "grid": export.labels.grid,
            "read": lambda self, y, x, h, w: np.full((h, w), 253, np.uint8),
        },
    )()
    path = write_table(tmp_path / f"a.{kind}", empty, export.about, bare, kind)
    frame = READ[kind](path)
    assert frame["kind"].tolist() == ["slide"]
    assert frame["skipped_mm2"].iloc[0] == round(SHAPE[0] * SHAPE[1] * SQUARE, 12)


def test_progress_rises_to_one(tmp_path, case):
    told = []
    Export(case).write(tmp_path / "a.csv", "csv", progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(set(told)) > 5


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
@pytest.mark.parametrize("when", [0.1, 0.3, 0.9])
def test_cancelling_leaves_nothing(tmp_path, case, kind, when):
    cancel = threading.Event()

    def progress(part):
        if part >= when:
            cancel.set()

    export = Export(case)
    if when > 0.5:
        # The outlines' last rows are told of when all of them are written.
        real = export.describer.describe

        def describe(*given):
            cancel.set()
            return real(*given)

        export.describer.describe = describe
    with pytest.raises(CancelledError):
        export.write(tmp_path / f"a.{kind}", kind, progress=progress, cancel=cancel)
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused(tmp_path, case, monkeypatch):
    export = Export(case)
    with pytest.raises(InputError, match="no table of kind 'xlsx'"):
        export.write(tmp_path / "a", "xlsx")
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        export.write(tmp_path / "a.csv", "csv")
    real = builtins.__import__

    def missing(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(DependencyError, match=r"napari-hspnet\[tables\]"):
        export.write(tmp_path / "a.parquet", "parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
