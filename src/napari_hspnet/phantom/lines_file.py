"""Surface and basement membrane of a phantom slide as GeoJSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.layout import TILE, Layout
from napari_hspnet.phantom.version import PHANTOM_VERSION, generator_hash

__all__ = ["slide_lines", "write_lines"]

Floats = npt.NDArray[np.float64]


def slide_lines(layout: Layout) -> Iterator[tuple[str, int, Floats, Floats]]:
    """Borders of the epithelium on the slide, as far as they lie on it.

    Yields
    ------
    tuple of (str, int, ndarray, ndarray)
        Kind ("surface" or "basement"), the fragment's number on the slide, y
        and x in µm from the slide's origin, (n,) float64 with n of 2 or more.
    """
    spec = layout.spec
    tile_um = TILE * spec.mpp
    on_canvas = [band.lines() for band in layout.bands]
    for number, p in enumerate(layout.placements):
        for line in on_canvas[p.section]:
            y, x = p.to_slide(line.y, line.x, tile_um)
            inside = (y >= 0) & (y <= spec.height * spec.mpp)
            inside &= (x >= 0) & (x <= spec.width * spec.mpp)
            edges = np.flatnonzero(np.diff(np.concatenate([[0], inside.astype(np.int8), [0]])))
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                if stop - start > 1:
                    yield line.kind, number, y[start:stop], x[start:stop]


def write_lines(layout: Layout, file: BinaryIO) -> int:
    """Write a FeatureCollection of LineStrings, (x, y) in µm from the slide's origin.

    Each has the properties ``kind`` and ``fragment`` (its number on the slide);
    the collection's member ``hspnet`` names version, seed, generator and units.

    Returns
    -------
    int
        Bytes written.
    """
    features: list[dict[str, Any]] = [
        {
            "type": "Feature",
            "geometry": {
                "type": "LineString",
                "coordinates": [
                    [round(float(a), 2), round(float(b), 2)] for a, b in zip(x, y, strict=True)
                ],
            },
            "properties": {"kind": kind, "fragment": number},
        }
        for kind, number, y, x in slide_lines(layout)
    ]
    document = {
        "type": "FeatureCollection",
        "hspnet": {
            "version": PHANTOM_VERSION,
            "seed": layout.spec.seed,
            "generator": generator_hash(),
            "units": "µm",
        },
        "features": features,
    }
    return file.write(json.dumps(document, ensure_ascii=False).encode())
