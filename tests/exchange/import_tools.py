"""Slides, cases and files for the tests of imports."""

import json

import numpy as np
import shapely

from napari_hspnet.cases import Case, SlideFacts
from napari_hspnet.exchange.importing import plan_import
from napari_hspnet.exchange.incoming import open_incoming
from napari_hspnet.slides import LabelGrid

from cases.case_tools import block, run_record, slide_info

ANN = "Dr. Ann"


def facts(shape=(600, 800), mpp=1.0, bounds=None, known=True, fingerprint="ab" * 32):
    return SlideFacts("biopsy.svs", fingerprint, shape, (mpp, mpp), bounds, known)


def grid_of(slide, mpp=1.0):
    sides = (int(np.ceil(n * m / mpp - 1e-6)) for n, m in zip(slide.shape, slide.mpp, strict=True))
    return LabelGrid(tuple(sides), mpp)


def new_case(folder, shape=(600, 800), mpp=1.0, label_mpp=1.0, shown=None):
    """A case on a slide of `shape` level-0 pixels; `shown` is what a run predicts."""
    info = slide_info(*shape, mpp=mpp)
    case = Case.open_or_create(folder, info, LabelGrid.of(info, label_mpp))
    if shown is not None:
        run = case.start_run(run_record())
        run.write(block(0, 0, shown))
        run.finish(1.0)
    return case


def overlay(case, what="classes"):
    return case.composite().read(0, 0, *case.grid.shape, what=what)


def outline(points, name=None, **properties):
    """A feature; points are a ring, or a geometry of shapely's."""
    if hasattr(points, "geom_type"):
        geometry = json.loads(shapely.to_geojson(points))
    else:
        geometry = {"type": "Polygon", "coordinates": [[list(map(float, p)) for p in points]]}
    if name is not None:
        properties["classification"] = {"name": name, "color": [1, 2, 3]}
    properties = {"objectType": "annotation", **properties}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def rectangle(x0, y0, x1, y1, name=None, **properties):
    return outline([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], name, **properties)


def write_features(path, *features, **said):
    document = {"type": "FeatureCollection", **said, "features": list(features)}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def grades_of(incoming):
    return {name.key: name.grade for name in incoming.names}


def read_all(incoming, grid, grades=None, block_side=None):
    """The whole label grid, in one piece or in blocks."""
    grades = grades_of(incoming) if grades is None else grades
    height, width = grid.shape
    if block_side is None:
        return incoming.read(0, 0, height, width, grades)
    out = np.empty((height, width), np.uint8)
    for y in range(0, height, block_side):
        for x in range(0, width, block_side):
            h, w = min(block_side, height - y), min(block_side, width - x)
            out[y : y + h, x : x + w] = incoming.read(y, x, h, w, grades)
    return out


def plan_of(case, path, options=None, **how):
    with open_incoming(path, case.slide_facts, case.grid, **how) as incoming:
        return plan_import(incoming, case.composite(), options)


def centres_inside(polygon, shape):
    """The slow, obvious reference: which pixel centres a polygon (x, y) contains, and which
    lie on its edge to within rounding."""
    shapely.prepare(polygon)
    ys, xs = np.mgrid[: shape[0], : shape[1]] + 0.5
    points = shapely.points(xs.ravel(), ys.ravel())
    near = shapely.dwithin(polygon.boundary, points, 1e-9).reshape(shape)
    return shapely.contains_xy(polygon, xs.ravel(), ys.ravel()).reshape(shape), near
