"""Whether a back end gives what the plain network gives."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["as_near", "same_labels"]

# How much further from float32 than the plain network in 16 bits another may be.
# Rounding is a matter of luck, so that as good a back end is sometimes further.
_SLACK = 1.5


def same_labels(expected: Tensor, found: Tensor) -> bool:
    """Whether labels differ only where the two best classes nearly tie."""
    if found.shape != expected.shape or not bool(torch.isfinite(found).all()):
        return False
    best = expected.topk(2, dim=1).values
    near = best[:, 0] - best[:, 1] <= 1e-4 * expected.abs().amax().clamp_min(1.0)
    return bool(((expected.argmax(1) == found.argmax(1)) | near).all())


def as_near(exact: Tensor, plain: Tensor, found: Tensor) -> bool:
    """Whether logits, and labels, are about as near to `exact` as those of `plain`."""
    if found.shape != exact.shape or not bool(torch.isfinite(found).all()):
        return False

    def far(logits: Tensor) -> tuple[float, float]:
        error = (logits - exact).double().square().mean().sqrt().item()
        return error, (logits.argmax(1) != exact.argmax(1)).double().mean().item()

    (error, wrong), (its_error, its_wrong) = far(plain), far(found)
    # Below this float32 itself is not the same from one back end to another.
    least = 1e-4 * max(1.0, exact.abs().amax().item())
    return its_error <= max(_SLACK * error, least) and its_wrong <= _SLACK * wrong + 1e-3
