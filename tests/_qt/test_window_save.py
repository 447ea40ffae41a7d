"""napari's own Save: our layers stand for their case, others for themselves."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import shapely
import tifffile
import zarr
from correcting import ANN, predicted, ready
from napari._qt.widgets.qt_progress_bar import QtLabeledProgressBar
from PIL import Image
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_hspnet._qt import writers
from napari_hspnet._qt.slide_layer import KEY
from napari_hspnet.cases import Case, Patch
from napari_hspnet.classes import ORDINAL, PAPER
from napari_hspnet.errors import HspnetError, InputError, OutputError

pytestmark = pytest.mark.gui

CROSS = np.array([[0, 1, 0], [2, 3, 4], [253, 254, 255]], np.int32)


def mine(viewer, data=CROSS, **about):
    return viewer.add_labels(np.asarray(data), name="Meyer Anna", **about)


def corrected(folder):
    """Yesterday's case with a correction; what it then shows."""
    values = np.full((100, 90), 3, np.uint8)
    with Case.open(folder, read_only=False) as case:
        case.editing.correct([Patch(1450, 300, values, values == 3)], ANN, "brush")
    shown = predicted()
    shown[1450:1550, 300:390] = 3
    return shown


def facts(path):
    """What a file of any format says of itself."""
    if path.name.endswith(".ome.zarr"):
        return dict(zarr.open_group(path, mode="r").attrs["hspnet"])
    if path.suffix == ".geojson":
        return json.loads(path.read_text(encoding="utf-8"))["hspnet"]
    if path.suffix == ".png":
        with Image.open(path) as image:
            return dict(image.info)
    with tifffile.TiffFile(path) as file:
        said = ElementTree.fromstring(file.ome_metadata)
    return {m.get("K"): m.text for m in said.iter() if m.tag.endswith("}M")}


def values(path):
    if path.name.endswith(".ome.zarr"):
        return zarr.open_group(path, mode="r")["labels/classes/0"][:]
    if path.suffix == ".png":
        with Image.open(path) as image:
            return np.asarray(image)
    return tifffile.imread(path)


ENDINGS = (".ome.tif", ".ome.tiff", ".ome.zarr", ".png", ".geojson")


@pytest.mark.parametrize("ending", ENDINGS)
def test_anyones_labels_say_what_is_not_known(viewer, tmp_path, ending):
    mine(viewer, scale=(0.5, 0.5), units=("mm", "mm"))
    path = tmp_path / f"mask{ending}"
    assert viewer.layers.save(str(path)) == [str(path)]
    said = facts(path)
    assert said["model"] == said["readers"] == said["runs"] == "not known"
    assert said["label_um_per_pixel"] == "500.0"
    assert said["resolution"] == "as the layer had"
    assert "Research use only" in said["notice"]
    # A layer's name can name a patient.
    assert "Meyer" not in json.dumps(said)
    if ending == ".geojson":
        found = json.loads(path.read_text())["features"]
        names = [f["properties"]["classification"]["name"] for f in found]
        assert sorted(names) == ["CIN1", "CIN2", "CIN3", "normal"]
        assert all(shapely.from_geojson(json.dumps(f["geometry"])).area == 1 for f in found)
    else:
        np.testing.assert_array_equal(values(path), CROSS)


def test_a_layer_without_a_length_is_said_to_be(viewer, tmp_path):
    mine(viewer, scale=(3, 2), translate=(40, 7), rotate=10)
    path = tmp_path / "a.ome.tif"
    viewer.layers.save(str(path))
    said = facts(path)
    assert said["resolution"] == "not known; a pixel is taken as 1 µm"
    assert said["label_um_per_pixel"] == "1.0"
    assert said["place"].startswith("the first pixel's centre was at 40, 7")
    assert said["place"].endswith("not kept: rotate")


def test_a_pyramid_is_saved_from_its_finest_level(viewer, tmp_path):
    fine = np.random.default_rng(0).integers(0, 5, (3000, 1100)).astype(np.uint8)
    viewer.add_labels([fine, fine[::2, ::2]], multiscale=True)
    for ending in (".ome.zarr", ".ome.tif"):
        path = tmp_path / f"a{ending}"
        viewer.layers.save(str(path))
        np.testing.assert_array_equal(values(path), fine)


@pytest.mark.parametrize(
    ("data", "ending", "said"),
    [
        (CROSS + 1, ".ome.tif", "label 256"),
        (CROSS - 1, ".png", "label -1"),
        (CROSS * 5, ".ome.zarr", "label 1275"),
        (CROSS % 250 + 4, ".geojson", "none of the classes"),
        (np.zeros((2, 3, 4), int), ".ome.tif", "3 dimensions"),
        (np.zeros((9000, 9000), np.uint8), ".png", "more than most programs open"),
    ],
)
def test_what_does_not_fit_is_refused(viewer, tmp_path, data, ending, said):
    mine(viewer, data)
    with pytest.raises(InputError, match=said) as caught:
        viewer.layers.save(str(tmp_path / f"a{ending}"))
    assert caught.value.advice
    assert not list(tmp_path.glob("*a*"))


def test_pixels_that_are_not_square_are_refused(viewer, tmp_path):
    mine(viewer, scale=(2, 1), units=("um", "um"))
    with pytest.raises(InputError, match="2 x 1 µm"):
        viewer.layers.save(str(tmp_path / "a.png"))


def test_napari_keeps_its_own_defaults(viewer, tmp_path):
    """Ours are asked by their endings alone."""
    from npe2 import PluginManager

    choose = PluginManager.instance().get_writer
    for name in ("a", "a.tif", "a.tiff", "a.npz", "a.pbm"):
        assert choose(name, ["labels"])[0].command.startswith("napari.")
    for name in ENDINGS:
        assert choose(f"a{name}", ["labels"])[0].command.startswith("napari-hspnet.")
        # Images in .png stay napari's; labels in .png it does not write at all.
        others = choose(f"a{name}", ["image"])[0]
        assert others is None or others.command.startswith("napari.")
    mine(viewer)
    path = tmp_path / "a.tif"
    assert viewer.layers.save(str(path)) == [str(path)]
    with tifffile.TiffFile(path) as file:
        assert not file.is_ome
        np.testing.assert_array_equal(file.asarray(), CROSS)
    mine(viewer)
    folder = tmp_path / "several"
    assert len(viewer.layers.save(str(folder))) == 2
    assert {p.suffix for p in folder.iterdir()} == {".tif"}


def test_the_save_dialog_offers_ours_after_naparis_own(viewer, tmp_path, monkeypatch):
    mine(viewer)
    asked = []

    def choose(*_, filter, **__):  # noqa: A002
        kinds = filter.split(";;")
        asked.extend(kinds)
        return str(tmp_path / "named"), next(k for k in kinds if "OME-Zarr" in k)

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    viewer.window._qt_viewer._save_layers_dialog()
    assert asked[0].startswith("napari")
    assert "HSP-Net review OME-Zarr (*.ome.zarr)" in asked
    # The ending that the user left away is added.
    np.testing.assert_array_equal(values(tmp_path / "named.ome.zarr"), CROSS)
    # Of that name the dialog knew nothing, so it did not ask.
    with pytest.raises(OutputError, match="exists already"):
        viewer.window._qt_viewer._save_layers_dialog()


def test_an_earlier_file_that_napari_asked_about_is_replaced(viewer, tmp_path):
    mine(viewer)
    for ending in (".ome.tif", ".png", ".ome.zarr"):
        path = tmp_path / f"a{ending}"
        viewer.layers.save(str(path))
        viewer.layers[0].data = CROSS[::-1].copy()
        viewer.layers.save(str(path))
        np.testing.assert_array_equal(values(path), CROSS[::-1])
        viewer.layers[0].data = CROSS
    foreign = tmp_path / "theirs.ome.zarr"
    foreign.mkdir()
    (foreign / "precious").write_text("x")
    with pytest.raises(OutputError, match="no earlier export"):
        viewer.layers.save(str(foreign))
    assert (foreign / "precious").read_text() == "x"


def test_the_cancel_button_of_napari_stops_it(viewer, tmp_path):
    mine(viewer, np.ones((6000, 5000), np.uint8))
    pressed = []

    def press():
        for found in viewer.window._qt_window.findChildren(QtLabeledProgressBar):
            pressed.append(found.qt_progress_bar.value())
            found.cancel_button.click()

    ticking = QTimer()
    ticking.timeout.connect(press)
    ticking.start(0)
    with pytest.raises(OutputError, match="stopped"):
        viewer.layers.save(str(tmp_path / "a.ome.zarr"))
    ticking.stop()
    assert pressed
    assert not list(tmp_path.glob("*a.ome*"))


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_overlay_saves_the_whole_case(wide_case, wide_path, dock_on, viewer, tmp_path, ending):
    shown = corrected(wide_case)
    dock = dock_on(wide_path)
    layer = dock.slides.active.layers.overlay
    path = tmp_path / f"a{ending}"
    viewer.layers.selection = {layer}
    assert viewer.layers.save(str(path), selected=True) == [str(path)]
    said = facts(path)
    assert said["model"] == "model"
    assert said["readers"] == ANN
    assert said["what"].startswith("what is shown")
    assert "wide" not in json.dumps(said)
    if ending == ".geojson":
        found = json.loads(path.read_text())["features"]
        area = sum(f["properties"]["measurements"]["Area µm^2"] for f in found)
        assert area == np.isin(shown, (1, 2, 3, 4)).sum()
    else:
        np.testing.assert_array_equal(values(path), shown)
    # The case was open for writing all the while, and still is.
    assert not dock.slides.active.session.case.read_only


def test_every_layer_of_ours_knows_its_case(wide_case, wide_path, dock_on, viewer, wait, tmp_path):
    shown = corrected(wide_case)
    dock = dock_on(wide_path)
    dock.overlay.show_changes(True)
    dock.correct_view.paint.click()
    ready(dock, wait)
    kinds = {
        layer.metadata[KEY]["kind"]: layer
        for layer in viewer.layers
        if layer._type_string == "labels"
    }
    assert {"overlay", "veil", "edit", "changes"} <= set(kinds)
    for kind, layer in kinds.items():
        path = tmp_path / f"{kind}.ome.tif"
        viewer.layers.selection = {layer}
        viewer.layers.save(str(path), selected=True)
        expected = shown
        if kind == "changes":
            expected = np.where(shown != predicted(), shown, 255)
            assert "255 not changed" in facts(path)["values"]
        np.testing.assert_array_equal(values(path), expected)


def test_the_overlay_s_colours_are_those_on_screen(wide_dock, viewer, tmp_path):
    from dataclasses import replace

    for palette in (ORDINAL, PAPER):
        wide_dock.overlay.set_style(replace(wide_dock.overlay.style, palette=palette.key))
        path = tmp_path / f"{palette.key}.ome.zarr"
        viewer.layers.selection = {wide_dock.slides.active.layers.overlay}
        viewer.layers.save(str(path), selected=True)
        said = zarr.open_group(path, mode="r")["labels/classes"].attrs["ome"]["image-label"]
        colours = {c["label-value"]: tuple(c["rgba"][:3]) for c in said["colors"]}
        assert {v: colours[v] for v in palette.colours} == dict(palette.colours)


def test_a_layer_of_ours_whose_case_is_gone_says_so(wide_dock, viewer, tmp_path):
    layer = wide_dock.slides.active.layers.overlay
    attributes = layer.as_layer_data_tuple()[1]
    lost = {**attributes, "metadata": {KEY: {**layer.metadata[KEY], "case": str(tmp_path)}}}
    with pytest.raises(HspnetError, match="no case in this folder"):
        writers.write_labels_ome_tiff(str(tmp_path / "a.ome.tif"), layer.data, lost)
    other = {**attributes, "metadata": {KEY: {"kind": "mark", "of": "x"}}}
    with pytest.raises(HspnetError, match="shows no labels"):
        writers.write_labels_ome_tiff(str(tmp_path / "a.ome.tif"), layer.data, other)
    assert not list(tmp_path.glob("*a.ome*"))


@pytest.mark.filterwarnings("ignore:color_dict did not provide:UserWarning")
def test_napari_opens_the_ome_zarr_again_as_labels(wide_case, wide_path, dock_on, viewer, tmp_path):
    shown = corrected(wide_case)
    dock = dock_on(wide_path)
    folder = tmp_path / "up" / "there"
    folder.mkdir(parents=True)
    path = folder / "a.ome.zarr"
    viewer.layers.selection = {dock.slides.active.layers.overlay}
    viewer.layers.save(str(path), selected=True)
    before = sorted(tmp_path.rglob("*"))
    opened = viewer.open(str(path), plugin="napari-ome-zarr")
    (labels,) = [layer for layer in opened if layer._type_string == "labels"]
    others = [layer for layer in opened if layer is not labels]
    assert not any(layer.visible for layer in others)
    assert labels.multiscale
    np.testing.assert_array_equal(labels.data[0], shown)
    np.testing.assert_allclose(labels.scale, dock.slides.active.layers.overlay.scale)
    assert [str(unit) for unit in labels.units] == ["micrometer", "micrometer"]
    names = dict(zip(labels.features["index"], labels.features["class"], strict=True))
    assert names[4] == "CIN3"
    assert names[255] == "not run"
    for value, colour in PAPER.colours.items():
        drawn = labels.colormap.map(np.array([value], np.uint8))[0]
        np.testing.assert_allclose(drawn, [*(c / 255 for c in colour), 1], atol=1e-6)
    assert labels.colormap.map(np.array([0], np.uint8))[0][3] == 0
    # Reading it wrote nothing, nor in the folders above.
    assert sorted(tmp_path.rglob("*")) == before
    QApplication.processEvents()
