"""A model handed to others: its checkpoint, and its card as Markdown beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from napari_hspnet.errors import CheckpointError, InputError, OutputError
from napari_hspnet.networks.card_text import card_text
from napari_hspnet.networks.checkpoint import read_card, write_atomically
from napari_hspnet.networks.registry import Registry

__all__ = ["export_model"]

_SUFFIX = ".safetensors"


def export_model(
    registry: Registry,
    sha256: str,
    out: Path | str,
    card_only: bool = False,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a model's file and its card.

    Parameters
    ----------
    registry : Registry
        Where it is.
    sha256 : str
        Of the model.
    out : path
        ``….safetensors``, beside which the card gets the suffix ``.md``; with
        `card_only` the card itself, ``….md``.
    card_only : bool
        The card alone; for a model whose file is lost too.
    overwrite : bool
        Replace files that are there.

    Returns
    -------
    tuple of Path
        What was written: the checkpoint, if it was wanted, and the card.

    Raises
    ------
    InputError
        If there is no such model, or the suffix is another one.
    CheckpointError
        If its file is missing or another one by now.
    OutputError
        If something is there already, or cannot be written.
    """
    out, record = Path(out), registry.get(sha256)
    wanted = ".md" if card_only else _SUFFIX
    if out.suffix != wanted:
        raise InputError(
            f"the name {out.name!r} does not end in {wanted}",
            advice=f"Give one that does, as in {out.stem or 'model'}{wanted}",
        )
    targets = (out,) if card_only else (out, out.with_suffix(".md"))
    for target in targets:
        if target.is_dir() or (target.exists() and not overwrite):
            raise OutputError(
                "there is something of that name already",
                advice="Choose another name, or say that it may be replaced (--overwrite)",
                path=target,
            )
    card = record.card
    if not card_only:
        path = registry.check(sha256)
        card = read_card(path)
        _copy(path, out, sha256)
    if card is None:
        raise CheckpointError(
            "this model has no card that can be read",
            advice="Import its file again: napari-hspnet models import",
            path=record.path,
        )
    ancestors = registry.lineage(sha256)[1:]
    name = None if card_only else out.name
    text = card_text(card, sha256, registry.acts_of(sha256), ancestors, name)
    write_atomically(targets[-1], text.encode())
    return targets


def _copy(path: Path, out: Path, sha256: str) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"the model's file cannot be read ({error.strerror or error})",
            advice="Make it readable, or import it again",
            path=path,
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(
            "the model's file changed while it was read", advice="Try again", path=path
        )
    write_atomically(out, data)
