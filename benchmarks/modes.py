"""What a stride, a sigma and a second look cost, and what they are worth.

Every way to put windows together is measured on the same held-out phantom slides
(`judge-phantom`'s test split) against their truth and against the exact way. The
network runs once for each window that any way needs; its scores are kept, and each
way blends them by a slow, plain reference, so that ways differ in nothing but what
they are about. Results are lines of JSON, one a slide: a run that was broken off goes
on where it stopped.

    python benchmarks/modes.py --results FILE [--keep FOLDER] --slides A:24,B:8,C:8
    python benchmarks/modes.py --results FILE --table
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_hspnet.jobs.threads import let_threads_sleep

let_threads_sleep()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from modes_table import read, table  # noqa: E402
from napari_hspnet.inference import Settings, prepare  # noqa: E402
from napari_hspnet.inference.blend import gaussian_weights  # noqa: E402
from napari_hspnet.inference.predictors import predictor_for  # noqa: E402
from napari_hspnet.jobs.phantom_slides import (  # noqa: E402
    JudgedSlide,
    answer_slide,
    slide_spec,
    with_slide,
)
from napari_hspnet.networks import demo_model_path, load_checkpoint  # noqa: E402
from napari_hspnet.phantom.splits import seeds_of  # noqa: E402
from napari_hspnet.slides import Region  # noqa: E402
from napari_hspnet.training import confusion  # noqa: E402

WINDOW = 400
CELL = 4
"""The network's own scores are so many times coarser; it interpolates them."""

SHARE = 0.3
"""Of a window's middle that must be unsure for a second look."""


@dataclass(frozen=True)
class Way:
    """A way to put windows together.

    `sigma` is None for plain stitching. `unsure` is None, or what a pixel's margin
    between the two best classes must be below to ask for the windows of `refined` as
    well; with `by_score` not the margin, but the best class's probability, which runs
    keep.
    """

    stride: int
    sigma: float | None
    unsure: float | None = None
    by_score: bool = False
    refined: int = 100

    @property
    def key(self) -> str:
        if self.sigma is None:
            return "plain"
        base = f"stride {self.stride}, sigma {self.sigma:g}"
        if self.unsure is None:
            return base
        look = (
            f"then {self.refined} where {'score' if self.by_score else 'margin'} < {self.unsure:g}"
        )
        return f"stride {self.stride}, {look}, sigma {self.sigma:g}"

    def settings(self, stride: int) -> Settings:
        if self.sigma is None:
            return Settings(WINDOW, stride=WINDOW, blend="plain")
        return Settings(WINDOW, stride=stride, sigma=self.sigma)


EXACT = Way(100, 50)
NESTED = (
    EXACT,
    Way(100, 100),
    Way(100, 133),
    Way(200, 50),
    Way(200, 100),
    Way(200, 133),
    Way(300, 100),
    Way(300, 133),
    Way(400, None),
    Way(200, 50, 0.5),
    Way(200, 50, 0.25),
    Way(200, 100, 0.5),
    Way(200, 100, 0.25),
    Way(200, 50, 0.75, by_score=True),
    Way(200, 100, 0.75, by_score=True),
)
"""Whose windows are among those of the exact way, where the slide's sides allow it."""

BETWEEN = (Way(133, 67), Way(133, 100), Way(160, 80), Way(160, 100))

Place = tuple[int, int]


@dataclass(frozen=True)
class Seen:
    """What the network says of a slide, with all that blending needs besides.

    Attributes
    ----------
    truth : ndarray of uint8, (h, w)
    needs : dict
        By stride, the places (y, x) of the windows that the engine would run.
    scores : dict
        By place, float16 (5, window / 4, window / 4), the logits before interpolation.
    """

    truth: np.ndarray
    needs: dict[int, list[Place]]
    scores: dict[Place, np.ndarray]

    def save(self, path: Path) -> None:
        places = sorted(self.scores)
        beside = path.with_suffix(".part.npz")
        np.savez(
            beside,
            truth=self.truth,
            places=np.array(places, np.int32),
            scores=np.stack([self.scores[p] for p in places]),
            **{f"needs_{stride}": np.array(at, np.int32) for stride, at in self.needs.items()},
        )
        beside.rename(path)

    @classmethod
    def load(cls, path: Path) -> Seen:
        with np.load(path) as file:
            needs = {
                int(name.removeprefix("needs_")): _places(file[name])
                for name in file.files
                if name.startswith("needs_")
            }
            scores = dict(zip(_places(file["places"]), file["scores"], strict=True))
            return cls(file["truth"], needs, scores)


def _places(array: np.ndarray) -> list[Place]:
    return [(int(y), int(x)) for y, x in array]


def _needed(judged: JudgedSlide, stride: int) -> list[Place]:
    plain = stride == WINDOW
    settings = Settings(WINDOW, stride=stride, blend="plain" if plain else "gaussian")
    plan = prepare(judged.slide, 1.0, Region.slide(), settings)
    return [
        (int(plan.ys[row]), int(band.xs[column]))
        for band in plan.bands
        for row, column in np.argwhere(band.active)
    ]


def _coarse(logits: torch.Tensor) -> torch.Tensor:
    """The scores that bilinear interpolation by `CELL` = 4 made `logits` of.

    Along an axis pixel 4i is 3/8 of cell i - 1 and 5/8 of cell i, pixel 4i + 1 is 1/8
    and 7/8; at the border both are the cell itself.
    """
    rows = (3 * logits[:, 1::CELL] - logits[:, ::CELL]) / 2
    return (3 * rows[:, :, 1::CELL] - rows[:, :, ::CELL]) / 2


def look(judged: JudgedSlide, model, strides: Sequence[int], known: Seen | None) -> Seen:
    """Run the network wherever a stride needs it and nothing is known yet.

    Windows without epithelium are counted, but not run: what is measured is on
    epithelium alone. On three slides where they were run all the same, 2 of 179 second
    looks were at such windows: the cost of these ways is short of so much.
    """
    needs = dict(known.needs) if known else {}
    scores = dict(known.scores) if known else {}
    for stride in strides:
        needs.setdefault(stride, _needed(judged, stride))
    wanted = {
        (y, x)
        for places in needs.values()
        for y, x in places
        if judged.truth[y : y + WINDOW, x : x + WINDOW].any()
    }
    missing = sorted(wanted - set(scores))
    rgb = judged.rgb()
    card = model.card
    with (
        torch.inference_mode(),
        predictor_for(
            "folded-channels-last",
            model.network,
            card,
            torch.device("cpu"),
            window=WINDOW,
            precision="float32",
            cancel=threading.Event(),
        ) as predictor,
    ):
        for y, x in missing:
            pixels = torch.from_numpy(rgb[None, y : y + WINDOW, x : x + WINDOW].copy())
            scores[y, x] = _coarse(predictor(pixels)[0]).half().numpy()
    return Seen(judged.truth, needs, scores)


class Blender:
    """Softmax values of a slide's windows, and what each way makes of them."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._values: dict[Place, torch.Tensor] = {}

    def answer(self, way: Way) -> tuple[np.ndarray, int]:
        """Labels, uint8 (h, w), and how many windows they took."""
        places = self._seen.needs[way.stride]
        total = self._blend([p for p in places if p in self._seen.scores], way.sigma)
        labels, first, second = _best(total)
        if way.unsure is not None:
            lead = first if way.by_score else first - second
            more = self._unsure(lead < way.unsure * total.sum(0), way)
            places = [*places, *more]
            # What a second look adds up to does not depend on the order.
            labels, *_ = _best(total + self._blend(more, way.sigma))
        return labels.numpy(), len(places)

    def _softmax(self, place: Place) -> torch.Tensor:
        if place not in self._values:
            coarse = torch.from_numpy(self._seen.scores[place])[None].float()
            logits = F.interpolate(coarse, (WINDOW, WINDOW), mode="bilinear", align_corners=False)
            self._values[place] = logits[0].softmax(0).half()
        return self._values[place].float()

    def _blend(self, places: Sequence[Place], sigma: float | None) -> torch.Tensor:
        total = torch.zeros((5, *self._seen.truth.shape))
        weights = None if sigma is None else torch.from_numpy(gaussian_weights(WINDOW, sigma))
        for y, x in places:
            target = total[:, y : y + WINDOW, x : x + WINDOW]
            values = self._softmax((y, x))
            if weights is None:
                # A shifted window supplies what those before it left.
                target += values * (target.sum(0) == 0)
            else:
                target.addcmul_(values, weights)
        return total

    def _unsure(self, unsure: torch.Tensor, way: Way) -> list[Place]:
        """The windows in whose middle more than `SHARE` of the pixels are unsure."""
        middle = slice(WINDOW // 4, 3 * WINDOW // 4)
        done = set(self._seen.needs[way.stride])
        return [
            (y, x)
            for y, x in self._seen.needs[way.refined]
            if (y, x) not in done
            and (y, x) in self._seen.scores
            and unsure[y : y + WINDOW, x : x + WINDOW][middle, middle].float().mean() > SHARE
        ]


def _best(total: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best class of each pixel, uint8, 0 where nothing is known; its sum, the next one's."""
    first, second = total[0].clone(), torch.zeros_like(total[0])
    labels = torch.zeros(first.shape, dtype=torch.uint8)
    for value in range(1, len(total)):
        ahead = total[value] > first
        second = torch.where(ahead, first, torch.maximum(second, total[value]))
        first = torch.where(ahead, total[value], first)
        labels[ahead] = value
    return labels, first, second


def judge(seen: Seen, ways: Sequence[Way]) -> dict[str, dict]:
    """By way: windows, counts against truth, counts against the exact way."""
    blender = Blender(seen)
    exact, _ = blender.answer(EXACT)
    there = seen.truth > 0
    found = {}
    for way in ways:
        labels, windows = blender.answer(way)
        found[way.key] = {
            "windows": windows,
            "truth": confusion(seen.truth, labels).tolist(),
            "exact": confusion(exact[there], labels[there]).tolist(),
        }
    return found


def measure(
    jobs: Sequence[tuple[str, int]], ways: Sequence[Way], results: Path, keep: Path | None
) -> None:
    """Judge all slides that `results` does not hold yet."""
    model = load_checkpoint(demo_model_path())
    strides = sorted(
        {s for w in (EXACT, *ways) for s in (w.stride, w.refined if w.unsure else w.stride)}
    )
    for domain, seed in jobs:
        done = read(results).get((domain, seed), {})
        left = [way for way in ways if way.key not in done]
        if not left:
            continue
        begun = time.monotonic()
        path = None if keep is None else keep / f"{domain}-{seed}.npz"
        known = Seen.load(path) if path is not None and path.exists() else None
        if known is None or not set(strides) <= set(known.needs):
            with with_slide(slide_spec(seed, domain)) as judged:
                known = look(judged, model, strides, known)
            if path is not None:
                known.save(path)
        looked = time.monotonic()
        found = judge(known, left)
        line = {"domain": domain, "seed": seed, "ways": found}
        with results.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(
            f"{domain} {seed}: {len(known.scores)} windows, "
            f"{looked - begun:.0f} s looked, {time.monotonic() - looked:.0f} s blended",
            flush=True,
        )


def check(seed: int) -> None:
    """Hold the reference against the engine on one slide, from the drawing on."""
    model = load_checkpoint(demo_model_path())
    for way in (Way(200, 100), Way(400, None)):
        with with_slide(slide_spec(seed)) as judged:
            labels, _ = Blender(look(judged, model, [way.stride], None)).answer(way)
            engine = answer_slide(judged, model, way.settings(way.stride), "cpu")
            differ = float((labels != engine)[judged.truth > 0].mean())
            print(f"{way.key}: {differ:.2e} of epithelium differs from the engine's")


def jobs_of(text: str) -> list[tuple[str, int]]:
    jobs = []
    for part in text.split(","):
        domain, count = part.split(":")
        jobs += [(domain, seed) for seed in seeds_of("test", 0, int(count))]
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("modes.jsonl"))
    parser.add_argument("--keep", type=Path, help="folder for what the network said")
    parser.add_argument("--slides", default="A:24,B:8,C:8", help="DOMAIN:COUNT, comma between")
    parser.add_argument("--between", action="store_true", help="also strides 133 and 160")
    parser.add_argument("--table", action="store_true", help="only print what was found")
    parser.add_argument("--check", action="store_true", help="the reference against the engine")
    options = parser.parse_args()
    torch.set_num_threads(min(2, torch.get_num_threads()))
    if options.check:
        check(seeds_of("test", 0, 1)[0])
    elif not options.table:
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
        ways = (*NESTED, *BETWEEN) if options.between else NESTED
        measure(jobs_of(options.slides), ways, options.results, options.keep)
    if not options.check:
        table(options.results, EXACT.key)


if __name__ == "__main__":
    main()
