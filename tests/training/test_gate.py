"""The gate on made-up matrices, where the answer is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_hspnet.errors import InputError
from napari_hspnet.training import paired_difference
from napari_hspnet.training.agreement import figures
from napari_hspnet.training.gate import GateOptions, Judged, UnitCounts, judge
from napari_hspnet.training.verdict import AGREEMENT, GUARDED, MEAN, MEASURES

PIXELS = 200_000


def matrix(right, pixels=(PIXELS,) * 4, into=None):
    """A share of each class right, the rest one grade off (or in `into`)."""
    counts = np.zeros((5, 5), np.int64)
    for value, (share, size) in enumerate(zip(right, pixels, strict=True), start=1):
        hit = round(share * size)
        other = into or (value - 1 if value > 1 else 2)
        counts[value, value] += hit
        counts[value, other] += size - hit
    return counts


def units(rights, patients=None, **others):
    names = [f"r{i}" for i in range(len(rights))]
    patients = patients or [f"P{i}" for i in range(len(rights))]
    return tuple(
        UnitCounts(name, patient, right if np.ndim(right) == 2 else matrix(right, **others))
        for name, patient, right in zip(names, patients, rights, strict=True)
    )


def varied(shares, count=6, spread=0.03, seed=0):
    """Regions around given shares of pixels right."""
    rng = np.random.default_rng(seed)
    return [np.clip(np.array(shares) + rng.normal(0, spread), 0, 1) for _ in range(count)]


OLD = varied((0.6, 0.6, 0.6, 0.6))
GOOD = [r + 0.1 for r in OLD]
BAD = [r - 0.1 for r in OLD]


def gate(new, old, reference=None, patients=None, **options):
    new_ref, old_ref = (units(r) for r in reference) if reference else ((), ())
    return judge(
        Judged(units(new, patients), new_ref),
        Judged(units(old, patients), old_ref),
        GateOptions(**options),
    )


def test_a_clearly_better_one_is_recommended() -> None:
    verdict = gate(GOOD, OLD, (OLD, OLD))
    assert verdict.decision == "better"
    assert verdict.recommended
    assert not verdict.refused
    assert verdict.held.gains == GUARDED
    change = verdict.held.changes["dice_CIN2"]
    assert change.before < change.after
    assert 0 < change.difference.low <= change.difference.value <= change.difference.high
    text = verdict.text()
    assert f"Dice for CIN2 rose from {change.before:.2f} to {change.after:.2f}" in text
    assert "95 % interval of the difference" in text
    assert "agreement at CIN2+ rose from" in text
    assert "on the reference set nothing was lost." in text
    assert text.endswith("Accept?")


def test_one_made_worse_on_purpose_is_refused() -> None:
    verdict = gate(BAD, OLD, (OLD, OLD))
    assert verdict.decision == "worse"
    assert verdict.refused
    assert not verdict.recommended
    assert verdict.held.losses == GUARDED
    assert "fell from" in verdict.text()
    assert "Refused" in verdict.text()


def test_what_was_lost_on_the_reference_set_refuses_a_gain() -> None:
    verdict = gate(GOOD, OLD, (BAD, OLD))
    assert verdict.decision == "worse"
    assert verdict.held.losses == ()
    assert verdict.reference.losses == GUARDED
    assert "on the reference set Dice for normal fell from" in verdict.text()


def test_one_region_is_too_few_whatever_became_of_it() -> None:
    for new in (GOOD, BAD, [np.zeros(4)]):
        verdict = gate(new[:1], OLD[:1])
        assert verdict.decision == "too few to judge"
        assert not verdict.refused
        assert not verdict.recommended
        assert "1 region, where 4 are needed" in verdict.text()
        assert math.isnan(verdict.held.changes["dice_CIN2"].difference.low)


def test_many_tiny_regions_are_too_few() -> None:
    new, old = (units(r, pixels=(9_000,) * 4) for r in (GOOD, OLD))
    verdict = judge(Judged(new), Judged(old))
    assert verdict.decision == "too few to judge"
    assert "0.22 mm², where 1 are needed" in verdict.text()
    fine = judge(Judged(new), Judged(old), GateOptions(least_mm2=0.2))
    assert fine.decision == "better"


def test_a_class_lost_is_refused_also_where_there_is_too_little_to_judge_it() -> None:
    little = [np.array([PIXELS, PIXELS, PIXELS, 0])] * 5 + [np.array([PIXELS] * 3 + [20_000])]
    old = [matrix((0.6, 0.6, 0.6, 0.9), p) for p in little]
    new = [matrix((0.7, 0.7, 0.7, 0.0), p) for p in little]
    verdict = gate(new, old)
    change = verdict.held.changes["dice_CIN3"]
    assert change.decision == "too few to judge"
    assert change.alarm
    assert verdict.decision == "worse"
    assert (
        "too little in what was held back to judge Dice for CIN3, but it fell far" in verdict.text()
    )


def test_a_sliver_of_a_class_raises_no_alarm() -> None:
    little = [np.array([PIXELS, PIXELS, PIXELS, 0])] * 5 + [np.array([PIXELS] * 3 + [100])]
    old = [matrix((0.6, 0.6, 0.6, 1.0), p) for p in little]
    new = [matrix((0.7, 0.7, 0.7, 0.0), p) for p in little]
    verdict = gate(new, old)
    assert verdict.decision == "better"
    assert "Too little was held back to judge CIN3" in verdict.text()


def test_one_class_better_and_another_worse_is_worse() -> None:
    mixed = [r + np.array([0.1, 0.1, 0, -0.15]) for r in OLD]
    verdict = gate(mixed, OLD)
    assert verdict.decision == "worse"
    assert "dice_normal" in verdict.held.gains
    assert "dice_CIN3" in verdict.held.losses
    text = verdict.text()
    assert "Dice for normal rose" in text
    assert "Dice for CIN3 fell" in text


def test_missed_high_grade_is_said() -> None:
    fewer = [r + np.array([0.0, 0.0, -0.1, 0.0]) for r in OLD]
    verdict = gate(fewer, OLD)
    assert verdict.held.changes["cin2_sensitivity"].decision == "worse"
    assert (
        "More high grade is missed in what was held back: sensitivity at CIN2+ fell from"
        in verdict.text()
    )


def test_the_same_answers_are_no_difference() -> None:
    verdict = gate(OLD, OLD, (OLD, OLD))
    assert verdict.decision == "no difference"
    assert all(c.decision == "no difference" for c in verdict.held.changes.values())
    assert "No difference overall that could be told" in verdict.text()


def test_regions_that_disagree_are_no_difference() -> None:
    new = [r + (0.1 if i % 2 else -0.1) for i, r in enumerate(OLD)]
    assert gate(new, OLD).decision == "no difference"


def test_a_certain_but_tiny_loss_is_none() -> None:
    new = [r - 0.004 for r in OLD]
    assert gate(new, OLD).decision == "no difference"
    assert gate(new, OLD, margin=0.0).decision == "worse"


def test_four_regions_that_hardly_agree_are_a_doubt_and_no_verdict() -> None:
    """The shown interval excludes 0, but of so few that proves little."""
    gains = np.array([0.12, 0.1, 0.11, -0.001])
    for sign, told in (
        (1, "A gain, but on too few"),
        (-1, "Perhaps worse in what was held back: Dice"),
    ):
        new = [r + sign * g for r, g in zip(OLD[:4], gains, strict=True)]
        verdict = gate(new, OLD[:4])
        difference = verdict.held.changes[AGREEMENT].difference
        assert difference.low > 0 if sign > 0 else difference.high < 0
        assert verdict.decision == "no difference"
        assert not verdict.refused
        assert told in verdict.text()
        assert (AGREEMENT in verdict.held.doubts) == (sign < 0)


def test_a_doubt_on_the_reference_set_takes_the_recommendation_away() -> None:
    loss = np.array([0.12, 0.1, 0.11, -0.001])
    worse = [r - g for r, g in zip(OLD[:4], loss, strict=True)]
    verdict = gate(GOOD, OLD, (worse, OLD[:4]))
    assert verdict.decision == "no difference"
    assert "on the reference set nothing was lost for certain" in verdict.text()
    assert "Perhaps worse in the reference set" in verdict.text()
    assert "A gain, but something may have been lost" in verdict.text()


def test_chance_alone_is_seldom_called_better_or_worse() -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(60):
        old = [rng.uniform(0.4, 0.8, 4) for _ in range(8)]
        new = [r + rng.normal(0, 0.05, 4) for r in old]
        found.append(gate(new, old, resamples=200).decision)
    assert found.count("better") <= 5
    assert found.count("worse") <= 15


def test_one_patient_is_drawn_by_region_and_it_is_said() -> None:
    verdict = gate(GOOD, OLD, patients=["P"] * 6)
    assert verdict.decision == "better"
    assert "intervals by region (6)" in verdict.text()
    assert "6 regions of 1 patient" in verdict.text()
    assert "intervals by patient (6)" in gate(GOOD, OLD).text()


def test_few_patients_get_the_wider_interval() -> None:
    """Two patients that both gain a little prove nothing where their regions disagree."""
    gains = np.array([0.2, -0.14, 0.2, -0.16, 0.18, -0.15])
    new = [r + g for r, g in zip(OLD, gains, strict=True)]
    patients = ["A", "A", "A", "A", "B", "B"]
    verdict = gate(new, OLD, patients=patients)
    change = verdict.held.changes[AGREEMENT].difference
    by = [
        gate(new, OLD, patients=p, least_units=least).held.changes[AGREEMENT].difference
        for p, least in ((patients, 1), (["A"] * 6, 4))
    ]
    assert change.low == min(d.low for d in by)
    assert change.high == max(d.high for d in by)
    assert by[0].low > 0, "by patient alone it would be certain"
    assert verdict.decision == "no difference"
    assert "whichever is wider" in verdict.text()


def test_phantoms_are_no_safety_reference() -> None:
    verdict = gate(GOOD, OLD, (OLD, OLD), synthetic_reference=True)
    assert verdict.decision == "better"
    assert "phantoms alone are no safety reference for real slides" in verdict.text()
    assert "nothing of real slides" in gate(GOOD, OLD, synthetic_held=True).text()
    assert "phantoms" not in gate(GOOD, OLD, (OLD, OLD)).text()


def test_no_reference_or_a_small_one_is_said() -> None:
    assert "there is no reference set" in gate(GOOD, OLD).text()
    small = gate(GOOD, OLD, (OLD[:2], OLD[:2])).text()
    assert "the reference set is too small to tell what was lost (2 regions" in small
    lost = gate(GOOD, OLD, ([np.zeros(4)] * 2, OLD[:2]))
    assert lost.decision == "worse", "a small reference that collapses is a warning enough"


def test_a_stray_pixel_of_an_absent_class_costs_nothing() -> None:
    sizes = (PIXELS, PIXELS, PIXELS, 0)
    old = [matrix(r, sizes) for r in OLD]
    new = [matrix(r, sizes) for r in GOOD]
    for counts in new:
        counts[3, 3] -= 1
        counts[3, 4] += 1
    verdict = gate(new, old)
    assert verdict.decision == "better"
    assert verdict.held.changes[MEAN].after > verdict.held.changes[MEAN].before


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(4, 7), st.booleans())
def test_intervals_are_those_of_paired_difference(seed, count, one_patient) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(20_000, 90_000, (count, 4))
    new, old = ([matrix(rng.random(4), t) for t in truth] for _ in range(2))
    verdict = gate(new, old, patients=["P"] * count if one_patient else None, resamples=200)
    expected = paired_difference(new, old, resamples=200)
    changes = verdict.held.changes
    pairs = [(changes[f"dice_{name}"], e) for name, e in expected.dice.items()]
    pairs += [(changes[MEAN], expected.mean_dice), (changes[AGREEMENT], expected.high_grade)]
    for change, e in pairs:
        found = change.difference
        assert [found.value, found.low, found.high] == pytest.approx([e.value, e.low, e.high])


def test_patients_are_drawn_whole() -> None:
    patients = ["A", "A", "B", "C", "D", "D"]
    verdict = gate(GOOD, OLD, patients=patients)
    pooled = []
    for rights in (GOOD, OLD):
        own = dict.fromkeys(patients, 0)
        for patient, right in zip(patients, rights, strict=True):
            own[patient] = own[patient] + matrix(right)
        pooled.append(list(own.values()))
    expected = paired_difference(*pooled).dice["CIN1"]
    found = verdict.held.changes["dice_CIN1"].difference
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high])


def test_before_and_after_are_the_pooled_figures() -> None:
    verdict = gate(GOOD, OLD)
    for key in MEASURES:
        change = verdict.held.changes[key]
        for value, rights in ((change.before, OLD), (change.after, GOOD)):
            assert value == pytest.approx(float(figures(sum(map(matrix, rights)))[key]))


def test_json_is_plain_and_keeps_what_cannot_be_told_apart_from_0() -> None:
    verdict = gate(GOOD[:1], OLD[:1])
    said = json.loads(json.dumps(verdict.to_json(), allow_nan=False))
    assert said["decision"] == "too few to judge"
    assert said["reference"] is None
    assert said["held_back"]["changes"]["dice_CIN2"]["interval"] == [None, None]
    assert said["text"] == verdict.text()
    full = json.loads(json.dumps(gate(GOOD, OLD, (OLD, OLD)).to_json(), allow_nan=False))
    assert full["reference"]["changes"][AGREEMENT]["decision"] == "no difference"


def test_the_same_seed_gives_the_same_verdict() -> None:
    assert gate(GOOD, OLD).to_json() == gate(GOOD, OLD).to_json()


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (units(GOOD), units(OLD)[:5]),
        (units(GOOD), units(OLD)[::-1]),
        (units(GOOD), units(OLD, pixels=(9,) * 4)),
        (units(GOOD, ["P"] * 6), units(OLD)),
        ((), ()),
    ],
)
def test_answers_on_other_pixels_are_refused(new, old) -> None:
    with pytest.raises(InputError):
        judge(Judged(new), Judged(old))
    with pytest.raises(InputError):
        judge(Judged(units(GOOD), new), Judged(units(OLD), old)) if new else judge(
            Judged(new), Judged(old)
        )


@pytest.mark.parametrize(
    "options",
    [{"level": 1.0}, {"least_units": 0}, {"margin": -1.0}, {"resamples": 0}, {"seed": -1}],
)
def test_impossible_options_are_refused(options) -> None:
    with pytest.raises(InputError):
        GateOptions(**options)
