"""What the commands that need torch have in common."""

from __future__ import annotations

from importlib.util import find_spec

from ..errors import BackendError


def need_tuning(command: str) -> None:
    """Raise BackendError with the line to type where what tuning needs is not installed."""
    missing = [name for name in ("torch",) if find_spec(name) is None]
    if missing:
        raise BackendError(
            f"{command}: expected {', '.join(missing)} to be installed, got no such module; "
            'run `pip install "doppelgan[enroll]"`'
        )
