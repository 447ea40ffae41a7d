"""Both parts of MTCHI together, and phantoms that are laid out like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.mtchi_files import TEST, TRAINING, quick_config, write_mtchi
from napari_hspnet.errors import InputError
from napari_hspnet.jobs.evaluation_data import ChosenSource, MtchiSource, opened
from napari_hspnet.jobs.train_data import open_data
from napari_hspnet.training.config import DataConfig
from napari_hspnet.training.data import PHANTOM_MARK, open_mtchi, open_mtchi_whole, synthetic_origin


def test_the_whole_is_both_parts(tmp_path) -> None:
    folder = write_mtchi(tmp_path)
    found = open_mtchi_whole(folder)
    assert [image.name for image in found.images] == sorted((*TRAINING, *TEST))
    assert {note.split(":")[0] for note in found.notes} == {"Training", "Test"}
    both = quick_config(DataConfig("mtchi", folder=str(folder), part="both"))
    with open_data(both, Path()) as data:
        assert len(data.train) == len(TRAINING) + len(TEST)
        assert data.words == "MTCHI, Task 2, both parts"
        assert not data.synthetic


def test_chosen_patients_alone_are_evaluated(tmp_path) -> None:
    source = MtchiSource(write_mtchi(tmp_path), "both")
    with opened(ChosenSource(source, ("T1", "B5"))) as data:
        assert [s.image.name for s in data.subjects] == ["B5-1-A", "B5-2-A", "T1-1-A", "T1-2-A"]
    with pytest.raises(InputError, match="no image of Q7"), opened(ChosenSource(source, ("Q7",))):
        pass


@pytest.mark.parametrize("inside", [True, False])
def test_phantoms_are_known_by_their_mark(tmp_path, inside: bool) -> None:
    folder = write_mtchi(tmp_path)
    assert synthetic_origin(folder) is None
    mark = folder / "Task2" / PHANTOM_MARK
    mark.write_text('{"phantom_version": 1}')
    named = folder / "Task2" if inside else folder
    assert synthetic_origin(named) == {"phantom_version": 1}
    assert any("synthetic" in note for note in open_mtchi(named).notes)
    assert not any("paper" in note for note in open_mtchi(named).notes)
    with opened(MtchiSource(named)) as data:
        assert data.synthetic
    mark.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        synthetic_origin(folder)
