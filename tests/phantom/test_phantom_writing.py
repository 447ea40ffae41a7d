"""Writing phantoms: processes, domains, lines, and what the files say of themselves."""

import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from napari_hspnet.cli import main
from napari_hspnet.errors import OutputError
from napari_hspnet.phantom import (
    PHANTOM_VERSION,
    PhantomSpec,
    generator_hash,
    make_layout,
    truth_block,
    write_phantom,
)
from napari_hspnet.phantom import crew as crew_module
from napari_hspnet.phantom import version as version_module
from napari_hspnet.phantom.bank import make_plan
from napari_hspnet.phantom.geometry import GLASS


def _second(slide):
    """The second level, (h, w, 3)."""
    return np.asarray(slide.read_region((0, 0), 1, slide.level_dimensions[1]))[..., :3]


def test_any_number_of_workers_gives_the_same_bytes(tmp_path):
    spec = PhantomSpec(700, 5000, seed=5, mpp=0.5, domain="E")
    assert len(make_layout(spec).bands) > 1
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        write_phantom(
            folder / "a.tiff",
            spec,
            folder / "t.tiff",
            lines_path=folder / "l.json",
            workers=workers,
        )
    for name in ("a.tiff", "t.tiff", "l.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_cancel_ends_the_processes_and_leaves_nothing(tmp_path, monkeypatch):
    started = []

    class Spy(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(crew_module.subprocess, "Popen", Spy)
    cancel = threading.Event()
    result = write_phantom(
        tmp_path / "a.tiff",
        PhantomSpec(700, 5000, seed=5, mpp=0.5),
        progress=lambda share, what: cancel.set(),
        cancel=cancel,
        workers=2,
    )
    assert result.cancelled
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "getsid"), reason="sessions are POSIX's")
def test_a_terminals_ctrl_c_does_not_reach_the_processes(tmp_path, monkeypatch):
    """It goes to the session that it was typed in."""
    sessions = []

    class Spy(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            sessions.append(os.getsid(self.pid))

    monkeypatch.setattr(crew_module.subprocess, "Popen", Spy)
    write_phantom(tmp_path / "a.tiff", PhantomSpec(700, 5000, seed=5, mpp=0.5), workers=2)
    assert len(sessions) == 2
    assert os.getsid(0) not in sessions


def test_a_process_that_dies_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(crew_module.sys, "executable", shutil.which("true") or "true")
    with pytest.raises(OutputError, match="ended before its work"):
        write_phantom(tmp_path / "a.tiff", PhantomSpec(700, 5000, 5, 0.5), workers=2)
    assert list(tmp_path.iterdir()) == []


def test_truth_does_not_depend_on_domain_or_artefacts():
    plain = PhantomSpec(1800, 2400, seed=6, mpp=0.5, artefacts=False)
    whole = truth_block(plain, 0, 0, *plain.label_shape)
    for name in "BE":
        other = PhantomSpec(1800, 2400, seed=6, mpp=0.5, domain=name)
        assert np.array_equal(truth_block(other, 0, 0, *other.label_shape), whole)


def test_an_oracle_slide_does_not_depend_on_domain_or_artefacts(tmp_path):
    for name, more in (("a", {}), ("b", {"domain": "E", "artefacts": False})):
        spec = PhantomSpec(700, 900, seed=3, style="oracle", **more)
        write_phantom(tmp_path / f"{name}.tiff", spec)
    assert (tmp_path / "a.tiff").read_bytes() == (tmp_path / "b.tiff").read_bytes()


def test_descriptions_name_version_seed_domain_and_generator(tmp_path):
    slide, truth, lines = (tmp_path / n for n in ("a.tiff", "t.tiff", "l.json"))
    write_phantom(slide, PhantomSpec(600, 900, 4, 0.5, domain="B"), truth, lines_path=lines)
    with openslide.OpenSlide(slide) as opened:
        text = opened.properties["tiff.ImageDescription"]
    for part in (f"version={PHANTOM_VERSION}", "seed=4", "domain=B", "artefacts=1"):
        assert part in text
    assert f"generator={generator_hash()}" in text
    with tifffile.TiffFile(truth) as tif:
        assert f"generator={generator_hash()}" in tif.pages[0].description
    assert json.loads(lines.read_text())["hspnet"] == {
        "version": PHANTOM_VERSION,
        "seed": 4,
        "generator": generator_hash(),
        "units": "µm",
    }


@pytest.mark.parametrize("seed", [4, 7])
def test_lines_lie_on_the_border_of_the_truth(tmp_path, seed):
    spec = PhantomSpec(5200, 8000, seed=seed, mpp=0.5, style="oracle")
    layout = make_layout(spec)
    assert any(p.way != (False, False, False) for p in layout.placements)
    write_phantom(tmp_path / "o.tiff", spec, lines_path=tmp_path / "l.json")
    features = json.loads((tmp_path / "l.json").read_text())["features"]
    assert {f["properties"]["kind"] for f in features} == {"surface", "basement"}
    numbers = {f["properties"]["fragment"] for f in features}
    assert numbers == set(range(len(layout.placements)))
    squamous = layout.truth(0, 0, *spec.label_shape) > 0
    off = total = 0
    for feature in features:
        assert feature["geometry"]["type"] == "LineString"
        for x, y in feature["geometry"]["coordinates"]:
            box = squamous[
                max(0, int(np.floor(y - 1.5))) : int(np.floor(y + 1.5)) + 1,
                max(0, int(np.floor(x - 1.5))) : int(np.floor(x + 1.5)) + 1,
            ]
            off += box.all() or not box.any()
            total += 1
    assert total > 1000
    assert off < 0.01 * total


def test_artefacts_on_glass_change_their_tiles_alone(tmp_path):
    look = {"height": 1400, "width": 3200, "seed": 5, "mpp": 0.5, "domain": "E"}
    spec = PhantomSpec(**look)
    write_phantom(tmp_path / "e.tiff", spec)
    write_phantom(tmp_path / "c.tiff", PhantomSpec(**look, artefacts=False))
    special = set(make_plan(spec, lambda: None).special)
    assert special
    changed = 0
    with (
        openslide.OpenSlide(tmp_path / "e.tiff") as dirty,
        openslide.OpenSlide(tmp_path / "c.tiff") as clean,
    ):
        a, b = _second(dirty).astype(int), _second(clean).astype(int)
    glass = make_layout(spec).codes((np.arange(350) + 0.5) * 2, (np.arange(800) + 0.5) * 2)
    glass = glass == GLASS
    for row in range(5):
        for col in range(12):
            here = np.s_[row * 64 + 8 : row * 64 + 56, col * 64 + 8 : col * 64 + 56]
            around = np.s_[
                max(0, row * 64 - 24) : row * 64 + 88, max(0, col * 64 - 24) : col * 64 + 88
            ]
            gap = np.abs(a[here] - b[here]).max(axis=-1)
            if (row, col) in special:
                changed += gap.max() > 25
            elif glass[around].all():
                # The rest is noise and what JPEG makes of it.
                assert gap.max() < 14
    assert changed > 0.2 * len(special)


def test_the_generator_hash_follows_what_decides_pixels(tmp_path, monkeypatch):
    assert re.fullmatch("[0-9a-f]{12}", generator_hash())
    for source in Path(version_module.__file__).parent.glob("*.py"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    real = generator_hash()
    monkeypatch.setattr(version_module, "__file__", str(tmp_path / "version.py"))
    assert generator_hash() == real
    for name in ("bigtiff.py", "__init__.py", "slide.py"):
        (tmp_path / name).write_bytes(b"pass\n")
    stain = (tmp_path / "stain.py").read_bytes()
    (tmp_path / "stain.py").write_bytes(stain.replace(b"\n", b"\r\n"))
    assert generator_hash() == real
    for name in ("scanner.py", "growth.py", "version.py", "unheard_of.py"):
        before = generator_hash()
        with (tmp_path / name).open("ab") as file:
            file.write(b"# changed\n")
        assert generator_hash() != before


def test_the_command_line_passes_domain_artefacts_lines_and_workers(tmp_path, capsys):
    out, lines = tmp_path / "p.tiff", tmp_path / "l.json"
    line = ["phantom", "--out", str(out), "--size", "900,600", "--mpp", "0.5", "--domain", "C"]
    assert main([*line, "--no-artefacts", "--lines", str(lines), "--workers", "1"]) == 0
    assert str(lines) in capsys.readouterr().out
    assert json.loads(lines.read_text())["features"]
    with openslide.OpenSlide(out) as slide:
        assert "domain=C artefacts=0" in slide.properties["tiff.ImageDescription"]
    assert main([*line, "--domain", "Q", "--overwrite"]) == 2
    assert main([*line, "--workers", "0", "--overwrite"]) == 2
