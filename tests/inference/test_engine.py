"""The engine against a slow reference, and what it promises of its results."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from engine_helpers import ArraySink, ArraySlide, SmallNet, model, reference, slide_info, stained
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_hspnet.classes import NOT_RUN, SKIPPED, UNREADABLE
from napari_hspnet.errors import (
    CancelledError,
    OutOfMemoryError,
    OutputError,
    RegionError,
    ResolutionError,
    SlideReadError,
)
from napari_hspnet.inference import Settings, make_plan, prepare, run_plan, segment
from napari_hspnet.slides import LabelBlock, LabelGrid, Region


def run(slide, region, how, network=None, classes=5, **options):
    sink = ArraySink(slide.pixels.shape[:2])
    loaded = model(network, classes, how.window)
    summary = segment(slide, loaded, region, sink, settings=how, device="cpu", **options)
    return sink, summary


def agrees(sink, expected, tolerance=1.0):
    """Labels equal but where two classes tie to float rounding; scores within a step."""
    classes, score, high = expected
    differ = sink.classes != classes
    special = np.isin(classes, [SKIPPED, NOT_RUN])
    assert not (differ & special).any()
    assert differ.mean() < 1e-4
    assert np.abs(sink.score - score * 255)[~differ].max(initial=0) <= tolerance
    assert np.abs(sink.high - high * 255)[~differ].max(initial=0) <= tolerance


regions = st.one_of(
    st.just(Region.slide()),
    st.builds(
        Region.rectangle,
        st.floats(-30, 120),
        st.floats(-30, 120),
        st.floats(40, 200),
        st.floats(40, 200),
    ),
    st.builds(
        lambda y, x, r, turn: Region.shapes(
            [
                [
                    (y + r * np.sin(a), x + 0.6 * r * np.cos(a + turn))
                    for a in np.linspace(0, 2 * np.pi, 5)[:-1]
                ]
            ]
        ),
        st.floats(30, 100),
        st.floats(30, 100),
        st.floats(10, 90),
        st.floats(0, 1),
    ),
)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(40, 200),
    width=st.integers(40, 200),
    stride=st.sampled_from([16, 24, 40, 64]),
    blend=st.sampled_from(["gaussian", "plain"]),
    region=regions,
    batch=st.sampled_from([1, 3]),
)
def test_equals_the_reference(height, width, stride, blend, region, batch):
    slide = stained(height, width)
    how = Settings(window=64, stride=stride, blend=blend, tissue_mask=False)
    try:
        region.box(LabelGrid((height, width)))
    except RegionError:
        with pytest.raises(RegionError, match="outside"):
            run(slide, region, how)
        return
    sink, _ = run(slide, region, how, batch=batch)
    agrees(sink, reference(slide, SmallNet(), region, how))
    asked = sink.classes != NOT_RUN
    assert (sink.times[asked] == 1).all()


def test_four_channels_begin_with_normal():
    slide, how = stained(100, 90), Settings(window=64, stride=32, tissue_mask=False)
    network = SmallNet(4)
    sink, _ = run(slide, Region.slide(), how, network, classes=4)
    agrees(sink, reference(slide, network, Region.slide(), how, first_class=1))
    assert sink.classes.min() == 1


def test_view_shape_and_slide_agree_on_every_pixel_they_share():
    slide, how = stained(700, 900), Settings(window=96, stride=32)
    whole, _ = run(slide, Region.slide(), how)
    view, _ = run(slide, Region.rectangle(333.3, 210.7, 200, 300), how)
    shape, _ = run(slide, Region.shapes([[(300, 300), (520, 420), (410, 640), (200, 500)]]), how)
    for part in (view, shape):
        asked = part.classes != NOT_RUN
        assert asked.sum() > 10_000
        for one, other in ((part.classes, whole.classes), (part.score, whole.score)):
            assert np.array_equal(one[asked], other[asked])


def test_bands_change_nothing():
    slide, how = stained(150, 700), Settings(window=64, stride=32, tissue_mask=False)
    loaded, grid = model(window=64), LabelGrid((150, 700))
    results = []
    for width in (100_000, 200):
        sink = ArraySink((150, 700))
        plan = make_plan(grid, Region.slide(), how, band_width=width)
        run_plan(slide, loaded, plan, sink, device="cpu")
        assert (sink.times == 1).all()
        results.append(sink.classes)
    assert np.array_equal(*results)


def islands(height=900, width=1300):
    pixels = np.full((height, width, 3), 245, dtype=np.uint8)
    rng = np.random.default_rng(1)
    for y, x, h, w in ((40, 60, 90, 130), (600, 900, 100, 200), (450, 40, 33, 33)):
        pixels[y : y + h, x : x + w] = rng.integers(90, 200, (h, w, 3), dtype=np.uint8)
    return ArraySlide(pixels)


def test_glass_is_marked_and_costs_no_forward_pass():
    slide = islands()
    seen = []

    class Counting(SmallNet):
        def forward(self, x):
            seen.append(x.shape[0])
            return super().forward(x)

    how = Settings(window=64, stride=32)
    sink, summary = run(slide, Region.slide(), how, Counting())
    everywhere = prepare(
        slide, 1.0, Region.slide(), Settings(window=64, stride=32, tissue_mask=False)
    ).windows
    assert sum(seen) == summary.windows < everywhere / 5
    assert (sink.classes[(slide.pixels != 245).any(axis=-1)] <= 4).all()
    assert (sink.classes[250:400, 300:800] == SKIPPED).all()
    assert (sink.score[sink.classes == SKIPPED] == 0).all()
    total = 900 * 1300 * 1e-6
    assert sum(summary.area_mm2.values()) == pytest.approx(total)
    assert summary.area_mm2[SKIPPED] == pytest.approx((sink.classes == SKIPPED).sum() * 1e-6)


def test_a_region_without_tissue_is_marked_and_runs_nothing():
    sink, summary = run(
        islands(), Region.rectangle(250, 300, 100, 200), Settings(window=64, stride=32)
    )
    assert summary.windows == 0
    assert set(np.unique(sink.classes)) == {SKIPPED, NOT_RUN}


def test_reads_only_what_it_needs():
    slide = islands(3000, 3000)
    run(slide, Region.rectangle(620, 920, 40, 40), Settings(window=64, stride=32))
    assert set(slide.reads) <= {(512, 512), (512, 1024)}
    assert len(slide.reads) == len(set(slide.reads))


def test_an_unreadable_tile_ends_the_run_and_names_its_place():
    slide = stained(1100, 1100)
    slide.unreadable = (700, 30)
    with pytest.raises(SlideReadError) as caught:
        run(slide, Region.slide(), Settings(window=64, stride=64))
    assert (caught.value.y, caught.value.x) == (700, 30)


def test_an_unreadable_tile_is_marked_where_that_is_asked_for():
    slide = stained(1100, 1100)
    slide.unreadable = (700, 30)
    how = Settings(window=64, stride=64, skip_unreadable=True)
    sink, summary = run(slide, Region.slide(), how)
    bad = np.zeros(sink.shape, dtype=bool)
    bad[512:1024, :512] = True
    assert (sink.classes[bad] == UNREADABLE).all()
    assert (sink.classes[~bad] <= 4).all()
    assert summary.area_mm2[UNREADABLE] == pytest.approx(512 * 512 * 1e-6)


def test_too_coarse_a_slide_is_refused():
    class Coarse(ArraySlide):
        @property
        def info(self):
            return slide_info(self.pixels.shape[:2], 29.0)

    with pytest.raises(ResolutionError, match="too coarse"):
        run(Coarse(np.zeros((50, 50, 3), np.uint8)), Region.slide(), Settings(window=64, stride=64))


@pytest.mark.parametrize("when", ["before", "reading", "in a layer"])
def test_cancelling_ends_the_run(when):
    cancel, slide = threading.Event(), stained(600, 600)

    class Cancels(SmallNet):
        def forward(self, x):
            if when == "in a layer":
                cancel.set()
            return super().forward(x)

    class CancelsReading(ArraySlide):
        def read_grid(self, *place):
            if when == "reading":
                cancel.set()
            return super().read_grid(*place)

    if when == "before":
        cancel.set()
    threads = threading.active_count()
    network = Cancels()
    with pytest.raises(CancelledError):
        run(
            CancelsReading(slide.pixels),
            Region.slide(),
            Settings(window=64, stride=16),
            network,
            cancel=cancel,
        )
    assert threading.active_count() == threads
    cancel.clear()
    with torch.no_grad():
        network.conv(torch.zeros(1, 3, 64, 64))  # the hooks are gone


class Hungry(SmallNet):
    def __init__(self, most):
        super().__init__()
        self.most = most

    def forward(self, x):
        if x.shape[0] > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return super().forward(x)


def test_out_of_memory_halves_the_batch_and_changes_nothing():
    slide, how = stained(300, 300), Settings(window=64, stride=32)
    plenty, _ = run(slide, Region.slide(), how, batch=8)
    tight, summary = run(slide, Region.slide(), how, Hungry(2), batch=8)
    assert summary.batch == 2
    assert np.array_equal(plenty.classes, tight.classes)


def test_out_of_memory_with_a_single_window_is_a_clear_error():
    with pytest.raises(OutOfMemoryError, match="memory of cpu"):
        run(stained(100, 100), Region.slide(), Settings(window=64, stride=64), Hungry(0), batch=4)


def test_an_error_in_the_network_is_not_taken_for_lack_of_memory():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        run(stained(100, 100), Region.slide(), Settings(window=64, stride=64), Broken())


def test_non_finite_half_precision_is_run_again_in_float32():
    class Overflows(SmallNet):
        def forward(self, x):
            logits = super().forward(x).float()
            return logits if not torch.is_autocast_enabled("cpu") else logits * torch.inf

    slide, region = stained(130, 130), Region.slide()
    half = Settings(window=64, stride=32, precision="bfloat16")
    full = Settings(window=64, stride=32)
    sink, _ = run(slide, region, half, Overflows())
    exact, _ = run(slide, region, full)
    assert np.array_equal(sink.classes, exact.classes)


def test_an_error_of_the_sink_ends_the_run():
    class Full:
        def write(self, block: LabelBlock) -> None:
            raise OutputError("The disk is full", advice="Make room")

    with pytest.raises(OutputError, match="full"):
        segment(
            stained(300, 300),
            model(),
            Region.slide(),
            Full(),
            settings=Settings(window=64, stride=32),
            device="cpu",
        )


def test_progress_counts_up_to_all_windows_and_blocks_stream_meanwhile():
    slide, how = stained(600, 300), Settings(window=64, stride=32)
    sink = ArraySink((600, 300))
    reports = []

    def note(progress):
        reports.append((progress, sink.blocks))

    summary = segment(
        slide, model(), Region.slide(), sink, settings=how, device="cpu", progress=note
    )
    assert reports[0][0].stage == "Finding tissue"
    last = reports[-1][0]
    assert last.done == last.total == summary.windows
    counts = [r.done for r, _ in reports]
    assert counts == sorted(counts)


def test_a_preview_comes_first_and_leaves_no_trace():
    slide, how, loaded = islands(), Settings(window=64, stride=32), model()
    plan = prepare(slide, 1.0, Region.rectangle(40, 60, 300, 300), how)
    plain, shown = ArraySink((900, 1300)), ArraySink((900, 1300))
    one = run_plan(slide, loaded, plan, plain, device="cpu")
    two = run_plan(slide, loaded, plan, shown, device="cpu", preview=True)
    assert shown.times.max() > 1
    assert np.array_equal(plain.classes, shown.classes)
    assert np.array_equal(plain.score, shown.score)
    assert one.area_mm2 == two.area_mm2


def test_a_network_that_has_run_can_still_be_trained():
    network = SmallNet()
    run(stained(80, 90), Region.slide(), Settings(window=64, stride=32), network)
    network(torch.zeros(1, 3, 64, 64)).sum().backward()
    assert network.conv.weight.grad is not None
