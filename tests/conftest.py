"""Fixtures for all tests."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import once, tiny

ROOT = Path(__file__).resolve().parent.parent

# What a shell starts in the background ignores Ctrl-C, and so would all that the tests start and stop by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Files that take longest, in that order: begun first, so that no process is left alone with one at the end.
LONGEST = (
    *("test_conformance", "test_engines", "test_native_synthesis", "test_browser", "test_graph_recognizers"),
    *("test_native_encoder", "test_convert", "test_hard", "test_road", "test_enroll", "test_cli_files"),
    *(
        "test_tracks",
        "test_demo",
        "test_track",
        "test_native_pair",
        "test_replace_look",
        "test_option_values",
    ),
    *("test_compiled", "test_lean", "test_damaged_videos", "test_cli", "test_native", "test_sink_video"),
)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # processes of pytest-xdist inherit it
        folder = tempfile.mkdtemp(prefix="doppelgan-once-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ[once.FOLDER] = folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish() -> None:
    """What was imported stays: the collector of garbage need not look through it again and again.

    Nor as often: tracing a network for its export makes hundreds of thousands of objects that stay a while.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads what this user's machine compiled, or leaves anything in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOPPELGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a bundle with networks of known answers; see ``tiny.py``. Read-only."""
    return tiny.write_bundle(tmp_path_factory.mktemp("engines") / "tiny")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material beside the checkout; tests that need it say so when it is absent."""
    folder = Path(os.environ.get("DOPPELGAN_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("shared conformance material is not beside this checkout")
    return folder
