"""Writing runs and reading the composite, against plain arrays."""

import errno
import json
import random
import threading

import numpy as np
import pytest
import zarr
from case_tools import block, random_classes, run_record, slide_info, write_all
from test_case_sampling import whole_level

from napari_hspnet.cases import Case, writer
from napari_hspnet.cases.store import RunStore
from napari_hspnet.errors import CaseError, InputError, OutputError
from napari_hspnet.slides import LabelGrid, PixelBox

SHAPE = (1300, 1157)


@pytest.fixture
def case(tmp_path):
    info = slide_info(*SHAPE)
    with Case.open_or_create(tmp_path / "a.hspnet", info, LabelGrid.of(info)) as opened:
        yield opened


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def maps(rng, shape):
    classes = random_classes(rng, shape)
    return classes, *rng.integers(0, 256, (2, *shape)).astype(np.uint8)


def started(case, hour=10):
    return case.start_run(run_record(started=f"2026-11-23T{hour}:00:00+00:00"))


@pytest.mark.parametrize("room", [1 << 30, 300_000])
def test_blocks_in_any_order_read_back_with_zarr(case, rng, monkeypatch, room):
    monkeypatch.setattr(writer, "OPEN_BYTES", room)
    values = maps(rng, (1000, 900))
    with started(case) as run:
        write_all(run, 130, 211, *values, order=random.Random(1))
        info = run.finish(2.0)
    root = zarr.open_group(case.folder / "runs" / info.id, mode="r")
    assert root.attrs["hspnet"] == json.loads(info.record.to_json())
    for name, part, fill in zip(("class", "score", "high"), values, (255, 0, 0), strict=True):
        whole = np.full(SHAPE, fill, np.uint8)
        whole[130:1130, 211:1111] = part
        scales = root[name].attrs["ome"]["multiscales"][0]["datasets"]
        assert [d["path"] for d in scales] == ["0", "1"]
        for level, dataset in enumerate(scales):
            array = root[name][dataset["path"]]
            assert array.chunks == (512, 512)
            np.testing.assert_array_equal(array[:], whole_level(whole, level))
            scale, translation = dataset["coordinateTransformations"]
            assert scale["scale"] == [2.0**level] * 2
            assert translation["translation"] == [2.0**level / 2] * 2
    counts = np.bincount(values[0].ravel(), minlength=256)
    assert info.pixels == {v: counts[v] for v in np.flatnonzero(counts)}


def test_empty_chunks_are_not_stored(case):
    with started(case) as run:
        run.write(block(0, 0, np.full((1300, 1157), 255), *np.zeros((2, 1300, 1157), np.uint8)))
        run.write(block(600, 600, [[4]]))
        info = run.finish(0.1)
    stored = list((case.folder / "runs" / info.id / "class" / "0" / "c").rglob("*"))
    assert [p.name for p in stored if p.is_file()] == ["1"]
    assert info.pixels == {4: 1}


def test_writing_again_replaces_and_keeps_the_count(case, rng):
    first, second = random_classes(rng, (700, 700)), random_classes(rng, (300, 900))
    with started(case) as run:
        run.write(block(0, 0, first))
        run.write(block(400, 100, second))
        info = run.finish(0.1)
    whole = np.full(SHAPE, 255, np.uint8)
    whole[:700, :700] = first
    whole[400:700, 100:1000] = second
    np.testing.assert_array_equal(case.composite().read(0, 0, *SHAPE), whole)
    counts = np.bincount(whole.ravel(), minlength=256)
    assert info.pixels == {v: counts[v] for v in np.flatnonzero(counts) if v != 255}


def test_composite_is_the_topmost_run_that_covers(case, rng):
    boxes = [(0, 0, 900, 800), (300, 250, 1000, 600), (100, 500, 50, 657)]
    whole = {"classes": np.full(SHAPE, 255, np.uint8)}
    whole |= {"score": np.zeros(SHAPE, np.uint8), "high": np.zeros(SHAPE, np.uint8)}
    owner = np.full(SHAPE, -1)
    runs = []
    live = None
    for number, (y, x, h, w) in enumerate(boxes):
        values = maps(rng, (h, w))
        values[0][rng.random((h, w)) < 0.3] = 255
        covered = values[0] != 255
        run = started(case, 10 + number)
        write_all(run, y, x, *values)
        for name, part in zip(whole, values, strict=True):
            whole[name][y : y + h, x : x + w][covered] = part[covered]
        owner[y : y + h, x : x + w][covered] = number
        if number < 2:
            runs.append(run.finish(1.0))
        else:
            live = run
            runs.append(run.info)
    composite = case.composite(live)
    assert [r.id for r in composite.runs] == [r.id for r in reversed(runs)]
    for what, expected in whole.items():
        for level in range(2):
            reference = whole_level(expected, level)
            np.testing.assert_array_equal(
                composite.read(0, 0, *reference.shape, level=level, what=what), reference
            )
    outside = composite.read(-3, -2, SHAPE[0] + 7, SHAPE[1] + 5)
    assert (outside[:3] == 255).all()
    assert (outside[-4:] == 255).all()
    np.testing.assert_array_equal(outside[3:-4, 2:-3], whole["classes"])
    for y, x in rng.integers(0, 1100, (60, 2)):
        at = composite.run_at(y, x)
        assert (at.id if at else None) == (runs[owner[y, x]].id if owner[y, x] >= 0 else None)
    assert composite.run_at(-1, 0) is None
    with pytest.raises(InputError, match="no map"):
        composite.read(0, 0, 1, 1, what="grade")
    live.discard()
    assert {r.id for r in case.runs} == {runs[0].id, runs[1].id}
    np.testing.assert_array_equal(composite.read(0, 0, *SHAPE), case.composite().read(0, 0, *SHAPE))


def test_levels_index_like_arrays(case, rng):
    values = maps(rng, SHAPE)
    with started(case) as run:
        write_all(run, 0, 0, *values)
        run.finish(1.0)
    levels = case.composite().levels
    assert [level.shape for level in levels] == [(1300, 1158), (650, 579)]
    for level, array in enumerate(levels):
        reference = np.full(array.shape, 255, np.uint8)
        real = whole_level(values[0], level)
        reference[: real.shape[0], : real.shape[1]] = real
        assert (array.dtype, array.ndim, array.size) == (np.uint8, 2, reference.size)
        assert len(array) == reference.shape[0]
        np.testing.assert_array_equal(np.asarray(array), reference)
        for index in (
            np.s_[10:600:7, 3:500:5],
            np.s_[-5, :],
            np.s_[..., 17],
            np.s_[5],
            np.s_[3:9],
            np.s_[500:20:-3, ::-1],
            np.s_[8:8, 2:4],
            np.s_[np.int64(4), np.int64(-2)],
            np.s_[...],
        ):
            np.testing.assert_array_equal(array[index], reference[index])
    with pytest.raises(IndexError):
        levels[0][5000, 0]
    with pytest.raises(IndexError):
        levels[0][0, 0, 0]


def test_areas(case, rng):
    assert case.composite().areas().mm2 == pytest.approx({255: SHAPE[0] * SHAPE[1] * 1e-6})
    run = started(case)
    run.write(block(0, 0, np.full((1000, 500), 2)))
    live = case.composite(run)
    assert live.areas().exact
    assert live.areas().mm2 == pytest.approx({2: 0.5, 255: SHAPE[0] * SHAPE[1] * 1e-6 - 0.5})
    run.write(block(0, 0, np.full((200, 500), 253)))
    assert live.areas().mm2[2] == pytest.approx(0.4)
    run.finish(1.0)
    part = case.composite().areas(PixelBox(100, 400, 300, 600))
    assert part.exact
    assert part.mm2 == pytest.approx({2: 0.01, 253: 0.01, 255: 0.02})


def test_large_boxes_are_counted_on_a_coarser_level(tmp_path):
    info = slide_info(2000, 3000)
    with Case.open_or_create(tmp_path / "a.hspnet", info, LabelGrid.of(info)) as case:
        with started(case) as run:
            run.write(block(0, 0, np.full((1000, 3000), 1)))
            run.finish(1.0)
        areas = case.composite().areas(PixelBox(0, 0, 2000, 2999))
        assert not areas.exact
        assert areas.mm2 == pytest.approx({1: 2.999, 255: 2.999}, rel=0.01)


def test_display_reads_while_the_run_is_written(case, rng):
    values = maps(rng, SHAPE)
    values[0][values[0] == 255] = 0
    run = started(case)
    live = case.composite(run)
    wrong = []
    stop = threading.Event()

    def look():
        while not stop.is_set():
            for level in range(2):
                reference = whole[level]
                seen = live.read(0, 0, *reference.shape, level=level)
                wrong.append(int(((seen != reference) & (seen != 255)).sum()))

    whole = [whole_level(values[0], level) for level in range(2)]
    thread = threading.Thread(target=look)
    thread.start()
    write_all(run, 0, 0, *values, order=random.Random(2))
    stop.set()
    thread.join()
    assert wrong
    assert sum(wrong) == 0
    np.testing.assert_array_equal(live.read(0, 0, *SHAPE), values[0])
    run.finish(1.0)
    np.testing.assert_array_equal(live.read(0, 0, *SHAPE), values[0])


def test_full_disk_discards_the_run(case, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    run = started(case)
    run.write(block(0, 0, np.full((600, 600), 3)))
    monkeypatch.setattr(RunStore, "write", full)
    with pytest.raises(OutputError, match="disk is full"):
        run.write(block(600, 0, np.full((600, 600), 3)))
    assert case.runs == ()
    assert not list((case.folder / "runs").iterdir())
    with pytest.raises(CaseError, match="closed"):
        run.finish(1.0)
    monkeypatch.undo()
    other = started(case, 11)
    other.write(block(0, 0, [[1]]))
    monkeypatch.setattr(RunStore, "write", full)
    with pytest.raises(OutputError, match="disk is full"):
        other.finish(1.0)
    assert case.runs == ()


def test_error_inside_the_run_leaves_nothing(case):
    def fail():
        with started(case) as run:
            run.write(block(0, 0, np.full((600, 600), 3)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert case.runs == ()
    assert not list((case.folder / "runs").iterdir())


def test_closing_the_case_discards_what_is_being_written(tmp_path):
    info = slide_info()
    case = Case.open_or_create(tmp_path / "b.hspnet", info, LabelGrid.of(info))
    run = started(case)
    run.write(block(0, 0, [[1]]))
    case.close()
    assert not list((tmp_path / "b.hspnet" / "runs").iterdir())


@pytest.mark.parametrize(("y", "x"), [(-1, 0), (0, -1), (1291, 0), (0, 1148)])
def test_block_outside_the_grid_is_refused(case, y, x):
    with started(case) as run, pytest.raises(CaseError, match="outside the grid"):
        run.write(block(y, x, np.zeros((10, 10))))
