"""The free parts of a card (recipe, metrics) as rows for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["data_of", "estimate_of", "flat", "mean_dice_of", "one_line", "said", "without_data"]

_ESTIMATE = {"value", "low", "high"}
# What fine-tuning says of both models: the later one is what the card is about.
_AFTER = ("after", "candidate", "value")
# Keys of the demo model's card: the way in which the product predicts, then the plain one.
_WAYS = ("gaussian", "plain")


def flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """All leaves of nested mappings with their dotted names.

    A list is one leaf, and so is a figure with its interval.

    Parameters
    ----------
    values : Mapping
        JSON values.
    before : str
        Name of the mapping itself.
    """
    for key, value in values.items():
        name = f"{before}.{key}" if before else str(key)
        if isinstance(value, Mapping) and value and estimate_of(value) is None:
            yield from flat(value, name)
        else:
            yield name, value


def estimate_of(value: Any) -> tuple[Any, Any, Any] | None:
    """A figure, and the low and high end of its interval, if it is one."""
    if isinstance(value, Mapping) and set(value) == _ESTIMATE:
        return value["value"], value["low"], value["high"]
    return None


def one_line(text: str) -> str:
    """A text that comes from others, without line breaks and what a terminal would obey."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def said(value: Any) -> str:
    """A JSON value for people, on one line."""
    estimate = estimate_of(value)
    if estimate is not None:
        figure, low, high = (said(one) for one in estimate)
        return figure if estimate[1] is None else f"{figure} ({low} to {high})"
    if value is None or value == {}:
        return "not told"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return one_line(value)
    return json.dumps(value, ensure_ascii=False)


def data_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What of a recipe tells of the data."""
    return {key: value for key, value in recipe.items() if _is_data(key)}


def without_data(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of it."""
    return {key: value for key, value in recipe.items() if not _is_data(key)}


def mean_dice_of(metrics: Mapping[str, Any], on: str) -> float | None:
    """The mean Dice that metrics, or the figures of a decision, state.

    Parameters
    ----------
    metrics : Mapping
        JSON values.
    on : str
        "held_back" or "reference": a part of this name with ``mean_dice`` in it. Metrics
        of one set of images that was set aside may state ``mean_dice`` themselves.
    """
    parts = [metrics.get(on)]
    if on == "held_back":
        parts.append(metrics)
        # The finest stride, which is the engine's own, stands last.
        ways = [(str(key), value) for key, value in reversed(list(metrics.items()))]
        parts += [value for way in _WAYS for key, value in ways if key.startswith(way)]
    # The gate's verdict has its figures one step further in.
    parts += [part["changes"] for part in parts if isinstance(part, Mapping) and "changes" in part]
    for part in parts:
        if isinstance(part, Mapping) and "mean_dice" in part:
            figure = _figure(part["mean_dice"])
            if figure is not None:
                return figure
    return None


def _figure(value: Any) -> float | None:
    if isinstance(value, Mapping):
        return next((_figure(value[key]) for key in _AFTER if key in value), None)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)


def _is_data(key: str) -> bool:
    return key in ("data", "splits", "domain") or key.startswith(("data_", "fields", "phantom_"))
