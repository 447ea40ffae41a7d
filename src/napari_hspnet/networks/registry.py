"""The models on this machine: the demo model, and what the user installed."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from napari_hspnet.errors import CheckpointError
from napari_hspnet.networks.checkpoint import load_checkpoint, read_card, write_atomically

__all__ = ["ModelEntry", "demo_model_path", "install_checkpoint", "known_models", "models_folder"]


@dataclass(frozen=True)
class ModelEntry:
    """A line in the list of models.

    Attributes
    ----------
    title : str
        The card's name.
    path : Path
        The file.
    synthetic : bool
        Trained on synthetic slides alone.
    problem : str or None
        Why the file cannot be used, if it cannot.
    """

    title: str
    path: Path
    synthetic: bool
    problem: str | None = None


def demo_model_path() -> Path:
    """The demo model that the package carries.

    Raises
    ------
    CheckpointError
        If this copy of the package has none.
    """
    path = Path(str(resources.files("napari_hspnet") / "data" / "demo.safetensors"))
    if not path.is_file():
        raise CheckpointError(
            "this copy of napari-hspnet has no demo model",
            advice=f"Install it again, or make one: napari-hspnet train-demo --out {path.name}",
            path=path,
        )
    return path


def models_folder() -> Path:
    """The user's folder of models; it need not exist."""
    import platformdirs

    return Path(platformdirs.user_data_dir("napari-hspnet", appauthor=False)) / "models"


def known_models(folder: Path | None = None) -> tuple[ModelEntry, ...]:
    """The demo model, if there is one, and all in the user's folder, by name.

    Parameters
    ----------
    folder : Path, optional
        Instead of `models_folder`.
    """
    paths = sorted((models_folder() if folder is None else folder).glob("*.safetensors"))
    with contextlib.suppress(CheckpointError):
        paths.insert(0, demo_model_path())
    entries = []
    for path in paths:
        try:
            card = read_card(path)
        except CheckpointError as error:
            entries.append(ModelEntry(path.stem, path, False, str(error)))
        else:
            entries.append(ModelEntry(card.name, path, card.synthetic))
    return tuple(entries)


def install_checkpoint(path: Path | str, folder: Path | None = None) -> ModelEntry:
    """Copy a checkpoint into the user's folder of models, once it proved sound.

    Parameters
    ----------
    path : path
        A safetensors file with a card.
    folder : Path, optional
        Instead of `models_folder`.

    Raises
    ------
    CheckpointError
        If it cannot be loaded or has no card.
    OutputError
        If the folder does not take it.
    """
    path = Path(path)
    card = read_card(path)
    sha256 = load_checkpoint(path).sha256
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise CheckpointError(
            "the checkpoint changed while it was read", advice="Try again", path=path
        )
    # The hash keeps two models of one name apart and finds one that is there.
    folder = models_folder() if folder is None else folder
    target = folder / f"{path.stem.removesuffix('-' + sha256[:8])}-{sha256[:8]}.safetensors"
    write_atomically(target, data)
    return ModelEntry(card.name, target, card.synthetic)
