"""Artefacts: what each does, and that they do not depend on the cut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.phantom.artefacts import (
    Rates,
    apply_all,
    draw_on_glass,
    draw_on_tissue,
    reading,
)
from napari_hspnet.phantom.curves import Curve, bent
from napari_hspnet.phantom.scanner import soften
from napari_hspnet.phantom.spots import Bubble, Defocus, Dust
from napari_hspnet.phantom.strokes import Chatter, Fibre, Fold, Knife, Pen

MPP = 0.5
SIDE = 560
TISSUE = soften(np.random.default_rng(3).uniform(0.2, 0.8, (SIDE, SIDE, 3)).astype(np.float32), 1.2)
GLASS = np.ones_like(TISSUE)
LINE = Curve(140.0, 140.0, 0.3, 0.0, np.zeros(200))

ALL = {
    "fold": Fold(bent(np.random.default_rng(1), 140, 140, 0.4, 220, 0.06, 3.0), 10, 24),
    "knife": Knife(LINE, 3.0),
    "chatter": Chatter(LINE, 60.0, 0.0, 40.0, 0.3),
    "fibre": Fibre(bent(np.random.default_rng(2), 140, 140, 1.0, 200, 0.1, 0.5), 3.0),
    "pen": Pen(LINE, 50.0),
    "arc": Pen(bent(np.random.default_rng(2), 100, 140, 1.0, 300, 0.01, 0.0, 0.7), 20.0),
    "defocus": Defocus(140.0, 140.0, 70.0, (0.1, 1.0, 2.0), 11.0, 3.0),
    "dust": Dust(140.0, 140.0, 15.0, (0.2, 1.0, 2.0)),
    "bubble": Bubble(140.0, 140.0, 80.0, (0.04, 1.0, 2.0), 16.0, 10.0),
}


@settings(max_examples=15, deadline=None)
@given(st.integers(60, 480), st.integers(60, 480), st.integers(1, 80), st.integers(1, 80))
@pytest.mark.parametrize("name", list(ALL))
def test_blocks_join(name, y, x, h, w):
    artefact = ALL[name]
    border = int(np.ceil(reading([artefact]) / MPP))
    h, w = min(h, SIDE - border - y), min(w, SIDE - border - x)
    whole = apply_all(TISSUE, [artefact], 0, 0, MPP)
    cut = np.s_[y - border : y + h + border, x - border : x + w + border]
    block = apply_all(TISSUE[cut], [artefact], y - border, x - border, MPP)
    block = block[border : border + h, border : border + w]
    assert np.abs(block - whole[y : y + h, x : x + w]).max() < 1e-5


@pytest.mark.parametrize("name", list(ALL))
def test_nothing_changes_outside_its_box_and_something_within(name):
    artefact = ALL[name]
    changed = np.abs(apply_all(TISSUE, [artefact], 0, 0, MPP) - TISSUE).max(axis=-1) > 1e-6
    y0, x0, y1, x1 = (n / MPP for n in artefact.box)
    inside = np.zeros_like(changed)
    inside[max(0, int(y0) - 3) : int(y1) + 4, max(0, int(x0) - 3) : int(x1) + 4] = True
    assert not changed[~inside].any()
    assert changed.mean() > 0.001
    # Small boxes that it says it does not meet hold no change.
    for row in range(0, SIDE, 28):
        for col in range(0, SIDE, 28):
            box = row * MPP, col * MPP, (row + 28) * MPP, (col + 28) * MPP
            if not artefact.meets(box):
                assert not changed[row : row + 28, col : col + 28].any()


def _middle(light):
    return light[270:290, 270:290].mean()


def test_what_each_does():
    def on(name, light):
        return apply_all(light, [ALL[name]], 0, 0, MPP)

    folded = on("fold", TISSUE)
    double = np.abs(folded - TISSUE).max(axis=-1) > 0.05
    assert folded[double].mean() < 0.7 * TISSUE[double].mean()
    assert np.allclose(on("fold", GLASS), 1, atol=1e-3)
    assert on("knife", TISSUE)[280, 280].min() > TISSUE[280, 280].min()
    assert np.allclose(on("chatter", GLASS), 1, atol=1e-3)
    for name in ("pen", "dust", "fibre"):
        assert on(name, GLASS).min() < 0.6
    # Blur grows towards the middle, and changes no mean.
    blurred = on("defocus", TISSUE)
    assert blurred[260:300, 260:300].std() < 0.5 * TISSUE[260:300, 260:300].std()
    rim = np.s_[270:290, 395:410]
    assert blurred[rim].std() > blurred[270:290, 270:285].std()
    assert _middle(blurred) == pytest.approx(_middle(TISSUE), abs=0.02)
    ring = on("bubble", GLASS)[280, :, 0]
    assert ring.min() < 0.6
    assert ring.max() > 1.02
    assert ring[280] == pytest.approx(1.0, abs=0.01)


def test_a_seed_gives_the_same_and_rates_count():
    many = Rates(fold=3, knife=3, chatter=3, defocus=3, dust=9, fibre=3, pen=0.1, bubble=1)
    none = Rates(0, 0, 0, 0, 0, 0, 0, 0)
    kinds = set()
    for draw in (draw_on_tissue, draw_on_glass):
        a, b = (draw(np.random.default_rng(4), many, 2000, 3000) for _ in range(2))
        assert [x.box for x in a] == [x.box for x in b]
        assert not draw(np.random.default_rng(4), none, 2000, 3000)
        few = draw(np.random.default_rng(4), Rates(), 2000, 3000)
        assert len(few) < 0.4 * len(a)
        kinds |= {type(x).__name__ for x in a}
    assert kinds == {
        "Fold", "Knife", "Chatter", "Defocus", "Dust", "Fibre", "Pen", "Bubble",
    }  # fmt: skip


@given(st.floats(0, 6.2), st.floats(-60, 60), st.integers(0, 199))
def test_coordinates_of_a_line_are_lengths(angle, across, along):
    curve = Curve(10.0, 20.0, angle, 0.0, np.zeros(200))
    y = 10 + np.sin(angle) * (along - 100) + np.cos(angle) * across
    x = 20 + np.cos(angle) * (along - 100) - np.sin(angle) * across
    s, d = curve.coordinates(np.array(y), np.array(x))
    assert float(s) == pytest.approx(along, abs=1e-6)
    assert float(d) == pytest.approx(across, abs=1e-6)
