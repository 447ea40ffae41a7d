"""Training fields as a slide of a domain shows them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_hspnet.errors import InputError
from napari_hspnet.phantom.artefacts import (
    Artefact,
    apply_all,
    draw_on_glass,
    draw_on_tissue,
    reading,
)
from napari_hspnet.phantom.domains import domain as named
from napari_hspnet.phantom.geometry import STROMA, pixel_centres
from napari_hspnet.phantom.growth import field_band
from napari_hspnet.phantom.scanner import Scanner, encode, expose, margin, transmission
from napari_hspnet.phantom.tissue import Field, Section, check_grades, shrink

__all__ = ["domain_field"]

Image = npt.NDArray[np.uint8]


def domain_field(
    seed: int,
    height: int,
    width: int,
    mpp: float = 1.0,
    grades: Sequence[int] | None = None,
    domain: str = "A",
    artefacts: bool = True,
) -> Field:
    """A synthetic field as `phantom_field`, seen through a domain.

    The domain's stain, artefacts and scanner, and its JPEG: of every second
    field at about 0.5 µm per pixel, of the others at `mpp`, because a slide's
    lower levels are compressed anew.

    Parameters
    ----------
    seed : int
        0 or more; the same seed and sizes give the same field on one platform.
        Tissue and truth do not depend on domain and artefacts.
    height, width : int
        Pixels.
    mpp : float
        µm per pixel. Above 0.5 the field is painted finer and averaged, as a
        scanner's lower levels are.
    grades : sequence of int, optional
        Class values 1..4 in their order along the band; random where None.
    domain : str
        A name in `DOMAINS`.
    artefacts : bool
        Whether there are any, at the domain's rates. Truth keeps its labels
        under them.

    Returns
    -------
    Field

    Raises
    ------
    InputError
        If a size is below 1, `mpp` outside 0.05..8, a grade none of 1..4, or
        there is no such domain.
    """
    if height < 1 or width < 1 or not 0.05 <= mpp <= 8:
        raise InputError(
            f"a phantom field cannot be {height} x {width} px at {mpp} µm/px",
            advice="Give sizes of 1 or more and 0.05 to 8 µm/px",
        )
    check_grades(grades)
    look = named(domain)
    high, wide = math.ceil(height * mpp), math.ceil(width * mpp)
    band = field_band(np.random.default_rng([seed, 1]), high, wide, grades)
    stain = look.stain.draw(np.random.default_rng([seed, 5]))
    section = Section(band, np.random.default_rng([seed, 6]), stain)
    rng = np.random.default_rng([seed, 7])
    fine_jpeg = rng.random() < 0.5
    found: tuple[Artefact, ...] = ()
    if artefacts:
        found = draw_on_tissue(rng, look.rates, high, wide)
        found += draw_on_glass(rng, look.rates, high, wide)
    factor = max(1, round(mpp / 0.5))
    step = mpp / factor
    border = margin(look.scanner, step) + math.ceil(reading(found) / step)
    size = height * factor + 2 * border, width * factor + 2 * border
    light = transmission(section.paint(-border, -border, *size, step))
    light = apply_all(light, found, -border, -border, step)
    fine = expose(light, border, step, look.scanner, seed, 0, 0)
    if fine_jpeg:
        rgb = shrink(_compressed(fine, look.scanner), factor)
    else:
        rgb = _compressed(shrink(fine, factor), look.scanner)
    y, x = pixel_centres(0, height, mpp), pixel_centres(0, width, mpp)
    truth = band.codes(y[:, None], x[None, :])
    truth[truth >= STROMA] = 0
    return Field(rgb, truth)


def _compressed(rgb: Image, scanner: Scanner) -> Image:
    """What is left of a picture after the scanner's JPEG."""
    from PIL import Image as Pillow

    with Pillow.open(io.BytesIO(encode(rgb, scanner))) as image:
        return np.asarray(image.convert("RGB"))
