"""A virtual camera that video calls can pick, through pyvirtualcam."""

from __future__ import annotations

import sys
from typing import Any

from ..errors import SinkError
from ..types import Frame
from .base import Sink


class VirtualCameraSink(Sink):
    """``camera:`` takes the first virtual camera, ``camera:/dev/video4`` a certain one."""

    def __init__(self, device: str = "", *, rate: float = 30.0) -> None:
        super().__init__()
        self.name = f"camera:{device}"
        self._device = device or None
        self._rate = rate
        self._camera: Any = None
        try:
            import pyvirtualcam
        except ImportError as error:
            raise SinkError(
                f"{self.name}: expected the package pyvirtualcam, found none; pip install 'doppelgan[live]'"
            ) from error
        self._library = pyvirtualcam

    def _write(self, frame: Frame) -> None:
        height, width = frame.image.shape[:2]
        if self._camera is None:
            try:
                self._camera = self._library.Camera(
                    width, height, self._rate, fmt=self._library.PixelFormat.BGR, device=self._device
                )
            except (RuntimeError, ValueError) as error:
                remedy = (
                    "run: sudo modprobe v4l2loopback exclusive_caps=1 card_label=doppelgan"
                    if sys.platform == "linux"
                    else "install OBS and start its virtual camera once"
                )
                raise SinkError(f"{self.name}: no virtual camera: {error}; {remedy}") from error
        if (width, height) != (self._camera.width, self._camera.height):
            size = f"{self._camera.width}x{self._camera.height}"
            raise SinkError(
                f"{self.name}: expected {size} as before, got {width}x{height}; a camera has one size"
            )
        self._camera.send(frame.image)

    def _finish(self) -> None:
        if self._camera is not None:
            self._camera.close()
