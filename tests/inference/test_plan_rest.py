"""What is left of a plan, against plain enumeration; and that it gives the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from engine_helpers import ArraySink, ArraySlide, SmallNet, model
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.inference import Settings, make_plan, run_plan
from napari_hspnet.inference.engine import CHUNK
from napari_hspnet.slides import LabelGrid, Region


def places(plan, band):
    """(y, x) of a band's windows in the order in which they are run."""
    return [
        (int(plan.ys[row]), int(band.xs[column]))
        for row in range(plan.ys.size)
        for column in np.flatnonzero(band.active[row])
    ]


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(60, 900), st.integers(60, 900)),
    stride=st.integers(20, 64),
    band_width=st.integers(100, 500),
    batch=st.integers(1, 7),
    tissue=st.integers(0, 2**31),
    part=st.lists(st.floats(0, 1), min_size=9, max_size=9),
)
def test_the_rest_is_every_window_that_reaches_what_is_left(
    shape, stride, band_width, batch, tissue, part
):
    draw = np.random.default_rng(tissue)

    def gate(y, window, xs):
        return draw.random(xs.size) < 0.6

    grid = LabelGrid(shape)
    plan = make_plan(grid, Region.slide(), Settings(window=64, stride=stride), gate, band_width)
    finished = [round(p * shape[0]) for p, _ in zip(part, plan.bands, strict=False)]
    rest = plan.rest(finished, batch)
    left = {band.x0: (band, row) for band, row in zip(plan.bands, finished, strict=True)}
    assert [b.x0 for b in rest.bands] == [x0 for x0, (_, y) in left.items() if y < shape[0]]
    for band in rest.bands:
        whole, row = left[band.x0]
        every, kept = places(plan, whole), places(rest, band)
        needed = [(y, x) for y, x in every if y + 64 > row]
        assert (band.x1, band.finished) == (whole.x1, row)
        # The end of the whole plan's order, begun with one of its batches.
        assert kept == every[len(every) - len(kept) :]
        assert kept[len(kept) - len(needed) :] == needed
        assert len(kept) - len(needed) < batch
        assert not kept or (len(every) - len(kept)) % batch == 0
        if not needed:
            assert kept == []


def test_as_many_numbers_as_bands():
    plan = make_plan(
        LabelGrid((500, 500)), Region.slide(), Settings(window=64, stride=32), None, 200
    )
    with pytest.raises(ValueError, match="argument 2 is"):
        plan.rest([0, 0])


@pytest.mark.parametrize("blend", ["gaussian", "plain"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_rest_gives_the_rows_that_are_left_to_the_bit(blend, batch):
    slide = ArraySlide(np.random.default_rng(1).integers(0, 256, (1400, 700, 3)).astype(np.uint8))
    how = Settings(window=64, stride=24, blend=blend, tissue_mask=False)
    region = Region.rectangle(60, 40, 1300, 620)
    plan = make_plan(LabelGrid((1400, 700)), region, how, None, 300)
    network = model(SmallNet())
    whole, heard = ArraySink((1400, 700)), []
    run_plan(
        slide,
        network,
        plan,
        whole,
        device="cpu",
        batch=batch,
        reached=lambda x0, y: heard.append((x0, y)),
    )
    ends = {512, 1024, plan.box.y1}
    assert set(heard) == {(band.x0, y) for band in plan.bands for y in ends}
    assert all(y % CHUNK == 0 or y == plan.box.y1 for _, y in heard)
    finished = [plan.box.y1, 512, 1024][: len(plan.bands)]
    rest, sink = plan.rest(finished, batch), ArraySink((1400, 700))
    assert rest.windows < plan.windows
    summary = run_plan(slide, network, rest, sink, device="cpu", batch=batch)
    assert summary.windows == rest.windows
    for band, row in zip(plan.bands, finished, strict=True):
        todo, done = np.s_[row:, band.x0 : band.x1], np.s_[:row, band.x0 : band.x1]
        for name in ("classes", "score", "high"):
            np.testing.assert_array_equal(getattr(sink, name)[todo], getattr(whole, name)[todo])
        assert (sink.times[done] == 0).all()
        assert (sink.times[todo] == whole.times[todo]).all()
