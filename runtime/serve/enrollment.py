"""Enrollment from the page: ``doppelgan enroll`` as a process beside the server, watched while it works.

The picture goes to the process in a private temporary folder that is removed when the process has ended.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from ..errors import BundleError
from ..types import Image
from .frames import encode_png

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
NEEDS: Final = ("doppelgan.runtime.cli.enroll", "torch", "onnx")  # what enrollment is made of
# A server that a shell started in the background ignores SIGINT; its child must not, it is ended by it.
_LISTENING = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from doppelgan.runtime.cli import main; main()"
)
COMMAND: tuple[str, ...] = (sys.executable, "-c", _LISTENING)
STOP_S: Final = 30.0  # from asking it to keep the best so far to ending it
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Enrollment:
    """At most one at a time."""

    def __init__(self, engines: Path) -> None:
        self.engines = engines  # where bundles are written
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._name = ""
        self._line = ""
        self._failure: str | None = None
        self._done = False

    @property
    def available(self) -> bool:
        """Can this installation enroll at all?"""
        return all(find_spec(name) is not None for name in NEEDS)

    def start(self, image: Image, name: str, base: str, consent: bool, on_done: Any) -> None:
        """Begin; ``on_done(name)`` is called in a thread when the bundle is there. Raises BundleError."""
        if not self.available:
            raise BundleError("enrollment: expected the extra `enroll`; pip install 'doppelgan[enroll]'")
        if not consent:
            raise BundleError("enrollment: expected the consent of the person in the picture; confirm it")
        if not NAME.fullmatch(name):
            raise BundleError(f"avatar {name!r}: expected up to 40 letters, digits, _ and -; rename it")
        target = self.engines / name
        if target.exists():
            raise BundleError(f"avatar {name!r}: there is one of this name already; choose another")
        with self._lock:
            if self._process is not None:
                raise BundleError(f"enrollment: expected none under way, {self._name!r} is; wait or stop it")
            self.engines.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="doppelgan-enroll-"))
            picture = folder / "picture.png"
            picture.write_bytes(encode_png(image))
            command = [*COMMAND, "enroll", str(picture), "-o", str(target)]
            command += ["-b", base, "--consent", "confirmed in the page"]
            self._name, self._line, self._failure, self._done = name, "", None, False
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            arguments = (self._process, folder, target, on_done)
            threading.Thread(target=self._watch, args=arguments, name="doppelgan-enroll", daemon=True).start()

    def stop(self) -> None:
        """Keep the best so far."""
        process = self._process
        if process is not None:
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGINT)

    def close(self) -> None:
        process = self._process
        if process is not None:
            self.stop()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def status(self) -> dict[str, Any]:
        return {
            "available": self.available,
            "running": self._process is not None,
            "done": self._done,
            "name": self._name,
            "line": self._line,
            "failure": self._failure,
            "picture": self._picture_stamp(),
        }

    def picture(self) -> bytes | None:
        """How the avatar looks so far."""
        path = self._picture_path()
        with contextlib.suppress(OSError):
            return None if path is None else path.read_bytes()
        return None

    def _picture_path(self) -> Path | None:
        """The newest sheet that the command left beside its bundle or in it."""
        if not self._name:
            return None
        places = [
            *self.engines.glob(f"{self._name}.enrolling/*.png"),
            *self.engines.glob(f"{self._name}/*.png"),
        ]
        return max(places, key=lambda path: path.stat().st_mtime, default=None)

    def _picture_stamp(self) -> int | None:
        with contextlib.suppress(OSError, ValueError):
            path = self._picture_path()
            return None if path is None else int(path.stat().st_mtime_ns // 1_000_000)
        return None

    def _watch(self, process: subprocess.Popen[str], folder: Path, target: Path, on_done: Any) -> None:
        try:
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    text = _CONTROL.sub("", line.split("\r")[-1]).strip()
                    self._line = text[:300] or self._line
            code = process.wait()
            self._done = (target / "manifest.json").is_file()
            if not self._done:
                self._failure = self._line.removeprefix("doppelgan: error: ") or f"it ended with {code}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self._process = None
        if self._done:
            on_done(target.name)
