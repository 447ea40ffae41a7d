"""What the window remembers from one day to the next: a small file of the user's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["Memory"]


class Memory:
    """Values by name, in the user's configuration folder.

    A file that is missing, damaged or cannot be written is no error: the window
    then begins as new.
    """

    def __init__(self) -> None:
        import platformdirs

        folder = Path(platformdirs.user_config_dir("napari-hspnet", appauthor=False))
        self._path = folder / "window.json"
        try:
            said = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            said = {}
        self._said: dict[str, Any] = said if isinstance(said, dict) else {}

    def get(self, name: str, otherwise: Any) -> Any:
        """What was remembered, if it is of the same type as `otherwise`."""
        value = self._said.get(name, otherwise)
        return value if isinstance(value, type(otherwise)) else otherwise

    def keep(self, name: str, value: Any) -> None:
        """Remember a plain JSON value."""
        if self._said.get(name) == value:
            return
        self._said[name] = value
        beside = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_text(json.dumps(self._said, ensure_ascii=False), encoding="utf-8")
            beside.replace(self._path)
        except OSError:
            beside.unlink(missing_ok=True)
