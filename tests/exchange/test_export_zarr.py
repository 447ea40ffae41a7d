"""OME-Zarr, read back with zarr, ome-zarr-models and napari-ome-zarr."""

import json
import threading

import numpy as np
import pytest
import zarr
from export_tools import ArrayLabels, about, blobs
from ome_zarr_models.v05 import Image, ImageLabel

from napari_hspnet.cases import Case
from napari_hspnet.cases.sampling import level_count, level_shape
from napari_hspnet.classes import DEMO_BANNER, ORDINAL, PAPER
from napari_hspnet.errors import CancelledError, OutputError
from napari_hspnet.exchange import WHATS, value_names
from napari_hspnet.exchange.zarr_labels import is_label_zarr, write_ome_zarr
from napari_hspnet.slides import LabelGrid

from cases.case_tools import block, run_record, slide_info


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize(
    ("shape", "mpp"),
    [((700, 90), 1.0), ((2500, 1537), 0.5), ((33, 9001), 2.25), ((1, 1), 1.0), ((20, 20_001), 1.0)],
)
def test_every_level_read_with_zarr(tmp_path, rng, shape, mpp):
    labels = ArrayLabels(blobs(rng, shape), mpp)
    done = []
    path = write_ome_zarr(tmp_path / "m.ome.zarr", labels, about(labels), progress=done.append)
    assert path == tmp_path / "m.ome.zarr"
    assert done[-1] == 1.0
    assert done == sorted(done)
    assert labels.largest <= (4 * 512) ** 2
    root = zarr.open_group(path, mode="r")
    image = root["labels/classes"]
    assert sorted(image.array_keys()) == [str(k) for k in range(level_count(shape))]
    assert root["labels"].attrs["ome"]["labels"] == ["classes"]
    for k in range(level_count(shape)):
        array = image[str(k)]
        assert array.dtype == np.uint8
        assert array.chunks == (512, 512)
        assert array.metadata.dimension_names == ("y", "x")
        assert [c.to_dict()["name"] for c in array.compressors] == ["zstd"]
        assert array.shape == level_shape(shape, k)
        rows, columns = (
            np.minimum(np.arange(n) * 2**k + 2**k // 2, side - 1)
            for n, side in zip(array.shape, shape, strict=True)
        )
        np.testing.assert_array_equal(array[:], labels.values[rows][:, columns])
    for group, within in ((root, "labels/classes/"), (image, "")):
        (said,) = group.attrs["ome"]["multiscales"]
        assert {axis["unit"] for axis in said["axes"]} == {"micrometer"}
        for k, level in enumerate(said["datasets"]):
            step = mpp * 2**k
            assert level["path"] == f"{within}{k}"
            assert level["coordinateTransformations"] == [
                {"type": "scale", "scale": [step, step]},
                {"type": "translation", "translation": [step / 2, step / 2]},
            ]
            # The image at the root is the same arrays, not a second copy.
            assert group[level["path"]].shape == level_shape(shape, k)
    facts = root.attrs["hspnet"]
    assert facts == image.attrs["hspnet"] == about(labels, exported=facts["exported"]).facts()
    assert facts["model_sha256"] == "12" * 32
    assert DEMO_BANNER in facts["notice"]


def test_it_is_valid_ome_zarr(tmp_path, rng):
    labels = ArrayLabels(blobs(rng, (2500, 1537)))
    root = zarr.open_group(write_ome_zarr(tmp_path / "m.ome.zarr", labels, about(labels)), mode="r")
    image = Image.from_zarr(root)
    assert image.ome_attributes.version == "0.5"
    assert image.labels.label_paths == ["classes"]
    found = ImageLabel.from_zarr(root["labels/classes"]).ome_attributes
    assert found.image_label.source.image == "../../"
    assert {c.label_value for c in found.image_label.colors} == {0, 1, 2, 3, 4, 253, 254, 255}


@pytest.mark.parametrize("palette", [PAPER, ORDINAL])
@pytest.mark.parametrize("what", WHATS)
def test_names_and_colours_of_every_value(tmp_path, what, palette):
    labels = ArrayLabels(np.full((9, 9), 2))
    said = about(labels, what=what, palette=palette)
    path = write_ome_zarr(tmp_path / "m.ome.zarr", labels, said)
    attributes = zarr.open_group(path, mode="r")["labels/classes"].attrs["ome"]["image-label"]
    names = {p["label-value"]: p["class"] for p in attributes["properties"]}
    assert names == value_names(what)
    colours = {c["label-value"]: tuple(c["rgba"]) for c in attributes["colors"]}
    assert {v: colours[v][:3] for v in palette.colours} == dict(palette.colours)
    clear = [value for value, colour in colours.items() if colour[3] == 0]
    # What nobody said is clear; what was not analysed is seen.
    assert clear == ([255] if what in ("correction", "difference") else [0])


def test_empty_chunks_are_not_stored(tmp_path):
    values = np.full((3000, 3000), 255)
    values[1500, 1500] = 3
    labels = ArrayLabels(values)
    path = write_ome_zarr(tmp_path / "m.ome.zarr", labels, about(labels))
    level = path / "labels/classes/0"
    assert [str(f.relative_to(level)) for f in level.rglob("*") if f.is_file()] in (
        ["zarr.json", "c/2/2"],
        ["c/2/2", "zarr.json"],
    )
    assert (zarr.open_group(path, mode="r")["labels/classes/0"][:] == values).all()


def test_napari_ome_zarr_reads_labels_and_touches_nothing(tmp_path, rng):
    napari_ome_zarr = pytest.importorskip("napari_ome_zarr")
    folder = tmp_path / "up" / "there"
    folder.mkdir(parents=True)
    labels = ArrayLabels(blobs(rng, (1300, 1200)), mpp=0.5)
    path = str(write_ome_zarr(folder / "m.ome.zarr", labels, about(labels)))
    before = sorted(tmp_path.rglob("*"))
    layers = napari_ome_zarr.napari_get_reader(path)(path)
    assert sorted(tmp_path.rglob("*")) == before
    assert [kind for *_, kind in layers] == ["image", "labels"]
    assert layers[0][1]["visible"] is False
    data, how, _ = layers[1]
    assert [level.shape for level in data] == [(1300, 1200), (650, 600)]
    np.testing.assert_array_equal(np.asarray(data[0]), labels.values)
    assert how["scale"] == [0.5, 0.5]
    assert how["units"] == ("micrometer", "micrometer")
    assert how["colormap"][4] == pytest.approx([230 / 255, 0, 0, 1])
    assert dict(zip(how["properties"]["index"], how["properties"]["class"], strict=True)) == (
        value_names("composite")
    )


def tree(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_an_earlier_export_is_replaced_when_allowed(tmp_path):
    path = tmp_path / "m.ome.zarr"
    first, second = (ArrayLabels(np.full((600, 600), v)) for v in (2, 3))
    write_ome_zarr(path, first, about(first))
    before = tree(path)
    with pytest.raises(OutputError, match="exists already"):
        write_ome_zarr(path, second, about(second))
    assert tree(path) == before
    write_ome_zarr(path, second, about(second), overwrite=True)
    assert (zarr.open_group(path, mode="r")["labels/classes/0"][:] == 3).all()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def foreign_zarr(path):
    root = zarr.create_group(path, attributes={"ome": {"version": "0.5"}})
    root.create_array("0", shape=(4, 4), dtype="u1")[:] = 1


def foreign_image(path):
    scale = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}
    said = {"version": "0.5", "multiscales": [{"datasets": [scale]}]}
    zarr.create_group(path, attributes={"ome": said, "hspnet": {"model": "someone's"}})


def foreign_run(path):
    """A run of a case has our attribute too, and is the last thing to be replaced."""
    info = slide_info(70, 60)
    with Case.open_or_create(path.parent / "c.hspnet", info, LabelGrid.of(info)) as case:
        run = case.start_run(run_record())
        run.write(block(0, 0, np.full((70, 60), 2)))
        name = run.finish(1.0).id
    (path.parent / "c.hspnet/runs" / name).rename(path)


def foreign_files(path):
    path.mkdir()
    (path / "thesis.docx").write_text("precious")


def foreign_json(path):
    path.mkdir()
    (path / "zarr.json").write_text('{"attributes": ["hspnet"]}')


def foreign_file(path):
    path.write_text("precious")


@pytest.mark.parametrize(
    "make",
    [foreign_zarr, foreign_image, foreign_run, foreign_files, foreign_json, foreign_file],
)
def test_a_foreign_folder_is_never_replaced(tmp_path, make):
    path = tmp_path / "m.ome.zarr"
    make(path)
    assert not is_label_zarr(path)
    before = tree(tmp_path)
    labels = ArrayLabels(np.full((9, 9), 2))
    with pytest.raises(OutputError, match="no earlier export"):
        write_ome_zarr(path, labels, about(labels), overwrite=True)
    assert tree(tmp_path) == before


def test_an_empty_folder_is_filled_when_allowed(tmp_path):
    path = tmp_path / "m.ome.zarr"
    path.mkdir()
    labels = ArrayLabels(np.full((9, 9), 2))
    write_ome_zarr(path, labels, about(labels), overwrite=True)
    assert is_label_zarr(path)


@pytest.mark.parametrize("reads", [0, 1, 3])
def test_cancelling_leaves_the_earlier_one(tmp_path, reads):
    path = tmp_path / "m.ome.zarr"
    old = ArrayLabels(np.full((9, 9), 2))
    write_ome_zarr(path, old, about(old))
    before = tree(path)
    cancel = threading.Event()
    if reads == 0:
        cancel.set()
    seen = []

    class Stopping(ArrayLabels):
        def read(self, *box):
            seen.append(box)
            if len(seen) == reads:
                cancel.set()
            return super().read(*box)

    labels = Stopping(np.full((5000, 5000), 3))
    with pytest.raises(CancelledError):
        write_ome_zarr(path, labels, about(labels), overwrite=True, cancel=cancel)
    assert len(seen) == reads
    assert tree(path) == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_stores_of_a_case_are_valid_too(tmp_path):
    """Runs and corrections share their metadata with exports."""
    info = slide_info(1300, 1100)
    with Case.open_or_create(tmp_path / "c.hspnet", info, LabelGrid.of(info)) as case:
        run = case.start_run(run_record())
        run.write(block(0, 0, np.full((70, 60), 2)))
        name = run.finish(1.0).id
    root = zarr.open_group(tmp_path / "c.hspnet/runs" / name, mode="r")
    for each in ("class", "score", "high"):
        Image.from_zarr(root[each])
    said = ImageLabel.from_zarr(root["class"]).ome_attributes.image_label
    assert len(said.colors) == len(said.properties) == 8
    assert json.dumps(root["class"].attrs["ome"]).count("micrometer") == 2
