"""Messages of errors."""

from __future__ import annotations

import _thread
import inspect
import threading
import warnings
from types import ModuleType
from typing import Any

import pytest
from doppelgan.runtime.errors import LONGEST, BundleError, warn


def test_a_message_is_one_line_of_bearable_length() -> None:
    assert str(BundleError("x: expected a, got b; do c")) == "x: expected a, got b; do c"
    assert str(BundleError("a\nb\r\nc")) == "a b c"
    long = str(BundleError(f"file: expected a name, got {'n' * 5000}; take another file"))
    assert len(long) == LONGEST
    assert long.startswith("file: expected a name, got nnn")
    assert long.endswith("nnn; take another file")


# Where warnings point

INSIDE = """
from doppelgan.runtime.errors import warn

def deep(levels):
    if levels:
        return deep(levels - 1)
    warn("a remark", UserWarning)

def later(levels):
    yield "begun"
    deep(levels)

def run(done):
    try:
        deep(1)
    finally:
        done.set()
"""


@pytest.fixture
def inside() -> Any:
    """A module of the package whose functions warn, some of them deep inside."""
    module = ModuleType("doppelgan.runtime.made_up")
    exec(compile(INSIDE, "made_up.py", "exec"), vars(module))
    return module


def place_of(caught: pytest.WarningsRecorder) -> tuple[str, int]:
    (one,) = caught
    return one.filename, one.lineno


def line() -> int:
    """Of whoever asks."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


@pytest.mark.parametrize("levels", [0, 1, 12])
def test_a_warning_points_to_the_line_that_called_the_package(inside: Any, levels: int) -> None:
    at = line() + 2
    with pytest.warns(UserWarning, match="a remark") as caught:
        inside.deep(levels)
    assert place_of(caught) == (__file__, at)


def test_it_points_to_who_goes_on_with_an_iterator_not_to_who_made_it(inside: Any) -> None:
    steps = inside.later(3)
    next(steps)
    at = line() + 2
    with pytest.warns(UserWarning, match="a remark") as caught:
        next(steps, None)
    assert place_of(caught) == (__file__, at)


def test_it_points_to_a_caller_whose_name_only_begins_alike(inside: Any) -> None:
    neighbor = ModuleType("doppelganger")
    exec(compile("def call(function):\n    function(2)", "neighbor.py", "exec"), vars(neighbor))
    with pytest.warns(UserWarning, match="a remark") as caught:
        neighbor.call(inside.deep)
    assert place_of(caught) == ("neighbor.py", 2)


def test_one_place_is_told_once_until_it_says_something_else(inside: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            inside.deep(0)
        for number in range(2):
            warn(f"remark {number}", UserWarning)
    assert [str(one.message) for one in caught] == ["a remark", "remark 0", "remark 1"]


def test_where_nobody_called_it_points_to_the_outermost_line(inside: Any) -> None:
    """As on a thread that runs a function of the package's and nothing else."""
    done = threading.Event()

    def run() -> bool:
        _thread.start_new_thread(inside.run, (done,))
        return done.wait(10)

    with pytest.warns(UserWarning, match="a remark") as caught:
        assert run()
    assert place_of(caught) == ("made_up.py", 1 + INSIDE.splitlines().index("        deep(1)"))
