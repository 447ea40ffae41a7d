"""Every domain looks other than A, in the direction that its title says."""

import numpy as np
import pytest

from napari_hspnet.errors import InputError
from napari_hspnet.phantom import DOMAINS, domain, domain_field

SEEDS = (1, 2)


@pytest.fixture(scope="module")
def looks():
    """(mean RGB of tissue, sharpness, mean of glass) of every domain."""
    found = {}
    for name in DOMAINS:
        colour, sharp, glass = [], [], []
        for seed in SEEDS:
            field = domain_field(seed, 300, 300, 0.5, (2, 4), name, artefacts=False)
            rgb = field.rgb.astype(float)
            tissue = field.truth > 0
            colour.append(rgb[tissue].mean(axis=0))
            grey = rgb.mean(axis=2)
            fine = np.abs(np.diff(grey, axis=1))[tissue[:, 1:]].mean()
            sharp.append(fine / grey[tissue].std())
            glass.append(np.percentile(rgb, 99, axis=(0, 1)))
        found[name] = np.mean(colour, 0), np.mean(sharp), np.mean(glass, 0)
    return found


def test_there_are_six(looks):
    assert list(DOMAINS) == list("ABCDEF")
    assert DOMAINS["A"].title == "standard"
    with pytest.raises(InputError, match="no phantom domain 'G'"):
        domain("G")


def test_pale_is_lighter(looks):
    assert (looks["B"][0] > looks["A"][0] + 12).all()


def test_blue_is_bluer_and_blurred(looks):
    blue = [looks[d][0][2] - looks[d][0][0] for d in "CA"]
    assert blue[0] > blue[1] + 12
    assert looks["C"][1] < 0.8 * looks["A"][1]
    assert DOMAINS["C"].scanner.noise > 2 * DOMAINS["A"].scanner.noise
    assert DOMAINS["C"].scanner.quality < DOMAINS["A"].scanner.quality


def test_faded_pink_is_redder_and_lighter(looks):
    red = [looks[d][0][0] - looks[d][0][2] for d in "DA"]
    assert red[0] > red[1] + 10
    assert looks["D"][0].mean() > looks["A"][0].mean() + 8


def test_dirty_has_more_of_every_artefact():
    for name, rate in vars(DOMAINS["E"].rates).items():
        assert rate > 3 * getattr(DOMAINS["A"].rates, name)


def test_sharpened_is_sharper_and_darker(looks):
    assert looks["F"][1] > 1.15 * looks["A"][1]
    assert looks["F"][0].mean() < looks["A"][0].mean() - 5
