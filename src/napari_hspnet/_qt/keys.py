"""Our keys: given to a viewer while the dock lives, and given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from napari_hspnet._qt.words import OBJECTIVES

__all__ = ["HIDE", "OBJECTIVE_KEYS", "SEGMENT_VIEW", "Keys", "readable"]

HIDE = "H"
SEGMENT_VIEW = "G"
OBJECTIVE_KEYS = {power: f"Control-{n}" for n, power in enumerate(OBJECTIVES, start=1)}
"""Beside napari's Ctrl+0, which fits the view."""


@dataclass(frozen=True)
class _Binding:
    key: str
    function: Callable[..., Any]


class Keys:
    """Binds our keys to one viewer.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    hide : callable (bool) -> None
        Hide the overlay (while the key is held), show it again.
    segment : callable () -> None
        Segment what is on screen.
    zoom : callable (int) -> None
        View as with an objective.
    """

    def __init__(
        self,
        viewer: Any,
        hide: Callable[[bool], None],
        segment: Callable[[], None],
        zoom: Callable[[int], None],
    ) -> None:
        self._viewer = viewer

        def hold(viewer: Any) -> Iterator[None]:
            """Hold to hide the overlay."""
            hide(True)
            yield
            hide(False)

        def segment_view(viewer: Any) -> None:
            """Segment what I see."""
            segment()

        bindings = [_Binding(HIDE, hold), _Binding(SEGMENT_VIEW, segment_view)]
        for power, key in OBJECTIVE_KEYS.items():
            bindings.append(_Binding(key, _zooming(zoom, power)))
        self._bound = []
        for binding in bindings:
            # Whoever has the key in this viewer keeps it.
            if _is_free(viewer, binding.key):
                viewer.bind_key(binding.key, binding.function)
                self._bound.append(binding)

    @property
    def bound(self) -> tuple[str, ...]:
        """The keys that are ours now."""
        return tuple(binding.key for binding in self._bound)

    def give_back(self) -> None:
        """Unbind what was bound."""
        for binding in self._bound:
            self._viewer.bind_key(binding.key, None)
        self._bound = []


def readable(key: str) -> str:
    """ "Control-1" as people know it: "Ctrl+1"."""
    return key.replace("Control", "Ctrl").replace("-", "+")


def _is_free(viewer: Any, key: str) -> bool:
    from app_model.types import KeyBinding

    wanted = KeyBinding.from_str(key.replace("Control", "Ctrl").replace("-", "+"))
    return wanted not in viewer.keymap


def _zooming(zoom: Callable[[int], None], power: int) -> Callable[[Any], None]:
    def zoom_to(viewer: Any) -> None:
        zoom(power)

    zoom_to.__doc__ = f"View as with objective x{power}"
    return zoom_to
