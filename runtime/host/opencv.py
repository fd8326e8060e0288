"""OpenCV, which the base install lacks: cameras, GStreamer pipelines and windows ask for it here."""

from __future__ import annotations

from typing import Any

from ..errors import DoppelganError


def has_opencv() -> bool:
    """True if there is one that loads."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return False
    return True


def load_opencv(what: str, error: type[DoppelganError]) -> Any:
    """The module ``cv2``. Raises ``error``, naming ``what`` needs it and what to install."""
    try:
        import cv2
    except ModuleNotFoundError:
        raise error(f"{what}: expected OpenCV, found none; pip install 'doppelgan[live]'") from None
    except ImportError as reason:  # a library of the system is missing
        remedy = "install what it misses (Debian, for libGL: apt install libgl1)"
        raise error(f"{what}: expected an OpenCV that loads, got: {reason}; {remedy}") from None
    return cv2


def build_says(opencv: Any, feature: str) -> str:
    """What OpenCV's build information says about ``feature`` ("GUI", "GStreamer"); "NO" if nothing."""
    for line in str(opencv.getBuildInformation()).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == feature and value.strip():
            return value.strip()
    return "NO"
