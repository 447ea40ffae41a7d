"""A loss as plain values: what is refused, what sums up, what comes back from JSON."""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle

import pytest
import torch

from napari_hspnet.errors import InputError
from napari_hspnet.training import loss_terms
from napari_hspnet.training.loss_terms import LOSSES, Loss, LossTerm, loss_options, make_loss

LOGITS = torch.linspace(-2, 2, 2 * 5 * 3 * 3).reshape(2, 5, 3, 3)
TARGET = torch.arange(18).reshape(2, 3, 3) % 5


def test_a_loss_is_the_weighted_sum_of_its_terms() -> None:
    terms = [LossTerm("ce"), LossTerm("dice", 0.5), LossTerm("focal", 2, {"gamma": 1})]
    parts = [make_loss([dataclasses.replace(t, weight=1)])(LOGITS, TARGET) for t in terms]
    expected = parts[0] + 0.5 * parts[1] + 2 * parts[2]
    torch.testing.assert_close(make_loss(terms)(LOGITS, TARGET), expected)


def test_options_are_those_of_the_function() -> None:
    for name in LOSSES:
        function = loss_terms._KINDS[name][0]
        named = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY
        ]
        assert set(loss_options(name)) == set(named)


@pytest.mark.parametrize("name", LOSSES)
def test_every_option_changes_the_loss(name: str) -> None:
    plain = make_loss([LossTerm(name)])(LOGITS, TARGET)
    for option in loss_options(name):
        other = make_loss([LossTerm(name, 1, {option: 0.7})])(LOGITS, TARGET)
        assert other.item() != pytest.approx(plain.item(), rel=1e-6), option


def test_background_counts_in_the_mean_and_not_without_a_channel_for_it() -> None:
    for name in ("ce", "ae_r", "cdw_ce", "squared_emd", "focal"):
        term = LossTerm(name, 1, {"background": 0})
        ignored = torch.where(TARGET == 0, 255, TARGET)
        torch.testing.assert_close(
            make_loss([term])(LOGITS, TARGET), make_loss([LossTerm(name)])(LOGITS, ignored)
        )
        four, target = LOGITS[:, :4], TARGET.clamp(max=3)
        torch.testing.assert_close(
            make_loss([term], 4)(four, target), make_loss([LossTerm(name)], 4)(four, target)
        )
        only = torch.zeros_like(TARGET)
        assert make_loss([term])(LOGITS, only).item() == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "ae"}, "'ae' is unknown"),
        ({"name": ["ce"]}, "is unknown"),
        ({"name": None}, "None is unknown"),
        ({"weight": 1}, "is no loss"),
        ("ce", "is no loss"),
        ({"name": "ce", "factor": 2}, "unknown fields: factor"),
        ({"name": "ce", "weight": 0}, "weight 0"),
        ({"name": "ce", "weight": -1}, "weight -1"),
        ({"name": "ce", "weight": float("nan")}, "weight nan"),
        ({"name": "ce", "weight": float("inf")}, "weight inf"),
        ({"name": "ce", "weight": 10**400}, "weight 1000"),
        ({"name": "ce", "weight": True}, "weight True"),
        ({"name": "ce", "weight": "1"}, "weight '1'"),
        ({"name": "ce", "options": [1]}, "options of the loss ce"),
        ({"name": "ce", "options": {"gamma": 2}}, "no option 'gamma'"),
        ({"name": "focal", "options": {"gamma": -1}}, "gamma of the loss focal is -1"),
        ({"name": "focal", "options": {"gamma": 21}}, "gamma of the loss focal is 21"),
        ({"name": "focal", "options": {"gamma": "2"}}, "gamma of the loss focal is '2'"),
        ({"name": "cdw_ce", "options": {"alpha": float("nan")}}, "alpha of the loss cdw_ce"),
    ],
)
def test_what_cannot_be_is_refused(values: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        LossTerm.from_json(values)  # type: ignore[arg-type]
    assert caught.value.advice


def test_a_loss_needs_terms_and_classes() -> None:
    with pytest.raises(InputError, match="needs a term"):
        make_loss([])
    for wrong in (3, 6, True):
        with pytest.raises(InputError, match="num_classes"):
            make_loss([LossTerm("ce")], wrong)
    with pytest.raises(InputError, match="4 classes got 5"):
        make_loss([LossTerm("ce")], 4)(LOGITS, TARGET)


@pytest.mark.parametrize("name", LOSSES)
def test_json_and_back(name: str) -> None:
    term = LossTerm(name, 0.25, dict.fromkeys(loss_options(name), 0.5))
    text = json.dumps(term.to_json())
    assert LossTerm.from_json(json.loads(text)) == term
    assert LossTerm.from_json({"name": name}) == LossTerm(name)


def test_a_term_is_frozen_and_travels() -> None:
    mine = {"gamma": 2}
    term = LossTerm("focal", options=mine)
    mine["gamma"] = 3
    term.to_json()["options"]["gamma"] = 4
    assert term.options == {"gamma": 2.0}
    with pytest.raises(dataclasses.FrozenInstanceError):
        term.weight = 2.0  # type: ignore[misc]
    loss = make_loss([term])
    assert hash(loss) == hash(make_loss([LossTerm("focal", options={"gamma": 2})]))
    again = pickle.loads(pickle.dumps(loss))
    assert isinstance(again, Loss)
    assert again == loss
    assert dataclasses.asdict(term) == term.to_json()
