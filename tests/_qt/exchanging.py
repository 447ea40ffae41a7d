"""What the tests of exporting and importing share: files from other programs, waits."""

from __future__ import annotations

import json
import threading
import time


def outline(y0, x0, y1, x1, name):
    """A rectangle as QuPath writes one; without a class where the name is None."""
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    properties = {"objectType": "annotation"}
    if name is not None:
        properties["classification"] = {"name": name, "color": [10, 20, 30]}
    return {
        "type": "Feature",
        "id": f"{y0}-{x0}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": properties,
    }


def write_outlines(path, *outlines):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(outlines)}))
    return path


def held(module, name, monkeypatch):
    """Lets a function of a module wait until it is released or cancelled.

    Returns (begun, released): events that it sets and waits for.
    """
    begun, released = threading.Event(), threading.Event()
    real = getattr(module, name)

    def slow(*args, **kwargs):
        begun.set()
        cancel = kwargs.get("cancel", args[-1] if args else None)
        end = time.monotonic() + 30
        while not released.is_set() and not cancel.is_set():
            assert time.monotonic() < end
            time.sleep(0.01)
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, slow)
    return begun, released
