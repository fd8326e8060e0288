"""A server with the embedded bundle, and pages that are no browsers."""

from __future__ import annotations

import itertools
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from doppelgan.runtime.bundle import open_bundle
from doppelgan.runtime.serve.desk import Desk
from doppelgan.runtime.serve.frames import encode_jpeg
from doppelgan.runtime.serve.guard import Door
from doppelgan.runtime.serve.server import listening_socket, serving
from doppelgan.runtime.types import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from ..conftest import ROOT

TOKEN = "a-token-that-nobody-guesses"
STRIP = 16
FIRST_NUMBERS = itertools.count(1000, 1000)  # no two pages send frames of one number
HEAD = struct.Struct("<BBHIdHHHH")


class Served:
    """A running server and ways to talk to it."""

    def __init__(self, desk: Desk, door: Door) -> None:
        self.desk, self.door, self.port = desk, door, door.port
        self.url = f"http://127.0.0.1:{door.port}"
        self.api = httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=20)

    def page(self, **headers: str) -> Page:
        """A live socket; by default one that may come in."""
        return Page(self.port, {"authorization": f"Bearer {TOKEN}", **headers})


class Page:
    """The other end of the live socket, by hand."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self._opening = connect(
            f"ws://127.0.0.1:{port}/live",
            additional_headers=headers,
            compression=None,
            max_size=None,
            open_timeout=10,
        )
        self.socket: ClientConnection = self._opening.__enter__()
        self.number = next(FIRST_NUMBERS)
        self.has_shown = False
        self.got = 0  # number of the last result
        self.texts: list[dict[str, Any]] = []

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._opening.__exit__(None, None, None)

    def shown(self, **fields: Any) -> None:
        """Acknowledge the last result."""
        self.say(type="ack", number=self.got, **fields)

    def say(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def send(self, payload: bytes, size: tuple[int, int], codec: int = 0, **fields: Any) -> int:
        """A frame; size: width, height with its strip."""
        self.number += 1
        self.has_shown = True
        head = {"kind": 1, "flags": 0, "time": 1000.0 + 33 * self.number, "strip": STRIP, **fields}
        packed = HEAD.pack(
            head["kind"], codec, head["flags"], self.number, head["time"], *size, head["strip"], 0
        )
        self.socket.send(packed + payload)
        return self.number

    def show(self, image: Image, **fields: Any) -> int:
        """A frame as JPEG, its strip below it."""
        return self.send(encode_jpeg(image, 95), (image.shape[1], image.shape[0]), **fields)

    def hear(self, kind: str, timeout_s: float = 10) -> dict[str, Any]:
        """The next text of a kind; results on the way are acknowledged and passed over."""
        end_s = time.monotonic() + timeout_s
        while True:
            message = self.socket.recv(max(end_s - time.monotonic(), 0))
            if isinstance(message, bytes):
                self.got = HEAD.unpack_from(message)[3]
                self.shown()
            else:
                text: dict[str, Any] = json.loads(message)
                self.texts.append(text)
                if text["type"] == kind:
                    return text

    def result(self, timeout_s: float = 10, *, live: bool = True) -> dict[str, Any]:
        """The result of the frame that was shown last, its parts by name; of a page that shows none: any.

        What comes before is acknowledged and passed over. live=False: also "no signal" cards.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            message = self.socket.recv(max(end_s - time.monotonic(), 0))
            if isinstance(message, str):
                self.texts.append(json.loads(message))
                continue
            _, codec, flags, number, time_ms, width, height, strip, length = HEAD.unpack_from(message)
            self.got = number
            at = HEAD.size + length
            meta = json.loads(message[HEAD.size : at])
            parts = []
            for size in meta["parts"]:
                parts.append(message[at : at + size])
                at += size
            assert at == len(message)
            if live and (meta["state"] == "lost" or (self.has_shown and number != self.number)):
                self.shown()
                continue
            names = dict(zip(("picture", "before", "mesh"), parts, strict=True))
            return {
                "codec": codec, "flags": flags, "number": number, "time": time_ms, "size": (width, height),
                "strip": strip, **meta, **names,
            }  # fmt: skip

    def is_closed(self, timeout_s: float = 5) -> bool:
        """The server has hung up, or does so in time."""
        end_s = time.monotonic() + timeout_s
        try:
            while True:
                self.socket.recv(max(end_s - time.monotonic(), 0))
        except ConnectionClosed:
            return True
        except TimeoutError:
            return False


@pytest.fixture(scope="package")
def face() -> Image:
    """240x320 BGR, a person who does not exist, painted by the embedded generator; below it a strip."""
    from PIL import Image as pillow

    with open_bundle(ROOT / "engines" / "demo") as bundle:
        picture = bundle.synthesize(bundle.latent_avg[None])[0]
    pixels = np.clip(picture[::-1].transpose(1, 2, 0) * 127.5 + 127.5, 0, 255).astype(np.uint8)
    canvas = np.full((240 + STRIP, 320, 3), 120, np.uint8)
    canvas[30:210, 70:250] = np.asarray(pillow.fromarray(pixels).resize((180, 180)))
    canvas[240:] = np.repeat(np.arange(20) % 2 * 255, 16).astype(np.uint8)[None, :, None]
    return canvas


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests; they leave the controls as they were."""
    desk = Desk(str(ROOT / "engines" / "demo"), folder=tmp_path_factory.mktemp("data"), threads=1)
    listener = listening_socket("127.0.0.1", 0)
    door = Door(listener.getsockname()[1], TOKEN, password="correct horse")
    with serving(desk, door, listener):
        served = Served(desk, door)
        with served.api:
            yield served


@pytest.fixture
def plain(served: Served) -> Iterator[Served]:
    """The server with its controls as they were at the beginning, before and after."""
    before = served.desk.controls
    yield served
    served.api.patch(
        "/api/state",
        json={
            "edits": dict.fromkeys(served.desk.controls.edits),
            "style": before.style,
            "composite": before.composite,
            "truncation": before.truncation,
            "blend": before.blend,
            "max_faces": before.max_faces,
        },
    ).raise_for_status()


@pytest.fixture
def data(served: Served) -> Path:
    """Where the server keeps presets and recordings."""
    return served.desk.recorder.folder.parent
