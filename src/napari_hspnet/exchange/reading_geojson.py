"""The outlines of a GeoJSON file and what they are called, as QuPath and others write them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError
from napari_hspnet.exchange.output import Cancel, Report, stop_if

__all__ = ["Found", "read_outlines"]

_MOST_BYTES = 1 << 30
_FAR = 1e9
_POLYGONS = ("Polygon", "MultiPolygon", "GeometryCollection")
_THIN = ("Point", "MultiPoint", "LineString", "MultiLineString")
_ADVICE = "Choose a file of outlines, such as QuPath exports as GeoJSON"
_REGION = re.compile(r"Region \d+, ")
_NAMES = ("class_name", "class", "label", "name")


@dataclass
class Found:
    """What a file holds.

    Attributes
    ----------
    said : Mapping
        What the file says of itself, where it is one of ours.
    names : list of str
        For each outline its class's name, empty where it has none.
    shapes : list of shapely geometry
        For each outline its valid polygon or polygons, in label pixels.
    counts : Counter of str
        "thin" points and lines, "broken" and "mended" outlines, review "regions".
    mended : float
        By how much mending changed areas, in label pixels.
    """

    said: Mapping[str, Any] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    shapes: list[Any] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    mended: float = 0.0


def read_outlines(
    path: Path,
    scale: tuple[float, float],
    progress: Report | None = None,
    cancel: Cancel | None = None,
) -> Found:
    """Read a Feature, a FeatureCollection, a geometry alone, or an array of these.

    QuPath writes each of them. A class's name is ``properties.classification``: its
    ``name``, its ``names`` joined by ": " as QuPath shows them, or it as a text; from
    other programs ``properties.class_name``, ``class``, ``label`` or ``name``. In
    QuPath ``name`` is what the user calls one object, and no class.

    Parameters
    ----------
    path : Path
        The file.
    scale : tuple of float
        (x, y) label pixels for each of the file's units.
    progress, cancel
        Called with the part done; stops the reading.

    Raises
    ------
    InputError
        It is no GeoJSON, or too large.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise InputError(
            f"The file of {size / 1e9:.1f} GB is more than can be read at once",
            advice="Export fewer objects, such as the annotations without the detections",
            path=path,
        )
    document = _parsed(path, cancel)
    found = Found(_ours(document))
    features = list(_features(document, path))
    for number, feature in enumerate(features):
        stop_if(cancel)
        if progress is not None and number % 256 == 0:
            progress(number / len(features))
        _take(found, feature, np.asarray(scale))
    return found


def _parsed(path: Path, cancel: Cancel | None) -> Any:
    def lighter(item: dict[str, Any]) -> dict[str, Any]:
        stop_if(cancel)
        # Lists of points take twenty times the memory of an array, so only one
        # object's are there at a time. What is no array is told when it is its turn.
        with suppress(TypeError, ValueError, KeyError):
            if item.get("type") == "Polygon":
                item["coordinates"] = _arrays(item["coordinates"])
            elif item.get("type") == "MultiPolygon":
                item["coordinates"] = [_arrays(rings) for rings in item["coordinates"]]
        return item

    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_hook=lighter)
    except UnicodeDecodeError as error:
        raise InputError("The file is no UTF-8 text", advice=_ADVICE, path=path) from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"The file is no valid JSON ({error.msg}, line {error.lineno})",
            advice="Export it again; it may have been cut off",
            path=path,
        ) from error
    except RecursionError as error:
        raise InputError("The file is nested too deeply", advice=_ADVICE, path=path) from error


def _arrays(rings: Any) -> list[npt.NDArray[np.float64]]:
    return [np.asarray(ring, dtype=float) for ring in rings]


def _ours(document: Any) -> Mapping[str, Any]:
    said = document.get("hspnet") if isinstance(document, dict) else None
    return said if isinstance(said, dict) else {}


def _features(document: Any, path: Path) -> Iterator[Mapping[str, Any]]:
    items = document if isinstance(document, list) else [document]
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "FeatureCollection" and isinstance(item.get("features"), list):
            for feature in item["features"]:
                if not isinstance(feature, dict) or feature.get("type") != "Feature":
                    raise _no_geojson(path)
                yield feature
        elif kind == "Feature":
            yield item
        elif kind in _POLYGONS or kind in _THIN:
            yield {"type": "Feature", "geometry": item, "properties": {}}
        else:
            raise _no_geojson(path)


def _no_geojson(path: Path) -> InputError:
    return InputError("The file is JSON, but no GeoJSON", advice=_ADVICE, path=path)


def _take(found: Found, feature: Mapping[str, Any], scale: npt.NDArray[np.float64]) -> None:
    import shapely

    if _is_region(feature.get("properties")):
        found.counts["regions"] += 1
        return
    polygons: list[Any] = []
    try:
        thin = _gather(feature.get("geometry"), scale, polygons)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError):
        # Points that are no numbers, too few of them, a geometry of no known kind.
        found.counts["broken"] += 1
        return
    if not polygons:
        found.counts["thin" if thin else "broken"] += 1
        return
    shape = polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
    if not shape.is_valid:
        drawn = sum(polygon.area for polygon in polygons)
        shape = _mended(polygons)
        if shape.area > 0:
            found.counts["mended"] += 1
            found.mended += abs(shape.area - drawn)
    if not shape.area > 0:
        found.counts["broken"] += 1
        return
    found.counts["thin"] += thin
    found.names.append(_name(feature.get("properties")))
    found.shapes.append(shape)


def _gather(geometry: Any, scale: npt.NDArray[np.float64], polygons: list[Any]) -> int:
    """Enter a geometry's polygons; how many points and lines it has beside them."""
    kind = geometry["type"]
    if kind == "Polygon":
        polygons.append(_polygon(geometry["coordinates"], scale))
    elif kind == "MultiPolygon":
        polygons.extend(_polygon(rings, scale) for rings in geometry["coordinates"])
    elif kind == "GeometryCollection":
        return sum(_gather(part, scale, polygons) for part in geometry["geometries"])
    elif kind in _THIN:
        return 1
    else:
        raise ValueError(kind)
    return 0


def _polygon(rings: Sequence[Any], scale: npt.NDArray[np.float64]) -> Any:
    import shapely

    # A third number is a height, which slides have not.
    shell, *holes = (ring[:, :2] * scale for ring in _arrays(rings))
    # Not a number fails that too; what is so far out has lost its fractions.
    if not all((np.abs(ring) < _FAR).all() for ring in (shell, *holes)):
        raise ValueError("no places")
    return shapely.Polygon(shell, [hole for hole in holes if len(hole) >= 3])


def _mended(polygons: Sequence[Any]) -> Any:
    import shapely

    parts = shapely.get_parts(shapely.make_valid(np.asarray(polygons, dtype=object)))
    parts = shapely.get_parts(parts)
    return shapely.union_all(parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON])


def _is_region(properties: Any) -> bool:
    """Whether it is a review region of ours, which has no grade; also by way of QuPath."""
    if not isinstance(properties, dict) or properties.get("classification") is not None:
        return False
    metadata = properties.get("metadata")
    tool = metadata.get("tool") if isinstance(metadata, dict) else None
    return str(tool).startswith("napari-hspnet ") and bool(
        _REGION.match(str(properties.get("name")))
    )


def _name(properties: Any) -> str:
    if not isinstance(properties, dict):
        return ""
    said = properties.get("classification")
    if isinstance(said, dict):
        names = said.get("names")
        said = said.get("name") or (": ".join(map(str, names)) if names else None)
    elif said is None and "objectType" not in properties:
        said = next((properties[key] for key in _NAMES if properties.get(key) is not None), None)
    return "" if said is None else " ".join(str(said).split())
