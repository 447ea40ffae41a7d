"""What two bands need is run once, and where it cannot be kept, again; labels are the same."""

from __future__ import annotations

import errno
import io

import numpy as np
import pytest
import torch
from engine_helpers import ArraySink, ArraySlide, Counting, model
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.inference import Settings, make_plan, run_plan, shelf
from napari_hspnet.inference.shelf import Shelf
from napari_hspnet.slides import LabelGrid, Region

WINDOW = 64


def logits(seed: int) -> torch.Tensor:
    return torch.randn((5, 30, 40), generator=torch.Generator().manual_seed(seed))


def files(folder):
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_put_by_comes_back_once(tmp_path, layout):
    with Shelf(tmp_path) as kept:
        for number in range(4):
            given = logits(number)[None].contiguous(memory_format=layout)[0]
            assert kept.put((0, number), given, 7 * number)
            assert kept.put((0, number), given, 7 * number), "it is there already"
        for number in (2, 0, 3, 1):
            assert (0, number) in kept
            found = kept.take((0, number))
            assert torch.equal(found[:, :, 7 * number :], logits(number)[:, :, 7 * number :])
            assert (found[:, :, : 7 * number] == 0).all()
            assert (0, number) not in kept
    assert files(tmp_path) == []


def test_no_more_than_allowed_is_kept(tmp_path):
    size = logits(0).nbytes
    with Shelf(tmp_path, most=2 * size) as kept:
        assert [kept.put((0, n), logits(n), 0) for n in range(4)] == [True, True, False, False]
        assert torch.equal(kept.take((0, 1)), logits(1))


class Filling(io.BytesIO):
    """A file on a disk that has room for one more window alone."""

    def write(self, data):
        if self.tell():
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_a_full_disk_keeps_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shelf.tempfile, "TemporaryFile", lambda **_: Filling())
    with Shelf(tmp_path) as kept:
        assert [kept.put((0, n), logits(n), 0) for n in range(3)] == [True, False, False]
        assert torch.equal(kept.take((0, 0)), logits(0))


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path):
    with Shelf(tmp_path / "absent") as kept:
        assert not kept.put((0, 0), logits(0), 0)


def run(slide, plan, preview=False, **options):
    network, sink, told = Counting(), ArraySink(plan.grid.shape), []
    loaded = model(network, window=WINDOW)
    summary = run_plan(
        slide, loaded, plan, sink, device="cpu", preview=preview, progress=told.append, **options
    )
    assert summary.windows == network.windows
    assert (told[-1].done, told[-1].total) == (summary.windows, summary.windows)
    return sink, summary.windows


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(40, 400),
    width=st.integers(100, 700),
    band=st.integers(20, 300),
    stride=st.sampled_from([16, 24, 32, 64]),
    blend=st.sampled_from(["gaussian", "plain"]),
    left=st.integers(0, 60),
    preview=st.booleans(),
    most=st.sampled_from([0, 500_000, 10**9]),
    holes=st.integers(0, 2**31),
)
def test_bands_and_what_fits_change_no_bit(
    height, width, band, stride, blend, left, preview, most, holes
):
    pixels = np.random.default_rng(0).integers(40, 220, (height, width, 3), dtype=np.uint8)
    how = Settings(window=WINDOW, stride=stride, blend=blend, tissue_mask=False)
    region = Region.rectangle(left // 2, left, height, width)

    def gate(y, window, xs):
        draw = np.random.default_rng([holes, int(y)]).random(width + 1) < 0.8
        return draw[xs]

    grid = LabelGrid((height, width))
    whole = make_plan(grid, region, how, gate, 10_000)
    parts = make_plan(grid, region, how, gate, band)
    assert parts.windows == whole.windows, "one that two bands need counts once"
    one, _ = run(ArraySlide(pixels), whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_hspnet.inference.run.Shelf", lambda folder: Shelf(folder, most))
        two, windows = run(ArraySlide(pixels), parts, preview)
    for name in ("classes", "score", "high"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    if most == 10**9:
        assert windows == whole.windows, "no window is run twice"
    assert windows >= whole.windows


def test_the_file_lies_where_it_is_wanted_and_goes(tmp_path):
    pixels = np.random.default_rng(0).integers(40, 220, (200, 600, 3), dtype=np.uint8)
    how = Settings(window=WINDOW, stride=16, tissue_mask=False)
    plan = make_plan(LabelGrid((200, 600)), Region.slide(), how, band_width=250)
    asked = []

    def made(**given):
        asked.append(given["dir"])
        return temporary(**given)

    temporary = shelf.tempfile.TemporaryFile
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf.tempfile, "TemporaryFile", made)
        run(ArraySlide(pixels), plan, scratch=tmp_path)
    assert asked == [tmp_path, tmp_path]
    assert files(tmp_path) == []
