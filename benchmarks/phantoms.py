"""Large phantoms for the benchmarks, written once and kept in the user's cache."""

from __future__ import annotations

from pathlib import Path


def large_phantom(width: int = 100_000, height: int = 60_000) -> Path:
    """A phantom of that many pixels at 0.25 µm, written on first use (minutes).

    Its name holds the generator's hash, so that no figure is measured on what
    an older generator wrote.
    """
    from platformdirs import user_cache_dir

    from napari_hspnet.phantom import PhantomSpec, generator_hash, write_phantom

    folder = Path(user_cache_dir("napari-hspnet")) / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"phantom-{generator_hash()}-{width}x{height}.tiff"
    if not path.exists():
        write_phantom(path, PhantomSpec(height, width, seed=1))
    return path
