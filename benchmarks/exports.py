"""Time, memory and size of every export of the largest slide of the public set.

A label grid of 42,240 x 24,768 pixels (1.05 Gpx; 168,960 x 99,072 px at 0.25 µm) with
smooth regions of all classes, specks, and corrections. Each export runs in a process
of its own, and beside those of OME-TIFF, OME-Zarr and PNG the library alone, writing
the finest level from memory in the same compression.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from children import machine, measure

SHAPE = (42_240, 24_768)
PNG_MPP = 4.0
KINDS = ("ome-tiff", "ome-zarr", "png", "geojson", "csv", "parquet")
PEERS = {"ome-tiff": "tifffile", "ome-zarr": "zarr", "png": "Pillow"}

_COARSE = 48
_SPECKS = 20_000


def field(rng: np.random.Generator) -> np.ndarray:
    """A smooth random field on a coarse grid, from 0 to 1."""
    from scipy.ndimage import gaussian_filter

    shape = [side // _COARSE + 2 for side in SHAPE]
    rough = gaussian_filter(rng.standard_normal(shape), 6)
    rough += gaussian_filter(rng.standard_normal(shape), 2) * 0.3 * rough.std()
    return ((rough - rough.min()) / np.ptp(rough)).astype(np.float32)


def strip(values: np.ndarray, top: int, height: int) -> np.ndarray:
    """The field at full resolution, some rows of it: linear in between."""
    rows = (np.arange(top, top + height) / _COARSE).astype(np.float32)
    at = rows.astype(int)
    part = (rows - at)[:, None]
    lines = values[at] * (1 - part) + values[at + 1] * part
    columns = (np.arange(SHAPE[1]) / _COARSE).astype(np.float32)
    at = columns.astype(int)
    part = columns - at
    return lines[:, at] * (1 - part) + lines[:, at + 1] * part


def make_case(folder: str) -> dict[str, float]:
    """Write the case: one run over the whole slide, then corrections."""
    from napari_hspnet.cases import Case, Patch, RunRecord
    from napari_hspnet.classes import SKIPPED
    from napari_hspnet.slides import LabelBlock, LabelGrid, Level, Region, SlideInfo

    rng = np.random.default_rng(1)
    tissue, grade = field(rng), field(rng)
    slide = SlideInfo(
        path=Path("bench.svs"),
        backend="openslide",
        vendor="aperio",
        levels=(Level((SHAPE[0] * 4, SHAPE[1] * 4), (1.0, 1.0), (240, 240)),),
        mpp=(0.25, 0.25),
        mpp_source="file",
        mpp_problem=None,
        objective=40.0,
        bounds=None,
        fingerprint="ab" * 32,
    )
    record = RunRecord(
        model_name="bench",
        model_sha256="12" * 32,
        card={"mpp": 1.0},
        settings={},
        region=Region.slide().to_dict(),
        device="cpu",
        versions={},
        slide_fingerprint=slide.fingerprint,
        synthetic=True,
        started="2026-11-23T10:11:12+00:00",
    )
    glass, steps = np.quantile(tissue, 0.55), np.quantile(grade, [0.3, 0.6, 0.75, 0.9])
    with Case.open_or_create(Path(folder), slide, LabelGrid.of(slide)) as case:
        with case.start_run(record) as run:
            for top in range(0, SHAPE[0], 512):
                height = min(512, SHAPE[0] - top)
                classes = np.digitize(strip(grade, top, height), steps).astype(np.uint8)
                for _ in range(_SPECKS * height // SHAPE[0]):
                    y, x, side = rng.integers((0, 0, 2), (height, SHAPE[1], 14))
                    classes[y : y + side, x : x + side] = rng.integers(5)
                classes[strip(tissue, top, height) < glass] = SKIPPED
                score = np.where(classes < SKIPPED, 200, 0).astype(np.uint8)
                run.write(LabelBlock(top, 0, classes, score, score // 2))
            run.finish(1.0)
        yy, xx = np.mgrid[-250:250, -250:250]
        disc = yy**2 + xx**2 < 240**2
        for _ in range(60):
            y, x = (int(rng.integers(side - 500)) for side in SHAPE)
            values = np.full(disc.shape, int(rng.integers(5)), np.uint8)
            case.editing.correct([Patch(y, x, values, disc)], "A", "brush")
    return {}


def export(kind: str, folder: Path, out: Path) -> None:
    """One export of the case, as the command line and the window make it."""
    from napari_hspnet.cases import Case
    from napari_hspnet.jobs.export import ExportOptions, export_case

    options = ExportOptions(out, (kind,), png_mpp=PNG_MPP)
    with Case.open(folder) as case:
        export_case(case, options)


def peer(kind: str, folder: Path, out: Path) -> float:
    """The library alone, from an array in memory; seconds of the writing."""
    from napari_hspnet.cases import Case, CaseSnapshot
    from napari_hspnet.slides.importing import import_zarr

    with Case.open(folder) as case:
        composite = CaseSnapshot.of(case).composite
        if kind == "png":
            step = int(PNG_MPP)
            values = composite.read(0, 0, SHAPE[0] // step, SHAPE[1] // step, 2)
        else:
            values = composite.read(0, 0, *SHAPE)
    if kind == "ome-tiff":
        import tifffile

        begun = time.perf_counter()
        tifffile.imwrite(out, values, tile=(512, 512), compression="zlib", bigtiff=True)
    elif kind == "ome-zarr":
        zarr = import_zarr()
        codec = zarr.codecs.ZstdCodec(level=1, checksum=True)
        begun = time.perf_counter()
        array = zarr.create_array(
            out, shape=SHAPE, chunks=(512, 512), dtype="uint8", compressors=codec, fill_value=255
        )
        array[:] = values
    else:
        from PIL import Image

        begun = time.perf_counter()
        Image.fromarray(values).save(out, format="PNG")
    return time.perf_counter() - begun


def child(task: str, kind: str, folder: str) -> dict[str, float]:
    if task == "make":
        return make_case(folder)
    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as scratch:
        return measured(task, kind, folder, Path(scratch) / kind)


def measured(task: str, kind: str, folder: str, out: Path) -> dict[str, float]:
    import napari_hspnet.jobs.export  # noqa: F401  (its time is that of starting the program)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    if task == "peer":
        wall = peer(kind, Path(folder), out)
    else:
        export(kind, Path(folder), out)
        wall = time.perf_counter() - begun
    files = [f for f in out.rglob("*") if f.is_file()] if out.is_dir() else [out]
    return {
        "wall": wall,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "before_mb": before * 1024 / 1e6,
        "size_mb": sum(f.stat().st_size for f in files) / 1e6,
        "files": len(files),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=3, metavar=("TASK", "KIND", "FOLDER"))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--case", type=Path, help="a case made before, or where to keep it")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.case or Path(scratch) / "bench.hspnet"
        if not folder.exists():
            measure("exports.py", "make", "-", str(folder))
        print(f"Exports of {SHAPE[0]:,} x {SHAPE[1]:,} label pixels ({machine()})")
        print("| export | wall s | peak MB | of it imports | size MB | files | alone s | ratio |")
        print("|---|---|---|---|---|---|---|---|")
        for kind in options.kinds:
            alone = measure("exports.py", "peer", kind, str(folder)) if kind in PEERS else None
            found = measure("exports.py", "export", kind, str(folder))
            cells = [
                kind,
                f"{found['wall']:.1f}",
                *(f"{found[name]:.0f}" for name in ("peak_mb", "before_mb")),
                f"{found['size_mb']:.1f}",
                f"{found['files']:.0f}",
                f"{alone['wall']:.1f} ({PEERS[kind]})" if alone else "",
                f"{found['wall'] / alone['wall']:.2f}" if alone else "",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
