"""What a case can be written as, and what is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType

from napari_hspnet.cases import SlideFacts
from napari_hspnet.classes import PAPER, Palette
from napari_hspnet.errors import InputError
from napari_hspnet.exchange import ExportInfo, Origin, What, refuse_existing
from napari_hspnet.exchange.output import refuse_existing_folder
from napari_hspnet.slides import Region

__all__ = ["FORMATS", "ExportOptions", "ExportResult", "Format", "outputs_of", "refuse_outputs"]


@dataclass(frozen=True)
class Format:
    """A kind of file to hand on.

    Attributes
    ----------
    key : str
        Its name on the command line.
    title, tip : str
        For people.
    ending : str
        What the slide's name is followed by.
    needs_slide : bool
        Whether the slide's file must be at hand.
    folder : bool
        Whether it is a folder.
    share : float
        About how long it takes, as a multiple of the OME-TIFF (`benchmarks/exports.py`;
        one where that was not measured): for the time left.
    """

    key: str
    title: str
    ending: str
    tip: str
    needs_slide: bool = False
    folder: bool = False
    share: float = 1.0


_ALL = (
    Format("ome-tiff", "OME-TIFF", ".ome.tif", "Class values, pyramidal, with µm per pixel"),
    Format(
        "ome-zarr",
        "OME-Zarr",
        ".ome.zarr",
        "Class values as a folder that napari and others stream",
        folder=True,
        share=2.5,
    ),
    Format(
        "png", "PNG", ".png", "Class values as an indexed picture, for other programs", share=0.3
    ),
    Format(
        "geojson",
        "GeoJSON",
        ".geojson",
        "Outlines with names and colours; QuPath opens it",
        share=5.5,
    ),
    Format(
        "csv", "CSV", "-regions.csv", "Regions, outlines and areas in mm² as a table", share=5.5
    ),
    Format(
        "parquet",
        "Parquet",
        "-regions.parquet",
        "The same table with outlines (GeoParquet)",
        share=5.5,
    ),
    Format(
        "json",
        "JSON",
        "-regions.json",
        "The same table as one document",
        share=5.5,
    ),
    Format(
        "picture",
        "Picture",
        "-picture.png",
        "The slide with its overlay, a legend and a scale bar",
        needs_slide=True,
    ),
    Format("report", "Report", "-report.html", "Grades, areas, pictures, models and readers"),
    Format(
        "training",
        "Training crops",
        "-training",
        "Images and masks of the review regions, to train on",
        needs_slide=True,
        folder=True,
    ),
)
FORMATS: Mapping[str, Format] = MappingProxyType({each.key: each for each in _ALL})
"""What can be written, by key."""


def outputs_of(formats: Iterable[str], folder: Path, stem: str) -> dict[str, Path]:
    """The file or folder of each format.

    Raises
    ------
    InputError
        There is no such format.
    """
    wanted = list(formats)
    for key in wanted:
        if key not in FORMATS:
            raise InputError(
                f"There is no format {key!r}", advice=f"Choose among {', '.join(FORMATS)}"
            )
    return {key: folder / f"{stem}{FORMATS[key].ending}" for key in wanted}


def refuse_outputs(outputs: Mapping[str, Path], overwrite: bool) -> None:
    """Raise where something is there that the user did not offer up.

    Parameters
    ----------
    outputs : Mapping of str to Path
        As `outputs_of` gives them.
    overwrite : bool
        Whether earlier exports may be replaced.

    Raises
    ------
    OutputError
        If so.
    """
    for key, path in outputs.items():
        if FORMATS[key].folder:
            # Whether it is one of ours its writer finds out, which removes nothing else.
            refuse_existing_folder(path, overwrite, lambda folder: True)
        else:
            refuse_existing(path, overwrite)


@dataclass(frozen=True)
class ExportOptions:
    """What to write of a case, and how.

    Attributes
    ----------
    out : Path
        The folder.
    formats : tuple of str
        Some of `FORMATS`.
    what : {"composite", "prediction", "correction", "difference"}
        Which labels; a report tells of all of them.
    name : str or None
        What the files are named; after the slide's file without.
    palette : Palette
        Colours of the four classes.
    png_mpp, picture_mpp, training_mpp : float or None
        µm per pixel of the PNG (None: the label grid's), of the picture (None: so
        that it fits a screen) and of the training crops (None: the label grid's).
    origin : {"bounds", "level0"}
        Of GeoJSON coordinates.
    simplify_um : float
        How far an outline in GeoJSON may be moved to be simpler; 0 for not at all.
    review_regions : bool
        Whether review regions are outlines of their own in GeoJSON.
    picture_region : Region or None
        What the picture shows; the whole slide without.
    picture_fill : bool
        Whether areas are filled in it.
    training_tile_um : float or None
        Side of a training crop in µm; the whole region without.
    name_slide, comments : bool
        Whether the slide's file name, and comments on regions, are handed on: both
        can name a patient.
    overwrite : bool
        Whether earlier exports may be replaced.
    entry : int or None
        The last entry of the journal that counts; all of them without.
    runs : tuple of str or None
        Ids of runs to write alone, the topmost last; the active ones, with
        corrections, without.
    regions : tuple of int or None
        Which review regions are pictured and cropped.
    """

    out: Path
    formats: tuple[str, ...] = ("ome-tiff", "geojson")
    what: What = "composite"
    name: str | None = None
    palette: Palette = PAPER
    png_mpp: float | None = None
    picture_mpp: float | None = None
    training_mpp: float | None = None
    origin: Origin = "bounds"
    simplify_um: float = 0.0
    review_regions: bool = False
    picture_region: Region | None = None
    picture_fill: bool = False
    training_tile_um: float | None = None
    name_slide: bool = False
    comments: bool = False
    overwrite: bool = False
    entry: int | None = None
    runs: tuple[str, ...] | None = None
    regions: tuple[int, ...] | None = None

    def outputs(self, slide: SlideFacts) -> dict[str, Path]:
        """The file or folder of each format.

        Raises
        ------
        InputError
            There is no such format.
        """
        stem = PurePath(slide.name).stem if self.name is None else self.name
        if self.what != "composite":
            stem = f"{stem}-{self.what}"
        return outputs_of(self.formats, self.out, stem)


@dataclass(frozen=True)
class ExportResult:
    """What came of an export.

    Attributes
    ----------
    outputs : Mapping of str to Path
        The file or folder of each format.
    about : ExportInfo
        What each of them says of itself.
    warnings : tuple of str
        What the user should know about them.
    """

    outputs: Mapping[str, Path]
    about: ExportInfo
    warnings: tuple[str, ...] = ()
