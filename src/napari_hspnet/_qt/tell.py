"""Saying what went wrong: one sentence where it was caused, and a notification."""

from __future__ import annotations

import logging

from napari_hspnet.errors import HspnetError

__all__ = ["notify", "sentence"]

_LOG = logging.getLogger("napari_hspnet")


def sentence(error: BaseException) -> str:
    """What happened and what to do about it, in one or two sentences."""
    if isinstance(error, HspnetError):
        what = error.what[:1].upper() + error.what[1:]
        advice = error.advice[:1].upper() + error.advice[1:]
        return f"{what}. {advice}."
    return f"Something unforeseen went wrong ({error}). Please report it with the log."


def notify(error: BaseException) -> str:
    """Show the error as a napari notification; returns its sentence."""
    from napari.utils.notifications import show_error

    text = sentence(error)
    if isinstance(error, HspnetError):
        if error.path is not None and str(error.path) not in text:
            text = f"{text} ({error.path.name})"
    else:
        _LOG.error("%s", getattr(error, "details", repr(error)))
    show_error(text)
    return text
