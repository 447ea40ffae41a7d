"""Augmentation of patches: the eight orientations, and stain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["orient", "stain_jitter"]

# Ruifrok and Johnston's haematoxylin, eosin and residual in optical density.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
_UNMIX = np.linalg.inv(_STAINS).astype(np.float32)


def orient(
    rgb: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], which: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """One of the eight orientations of a patch: flips and right-angle turns.

    Parameters
    ----------
    rgb : ndarray of uint8, (s, s, 3)
    truth : ndarray of uint8, (s, s)
    which : int
        0 to 7; 0 leaves the patch as it is.

    Returns
    -------
    tuple of ndarray
        Views, not copies.
    """
    turns, mirrored = which % 4, which >= 4
    if mirrored:
        rgb, truth = rgb[:, ::-1], truth[:, ::-1]
    return np.rot90(rgb, turns), np.rot90(truth, turns)


def stain_jitter(
    rgb: npt.NDArray[np.uint8], rng: np.random.Generator, strength: float = 0.08
) -> npt.NDArray[np.uint8]:
    """Change stain strength and hue a little, in optical density.

    Parameters
    ----------
    rgb : ndarray of uint8, (h, w, 3)
    rng : numpy Generator
    strength : float
        Standard deviation of the relative change of each stain; 0 changes nothing.

    Returns
    -------
    ndarray of uint8, (h, w, 3)
        Glass stays nearly as it was: little density is scaled, none is added.
    """
    if strength <= 0:
        return rgb
    factor = np.exp(rng.normal(0, strength, 3)).astype(np.float32)
    # One matrix does it: to stains, each scaled, back to density.
    mix = (_UNMIX * factor) @ _STAINS
    density = np.log(np.float32(256.0) / (rgb.astype(np.float32) + 1.0)) @ mix
    light = 256.0 * np.exp(-density) - 1.0
    return np.asarray(np.clip(light + 0.5, 0, 255), dtype=np.uint8)
