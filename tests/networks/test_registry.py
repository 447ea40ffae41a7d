"""The registry of models: nothing that was decided is lost, and what is wrong is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch

from napari_hspnet.errors import CheckpointError, InputError, OutputError
from napari_hspnet.networks import (
    Architecture,
    ModelCard,
    build,
    install_checkpoint,
    known_models,
    save_checkpoint,
)
from napari_hspnet.networks import registry as registry_module
from napari_hspnet.networks.registry import Registry
from napari_hspnet.networks.shelf import DamagedEntryError

TINY = Architecture(
    encoder="small", ds_widths=(2,) * 5, head_widths=(2, 2), encoder_widths=(2, 2, 2, 2)
)
CARD = ModelCard("tiny", TINY, metrics={"mean_dice": 0.5}, synthetic=True)
ANN, BEN = "Dr. Ann", "Dr. Ben"


@pytest.fixture(autouse=True)
def no_demo(monkeypatch):
    def absent():
        raise CheckpointError("none", advice="none")

    monkeypatch.setattr(registry_module, "demo_model_path", absent)


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(TINY).eval()


@pytest.fixture
def make(network, tmp_path):
    """Write a checkpoint outside the registry; its card makes its hash its own."""

    def run(name, **fields):
        path = tmp_path / "made" / f"{name}.safetensors"
        return path, save_checkpoint(path, network, replace(CARD, name=name, **fields))

    return run


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def registry(folder):
    return Registry(folder)


@pytest.fixture
def added(registry, make):
    def run(name, state="candidate", **fields):
        path, _ = make(name, **fields)
        return registry.add(path, state, ANN)

    return run


def entry_file(folder, sha256):
    return folder / f"{sha256}.model.json"


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# ---- what is kept ----


def test_an_empty_registry_has_nothing_and_makes_no_folder(registry, folder) -> None:
    assert registry.entries() == ()
    assert registry.in_use() is None
    assert registry.history() == ()
    assert not folder.exists()


def test_a_model_is_added_decided_upon_and_used_and_another_registry_knows(
    registry, make, folder
) -> None:
    path, sha256 = make("first", parent="ab" * 32)
    record = registry.add(path, "candidate", ANN, "from the ward")
    assert (record.sha256, record.state, record.in_use) == (sha256, "candidate", False)
    assert record.path.read_bytes() == path.read_bytes()
    registry.decide(sha256, True, BEN, "better", {"held_back": {"mean_dice": 0.7}})
    registry.use(sha256, ANN)

    record = Registry(folder).in_use()
    assert (record.state, record.in_use, record.card.parent) == ("accepted", True, "ab" * 32)
    assert record.decision.figures == {"held_back": {"mean_dice": 0.7}}
    assert [(a.what, a.by, a.note) for a in Registry(folder).history()] == [
        ("added", ANN, "from the ward"),
        ("accepted", BEN, "better"),
        ("used", ANN, ""),
    ]
    assert [a.number for a in registry.history()] == [1, 2, 3]


def test_one_call_goes_back_to_an_earlier_model(registry, added) -> None:
    first, second = added("first"), added("second")
    registry.use(first.sha256, ANN)
    registry.use(second.sha256, ANN)
    assert registry.in_use().sha256 == second.sha256
    registry.use(first.sha256, BEN)
    assert registry.in_use().sha256 == first.sha256
    assert [r.name for r in registry.entries() if r.in_use] == ["first"]
    used = [(a.sha256, a.by) for a in registry.history() if a.what == "used"]
    assert used == [(first.sha256, ANN), (second.sha256, ANN), (first.sha256, BEN)]


def test_a_refused_model_is_used_only_if_one_insists(registry, added) -> None:
    record = added("worse")
    registry.decide(record.sha256, False, BEN, "CIN3 was lost")
    with pytest.raises(InputError, match=r"refused by Dr\. Ben on .*CIN3 was lost"):
        registry.use(record.sha256, ANN)
    assert registry.in_use() is None
    assert registry.use(record.sha256, ANN, anyway=True).in_use
    assert registry.get(record.sha256).state == "refused"


def test_a_retired_model_comes_back_as_what_it_was(registry, added) -> None:
    record = added("old")
    registry.decide(record.sha256, True, ANN)
    assert registry.retire(record.sha256, ANN).state == "retired"
    assert registry.use(record.sha256, ANN).state == "accepted"


def test_the_model_in_use_is_neither_refused_nor_retired(registry, added) -> None:
    record = added("here")
    registry.use(record.sha256, ANN)
    with pytest.raises(InputError, match="in use"):
        registry.decide(record.sha256, False, ANN)
    with pytest.raises(InputError, match="in use"):
        registry.retire(record.sha256, ANN)
    assert registry.get(record.sha256).state == "candidate"


def test_adding_a_model_again_keeps_its_state_and_one_file(registry, make, folder) -> None:
    path, sha256 = make("twice")
    registry.add(path, "candidate", ANN)
    registry.decide(sha256, False, BEN)
    other = path.with_name("other.safetensors")
    path.rename(other)
    assert registry.add(other, "accepted", ANN).state == "refused"
    assert len(list(folder.glob("*.safetensors"))) == 1
    assert len(registry.entries()) == 1


def test_a_file_put_into_the_folder_is_a_candidate_and_can_be_used(registry, make, folder) -> None:
    path, sha256 = make("dropped")
    folder.mkdir()
    path.rename(folder / "by hand.safetensors")
    (record,) = registry.entries()
    assert (record.name, record.sha256, record.state, record.acts) == (
        "dropped",
        sha256,
        "candidate",
        (),
    )
    assert registry.find("by hand") == record
    assert registry.use(sha256, ANN).in_use
    assert [a.what for a in registry.history()] == ["added", "used"]


def test_a_file_may_be_renamed_by_hand(registry, added, folder) -> None:
    record = added("tiny")
    registry.decide(record.sha256, True, ANN)
    record.path.rename(folder / "renamed.safetensors")
    (found,) = registry.entries()
    assert (found.state, found.problem) == ("accepted", None)
    assert registry.check(record.sha256).name == "renamed.safetensors"


def test_the_list_of_models_for_the_window_shows_models_only(registry, added, folder) -> None:
    record = added("tiny")
    registry.use(record.sha256, ANN)
    assert [(e.title, e.path) for e in known_models(folder)] == [("tiny", record.path)]


def test_the_demo_model_can_be_used_and_is_not_copied(make, folder, monkeypatch) -> None:
    path, sha256 = make("demo")
    monkeypatch.setattr(registry_module, "demo_model_path", lambda: path)
    registry = Registry(folder)
    registry.use(sha256, ANN)
    (record,) = registry.entries()
    assert (record.built_in, record.in_use, record.path) == (True, True, path)
    assert list(folder.glob("*.safetensors")) == []


def test_another_demo_model_leaves_the_one_in_use_named_as_missing(
    make, folder, monkeypatch
) -> None:
    path, sha256 = make("demo")
    monkeypatch.setattr(registry_module, "demo_model_path", lambda: path)
    Registry(folder).use(sha256, ANN)
    newer, _ = make("newer demo")
    monkeypatch.setattr(registry_module, "demo_model_path", lambda: newer)
    record = Registry(folder).in_use()
    assert (record.sha256, record.name, record.path) == (sha256, "demo", None)
    assert "missing" in record.problem


# ---- finding ----


def test_a_model_is_found_by_name_and_by_hash(registry, added) -> None:
    first, second = added("first"), added("second")
    assert registry.find("first").sha256 == first.sha256
    assert registry.find(second.sha256[:6].upper()).sha256 == second.sha256
    assert registry.find(second.path.name).sha256 == second.sha256


def test_an_unknown_name_gets_the_names_that_are_near(registry, added) -> None:
    added("ward-3")
    with pytest.raises(InputError, match=r"called 'ward3'.*Choose one of ward-3"):
        registry.find("ward3")
    # Three digits are too few to mean a hash.
    with pytest.raises(InputError, match="no model"):
        registry.find(registry.find("ward-3").sha256[:3])


def test_an_ambiguous_name_is_refused_with_all_that_it_may_mean(registry, added) -> None:
    first, second = added("same", window=400), added("same", window=416)
    with pytest.raises(InputError) as caught:
        registry.find("same")
    for record in (first, second):
        assert record.label in str(caught.value)
    assert registry.find(first.sha256[:8]) == registry.get(first.sha256)


# ---- lineage ----


def test_the_line_of_parents_ends_at_the_first_model_or_names_a_missing_one(
    registry, added
) -> None:
    first = added("first")
    second = added("second", parent=first.sha256)
    third = added("third", parent=second.sha256)
    line = registry.lineage(third.sha256)
    assert [one.record.name for one in line] == ["third", "second", "first"]
    orphan = added("orphan", parent="cd" * 32)
    line = registry.lineage(orphan.sha256)
    assert [one.sha256 for one in line] == [orphan.sha256, "cd" * 32]
    assert line[1].record is None


# ---- damage ----


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: change(path, '"accepted"', '"refused"'),
        lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"format": 1, "checksum": 5}'),
    ],
)
def test_a_damaged_entry_says_so_and_the_others_still_list(
    damage, registry, make, added, folder
) -> None:
    path, sha256 = make("hurt")
    registry.add(path, "candidate", ANN)
    registry.decide(sha256, True, ANN)
    added("sound")
    damage(entry_file(folder, sha256))
    hurt, sound = registry.entries()
    assert (sound.name, sound.state, sound.problem) == ("sound", "candidate", None)
    # Its weights are sound, so its name is known.
    assert (hurt.name, hurt.state) == ("hurt", None)
    assert "damaged" in hurt.problem
    assert str(entry_file(folder, sha256)) in hurt.problem
    with pytest.raises(DamagedEntryError):
        registry.use(sha256, ANN)
    with pytest.raises(DamagedEntryError):
        registry.decide(sha256, True, ANN)
    # Importing makes it good and keeps what was there.
    again = registry.add(path, "candidate", ANN)
    assert (again.state, again.problem) == ("candidate", None)
    assert "damaged-1" in again.acts[0].note
    assert len(list(folder.glob("*.damaged-1"))) == 1


def test_an_entry_under_another_models_name_is_damaged(registry, added, folder) -> None:
    first, second = added("first"), added("second")
    entry_file(folder, second.sha256).write_bytes(entry_file(folder, first.sha256).read_bytes())
    found = {record.sha256: record for record in registry.entries()}
    assert found[first.sha256].problem is None
    assert "contradict" in found[second.sha256].problem


def test_an_entry_of_a_later_version_is_left_alone(registry, make, folder) -> None:
    path, sha256 = make("later")
    registry.add(path, "candidate", ANN)
    change(entry_file(folder, sha256), '"format": 1', '"format": 2')
    before = entry_file(folder, sha256).read_bytes()
    assert "Update napari-hspnet" in registry.get(sha256).problem
    with pytest.raises(CheckpointError, match="Update napari-hspnet"):
        registry.add(path, "candidate", ANN)
    assert entry_file(folder, sha256).read_bytes() == before


def test_a_damaged_note_of_the_model_in_use_is_not_guessed_at(registry, added, folder) -> None:
    first, second = added("first"), added("second")
    registry.use(first.sha256, ANN)
    (folder / "in-use.json").write_text("{")
    with pytest.raises(DamagedEntryError, match=r"models use"):
        registry.in_use()
    assert not any(record.in_use for record in registry.entries())
    registry.use(second.sha256, ANN)
    assert registry.in_use().sha256 == second.sha256
    assert (folder / "in-use.json.damaged-1").read_text() == "{"


def test_a_missing_file_is_told_and_can_be_put_back(registry, make) -> None:
    path, sha256 = make("gone")
    record = registry.add(path, "candidate", ANN)
    registry.decide(sha256, True, ANN)
    record.path.unlink()
    (found,) = registry.entries()
    assert (found.name, found.state, found.path) == ("gone", "accepted", None)
    assert "missing" in found.problem
    for act in (registry.check, lambda sha: registry.use(sha, ANN)):
        with pytest.raises(CheckpointError, match="missing"):
            act(sha256)
    # It can still be refused.
    assert registry.decide(sha256, False, BEN).state == "refused"
    back = registry.add(path, "candidate", ANN)
    assert (back.state, back.problem) == ("refused", None)


def test_a_file_that_is_another_one_by_now_is_told(registry, make, added) -> None:
    record = added("first")
    path, _ = make("second", trained_on="other")
    record.path.write_bytes(path.read_bytes())
    (found,) = registry.entries()
    assert found.path is None
    assert "no longer the one" in found.problem
    with pytest.raises(CheckpointError, match="no longer the one"):
        registry.use(record.sha256, ANN)


def test_bits_that_changed_in_secret_are_seen_before_a_model_is_used(registry, make) -> None:
    path, sha256 = make("rotten")
    place = registry.add(path, "candidate", ANN).path
    kept, data = place.stat(), bytearray(place.read_bytes())
    data[-1] ^= 1
    place.write_bytes(data)
    os.utime(place, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    with pytest.raises(CheckpointError, match="no longer the one"):
        registry.use(sha256, ANN)
    with pytest.raises(CheckpointError, match="no longer the one"):
        registry.decide(sha256, True, ANN)
    registry.add(path, "candidate", ANN)
    assert registry.use(sha256, ANN).in_use


def test_a_broken_file_in_the_folder_lists_with_its_problem(registry, added, folder) -> None:
    added("sound")
    (folder / "bad.safetensors").write_bytes(b"no checkpoint")
    bad, sound = registry.entries()
    assert (bad.name, sound.problem) == ("bad", None)
    assert bad.problem is not None
    with pytest.raises(CheckpointError):
        registry.use(bad.sha256, ANN)
    with pytest.raises(CheckpointError):
        registry.decide(bad.sha256, True, ANN)
    assert not entry_file(folder, bad.sha256).exists()


def test_a_broken_file_is_not_added(registry, make, folder) -> None:
    path, _ = make("cut")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError):
        registry.add(path, "candidate", ANN)
    assert not folder.exists()


# ---- what people may give ----


def test_nobody_and_nonsense_are_refused(registry, make) -> None:
    path, sha256 = make("x")
    with pytest.raises(InputError, match="nobody"):
        registry.add(path, "candidate", "  ")
    with pytest.raises(InputError, match="state 'good'"):
        registry.add(path, "good", ANN)
    registry.add(path, "candidate", ANN)
    with pytest.raises(InputError, match="JSON"):
        registry.decide(sha256, True, ANN, figures={"dice": float("nan")})
    with pytest.raises(InputError, match="no model"):
        registry.use("ab" * 32, ANN)
    assert registry.get(sha256).state == "candidate"


def test_a_folder_that_cannot_be_written_to_is_told(make, tmp_path) -> None:
    path, _ = make("x")
    # Below a file nothing can be made, for root too.
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written to"):
        Registry(tmp_path / "file" / "models").add(path, "candidate", ANN)
    with pytest.raises(CheckpointError, match="folder of models cannot be read"):
        Registry(tmp_path / "file").entries()


def test_a_full_disk_leaves_everything_as_it_was(registry, added, folder, monkeypatch) -> None:
    record = added("first")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space"):
        registry.decide(record.sha256, True, ANN)
    with pytest.raises(OutputError, match="No space"):
        registry.use(record.sha256, ANN)
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# ---- several at once ----

HOLDER = """
import sys, fcntl
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the holder uses fcntl")
def test_another_process_that_does_not_get_done_is_told_and_reading_goes_on(added, folder) -> None:
    record = added("first")
    registry = Registry(folder, patience=0.1)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder / "registry.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OutputError, match="another process"):
            registry.use(record.sha256, ANN)
        assert registry.entries()[0].name == "first"
    finally:
        # The lock of a process that is killed is free.
        holder.kill()
        holder.communicate()
    assert registry.use(record.sha256, ANN).in_use


WRITER = """
import sys
from pathlib import Path
from napari_hspnet.networks.registry import Registry
registry = Registry(Path(sys.argv[1]), patience=120)
for number in range(6):
    registry.decide(sys.argv[2], number % 2 == 0, sys.argv[3], str(number))
    registry.retire(sys.argv[2], sys.argv[3])
"""


def test_two_processes_lose_none_of_their_acts(registry, added, folder) -> None:
    record = added("first")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(folder), record.sha256, name])
        for name in (ANN, BEN)
    ]
    assert [writer.wait(timeout=240) for writer in writers] == [0, 0]
    acts = registry.history()
    for name in (ANN, BEN):
        decided = [a.note for a in acts if a.by == name and a.what in ("accepted", "refused")]
        assert decided == [str(number) for number in range(6)]
    assert [a.number for a in acts] == list(range(1, len(acts) + 1))


def test_threads_lose_none_of_their_uses(added, folder) -> None:
    records = [added(name) for name in ("first", "second", "third")]

    def work(sha256):
        registry = Registry(folder, patience=60)
        for _ in range(4):
            registry.use(sha256, ANN)

    threads = [threading.Thread(target=work, args=(r.sha256,)) for r in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used = [a for a in Registry(folder).history() if a.what == "used"]
    assert len(used) == 12
    assert len({a.number for a in used}) == 12


def test_files_are_plain_json_that_others_can_read(registry, added, folder) -> None:
    record = added("über µm")
    text = entry_file(folder, record.sha256).read_text(encoding="utf-8")
    assert json.loads(text)["card"]["name"] == "über µm"
    assert "über µm" in text


def test_installing_a_file_the_old_way_still_makes_it_a_candidate(registry, make, folder) -> None:
    path, sha256 = make("old way")
    install_checkpoint(path, folder)
    assert registry.get(sha256).state == "candidate"
