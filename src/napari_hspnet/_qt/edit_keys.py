"""Keys that act while one corrects, wherever the focus is; and their entry in napari's list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import QShortcut, QWidget

__all__ = ["CORRECTING", "EVERYWHERE", "EditKeys"]

EVERYWHERE: Mapping[str, tuple[str, str]] = {
    "paint": ("D", "Correct where I look, or leave"),
    "next": (".", "Next region to review"),
    "previous": (",", "Previous region to review"),
    "sign_off": ("S", "Sign the chosen region off"),
    "tag": ("T", "Next tag for the chosen region"),
}
"""Name: (key, what it does); these act as long as the dock is open."""

CORRECTING: Mapping[str, tuple[str, str]] = {
    "grade_0": ("0", "Grade: none of the four"),
    "grade_1": ("1", "Grade: normal"),
    "grade_2": ("2", "Grade: CIN1"),
    "grade_3": ("3", "Grade: CIN2"),
    "grade_4": ("4", "Grade: CIN3"),
    "region": ("R", "Regrade the region under the pointer"),
    "accept": ("A", "Accept what I see"),
    "undo": ("Ctrl+Z", "Undo the last correction"),
    "redo": ("Ctrl+Shift+Z", "Redo it"),
}
"""These act while one corrects, and are napari's again when one leaves."""


class EditKeys:
    """Our keys as shortcuts of the main window, so that they work wherever the focus is.

    A field that one types in keeps its keys. napari's Preferences list them, and
    what the user changes there is followed.

    Parameters
    ----------
    viewer : napari.Viewer
        The window.
    actions : Mapping of str to callable
        What each of `EVERYWHERE` and `CORRECTING` does.
    """

    def __init__(self, viewer: Any, actions: Mapping[str, Callable[[], None]]) -> None:
        self._viewer, self._actions = viewer, dict(actions)
        self._shortcuts: dict[str, QShortcut] = {}
        self._correcting = False

    @property
    def keys(self) -> dict[str, str]:
        """The key of each action, as installed."""
        return {name: made.key().toString() for name, made in self._shortcuts.items()}

    def install(self, main: QWidget) -> None:
        """Begin, once the dock is in its window."""
        if self._shortcuts:
            return
        for name, (key, _) in self._known():
            made = QShortcut(QKeySequence(key), main)
            made.setContext(Qt.ShortcutContext.WindowShortcut)
            made.setAutoRepeat(name in ("undo", "redo"))
            made.activated.connect(self._actions[name])
            self._shortcuts[name] = made
        self._enable()
        self._list()

    def set_correcting(self, on: bool) -> None:
        """Take the keys that act while one corrects, or give them back."""
        self._correcting = on
        self._enable()

    def remove(self) -> None:
        """Give all keys back."""
        if self._shortcuts:
            _manager().events.shortcut_changed.disconnect(self._rebound)
        for made in self._shortcuts.values():
            made.setEnabled(False)
            made.setParent(None)
            made.deleteLater()
        self._shortcuts = {}

    def _known(self) -> list[tuple[str, tuple[str, str]]]:
        both = (*EVERYWHERE.items(), *CORRECTING.items())
        return [item for item in both if item[0] in self._actions]

    def _enable(self) -> None:
        for name, made in self._shortcuts.items():
            # Whoever has bound the key in this viewer keeps it.
            free = name in CORRECTING or _is_free(self._viewer, made.key().toString())
            made.setEnabled(free and (name in EVERYWHERE or self._correcting))

    def _list(self) -> None:
        """Enter the keys in napari's list, where the user can change them."""
        from napari.settings import get_settings
        from napari.utils.key_bindings import KeymapProvider

        provider = type("HspnetKeys", (KeymapProvider,), {})
        manager, chosen = _manager(), get_settings().shortcuts.shortcuts
        for name, (key, words) in self._known():
            action = f"napari-hspnet:{name}"
            manager.register_action(
                action, _command(name, self._actions[name]), f"HSP-Net: {words}", provider
            )
            own = chosen.get(action)
            if own:
                self._shortcuts[name].setKey(QKeySequence(str(own[0])))
            manager.unbind_shortcut(action)
            manager.bind_shortcut(action, str(own[0]) if own else key)
        manager.events.shortcut_changed.connect(self._rebound)

    def _rebound(self, event: Any) -> None:
        package, _, name = str(event.name).partition(":")
        if package == "napari-hspnet" and name in self._shortcuts and event.shortcut:
            self._shortcuts[name].setKey(QKeySequence(str(event.shortcut)))


def _command(name: str, function: Callable[[], None]) -> Callable[[], None]:
    """A function of that name, by which napari knows it."""

    def command() -> None:
        function()

    command.__name__ = f"hspnet_{name}"
    return command


def _manager() -> Any:
    from napari.utils.action_manager import action_manager

    return action_manager


def _is_free(viewer: Any, key: str) -> bool:
    from app_model.types import KeyBinding

    return KeyBinding.from_str(key) not in viewer.keymap
