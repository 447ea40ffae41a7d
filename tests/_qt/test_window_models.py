"""The list of models in a real window: states, the one in use, and what is wrong with one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from qtpy.QtCore import Qt

from jobs.finetune_case import ARCHITECTURE
from napari_hspnet._qt.model_words import list_line, listed_models
from napari_hspnet.networks import ModelCard, build, models_folder, save_checkpoint
from napari_hspnet.networks.registry import Registry

pytestmark = pytest.mark.gui

ANN = "Dr. Ann"
WORSE = {"decision": "worse", "held_back": {"changes": {"dice_CIN3": {"decision": "worse"}}}}


@pytest.fixture(scope="module")
def network():
    return build(ARCHITECTURE).eval()


@pytest.fixture
def add(network, tmp_path):
    """Take a model into the registry of this test."""

    def run(name, parent=None):
        path = tmp_path / f"{name}.safetensors"
        card = ModelCard(name, ARCHITECTURE, window=64, trained_on="slides", parent=parent)
        save_checkpoint(path, network, card)
        return Registry().add(path, "candidate", ANN).sha256

    return run


@pytest.fixture
def three(add):
    """An accepted model that is in use, its refused child, and a candidate."""
    registry = Registry()
    first = add("ward")
    second, third = add("taught", first), add("again", first)
    registry.decide(first, True, ANN, "seen on ten slides")
    registry.decide(second, False, "Dr. Ben", "the gate says: worse", WORSE)
    registry.use(first, ANN)
    return first, second, third


def lines(dock):
    choice = dock.model_view.choice
    return [choice.itemText(i) for i in range(1, choice.count() - 2)]


def choose(qtbot, dock, beginning):
    """With the keyboard, as a reader does."""
    choice = dock.model_view.choice
    at = next(i for i, line in enumerate(lines(dock)) if line.startswith(beginning)) + 1
    choice.setFocus()
    step = Qt.Key.Key_Down if at > choice.currentIndex() else Qt.Key.Key_Up
    for _ in range(abs(at - choice.currentIndex())):
        qtbot.keyClick(choice, step)
    assert choice.currentIndex() == at


def test_states_are_listed_and_the_one_in_use_is_chosen(three, add_dock, wait) -> None:
    dock = add_dock()
    wait(lambda: dock.models.loaded is not None)
    assert lines(dock) == [
        "demo",
        "again · candidate",
        "taught · refused",
        "ward · accepted · in use",
    ]
    assert dock.models.loaded.sha256 == three[0]
    assert dock.model_view.choice.currentText() == "ward · accepted · in use"
    story = dock.model_view.story
    assert story.text().startswith("Accepted by Dr. Ann on 20")
    assert story.text().endswith(": seen on ten slides.")
    assert story.property("kind") == ""


def test_a_refused_one_is_chosen_with_a_warning_and_its_parent(
    three, add_dock, wait, qtbot
) -> None:
    dock = add_dock()
    wait(lambda: dock.models.loaded is not None)
    choose(qtbot, dock, "taught")
    wait(lambda: dock.models.loaded is not None and dock.models.loaded.sha256 == three[1])
    view = dock.model_view
    assert view.story.text().startswith("Refused by Dr. Ben on 20")
    assert "worse on Dice for CIN3. Runs made with it carry its name" in view.story.text()
    assert view.story.property("kind") == "warning"
    assert "Taught from ward." in view.card.text()
    choose(qtbot, dock, "again")
    wait(lambda: dock.models.loaded is not None and dock.models.loaded.sha256 == three[2])
    assert view.story.text() == "A candidate: nobody has accepted it yet."
    assert view.story.property("kind") == ""
    choose(qtbot, dock, "demo")
    wait(lambda: dock.models.loaded is not None and dock.models.synthetic)
    assert view.story.text() == ""
    assert Registry().in_use().sha256 == three[0], "choosing holds for this window alone"


def test_one_click_makes_a_chosen_model_the_one_in_use(three, add_dock, wait, qtbot) -> None:
    dock = add_dock()
    wait(lambda: dock.models.loaded is not None)
    view = dock.model_view
    assert not view.use.isVisible(), "it is in use"
    choose(qtbot, dock, "taught")
    wait(lambda: dock.models.loaded is not None and dock.models.loaded.sha256 == three[1])
    assert not view.use.isVisible(), "it was refused"
    choose(qtbot, dock, "again")
    wait(view.use.isVisible)
    qtbot.mouseClick(view.use, Qt.MouseButton.LeftButton)
    assert "Give your name first" in view.error.text()
    assert Registry().in_use().sha256 == three[0]
    dock.slide_view.reader.setText("Dr. Eve")
    qtbot.mouseClick(view.use, Qt.MouseButton.LeftButton)
    wait(lambda: "again · candidate · in use" in lines(dock))
    assert "ward · accepted" in lines(dock)
    assert not view.use.isVisible()
    assert view.error.text() == ""
    assert Registry().history()[-1].by == "Dr. Eve"
    assert dock.models.loaded.sha256 == three[2]


def test_the_list_follows_what_was_decided_elsewhere(three, add_dock, wait, qtbot) -> None:
    dock = add_dock()
    wait(lambda: dock.models.loaded is not None)
    choose(qtbot, dock, "again")
    wait(lambda: dock.models.loaded is not None and dock.models.loaded.sha256 == three[2])
    Registry().decide(three[2], True, "Dr. Ben", "better")
    Registry().use(three[2], "Dr. Ben")
    dock.models.list_models()
    wait(lambda: "again · accepted · in use" in lines(dock))
    assert dock.model_view.choice.currentText() == "again · accepted · in use"
    assert dock.model_view.story.text().endswith(": better.")
    Registry().use(three[0], "Dr. Ben")
    dock.models.list_models()
    wait(lambda: "ward · accepted · in use" in lines(dock))
    assert dock.models.loaded.sha256 == three[2], "nobody in this window chose another"


def test_who_chose_none_before_the_list_came_keeps_none(three, viewer, wait, qtbot) -> None:
    _, dock = viewer.window.add_plugin_dock_widget("napari-hspnet")
    try:
        dock.models.choose_none()
        wait(lambda: len(lines(dock)) == 4)
        qtbot.wait(200)
        assert dock.models.loaded is None
        assert not dock.models.loading
    finally:
        dock.shut_down()


def test_damaged_and_missing_ones_are_listed_with_their_problem(
    three, add_dock, wait, qtbot
) -> None:
    (models_folder() / f"{three[1]}.model.json").write_text("{")
    Registry().get(three[2]).path.unlink()
    (models_folder() / "broken.safetensors").write_bytes(b"no checkpoint")
    dock = add_dock()
    wait(lambda: dock.models.loaded is not None)
    assert lines(dock) == [
        "demo",
        "(cannot be used) again · candidate",
        "(cannot be used) broken · candidate",
        "(cannot be used) taught",
        "ward · accepted · in use",
    ]
    view = dock.model_view
    for name, said in (
        ("again", "missing"),
        ("broken", "broken.safetensors"),
        ("taught", "damaged"),
    ):
        choose(qtbot, dock, f"(cannot be used) {name}")
        wait(lambda said=said: said in view.error.text())
        assert dock.models.loaded is None
        assert view.choice.currentText().startswith(f"(cannot be used) {name}")
    choose(qtbot, dock, "ward")
    wait(lambda: dock.models.loaded is not None)
    assert view.error.text() == ""


def test_a_damaged_note_of_what_is_in_use_is_told_and_nothing_is_guessed(
    three, add_dock, wait
) -> None:
    (models_folder() / "in-use.json").write_text("{")
    dock = add_dock()
    wait(lambda: "note of which model is in use is damaged" in dock.model_view.error.text())
    assert dock.models.loaded is None
    assert "ward · accepted" in lines(dock)
    Registry().use(three[0], ANN)
    dock.models.list_models()
    wait(lambda: dock.model_view.error.text() == "")


def test_a_model_in_use_that_is_gone_is_told(three, add_dock, wait) -> None:
    Registry().get(three[0]).path.unlink()
    dock = add_dock()
    wait(lambda: "missing" in dock.model_view.error.text())
    assert dock.models.loaded is None
    assert "(cannot be used) ward · accepted · in use" in lines(dock)


def test_a_folder_that_cannot_be_read_leaves_the_demo_model(add_dock, wait) -> None:
    models_folder().parent.mkdir(parents=True)
    models_folder().write_text("no folder")
    dock = add_dock()
    wait(lambda: "cannot be read" in dock.model_view.error.text())
    assert lines(dock) == ["demo"]


def test_two_of_one_name_are_told_apart(add, network, tmp_path) -> None:
    first, second = add("ward"), add("ward", "ab" * 32)
    found = {m.sha256: list_line(m) for m in listed_models(Registry().entries())}
    assert found[first] == f"ward ({first[:8]}) · candidate"
    assert found[second] == f"ward ({second[:8]}) · candidate"
    child = next(m for m in listed_models(Registry().entries()) if m.sha256 == second)
    assert child.parent == "a model not here (abababab)"
    long = replace(child, name="a" * 60)
    assert len(list_line(long)) < 60
