"""Masks out of the case: OME-TIFF, indexed PNG, GeoJSON."""

from napari_hspnet.exchange.about import VALUE_NAMES, ExportInfo, LabelSource, colour_table
from napari_hspnet.exchange.geojson import Origin, write_geojson
from napari_hspnet.exchange.output import refuse_existing
from napari_hspnet.exchange.png import PNG_PIXELS, png_shape, write_png
from napari_hspnet.exchange.tiff import write_ome_tiff

__all__ = [
    "PNG_PIXELS",
    "VALUE_NAMES",
    "ExportInfo",
    "LabelSource",
    "Origin",
    "colour_table",
    "png_shape",
    "refuse_existing",
    "write_geojson",
    "write_ome_tiff",
    "write_png",
]
