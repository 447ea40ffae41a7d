"""Synthetic cervical slides with known truth."""

from napari_hspnet.phantom.tissue import Field, phantom_field

__all__ = ["Field", "phantom_field"]
