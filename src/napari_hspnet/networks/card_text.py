"""A model card as Markdown, for those who are handed a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from napari_hspnet.classes import DEMO_BANNER, RESEARCH_USE_ONLY
from napari_hspnet.networks.card import ModelCard
from napari_hspnet.networks.card_values import (
    data_of,
    estimate_of,
    flat,
    one_line,
    said,
    without_data,
)
from napari_hspnet.networks.inventory import Ancestor
from napari_hspnet.networks.shelf import Act

__all__ = ["act_line", "card_text", "what_it_is"]

# Texts of a card come from others: nothing in them may become a table, a link or HTML.
_ESCAPES = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|#~"} | {"<": "&lt;", ">": "&gt;"})
_VERBS = {
    "added": "added",
    "accepted": "accepted",
    "refused": "refused",
    "retired": "put away",
    "restored": "brought back",
    "used": "taken into use",
}


def card_text(
    card: ModelCard,
    sha256: str,
    acts: Sequence[Act] = (),
    ancestors: Sequence[Ancestor] = (),
    file_name: str | None = None,
) -> str:
    """All that is known of a model, in Markdown.

    Parameters
    ----------
    card : ModelCard
        Its card.
    sha256 : str
        Of its file.
    acts : sequence of Act
        What was done with it here.
    ancestors : sequence of Ancestor
        What it comes from, its parent first.
    file_name : str, optional
        Of the checkpoint that the text accompanies.

    Returns
    -------
    str
        Lines of Markdown; "Research use only" stands at its top.
    """
    lines = [f"# Model card: {_safe(card.name)}", ""]
    lines += [f"> **{RESEARCH_USE_ONLY}.** Not a medical device; not for diagnosis.", ""]
    if card.synthetic:
        lines += [
            f"> **{DEMO_BANNER}.** It has seen synthetic slides alone: what it draws on a real "
            "slide means nothing.",
            "",
        ]
    lines += _section("What it is", [what_it_is(card)])
    use = card.intended_use
    if RESEARCH_USE_ONLY.lower() not in use.lower():
        use = f"{RESEARCH_USE_ONLY}. {use}"
    lines += _section("Intended use", [_sentence(use)])
    lines += _section("Limits", [_sentence(card.limitations)])
    lines += _section("Data", _joined([[_sentence(card.trained_on)], _table(data_of(card.recipe))]))
    lines += _section("Recipe", _table(without_data(card.recipe)) or ["Not stated."])
    lines += _section("Figures", _figures(card.metrics) or ["None were stated."])
    lines += _section("What was done with it", _done(acts))
    lines += _section("Where it comes from", _origin(card, ancestors))
    identity = [f"- SHA-256: `{sha256}`"]
    if file_name is not None:
        identity.append(f"- File: `{file_name}`")
    if card.parent is not None:
        identity.append(f"- SHA-256 of its parent: `{_code(card.parent)}`")
    lines += _section("Identity", identity)
    lines += _section("Licence", [_sentence(card.licence)])
    return "\n".join(lines).rstrip() + "\n"


def act_line(act: Act) -> str:
    """An act in words: when, who, what and why."""
    why = f": {one_line(act.note)}" if act.note else ""
    return f"{act.when[:16].replace('T', ' ')} UTC, {one_line(act.by)}: {_VERBS[act.what]}{why}"


def what_it_is(card: ModelCard) -> str:
    """One or two sentences on a network's shape and input."""
    shape = card.architecture
    family = "HSP-Net" if shape.name == "hspnet" else shape.name
    return (
        f"{family} with the encoder {shape.encoder}. It gives each pixel one of "
        f"{', '.join(card.classes)}; its input has {card.mpp:g} µm per pixel, it was trained on "
        f"windows of {card.window} x {card.window} px."
    )


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    """A table of each set of figures, what they are before it."""
    own = {
        key: value
        for key, value in metrics.items()
        if not isinstance(value, Mapping) or estimate_of(value) is not None or key == "dice"
    }
    blocks = [_figure_table(own)]
    for key, value in metrics.items():
        if key not in own and value:
            blocks.append([f"### {_safe(key.replace('_', ' '))}"])
            blocks.append(_figure_table(value))
    return _joined(blocks)


def _figure_table(values: Mapping[str, Any]) -> list[str]:
    words, rows = [], []
    for key, value in flat(values):
        title = _safe(key.replace(".", " · ").replace("_", " "))
        figure, low, high = estimate_of(value) or (value, None, None)
        if figure is None or isinstance(figure, (int, float)):
            interval = (
                "not stated" if low is None or high is None else f"{said(low)} to {said(high)}"
            )
            rows.append((title, said(figure), interval))
        else:
            words.append(f"- {title}: {_safe(said(value))}")
    titles: tuple[str, ...] = ("figure", "value", "interval")
    if all(row[2] == "not stated" for row in rows):
        titles, without = titles[:2], [row[:2] for row in rows]
        return _joined(
            [words, _rows(titles, without), ["No intervals were stated."]] if rows else [words]
        )
    return _joined([words, _rows(titles, rows)])


def _table(values: Mapping[str, Any]) -> list[str]:
    return _rows(("what", "value"), [(f"`{_code(k)}`", _safe(said(v))) for k, v in flat(values)])


def _rows(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def _joined(blocks: Iterable[Sequence[str]]) -> list[str]:
    """Blocks of lines with an empty line between them."""
    lines: list[str] = []
    for block in blocks:
        if block:
            lines += ["", *block] if lines else block
    return lines


def _done(acts: Sequence[Act]) -> list[str]:
    if not acts:
        return ["Nobody has accepted or refused it here."]
    lines = [f"- {_safe(act_line(act))}" for act in acts]
    judged = [act for act in acts if act.figures]
    if judged:
        lines += ["", f"Figures of the decision of {judged[-1].when[:10]}:", ""]
        lines += _figures(judged[-1].figures)
    return lines


def _origin(card: ModelCard, ancestors: Sequence[Ancestor]) -> list[str]:
    if card.parent is None:
        return ["It was not fine-tuned from another model."]
    if not ancestors:
        return [f"Fine-tuned from `{_code(card.parent)}`."]
    lines: list[str] = []
    for one in ancestors:
        name = "not on this machine" if one.record is None else _safe(one.record.name)
        lines.append(f"{len(lines) + 1}. {name}, `{_code(one.sha256)}`")
    return ["Fine-tuned from, the latest first:", "", *lines]


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""]


def _sentence(text: str) -> str:
    text = one_line(text)
    if not text:
        return "Not stated."
    return _safe(text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else "."))


def _safe(text: str) -> str:
    return one_line(text).translate(_ESCAPES)


def _code(text: str) -> str:
    return one_line(text).replace("`", "'").replace("|", "/") or "no name"
