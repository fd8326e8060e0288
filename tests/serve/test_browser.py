"""The page in a real Chromium whose camera shows the embedded clip; both share the processors.

Needs Debian's chromium and chromium-driver (``.ci/run`` installs them where it may).
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from doppelgan.runtime.serve import app
from doppelgan.runtime.serve.controls import Changes
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
ARROW_RIGHT, ENTER = "\ue014", "\ue007"  # as WebDriver writes keys
PATIENCE_S = 20  # processors are shared with other tests


def write_camera(path: Path, frames: int = 60, fps: int = 30) -> Path:
    """The embedded clip as Chromium's fake camera reads it: raw 4:2:0 in a Y4M file, 640x480."""
    with av.open(str(ROOT / "engines" / "demo" / "clip.mp4")) as clip, path.open("wb") as file:
        file.write(b"YUV4MPEG2 W640 H480 F%d:1 Ip A1:1 C420jpeg\n" % fps)
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
    start_live(browser, plain.port)
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
    pictures = "return [...document.querySelectorAll('[role=img]')].map((one) => one.ariaLabel)"
    assert all(page.execute_script(pictures)), "words for whatever is drawn"
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


def test_keys_move_a_slider_from_its_middle(plain: Served, page: Any) -> None:
    """The middle holds what is dragged past it; a key's step is smaller than that."""
    slider = page.find_element("id", "edit-age")
    slider.send_keys(ARROW_RIGHT)
    low, high = plain.desk.bundle.directions["age"].range
    wait(lambda: plain.desk.controls.edits == {"age": pytest.approx((high - low) / 200)}, "one step")


def test_enter_saves_a_look_and_says_when_it_replaces_one(plain: Served, page: Any) -> None:
    def open_dialog() -> Any:
        page.find_element("css selector", "#presets button").click()
        name = page.find_element("id", "save-name")
        wait(name.is_displayed, "the dialog")
        return name

    try:
        open_dialog().send_keys("Mine", ENTER)
        wait(lambda: plain.desk.presets.names() == ["Mine"], "the look")
        wait(lambda: page.find_elements("css selector", "#presets .away"), "its tile")
        name = open_dialog()
        name.send_keys("Min")
        button = page.find_element("id", "save-do")
        assert button.text == "Save"
        name.send_keys("e")
        assert button.text == "Replace"
        page.find_element("id", "save-cancel").click()
        assert not name.is_displayed()
    finally:
        plain.desk.delete_preset("Mine")


def test_the_list_of_cameras_names_the_servers_source_while_that_is_shown(plain: Served, page: Any) -> None:
    chosen = "return document.getElementById('camera').selectedOptions[0]?.text"
    own = page.execute_script(chosen)
    plain.desk.use_server_source(str(ROOT / "engines" / "demo" / "clip.mp4"))
    wait(lambda: page.execute_script(chosen) == "Server: clip.mp4", "its name")
    choose = "const list = document.getElementById('camera'); list.selectedIndex = 0;"
    page.execute_script(choose + "list.dispatchEvent(new Event('change'))")
    wait(lambda: plain.desk.source_name == "page", "the page's camera again")
    wait(lambda: page.execute_script(chosen) == own, "its name")


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


def test_the_dial_between_styles_goes_through_the_steps_of_the_bundle(
    plain: Served, page: Any, tmp_path: Path
) -> None:
    """The embedded generators have nothing between them, and the page says why."""
    dial = page.find_element("id", "toward")
    assert dial.get_property("disabled")
    assert "trained apart" in page.find_element("id", "toward-hint").get_property("textContent")
    folder = tmp_path / "kin"
    folder.mkdir()
    for path in (ROOT / "engines" / "demo").iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "manifest.json").unlink()
    manifest = json.loads((ROOT / "engines" / "demo" / "manifest.json").read_text())
    steps = {"toon@32": "synthesis-toon", "toon@64": "synthesis"}
    (folder / "manifest.json").write_text(
        json.dumps(manifest | {"generators": manifest["generators"] | steps})
    )
    before = plain.desk._paths
    plain.desk._paths = before | {"kin": folder}
    try:
        plain.desk.change(Changes(bundle="kin"))
        wait(lambda: not dial.get_property("disabled"), "the dial")
        shown = "return [...document.querySelectorAll('#styles input')].map(({value}) => value)"
        assert page.execute_script(shown) == ["photo", "toon"], "steps are on the dial alone"
        turn = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        said = page.find_element("id", "toward-out")
        steps_said = (("photo", "0 %"), ("toon@64", "33 %"), ("toon@32", "67 %"), ("toon", "100 %"))
        for step, now in enumerate(steps_said):
            page.execute_script(turn, dial, step)
            wait(lambda now=now: (plain.desk.controls.style, said.text) == now, str(now))
        plain.desk.change(Changes(style="toon@32"))
        chosen = "return document.querySelector('#styles input:checked').value"
        wait(lambda: dial.get_property("value") == "2", "the dial follows")
        assert page.execute_script(chosen) == "toon"
        page.find_element("tag name", "body").send_keys("s")
        wait(lambda: plain.desk.controls.style == "photo", "the next style, not the next step")
    finally:
        plain.desk._paths = before
        plain.desk.change(Changes(bundle="demo"))


def test_photos_are_edited_beside(plain: Served, page: Any, tmp_path: Path, face: Image) -> None:
    from doppelgan.runtime.pictures import write_image

    write_image(tmp_path / "face.png", face[:240])
    page.find_element("id", "files").send_keys(str(tmp_path / "face.png"))
    shown = "const one = document.getElementById('large-after'); return one.complete && one.naturalWidth"
    assert wait(lambda: page.execute_script(shown), "the edited photo") == 320
    page.find_element("id", "files").send_keys(str(tmp_path / "face.png"))
    wait(lambda: len(plain.desk.gallery.list()) == 2, "another one")
    thumbs = "return document.querySelectorAll('#thumbs button').length"
    wait(lambda: page.execute_script(thumbs) == 2, "both")
    page.find_element("id", "remove").click()
    wait(lambda: len(plain.desk.gallery.list()) == 1, "one is gone")
    wait(lambda: page.execute_script(thumbs) == 1, "one is gone from the page, too")
    wait(lambda: page.execute_script(shown) and not page.find_element("id", "working").text, "the other")
    assert not page.find_element("id", "toast").is_displayed(), "what is taken away is no fault"
    plain.desk.gallery.delete(plain.desk.gallery.list()[0]["id"])
    page.find_element("id", "sheet").click()  # somebody else took them away: said where people look
    wait(lambda: "expected pictures" in page.find_element("id", "toast").text, "the error, visible")
    page.find_element("id", "remove").click()
    wait(page.find_element("id", "choose").is_displayed, "what there is to do without one")
    page.get_log("browser")  # both refusals


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
        seen = (
            "scrollTo(0, document.documentElement.scrollHeight);"
            "const {top, bottom} = document.getElementById('stage').getBoundingClientRect();"
            "return [top, bottom]"
        )
        top, bottom = page.execute_script(seen)
        assert 0 < top < bottom < 500, "the picture stays above the controls that are turned"
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def start_live(browser: Any, port: int) -> None:
    browser.get(f"http://127.0.0.1:{port}/?token={TOKEN}")
    wait(lambda: browser.find_element("id", "start").is_displayed(), "the start button")
    browser.find_element("id", "start").click()
    wait(lambda: figures(browser)["count"] > 3, "measured frames")


def test_a_browser_without_a_processor_of_tracks_sends_bare_planes_too(plain: Served, browser: Any) -> None:
    """As Firefox is."""
    without = {"source": "delete window.MediaStreamTrackProcessor"}
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", without)
    try:
        start_live(browser, plain.port)
        way = browser.find_element("id", "way")
        wait(lambda: way.get_attribute("title") == "Uncompressed / JPEG", "the way without an encoder")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
        browser.get("about:blank")


def test_an_encoder_that_promises_h264_and_gives_none_is_not_used(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a Firefox whose H.264 is a plugin that is not there."""
    static = Path(shutil.copytree(app.STATIC, tmp_path / "static"))
    silent = "VideoEncoder.prototype.encode = () => {};"
    worker = static / "live-worker.js"
    worker.write_text(worker.read_text() + silent)
    monkeypatch.setattr(app, "STATIC", static)
    listener = listening_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    desk = Desk(str(ROOT / "engines" / "demo"), folder=tmp_path, threads=1)
    with serving(desk, Door(port, TOKEN), listener):
        start_live(browser, port)
        browser.execute_script("doppelgan.live.setWay('h264')")
        way = browser.find_element("id", "way")
        wait(lambda: way.get_attribute("title") == "JPEG / JPEG", "another way")
        before = browser.execute_script("return performance.now()")
        fresh = "return doppelgan.meter.newest() > arguments[0] + 300"
        wait(lambda: browser.execute_script(fresh, before), "frames")
        browser.get("about:blank")


def test_it_is_back_by_itself_after_the_server_was_away(browser: Any, tmp_path: Path) -> None:
    listener = listening_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]

    def serve() -> Any:
        desk = Desk(str(ROOT / "engines" / "demo"), folder=tmp_path, threads=1)
        return serving(desk, Door(port, TOKEN), listener)

    with serve():
        start_live(browser, port)
    wait(lambda: browser.find_element("id", "state").text == "reconnecting", "it says so")
    listener = listening_socket("127.0.0.1", port)
    before = browser.execute_script("return performance.now()")
    with serve():
        fresh = "return doppelgan.meter.newest() > arguments[0]"
        wait(lambda: browser.execute_script(fresh, before), "frames again")
        browser.get("about:blank")
