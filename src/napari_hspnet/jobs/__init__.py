"""Whole uses of the product, without a window."""
