"""Masks, outlines, tables and pictures out of the case, and masks and outlines in.

Writers and readers that need heavy packages are imported from their own modules.
"""

from napari_hspnet.exchange.about import ExportInfo, colour_table, value_names
from napari_hspnet.exchange.geojson import Origin, write_geojson
from napari_hspnet.exchange.output import refuse_existing
from napari_hspnet.exchange.png import PNG_PIXELS, png_shape, write_png
from napari_hspnet.exchange.sources import WHATS, CaseLabels, LabelSource, What
from napari_hspnet.exchange.tiff import write_ome_tiff

__all__ = [
    "PNG_PIXELS",
    "WHATS",
    "CaseLabels",
    "ExportInfo",
    "LabelSource",
    "Origin",
    "What",
    "colour_table",
    "png_shape",
    "refuse_existing",
    "value_names",
    "write_geojson",
    "write_ome_tiff",
    "write_png",
]
