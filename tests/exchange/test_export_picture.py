"""Pictures of the slide with its overlay, read back with Pillow."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from export_tools import ArrayLabels, about, blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from slide_case import made_case

from napari_hspnet.cases import Case
from napari_hspnet.classes import DEMO_BANNER, ORDINAL, PALETTES, PAPER
from napari_hspnet.errors import CancelledError, InputError, OutputError, RegionError
from napari_hspnet.exchange import CaseLabels, ExportInfo
from napari_hspnet.exchange.drawing import LINE, LINE_WIDTHS, outlined
from napari_hspnet.exchange.frame import Frame
from napari_hspnet.exchange.legend import Entry, Line, ScaleBar, Text, strip
from napari_hspnet.exchange.picture import SIDE, fitting_mpp, write_picture
from napari_hspnet.exchange.seen import Seen
from napari_hspnet.slides import LabelGrid, PixelBox, Region, open_slide

from slide_files import noise, write_generic_tiff


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def pixels(path):
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def picture(path, height, width):
    """Without the strip, which is wider than a narrow picture."""
    whole = pixels(path)
    start = (whole.shape[1] - width) // 2
    assert whole.shape[0] > height
    return whole[:height, start : start + width]


def a_slide(folder, height, width, mpp):
    return open_slide(write_generic_tiff(folder / "s.tiff", [noise(height, width)], mpp))


def test_beyond_the_lines_it_is_the_slide(tmp_path):
    values = np.zeros((300, 260), np.uint8)
    values[60:200, 50:210] = 3
    labels = ArrayLabels(values, 1.0)
    with a_slide(tmp_path, 600, 520, 0.5) as slide:
        path = write_picture(tmp_path / "p.png", slide, labels, about(labels, slide_mpp=(0.5, 0.5)))
        shown, own = picture(path, 600, 520), slide.read_grid(0, 0, 600, 520, 0.5)
    same = (shown == own).all(axis=2)
    reach = LINE_WIDTHS[3] + 2
    inner = np.zeros((600, 520), bool)
    inner[120 + reach : 400 - reach, 100 + reach : 420 - reach] = True
    outer = np.ones((600, 520), bool)
    outer[120 - 2 : 400 + 2, 100 - 2 : 420 + 2] = False
    assert same[inner].all()
    assert same[outer].all()
    assert (shown[120 : 120 + LINE_WIDTHS[3], 110:400] == PAPER.colours[3]).all()


@pytest.mark.parametrize("palette", PALETTES.values())
@pytest.mark.parametrize("value", [1, 2, 3, 4])
def test_each_grade_has_its_colour_and_weight(tmp_path, palette, value):
    values = np.zeros((200, 300), np.uint8)
    values[40:160, 50:250] = value
    labels = ArrayLabels(values)
    path = write_picture(tmp_path / "p.png", None, labels, about(labels, palette=palette))
    row = picture(path, 200, 300)[100, 50:150]
    width = LINE_WIDTHS[value]
    assert (row[:width] == palette.colours[value]).all()
    assert not (row[width] == palette.colours[value]).all()
    assert (row[width + 1 :] == 255).all()
    filled = write_picture(tmp_path / "f.png", None, labels, about(labels), fill=True)
    assert (picture(filled, 200, 300)[100, 150] == 255).all() == (value == 1)


@pytest.mark.parametrize("value", [253, 254, 255])
def test_what_was_not_analysed_is_hatched_and_said(tmp_path, value):
    values = np.zeros((200, 300), np.uint8)
    values[:, 100:] = value
    labels = ArrayLabels(values)
    shown = picture(write_picture(tmp_path / "p.png", None, labels, about(labels)), 200, 300)
    assert (shown[:, :100] == 255).all()
    assert (shown[:, 100:] < 255).any(axis=2).all()
    assert len(np.unique(shown[:, 100:].reshape(-1, 3), axis=0)) == 2
    said = about(labels, what="difference")
    other = picture(write_picture(tmp_path / "d.png", None, labels, said), 200, 300)
    assert (other == 255).all() == (value == 255)


def test_the_text_chunks_say_what_every_export_says(tmp_path):
    labels = ArrayLabels(np.zeros((90, 80)))
    path = write_picture(tmp_path / "p.png", None, labels, about(labels), mpp=2.0)
    with Image.open(path) as image:
        for key, text in about(labels).facts().items():
            if key != "exported":
                assert image.info[key] == text
        assert DEMO_BANNER in image.info["notice"]
        assert image.info["um_per_pixel"] == "2.0"
        assert image.info["dpi"] == pytest.approx((12700, 12700), rel=1e-3)


def test_a_region_is_cut_out_and_its_surroundings_are_lighter(tmp_path):
    values = np.full((400, 300), 2, np.uint8)
    labels = ArrayLabels(values)
    region = Region.shapes([[(100, 50), (100, 150), (300, 50)]])
    with a_slide(tmp_path, 400, 300, 1.0) as slide:
        path = write_picture(tmp_path / "p.png", slide, labels, about(labels), region=region)
        part, own = picture(path, 200, 100), slide.read_grid(100, 50, 200, 100, 1.0)
        boxed = write_picture(
            tmp_path / "b.png", slide, labels, about(labels), region=PixelBox(100, 50, 300, 150)
        )
    np.testing.assert_array_equal(picture(boxed, 200, 100), own)
    np.testing.assert_array_equal(part[40, 20], own[40, 20])
    beyond = part[150:, 60:].astype(int), own[150:, 60:].astype(int)
    assert (beyond[0] >= beyond[1]).all()
    assert beyond[0].mean() > beyond[1].mean() + 40
    assert (part.max(axis=2) < 90).any(), "its border is drawn"
    with pytest.raises(RegionError, match="outside"):
        write_picture(
            tmp_path / "o.png", None, labels, about(labels), region=PixelBox(500, 0, 600, 9)
        )


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.floats(0.2, 40),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.integers(0, 2**32 - 1),
)
def test_values_are_the_labels_under_the_centres_and_all_are_counted(
    height, width, mpp, grid_mpp, seed
):
    rng = np.random.default_rng(seed)
    labels = ArrayLabels(blobs(rng, (height, width)), grid_mpp)
    box = PixelBox(0, 0, height, width)
    frame = Frame.around(box, labels.grid, mpp)
    seen = Seen.of(labels, frame, box)
    y = np.minimum(((np.arange(frame.height) + 0.5) * mpp / grid_mpp).astype(int), height - 1)
    x = np.minimum(((np.arange(frame.width) + 0.5) * mpp / grid_mpp).astype(int), width - 1)
    nearest = labels.values[y][:, x]
    if not seen.enlarged:
        np.testing.assert_array_equal(seen.values, nearest)
    else:
        # Only ever by a grade that is not below what is there.
        other = seen.values != nearest
        assert (seen.values[other] <= 4).all()
        worse = (seen.values > nearest) | (nearest > 4)
        assert worse[other].all()
    square = (grid_mpp / 1000) ** 2
    values, counts = np.unique(labels.values, return_counts=True)
    assert seen.mm2 == pytest.approx(
        {int(v): n * square for v, n in zip(values, counts, strict=True)}
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1960), st.integers(0, 1960), st.floats(17, 120))
def test_a_focus_that_counts_is_seen_however_coarse_the_picture(y, x, mpp):
    values = np.ones((2000, 2000), np.uint8)
    values[y : y + 40, x : x + 40] = 4
    labels = ArrayLabels(values)
    box = PixelBox(0, 0, 2000, 2000)
    seen = Seen.of(labels, Frame.around(box, labels.grid, mpp), box)
    assert (seen.values == 4).any()
    assert seen.values[0 if y > 1000 else -1, 0 if x > 1000 else -1] == 1


def test_areas_of_a_region_are_counted_pixel_by_pixel(rng):
    labels = ArrayLabels(blobs(rng, (2300, 2200)))
    region = Region.shapes([[(100.0, 90.0), (110.0, 2190.0), (2250.0, 1000.0)]])
    box = region.box(labels.grid)
    frame = Frame.around(box, labels.grid, 7.3)
    seen = Seen.of(labels, frame, box, lambda part: region.mask(part, labels.grid))
    mask = region.mask(PixelBox(0, 0, 2300, 2200), labels.grid)
    values, counts = np.unique(labels.values[mask], return_counts=True)
    assert seen.mm2 == pytest.approx({int(v): n / 1e6 for v, n in zip(values, counts, strict=True)})


def test_lines_of_a_larger_scale_are_as_many_times_wider():
    values = np.zeros((80, 200), np.uint8)
    values[20:60, 20:180] = 2
    once, thrice = outlined(values, False), outlined(values, False, 3)
    assert np.count_nonzero(once[40, 20:100] == 2 + LINE) == LINE_WIDTHS[2]
    assert np.count_nonzero(thrice[40, 20:100] == 2 + LINE) == 3 * LINE_WIDTHS[2]


def test_the_default_fits_a_screen_and_is_no_finer_than_the_slide(tmp_path):
    grid = LabelGrid((42_240, 24_768))
    whole = PixelBox(0, 0, *grid.shape)
    assert Frame.around(whole, grid, fitting_mpp(None, grid, whole)).height == SIDE
    small = PixelBox(0, 0, 100, 100)
    assert fitting_mpp(None, grid, small) == 1.0
    with a_slide(tmp_path, 64, 64, 0.25) as slide:
        assert fitting_mpp(slide, grid, small) == pytest.approx(0.25)


def test_too_large_a_picture_names_a_resolution_that_works(tmp_path):
    labels = ArrayLabels(np.zeros((3000, 3000), np.uint8))
    with pytest.raises(InputError, match="more than most") as caught:
        write_picture(tmp_path / "p.png", None, labels, about(labels), mpp=0.1)
    assert not list(tmp_path.iterdir())
    advised = float(caught.value.advice.split()[1])
    frame = Frame.around(PixelBox(0, 0, 3000, 3000), labels.grid, advised)
    assert 50_000_000 < frame.height * frame.width <= 80_000_000
    with pytest.raises(InputError, match="no resolution"):
        write_picture(tmp_path / "p.png", None, labels, about(labels), mpp=float("inf"))


def test_an_existing_picture_is_kept(tmp_path):
    labels = ArrayLabels(np.zeros((30, 30), np.uint8))
    path = tmp_path / "p.png"
    path.write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        write_picture(path, None, labels, about(labels))
    assert path.read_text() == "precious"
    write_picture(path, None, labels, about(labels), overwrite=True)
    assert pixels(path).size


@pytest.mark.parametrize("part", [0.0, 0.25, 0.4, 0.79])
def test_cancelling_at_any_time_leaves_nothing(tmp_path, part):
    labels = ArrayLabels(np.full((3000, 2000), 2, np.uint8))
    cancel = threading.Event()
    told = []

    def progress(done):
        told.append(done)
        if done >= part:
            cancel.set()

    with pytest.raises(CancelledError):
        write_picture(
            tmp_path / "p.png", None, labels, about(labels), progress=progress, cancel=cancel
        )
    assert told == sorted(told)
    assert not list(tmp_path.iterdir())


def test_progress_reaches_the_end(tmp_path):
    labels = ArrayLabels(np.full((2500, 700), 2, np.uint8))
    told = []
    write_picture(tmp_path / "p.png", None, labels, about(labels), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert labels.largest <= 2048 * 2048


def test_a_part_that_cannot_be_read_is_grey_and_said(tmp_path, monkeypatch):
    labels = ArrayLabels(np.zeros((600, 600), np.uint8))
    with a_slide(tmp_path, 600, 600, 1.0) as slide:
        whole = pixels(write_picture(tmp_path / "w.png", slide, labels, about(labels)))
        real = slide.read_grid

        def damaged(y, x, *rest):
            from napari_hspnet.errors import SlideReadError

            if (y, x) == (0, 512):
                raise SlideReadError("no", advice="copy")
            return real(y, x, *rest)

        monkeypatch.setattr(slide, "read_grid", damaged)
        shown = pixels(write_picture(tmp_path / "p.png", slide, labels, about(labels)))
    assert len(np.unique(shown[:512, 512:600].reshape(-1, 3), axis=0)) == 1
    np.testing.assert_array_equal(shown[:512, :512], whole[:512, :512])
    assert shown.shape[0] > whole.shape[0], "a line says so"


@pytest.mark.parametrize(
    ("width", "mpp", "text"),
    [
        (3000, 0.5, "200 µm"),
        (400, 40.0, "2 mm"),
        (1000, 4.0, "1 mm"),
        (40, 1.0, "10 µm"),
        (3, 0.05, "0.02 µm"),
    ],
)
def test_the_scale_bar_is_round_and_true(width, mpp, text):
    bar = ScaleBar.of(width, mpp)
    assert bar.text == text
    assert abs(bar.pixels * mpp - bar.um) <= mpp
    assert bar.pixels <= max(1, width / 4)


def test_the_bar_in_the_picture_is_as_long_as_it_says():
    image = np.asarray(strip(900, 20, [], [], ScaleBar.of(900, 1.0)))
    dark = (image < 60).all(axis=2)
    assert dark.sum(axis=1).max() == 200


LETTERS = st.text(
    st.one_of(st.sampled_from("µ² abcXYZ019·→Æøéß伊"), st.characters(codec="utf-8")), max_size=80
)


@settings(max_examples=60, deadline=None)
@given(LETTERS, st.integers(30, 400))
def test_no_text_is_cut_off(said, width):
    text = Text(16)
    lines = text.wrapped(said, width)
    assert "".join(lines).replace(" ", "") == "".join(text.shown(said).split())
    for line in lines:
        assert len(line) == 1 or text.length(line) <= width


@pytest.mark.parametrize("width", [40, 700, 3000])
def test_nothing_is_written_over_the_strips_edge(width):
    entries = [Entry(np.full((18, 29, 3), 90, np.uint8), "not analysed: no tissue 12.3 mm²")] * 7
    lines = [Line("µ² averyveryverylongword_" * 40), Line("DEMO MODEL")]
    image = np.asarray(strip(width, 16, entries, lines, ScaleBar.of(width, 1.0)))
    assert image.shape[1] >= width
    for edge in (image[:4], image[-4:], image[:, :4], image[:, -4:]):
        assert (edge == 255).all()


def test_micro_and_square_are_drawn():
    def ink(said):
        image = np.asarray(strip(600, 40, [], [Line(said)], ScaleBar.of(40, 1.0)))
        return image[:, :, 0] < 128

    u, micro, two, square, box = (ink(letter) for letter in ("u", "µ", "2", "²", "\uffff"))
    assert (micro & u).sum() > 0.95 * u.sum(), "a u"
    assert np.flatnonzero(micro.any(axis=1)).max() > np.flatnonzero(u.any(axis=1)).max() + 4
    assert 0 < square.sum() - ink("").sum() < two.sum() - ink("").sum()
    assert not any(np.array_equal(each, box) for each in (micro, square))
    assert Text(20).shown("é Æ → 伊 n\u0303 ≥1") == "e AE -> ? n >=1"


def test_of_a_case_with_its_slide(tmp_path):
    with made_case(tmp_path) as (_, snapshot, slide):
        said = ExportInfo.of_snapshot(snapshot, palette=ORDINAL)
        path = write_picture(tmp_path / "p.png", slide, CaseLabels(snapshot.composite), said)
        shown = pixels(path)
        assert shown.shape[1] == 900
        assert (shown[220 : 220 + 4, 150:230] == ORDINAL.colours[4]).all(), "the correction's line"
        with Image.open(path) as image:
            assert "Meyer" not in json_of(image)


def json_of(image):
    return " ".join(map(str, image.info.values()))


def test_a_case_opened_again_gives_the_same_picture(tmp_path):
    with made_case(tmp_path) as (case, snapshot, slide):
        said = ExportInfo.of_snapshot(snapshot)
        first = pixels(
            write_picture(tmp_path / "1.png", slide, CaseLabels(snapshot.composite), said)
        )
        folder = case.folder
        with Case.open(folder) as again:
            from napari_hspnet.cases import CaseSnapshot

            later = CaseSnapshot.of(again)
            second = replace(ExportInfo.of_snapshot(later), exported=said.exported)
            np.testing.assert_array_equal(
                first,
                pixels(
                    write_picture(tmp_path / "2.png", slide, CaseLabels(later.composite), second)
                ),
            )
