"""Regions of a case as images to learn from."""

from __future__ import annotations

import numpy as np
import pytest

from exchange.slide_case import made_case, paint
from napari_hspnet.errors import CaseMismatchError, InputError
from napari_hspnet.slides import open_slide
from napari_hspnet.training.data import PatchReader, open_case_regions, patch_index

from slide_files import noise, write_generic_tiff


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with made_case(tmp_path_factory.mktemp("case")) as made:
        yield made


def opened(made, *arguments, **options):
    return open_case_regions(made[0].folder, made[2], *arguments, **options)


def test_reviewed_regions_are_read_at_the_label_grid(made) -> None:
    _, snapshot, slide = made
    with opened(made) as found:
        assert [image.region.id for image in found.images] == [1, 2]
        for image in found.images:
            box = image.region.box
            assert (image.height, image.width, image.mpp) == (box.height, box.width, 1.0)
            assert image.patient == snapshot.slide.fingerprint
            rgb, labels = image.read(2, 3, image.height - 5, image.width - 4)
            at = box.y0 + 2, box.x0 + 3, *labels.shape
            np.testing.assert_array_equal(rgb, slide.read_grid(*at, 1.0))
            whole = image.read_labels(0, 0, image.height, image.width)
            np.testing.assert_array_equal(labels, whole[2:-3, 3:-1])
            wanted = snapshot.composite.read(box.y0, box.x0, box.height, box.width)
            wanted[(wanted > 4) | ~snapshot.selection(image.region.id).read(box)] = 255
            np.testing.assert_array_equal(whole, wanted)
        first = found.images[0]
        triangle = first.read_labels(0, 0, first.height, first.width)
        assert (triangle == 255).mean() > 0.4
        assert (triangle == 4).sum() == 2000, "what a reader corrected counts"


def test_what_was_left_out_and_assumed_is_said(made) -> None:
    with opened(made) as found:
        assert any("left out: 1" in note for note in found.notes)
        assert any("No patient was named" in note for note in found.notes)
    with opened(made, patient="P1") as found:
        assert found.patients == ("P1",)
        assert not any("patient" in note for note in found.notes)


def test_others_only_when_asked_for(made) -> None:
    with opened(made, only_reviewed=False) as found:
        assert [image.region.id for image in found.images] == [1, 2, 4]
    with opened(made, regions=[3]) as found:
        assert [image.region.id for image in found.images] == [3]
    with pytest.raises(InputError, match="no region 9"):
        opened(made, regions=[9])


def test_later_corrections_do_not_change_what_was_opened(made) -> None:
    case, _, _ = made
    with opened(made, regions=[4]) as found:
        image = found.images[0]
        before = image.read_labels(0, 0, image.height, image.width)
        paint(case, 605, 5, 10, 10, 2, "Dr. C")
        np.testing.assert_array_equal(before, image.read_labels(0, 0, image.height, image.width))
    with opened(made, regions=[4]) as found:
        image = found.images[0]
        assert (image.read_labels(0, 0, image.height, image.width) == 2).sum() == 100


def test_threads_read_a_case_alike(made) -> None:
    with opened(made) as found:
        reader = PatchReader(found.images, patch_index(found.images, 32, 16), batch=4)
        alone = [b.labels.tobytes() + b.rgb.tobytes() for b in reader.stream(0, 6, workers=0)]
        several = [b.labels.tobytes() + b.rgb.tobytes() for b in reader.stream(0, 6, workers=4)]
    assert alone == several


def test_nothing_reviewed_or_another_slide_is_refused(tmp_path) -> None:
    with made_case(tmp_path) as made:
        case, _, _ = made
        case.review.set_state([1, 2, 3], "in progress", "A")
        with pytest.raises(InputError, match="nothing to train on"):
            opened(made)
        full = noise(64, 64, 9)
        path = write_generic_tiff(tmp_path / "other.tiff", [full], 0.5)
        with open_slide(path) as other, pytest.raises(CaseMismatchError):
            open_case_regions(case.folder, other)
