"""A back end with the plain network behind it, should it fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from napari_hspnet.errors import CancelledError, OutOfMemoryError
from napari_hspnet.inference.predictors.base import Predictor, Subject
from napari_hspnet.inference.predictors.eager import Eager

__all__ = ["WithFallback"]


class WithFallback(Predictor):
    """A back end, and `Eager` from the moment at which that fails.

    Both give the same labels, so a run may change over between two batches.

    Parameters
    ----------
    first : Predictor
        What to begin with.
    notes : sequence of str
        For the run's record, from whoever chose it.
    failed : callable, optional
        Called when `first` fails, so that it is not chosen again.
    """

    name = "with-fallback"

    def __init__(
        self,
        first: Predictor,
        notes: Sequence[str] = (),
        failed: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(first.subject)
        self.ahead = first.ahead
        self._now = first
        self._notes = list(notes)
        self._failed = failed

    @classmethod
    def available(cls, subject: Subject) -> str | None:
        """Always."""
        return None

    @property
    def used(self) -> str:
        """The name of the back end that gives the logits now."""
        return self._now.name

    @property
    def notes(self) -> tuple[str, ...]:
        """How it was chosen, what failed, and what the back end itself has to say."""
        return (*self._notes, *self._now.notes)

    def _open(self) -> None:
        try:
            self._now.__enter__()
        except CancelledError:
            raise
        except Exception as error:
            self._change_over(error)

    def _close(self) -> None:
        self._now.__exit__(None, None, None)

    def _run(self, windows: Tensor) -> Tensor:
        try:
            return self._now(windows)
        except (CancelledError, OutOfMemoryError):
            raise
        except Exception as error:
            self._now.__exit__(None, None, None)
            self._change_over(error)
        return self._now(windows)

    def _begin(self, windows: Tensor) -> Callable[[], Tensor]:
        begun = self._now
        try:
            finish = begun.begin(windows)
        except (CancelledError, OutOfMemoryError):
            raise
        except Exception as error:
            begun.__exit__(None, None, None)
            self._change_over(error)
            return self._now.begin(windows)
        kept = windows

        def result() -> Tensor:
            try:
                return finish()
            except (CancelledError, OutOfMemoryError):
                raise
            except Exception as error:
                # Another batch that was begun may have failed before this one.
                if self._now is begun:
                    begun.__exit__(None, None, None)
                    self._change_over(error)
            return self._now(kept)

        return result

    def _change_over(self, error: Exception) -> None:
        """To the plain network; raises what went wrong if it is that already."""
        if isinstance(self._now, Eager):
            raise error
        said = (str(error).strip().splitlines() or [""])[0][:200]
        self._notes.append(
            f"{self._now.name} failed ({type(error).__name__}: {said}), eager took over"
        )
        if self._failed is not None:
            self._failed()
        eager = Eager(self.subject)
        eager.__enter__()
        self._now = eager
