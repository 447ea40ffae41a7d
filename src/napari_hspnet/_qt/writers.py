"""What napari's own Save writes: the case behind our layers, or anyone's labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_hspnet._qt.slide_layer import KEY
from napari_hspnet.classes import CIN3, PALETTES, PAPER, SKIPPED, Palette
from napari_hspnet.errors import CancelledError, InputError, OutputError
from napari_hspnet.exchange import (
    CaseLabels,
    ExportInfo,
    LabelSource,
    What,
    png_shape,
    write_geojson,
    write_ome_tiff,
    write_png,
)
from napari_hspnet.exchange.zarr_labels import write_ome_zarr
from napari_hspnet.slides.grid import LabelGrid

if TYPE_CHECKING:
    from napari_hspnet.exchange.output import Cancel, Report

__all__ = [
    "write_labels_geojson",
    "write_labels_ome_tiff",
    "write_labels_ome_zarr",
    "write_labels_png",
]

Attributes = Mapping[str, Any]

_SHOWS: Mapping[str, What] = {
    "overlay": "composite",
    "veil": "composite",
    "edit": "composite",
    "changes": "difference",
}
"""By kind of our layers, what of the case is saved: all of it, whatever they draw."""

_UNKNOWN = "not known"


def write_labels_ome_tiff(path: str, data: Any, attributes: Attributes) -> list[str]:
    """Save a Labels layer as OME-TIFF; see `_saved`."""
    return _saved(path, (".ome.tif", ".ome.tiff"), data, attributes, write_ome_tiff)


def write_labels_ome_zarr(path: str, data: Any, attributes: Attributes) -> list[str]:
    """Save a Labels layer as OME-Zarr; see `_saved`."""
    return _saved(path, (".ome.zarr",), data, attributes, write_ome_zarr)


def write_labels_png(path: str, data: Any, attributes: Attributes) -> list[str]:
    """Save a Labels layer as indexed PNG; see `_saved`."""

    def write(path: Path, labels: LabelSource, about: ExportInfo, **how: Any) -> Path:
        try:
            png_shape(labels.grid)
        except InputError as error:
            raise InputError(error.what, advice="Save it as OME-TIFF instead") from error
        return write_png(path, labels, about, **how)

    return _saved(path, (".png",), data, attributes, write)


def write_labels_geojson(path: str, data: Any, attributes: Attributes) -> list[str]:
    """Save the outlines of a Labels layer as GeoJSON; see `_saved`."""

    def write(path: Path, labels: LabelSource, about: ExportInfo, **how: Any) -> Path:
        if isinstance(labels, LayerLabels):
            labels = LayerLabels(labels.data, labels.grid, classes_only=True)
        return write_geojson(path, labels, about, **how)

    return _saved(path, (".geojson",), data, attributes, write)


@dataclass(frozen=True)
class LayerLabels:
    """Labels of a layer that belongs to no case.

    Attributes
    ----------
    data : array-like of int, (height, width)
        Its level 0.
    grid : LabelGrid
        Its pixels.
    classes_only : bool
        Whether values that are no class cannot be taken.
    """

    data: Any
    grid: LabelGrid
    classes_only: bool = False

    def read(self, y: int, x: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """Values of a box.

        Raises
        ------
        InputError
            If there are some that cannot be taken.
        """
        box = np.asarray(self.data[y : y + height, x : x + width])
        low, high = int(box.min()), int(box.max())
        if low < 0 or high > 255:
            raise InputError(
                f"The layer holds the label {low if low < 0 else high}, and a mask of classes "
                "holds 0 to 255",
                advice="Change that label, or choose napari's own format to save it",
            )
        wrong = box[(box > CIN3) & (box < SKIPPED)] if self.classes_only else box[:0]
        if wrong.size:
            raise InputError(
                f"The layer holds the label {int(wrong.flat[0])}, which is none of the classes "
                f"1 to {CIN3} and would have no outline",
                advice="Change that label, or save the layer as OME-TIFF",
            )
        return box.astype(np.uint8)


@dataclass(frozen=True)
class LayerInfo(ExportInfo):
    """What can be said of a layer that belongs to no case."""

    resolution: str = ""
    place: str = ""

    @property
    def slide_title(self) -> str:
        """What it is of, as far as is known."""
        return "a layer of napari"

    def facts(self) -> dict[str, str]:
        """All of it as texts; what is not known is called so."""
        unknown = ("slide_um_per_pixel_x", "slide_um_per_pixel_y", "model_sha256", "runs")
        said = super().facts() | dict.fromkeys((*unknown, "readers"), _UNKNOWN)
        del said["journal_entry"]
        return said | {
            "what": "a Labels layer of napari, as it was painted",
            "resolution": self.resolution,
            **({"place": self.place} if self.place else {}),
        }


def _saved(
    path: str,
    endings: tuple[str, ...],
    data: Any,
    attributes: Attributes,
    write: Callable[..., Path],
) -> list[str]:
    """Write one layer; returns the path as a list, as napari wants it.

    A layer of ours stands for its case: what is written is what the case holds now,
    all of the slide, under the conditions of every export. Any other layer is written
    as it is, and the file says that its model is not known. What is there already is
    replaced: napari's dialog has asked.

    Raises
    ------
    InputError
        The layer is not flat, not square in µm, or holds labels that do not fit.
    CaseError
        The layer's case cannot be opened.
    OutputError
        The disk is full, writing is not permitted, or it was stopped.
    """
    asked = Path(path)
    whole = asked.name.lower().endswith(endings)
    target = asked if whole else asked.with_name(asked.name + endings[0])
    marks = (attributes.get("metadata") or {}).get(KEY)
    with _labels(data, attributes, marks) as (labels, about), _progress() as (report, cancel):
        try:
            # Of a name that was completed here the dialog knew nothing.
            write(target, labels, about, overwrite=whole, progress=report, cancel=cancel)
        except CancelledError:
            raise OutputError(
                "Saving was stopped", advice="Nothing was written", path=target
            ) from None
    return [str(target)]


@contextmanager
def _labels(
    data: Any, attributes: Attributes, marks: Any
) -> Iterator[tuple[LabelSource, ExportInfo]]:
    if marks is None:
        yield _of_layer(data, attributes)
        return
    from napari_hspnet.cases import Case, CaseSnapshot

    what = _SHOWS.get(str(marks.get("kind"))) if isinstance(marks, dict) else None
    folder = _case_folder(marks) if what is not None else ""
    if what is None or not folder:
        raise InputError(
            "This layer shows no labels of a case",
            advice="Save the overlay, or use the section Export",
        )
    with Case.open(Path(folder)) as case:
        snapshot = CaseSnapshot.of(case)
        about = ExportInfo.of_snapshot(snapshot, what, _palette(attributes.get("colormap")))
        yield CaseLabels(snapshot.composite, what), about


def _case_folder(marks: Mapping[str, Any]) -> str:
    """The layer's own, or the one of the same slide's overlay: it may be younger."""
    from napari import current_viewer

    viewer = current_viewer()
    theirs = [layer.metadata.get(KEY) for layer in ([] if viewer is None else viewer.layers)]
    for known in (marks, *theirs):
        if isinstance(known, dict) and known.get("of") == marks.get("of") and known.get("case"):
            return str(known["case"])
    return ""


def _palette(colormap: Any) -> Palette:
    """The one whose colours the layer has."""
    drawn = getattr(colormap, "color_dict", {})
    for palette in PALETTES.values():
        if all(
            value in drawn and np.allclose(np.asarray(drawn[value])[:3] * 255, rgb, atol=1)
            for value, rgb in palette.colours.items()
        ):
            return palette
    return PAPER


def _of_layer(data: Any, attributes: Attributes) -> tuple[LayerLabels, LayerInfo]:
    level = data[0] if attributes.get("multiscale") else data
    if len(level.shape) != 2:
        raise InputError(
            f"The layer has {len(level.shape)} dimensions, and a mask has two",
            advice="Save one plane of it",
        )
    if 0 in level.shape:
        raise InputError("The layer has no pixels", advice="Choose another layer")
    scale = _um_per_pixel(attributes)
    if scale is not None and abs(scale[0] - scale[1]) > 1e-6 * max(scale):
        raise InputError(
            f"The layer's pixels are {scale[0]:g} x {scale[1]:g} µm, and a mask's are square",
            advice="Save it in napari's own format",
        )
    mpp = 1.0 if scale is None else scale[0]
    grid = LabelGrid((int(level.shape[0]), int(level.shape[1])), mpp)
    about = LayerInfo(
        slide_fingerprint=_UNKNOWN,
        slide_mpp=(mpp, mpp),
        bounds=None,
        grid=grid,
        model_name=_UNKNOWN,
        model_sha256=_UNKNOWN,
        resolution="not known; a pixel is taken as 1 µm" if scale is None else "as the layer had",
        place=_place(attributes),
    )
    return LayerLabels(level, grid), about


def _um_per_pixel(attributes: Attributes) -> tuple[float, float] | None:
    """(y, x) µm per pixel; None where the layer's unit is no length."""
    import pint

    units, scale = attributes.get("units"), attributes.get("scale")
    if units is None or scale is None:
        return None
    registry = pint.get_application_registry()
    try:
        y, x = (
            abs(float(step)) * registry.Quantity(1, str(unit)).to("micrometer").magnitude
            for step, unit in zip(scale, units, strict=True)
        )
    except (pint.PintError, ValueError, TypeError):
        return None
    return (float(y), float(x)) if y > 0 and x > 0 else None


def _place(attributes: Attributes) -> str:
    """Where the layer lay, if not with its first pixel's corner or centre at the origin."""
    turned = [
        name
        for name, plain in (("rotate", np.eye(2)), ("shear", np.zeros(1)), ("affine", np.eye(3)))
        if attributes.get(name) is not None
        and not np.array_equal(np.asarray(attributes[name], float), plain)
    ]
    first = np.asarray(attributes.get("translate") or (0.0, 0.0), float)
    step = np.asarray(attributes.get("scale") or (1.0, 1.0), float)
    moved = not (np.allclose(first, 0) or np.allclose(first, step / 2))
    if not turned and not moved:
        return ""
    said = f"the first pixel's centre was at {first[0]:g}, {first[1]:g} (y, x) in the window"
    return said + (f"; not kept: {', '.join(turned)}" if turned else "")


@contextmanager
def _progress() -> Iterator[tuple[Report, Cancel]]:
    """A bar among napari's activities, and its cancel button.

    napari saves in the window's own thread; the bar lets the window draw meanwhile.
    """
    import threading

    from napari.utils import cancelable_progress

    cancel = threading.Event()
    bar = cancelable_progress(total=100, desc="Saving labels")
    try:

        def report(part: float) -> None:
            if bar.is_canceled:
                cancel.set()
            step = int(part * 100) - bar.n
            if step > 0:
                bar.update(step)

        yield report, cancel
    finally:
        bar.close()
