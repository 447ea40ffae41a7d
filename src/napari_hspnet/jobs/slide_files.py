"""Which slides a job over many is about: files, folders of them, and lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from napari_hspnet.errors import InputError

__all__ = ["SUFFIXES", "listed_slides", "slides_of"]

SUFFIXES = frozenset(
    (
        *(".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn"),
        *(".bif", ".svslide", ".vms", ".vmu", ".czi", ".dcm"),
    )
)
"""Of the files in a folder that are taken for slides."""


def slides_of(
    paths: Iterable[Path], outputs: Callable[[Path], Iterable[Path]] = lambda slide: ()
) -> tuple[Path, ...]:
    """The slides that some paths name; a folder stands for those that lie in it.

    Parameters
    ----------
    paths : iterable of Path
        Files, taken as they are, and folders.
    outputs : callable (slide) -> paths, optional
        What is written for a slide: masks of an earlier job are no slides.

    Raises
    ------
    InputError
        If there are none in a folder, or it cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        try:
            files = sorted(p for p in path.iterdir() if p.is_file())
        except OSError as error:
            raise InputError(
                f"The folder cannot be read ({error.strerror or error})",
                advice="Name another folder, or slides",
                path=path,
            ) from error
        likely = [p for p in files if p.suffix.lower() in SUFFIXES and p.name[0] != "."]
        written = {file.absolute() for slide in likely for file in outputs(slide)}
        slides = [p for p in likely if p.absolute() not in written]
        if not slides:
            raise InputError(
                "There is no slide in this folder",
                advice="Name slides, or a folder that holds some",
                path=path,
            )
        found += slides
    return tuple(found)


def listed_slides(path: Path) -> Sequence[Path]:
    """The slides that a text file names, one a line, relative to its folder.

    Empty lines, and those that begin with #, are left out.

    Raises
    ------
    InputError
        If it cannot be read, or names none.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(
            f"The list of slides cannot be read ({why or error})",
            advice="Name a text file with a path on each line",
            path=path,
        ) from error
    named = [line.strip() for line in lines]
    slides = [path.parent / line for line in named if line and not line.startswith("#")]
    if not slides:
        raise InputError("The list names no slide", advice="Write a path on each line", path=path)
    return slides
