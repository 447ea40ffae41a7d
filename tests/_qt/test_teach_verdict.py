"""The verdict in the window: what it says, and that a refused model is not taken by accident."""

from __future__ import annotations

import numpy as np
import pytest
from clicking import click, cut_off, open_section
from PIL import Image
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QDesktopServices, QImage
from qtpy.QtWidgets import QMessageBox, QScrollArea, QSizePolicy, QVBoxLayout, QWidget
from teaching import ANN, BAD, FEW, GOOD, result_of, small_model

from napari_hspnet._qt.teach_view import TeachView
from napari_hspnet._qt.teach_work import Parent
from napari_hspnet.errors import OutputError
from napari_hspnet.networks.registry import Registry

pytestmark = pytest.mark.gui


@pytest.fixture
def verdict(add_dock, tmp_path, wait):
    """The section with a verdict that was made up."""

    def shown(made, pictures=()):
        dock = add_dock()
        dock.slide_view.reader.setText(ANN)
        open_section(dock, "teach")
        parent = small_model(tmp_path / "tiny.safetensors")
        dock.control.choose_model(parent)
        wait(lambda: dock.control.model is not None)
        result = result_of(made, tmp_path, pictures)
        model = dock.control.model
        dock.outcome.show(result, Parent(model.card.name, parent, model.sha256))
        return dock, result

    return shown


@pytest.fixture
def asked(monkeypatch):
    """What one was asked, and what one answers."""
    questions, answers = [], []

    def question(parent, title, text, *more):
        questions.append(text)
        return answers.pop()

    monkeypatch.setattr(QMessageBox, "question", question)
    return questions, answers


def test_a_good_one_is_accepted_by_one_click_and_one_goes_back_by_another(
    verdict, asked, qtbot, wait
):
    dock, result = verdict(GOOD)
    view, parent = dock.teach_view.verdict, dock.control.model.sha256
    assert view.title.text().startswith("Better")
    assert "1769c4" in view.accept.styleSheet()
    row = next(one for one in view.held.rows if one.name == "CIN2")
    assert (row.before, row.after, row.change) == ("0.61", "0.70", "+0.04 to +0.13")
    assert not cut_off(dock.teach_view)
    click(qtbot, view.accept)
    wait(lambda: dock.control.model and dock.control.model.sha256 == result.sha256)
    record = Registry().in_use()
    assert (record.sha256, record.state, record.decision.by) == (result.sha256, "accepted", ANN)
    assert record.decision.figures["decision"] == "better"
    assert not asked[0]
    assert not view.accept.isVisible()
    # Nothing is open that could be segmented again.
    assert not view.again.isEnabled()
    click(qtbot, view.back)
    wait(lambda: dock.control.model and dock.control.model.sha256 == parent)
    assert Registry().in_use().sha256 == parent
    assert "Back to tiny" in view.told.text()


def test_a_refused_one_is_taken_only_by_whoever_confirms_it(verdict, asked, qtbot, wait):
    dock, result = verdict(BAD)
    view, (questions, answers) = dock.teach_view.verdict, asked
    assert view.title.text().startswith("Worse")
    assert "1769c4" not in view.accept.styleSheet()
    assert any("▼" in label.text() for label in view.held.findChildren(type(view.title).__mro__[1]))
    answers.append(QMessageBox.StandardButton.No)
    click(qtbot, view.accept)
    assert len(questions) == 1
    assert "Dice for CIN2 fell from 0.80 to 0.41 (held back)." in questions[0]
    qtbot.wait(100)
    assert Registry().get(result.sha256).state == "candidate"
    assert Registry().in_use() is None
    answers.append(QMessageBox.StandardButton.Yes)
    click(qtbot, view.accept)
    wait(lambda: dock.control.model and dock.control.model.sha256 == result.sha256)
    assert Registry().get(result.sha256).decision.note == "the gate says: worse; overruled"


def test_refusing_keeps_the_model_of_now(verdict, asked, qtbot, wait):
    dock, result = verdict(BAD)
    before = dock.control.model
    click(qtbot, dock.teach_view.verdict.refuse)
    wait(lambda: Registry().get(result.sha256).state == "refused")
    wait(lambda: "Refused by Dr. Ann" in dock.teach_view.verdict.told.text())
    assert dock.control.model is before
    assert not dock.teach_view.verdict.after_row.isVisible()
    assert not asked[0]


def test_too_few_is_said_plainly_and_accepting_is_not_the_first_thing(verdict, qtbot):
    dock, _ = verdict(FEW)
    view = dock.teach_view.verdict
    assert view.title.text() == "Too few to judge"
    assert "1769c4" not in view.accept.styleSheet()
    assert view.accept.isEnabled()
    assert {one.change for one in view.held.rows} == {"–"}
    assert not cut_off(dock.teach_view)


def test_nobody_decides_without_a_name(verdict, qtbot):
    dock, result = verdict(GOOD)
    dock.slide_view.reader.setText("")
    click(qtbot, dock.teach_view.verdict.accept)
    assert "Say who decides" in dock.teach_view.verdict.told.text()
    assert Registry().get(result.sha256).state == "candidate"


def test_what_the_registry_cannot_take_is_told_and_can_be_tried_again(
    verdict, qtbot, wait, notified, monkeypatch
):
    dock, result = verdict(GOOD)
    view = dock.teach_view.verdict

    def full(*args):
        raise OutputError("The disk is full", advice="Make room")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "decide", full)
        click(qtbot, view.accept)
        wait(lambda: "disk is full" in view.told.text())
    assert any("disk is full" in text for text in notified())
    click(qtbot, view.accept)
    wait(lambda: Registry().get(result.sha256).state == "accepted")


def test_pictures_are_looked_through_and_opened(verdict, tmp_path, qtbot, wait, monkeypatch):
    pictures = []
    for number in range(2):
        path = tmp_path / f"change{number}.png"
        Image.fromarray(np.full((90, 400, 3), 60 + 90 * number, np.uint8)).save(path)
        pictures.append((str(path), f"Region {number + 1}"))
    dock, _ = verdict(GOOD, pictures)
    view = dock.teach_view.verdict
    wait(view.picture.isVisible)
    assert view.caption.text() == "1 of 2: Region 1"
    click(qtbot, view.later)
    assert view.caption.text() == "2 of 2: Region 2"
    wait(view.picture.isVisible)
    opened = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toLocalFile()))
    click(qtbot, view.picture)
    assert opened == [pictures[1][0]]
    assert not cut_off(dock.teach_view)


def test_a_picture_that_is_gone_leaves_its_words(verdict, tmp_path, wait):
    dock, _ = verdict(GOOD, [(str(tmp_path / "gone.png"), "Region 1")])
    view = dock.teach_view.verdict
    wait(lambda: not dock.jobs.busy("teach picture"))
    assert not view.picture.isVisible()
    assert view.caption.text() == "Region 1"


def test_the_curves_can_be_read_on_both_themes(verdict, viewer, qtbot):
    dock, _ = verdict(GOOD)
    curves = dock.teach_view.curves
    curves.begin(2)
    curves.add_loss(0.5, 1.2)
    curves.add_loss(1.0, 0.8)
    curves.add_judged(0, {"mean_dice": 0.4, "cin2_agreement": None})
    curves.add_judged(1, {"mean_dice": 0.6, "cin2_agreement": 0.9})
    curves.show()
    assert curves.losses == (1.2, 0.8)
    assert curves.figures["cin2_agreement"] == ((1.0, 0.9),)
    for theme in ("light", "dark"):
        viewer.theme = theme
        qtbot.wait(50)
        image = curves.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
        pixels = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), np.uint8)
        grey = pixels.reshape(image.height(), image.width(), 4)[..., :3].mean(axis=2)
        paper = np.median(grey)
        assert paper > 200 if theme == "light" else paper < 80
        assert np.abs(grey - paper).max() > 100


def test_a_long_curve_keeps_its_ends(verdict):
    dock, _ = verdict(GOOD)
    curves = dock.teach_view.curves
    curves.begin(5)
    for step in range(5000):
        curves.add_loss(step / 1000, 5000.0 - step)
    assert len(curves.losses) <= 1000
    assert curves.losses[0] == 5000.0
    assert curves.losses[-1] == 1.0
    assert list(curves.losses) == sorted(curves.losses, reverse=True)


LONG_TEXT = (
    "On the regions held back Dice for CIN2 rose from 0.61 to 0.70 (95 % interval of the "
    "difference +0.04 to +0.13), agreement at CIN2+ rose from 0.71 to 0.79 (-0.01 to +0.15); "
    "on the reference set nothing was lost for certain.\nToo little was held back to judge "
    "CIN3.\nThe reference set is synthetic: phantoms alone are no safety reference for real "
    "slides.\n(4 regions of 2 patients, 1.20 mm²; intervals by patient (2) or by region, "
    "whichever is wider: so few patients alone would make them too narrow)\nAccept?"
)


@pytest.fixture
def column(qtbot):
    """The section as the dock holds it, so many pixels wide, with all that it can show."""

    def shown(width):
        view = TeachView()
        content = QWidget()
        content.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        layout = QVBoxLayout(content)
        layout.setContentsMargins(2, 0, 4, 4)
        layout.addWidget(view)
        layout.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(content)
        area.resize(width, 500)
        qtbot.addWidget(area)
        area.show()
        verdict = GOOD.to_json()
        verdict["held_back"]["changes"]["dice_CIN2"]["interval"] = [-0.28, 0.34]
        verdict["reference"] = {**verdict["held_back"], "synthetic": True}
        view.verdict.show_verdict("Better", LONG_TEXT, verdict, (("", LONG_TEXT),), True)
        qtbot.wait(100)
        # Nothing else holds it.
        view.area = area
        return view

    return shown


@pytest.mark.parametrize("width", [300, 320, 360, 420])
def test_the_whole_text_stands_above_the_table(column, width, qtbot):
    verdict = column(width).verdict
    # As where letters are larger: the table needs more than there is.
    verdict.held.setMinimumWidth(width + 20)
    qtbot.wait(100)
    text = verdict.text
    assert text.height() >= text.heightForWidth(text.width())
    bottom = text.mapTo(verdict, QPoint(0, text.height())).y()
    assert bottom <= verdict.held.y()
    assert verdict.caption.height() >= verdict.caption.heightForWidth(verdict.caption.width())


def test_a_synthetic_reference_set_fits_beside_its_figures(column):
    assert not cut_off(column(320))
