"""The dock's sections for scripts, benchmarks and napari's console."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_hspnet._qt.model_control import ModelControl
from napari_hspnet._qt.segment_control import SegmentControl
from napari_hspnet._qt.segment_view import TARGETS
from napari_hspnet._qt.slides_control import SlidesControl
from napari_hspnet.errors import InputError

if TYPE_CHECKING:
    from napari_hspnet.networks import LoadedModel

__all__ = ["DockControl"]


class DockControl:
    """What a user does with the mouse, as calls; each returns at once."""

    def __init__(
        self, slides: SlidesControl, models: ModelControl, segmenting: SegmentControl
    ) -> None:
        self._slides, self._models, self._segmenting = slides, models, segmenting

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._segmenting.running is not None

    @property
    def model(self) -> LoadedModel | None:
        """The chosen model, once it is loaded."""
        return self._models.loaded

    def open_slide(self, path: Path | str) -> None:
        """Open a slide."""
        self._slides.open_path(Path(path))

    def choose_demo_model(self) -> None:
        """Choose the demo model."""
        from napari_hspnet.networks import demo_model_path

        self._models.load(demo_model_path())

    def choose_model(self, path: Path | str) -> None:
        """Choose the model in a file."""
        self._models.load(Path(path))

    def segment(self, target: str = "view") -> None:
        """Start a run on "view", "shapes" or "slide".

        Raises
        ------
        InputError
            If there is no such target, or nothing can be segmented now.
        """
        if target not in TARGETS:
            raise InputError(
                f"There is nothing called {target!r}", advice=f"Choose among {', '.join(TARGETS)}"
            )
        self._segmenting.choose(target)
        why_not = self._segmenting.why_not()
        if why_not:
            raise InputError(why_not.rstrip("."), advice="Do that, then segment")
        self._segmenting.segment()

    def cancel(self) -> None:
        """Stop the run."""
        self._segmenting.cancel()
