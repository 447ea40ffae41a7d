"""Writes docs/images/phantom-*.jpg: phantoms beside the real slide, and what the demo model sees.

    python docs/make_phantom_pictures.py [name …]        (no display is needed)

Everything comes from fixed seeds, so the pictures change with the generator alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

IMAGES = Path(__file__).resolve().parent / "images"
Rgb = npt.NDArray[np.uint8]

_CAPTION = 26
_GAP = 6
_TILE = 400


def main(only: Sequence[str]) -> None:
    IMAGES.mkdir(exist_ok=True)
    for name, make in (
        ("beside-real", beside_real),
        ("looks", looks),
        ("domains", domains),
        ("slide", slide),
        ("failures", failures),
        ("model-on-real", model_on_real),
    ):
        if only and name not in only:
            continue
        make().save(IMAGES / f"phantom-{name}.jpg", quality=88)
        print(f"phantom-{name}.jpg", flush=True)


def beside_real() -> Image.Image:
    """A biopsy's phantom and the real squamous slide (skin, CC0) at x4, x10 and x20."""
    import openslide

    from napari_hspnet.jobs.samples import sample_slide_path
    from napari_hspnet.phantom import domain_field

    tiles = []
    with openslide.OpenSlide(sample_slide_path()) as real:
        for name, mpp, left, top in (
            ("x4", 2.5, 500, 300),
            ("x10", 1.0, 700, 500),
            ("x20", 0.5, 860, 760),
        ):
            for seed, grades in ((11, (1, 4)), (14, (2,))):
                found = domain_field(seed, _TILE, _TILE, mpp, grades)
                tiles.append((f"phantom, {name}", found.rgb))
            side = round(_TILE * mpp / 0.499)
            part = real.read_region((min(left, 2220 - side), top), 0, (side, side))
            part = part.convert("RGB").resize((_TILE, _TILE), Image.Resampling.BOX)
            tiles.append((f"real (skin), {name}", np.asarray(part)))
    return _sheet(tiles, 3)


def looks() -> Image.Image:
    """The grades, and epithelium that only looks alarming."""
    from napari_hspnet.phantom import domain_field
    from napari_hspnet.phantom.geometry import LOOKS

    tiles = []
    for grade, name in ((2, "CIN1"), (3, "CIN2"), (4, "CIN3")):
        tiles.append((name, domain_field(_seed_of(grade, 0), _TILE, _TILE, 1.0, (grade,)).rgb))
    for look, name in enumerate(LOOKS):
        rgb = domain_field(_seed_of(1, look), _TILE, _TILE, 1.0, (1,)).rgb
        tiles.append((f"normal, {name}", rgb))
    return _sheet(tiles, 4)


def _seed_of(grade: int, look: int) -> int:
    """The first field whose epithelium has a grade and a look and fills enough of it."""
    from napari_hspnet.phantom.geometry import pixel_centres
    from napari_hspnet.phantom.growth import field_band

    centres = pixel_centres(0, _TILE // 4, 4.0)
    for seed in range(40, 4000):
        band = field_band(np.random.default_rng([seed, 1]), _TILE, _TILE, (grade,))
        if (band.look == look).all():
            code = band.codes(centres[:, None], centres[None])
            if 0.4 < (code == grade).mean() < 0.7 and (code == 0).mean() > 0.1:
                return seed
    raise LookupError(f"no field of grade {grade} and look {look}")


def domains() -> Image.Image:
    """One field in every laboratory."""
    from napari_hspnet.phantom import DOMAINS, domain_field

    return _sheet(
        [
            (
                f"{d.name}: {d.title.partition(':')[0]}",
                domain_field(23, _TILE, _TILE, 0.5, (3,), d.name).rgb,
            )
            for d in DOMAINS.values()
        ],
        3,
    )


def slide() -> Image.Image:
    """The sample slide and its truth."""
    import tempfile

    import openslide

    from napari_hspnet.phantom import sample_spec, truth_block, write_phantom

    spec = sample_spec()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "phantom.tiff"
        write_phantom(path, spec)
        with openslide.OpenSlide(path) as opened:
            shown = np.asarray(opened.get_thumbnail((900, 600)).convert("RGB"))
    height, width = spec.label_shape
    truth = truth_block(spec, 0, 0, height, width)
    rows = np.linspace(0, height - 1, shown.shape[0]).astype(int)
    cols = np.linspace(0, width - 1, shown.shape[1]).astype(int)
    return _sheet(
        [("as it was scanned", shown), ("its truth", painted(shown, truth[rows][:, cols]))], 1
    )


def failures() -> Image.Image:
    """The three of 24 test slides that the demo model reads worst, at stride 200."""
    from napari_hspnet.jobs.phantom_slides import answer_slide, slide_spec, ways_of, with_slide
    from napari_hspnet.networks import demo_model_path, load_checkpoint
    from napari_hspnet.phantom.splits import seeds_of

    model = load_checkpoint(demo_model_path())
    found = []
    for seed in seeds_of("test", 0, 24):
        with with_slide(slide_spec(seed)) as judged:
            answer = answer_slide(judged, model, ways_of(model.card)[1].settings)
            annotated = judged.truth > 0
            right = float((answer == judged.truth)[annotated].mean())
            found.append((right, seed, judged.rgb(), judged.truth, answer))
    tiles = []
    for right, seed, rgb, truth, answer in sorted(found, key=lambda one: one[0])[:3]:
        for name, shown in (
            (f"test slide {seed - 2_000_000_000}", rgb),
            ("truth", painted(rgb, truth)),
            (f"model: {right:.0%} of annotated pixels right", painted(rgb, answer)),
        ):
            tiles.append((name, np.ascontiguousarray(shown[::4, ::4])))
    return _sheet(tiles, 3)


def model_on_real() -> Image.Image:
    """What the demo model draws on the real squamous slide, which it cannot know."""
    from napari_hspnet.inference import Settings, segment
    from napari_hspnet.jobs.samples import sample_slide_path
    from napari_hspnet.networks import demo_model_path, load_checkpoint
    from napari_hspnet.slides import LabelGrid, Region, open_slide

    model = load_checkpoint(demo_model_path())
    with open_slide(sample_slide_path()) as real:
        height, width = LabelGrid.of(real.info, 1.0).shape
        labels = np.zeros((height, width), np.uint8)

        class Canvas:
            def write(self, block) -> None:
                rows, cols = block.classes.shape
                labels[block.y : block.y + rows, block.x : block.x + cols] = block.classes

        segment(real, model, Region.slide(), Canvas(), settings=Settings(model.card.window))
        rgb = real.read_grid(0, 0, height, width, 1.0)
    return _sheet(
        [
            ("real slide (skin, no CIN)", rgb[::2, ::2]),
            ("demo model", painted(rgb, labels)[::2, ::2]),
        ],
        2,
    )


def painted(rgb: Rgb, values: Rgb) -> Rgb:
    """Class colours over a picture."""
    from napari_hspnet.classes import PAPER

    out = rgb.astype(np.float32)
    for value, colour in PAPER.colours.items():
        out[values == value] = 0.5 * out[values == value] + 0.5 * np.asarray(colour)
    return out.astype(np.uint8)


def _sheet(tiles: Sequence[tuple[str, Rgb]], columns: int) -> Image.Image:
    height = max(rgb.shape[0] for _, rgb in tiles) + _CAPTION
    width = max(rgb.shape[1] for _, rgb in tiles)
    rows = -(-len(tiles) // columns)
    size = columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP
    sheet = Image.new("RGB", size, "white")
    for (x, y), (caption, rgb) in zip(_places(columns, width, height), tiles, strict=False):
        ImageDraw.Draw(sheet).text((x + 2, y + 6), caption, fill=(30, 30, 30), font_size=15)
        sheet.paste(Image.fromarray(rgb), (x, y + _CAPTION))
    return sheet


def _places(columns: int, width: int, height: int) -> Iterator[tuple[int, int]]:
    number = 0
    while True:
        yield (number % columns) * (width + _GAP), (number // columns) * (height + _GAP)
        number += 1


if __name__ == "__main__":
    main(sys.argv[1:])
