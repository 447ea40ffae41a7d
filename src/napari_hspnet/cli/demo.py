"""``napari-hspnet demo``: the main job on the slide that the package carries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_hspnet.cli.predict import predict_all
from napari_hspnet.cli.screen import note, stop_signals

__all__ = ["run_demo"]

# Parquet wants an extra package, training crops reviewed regions.
_FORMATS = ("ome-tiff", "ome-zarr", "png", "geojson", "csv", "json", "picture", "report")


def run_demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path(
        "hspnet-demo"
    ),
    stride: Annotated[
        int, typer.Option("--stride", help="Between windows, in label pixels.")
    ] = 100,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace mask files that exist.")
    ] = False,
) -> None:
    """Segment the sample slide with the demo model; write masks, tables, picture, report."""
    from napari_hspnet.jobs.predict import PredictOptions
    from napari_hspnet.jobs.samples import sample_slide_path

    note("The sample slide is skin (CMU-1-Small-Region.svs, CC0), the model knows phantoms only.")
    options = PredictOptions(out=out, formats=_FORMATS, stride=stride, overwrite=overwrite)
    with stop_signals() as cancel:
        predict_all([sample_slide_path()], None, options, as_json=False, cancel=cancel)
    typer.echo(f"The results are in {out.resolve()}")
