"""PNG and TIFF masks laid onto label grids, and whatever is wrong with them."""

import struct
import threading
import zlib

import numpy as np
import pytest
import tifffile
from export_tools import ArrayLabels, about, blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from import_tools import facts, grades_of, grid_of, read_all
from PIL import Image

from napari_hspnet.errors import CancelledError, InputError
from napari_hspnet.exchange import write_ome_tiff, write_png
from napari_hspnet.exchange.incoming import LEFT, REST, open_incoming
from napari_hspnet.slides import LabelGrid, PixelBox

SLIDE = facts()
GRID = grid_of(SLIDE)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def classes(rng):
    return blobs(rng, GRID.shape, (0, 1, 2, 3, 4))


def save_png(path, values, **how):
    Image.fromarray(values).save(path, **how)
    return path


def save_tiff(path, values, **how):
    tifffile.imwrite(path, values, **how)
    return path


def as_said(values):
    """What a mask of ours means: 253 to 255 nothing, 0 its rest."""
    out = np.where(values >= 253, LEFT, values).astype(np.uint8)
    out[values == 0] = REST
    return out


def names(incoming):
    return {n.key: (n.count, n.grade) for n in incoming.names}


# Our own


@pytest.mark.parametrize(("write", "kind"), [(write_png, "png"), (write_ome_tiff, "tiff")])
@pytest.mark.parametrize(("shape", "mpp"), [((600, 801), 1.0), ((1301, 90), 0.5), ((70, 9), 2.25)])
def test_our_masks_come_back_as_they_were(tmp_path, rng, write, kind, shape, mpp):
    values = blobs(rng, shape)
    labels = ArrayLabels(values, mpp)
    path = write(tmp_path / "mask", labels, about(labels))
    slide = facts(tuple(int(n * mpp / 0.25) for n in shape), 0.25)
    with open_incoming(path, slide, labels.grid) as incoming:
        assert (incoming.kind, incoming.notes, incoming.rest_is_none) == (kind, (), True)
        np.testing.assert_array_equal(read_all(incoming, labels.grid), as_said(values))
        found, counts = np.unique(values[values > 0], return_counts=True)
        assert names(incoming) == {
            str(v): (n, v if v <= 4 else LEFT) for v, n in zip(found, counts, strict=True)
        }
        assert incoming.box == PixelBox(0, 0, *shape)


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("mask_mpp", [0.5, 0.7, 1.0, 1.9, 4.0])
@pytest.mark.parametrize("label_mpp", [0.5, 1.0, 2.0])
def test_each_label_pixel_takes_what_its_centre_lies_in(tmp_path, rng, kind, mask_mpp, label_mpp):
    slide = facts((60, 85), 0.9)
    grid = grid_of(slide, label_mpp)
    side = [int(np.ceil(n * 0.9 / mask_mpp)) for n in slide.shape]
    values = blobs(rng, side, (0, 1, 2, 3, 4, 255))
    save = save_png if kind == "png" else save_tiff
    path = save(tmp_path / "mask", values, **({"format": "PNG"} if kind == "png" else {}))
    with open_incoming(path, slide, grid, mpp=mask_mpp) as incoming:
        found = read_all(incoming, grid)
        blocks = read_all(incoming, grid, block_side=50)
    np.testing.assert_array_equal(blocks, found)
    expected = np.full(grid.shape, LEFT, np.uint8)
    for i in range(grid.shape[0]):
        for j in range(grid.shape[1]):
            # A centre on a border lies in the next pixel, whatever floats make of it.
            y, x = (int((n + 0.5) * label_mpp / mask_mpp + 1e-6) for n in (i, j))
            if y < side[0] and x < side[1]:
                expected[i, j] = as_said(values)[y, x]
    np.testing.assert_array_equal(found, expected)


def test_our_masks_of_another_label_grid_of_the_slide(tmp_path, rng):
    slide = facts((803, 611), 0.25)
    coarse = grid_of(slide, 2.25)
    values = blobs(rng, coarse.shape)
    labels = ArrayLabels(values, 2.25)
    for write, more in ((write_ome_tiff, {}), (write_png, {"mpp": 0.5})):
        path = write(tmp_path / "mask", labels, about(labels), overwrite=True, **more)
        grid = grid_of(slide, 0.75)
        with open_incoming(path, slide, grid) as incoming:
            found = read_all(incoming, grid)
            assert ("coarser than the overlay's" in " ".join(incoming.notes)) == (not more)
        rows, columns = (np.arange(n) // 3 for n in grid.shape)
        np.testing.assert_array_equal(found, as_said(values)[rows][:, columns])


def test_a_mask_of_another_slide_is_said(tmp_path, classes):
    labels = ArrayLabels(classes)
    path = write_png(tmp_path / "m.png", labels, about(labels, slide_fingerprint="cd" * 32))
    with open_incoming(path, SLIDE, GRID) as incoming:
        (note,) = incoming.notes
    assert "another slide (cdcdcdcdcdcd…)" in note


# Of others


TIFFS = {
    "plain": {},
    "strips": {"compression": "zlib", "rowsperstrip": 7},
    "tiles": {"compression": "lzw", "tile": (128, 256)},
    "predictor": {"compression": "zlib", "predictor": True},
    "palette": {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)},
    "bigtiff": {"bigtiff": True, "tile": (64, 64)},
    "big-endian": {"byteorder": ">"},
    "16 bits": {"dtype": np.uint16, "compression": "zlib"},
    "16 bits plain": {"dtype": np.uint16, "byteorder": ">"},
    "32 bits": {"dtype": np.int32},
}


@pytest.mark.parametrize("how", TIFFS)
def test_tiffs_of_every_kind(tmp_path, classes, how):
    options = dict(TIFFS[how])
    values = classes.astype(options.pop("dtype", np.uint8))
    path = save_tiff(tmp_path / "m.tif", values, **options)
    with open_incoming(path, SLIDE, GRID) as incoming:
        assert incoming.kind == "tiff"
        assert not incoming.rest_is_none
        (note,) = incoming.notes
        assert "taken to cover the whole slide, with 1 µm per pixel" in note
        np.testing.assert_array_equal(read_all(incoming, GRID), as_said(classes))
        np.testing.assert_array_equal(read_all(incoming, GRID, block_side=300), as_said(classes))


def grey_png(path, values, bits):
    """A PNG of grey values of few bits, which Pillow reads but does not write."""
    height, width = values.shape
    flags = (values[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    rows = np.packbits(flags.reshape(height, -1).astype(np.uint8), axis=1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("kind", ["L", "P", "I;16", "grey 2", "grey 4", "P 2"])
def test_pngs_of_every_kind(tmp_path, classes, kind):
    path = tmp_path / "m.png"
    if kind == "grey 2" or kind == "P 2":
        classes = np.minimum(classes, 3)
    if kind.startswith("grey"):
        grey_png(path, classes, int(kind[-1]))
    elif kind.startswith("P"):
        image = Image.fromarray(classes)
        image.putpalette([n for v in range(5) for n in (v, 9 * v, 200)])
        image.save(path, **({"bits": 2} if kind == "P 2" else {}))
    else:
        save_png(path, classes.astype(np.uint16) if kind == "I;16" else classes)
    with open_incoming(path, SLIDE, GRID) as incoming:
        assert not incoming.rest_is_none
        np.testing.assert_array_equal(read_all(incoming, GRID), as_said(classes))


def test_values_that_are_no_grades_are_asked_for(tmp_path, classes):
    values = classes.astype(np.uint16)
    values[classes == 2], values[classes == 3], values[:10, :10] = 7, 12_000, 254
    path = save_tiff(tmp_path / "m.tif", values)
    with open_incoming(path, SLIDE, GRID) as incoming:
        grades = grades_of(incoming)
        assert grades == {"1": 1, "4": 4, "7": None, "254": LEFT, "12000": None}
        assert names(incoming)["7"][0] == (values == 7).sum()
        found = read_all(incoming, GRID, grades | {"7": 2, "12000": LEFT, "254": 0})
    expected = as_said(classes)
    expected[classes == 3] = LEFT
    expected[:10, :10] = 0
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("white", [1, 255])
def test_black_and_white_does_not_say_a_grade(tmp_path, classes, white):
    there = classes >= 2
    if white == 1:
        path = tmp_path / "m.png"
        Image.fromarray(there).save(path)
        tiff = save_tiff(tmp_path / "m.tif", there)
    else:
        path = save_png(tmp_path / "m.png", np.where(there, 255, 0).astype(np.uint8))
        tiff = save_tiff(tmp_path / "m.tif", np.where(there, 255, 0).astype(np.uint8))
    for file in (path, tiff):
        with open_incoming(file, SLIDE, GRID) as incoming:
            assert names(incoming) == {str(white): (there.sum(), None)}
            assert f"which grade {'white' if white == 1 else '255'} is" in incoming.notes[1]
            found = read_all(incoming, GRID, {str(white): 3})
        np.testing.assert_array_equal(found, np.where(there, 3, REST))


# How large, and where


def test_a_size_that_says_how_large(tmp_path):
    slide = facts((6001, 8003), 0.25)
    grid = grid_of(slide)
    assert grid.shape == (1501, 2001)
    for shape, mpp in (
        ((6001, 8003), 0.25),
        ((1501, 2001), 1.0),
        ((1500, 2000), 1.0),
        ((750, 1000), 2.0),
        ((375, 500), 4.0),
        ((376, 501), 4.0),
        ((600, 800), 2.5),
    ):
        path = save_tiff(tmp_path / "m.tif", np.ones(shape, np.uint8), compression="zlib")
        with open_incoming(path, slide, grid) as incoming:
            assert incoming.said["um_per_pixel"] == [pytest.approx(mpp, rel=1e-3)] * 2
            assert "does not say its µm per pixel" in incoming.notes[0]
    for shape in ((1480, 2000), (2000, 1500), (300, 300)):
        path = save_tiff(tmp_path / "m.tif", np.ones(shape, np.uint8))
        with pytest.raises(InputError) as caught:
            open_incoming(path, slide, grid)
        said = str(caught.value)
        for words in (f"{shape[1]:,} x {shape[0]:,}", "8,003 x 6,001", "2,001 x 1,501", "m.tif"):
            assert words in said


def test_a_slide_whose_pixels_are_not_square(tmp_path, rng):
    slide = facts((400, 300))
    slide = type(slide)(slide.name, slide.fingerprint, slide.shape, (0.5, 0.25), None, True)
    grid = LabelGrid((200, 75), 1.0)
    values = blobs(rng, (400, 300), (0, 1, 2, 3, 4))
    path = save_png(tmp_path / "m.png", values)
    with open_incoming(path, slide, grid) as incoming:
        np.testing.assert_array_equal(read_all(incoming, grid), as_said(values)[1::2, 2::4])


def ome(path, values, size, unit="µm"):
    tifffile.imwrite(
        path,
        values,
        ome=True,
        metadata={
            "axes": "YX",
            "PhysicalSizeX": size,
            "PhysicalSizeXUnit": unit,
            "PhysicalSizeY": size,
            "PhysicalSizeYUnit": unit,
        },
    )
    return path


@pytest.mark.parametrize(("size", "unit"), [(2.0, "µm"), (2000.0, "nm"), (0.002, "mm")])
def test_ome_tiffs_say_their_resolution(tmp_path, classes, size, unit):
    half = classes[::2, ::2]
    path = ome(tmp_path / "m.ome.tif", half, size, unit)
    with open_incoming(path, SLIDE, GRID) as incoming:
        assert incoming.said == {"um_per_pixel": [2.0, 2.0]}
        assert not incoming.rest_is_none
        rows, columns = (np.arange(n) // 2 for n in GRID.shape)
        np.testing.assert_array_equal(read_all(incoming, GRID), as_said(half)[rows][:, columns])


def test_what_is_asked_for_counts_more_than_what_the_file_says(tmp_path, classes):
    path = ome(tmp_path / "m.ome.tif", classes, 0.25)
    with pytest.raises(InputError) as caught:
        open_incoming(path, SLIDE, GRID)
    said = str(caught.value)
    assert "800 x 600 pixels at 0.25 µm is 200 x 150 µm, but the slide is 800 x 600 µm" in said
    assert "1 µm per pixel if it shows the whole slide" in said
    with open_incoming(path, SLIDE, GRID, mpp=1.0) as incoming:
        assert incoming.notes == ("The file says 0.25 µm per pixel; 1 are taken, as asked",)
        np.testing.assert_array_equal(read_all(incoming, GRID), as_said(classes))


@pytest.mark.parametrize(("at", "mpp"), [((100, 200), 1.0), ((-30, 700), 1.0), ((40.5, 3.25), 0.5)])
def test_a_part_of_the_slide_lies_where_it_is_said_to(tmp_path, classes, at, mpp):
    part = classes[:120, :150]
    path = save_png(tmp_path / "m.png", part)
    with open_incoming(path, SLIDE, GRID, mpp=mpp, at=at) as incoming:
        found = read_all(incoming, GRID)
        box = incoming.box
        beyond = at[0] < 0 or at[1] + 150 * mpp > 800
        assert any("reaches beyond the slide" in note for note in incoming.notes) == beyond
        assert incoming.said == {"um_per_pixel": [mpp, mpp], "at_um": [at[1], at[0]]}
    expected = np.full(GRID.shape, LEFT, np.uint8)
    for i in range(GRID.shape[0]):
        for j in range(GRID.shape[1]):
            y, x = ((n + 0.5 - start) / mpp for n, start in zip((i, j), at, strict=True))
            if 0 <= y < 120 and 0 <= x < 150:
                expected[i, j] = as_said(part)[int(y), int(x)]
    np.testing.assert_array_equal(found, expected)
    inside = np.argwhere(expected != LEFT)
    (y0, x0), (y1, x1) = inside.min(axis=0), inside.max(axis=0) + 1
    assert box == PixelBox(y0, x0, y1, x1)


def test_a_part_needs_both_resolution_and_place(tmp_path, classes):
    path = save_png(tmp_path / "m.png", classes[:120, :150])
    with pytest.raises(InputError, match="does not say its µm per pixel"):
        open_incoming(path, SLIDE, GRID, at=(10, 10))
    with pytest.raises(InputError, match="but the slide is 800 x 600"):
        open_incoming(path, SLIDE, GRID, mpp=1.0)
    with pytest.raises(InputError, match="lies outside the slide"):
        open_incoming(path, SLIDE, GRID, mpp=1.0, at=(700, 0))
    for how in ({"mpp": 0.0}, {"mpp": -1.0}, {"mpp": float("nan")}):
        with pytest.raises(InputError, match="no resolution"):
            open_incoming(path, SLIDE, GRID, **how)
    with pytest.raises(InputError, match="no point"):
        open_incoming(path, SLIDE, GRID, mpp=1.0, at=(float("nan"), 0))
    with pytest.raises(InputError, match="origin is for outlines"):
        open_incoming(path, SLIDE, GRID, origin="level0")


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 600),
    st.integers(1, 600),
    st.sampled_from([0.23, 0.25, 0.499, 1.0, 4.4]),
    st.sampled_from([0.3, 0.5, 1.0, 2.25]),
    st.sampled_from([0.4, 1.0, 2.25, 10.0]),
)
def test_a_mask_of_any_grid_of_the_slide_has_a_size_that_fits(height, width, mpp, own, other):
    """What any export of the slide has as its size is taken for the whole slide."""
    from napari_hspnet.exchange.incoming_mask import _refuse_other_size
    from napari_hspnet.exchange.png import png_shape
    from napari_hspnet.exchange.reading_masks import MaskFile

    slide = facts((height, width), mpp)
    grid = grid_of(slide, own)
    for shape, step in ((grid.shape, own), (png_shape(grid, other), other)):
        said = {"label_um_per_pixel": repr(own)}
        file = MaskFile(None, shape, np.dtype(np.uint8), (step, step), said, None)
        _refuse_other_size(file, (step, step), slide, grid_of(slide, 0.3))


# What is no mask


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("a.png", lambda p: Image.new("RGB", (800, 600)).save(p), "colour picture (RGB)"),
        ("a.png", lambda p: Image.new("RGBA", (800, 600)).save(p), "colour picture (RGBA)"),
        ("a.png", lambda p: Image.new("LA", (800, 600)).save(p), "colour picture (LA)"),
        ("a.tif", lambda p: save_tiff(p, np.zeros((600, 800, 3), np.uint8)), "several channels"),
        (
            "a.tif",
            lambda p: save_tiff(p, np.zeros((4, 600, 800), np.uint8), photometric="minisblack"),
            "several channels",
        ),
        ("a.tif", lambda p: save_tiff(p, np.zeros((600, 800), np.float32)), "float32 values"),
        (
            "a.tif",
            lambda p: save_tiff(p, np.arange(480_000, dtype=np.uint32).reshape(600, 800)),
            "more than 32 values",
        ),
        (
            "a.png",
            lambda p: save_png(p, (np.arange(480_000) % 256).astype(np.uint8).reshape(600, 800)),
            "more than 32 values",
        ),
        ("a.png", lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 99), "cannot be read"),
        ("a.tif", lambda p: p.write_bytes(b"II*\0" + b"\xff" * 99), "holds no image"),
        ("a.tif", lambda p: p.write_bytes(b"MM\0*"), "cannot be read"),
    ],
)
def test_what_is_no_mask(tmp_path, name, make, words):
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError) as caught:
        open_incoming(path, SLIDE, GRID)
    assert words in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize("kind", ["png", "strips", "tiles"])
def test_a_mask_that_was_cut_off(tmp_path, rng, kind):
    values = rng.integers(0, 5, (600, 800), np.uint8)
    path = tmp_path / "m"
    if kind == "png":
        save_png(path, values, format="PNG")
        path.write_bytes(path.read_bytes()[:-20_000])
    else:
        save_tiff(path, values, **TIFFS[kind])
        whole = bytearray(path.read_bytes())
        middle = len(whole) // 2
        whole[middle : middle + 3000] = b"\0" * 3000
        path.write_bytes(bytes(whole))
    with pytest.raises(InputError, match="The mask cannot be read"):
        open_incoming(path, SLIDE, GRID)


def test_a_png_too_large_to_be_read_whole(tmp_path):
    path = tmp_path / "m.png"
    head = struct.pack(">IIBBBBB", 20_000, 9_001, 8, 0, 0, 0, 0)
    body = b"IHDR" + head
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
        + struct.pack(">I", 1) + b"IDATx" + struct.pack(">I", zlib.crc32(b"IDATx"))
    )  # fmt: skip
    with pytest.raises(InputError) as caught:
        open_incoming(path, facts((9_001, 20_000)), LabelGrid((9_001, 20_000), 1.0))
    assert "20,000 x 9,001" in str(caught.value)
    assert "tiled TIFF" in str(caught.value)


def test_a_mask_of_nothing_says_so(tmp_path):
    path = save_png(tmp_path / "m.png", np.zeros(GRID.shape, np.uint8))
    with open_incoming(path, SLIDE, GRID) as incoming:
        assert incoming.names == ()
        assert "holds nothing but 0" in incoming.notes[-1]
        assert (read_all(incoming, GRID) == REST).all()


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_reading_tells_its_progress_and_stops(tmp_path, rng, kind):
    slide = facts((3000, 5000))
    values = rng.integers(0, 5, slide.shape, np.uint8)
    save = save_png if kind == "png" else save_tiff
    path = save(tmp_path / "m", values, **({"format": "PNG"} if kind == "png" else {}))
    told = []
    with open_incoming(path, slide, grid_of(slide), progress=told.append) as incoming:
        assert sum(n.count for n in incoming.names) == (values > 0).sum()
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > 5
    for most in (0.0, 0.25, 0.6):
        cancel = threading.Event()
        later = []

        def stop(part, most=most, cancel=cancel, later=later):
            if cancel.is_set():
                later.append(part)
            if part > most:
                cancel.set()

        with pytest.raises(CancelledError):
            open_incoming(path, slide, grid_of(slide), progress=stop, cancel=cancel)
        assert len(later) <= 1
