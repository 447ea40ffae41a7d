"""The napari window."""
