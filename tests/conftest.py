"""What every test needs: its own user folders, calm threads, no display by accident."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from napari_hspnet.jobs.threads import let_threads_sleep

# Before anything imports Qt: with several bindings installed qtpy takes another.
os.environ.setdefault("QT_API", "pyqt6")


def pytest_configure(config: pytest.Config) -> None:
    let_threads_sleep()
    # Cases, models and samples go under the user's folders: never the real ones.
    folder = Path(tempfile.mkdtemp(prefix="hspnet-tests-"))
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        os.environ[name] = str(folder / name.lower())
    config.add_cleanup(lambda: _remove(folder))


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test inputs beside the checkout; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder shared/data with real slides is not beside this checkout")
    return folder
