"""The strip against sums over the whole band, and what it promises of every value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.classes import SKIPPED
from napari_hspnet.inference import accumulate
from napari_hspnet.inference.accumulate import Strip
from napari_hspnet.inference.blend import gaussian_weights

WINDOW = 32


def logits_at(y: int, x: int, channels: int = 5) -> torch.Tensor:
    """What a network gives for the window at (y, x), reproducible."""
    generator = torch.Generator().manual_seed(1000 * y + x)
    return 4 * torch.randn((channels, WINDOW, WINDOW), generator=generator)


def weights() -> torch.Tensor:
    return torch.from_numpy(gaussian_weights(WINDOW, WINDOW / 8))


def run_strip(
    rows: list[int], columns: list[int], x0: int, x1: int, height: int, channels: int = 5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All windows, row by row, through a strip that holds columns [x0, x1)."""
    strip = Strip(channels, WINDOW, x1 - x0, weights())
    done, parts, whole = 0, [], slice(0, WINDOW)
    for y in rows:
        if y > done:
            parts.append(strip.finish(done, y))
            done = y
        strip.begin(y)
        for x in columns:
            if x < x1 and x + WINDOW > x0:
                below = slice(0, min(WINDOW, height - y))
                strip.add(logits_at(y, x, channels), y, x - x0, below, whole)
    parts.append(strip.finish(done, height))
    return tuple(
        np.concatenate([getattr(p, name) for p in parts]) for name in ("classes", "score", "high")
    )


def reference(
    rows: list[int], columns: list[int], height: int, width: int, channels: int = 5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same in float64 over everything at once: classes, score and p(CIN2+), 0 to 255."""
    total = np.zeros((channels, height + WINDOW, width + WINDOW))
    for y in rows:
        for x in columns:
            values = logits_at(y, x, channels).double().softmax(0).numpy()
            total[:, y : y + WINDOW, x : x + WINDOW] += values * weights().double().numpy()
    total = total[:, :height, :width]
    weight = total.sum(0)
    mean = total / np.where(weight > 0, weight, 1)
    first = 5 - channels
    classes = np.where(weight > 0, mean.argmax(0) + first, SKIPPED)
    return classes, 255 * mean.max(0), 255 * (mean[3 - first] + mean[4 - first])


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.integers(1, 3 * WINDOW), max_size=6),
    begin=st.integers(0, 2 * WINDOW),
    columns=st.lists(st.integers(0, 60), min_size=1, max_size=4, unique=True),
    short=st.integers(0, WINDOW - 1),
    after=st.integers(0, 2 * WINDOW),
    channels=st.sampled_from([4, 5]),
    block=st.sampled_from([1, 200, accumulate._PIXELS]),
)
def test_equals_sums_over_everything(steps, begin, columns, short, after, channels, block):
    rows = [int(y) for y in begin + np.cumsum([0, *steps])]
    height = rows[-1] + WINDOW - short + (0 if short else after)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accumulate, "_PIXELS", block)
        classes, score, high = run_strip(rows, sorted(columns), 0, 90, height, channels)
    expected, best, above = reference(rows, sorted(columns), height, 90, channels)
    assert np.array_equal(classes == SKIPPED, expected == SKIPPED)
    assert (classes != expected).mean() < 1e-3
    same = classes == expected
    assert np.abs(score - best)[same].max(initial=0) <= 0.51
    assert np.abs(high - above)[same].max(initial=0) <= 0.51


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("x0", "x1"), [(0, 700), (13, 260), (259, 700), (100, 101)])
def test_a_value_depends_neither_on_the_band_nor_on_the_threads(x0, x1, threads):
    rows, columns = list(range(0, 200, 8)), list(range(0, 669, 8))
    whole = run_strip(rows, columns, 0, 700, 224)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        part = run_strip(rows, columns, x0, x1, 224)
    finally:
        torch.set_num_threads(before)
    for one, other in zip(part, whole, strict=True):
        assert np.array_equal(one, other[:, x0:x1])


def test_logits_are_left_as_they_are_in_whatever_order_they_lie():
    results = []
    for layout in (torch.contiguous_format, torch.channels_last):
        logits = logits_at(0, 0)[None].contiguous(memory_format=layout)
        kept = logits.clone()
        strip = Strip(5, WINDOW, WINDOW, weights())
        strip.begin(0)
        strip.add(logits[0], 0, 0, slice(0, WINDOW), slice(0, WINDOW))
        results.append(strip.finish(0, WINDOW))
        assert torch.equal(logits, kept)
    assert np.array_equal(results[0].classes, results[1].classes)
    assert np.array_equal(results[0].score, results[1].score)


def test_of_equal_classes_the_first_wins():
    logits = torch.zeros(5, WINDOW, WINDOW)
    logits[[1, 3]] = 9.0
    strip = Strip(5, WINDOW, WINDOW, weights())
    strip.begin(0)
    strip.add(logits, 0, 0, slice(0, WINDOW), slice(0, WINDOW))
    assert (strip.finish(0, WINDOW).classes == 1).all()


def test_large_logits_do_not_overflow():
    logits = torch.full((5, WINDOW, WINDOW), -3e4)
    logits[2] = 3e4
    strip = Strip(5, WINDOW, WINDOW, weights())
    strip.begin(0)
    strip.add(logits, 0, 0, slice(0, WINDOW), slice(0, WINDOW))
    rows = strip.finish(0, WINDOW)
    assert (rows.classes == 2).all()
    assert (rows.score == 255).all()
    assert (rows.high == 0).all()
