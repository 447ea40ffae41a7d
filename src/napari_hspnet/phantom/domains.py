"""Domains: laboratories and scanners that slides come from, for shift experiments.

A network is trained on A; B to F are what it may meet elsewhere. A domain
decides colours, sharpness, noise and artefacts; never tissue or truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

from napari_hspnet.errors import InputError
from napari_hspnet.phantom.artefacts import Rates
from napari_hspnet.phantom.scanner import Scanner
from napari_hspnet.phantom.stain import STANDARD_STAIN, StainRange

__all__ = ["DOMAINS", "Domain", "domain"]


@dataclass(frozen=True)
class Domain:
    """A laboratory and its scanner.

    Attributes
    ----------
    name : str
        One letter.
    title : str
        What is other about it than A.
    stain : StainRange
    scanner : Scanner
    rates : Rates
        How often artefacts occur.
    """

    name: str
    title: str
    stain: StainRange
    scanner: Scanner
    rates: Rates


_FEW = Rates()

_ALL = (
    Domain("A", "standard", STANDARD_STAIN, Scanner(), _FEW),
    Domain(
        "B",
        "pale stain, bright scanner",
        StainRange(
            (0.64, 0.68, 0.36),
            (0.12, 0.89, 0.44),
            haematoxylin_strength=0.60,
            eosin_strength=0.55,
            haematoxylin_spread=0.10,
            eosin_spread=0.12,
        ),
        Scanner(blur_um=0.25, noise=1.6, white=(250.0, 249.0, 250.0), quality=80),
        _FEW,
    ),
    Domain(
        "C",
        "blue stain, old scanner: blurred, noisy, strongly compressed, other colours",
        StainRange(
            (0.74, 0.61, 0.28),
            (0.19, 0.87, 0.46),
            haematoxylin_strength=1.25,
            eosin_strength=0.70,
        ),
        Scanner(
            blur_um=0.75,
            noise=4.5,
            matrix=((0.88, 0.10, 0.02), (0.04, 0.91, 0.05), (0.0, 0.08, 0.92)),
            white=(229.0, 232.0, 238.0),
            quality=55,
        ),
        _FEW,
    ),
    Domain(
        "D",
        "faded pink stain",
        StainRange(
            (0.55, 0.74, 0.39),
            (0.06, 0.86, 0.50),
            haematoxylin_strength=0.60,
            eosin_strength=0.85,
        ),
        Scanner(blur_um=0.28, noise=2.0, white=(244.0, 240.0, 235.0)),
        _FEW,
    ),
    Domain(
        "E",
        "dirty: many artefacts",
        STANDARD_STAIN,
        Scanner(blur_um=0.26, noise=2.2, white=(239.0, 238.0, 236.0), quality=80),
        Rates(
            fold=0.55,
            knife=0.45,
            chatter=0.35,
            defocus=0.60,
            dust=4.0,
            fibre=0.25,
            pen=0.014,
            bubble=0.05,
        ),
    ),
    Domain(
        "F",
        "sharpened scanner with halo, high contrast",
        StainRange((0.68, 0.66, 0.31), (0.10, 0.90, 0.42), haematoxylin_strength=1.1),
        Scanner(
            blur_um=0.20,
            noise=2.2,
            sharpen=1.3,
            sharpen_um=0.65,
            gamma=1.22,
            white=(248.0, 248.0, 248.0),
            quality=75,
            subsampling=0,
        ),
        _FEW,
    ),
)

DOMAINS: MappingProxyType[str, Domain] = MappingProxyType({d.name: d for d in _ALL})
"""All domains by name."""


def domain(name: str) -> Domain:
    """The domain of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in DOMAINS:
        names = ", ".join(f"{d.name} ({d.title})" for d in _ALL)
        raise InputError(f"there is no phantom domain {name!r}", advice=f"Give one of {names}")
    return DOMAINS[name]
