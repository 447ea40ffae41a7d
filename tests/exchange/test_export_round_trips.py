"""Labels of a real case out and back by other readers; and what must not go wrong."""

import errno
import json
import sys
import threading

import numpy as np
import pytest
import shapely
import tifffile
import zarr
from export_tools import ArrayLabels, about, blobs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from rasterio.features import rasterize

from napari_hspnet.cases import Case, CaseSnapshot, Patch
from napari_hspnet.errors import CancelledError, OutputError
from napari_hspnet.exchange import (
    WHATS,
    CaseLabels,
    ExportInfo,
    write_geojson,
    write_ome_tiff,
    write_png,
)
from napari_hspnet.exchange.zarr_labels import write_ome_zarr
from napari_hspnet.slides import LabelGrid

from cases.case_tools import block, run_record, slide_info

FORMATS = {
    "m.ome.tif": write_ome_tiff,
    "m.ome.zarr": write_ome_zarr,
    "m.png": write_png,
    "m.geojson": write_geojson,
}
ALL = pytest.mark.parametrize(("name", "write"), FORMATS.items(), ids=FORMATS)
SLIDE_MPP = 0.25
SMALL, LARGE = (23, 31), (1100, 1080)
BORDER = 512 - 9
"""Where a pattern of 18 pixels lies on the corner of four chunks."""


def read_back(path, shape):
    """The labels in a file, by a reader that is not ours; of outlines 1 to 4 alone."""
    if path.name.endswith(".ome.zarr"):
        return zarr.open_group(path, mode="r")["labels/classes/0"][:]
    if path.suffix == ".png":
        with Image.open(path) as image:
            return np.asarray(image)
    if path.suffix != ".geojson":
        return tifffile.imread(path)
    names = {"normal": 1, "CIN1": 2, "CIN2": 3, "CIN3": 4}
    burned = np.zeros(shape, np.uint8)
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    polygons = [
        (
            shapely.from_geojson(json.dumps(f["geometry"])),
            names[f["properties"]["classification"]["name"]],
        )
        for f in features
    ]
    assert all(polygon.is_valid for polygon, _ in polygons)
    if polygons:
        # Level-0 pixels to label pixels.
        transform = (1 / SLIDE_MPP, 0, 0, 0, 1 / SLIDE_MPP, 0)
        burned = rasterize(polygons, out_shape=shape, transform=transform, fill=0, dtype=np.uint8)
        area = sum(polygon.area for polygon, _ in polygons) * SLIDE_MPP**2
        assert area == pytest.approx(np.count_nonzero(burned))
    return burned


def agree(path, expected):
    found = read_back(path, expected.shape)
    if path.suffix == ".geojson":
        expected = np.where((expected >= 1) & (expected <= 4), expected, 0)
    np.testing.assert_array_equal(found, expected)


class Known:
    """A case, and in plain arrays what it must hold."""

    def __init__(self, folder, shape):
        rng = np.random.default_rng(3)
        info = slide_info(shape[0] * 4, shape[1] * 4, mpp=SLIDE_MPP)
        self.case = Case.open_or_create(folder, info, LabelGrid.of(info))
        assert self.case.grid.shape == shape
        step = 5 if shape == SMALL else 90
        coarse = rng.choice([0, 1, 2, 3, 4, 4, 253, 254], [side // step + 1 for side in shape])
        whole = np.kron(coarse, np.ones((step, step), int))[: shape[0], : shape[1]]
        self.predicted = np.full(shape, 255, np.uint8)
        # Not all of the slide was run.
        done = (shape[0] - 3, shape[1] - 4)
        self.predicted[: done[0], : done[1]] = whole[: done[0], : done[1]]
        run = self.case.start_run(run_record())
        run.write(block(0, 0, self.predicted[: done[0], : done[1]]))
        run.finish(1.0)
        self.said = np.full(shape, 255, np.uint8)

    def paint(self, y, x, values):
        self.case.editing.correct([Patch(y, x, values, np.ones(values.shape, bool))], "A", "brush")
        self.said[y : y + values.shape[0], x : x + values.shape[1]] = values

    def expected(self, what):
        if what == "prediction":
            return self.predicted
        if what == "correction":
            return self.said
        if what == "composite":
            return np.where(self.said == 255, self.predicted, self.said)
        return np.where(self.said == self.predicted, 255, self.said)

    def export(self, write, path, what="composite", wrap=lambda labels: labels, **how):
        snapshot = CaseSnapshot.of(self.case)
        labels = wrap(CaseLabels(snapshot.composite, what))
        return write(path, labels, ExportInfo.of_snapshot(snapshot, what), **how)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    known = Known(tmp_path_factory.mktemp("small") / "c.hspnet", SMALL)
    yield known
    known.case.close()


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    known = Known(tmp_path_factory.mktemp("large") / "c.hspnet", LARGE)
    yield known
    known.case.close()


def patterns(side):
    """Holes, diagonals, single pixels, all classes touching, and what takes them back."""
    return arrays(
        np.uint8, side, elements=st.sampled_from([0, 1, 2, 3, 4, 255]), fill=st.just(255)
    ) | arrays(np.uint8, side, elements=st.sampled_from([1, 2, 4, 255]))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(patterns(SMALL), st.sampled_from(WHATS))
def test_any_labels_come_back(small, tmp_path, pattern, what):
    small.paint(0, 0, pattern)
    for name, write in FORMATS.items():
        path = small.export(write, tmp_path / name, what, overwrite=True)
        agree(path, small.expected(what))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(patterns((18, 18)), st.sampled_from(WHATS))
def test_labels_come_back_across_the_borders_of_chunks(large, tmp_path, pattern, what):
    large.paint(BORDER, BORDER, pattern)
    for name, write in FORMATS.items():
        path = large.export(write, tmp_path / name, what, overwrite=True)
        agree(path, large.expected(what))


@pytest.mark.parametrize("what", WHATS)
@ALL
def test_what_touches_the_edges_comes_back(tmp_path, name, write, what):
    known = Known(tmp_path / "c.hspnet", LARGE)
    ring = np.full(LARGE, 255, np.uint8)
    ring[[0, -1]], ring[:, 0], ring[:, -1] = 4, 3, 2
    ring[::97, ::89] = 1
    try:
        known.paint(0, 0, ring)
        agree(known.export(write, tmp_path / name, what), known.expected(what))
    finally:
        known.case.close()


@ALL
def test_a_case_without_anything_is_exported_as_such(tmp_path, name, write):
    info = slide_info(300, 280, mpp=SLIDE_MPP)
    with Case.open_or_create(tmp_path / "c.hspnet", info, LabelGrid.of(info)) as case:
        snapshot = CaseSnapshot.of(case)
        labels = CaseLabels(snapshot.composite)
        path = write(tmp_path / name, labels, ExportInfo.of_snapshot(snapshot))
        agree(path, np.full(case.grid.shape, 255, np.uint8))


@ALL
def test_painting_meanwhile_does_not_reach_the_file(tmp_path, name, write):
    known = Known(tmp_path / "c.hspnet", LARGE)
    painted, over = threading.Semaphore(0), threading.Event()
    rng = np.random.default_rng(8)

    def paint():
        while not over.is_set():
            y, x = (int(rng.integers(side - 200)) for side in LARGE)
            values = np.full((200, 200), int(rng.integers(5)), np.uint8)
            patch = Patch(y, x, values, np.ones(values.shape, bool))
            known.case.editing.correct([patch], "B", "brush")
            painted.release()

    class Slow:
        """Reads only when something was painted since the last time."""

        def __init__(self, labels):
            self.labels, self.grid = labels, labels.grid

        def read(self, *box):
            assert painted.acquire(timeout=60)
            return self.labels.read(*box)

    known.paint(400, 400, np.full((300, 300), 3, np.uint8))
    expected = known.expected("composite").copy()
    before = known.case.journal.last
    painter = threading.Thread(target=paint)
    snapshot = CaseSnapshot.of(known.case)
    painter.start()
    try:
        labels = Slow(CaseLabels(snapshot.composite))
        path = write(tmp_path / name, labels, ExportInfo.of_snapshot(snapshot))
    finally:
        over.set()
        painter.join()
    assert known.case.journal.last > before
    now = CaseSnapshot.of(known.case).composite.read(0, 0, *LARGE)
    known.case.close()
    agree(path, expected)
    assert (now != expected).any()


class Acting(ArrayLabels):
    """Something happens while the last part is read."""

    def __init__(self, values, act):
        super().__init__(values)
        self.act = act

    def read(self, y, x, height, width):
        if y + height == self.grid.shape[0]:
            self.act()
        return super().read(y, x, height, width)


def nothing_but(folder, *names):
    return sorted(p.name for p in folder.iterdir()) == sorted(names)


@ALL
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    ("code", "said"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "not permitted"), (errno.EIO, "Writing failed")],
)
def test_trouble_in_the_middle_leaves_what_was_there(tmp_path, name, write, code, said, old):
    if old:
        before = ArrayLabels(np.full((40, 30), 3))
        write(tmp_path / name, before, about(before))
    there = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    labels = ArrayLabels(blobs(np.random.default_rng(0), (900, 700)))

    def fail(*_, **__):
        raise OSError(code, "no")

    # A PNG is written at once, after all has been read.
    progress = None if write is write_png else fail
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "save", fail)
        with pytest.raises(OutputError, match=said):
            write(tmp_path / name, labels, about(labels), overwrite=True, progress=progress)
    assert nothing_but(tmp_path, *([name] if old else []))
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == there


@pytest.mark.skipif(sys.platform == "win32", reason="the system sets no limit to a file's size")
@ALL
def test_a_file_that_the_system_refuses_to_let_grow(tmp_path, name, write):
    import resource

    labels = ArrayLabels(blobs(np.random.default_rng(0), (1500, 1400)))
    said = about(labels)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))
    try:
        with pytest.raises(OutputError, match="Writing failed"):
            write(tmp_path / name, labels, said)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert nothing_but(tmp_path)
    write(tmp_path / name, labels, said)


@ALL
def test_cancelling_in_the_middle_leaves_nothing(tmp_path, name, write):
    cancel = threading.Event()
    labels = Acting(blobs(np.random.default_rng(0), (2600, 700)), cancel.set)
    with pytest.raises(CancelledError):
        write(tmp_path / name, labels, about(labels), cancel=cancel)
    assert cancel.is_set()
    assert nothing_but(tmp_path)


@ALL
def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch, name, write):
    labels = ArrayLabels(np.full((20, 20), 2))

    def refuse(self, *_, **__):
        raise PermissionError(errno.EACCES, "no", str(self))

    monkeypatch.setattr("pathlib.Path.touch", refuse)
    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(OutputError, match="not permitted"):
        write(tmp_path / name, labels, about(labels))
    assert nothing_but(tmp_path)
