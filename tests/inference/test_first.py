"""What someone who watches sees first, and that it changes nothing that is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_helpers import ArraySink, Counting, SmallNet, model, stained
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.classes import NOT_RUN
from napari_hspnet.errors import OutOfMemoryError, RegionError
from napari_hspnet.inference import Settings, make_plan, prepare, run_plan
from napari_hspnet.inference.first import first_looks, keepable, parts_of
from napari_hspnet.slides import LabelGrid, Region

WINDOW = 64


class Watched(ArraySink):
    """Remembers where blocks came, in order."""

    def __init__(self, shape):
        super().__init__(shape)
        self.boxes = []

    def write(self, block):
        super().write(block)
        height, width = block.classes.shape
        self.boxes.append((block.y, block.x, block.y + height, block.x + width))


def run(slide, how, region, preview, network=None, **options):
    shape = slide.pixels.shape[:2]
    sink, plan = Watched(shape), make_plan(LabelGrid(shape), region, how)
    loaded = model(network, window=how.window)
    summary = run_plan(slide, loaded, plan, sink, device="cpu", preview=preview, **options)
    return sink, summary, plan


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(40, 700),
    width=st.integers(40, 700),
    stride=st.sampled_from([16, 24, 32, 64]),
    blend=st.sampled_from(["gaussian", "plain"]),
    corner=st.tuples(st.integers(-30, 300), st.integers(-30, 300)),
    side=st.integers(50, 600),
    batch=st.sampled_from([1, 3]),
    kept=st.sampled_from([0, 3, 500]),
)
def test_labels_are_those_of_one_who_does_not_watch(
    height, width, stride, blend, corner, side, batch, kept
):
    slide = stained(height, width)
    how = Settings(window=WINDOW, stride=stride, blend=blend, tissue_mask=False)
    region = Region.rectangle(*corner, side, side)
    try:
        region.box(LabelGrid((height, width)))
    except RegionError:
        return
    one, plain, plan = run(slide, how, region, False, batch=batch)
    network = Counting()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_hspnet.inference.run.keepable", lambda *_: kept)
        two, watched, _ = run(slide, how, region, True, network, batch=batch)
    assert np.array_equal(one.classes, two.classes)
    assert np.array_equal(one.score, two.score)
    assert np.array_equal(one.high, two.high)
    assert plain.area_mm2 == watched.area_mm2
    assert watched.windows == network.windows
    if kept == 500:
        assert watched.windows == plain.windows == plan.windows, "no window is run twice"


def test_the_middle_comes_first_then_all_of_it():
    slide, how = stained(900, 900), Settings(window=WINDOW, stride=16, tissue_mask=False)
    sink, _, plan = run(slide, how, Region.slide(), True)
    assert len(plan.bands) == 1
    looks = first_looks(plan, keepable(5, WINDOW))
    y0, x0, y1, x1 = sink.boxes[0]
    assert y0 <= 450 <= y1
    assert x0 <= 450 <= x1
    shown = np.full((900, 900), NOT_RUN)
    for look in looks:
        box = look.box
        assert (shown[box.y0 : box.y1, box.x0 : box.x1] == NOT_RUN).all(), "shown twice"
        shown[box.y0 : box.y1, box.x0 : box.x1] = 1
        assert look.window.y <= box.y0 < box.y1 <= look.window.y + WINDOW
        assert look.window.x <= box.x0 < box.x1 <= look.window.x + WINDOW
    assert (shown == 1).all()
    assert len(looks) < plan.windows / 10
    away = [max(abs((a + c) / 2 - 450), abs((b + d) / 2 - 450)) for a, b, c, d in sink.boxes]
    assert np.mean(away[: len(looks) // 2]) < np.mean(away[len(looks) // 2 : len(looks)])
    lower, upper = parts_of(plan, plan.bands[0], keepable(5, WINDOW))
    assert 200 < lower.y0 < 450 < lower.y1 == 900
    assert (upper.y0, upper.y1) == (0, lower.y0)


def test_nothing_that_was_shown_is_blanked_again():
    slide, how = stained(600, 600), Settings(window=WINDOW, stride=16)
    slide.pixels[:, :] = 255
    slide.pixels[100:500, 300:420] = np.random.default_rng(0).integers(40, 220, (400, 120, 3))
    slide.pixels[350:400, 50:420] = np.random.default_rng(1).integers(40, 220, (50, 370, 3))
    plan = prepare(slide, 1.0, Region.slide(), how)

    class Never(Watched):
        def write(self, block):
            height, width = block.classes.shape
            before = self.classes[block.y : block.y + height, block.x : block.x + width]
            assert not ((before < 5) & (block.classes == NOT_RUN)).any()
            super().write(block)

    run_plan(slide, model(window=WINDOW), plan, Never((600, 600)), device="cpu", preview=True)


def test_memory_that_runs_out_gives_up_what_was_put_by():
    class Full(Counting):
        failed = False

        def forward(self, x):
            if self.windows > 40 and not self.failed:
                self.failed = True
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(x)

    slide, how = stained(500, 400), Settings(window=WINDOW, stride=16, tissue_mask=False)
    one, _, plan = run(slide, how, Region.slide(), False)
    network = Full()
    two, summary, _ = run(slide, how, Region.slide(), True, network)
    assert network.failed
    assert np.array_equal(one.classes, two.classes)
    assert summary.windows == network.windows > plan.windows
    with pytest.raises(OutOfMemoryError):
        run(slide, how, Region.slide(), True, Always())


class Always(SmallNet):
    def forward(self, x):
        raise torch.OutOfMemoryError("CUDA out of memory.")
