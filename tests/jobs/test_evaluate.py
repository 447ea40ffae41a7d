"""Evaluation through the real engine: figures, files, what is refused, what is left behind."""

from __future__ import annotations

import csv
import hashlib
import json
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from exchange.slide_case import made_case
from napari_hspnet.errors import CancelledError, InputError, OutputError, ResolutionError
from napari_hspnet.inference import Settings, segment
from napari_hspnet.jobs import evaluate as job
from napari_hspnet.jobs.evaluate import EvaluateOptions, evaluate_source
from napari_hspnet.jobs.evaluation_answers import ImageSlide
from napari_hspnet.jobs.evaluation_data import CasesSource, MtchiSource, PairsSource, opened
from napari_hspnet.networks import Architecture, LoadedModel, ModelCard, build
from napari_hspnet.phantom import phantom_field
from napari_hspnet.slides import LabelGrid, Region, open_slide
from napari_hspnet.training import predict_field
from napari_hspnet.training.data import ArrayImage

SIDES = {"P1-1-A": (210, 260), "P1-2-B": (150, 190), "P2-1-A": (170, 128)}
CPU = EvaluateOptions(stride=40, device="cpu", resamples=50)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(mpp: float = 1.0, classes: int = 5, synthetic: bool = False) -> LoadedModel:
    shape = Architecture(
        num_classes=classes,
        encoder="small",
        ds_widths=(4,) * 5,
        head_widths=(4, 4),
        encoder_widths=(4, 4, 8, 8),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(shape).eval()
    card = ModelCard("tiny", shape, window=128, mpp=mpp, synthetic=synthetic)
    return LoadedModel(network, card, "ab" * 32)


class Colours(torch.nn.Module):
    """Tells classes by brightness, so that it is neither right nor wrong everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(40.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grey = x.mean(dim=1, keepdim=True)
        levels = torch.tensor([1.6, 0.8, 0.3, -0.2, -0.8]).view(1, 5, 1, 1)
        return -self.scale * (grey - levels).abs()


def colours(mpp: float = 1.0) -> LoadedModel:
    return LoadedModel(Colours(), ModelCard("colours", window=128, mpp=mpp), "cd" * 32)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


@pytest.fixture(scope="module")
def mtchi(tmp_path_factory):
    """Phantoms in MTCHI's layout: black outside a polygon, background unannotated."""
    folder = tmp_path_factory.mktemp("mtchi")
    for seed, (name, (height, width)) in enumerate(SIDES.items()):
        field = phantom_field(seed, height, width, 1.0, (1, 2, 3, 4))
        rgb, truth = field.rgb.copy(), field.truth.copy()
        rows, columns = np.mgrid[:height, :width]
        outside = rows + columns < 90
        rgb[outside], truth[outside] = 0, 0
        save(folder / f"Task2/Test/Img/Crop_{name}.png", rgb)
        save(folder / f"Task2/Test/Truth/Mask_{name}.png", truth)
    return folder


@pytest.fixture(scope="module")
def evaluated(mtchi, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluated") / "a" / "out"
    told: list = []
    options = EvaluateOptions(stride=40, device="cpu", resamples=200, out=out)
    found = evaluate_source(MtchiSource(mtchi), colours(), options, told.append)
    return found, out, told


def independent(mtchi, predictions):
    """The public scorer's figures from files, with numpy alone."""
    hit, true, said, right, total = np.zeros(5), np.zeros(5), np.zeros(5), 0, 0
    for mask in sorted((mtchi / "Task2/Test/Truth").glob("Mask_*.png")):
        t = np.array(Image.open(mask))
        p = np.array(Image.open(predictions / f"{mask.stem.removeprefix('Mask_')}.png"))[t > 0]
        t = t[t > 0]
        for k in range(1, 5):
            hit[k] += ((t == k) & (p == k)).sum()
            true[k] += (t == k).sum()
            said[k] += (p == k).sum()
        right, total = right + (t == p).sum(), total + t.size
    dice, iou = 2 * hit[1:] / (true + said)[1:], hit[1:] / (true + said - hit)[1:]
    return dice.mean(), iou.mean(), right / total


def test_pooled_masked_figures_are_those_of_an_independent_script(evaluated, mtchi) -> None:
    found, out, _ = evaluated
    dice, iou, accuracy = independent(mtchi, out / "predictions")
    assert 0.02 < dice < 0.98, "a network that is right or wrong everywhere would show nothing"
    document = json.loads((out / "evaluation.json").read_text())
    pooled = document["figures"]["masked"]["pooled"]
    for key, value in (("mean_dice", dice), ("mean_iou", iou), ("accuracy", accuracy)):
        assert found.masked.pooled[key].value == pytest.approx(value, rel=1e-12)
        assert pooled[key]["value"] == pytest.approx(value, abs=1e-6)
        assert pooled[key]["low"] <= value <= pooled[key]["high"]


def test_unmasked_counts_all_but_what_is_black(evaluated, mtchi) -> None:
    found, out, _ = evaluated
    right = total = 0
    for mask in (mtchi / "Task2/Test/Truth").glob("Mask_*.png"):
        name = mask.stem.removeprefix("Mask_")
        t, p = (np.array(Image.open(f)) for f in (mask, out / f"predictions/{name}.png"))
        rgb = np.array(Image.open(mtchi / f"Task2/Test/Img/Crop_{name}.png"))
        counted = (t > 0) | rgb.any(axis=2)
        assert (~counted).sum() > 1000
        right, total = right + ((t == p) & counted).sum(), total + counted.sum()
    assert found.unmasked is not None
    assert found.unmasked.pooled["accuracy"].value == pytest.approx(right / total)


def test_the_written_predictions_are_what_the_engine_says(evaluated, mtchi) -> None:
    """Against the plain loop over one image in memory, which blends alike."""
    _, out, _ = evaluated
    model = colours()
    for name in SIDES:
        rgb = np.array(Image.open(mtchi / f"Task2/Test/Img/Crop_{name}.png"))
        wanted = predict_field(model.network, model.card, rgb, 40)
        written = np.array(Image.open(out / f"predictions/{name}.png"))
        assert written.shape == rgb.shape[:2]
        assert (written == wanted).mean() > 0.999


def test_the_same_predictions_as_files_give_the_same_figures(evaluated, mtchi, tmp_path) -> None:
    found, out, _ = evaluated
    again = evaluate_source(MtchiSource(mtchi), out / "predictions", EvaluateOptions(resamples=200))
    assert again.masked == found.masked
    assert again.unmasked == found.unmasked
    assert again.to_json()["settings"] is None
    assert again.to_json()["predictions"] == str(out / "predictions")


def test_all_files_are_written_and_nothing_else(evaluated) -> None:
    found, out, _ = evaluated
    names = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert names == {
        "evaluation.json",
        "evaluation.md",
        "per-image.csv",
        "confusion.csv",
        "confusion.png",
        *(f"predictions/{name}.png" for name in SIDES),
    }
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    document = json.loads((out / "evaluation.json").read_text())
    assert document["notice"] == "Research use only"
    assert document["model"]["sha256"] == "cd" * 32
    assert document["settings"]["stride"] == 40
    assert document["settings"]["sigma"] == 16
    assert document["settings"]["tissue_mask"] is False
    assert document["intervals"]["unit"] == "patient"
    assert document["intervals"]["units"] == 2
    assert (
        np.sum([i["confusion"] for i in document["images"]], axis=0).tolist()
        == (document["confusion"])
    )
    assert [i["patient"] for i in document["images"]] == ["P1", "P1", "P2"]
    assert any("pure black" in note for note in document["notes"])
    assert any("patient (2)" in note for note in document["notes"])
    rows = list(csv.DictReader((out / "per-image.csv").open()))
    assert [row["name"] for row in rows] == list(SIDES)
    values = [float(row["mean_dice"]) for row in rows]
    assert np.mean(values) == pytest.approx(found.masked.per_image["mean_dice"].value, abs=1e-6)
    assert all(int(row["ignored"]) > 1000 for row in rows)
    with Image.open(out / "confusion.png") as picture:
        assert min(picture.size) > 500
    assert "HSP-Net (AE, post-processed" in (out / "evaluation.md").read_text()


def test_the_papers_rows_stand_beside_its_test_part_alone(evaluated, mtchi, tmp_path) -> None:
    found, _, _ = evaluated
    assert len(found.paper) == 20
    (tmp_path / "Task2").mkdir()
    (tmp_path / "Task2/Training").symlink_to(mtchi / "Task2/Test")
    other = evaluate_source(MtchiSource(tmp_path, "Training"), colours(), CPU)
    assert other.paper == ()
    assert other.masked.pooled["mean_dice"].value == found.masked.pooled["mean_dice"].value


def test_progress_goes_forward_and_names_the_image(evaluated) -> None:
    _, _, told = evaluated
    assert told[0].doing == "reading labels"
    parts = [t.fraction for t in told if t.doing.startswith("evaluating")]
    assert parts == sorted(parts)
    assert parts[-1] == 1.0
    assert any(t.doing == "evaluating P2-1-A (3 of 3)" for t in told)
    assert all(t.remaining is not None for t in told if t.fraction > 0)


def test_ignored_background_leaves_masked_figures_alone(evaluated, mtchi) -> None:
    found, out, _ = evaluated
    options = EvaluateOptions(background="ignore", resamples=200)
    again = evaluate_source(MtchiSource(mtchi), out / "predictions", options)
    assert again.masked == found.masked
    assert again.unmasked is None
    assert again.counts[0].sum() == 0
    assert again.to_json()["figures"]["unmasked"] is None


def test_plain_and_post_processed_differ_and_are_recorded(evaluated, mtchi) -> None:
    model = tiny()
    documents = []
    for plain in (True, False):
        options = EvaluateOptions(stride=40, plain=plain, sigma=20, device="cpu", resamples=5)
        documents.append(evaluate_source(MtchiSource(mtchi), model, options).to_json())
    assert documents[0]["confusion"] != documents[1]["confusion"]
    assert documents[0]["settings"]["blend"] == "plain"
    assert documents[1]["settings"]["sigma"] == 20


def pairs(folder, masks, seed=0):
    rng = np.random.default_rng(seed)
    for name, mask in masks.items():
        mask = np.asarray(mask, np.uint8)
        save(folder / f"images/{name}.png", rng.integers(1, 256, (*mask.shape, 3), dtype=np.uint8))
        save(folder / f"masks/{name}.png", mask)
    return PairsSource(folder)


def quarters(side=140):
    mask = np.zeros((side, side), np.uint8)
    half = side // 2
    mask[:half, :half], mask[:half, half:], mask[half:, :half] = 1, 2, 4
    return mask


def answers(folder, masks):
    for name, mask in masks.items():
        save(folder / f"{name}.png", np.asarray(mask, np.uint8))
    return folder


def test_ignored_pixels_count_nowhere_and_skipped_ones_are_errors(tmp_path) -> None:
    truth = np.array([[1, 1, 255, 0], [4, 4, 255, 3]])
    said = np.array([[1, 253, 4, 254], [4, 255, 1, 3]])
    found = evaluate_source(
        pairs(tmp_path / "d", {"a": truth}), answers(tmp_path / "p", {"a": said})
    )
    (image,) = found.images
    assert image.ignored == 2
    assert image.counts.sum() == 6
    assert image.counts[1].tolist() == [1, 1, 0, 0, 0]
    assert image.counts[4].tolist() == [1, 0, 0, 0, 1]
    assert image.counts[0, 0] == 1
    assert found.masked.pooled["accuracy"].value == pytest.approx(3 / 5)


def test_one_image_has_no_interval_and_it_is_said(tmp_path) -> None:
    folder = answers(tmp_path / "p", {"a": quarters()})
    found = evaluate_source(pairs(tmp_path / "d", {"a": quarters()}), folder)
    assert found.masked.pooled["mean_dice"].value == 1.0
    assert found.to_json()["figures"]["masked"]["pooled"]["mean_dice"]["low"] is None
    assert any("no intervals" in note for note in found.notes)


def whole_slide(slide, model, stride):
    """What the engine says of all of a slide, on the model's grid."""
    said = np.full(LabelGrid.of(slide.info, model.card.mpp).shape, 255, np.uint8)

    class Sink:
        def write(self, block):
            height, width = block.classes.shape
            said[block.y : block.y + height, block.x : block.x + width] = block.classes

    settings = Settings(128, stride=stride, tissue_mask=False)
    segment(slide, model, Region.slide(), Sink(), settings=settings, device="cpu")
    return said


def at_centres(side, first, count, mpp, model_mpp):
    """Which rows (or columns) of the model's grid hold the centres of an image's."""
    return [min(int((first + i + 0.5) * mpp / model_mpp), side - 1) for i in range(count)]


@pytest.mark.parametrize("mpp", [0.5, 1.0, 1.6])
def test_images_are_read_at_the_models_resolution(tmp_path, mpp) -> None:
    """As the slide reader reads them; answers are judged at the images' own pixels."""
    source = PairsSource(pairs(tmp_path / "d", {"a": quarters(301)}).folder, mpp=mpp)
    out = tmp_path / "out"
    model = colours(mpp=1.0)
    found = evaluate_source(source, model, EvaluateOptions(stride=60, device="cpu", out=out))
    with open_slide(tmp_path / "d/images/a.png", mpp) as slide:
        said = whole_slide(slide, model, 60)
    rows = at_centres(said.shape[0], 0, 301, mpp, 1.0)
    written = np.array(Image.open(out / "predictions/a.png"))
    np.testing.assert_array_equal(written, said[np.ix_(rows, rows)])
    assert any("resampled" in note for note in found.notes) == (mpp != 1.0)


@pytest.mark.parametrize("mpp", [1.0, 0.5, 1.7, 8.0])
@pytest.mark.parametrize("box", [(0, 0, 40, 50), (-30, -20, 90, 100), (500, 10, 100, 60)])
def test_an_image_is_read_as_its_file_would_be_as_a_slide(tmp_path, mpp, box) -> None:
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (620, 90, 3), dtype=np.uint8)
    save(tmp_path / "x.png", rgb)
    mine = ImageSlide(ArrayImage("x", "x", rgb, np.zeros((620, 90), np.uint8)), tmp_path)
    with open_slide(tmp_path / "x.png", 1.0) as slide:
        np.testing.assert_array_equal(mine.read_grid(*box, mpp), slide.read_grid(*box, mpp))


@pytest.mark.parametrize("mpp", [1.0, 1.97])
def test_regions_of_a_case_are_seen_with_what_lies_around(tmp_path, mpp) -> None:
    model = colours(mpp)
    with made_case(tmp_path) as (case, _, slide):
        source = CasesSource((case.folder,), (slide.info.path,))
        out = tmp_path / "out"
        options = EvaluateOptions(stride=100, device="cpu", resamples=20, out=out)
        found = evaluate_source(source, model, options)
        whole = whole_slide(slide, model, 100)
        with opened(source) as data:
            for subject, image in zip(data.subjects, found.images, strict=True):
                y, x = subject.origin
                rows = at_centres(whole.shape[0], y, image.height, 1.0, mpp)
                columns = at_centres(whole.shape[1], x, image.width, 1.0, mpp)
                written = np.array(Image.open(out / f"predictions/{image.name}.png"))
                np.testing.assert_array_equal(written, whole[np.ix_(rows, columns)])
                truth = subject.truth()
                wanted = np.bincount(truth[truth < 5], minlength=5)
                assert image.counts.sum(axis=1).tolist() == wanted.tolist()
    assert found.drawn.kind == "region", "one slide is one patient"
    assert any("favours the model" in note for note in found.notes)


def test_cases_need_their_slides_and_come_once(tmp_path) -> None:
    with pytest.raises(InputError, match="1 cases come with 0 slides"):
        CasesSource((tmp_path,), ())
    with made_case(tmp_path) as (case, _, slide):
        twice = CasesSource((case.folder,) * 2, (slide.info.path,) * 2)
        with pytest.raises(InputError, match="comes twice"):
            evaluate_source(twice, colours(), CPU)


def test_what_a_model_cannot_say_or_was_not_made_for_is_said(tmp_path) -> None:
    source = pairs(tmp_path, {"a": quarters()})
    found = evaluate_source(source, tiny(classes=4, synthetic=True), CPU)
    assert found.counts[:, 0].sum() == 0
    assert any("no background class" in note for note in found.notes)
    assert any("synthetic" in note for note in found.notes)


@pytest.mark.parametrize(
    ("masks", "said", "match"),
    [
        ({"a": quarters() + 5}, {"a": quarters()}, "stands for no class"),
        ({"a": quarters() * 0}, {"a": quarters()}, "No pixel of any image is annotated"),
        ({"a": quarters() * 0 + 255}, {"a": quarters()}, "No pixel of any image is annotated"),
        ({"a": quarters(), "b": quarters()}, {"b": quarters()}, "no prediction for a"),
        ({"a": quarters()}, {"a": quarters()[:-1]}, "140 x 139 px, its image 140 x 140"),
        ({"a": quarters()}, {"a": quarters() + 60}, "holds 60, 61, 62, 64"),
        ({"a": quarters()}, {"a": np.zeros((140, 140, 3))}, "no index image"),
        ({}, {}, "no image"),
    ],
)
def test_bad_labels_and_bad_predictions_are_refused(tmp_path, masks, said, match) -> None:
    (tmp_path / "d/images").mkdir(parents=True)
    (tmp_path / "d/masks").mkdir()
    source = pairs(tmp_path / "d", masks)
    folder = answers(tmp_path / "p", said)
    out = tmp_path / "new" / "out"
    folder.mkdir(exist_ok=True)
    with pytest.raises(InputError, match=match):
        evaluate_source(source, folder, EvaluateOptions(out=out))
    assert not (tmp_path / "new").exists()


def test_a_mask_of_another_size_than_its_picture_is_refused(tmp_path) -> None:
    source = pairs(tmp_path, {"a": quarters()})
    save(tmp_path / "masks/a.png", quarters(120))
    with pytest.raises(InputError, match="120 x 120 px, its picture 140 x 140"):
        evaluate_source(source, tiny(), CPU)


def test_bad_masks_are_found_before_the_network_runs(tmp_path, monkeypatch) -> None:
    source = pairs(tmp_path, {"a": quarters(), "z": quarters() + 5})
    monkeypatch.setattr(job.NetworkAnswers, "predict", lambda *_: pytest.fail("it ran"))
    with pytest.raises(InputError, match="labels of z"):
        evaluate_source(source, tiny(), CPU)


def test_images_too_coarse_for_the_model_are_refused(tmp_path) -> None:
    source = PairsSource(pairs(tmp_path, {"a": quarters()}).folder, mpp=4.0)
    with pytest.raises(ResolutionError, match=r"images/a\.png"):
        evaluate_source(source, tiny(), CPU)


def test_damaged_predictions_and_absent_folders_are_refused(tmp_path) -> None:
    source = pairs(tmp_path / "d", {"a": quarters()})
    with pytest.raises(InputError, match="no such folder"):
        evaluate_source(source, tmp_path / "absent")
    folder = answers(tmp_path / "p", {"a": quarters()})
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:60])
    with pytest.raises(InputError, match="cannot be read"):
        evaluate_source(source, folder)


def test_predictions_are_found_under_the_names_that_others_give(tmp_path) -> None:
    truth = quarters()
    for name in ("a", "b", "c_mask"):
        save(tmp_path / f"d/Task2/Test/Img/Crop_{name}.png", np.dstack([truth + 9] * 3))
        save(tmp_path / f"d/Task2/Test/Truth/Mask_{name}.png", truth)
    said = answers(tmp_path / "p", dict.fromkeys(("Crop_a", "b_mask", "c_mask", "z"), truth))
    found = evaluate_source(MtchiSource(tmp_path / "d"), said)
    assert found.masked.pooled["mean_dice"].value == 1.0
    assert any("left out: 1" in note for note in found.notes)


def test_an_earlier_evaluation_is_replaced_only_when_said_and_nothing_else_ever(tmp_path) -> None:
    source = pairs(tmp_path / "d", {"a": quarters()})
    folder = answers(tmp_path / "p", {"a": quarters()})
    out = tmp_path / "out"
    evaluate_source(source, folder, EvaluateOptions(out=out))
    before = hashlib.sha256((out / "evaluation.json").read_bytes()).hexdigest()
    with pytest.raises(OutputError, match="exists already"):
        evaluate_source(source, folder, EvaluateOptions(out=out))
    (out / "old.txt").write_text("x")
    evaluate_source(source, folder, EvaluateOptions(out=out, overwrite=True))
    assert not (out / "old.txt").exists()
    after = hashlib.sha256((out / "evaluation.json").read_bytes()).hexdigest()
    assert after == before, "the same answers give the same bytes"
    with pytest.raises(OutputError, match="no earlier export"):
        evaluate_source(source, folder, EvaluateOptions(out=folder, overwrite=True))
    assert (folder / "a.png").exists()


class Slow(Colours):
    """Long enough to be stopped."""

    def __init__(self, begun: threading.Event) -> None:
        super().__init__()
        self._begun = begun

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._begun.set()
        time.sleep(0.2)
        return super().forward(x)


def test_a_cancelled_evaluation_ends_soon_and_leaves_nothing(mtchi, tmp_path) -> None:
    begun, cancel, stopped = threading.Event(), threading.Event(), []
    model = LoadedModel(Slow(begun), colours().card, "0" * 64)

    def stop():
        begun.wait(30)
        stopped.append(time.monotonic())
        cancel.set()

    thread = threading.Thread(target=stop)
    thread.start()
    options = EvaluateOptions(stride=10, device="cpu", out=tmp_path / "new/out")
    with pytest.raises(CancelledError):
        evaluate_source(MtchiSource(mtchi), model, options, None, cancel)
    ended = time.monotonic()
    thread.join()
    # 3,000 windows of 0.2 s would take ten minutes.
    assert ended - stopped[0] < 20
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_evaluation_survives_one_that_fails(tmp_path) -> None:
    source = pairs(tmp_path / "d", {"a": quarters()})
    folder = answers(tmp_path / "p", {"a": quarters()})
    out = tmp_path / "out"
    evaluate_source(source, folder, EvaluateOptions(out=out))
    before = (out / "evaluation.json").read_bytes()
    save(tmp_path / "p/a.png", quarters() + 60)
    with pytest.raises(InputError):
        evaluate_source(source, folder, EvaluateOptions(out=out, overwrite=True))
    assert (out / "evaluation.json").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "out", "p"]
