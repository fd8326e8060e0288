"""Messages of errors."""

from __future__ import annotations

from doppelgan.runtime.errors import LONGEST, BundleError


def test_a_message_is_one_line_of_bearable_length() -> None:
    assert str(BundleError("x: expected a, got b; do c")) == "x: expected a, got b; do c"
    assert str(BundleError("a\nb\r\nc")) == "a b c"
    long = str(BundleError(f"file: expected a name, got {'n' * 5000}; take another file"))
    assert len(long) == LONGEST
    assert long.startswith("file: expected a name, got nnn")
    assert long.endswith("nnn; take another file")
