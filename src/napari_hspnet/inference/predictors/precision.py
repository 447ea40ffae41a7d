"""What the names of precisions mean to PyTorch."""

from __future__ import annotations

import torch

__all__ = ["dtype_of"]

_DTYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


def dtype_of(precision: str) -> torch.dtype:
    """The dtype of a precision of `Settings`."""
    return _DTYPES[precision]
