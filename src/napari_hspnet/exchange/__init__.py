"""Masks and outlines, out to other tools."""
