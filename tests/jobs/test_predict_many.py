"""Many slides on a real cluster of processes: none lost, none done twice."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from napari_hspnet.cases import Case
from napari_hspnet.errors import CancelledError, InputError, OutputError
from napari_hspnet.jobs import predict_many as many
from napari_hspnet.jobs.crew import Crew
from napari_hspnet.jobs.manifest import BEGUN, DONE, FAILED, MANIFEST, STOPPED, Manifest
from napari_hspnet.jobs.predict import PredictOptions, predict
from napari_hspnet.networks import Architecture, ModelCard, build, load_checkpoint, save_checkpoint

from slide_files import noise, write_generic_tiff

pytest.importorskip("distributed")

SLIDES = 5


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    shape = Architecture(
        encoder="small", ds_widths=(4,) * 5, head_widths=(4, 4), encoder_widths=(4, 4, 8, 8)
    )
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, build(shape), ModelCard("tiny", shape, window=128))
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    return [
        write_generic_tiff(folder / f"s{n}.tiff", [noise(600, 500, n)], 1.0) for n in range(SLIDES)
    ]


@pytest.fixture
def options(tmp_path):
    return PredictOptions(
        out=tmp_path / "out",
        formats=("ome-tiff",),
        stride=64,
        tissue_mask=False,
        device="cpu",
    )


@pytest.fixture(scope="module")
def alone(slides, model, tmp_path_factory):
    """Masks and figures of each slide, predicted by itself."""
    out = tmp_path_factory.mktemp("alone")
    how = PredictOptions(out=out, formats=("ome-tiff",), stride=64, tissue_mask=False, device="cpu")
    return {p.name: predict(p, model, how) for p in slides}


def lines(out):
    return [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()[1:]]


def check_whole(result, slides, alone, out):
    """Every slide is done once, and as it is alone."""
    assert [e.slide for e in result.entries] == [str(p) for p in slides]
    assert {e.state for e in result.entries} == {DONE}
    ended = [line for line in lines(out) if line["state"] == DONE]
    assert sorted(line["slide"] for line in ended) == sorted(str(p) for p in slides)
    for entry, path in zip(result.entries, slides, strict=True):
        its = alone[path.name]
        assert entry.windows == its.windows
        assert entry.areas_mm2 == {str(v): a for v, a in its.run.areas.items()}
        assert entry.fingerprint == its.run.record.slide_fingerprint
        np.testing.assert_array_equal(
            tifffile.imread(entry.outputs["ome-tiff"]), tifffile.imread(its.outputs["ome-tiff"])
        )
        with Case.open(Path(entry.case)) as case:
            (run,) = case.runs
            assert (run.id, run.state) == (entry.run, "finished")


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_worker_is_killed_and_no_slide_is_lost_or_done_twice(
    slides, model, alone, options, monkeypatch
):
    killed: list[int] = []
    over = threading.Event()

    def kill_one():
        """The process that is in the middle of a slide."""
        while not over.is_set() and not killed:
            for progress in options.out.glob("*.hspnet/runs/*/progress.json"):
                lock = progress.parents[2] / "case.lock"
                try:
                    pid = json.loads(lock.read_text())["pid"]
                    os.kill(pid, signal.SIGKILL)
                except (OSError, ValueError):
                    continue
                killed.append(pid)
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        result = many.predict_many(slides, model, options, Crew(workers=2))
    finally:
        over.set()
        killer.join()
    assert len(killed) == 1
    assert killed[0] != os.getpid()
    check_whole(result, slides, alone, options.out)
    pids = {int(entry.worker.split(":")[1]) for entry in result.entries}
    assert killed[0] not in pids or len(pids) > 1
    # Once more: nothing is left to do, no process is started.
    before = (options.out / MANIFEST).read_bytes()
    monkeypatch.setattr(many, "crew_client", None)
    again = many.predict_many(slides, model, options, Crew(workers=2))
    assert again.entries == result.entries
    assert again.before == {entry.slide for entry in result.entries}
    assert (options.out / MANIFEST).read_bytes() == before


def test_on_a_scheduler_of_the_users_one_bad_slide_does_not_stop_the_others(
    slides, model, alone, options, tmp_path
):
    import distributed

    bad = tmp_path / "bad.svs"
    bad.write_text("no slide")
    told = []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        crew = Crew(scheduler=cluster.scheduler_address)
        given = [slides[0], bad, slides[1]]

        def run(how=options):
            return many.predict_many(given, model, how, crew, lambda *said: told.append(said))

        result = run()
        assert [e.state for e in result.entries] == [DONE, FAILED, DONE]
        assert result.entries[1].error["kind"] == "SlideError"
        assert result.entries[1].error["advice"]
        assert [(ended, total) for _, ended, total in told] == [(1, 3), (2, 3), (3, 3)]
        told.clear()
        # What failed is tried again, what is done is not.
        bad.write_bytes(slides[2].read_bytes())
        mended = run()
        assert [(Path(e.slide).name, n) for e, n, _ in told] == [("bad.svs", 3)]
        assert {e.state for e in mended.entries} == {DONE}
        assert mended.entries[0] == result.entries[0]
        # A slide that is another one now, or whose mask is gone, is done again.
        bad.write_bytes(slides[3].read_bytes())
        Path(mended.entries[0].outputs["ome-tiff"]).unlink()
        Path(mended.entries[1].case).rename(tmp_path / "aside.hspnet")
        told.clear()
        anew = run()
        assert {Path(e.slide).name for e, _, _ in told} == {"bad.svs", "s0.tiff"}
        # The mask that was gone comes from the run that is there.
        assert anew.entries[0].run == mended.entries[0].run
        assert anew.entries[1].fingerprint != mended.entries[1].fingerprint
        # Told to overwrite, all is done again.
        told.clear()
        run(replace(options, overwrite=True))
        assert len(told) == 3
    with Case.open(Path(anew.entries[0].case)) as case:
        assert len(case.runs) == 2


def test_stopped_it_goes_on_where_it_was(slides, model, alone, options):
    cancel = threading.Event()

    def stop(entry, ended, total):
        cancel.set()

    with pytest.raises(CancelledError):
        many.predict_many(slides, model, options, Crew(workers=1), stop, cancel)
    states = {e.state for e in Manifest(options.out / MANIFEST).entries.values()}
    assert states == {DONE, STOPPED}
    assert not list(options.out.rglob(".*.part"))
    result = many.predict_many(slides, model, options, Crew(workers=1))
    assert result.before
    check_whole(result, slides, alone, options.out)


def test_the_masks_of_others_are_not_replaced(slides, model, options):
    options.out.mkdir()
    mask = options.out / "s1.ome.tif"
    mask.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        many.predict_many(slides, model, options, Crew(workers=1))
    assert mask.read_text() == "mine"
    assert not (options.out / MANIFEST).exists()


def test_no_scheduler_there(slides, model, options):
    crew = Crew(scheduler="tcp://127.0.0.1:9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_hspnet.jobs.crew._CONNECT", 1)
        with pytest.raises(InputError, match="No scheduler answers"):
            many.predict_many(slides, model, options, crew)


@pytest.mark.parametrize("crew", [{}, {"workers": 1, "scheduler": "tcp://a"}, {"workers": 0}])
def test_a_crew_that_cannot_be(crew):
    with pytest.raises(InputError):
        Crew(**crew)


def test_a_manifest_that_was_cut_short(tmp_path):
    path = tmp_path / MANIFEST
    entry = many.SlideEntry("/a.svs", BEGUN, "5" * 64, {"stride": 100}, "2026-11-26T06:00:00+00:00")
    Manifest(path).add([entry])
    Manifest(path).add([replace(entry, state=DONE, warnings=("odd",))])
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        found = Manifest(path).entries
        assert set(found) <= {"/a.svs"}
        assert all(e.state == BEGUN for e in found.values())
    cut = Manifest(path)
    other = replace(entry, slide="/b.svs", state=FAILED, error={"kind": "SlideError"})
    cut.add([other])
    assert Manifest(path).entries == {"/a.svs": entry, "/b.svs": other}
    path.write_text("something else\n")
    with pytest.raises(OutputError, match="line 1"):
        Manifest(path)
