"""``napari-hspnet info``: what is known of a slide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_hspnet.cli.screen import print_json, warn

if TYPE_CHECKING:
    from napari_hspnet.slides import SlideInfo

__all__ = ["show_info"]


def show_info(
    slide: Annotated[Path, typer.Argument(help="The slide file.")],
    mpp: Annotated[
        float | None, typer.Option("--mpp", help="µm per pixel, where the file does not say it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show a slide's size, resolution, levels and format, without patient data."""
    from napari_hspnet.slides import open_slide

    with open_slide(slide, mpp) as opened:
        said = _facts(opened.info)
    if as_json:
        print_json(said)
        return
    for line in _lines(said):
        typer.echo(line)
    if said["mpp_problem"]:
        warn(f"{said['mpp_problem']}. State it with --mpp.")


def _facts(info: SlideInfo) -> dict[str, Any]:
    from napari_hspnet.slides import LabelGrid

    height, width = info.shape
    grid = None
    if info.mpp is not None:
        labels = LabelGrid.of(info)
        grid = {"width": labels.shape[1], "height": labels.shape[0], "mpp": labels.mpp}
    bounds = info.bounds
    return {
        "path": str(info.path),
        "name": info.name,
        "backend": info.backend,
        "vendor": info.vendor,
        "width": width,
        "height": height,
        "levels": [
            {
                "width": level.shape[1],
                "height": level.shape[0],
                "downsample_x": level.downsample[1],
                "downsample_y": level.downsample[0],
            }
            for level in info.levels
        ],
        "mpp_x": None if info.mpp is None else info.mpp[1],
        "mpp_y": None if info.mpp is None else info.mpp[0],
        "mpp_source": info.mpp_source,
        "mpp_problem": info.mpp_problem,
        "objective": info.objective,
        "bounds": None
        if bounds is None
        else {"x": bounds.x, "y": bounds.y, "width": bounds.width, "height": bounds.height},
        "fingerprint": info.fingerprint,
        "phantom": info.phantom,
        "associated_images": list(info.associated),
        "label_grid": grid,
    }


def _lines(said: dict[str, Any]) -> list[str]:
    resolution = "not known"
    if said["mpp_x"] is not None:
        resolution = f"{said['mpp_x']:.4g} x {said['mpp_y']:.4g} µm/px (from the "
        resolution += f"{said['mpp_source']})"
    rows = {
        "Slide": said["name"],
        "Format": f"{said['vendor']} ({said['backend']})",
        "Size": f"{said['width']:,} x {said['height']:,} px",
        "Resolution": resolution,
        "Objective": "not stated" if said["objective"] is None else f"x{said['objective']:g}",
        "Levels": ", ".join(f"{level['width']} x {level['height']}" for level in said["levels"]),
        "Other images": ", ".join(said["associated_images"]) or "none",
        "Fingerprint": said["fingerprint"],
    }
    if said["bounds"]:
        box = said["bounds"]
        rows["Scanned area"] = f"{box['width']} x {box['height']} px at ({box['x']}, {box['y']})"
    if said["label_grid"]:
        grid = said["label_grid"]
        rows["Label grid"] = f"{grid['width']} x {grid['height']} px of {grid['mpp']:g} µm"
    if said["phantom"]:
        rows["Note"] = "a synthetic slide (phantom)"
    return [f"{title + ':':<14}{value}" for title, value in rows.items()]
