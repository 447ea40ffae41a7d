"""Sections of a config file: read, checked and written by what their fields say."""

from __future__ import annotations

import difflib
import json
import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, field, fields
from types import UnionType
from typing import Any, ClassVar, Literal, Protocol, TypeVar, get_args, get_origin, get_type_hints

from napari_hspnet.errors import InputError

__all__ = [
    "Section",
    "check_section",
    "read_section",
    "refuse_unknown",
    "setting",
    "toml_value",
    "write_section",
]

_WIDTH = 88
_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")


class Section(Protocol):
    """A frozen dataclass whose fields were made by `setting`."""

    PLACE: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


S = TypeVar("S", bound=Section)


def setting(
    default: Any = MISSING,
    text: str = "",
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    size: int | None = None,
) -> Any:
    """A field of a section.

    Parameters
    ----------
    default : object
        Without one the key must be given.
    text : str
        What it is, as the example says it.
    low, high : float, optional
        Smallest and largest number.
    above : float, optional
        Numbers must be larger than this.
    size : int, optional
        Of a list.
    """
    about = {"text": text, "low": low, "high": high, "above": above, "size": size}
    return field(default=default, metadata=about)


def read_section(
    section: type[S],
    values: object,
    known: Mapping[str, Any] | None = None,
) -> S:
    """A section from a table of a file.

    Parameters
    ----------
    section : type
        Its class.
    values : object
        The table, as TOML gave it.
    known : mapping, optional
        Values that the caller has read himself; they replace the table's.

    Raises
    ------
    InputError
        If it is no table, a key is unknown or lacks, or a value cannot be; it names
        the key, its place and what is allowed.
    """
    place = section.PLACE
    if not isinstance(values, Mapping):
        raise InputError(f"{place or 'the config'} is {values!r}", advice=f"Write it as [{place}]")
    own = {f.name: f for f in fields(section)}
    refuse_unknown(values, own, place)
    lacking = [
        key
        for key, f in own.items()
        if f.default is MISSING and f.default_factory is MISSING and key not in values
    ]
    if lacking:
        raise InputError(
            f"{_named(place, lacking[0])} is missing",
            advice=f"Give {_allowed(section, own[lacking[0]])}",
        )
    hints = get_type_hints(section)
    return section(**{k: _shaped(hints[k], v) for k, v in {**values, **(known or {})}.items()})


def refuse_unknown(values: Mapping[str, Any], known: Mapping[str, Any], place: str) -> None:
    """Refuse a table with a key that nothing reads.

    Raises
    ------
    InputError
        Which names it, what is like it, and what there is.
    """
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise InputError(
                f"{_named(place, key)} is unknown",
                advice=f"{meant}Known there: {', '.join(known)}",
            )


def check_section(section: Section) -> None:
    """Check each value against its field, for ``__post_init__``.

    Raises
    ------
    InputError
        Which names key, place, value and what is allowed.
    """
    hints = get_type_hints(type(section))
    for f in fields(section):
        value = getattr(section, f.name)
        if not _right(hints[f.name], f, value):
            raise InputError(
                f"{_named(section.PLACE, f.name)} is {_shown(value)}",
                advice=f"Give {_allowed(type(section), f)}",
            )


def write_section(section: Section, comments: bool = True, leave: tuple[str, ...] = ()) -> str:
    """A section as TOML, its heading included.

    Parameters
    ----------
    section : Section
    comments : bool
        Whether each key is explained.
    leave : tuple of str
        Keys that the caller writes himself.
    """
    lines = [f"[{section.PLACE}]"] if section.PLACE else []
    for f in fields(section):
        if f.name in leave:
            continue
        if comments:
            lines.extend(_comment(type(section), f))
        lines.append(f"{f.name} = {toml_value(getattr(section, f.name))}")
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """A value as TOML writes it: texts, numbers, truths, lists and tables of them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(k)} = {toml_value(v)}" for k, v in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return f"[{', '.join(map(toml_value, value))}]"


def _key(key: str) -> str:
    return key if key and set(key) <= _BARE else _text(key)


def _text(value: str) -> str:
    # TOML's basic strings are JSON's, but that they know no halves of surrogate pairs
    # and do not allow DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _named(place: str, key: str) -> str:
    return f"[{place}] {key}" if place else key


def _shown(value: Any) -> str:
    try:
        return toml_value(value)
    except (TypeError, ValueError):
        return repr(value)


def _shaped(hint: Any, value: Any) -> Any:
    """TOML's value as the field has it: lists become tuples, whole numbers floats."""
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_shaped(get_args(hint)[0], v) for v in value)
    if hint is float and type(value) is int:
        return float(value)
    return value


def _right(hint: Any, f: Field[Any], value: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if origin is tuple:
        size = f.metadata.get("size")
        inner = get_args(hint)[0]
        return (
            isinstance(value, tuple)
            and (size is None or len(value) == size)
            and all(_right(inner, f, v) for v in value)
        )
    if hint in (int, float):
        kinds = (int,) if hint is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            return False
        low, high, above = (f.metadata.get(k) for k in ("low", "high", "above"))
        return (
            (low is None or value >= low)
            and (high is None or value <= high)
            and (above is None or value > above)
        )
    if origin in (UnionType, Mapping) or hint is Any or not isinstance(hint, type):
        return True
    return isinstance(value, hint)


def _allowed(section: type[Section], f: Field[Any]) -> str:
    """What a field takes, in words."""
    hint = get_type_hints(section)[f.name]
    if get_origin(hint) is tuple:
        size = f.metadata.get("size")
        return f"a list of {size if size else 'any number of'} {_plural(get_args(hint)[0], f)}"
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(_text(v) for v in get_args(hint))
    if hint is bool:
        return "true or false"
    if hint in (int, float):
        return ("a whole number" if hint is int else "a number") + _limits(f)
    return "a text" if hint is str else "a table"


def _plural(hint: Any, f: Field[Any]) -> str:
    if hint in (int, float):
        return ("whole numbers" if hint is int else "numbers") + _limits(f)
    return "texts" if hint is str else "tables"


def _limits(f: Field[Any]) -> str:
    low, high, above = (_number(f.metadata.get(k)) for k in ("low", "high", "above"))
    if above:
        return f" above {above}" + (f", at most {high}" if high else "")
    if low and high:
        return f" from {low} to {high}"
    return f" of {low} or more" if low else ""


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(int(value)) if value == int(value) else repr(value)


def _comment(section: type[Section], f: Field[Any]) -> Iterator[str]:
    text = f"{f.metadata.get('text', '')} ({_allowed(section, f)})"
    for line in textwrap.wrap(text, _WIDTH - 2, break_long_words=False, break_on_hyphens=False):
        yield f"# {line}"
