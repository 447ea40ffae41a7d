"""The whole job against a phantom's truth, and what stays behind when it fails."""

from __future__ import annotations

import threading
from importlib import metadata

import numpy as np
import pytest

from napari_hspnet.cases import Case
from napari_hspnet.classes import NOT_RUN, SKIPPED
from napari_hspnet.errors import CancelledError, CaseError
from napari_hspnet.inference import Settings
from napari_hspnet.jobs.segment import segment_into_case
from napari_hspnet.networks import LoadedModel, ModelCard
from napari_hspnet.phantom import PhantomSpec, truth_block, write_phantom
from napari_hspnet.slides import LabelGrid, Region, open_slide

from oracle import oracle_model

SPEC = PhantomSpec(4301, 5203, seed=4, style="oracle")
HOW = Settings(stride=200)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    path = tmp_path_factory.mktemp("phantom") / "oracle.tiff"
    write_phantom(path, SPEC)
    with open_slide(path) as slide:
        grid = LabelGrid.of(slide.info)
        yield slide, grid, truth_block(SPEC, 0, 0, *grid.shape)


@pytest.fixture
def case(phantom, tmp_path):
    slide, grid, _ = phantom
    with Case.open_or_create(tmp_path / "c.hspnet", slide.info, grid) as case:
        yield case


def labels(case, grid):
    return case.composite().read(0, 0, *grid.shape)


REGIONS = {
    "whole slide": Region.slide(),
    "view": Region.rectangle(201.5, 333.3, 400, 550),
    "rotated shape": Region.shapes([[(500, 200), (850, 500), (600, 900), (250, 600)]]),
}


@pytest.fixture(scope="module")
def overlays(phantom, tmp_path_factory):
    """By region: the run's own labels, and the composite of all runs up to it."""
    slide, grid, _ = phantom
    found = {}
    with Case.open_or_create(
        tmp_path_factory.mktemp("case") / "all.hspnet", slide.info, grid
    ) as case:
        for name, region in REGIONS.items():
            run = segment_into_case(
                slide, oracle_model(), region, case, settings=HOW, device="cpu"
            ).run
            together = labels(case, grid)
            case.set_active([run.id])
            found[name] = labels(case, grid), together
            case.set_active([r.id for r in case.runs])
    return found


@pytest.mark.parametrize("name", REGIONS)
def test_the_overlay_is_the_truth(phantom, overlays, name):
    _, grid, truth = phantom
    assert set(np.unique(truth)) == {0, 1, 2, 3, 4}
    region, (found, _) = REGIONS[name], overlays[name]
    box = region.box(grid)
    inside = np.zeros(grid.shape, bool)
    mask = region.mask(box, grid)
    inside[box.y0 : box.y1, box.x0 : box.x1] = True if mask is None else mask
    assert (found[~inside] == NOT_RUN).all()
    asked = found[inside]
    assert not (asked == NOT_RUN).any()
    # What no window reached is glass; elsewhere only the slide's last, partly
    # covered row and column may differ.
    assert (truth[inside][asked == SKIPPED] == 0).all()
    wrong = (found != truth) & inside & (found != SKIPPED)
    edge = np.zeros(grid.shape, bool)
    edge[-1:], edge[:, -1:] = True, True
    assert wrong[~edge].sum() == 0
    assert wrong.sum() <= edge.sum() * 0.2


def test_view_shape_and_slide_agree_on_shared_pixels(overlays):
    whole, _ = overlays["whole slide"]
    for own, together in overlays.values():
        shared = own != NOT_RUN
        assert shared.sum() > 100_000
        assert np.array_equal(own[shared], whole[shared])
        # All runs are active: had a later one disagreed, the composite would change.
        assert np.array_equal(together, whole)


def test_the_record_says_which_model_said_it(phantom, case):
    slide, _, _ = phantom
    region = REGIONS["view"]
    run = segment_into_case(slide, oracle_model(), region, case, settings=HOW, device="cpu").run
    record = run.record
    assert record.model_sha256 == "0" * 64
    assert record.settings["stride"] == 200
    assert record.settings["sigma"] == 50.0
    assert Region.from_dict(record.region) == region
    assert record.slide_fingerprint == slide.info.fingerprint
    assert record.versions["torch"] == metadata.version("torch")
    assert record.device.startswith("cpu")
    assert record.synthetic


def test_a_cancelled_run_leaves_the_case_as_it_was(phantom, case):
    slide, grid, _ = phantom
    segment_into_case(slide, oracle_model(), REGIONS["view"], case, settings=HOW, device="cpu")
    before, files = labels(case, grid), sorted(p.name for p in (case.folder / "runs").iterdir())
    cancel = threading.Event()

    def stop(progress):
        if progress.done >= 3:
            cancel.set()

    with pytest.raises(CancelledError):
        segment_into_case(
            slide,
            oracle_model(),
            Region.slide(),
            case,
            settings=HOW,
            device="cpu",
            progress=stop,
            cancel=cancel,
        )
    assert np.array_equal(before, labels(case, grid))
    assert sorted(p.name for p in (case.folder / "runs").iterdir()) == files
    assert len(case.runs) == 1


def test_a_model_of_another_resolution_is_refused(phantom, case):
    slide, _, _ = phantom
    oracle = oracle_model()
    half = LoadedModel(oracle.network, ModelCard(name="half", mpp=0.5), "0" * 64, None)
    with pytest.raises(CaseError, match=r"1 µm per pixel, the model gives 0\.5"):
        segment_into_case(slide, half, Region.slide(), case, device="cpu")
