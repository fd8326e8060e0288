"""The page in a real Chromium: frames/s and age glass to glass, and how it comes back from trouble.

    python -m benchmarks.page                       every way, in turns, then the troubles
    python -m benchmarks.page --only soak --soak 60      an hour of live run

The browser's camera shows the embedded clip at 640x480; server, browser and camera share this machine's
processors. Ages are measured by the page itself: the number in the strip below every frame is read back from
what is shown, and counts from the moment the browser had the frame to the refresh of the screen after it was
drawn. Compared are the page's own ways with the same page over aiortc as it is, and over MJPEG
(``multipart/x-mixed-replace`` into an <img>).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from doppelgan.runtime.serve.desk import Desk
from doppelgan.runtime.serve.guard import Door
from doppelgan.runtime.serve.server import listening_socket, serving
from selenium import webdriver

from tests.serve.test_browser import CHROMIUM, DRIVER, FLAGS, write_camera

TOKEN = "a-token-of-this-benchmark"
WAYS = {
    "socket, automatic": ("auto", False),
    "socket, H.264": ("h264", False),
    "socket, JPEG": ("jpeg", False),
    "WebRTC": ("webrtc", False),
    "WebRTC, aiortc as it is": ("webrtc", True),
    "MJPEG": ("mjpeg", False),
}
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

    def __init__(self, folder: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        camera = write_camera(folder / "camera.y4m", 150)
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
def server(folder: Path, port: int = 0) -> Iterator[int]:
    """A page is served while inside; its port."""
    desk = Desk(folder=folder / "data")
    listener = listening_socket("127.0.0.1", port)
    port = listener.getsockname()[1]
    with serving(desk, Door(port, TOKEN), listener):
        yield port


class ThinLine:
    """A proxy that lets so many bits a second through in each direction."""

    def __init__(self, target: int, bits_per_s: float) -> None:
        self.bytes_per_s = bits_per_s / 8
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._server: Any = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, limit=4096)
        )
        self.port = self._server.sockets[0].getsockname()[1]
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target, limit=4096)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(4096)
        with contextlib.suppress(OSError):
            while data := await reader.read(1400):
                await asyncio.sleep(len(data) / self.bytes_per_s)
                writer.write(data)
                await writer.drain()
        writer.close()


def rate_of(samples: list[tuple[float, float]], seconds: float) -> float:
    return len(samples) / seconds


def weigh(page: Page) -> None:
    """What the page loads, and when something of it is seen."""
    loaded = page.run("""
        const sizes = performance.getEntriesByType('resource').filter(({name}) => name.includes('/static/'));
        const [paint] = performance.getEntriesByName('first-contentful-paint');
        const [document_] = performance.getEntriesByType('navigation');
        const all = [document_, ...sizes].reduce((sum, one) => sum + one.encodedBodySize, 0);
        return [all, paint?.startTime ?? NaN];
    """)
    print(f"page weight {loaded[0] / 1e3:.0f} kB, first paint {loaded[1]:.0f} ms after it was asked for")


def ways(page: Page, seconds: float, rounds: int) -> None:
    """Every way in turns; medians over all rounds."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, (way, plain) in WAYS.items():
            page.use(way, plain)
            time.sleep(3)
            samples[name] += page.measure(seconds)
            page.leave(way)
    page.use("auto", False)
    print("\n| way | frames/s | age median ms | age p95 ms |\n|---|--:|--:|--:|")
    for name, found in samples.items():
        ages = [age for _, age in found] or [float("nan")]
        rate = rate_of(found, seconds * rounds)
        print(
            f"| {name} | {rate:.1f} | {statistics.median(ages):.0f} | {np.percentile(ages, 95):.0f} |",
            flush=True,
        )


def troubles(page: Page, folder: Path) -> None:
    """How long until a frame that was captured after the trouble is on the screen."""
    print("\n| trouble | back after s | age median ms afterwards |\n|---|--:|--:|")

    def row(name: str, seconds: float, ages: list[float]) -> None:
        print(
            f"| {name} | {seconds:.2f} | {statistics.median(ages) if ages else float('nan'):.0f} |",
            flush=True,
        )

    with contextlib.ExitStack() as first:
        port = first.enter_context(server(folder))
        page.open(port)
        row("none", *page.fresh_after(lambda: None))
        pull = "const [track] = stream.getTracks(); track.stop(); track.dispatchEvent(new Event('ended'))"
        row("camera pulled and back", *page.fresh_after(lambda: page.run(pull)))
        page.driver.switch_to.new_window("tab")
        time.sleep(8)
        page.driver.close()
        back = page.driver.window_handles[0]
        row("tab hidden for 8 s", *page.fresh_after(lambda: page.driver.switch_to.window(back)))
    time.sleep(3)
    with server(folder, port) as port:
        row("server away for 3 s", *page.fresh_after(lambda: None))
        line = ThinLine(port, 1e6)
        page.driver.get("about:blank")
        page.open(line.port)
        for when in ("the first seconds", "after 20 s more"):
            samples = page.measure(8)
            ages = [age for _, age in samples]
            rate = rate_of(samples, 8)
            figures = f"age median {statistics.median(ages):.0f} ms, p95 {np.percentile(ages, 95):.0f} ms"
            print(f"\n1 Mbit/s each way, {when}: {rate:.1f} frames/s, {figures}")
            time.sleep(20 if when.startswith("the") else 0)
        line.bytes_per_s = 1e8
        print(f"the line wide again: {page.fresh_after(lambda: None)[0]:.2f} s to the next frame", flush=True)
        page.driver.get("about:blank")


def rss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def soak(page: Page, folder: Path, minutes: float) -> None:
    """Memory of server and page, and the age, minute by minute."""
    print("\n| minute | server MB | page's heap MB | frames/s | age median ms |\n|--:|--:|--:|--:|--:|")
    with server(folder) as port:
        page.open(port)
        rows = []
        for minute in range(1, max(2, round(minutes)) + 1):
            samples = page.measure(60)
            page.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
            heap = page.run("return performance.memory.usedJSHeapSize") / 2**20
            ages = [age for _, age in samples]
            rows.append((rss_mb(os.getpid()), heap, rate_of(samples, 60), statistics.median(ages)))
            print(f"| {minute} | " + " | ".join(f"{value:.1f}" for value in rows[-1]) + " |", flush=True)
    first, last = rows[1] if len(rows) > 2 else rows[0], rows[-1]
    print(
        f"\nmemory of the server from the second minute to the last: {100 * (last[0] / first[0] - 1):+.1f} %"
    )


def screenshots(page: Page, folder: Path) -> None:
    """docs/page.jpg and docs/page-phone.jpg as this machine shows them now."""
    import io

    from PIL import Image

    def take(name: str) -> None:
        picture = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
        picture.save(Path("docs") / name, quality=88)
        print(f"docs/{name}: {(Path('docs') / name).stat().st_size / 1e3:.0f} kB")

    turn = "await (await import('/static/api.js')).call('PATCH', '/api/state', %s);"
    with server(folder) as port:
        page.open(port)
        page.run_async(turn % '{"edits": {"age": 0.6, "smile": 0.8, "glasses": 0.9}}')
        page.run_async("await (await import('/static/api.js')).call('PUT', '/api/presets/Grandma', {});")
        page.run("document.getElementById('compare').click()")
        time.sleep(20)
        page.run("document.getElementById('camera').options[0].text = 'Camera'")  # not this program's file
        take("page.jpg")
        page.run("document.getElementById('compare').click(); document.getElementById('theme').click()")
        page.run_async(
            turn % '{"style": "toon", "composite": "head", "edits": {"glasses": 0.9, "grey": 0.8}}'
        )
        size = {"width": 390, "height": 844, "deviceScaleFactor": 1.5, "mobile": True}
        page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        time.sleep(15)
        take("page-phone.jpg")
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.driver.get("about:blank")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8, help="of every way in a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=["ways", "troubles", "soak", "screenshots"], help="one part alone")
    parser.add_argument("--soak", type=float, default=0, help="minutes")
    chosen = parser.parse_args()
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page = Page(folder)
        try:
            if chosen.only in (None, "ways"):
                with server(folder) as port:
                    page.open(port)
                    print(f"Chromium {page.driver.capabilities['browserVersion']}, camera 640x480")
                    weigh(page)
                    ways(page, chosen.seconds, chosen.rounds)
                    page.driver.get("about:blank")
            if chosen.only in (None, "troubles"):
                troubles(page, folder)
            if chosen.only == "screenshots":
                screenshots(page, folder)
            if chosen.soak or chosen.only == "soak":
                soak(page, folder, chosen.soak or 5)
        finally:
            page.driver.quit()


if __name__ == "__main__":
    main()
