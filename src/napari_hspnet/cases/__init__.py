"""The case folder: one slide's work."""
