"""Tables and the picture of a confusion matrix: what stands in them, and that it can be read."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from PIL import ImageDraw

from napari_hspnet.training.agreement import agreement, drawn_units
from napari_hspnet.training.intervals import Estimate
from napari_hspnet.training.paper_rows import TABLE_5
from napari_hspnet.training.report import (
    as_markdown,
    confusion_csv,
    confusion_picture,
    confusion_table,
    grade_table,
    score_table,
    with_interval,
)

NAN = float("nan")


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    return rng.integers(0, 9000, (5, 5)) + np.diag([40_000, 1, 20_000, 30_000, 10_000])


def test_csv_gives_the_counts_back_and_shares_that_add_up(counts) -> None:
    rows = list(csv.DictReader(io.StringIO(confusion_csv(counts))))
    names = [row["truth"] for row in rows]
    read = [[int(row[f"predicted {name}"]) for name in names] for row in rows]
    np.testing.assert_array_equal(read, counts)
    for row, total in zip(rows, counts.sum(axis=1), strict=True):
        assert int(row["pixels"]) == total
        shares = [float(row[f"share {name}"]) for name in names]
        assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_table_leaves_out_a_truth_that_is_ignored(counts) -> None:
    assert [row[0] for row in confusion_table(counts)[1:]] == [
        "none of the four",
        "normal",
        "CIN1",
        "CIN2",
        "CIN3",
    ]
    counts[0] = 0
    counts[4] = 0
    table = confusion_table(counts)
    assert [row[0] for row in table[1:]] == ["normal", "CIN1", "CIN2", "CIN3"]
    assert table[-1][1:] == ["0"] * 6
    assert table[1][1].startswith(f"{counts[1, 0]:,} (")


def test_markdown_has_a_cell_for_each(counts) -> None:
    lines = as_markdown(confusion_table(counts)).splitlines()
    assert len(lines) == 7
    assert {line.count("|") for line in lines} == {8}


@pytest.fixture
def written(monkeypatch):
    """Catches every text with its box."""
    found = []
    before = ImageDraw.ImageDraw.text

    def text(self, xy, said, fill=None, font=None, anchor=None, **more):
        found.append((said, self.textbbox(xy, said, font, anchor), fill))
        before(self, xy, said, fill, font, anchor, **more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return found


@pytest.mark.parametrize("scale", [1, 1_000_000])
def test_picture_shows_every_count_and_share_and_no_text_overlaps(counts, written, scale) -> None:
    big = counts * scale
    picture = confusion_picture(big, "A model with quite a long name on MTCHI Test, 5 regions")
    said = [text for text, _, _ in written]
    for row in big:
        for count in row:
            assert f"{count:,}" in said
            assert f"{count / row.sum():.1%}" in said
    for name in ("none of the four", "normal", "CIN1", "CIN2", "CIN3"):
        assert said.count(name) == 2
    for i, (_, a, _) in enumerate(written):
        assert a[0] >= 0
        assert a[1] >= 0
        assert a[2] <= picture.width
        assert a[3] <= picture.height
        for _, b, _ in written[i + 1 :]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, (written[i], b)


def test_text_stands_out_from_its_cell(counts, written) -> None:
    picture = confusion_picture(counts, "x")
    pixels = np.asarray(picture).astype(int)
    shares = [text for text, _, _ in written if text.endswith("%")]
    assert len(shares) == 25
    for text, box, fill in written:
        if text.endswith("%"):
            ground = pixels[int(box[1]) - 4, int(box[0]) - 4]
            weights = np.array([0.299, 0.587, 0.114])
            assert abs(weights @ ground - weights @ np.array(fill)) > 90, text


def test_darker_cells_hold_larger_shares(counts) -> None:
    counts[2] = [0, 10, 20, 30, 40]
    cell, left, top = 150, 225, 142
    pixels = np.asarray(confusion_picture(counts, "x", cell)).astype(int)
    row = [pixels[top + 2 * cell + 8, left + k * cell + 8].sum() for k in range(5)]
    assert row == sorted(row, reverse=True)
    assert len(set(row)) == 5


def test_figures_say_only_what_can_be_told() -> None:
    assert with_interval(Estimate(0.5, 0.25, 0.75)) == "0.5000 [0.2500, 0.7500]"
    assert with_interval(Estimate(0.5, NAN, NAN)) == "0.5000"
    assert with_interval(Estimate(NAN, NAN, NAN)) == "-"


def test_scores_stand_above_the_papers(counts) -> None:
    drawn = drawn_units(["a", "b"])
    masked, whole = (agreement([counts, counts.T], drawn, m) for m in (True, False))
    table = score_table("mine", masked, whole, TABLE_5)
    assert [row[0] for row in table[1:5]] == [
        "mine: pooled, masked",
        "mine: per image, masked",
        "mine: pooled, unmasked",
        "mine: per image, unmasked",
    ]
    assert table[1][1] == with_interval(masked.pooled["mean_dice"])
    assert table[3][3] == with_interval(whole.pooled["accuracy"])
    last = table[-1]
    assert last[0].startswith("paper: HSP-Net (AE, post-processed")
    assert last[1:] == ["0.7822", "0.6549", "0.7976"]
    assert len(score_table("mine", masked, None)) == 3
    assert any(row[0].startswith("kappa") for row in grade_table(masked))


def test_the_papers_table_is_whole() -> None:
    assert len(TABLE_5) == 20
    assert max(row.dice for row in TABLE_5) == 0.7822
    assert all(row.iou < row.dice < row.accuracy for row in TABLE_5 if row.network != "HookNet")
