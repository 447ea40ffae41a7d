"""One file says everything; what is wrong in it is named with its place."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_hspnet.errors import InputError
from napari_hspnet.networks import Architecture, window_aware
from napari_hspnet.training import PAPER_RECIPE
from napari_hspnet.training.config import (
    AugmentConfig,
    CaseEntry,
    DataConfig,
    MachineConfig,
    NetworkConfig,
    PatchConfig,
    RecipeConfig,
    SeedConfig,
    TrainConfig,
    ValidationConfig,
    example_config,
    parse_config,
    read_config,
)
from napari_hspnet.training.loss_terms import LossTerm

PHANTOM = '[data]\nkind = "phantom"\n'


def test_the_example_is_the_papers_recipe_and_explains_every_key() -> None:
    text = example_config().to_toml(comments=True)
    assert parse_config(text) == example_config()
    assert "Research use only" in text
    config = parse_config(text)
    assert config.optimisation == PAPER_RECIPE
    assert (config.patches.side, config.patches.stride) == (400, 100)
    assert config.patches.min_foreground == 0.2
    assert (config.recipe.batch, config.recipe.epochs) == (16, 30)
    assert config.architecture == Architecture(encoder="resnet34")
    assert config.data.background == "ignore"
    lines = text.splitlines()
    keys = [i for i, line in enumerate(lines) if " = " in line and not line.startswith("#")]
    own = [i for i in keys if not lines[i].startswith(("format", "name", "weight", "options"))]
    assert len(own) > 35
    assert all(lines[i - 1].startswith("#") for i in own)


def test_what_is_left_out_has_its_default() -> None:
    config = parse_config('[data]\nkind = "mtchi"\nfolder = "path/to/MTCHI"\n')
    assert config == example_config()
    assert config.digest == example_config().digest


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
configs = st.builds(
    TrainConfig,
    data=st.one_of(
        st.builds(DataConfig, kind=st.just("phantom"), fields=st.integers(1, 99)),
        st.builds(
            DataConfig,
            kind=st.just("pairs"),
            folder=texts.filter(bool),
            mpp=st.floats(0, 10),
            background=st.sampled_from(["ignore", "class"]),
        ),
        st.builds(
            DataConfig,
            kind=st.just("cases"),
            cases=st.lists(
                st.builds(CaseEntry, case=texts, slide=texts, patient=texts), min_size=1, max_size=3
            ).map(tuple),
            only_reviewed=st.booleans(),
        ),
    ),
    network=st.builds(
        NetworkConfig,
        preset=st.sampled_from(["paper-resnet34", "paper-resnet101", "window-aware"]),
        encoder_weights=st.just("none"),
        start=texts,
        mean=st.tuples(*[st.floats(0, 1)] * 3),
        architecture=st.sampled_from(
            [{}, {"num_classes": 4}, {"ds_blocks": [True, False, True, False, True]}]
        ),
    ),
    patches=st.builds(PatchConfig, stride=st.integers(1, 400)),
    recipe=st.builds(
        RecipeConfig,
        learning_rate=st.floats(1e-12, 10),
        clip=st.floats(0, 1e6),
        micro_batch=st.sampled_from([0, 2, 16]),
    ),
    loss=st.lists(
        st.sampled_from([LossTerm("ce"), LossTerm("focal", 0.5, {"gamma": 1.5})]), min_size=1
    ).map(tuple),
    machine=st.builds(MachineConfig, device=texts),
    name=texts.filter(str.strip),
)


@given(configs, st.booleans())
def test_every_config_comes_back_from_its_file(config: TrainConfig, comments: bool) -> None:
    back = parse_config(config.to_toml(comments))
    assert back.to_json() == config.to_json()
    assert back.digest == config.digest


def test_the_hash_follows_what_decides_the_result_alone() -> None:
    config = TrainConfig(DataConfig("phantom"))
    machine = MachineConfig("cpu", 0, 1, 3.0)
    assert dataclasses.replace(config, machine=machine).digest == config.digest
    others = [
        dataclasses.replace(config, **{key: value})
        for key, value in {
            "data": DataConfig("phantom", fields=9),
            "validation": ValidationConfig(fields=3),
            "network": NetworkConfig(preset="paper-resnet101"),
            "patches": PatchConfig(stride=50),
            "recipe": RecipeConfig(momentum=0.8),
            "augment": AugmentConfig(orient=False),
            "seeds": SeedConfig(patches=1),
            "loss": (LossTerm("ae_r"),),
            "name": "other",
        }.items()
    ]
    assert len({config.digest, *(other.digest for other in others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[dat]\n", r"dat is unknown.*Did you mean data\?"),
        (PHANTOM + "[patches]\nsied = 400\n", r"\[patches\] sied is unknown.*mean side\?"),
        (PHANTOM + "[patches]\nside = 12\n", r"\[patches\] side is 12.*from 64 to 4096"),
        (PHANTOM + '[patches]\nside = "400"\n', r"\[patches\] side is \"400\".*whole number"),
        (PHANTOM + "[patches]\nside = 400.0\n", r"\[patches\] side is 400.0.*whole number"),
        (PHANTOM + "[patches]\nside = true\n", r"\[patches\] side is true.*whole number"),
        (PHANTOM + "[recipe]\nbatch = 1\n", r"\[recipe\] batch is 1\b.*from 2"),
        (PHANTOM + "[recipe]\nmicro_batch = 1\n", r"\[recipe\] micro_batch is 1.*two patches"),
        (PHANTOM + "[recipe]\nmicro_batch = 32\n", r"micro_batch is 32.*16 at most"),
        (PHANTOM + "[recipe]\nlearning_rate = nan\n", r"learning_rate is nan.*above 0"),
        (PHANTOM + "[recipe]\nlearning_rate = 0\n", r"learning_rate is 0.0.*above 0"),
        (PHANTOM + '[recipe]\nprecision = "half"\n', r"\[recipe\] precision.*\"bfloat16\""),
        (PHANTOM + "[augment]\norient = 1\n", r"\[augment\] orient is 1.*true or false"),
        (PHANTOM + "[network]\nmean = [0.5, 0.5]\n", r"\[network\] mean.*list of 3 numbers"),
        (PHANTOM + '[network]\npreset = "big"\n', r"\[network\] preset.*\"paper-resnet34\""),
        (PHANTOM + "[network.architecture]\nwidth = 3\n", r"\[network.architecture\] width"),
        (PHANTOM + "[network.architecture]\nnum_classes = 3\n", r"\[network\] num_classes is 3"),
        (PHANTOM + '[network]\nstart = "a.safetensors"\n', "start and encoder_weights"),
        (PHANTOM + '[network]\npreset = "demo"\n', "none for the encoder small"),
        (PHANTOM + "[seeds]\ninit = -1\n", r"\[seeds\] init is -1"),
        (PHANTOM + '[[loss]]\nname = "ce"\n[[loss]]\nname = "best"\n', r"number 2.*'best'"),
        (PHANTOM + '[[loss]]\nname = "ce"\noptions = { gamma = 1 }\n', "number 1.*gamma"),
        (PHANTOM + 'loss = "ce"\n', r"\[data\] loss is unknown"),
        ('loss = "ce"\n' + PHANTOM, r"\[\[loss\]\]"),
        ("loss = []\n" + PHANTOM, r"no \[\[loss\]\]"),
        ("patches = 3\n" + PHANTOM, r"Write it as \[patches\]"),
        ("format = 2\n" + PHANTOM, "format is of a version"),
        ("name = 3\n" + PHANTOM, "name is 3"),
        ("", r"no \[data\]"),
        ('[data]\nbackground = "class"\n', r"\[data\] kind is missing"),
        ('[data]\nkind = "mtchi"\n', r"\[data\] folder is empty"),
        ('[data]\nkind = "cases"\n', r"\[data\] cases is empty"),
        ('[data]\nkind = "cases"\ncases = [{ case = "a" }]\n', r"\[data.cases\] slide is missing"),
        (PHANTOM + 'folder = "x"\n', r"folder says nothing about the kind phantom"),
        (PHANTOM + "[validation]\nshare = 0.2\n", "share says nothing about the kind phantom"),
        (PHANTOM + "[validation]\nstride = 500\n", "stride is 500.*400 at most"),
        (PHANTOM + "x = \n", r"no TOML.*line 3"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(text)
    assert re.search(said, str(caught.value)), str(caught.value)


def test_presets_and_their_changes() -> None:
    def of(**values) -> Architecture:
        return TrainConfig(DataConfig("phantom"), network=NetworkConfig(**values)).architecture

    assert of(preset="paper-resnet101").encoder == "resnet101"
    assert of(preset="window-aware") == window_aware(Architecture(), 400)
    wide = of(preset="window-aware", architecture={"encoder": "resnet101"})
    assert wide == window_aware(Architecture(encoder="resnet101"), 400)
    unet = of(architecture={"name": "unet", "num_classes": 4})
    assert (unet.name, unet.encoder, unet.num_classes) == ("unet", "resnet34", 4)
    with pytest.raises(InputError, match="contradicts"):
        of(preset="window-aware", architecture={"ds_dilations": [[1, 2, 3]] * 5})


def test_a_file_that_cannot_be_read_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"none\.toml"):
        read_config(tmp_path / "none.toml")
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"bad\.toml"):
        read_config(path)
    path.write_text(PHANTOM + "[patches]\nside = 1\n")
    with pytest.raises(InputError, match=r"side is 1 .*bad\.toml"):
        read_config(path)
