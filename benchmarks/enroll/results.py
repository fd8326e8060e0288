"""What was measured so far, a file for each enrollment, so that a run that was cut short goes on."""

from __future__ import annotations

from pathlib import Path

import msgspec
from doppelgan.runtime.host.files import write_whole

PLAIN, ONE, CLIP = "plain", "one picture", "clip"


class Result(msgspec.Struct):
    """One person, through the base (`plain`) or enrolled."""

    name: str
    how: str  # PLAIN, ONE or CLIP
    kind: str  # "clip", "still" or "render"
    psnr_db: float | None = None  # within the face's hull, mean over frames
    ms_ssim: float | None = None
    toon_db: float | None = None  # renders alone have a true toon
    distance: float | None = None  # to the person, median over frames
    following: dict[str, dict[str, float]] = {}  # driver -> motion -> correlation
    edits: dict[str, tuple[float | None, float | None]] = {}  # effect, identity change
    speed: float | None = None  # time of a live frame relative to the base's, both in turns
    wall_s: float | None = None  # of the command
    cpu_s: float | None = None
    peak_gb: float | None = None
    refused: str = ""  # the command's line, where it refused the picture
    done: bool = False


class Results:
    """All results of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, how: str, kind: str) -> Result:
        """As far as it got; an empty one at first."""
        path = self._path(name, how)
        return (
            msgspec.json.decode(path.read_bytes(), type=Result) if path.exists() else Result(name, how, kind)
        )

    def put(self, result: Result) -> None:
        path = self._path(result.name, result.how)
        write_whole(path, msgspec.json.format(msgspec.json.encode(result)))

    def bundle(self, name: str, how: str) -> Path:
        """Where the enrolled bundle lies."""
        return self.folder / f"{name}-{how.split()[0]}"

    def _path(self, name: str, how: str) -> Path:
        return self.folder / f"{name}-{how.split()[0]}.json"
