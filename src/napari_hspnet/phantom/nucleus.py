"""What a nucleus is: its place, shape, stain and kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from napari_hspnet.phantom.geometry import Floats

__all__ = [
    "APOPTOTIC",
    "COLUMNAR_CELL",
    "ENDOTHELIUM",
    "LYMPHOCYTE",
    "MITOSIS",
    "PLASMA",
    "SPINDLE",
    "SQUAMOUS",
    "Nuclei",
]

SQUAMOUS, SPINDLE, LYMPHOCYTE, COLUMNAR_CELL, ENDOTHELIUM, PLASMA, MITOSIS, APOPTOTIC = range(8)
"""Values of `Nuclei.kind`. Koilocytes are squamous, with a halo of 6 µm or more."""

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of a canvas, one entry each; all arrays (n,), float64 but where said.

    Attributes
    ----------
    y, x : ndarray
        Centre in µm on the canvas.
    major, minor : ndarray
        Semi-axes in µm.
    phi : ndarray
        Direction of the major axis on the canvas, radians.
    dark : ndarray
        Optical density of haematoxylin.
    lobe : ndarray
        Irregularity of the outline, 0 for an ellipse.
    clear : ndarray
        0 for an even nucleus, 1 for a pale one with a dark membrane; above 0.75
        it has a nucleolus.
    epithelial : ndarray of bool
        Whether it is that of a squamous cell.
    halo : ndarray
        Width in µm of the cleared ring of cytoplasm around it, 0 for none. The
        thin ones (below 4) are drawn with the nucleus, the wide ones of
        koilocytes (6 to 12) belong to the cytoplasm.
    texture : ndarray
        Strength of chromatin clumps, 0 to about 1.
    kind : ndarray of uint8
        What cell it is of: `SQUAMOUS` and so on.
    atypical : ndarray of bool
        Whether it is one of the cells that make the grade.
    """

    y: Floats
    x: Floats
    major: Floats
    minor: Floats
    phi: Floats
    dark: Floats
    lobe: Floats
    clear: Floats
    epithelial: Flags
    halo: Floats
    texture: Floats
    kind: npt.NDArray[np.uint8]
    atypical: Flags

    def select(self, keep: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Nuclei:
        """Those where `keep` is true, or those that it counts up."""
        return Nuclei(**{f.name: getattr(self, f.name)[keep] for f in fields(self)})

    @staticmethod
    def join(parts: Sequence[Nuclei]) -> Nuclei:
        """All of several, in their order; at least one."""
        names = [f.name for f in fields(Nuclei)]
        return Nuclei(**{k: np.concatenate([getattr(p, k) for p in parts]) for k in names})
