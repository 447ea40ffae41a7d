"""Named ways to run: what each costs, and what it was worth on slides with known truth.

A mode is a stride and a blending weight in parts of the window, so that it means the
same with any model. The figures are of `benchmarks/modes.py`; they are of one model on
synthetic slides, and no promise for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

from napari_hspnet.errors import InputError
from napari_hspnet.inference.settings import Settings

__all__ = [
    "DEFAULT_MODE",
    "MEASURED_ON",
    "MODES",
    "Figure",
    "Measured",
    "Mode",
    "mode",
    "mode_of",
    "mode_settings",
]

DEFAULT_MODE = "exact"

MEASURED_ON = (
    "24 synthetic test slides of phantom version 1 (13e78e1fbd98), domain A, with the demo "
    "model 00a76e21e81d; intervals by drawing slides again"
)
"""What all figures here were measured on."""


@dataclass(frozen=True)
class Figure:
    """A measured figure with its 95 % interval (bootstrap over whole slides).

    Attributes
    ----------
    value, low, high : float
        Of all slides; ends of the interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """What a mode came to on `MEASURED_ON`.

    Attributes
    ----------
    windows : float
        How many windows it ran, as a share of those of "exact".
    dice : Figure
        Mean Dice over the four grades, pooled over slides.
    gain : Figure
        Mean Dice less that of "exact" on the same slides.
    as_exact : Figure
        Share of epithelium that has the grade that "exact" gives it.
    high_as_exact : Figure
        Share of epithelium on the side of CIN2 on which "exact" puts it.
    high_as_truth : Figure
        Share of epithelium on the side of CIN2 on which it is.
    """

    windows: float
    dice: Figure
    gain: Figure
    as_exact: Figure
    high_as_exact: Figure
    high_as_truth: Figure


@dataclass(frozen=True)
class Mode:
    """A named way to run a model over a slide.

    Attributes
    ----------
    name, title : str
        For records and options; for people.
    stride : Fraction
        Distance between windows, in windows; 1 lays them side by side.
    sigma : Fraction or None
        Of the Gaussian weights, in windows; None does not blend.
    preview : bool
        Whether it is worse than "exact" and shows where to look, no more: a run of
        it must say so wherever it is shown or handed on.
    measured : Measured
        What it was worth.
    """

    name: str
    title: str
    stride: Fraction
    sigma: Fraction | None
    preview: bool
    measured: Measured

    @property
    def cost(self) -> float:
        """Windows on a large slide, as a share of those of "exact"."""
        return float((MODES[DEFAULT_MODE].stride / self.stride) ** 2)

    @property
    def note(self) -> str | None:
        """What a run's record and every export of it must say; None if nothing."""
        return "preview: rougher than an exact run, not for grading" if self.preview else None

    def settings(self, window: int = 400) -> Settings:
        """Settings of the mode.

        Parameters
        ----------
        window : int
            Side of the model's windows in label pixels.

        Raises
        ------
        InputError
            If no run can have this window.
        """
        stride = max(1, round(self.stride * window))
        if self.sigma is None:
            return Settings(window, stride=stride, blend="plain")
        return Settings(window, stride=stride, sigma=float(self.sigma * window))

    def sentence(self) -> str:
        """Cost and worth in a sentence for people, without what it was measured on."""
        said = f"{100 * self.cost:.0f} % of the windows"
        if self.name == DEFAULT_MODE:
            return f"{said}; mean Dice {self.measured.dice.value:.3f}"
        gain, high = self.measured.gain, self.measured.high_as_exact
        return (
            f"{said}; mean Dice {self.measured.dice.value:.3f} "
            f"({gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] to exact); "
            f"CIN2+ as exact on {100 * high.value:.1f} % of epithelium"
        )


_SURE = Figure(1.0, 1.0, 1.0)

_ALL = (
    Mode(
        "exact",
        "Exact",
        Fraction(1, 4),
        Fraction(1, 8),
        False,
        Measured(
            1.0,
            Figure(0.838, 0.807, 0.868),
            Figure(0.0, 0.0, 0.0),
            _SURE,
            _SURE,
            Figure(0.9363, 0.9214, 0.9498),
        ),
    ),
    Mode(
        "balanced",
        "Balanced",
        Fraction(1, 2),
        Fraction(1, 4),
        False,
        Measured(
            0.27,
            Figure(0.836, 0.800, 0.869),
            Figure(-0.0018, -0.0103, 0.0059),
            Figure(0.9482, 0.9379, 0.9578),
            Figure(0.9813, 0.9768, 0.9854),
            Figure(0.9358, 0.9210, 0.9493),
        ),
    ),
    Mode(
        "preview",
        "Preview",
        Fraction(3, 4),
        Fraction(1, 4),
        True,
        Measured(
            0.14,
            Figure(0.819, 0.783, 0.851),
            Figure(-0.0192, -0.0387, -0.0010),
            Figure(0.8955, 0.8781, 0.9126),
            Figure(0.9589, 0.9499, 0.9675),
            Figure(0.9238, 0.9061, 0.9401),
        ),
    ),
)

MODES: Mapping[str, Mode] = MappingProxyType({one.name: one for one in _ALL})
"""All modes by name, the most careful first."""


def mode(name: str) -> Mode:
    """The mode of a name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in MODES:
        raise InputError(
            f"There is no mode called {name!r}", advice=f"Choose one of {', '.join(MODES)}"
        )
    return MODES[name]


def mode_settings(name: str, window: int = 400) -> Settings:
    """Settings of the mode of a name; see `Mode.settings`.

    Raises
    ------
    InputError
        If there is no such mode, or no run can have this window.
    """
    return mode(name).settings(window)


def mode_of(settings: Settings) -> Mode | None:
    """The mode whose windows and weights settings have; None if they are of no mode.

    Tissue mask, unreadable tiles and precision are not the mode's business.
    """
    for one in MODES.values():
        own = one.settings(settings.window)
        same = (own.blend, own.effective_stride) == (settings.blend, settings.effective_stride)
        blended = own.blend == "plain" or own.effective_sigma == settings.effective_sigma
        if same and blended:
            return one
    return None
