"""Blending weights (paper, section 4.5: Gauss-like post-processing)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["gaussian_weights"]


def gaussian_weights(window: int, sigma: float) -> npt.NDArray[np.float32]:
    """Weights of a window's pixels, highest in the middle.

    ``w = exp(-((i-c)^2 + (j-c)^2) / (2 sigma^2))`` with c the window's centre.

    Parameters
    ----------
    window : int
        Side in pixels.
    sigma : float
        In pixels.

    Returns
    -------
    ndarray of float32, (window, window)
        In (0, 1]; never zero, so that a pixel that only a window's corner
        covers still has a value.
    """
    offset = np.arange(window, dtype=np.float64) - (window - 1) / 2
    axis = np.exp(-(offset**2) / (2 * sigma**2))
    smallest = float(np.finfo(np.float32).tiny)
    weights: npt.NDArray[np.float32] = np.maximum(np.outer(axis, axis), smallest).astype(np.float32)
    return weights
