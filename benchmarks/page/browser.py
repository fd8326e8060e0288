"""Chromium with the page, live, and the server that it talks to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from doppelgan.runtime.serve.desk import Desk
from doppelgan.runtime.serve.guard import Door
from doppelgan.runtime.serve.server import listening_socket, serving
from selenium import webdriver

from tests.serve.test_browser import CHROMIUM, DRIVER, FLAGS, write_camera

EDITED = {"edits": {"age": 0.6, "smile": 0.8}}  # on the person's own pixels; without edits nothing is drawn
TOKEN = "a-token-of-this-benchmark"
COLLECT = """
window.ages = [];
doppelgan.live.addEventListener('shown', ({detail}) => {
  if (detail.age !== null) ages.push([performance.now(), detail.age]);
});
doppelgan.live.addEventListener('seen', ({detail}) => ages.push([performance.now(), detail.age]));
"""
MJPEG_ON = """
const { readStrip, clock } = await import('/static/protocol.js');
const image = document.createElement('img');
image.src = '/stream.mjpg?strip=1&quality=85';
const plane = new OffscreenCanvas(640, 1).getContext('2d', { willReadFrequently: true });
document.getElementById('picture').append(image);
doppelgan.live.want({ results: false });
let last = null;
const step = () => {
  if (!image.isConnected) return;
  if (image.naturalHeight > 16) {
    plane.drawImage(image, 0, image.naturalHeight - 8, image.naturalWidth, 1, 0, 0, 640, 1);
    const pixels = plane.getImageData(0, 0, 640, 1).data;
    const number = readStrip(640, (x) => pixels[x * 4 + 1]);
    if (number !== null && number !== last) { last = number; doppelgan.live.seen(number, clock()); }
  }
  requestAnimationFrame(step);
};
step();
window.stopMjpeg = () => { image.src = ''; image.remove(); doppelgan.live.want({ results: true }); };
"""


class Page:
    """Chromium with the page of a server, live."""

    def __init__(self, folder: Path, camera_fps: int = 30) -> None:
        self._folder = folder
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        camera = write_camera(folder / "camera.y4m", 150, camera_fps)
        own = (f"--user-data-dir={folder / 'user'}", f"--use-file-for-fake-video-capture={camera}")
        for flag in (*FLAGS, *own):
            options.add_argument(flag)
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.driver.set_script_timeout(60)

    def open(self, port: int) -> None:
        self.driver.get(f"http://127.0.0.1:{port}/?token={TOKEN}")
        self.wait("return Boolean(window.doppelgan) && document.getElementById('state').textContent !== ''")
        self.run("""
            const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
            navigator.mediaDevices.getUserMedia = async (wish) => (window.stream = await ask(wish));
        """)
        self.driver.find_element("id", "start").click()
        self.wait("return doppelgan.meter.figures().count > 5")
        self.run(COLLECT)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def run_async(self, script: str, *arguments: Any) -> Any:
        """A script with `await`; waits until it is done."""
        wrapped = "const done = arguments[arguments.length - 1];"
        wrapped += "(async () => {%s})().then(done, (error) => done(String(error)))"
        return self.driver.execute_async_script(wrapped % script, *arguments)

    def wait(self, script: str, timeout_s: float = 30) -> float:
        """Seconds until the script says yes."""
        started_s = time.monotonic()
        while time.monotonic() - started_s < timeout_s:
            if self.run(script):
                return time.monotonic() - started_s
            time.sleep(0.02)
        raise SystemExit(f"the page did not get there in {timeout_s:g} s: {script}")

    def use(self, way: str, plain: bool) -> None:
        if way == "mjpeg":
            self.run_async("await doppelgan.live.setWay('jpeg');" + MJPEG_ON)
        else:
            failed = self.run_async("await doppelgan.live.setWay(arguments[0], arguments[1]);", way, plain)
            if failed:
                raise SystemExit(f"{way}: {failed}")

    def processes(self, kind: str = "") -> list[int]:
        """Process ids of this Chromium; kind: "renderer", "gpu-process" ..., those of one kind."""
        own = str(self._folder).encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().replace(b"\0", b" ")  # its children write them with spaces
                if own in words and (not kind or f" --type={kind} ".encode() in words):
                    found.append(int(path.parent.name))
        return found

    def leave(self, way: str) -> None:
        if way == "mjpeg":
            self.run("stopMjpeg()")

    def measure(self, seconds: float) -> list[tuple[float, float]]:
        """(when, age), both in ms, of what is shown from now on."""
        self.run("ages.length = 0")
        time.sleep(seconds)
        return [(when, age) for when, age in self.run("return ages.splice(0)")]

    def fresh_after(self, action: Callable[[], None], timeout_s: float = 30) -> tuple[float, list[float]]:
        """Seconds from an action to the first frame that was captured after it; ages of the next three."""
        action()
        now = self.run("ages.length = 0; return performance.now()")
        seconds = self.wait(f"return ages.some(([when, age]) => when - age > {now})", timeout_s)
        return seconds, [age for _, age in self.measure(3)]


@contextlib.contextmanager
def server(folder: Path, port: int = 0, look: Mapping[str, Any] = EDITED) -> Iterator[tuple[int, Desk]]:
    """A page is served while inside: its port, and the desk behind it."""
    desk = Desk(folder=folder / "data", settings=dict(look))
    listener = listening_socket("127.0.0.1", port)
    port = listener.getsockname()[1]
    with serving(desk, Door(port, TOKEN), listener):
        yield port, desk
