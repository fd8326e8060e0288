"""The page in a real Chromium whose camera shows the embedded clip; both share the processors.

Needs Debian's chromium and chromium-driver (``.ci/run`` installs them where it may).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from doppelgan.runtime.serve.desk import Desk
from doppelgan.runtime.serve.guard import Door
from doppelgan.runtime.serve.server import listening_socket, serving
from doppelgan.runtime.types import Image

from ..conftest import ROOT
from .conftest import TOKEN, Served

selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: no real browser")
BINARY = "/usr/lib/chromium/chromium"  # the script in /usr/bin warns about what it reads from /proc
CHROMIUM = BINARY if Path(BINARY).exists() else shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no chromium and chromedriver here: apt-get install chromium-driver",
)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream", "--window-size=1280,807",
)  # fmt: skip
PATIENCE_S = 20  # processors are shared with other tests


def write_camera(path: Path, frames: int = 60) -> Path:
    """The embedded clip as Chromium's fake camera reads it: raw 4:2:0 in a Y4M file, 640x480."""
    with av.open(str(ROOT / "engines" / "demo" / "clip.mp4")) as clip, path.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F30:1 Ip A1:1 C420jpeg\n")
        for index, frame in enumerate(clip.decode(video=0)):
            if index == frames:
                break
            planes = frame.reformat(854, 480, format="yuv420p")
            y, u, v = (np.frombuffer(p, np.uint8).reshape(-1, p.line_size) for p in planes.planes)
            cut = (y[:480, 106:746], u[:240, 53:373], v[:240, 53:373])
            file.write(b"FRAME\n" + b"".join(np.ascontiguousarray(part).tobytes() for part in cut))
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("chromium")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    camera = write_camera(folder / "camera.y4m")
    for flag in (*FLAGS, f"--user-data-dir={folder / 'user'}", f"--use-file-for-fake-video-capture={camera}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER))
    driver.set_script_timeout(PATIENCE_S)
    yield driver
    driver.quit()


def wait(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {timeout_s} s")


@pytest.fixture
def page(plain: Served, browser: Any) -> Any:
    """The page, live."""
    browser.get(f"{plain.url}/?token={TOKEN}")
    wait(lambda: browser.find_element("id", "start").is_displayed(), "the start button")
    browser.find_element("id", "start").click()
    wait(lambda: figures(browser)["count"] > 3, "measured frames")
    yield browser
    messages = [one for one in browser.get_log("browser") if one["level"] == "SEVERE"]
    assert not messages
    browser.get("about:blank")


def figures(browser: Any) -> dict[str, Any]:
    found: dict[str, Any] = browser.execute_script("return doppelgan.meter.figures()")
    return found


def test_it_is_live_and_measures_itself_and_turns_what_is_turned(plain: Served, page: Any) -> None:
    now = figures(page)
    assert 0 < now["median"] < 5000
    wait(lambda: page.find_element("id", "state").text == "live", "the state")
    turn = "const one = document.getElementById('edit-age'); one.value = 0.5;"
    page.execute_script(turn + "one.dispatchEvent(new Event('input'))")
    wait(lambda: plain.desk.controls.edits == {"age": 0.5}, "the slider's value")
    wait(lambda: page.find_element("id", "text").get_attribute("value") == "-e age=0.5", "the text of it")
    page.find_element("id", "undo").click()
    wait(lambda: plain.desk.controls.edits == {}, "undone")
    page.find_element("tag name", "body").send_keys("s")
    wait(lambda: plain.desk.controls.style == "toon", "the next style by its key")
    assert plain.desk.studio.latest is not None
    assert plain.desk.studio.latest.image.shape == (480, 640, 3)


def test_before_tracker_and_snapshot_by_keys(plain: Served, page: Any) -> None:
    body = page.find_element("tag name", "body")
    body.send_keys("b")
    body.send_keys("t")
    wait(
        lambda: page.execute_script(
            "const layer = document.getElementById('layer');"
            "const {data} = layer.getContext('2d').getImageData(0, 0, layer.width, layer.height);"
            "return data.some((value) => value > 0)"
        ),
        "what the tracker sees",
    )
    assert page.find_element("id", "compare").get_attribute("aria-pressed") == "true"
    line = page.find_element("css selector", "#split-view .line")
    assert line.is_displayed()
    before = page.execute_script("return getComputedStyle(document.getElementById('before')).visibility")
    assert before == "visible"
    body.send_keys("b")
    body.send_keys("t")
    assert not line.is_displayed()


@pytest.mark.parametrize("way", ["h264", "jpeg", "webrtc"])
def test_the_other_ways_carry_the_strip_too(plain: Served, page: Any, way: str) -> None:
    if way == "webrtc":
        pytest.importorskip("aiortc", reason="the extra webrtc is not installed")
    page.execute_script("doppelgan.live.setWay(arguments[0])", way)
    title = {"h264": "H.264 / H.264", "jpeg": "JPEG / JPEG", "webrtc": "WebRTC / WebRTC"}[way]
    wait(lambda: page.find_element("id", "way").get_attribute("title") == title, "the other way")
    time.sleep(0.3)
    before = page.execute_script("return performance.now()")
    fresh = "return doppelgan.meter.figures().count && doppelgan.meter.newest() > arguments[0]"
    wait(lambda: page.execute_script(fresh, before + 300), "frames whose number was read back")
    page.execute_script("doppelgan.live.setWay('auto')")


def test_photos_are_edited_beside(plain: Served, page: Any, tmp_path: Path, face: Image) -> None:
    from doppelgan.runtime.pictures import write_image

    write_image(tmp_path / "face.png", face[:240])
    page.find_element("id", "files").send_keys(str(tmp_path / "face.png"))
    shown = "const one = document.getElementById('large-after'); return one.complete && one.naturalWidth"
    assert wait(lambda: page.execute_script(shown), "the edited photo") == 320
    assert len(plain.desk.gallery.list()) == 1
    for picture in plain.desk.gallery.list():
        plain.desk.gallery.delete(picture["id"])


def test_it_fits_a_laptop_and_a_phone_and_asks_no_other_host(plain: Served, page: Any) -> None:
    fits = (
        "const {scrollWidth, scrollHeight} = document.documentElement;"
        "return [scrollWidth <= innerWidth, scrollHeight <= innerHeight]"
    )
    assert page.execute_script(fits) == [True, True], "one screen on a laptop, nothing to scroll"
    loaded = "return performance.getEntriesByType('resource').map((one) => [one.name, one.decodedBodySize])"
    resources = page.execute_script(loaded)
    hosts = {name.split("/")[2] for name, _ in resources if not name.startswith("blob:")}
    assert hosts == {f"127.0.0.1:{plain.port}"}
    assert sum(size for name, size in resources if "/static/" in name) < 150_000
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        assert page.execute_script(fits)[0], "nothing beside a phone's screen"
        assert page.find_element("id", "record").rect["x"] + 30 < 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_is_back_by_itself_after_the_server_was_away(browser: Any, tmp_path: Path) -> None:
    listener = listening_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]

    def serve() -> Any:
        desk = Desk(str(ROOT / "engines" / "demo"), folder=tmp_path, threads=1)
        return serving(desk, Door(port, TOKEN), listener)

    with serve():
        browser.get(f"http://127.0.0.1:{port}/?token={TOKEN}")
        wait(lambda: browser.find_element("id", "start").is_displayed(), "the start button")
        browser.find_element("id", "start").click()
        wait(lambda: figures(browser)["count"] > 3, "measured frames")
    wait(lambda: browser.find_element("id", "state").text == "reconnecting", "it says so")
    listener = listening_socket("127.0.0.1", port)
    before = browser.execute_script("return performance.now()")
    with serve():
        fresh = "return doppelgan.meter.newest() > arguments[0]"
        wait(lambda: browser.execute_script(fresh, before), "frames again")
        browser.get("about:blank")
