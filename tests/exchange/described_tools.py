"""A case with corrections and review regions, and a slow answer to what is said of outlines."""

from pathlib import Path

import numpy as np
from export_tools import blobs
from rasterio.features import rasterize

from napari_hspnet.cases import Case, CaseSnapshot, Patch, RunRecord, Selection
from napari_hspnet.slides import Bounds, LabelBlock, LabelGrid, Level, PixelBox, Region, SlideInfo

SHAPE = (700, 640)
MPP = 0.5
BOUNDS = Bounds(y=48, x=96, height=1200, width=1100)


def slide(bounds=BOUNDS):
    return SlideInfo(
        path=Path("/slides/Jane Doe.svs"),
        backend="openslide",
        vendor="hamamatsu",
        levels=(Level((1400, 1280), (1.0, 1.0), (240, 240)),),
        mpp=(0.25, 0.25),
        mpp_source="file",
        mpp_problem=None,
        objective=40.0,
        bounds=bounds,
        fingerprint="ab" * 32,
    )


def predicted():
    # Specks in one corner only, for each of them is looked at slowly.
    values = np.kron(blobs(np.random.default_rng(11), (70, 64)), np.ones((10, 10), np.uint8))
    values[:60, :60] = blobs(np.random.default_rng(12), (60, 60))
    values[500:520, 100:620] = 3
    return values


def made_case(folder, bounds=BOUNDS):
    """Readers A and B corrected over the corner of four chunks; five review regions."""
    info = slide(bounds)
    case = Case.open_or_create(folder, info, LabelGrid.of(info, MPP))
    record = RunRecord(
        model_name="demo",
        model_sha256="12" * 32,
        card={"mpp": 1.0},
        settings={},
        region=Region.slide().to_dict(),
        device="cpu",
        versions={},
        slide_fingerprint="ab" * 32,
        synthetic=True,
        started="2026-11-23T10:11:12+00:00",
    )
    writer = case.start_run(record)
    values = predicted()
    for top in range(0, SHAPE[0], 512):
        for left in range(0, SHAPE[1], 512):
            part = values[top : top + 512, left : left + 512]
            writer.write(LabelBlock(top, left, part, np.full_like(part, 9), np.full_like(part, 9)))
    writer.finish(1.0)
    y, x = np.mgrid[:140, :140]
    round_ = (y - 70) ** 2 + (x - 70) ** 2 < 65**2
    paint(case, "A", 440, 440, np.full((140, 140), 4, np.uint8), round_)
    paint(case, "B", 500, 480, np.full((60, 60), 4, np.uint8), np.ones((60, 60), bool))
    paint(case, "B", 560, 470, np.full((40, 50), 2, np.uint8), np.ones((40, 50), bool))
    paint(case, "C", 20, 20, np.full((30, 30), 3, np.uint8), np.ones((30, 30), bool))
    case.editing.undo("C")
    review = case.review
    ring = np.zeros(SHAPE, bool)
    ring[440:580, 440:580] = round_
    chunks = {
        (r, c): ring[r * 512 : r * 512 + 512, c * 512 : c * 512 + 512]
        for r in range(2)
        for c in range(2)
    }
    drawn = Selection(SHAPE, {place: mask for place, mask in chunks.items() if mask.any()})
    boxes = [(430, 430, 600, 600), (0, 0, 700, 640), (0, 0, 37, 58), (500, 150, 512, 300)]
    found = [Selection.of_box(PixelBox(*box), SHAPE) for box in boxes]
    regions = review.add([drawn, *found], "drawn", "A")
    review.set_tag([regions[0].id], "invasion", "B")
    review.comment(regions[0].id, "asked Dr. Secret", "B")
    review.set_state([regions[0].id], "signed off", "B")
    review.set_state([regions[3].id], "reviewed", "A")
    return case


def paint(case, reader, y, x, values, where):
    case.editing.correct([Patch(y, x, values, where)], reader, "brush")


def reader_names(snapshot):
    """The reader of each label pixel by replaying whole tiles, empty where nobody's."""
    found = np.full(SHAPE, "", object)
    for seq in sorted(snapshot.standing):
        reader = snapshot.journal.entry(seq).reader
        for tile in snapshot.journal.tiles(seq):
            y, x = tile.row * 512 + tile.y, tile.col * 512 + tile.x
            part = found[y : y + tile.height, x : x + tile.width]
            part[tile.values() != tile.values(after=False)] = reader
    return found


def burn(polygon):
    return rasterize([(polygon, 1)], out_shape=SHAPE, fill=0).astype(bool)


class Slow:
    """Describes by looking at all label pixels of the slide."""

    def __init__(self, snapshot):
        whole = PixelBox(0, 0, *SHAPE)
        self.names = reader_names(snapshot).astype(str)
        self.order = snapshot.readers
        self.regions = {r.id: snapshot.selection(r.id).read(whole) for r in snapshot.regions}

    def __call__(self, mask):
        """(corrected pixels, readers, region ids) of some label pixels."""
        names, counts = np.unique(self.names[mask], return_counts=True)
        by = {str(n): int(c) for n, c in zip(names, counts, strict=True) if n}
        readers = tuple(sorted(by, key=lambda n: (-by[n], self.order.index(n))))
        regions = []
        for number, inside in self.regions.items():
            common = np.count_nonzero(inside & mask)
            if common and (common >= mask.sum() / 2 or common >= inside.sum() / 2):
                regions.append(number)
        return sum(by.values()), readers, tuple(regions)


def snapshot_of(case):
    return CaseSnapshot.of(case)
